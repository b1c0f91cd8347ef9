"""Bit lines: what the line that gathers a column does to its sum before the converter sees it.

Sums are counted in cells at full conductance and full input. A record says how the line bends the sum (`transfer`) and
what noise it adds (`noise_variance`); a macro without one has a line that adds perfectly.
"""

from typing import ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.constants import BOLTZMANN
from pim.devices.record import leaf, record


@runtime_checkable
class BitLine(Protocol):
    """The line of one technology."""

    bends: ClassVar[bool]
    """Whether the sum on the line is another than that of its cells."""
    needs_magnitude: ClassVar[bool]
    """Whether the bend depends on what either sign adds, not on their difference alone."""
    needs_lines: ClassVar[bool]
    """Whether it bends each line of a pair on its own, before their difference is taken; sums are then a line's."""

    def transfer(self, sums: Float[Array, "*n"], magnitude: Float[Array, "*n"] | None) -> Float[Array, "*n"]:
        """The sum as the line holds it.

        Args:
            sums: sum of all products of input and weight.
            magnitude: sum of their magnitudes, where `needs_magnitude`.
        """
        ...

    def noise_variance(self, rows: int, temperature) -> Float[Array, ""] | None:
        """Variance that the line adds at each read (cells^2), with `rows` cells on it, at `temperature` (K)."""
        ...


@record
class ChargeSharing:
    """Charge redistribution: every cell has a capacitor, all of which are joined to one floating line.

    The line's own capacitance, line_share * rows * C + line_capacitance, divides the voltage, which the converter's
    range takes up, and its sampled thermal noise kT / C_total counts, in cells, as

        sigma^2 = k T (rows C + C_line) / (C V)^2.

    256 rows at 28 nm, a quarter of the products one: 41.4, 44.5 and 49.5 dB at 0.5, 1 and 3.2 fF. Capacitance of the
    line: the code of CACTUS (arXiv 2507.09776).
    """

    bends: ClassVar[bool] = False
    needs_magnitude: ClassVar[bool] = False
    needs_lines: ClassVar[bool] = False

    capacitance: Float[Array, ""] = leaf("F", "capacitor of one cell", low=1e-18, high=1e-12)
    voltage: Float[Array, ""] = leaf("V", "to which the capacitor of a full product is charged", low=1e-3, high=5)
    line_share: Float[Array, ""] = leaf("1", "capacitance of the line for each cell, over the cell's own", low=0)
    line_capacitance: Float[Array, ""] = leaf("F", "capacitance of the line besides", low=0, default=0.0)

    def transfer(self, sums: Float[Array, "*n"], magnitude=None) -> Float[Array, "*n"]:
        """The sum itself: charge adds exactly."""
        return sums

    def noise_variance(self, rows: int, temperature) -> Float[Array, ""]:
        """k T (rows C + C_line) / (C V)^2."""
        total = rows * self.capacitance * (1.0 + self.line_share) + self.line_capacitance
        return (BOLTZMANN * temperature) * (total / self.capacitance) / (self.capacitance * self.voltage**2)


@record
class Discharge:
    """Current domain: cells discharge a precharged line, and the less is left on it the less current they draw.

    With a cell's output conductance the drop of n cells is V_s (1 - exp(-n cell_drop / V_s)), which never exceeds the
    headroom. Products of either sign discharge a line of their own (bit line and its complement); the difference of the
    two lines is converted.
    """

    bends: ClassVar[bool] = True
    needs_magnitude: ClassVar[bool] = True
    needs_lines: ClassVar[bool] = False

    cell_drop: Float[Array, ""] = leaf("V", "by which one full cell discharges a full line", low=1e-6, high=5)
    v_saturation: Float[Array, ""] = leaf("V", "V_s, output resistance of a cell times its current", low=1e-2)
    headroom: Float[Array, ""] = leaf("V", "largest drop at which cells still draw their current", low=1e-3, high=5)

    def transfer(self, sums: Float[Array, "*n"], magnitude: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The drop of the line of positive products less that of the negative ones."""
        return self._held(0.5 * (magnitude + sums)) - self._held(0.5 * (magnitude - sums))

    def _held(self, cells: Float[Array, "*n"]) -> Float[Array, "*n"]:
        drop = -self.v_saturation * jnp.expm1(-cells * self.cell_drop / self.v_saturation)
        return jnp.minimum(drop, self.headroom) / self.cell_drop

    def noise_variance(self, rows: int, temperature) -> None:
        """None."""
        return None


@record
class Saturation:
    """The line, or the stage behind it, takes no more than a largest sum of either sign."""

    bends: ClassVar[bool] = True
    needs_magnitude: ClassVar[bool] = False
    needs_lines: ClassVar[bool] = False

    limit: Float[Array, ""] = leaf("1", "largest sum, in cells at full conductance and full input", low=1e-3)

    def transfer(self, sums: Float[Array, "*n"], magnitude=None) -> Float[Array, "*n"]:
        """The sum, cut off."""
        return jnp.clip(sums, -self.limit, self.limit)

    def noise_variance(self, rows: int, temperature) -> None:
        """None."""
        return None


@record
class LineClip:
    """Each line carries no more than a largest current of either sign: two lines of a pair are cut off one by one.

    The difference of a pair is taken behind that, in front of the converter or behind it. CrossSim's Icol_max.
    """

    bends: ClassVar[bool] = True
    needs_magnitude: ClassVar[bool] = False
    needs_lines: ClassVar[bool] = True

    limit: Float[Array, ""] = leaf("1", "largest current of a line, over that of a cell at g_max and v_read", low=1e-3)

    def transfer(self, sums: Float[Array, "*n"], magnitude=None) -> Float[Array, "*n"]:
        """The current of a line, in those of a full cell, cut off."""
        return jnp.clip(sums, -self.limit, self.limit)

    def noise_variance(self, rows: int, temperature) -> None:
        """None."""
        return None
