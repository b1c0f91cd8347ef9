"""Softmax, normalisation and activations: so many additions, products and table look-ups, at any node."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.reach import Reach
from pim.devices.record import leaf, record
from pim.devices.technology import area_ratio, delay_ratio, energy_ratio


class Operations(NamedTuple):
    """What a function takes."""

    adds: Any
    """Additions, subtractions and comparisons."""
    products: Any
    lookups: Any
    """Reads of a table's entry and slope."""


def softmax(values) -> Operations:
    """Over `values` scores: their maximum, its difference to each, exp by table and line, the sum, its reciprocal
    (a look-up and two Newton steps), and a product each."""
    line = Operations(values, values, values)
    return Operations(
        adds=(values - 1) + values + line.adds + (values - 1) + 2,
        products=line.products + 4 + values,
        lookups=line.lookups + 1,
    )


def norm(values, centred: bool = False) -> Operations:
    """RMS norm of `values` numbers: squares, their mean, 1/sqrt (a look-up and two Newton steps), scale and gain.

    A layer norm (`centred`) takes mean and differences as well, and adds a bias.
    """
    adds, products = (values - 1) + 3, 3 * values + 7
    if centred:
        adds, products = adds + (values - 1) + 2 * values, products + 1
    return Operations(adds=adds, products=products, lookups=1 + 0 * values)


def activation(values, gated: bool = False) -> Operations:
    """A function by table and line of each of `values` numbers; a gated one (SiLU times up) has two more products."""
    return Operations(adds=values, products=values + (2 * values if gated else 0 * values), lookups=values)


WORK: dict[str, Callable[[Any], Operations]] = {
    "norm": norm,
    "softmax": softmax,
    "activation": lambda values: activation(values, gated=True),
    "residual": lambda values: Operations(values, 0 * values, 0 * values),
    "rope": lambda values: Operations(values, 2 * values, 0 * values),
}
"""What so many values of a transformer's vector work take, by its kind; a rotated value has two products and a sum."""


@record
class SpecialFunctions:
    """A unit that does additions, products and look-ups, whose figures are given at one node and supply.

        E = (adds add_energy + products multiply_energy + lookups lookup_energy) s(node, vdd)

    with the scaling of logic by Stillmaker and Baas (`pim.devices.technology`; low power at 45 and 32 nm, high
    performance below, as hwcomponents has it).
    """

    LIMITS: ClassVar[Reach] = {"node": (7e-9, 180e-9), "rated_node": (7e-9, 180e-9)}

    node: Float[Array, ""] = leaf("m", "technology node", low=1e-9, high=1e-6)
    vdd: Float[Array, ""] = leaf("V", "supply", low=0.1, high=5)
    rated_node: Float[Array, ""] = leaf("m", "node for which the figures are given", low=1e-9, high=1e-6)
    rated_vdd: Float[Array, ""] = leaf("V", "supply for which the figures are given", low=0.1, high=5)
    add_energy: Float[Array, ""] = leaf("J", "energy of an addition or comparison", low=0)
    multiply_energy: Float[Array, ""] = leaf("J", "energy of a product", low=0)
    lookup_energy: Float[Array, ""] = leaf("J", "energy of reading a table's entry and slope", low=0)
    rated_area: Float[Array, ""] = leaf("m^2", "area of one lane: adder, multiplier and table", low=0)
    rated_rate: Float[Array, ""] = leaf("1/s", "operations a second of a lane", low=1)
    rated_leakage: Float[Array, ""] = leaf("W", "static power of a lane", low=0)
    lanes: Float[Array, ""] = leaf("1", "lanes side by side", low=1)

    def _energy_scale(self) -> Float[Array, "..."]:
        return energy_ratio(self.rated_node, self.rated_vdd, self.node, self.vdd, "LP-HP")

    def energy(self, work: Operations) -> Float[Array, "..."]:
        """Energy (J) of so many operations.

        >>> float(unit.energy(softmax(2048)))
        """
        at_rated = (
            work.adds * self.add_energy + work.products * self.multiply_energy + work.lookups * self.lookup_energy
        )
        return at_rated * self._energy_scale()

    def latency(self, work: Operations) -> Float[Array, "..."]:
        """Time (s) of them, one after another in each lane."""
        operations = work.adds + work.products + work.lookups
        slower = delay_ratio(self.rated_node, self.rated_vdd, self.node, self.vdd, "LP-HP")
        return jnp.ceil(operations / self.lanes) / self.rated_rate * slower

    def area(self) -> Float[Array, "..."]:
        """Area (m^2) of all lanes."""
        return self.lanes * self.rated_area * area_ratio(self.rated_node, self.node)

    def leakage(self) -> Float[Array, "..."]:
        """Static power (W) of all lanes: as the rated one goes with area."""
        return self.lanes * self.rated_leakage * area_ratio(self.rated_node, self.node)
