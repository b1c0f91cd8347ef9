"""Stored bits that fail at a low supply: a table of bit error rate against voltage, as measured on an SRAM."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Key

from pim.devices.errors import DeviceError
from pim.devices.random import fine_uniform
from pim.devices.record import leaf, record


@record
class BitErrorTable:
    """The share of cells that do not keep their bit, at each of some supplies.

    Between two supplies the logarithm of the rate is a straight line; outside the table nothing is known. A cell fails
    below a supply of its own, and at every lower one: one uniform number a cell, fixed by the chip, decides. A cell
    that fails returns the other bit, always.

    >>> pim.replace(pim.preset("sram-digital28"), {"bit_errors": BitErrorTable([0.5, 0.9], [1e-2, 1e-9]), "vdd": 0.6})
    """

    voltages: Float[Array, "points"] = leaf("V", "supplies, ascending", low=0, high=5)
    rates: Float[Array, "points"] = leaf(
        "1", "bit error rate at each, not growing with the supply", low=1e-30, high=0.5
    )

    def prepare(self) -> "BitErrorTable":
        """The same table in arrays, where it was given in lists."""
        return replace(self, **{name: jnp.asarray(getattr(self, name), jnp.float32) for name in ("voltages", "rates")})

    def rate(self, vdd: Float[Array, ""]) -> Float[Array, ""]:
        """The bit error rate at a supply (V); NaN outside the table."""
        logarithm = jnp.interp(vdd, self.voltages, jnp.log(self.rates), left=jnp.nan, right=jnp.nan)
        return jnp.exp(logarithm)

    def failing(self, key: Key[Array, ""], shape: tuple[int, ...], vdd: Float[Array, ""]) -> Bool[Array, "..."]:
        """Which cells fail at a supply; the same key gives cells that fail at every lower one too.

        Rates below 2^-32 are zero here.
        """
        return fine_uniform(key, shape) < self.rate(vdd)

    def check(self, vdd) -> None:
        """Raise DeviceError for a table that is none, or for a supply (V) that it does not reach."""
        if any(isinstance(value, Tracer) for value in (self.voltages, self.rates, vdd)):
            return
        voltages, rates = np.asarray(self.voltages, np.float64), np.asarray(self.rates, np.float64)
        if voltages.ndim != 1 or voltages.shape != rates.shape or len(voltages) < 2:
            raise DeviceError(
                f"bit_errors has {voltages.shape} voltages and {rates.shape} rates; give two or more of each, in lists "
                "of the same length"
            )
        if (np.diff(voltages) <= 0).any() or (np.diff(rates) > 0).any():
            raise DeviceError("bit_errors must be sorted by voltage, ascending, and its rates must not grow with it")
        if not voltages[0] - 1e-6 <= float(vdd) <= voltages[-1] + 1e-6:
            raise DeviceError(
                f"vdd = {float(vdd):g} V lies outside the table of bit errors, {voltages[0]:g} to {voltages[-1]:g} V: "
                "choose another vdd, extend the table, or set bit_errors to none"
            )
