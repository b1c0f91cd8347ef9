"""Digital parts built of gates by the count: adder tree, shift-and-add, registers."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.gates import Gates
from pim.devices.record import leaf, part, record
from pim.devices.technology import area_ratio, delay_ratio, energy_ratio


def _toggle() -> Any:
    return leaf("1", "share of cycles in which a bit changes", low=0, high=1, default=0.5)


def tree_adders(inputs, bits) -> Float[Array, "..."]:
    """Full adders of a tree over `inputs` numbers of `bits` bits, each level one bit wider: n(p+1) - (p + log2 n + 1).

    Exact for powers of two: level k, from 0, has n / 2^(k+1) adders of p + k bits. (ZigZag-IMC counts more, p(n-1) + n
    (log2 n - 0.5).)
    """
    return inputs * (bits + 1) - (bits + jnp.log2(inputs) + 1)


def gates_at(gates: Gates, rated_node, rated_vdd, node, vdd, kind: str = "LP-HP") -> Gates:
    """The gates of one node (m) and supply (V) at another, scaled as logic (`pim.devices.technology`).

    Raises DeviceError for a node or a supply out of range.

    >>> gates_at(pim.component("gates-28nm").model, 28e-9, 0.9, 22e-9, 0.8)
    """
    energy = energy_ratio(rated_node, rated_vdd, node, vdd, kind)
    area = area_ratio(rated_node, node)
    return replace(
        gates,
        capacitance=gates.capacitance * energy * (rated_vdd / vdd) ** 2,
        area=gates.area * area,
        delay=gates.delay * delay_ratio(rated_node, rated_vdd, node, vdd, kind),
    )


@record
class AdderTree:
    """A tree of ripple-carry adders over `inputs` numbers of `bits` bits."""

    gates: Gates = part("the process")
    inputs: Float[Array, ""] = leaf("1", "numbers that are added", low=2)
    bits: Float[Array, ""] = leaf("1", "bits of each", low=1, high=64)
    toggle: Float[Array, ""] = _toggle()

    def energy(self, vdd) -> Float[Array, "..."]:
        """Energy (J) of one sum."""
        return self.toggle * tree_adders(self.inputs, self.bits) * self.gates.adder_capacitance() * vdd**2

    def latency(self) -> Float[Array, "..."]:
        """Time (s) of one sum: carries ripple once, through the widest adder."""
        depth = jnp.log2(self.inputs)
        return (depth - 1) * self.gates.to_sum() + self.gates.to_carry() + (self.bits + depth - 2) * self.gates.ripple()

    def area(self) -> Float[Array, "..."]:
        """Area (m^2)."""
        return tree_adders(self.inputs, self.bits) * self.gates.adder_area()


@record
class ShiftAdd:
    """An adder of `bits` bits with the register that it adds to; the shift is wires."""

    gates: Gates = part("the process")
    bits: Float[Array, ""] = leaf("1", "bits of the sum", low=1, high=64)
    toggle: Float[Array, ""] = _toggle()

    def energy(self, vdd) -> Float[Array, "..."]:
        """Energy (J) of adding one number."""
        bit = self.gates.adder_capacitance() + self.gates.register_capacitance()
        return self.toggle * self.bits * bit * vdd**2

    def latency(self) -> Float[Array, "..."]:
        """Time (s) of it: the carry ripples."""
        return self.gates.to_carry() + (self.bits - 1) * self.gates.ripple()

    def area(self) -> Float[Array, "..."]:
        """Area (m^2)."""
        return self.bits * (self.gates.adder_area() + self.gates.register_area())


@record
class Registers:
    """So many flip-flops."""

    gates: Gates = part("the process")
    bits: Float[Array, ""] = leaf("1", "flip-flops", low=1)
    toggle: Float[Array, ""] = _toggle()

    def energy(self, vdd) -> Float[Array, "..."]:
        """Energy (J) of loading all of them once."""
        return self.toggle * self.bits * self.gates.register_capacitance() * vdd**2

    def area(self) -> Float[Array, "..."]:
        """Area (m^2)."""
        return self.bits * self.gates.register_area()

    def leakage(self) -> Float[Array, "..."]:
        """Static power (W)."""
        return self.area() * self.gates.leakage_density
