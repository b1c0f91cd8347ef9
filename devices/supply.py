"""What the supply does to circuits whose energies and delays are given at one supply.

Where a law counts capacitances, C V^2 says what another supply costs; this is for figures given in joules and seconds.
"""

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from pim.devices.errors import DeviceError
from pim.devices.record import leaf, record


@runtime_checkable
class Supply(Protocol):
    """Energy and delay against the supply, over those at the supply for which figures are given (`nominal`, in V)."""

    nominal: Float[Array, ""] | None

    def energy(self, vdd) -> Float[Array, ""]:
        """Factor of an energy at `vdd` (V)."""
        ...

    def delay(self, vdd) -> Float[Array, ""]:
        """Factor of a delay at `vdd` (V)."""
        ...

    def check(self, vdd) -> None:
        """Raise DeviceError for a supply outside the range of the law."""
        ...


@record
class SupplyPolynomial:
    """Energy and delay of logic as polynomials of the supply, by technology node.

        energy = e_2 V^2 + e_1 V + e_0        delay = d_3 V^3 + d_2 V^2 + d_1 V + d_0

    Only ratios count: each is taken over its value at `nominal`.

    Source: A. Stillmaker and B. Baas, Integration 58, 74-81 (2017); the coefficients of its nodes are in
    `pim.devices.technology`.
    """

    nominal: Float[Array, ""] = leaf("V", "supply for which energies and delays are given", low=0.1, high=5)
    energy_coefficients: Float[Array, "3"] = leaf("1", "e_0, e_1, e_2, for V in volts")
    delay_coefficients: Float[Array, "4"] = leaf("1", "d_0, d_1, d_2, d_3, for V in volts")
    lowest: Float[Array, ""] = leaf("V", "lowest supply of the fit", low=0)
    highest: Float[Array, ""] = leaf("V", "highest supply of the fit", low=0)

    def energy(self, vdd) -> Float[Array, ""]:
        """Ratio of the energy polynomials."""
        return _polynomial(self.energy_coefficients, vdd) / _polynomial(self.energy_coefficients, self.nominal)

    def delay(self, vdd) -> Float[Array, ""]:
        """Ratio of the delay polynomials."""
        return _polynomial(self.delay_coefficients, vdd) / _polynomial(self.delay_coefficients, self.nominal)

    def check(self, vdd) -> None:
        """Raise DeviceError outside the range of the fit."""
        _check_range(vdd, self.lowest, self.highest, "the polynomials are fitted")


@record
class SupplyTable:
    """Measured energy and delay at some supplies, interpolated in between: energy as a power of V, delay likewise.

    Energies of chips can be steeper than V^2: Colonnade (Kim et al., JSSC 2021) takes four times as much at 0.8 V as at
    0.6 V, where squares give 1.8.
    """

    vdd: Float[Array, "points"] = leaf("V", "supplies, rising", low=0.1, high=5)
    energies: Float[Array, "points"] = leaf("1", "energy at each, over that for which figures are given", low=1e-6)
    delays: Float[Array, "points"] = leaf("1", "delay at each, over that for which figures are given", low=1e-6)
    nominal: Float[Array, ""] | None = leaf(
        "V",
        "supply for which figures are given, where both factors are 1; absent: not needed for figures in joules",
        low=0.1,
        high=5,
        default=None,
    )

    def energy(self, vdd) -> Float[Array, ""]:
        """Factor of the energy."""
        return _between(vdd, self.vdd, self.energies)

    def delay(self, vdd) -> Float[Array, ""]:
        """Factor of the delay."""
        return _between(vdd, self.vdd, self.delays)

    def check(self, vdd) -> None:
        """Raise DeviceError outside the table."""
        _check_range(vdd, self.vdd[0], self.vdd[-1], "the supply's table was measured")


@record
class AlphaPower:
    """Squares for the energy, and for the delay the current of a short transistor.

        energy = (V / V_n)^2        delay ~ V / (V - V_t)^alpha

    Source: T. Sakurai and A. R. Newton, IEEE JSSC 25, 584-594 (1990): alpha is 2 for long channels, 1.3 for short.
    """

    nominal: Float[Array, ""] = leaf("V", "supply for which energies and delays are given, V_n", low=0.1, high=5)
    threshold: Float[Array, ""] = leaf("V", "threshold voltage V_t", low=0, high=2)
    alpha: Float[Array, ""] = leaf("1", "exponent of the overdrive", low=1, high=2)
    lowest: Float[Array, ""] = leaf("V", "lowest supply for which the law is taken, above the threshold", low=0)
    highest: Float[Array, ""] = leaf("V", "highest supply for which the law is taken", low=0)

    def energy(self, vdd) -> Float[Array, ""]:
        """(V / V_n)^2."""
        return (vdd / self.nominal) ** 2

    def delay(self, vdd) -> Float[Array, ""]:
        """Ratio of the delays."""
        return self._time(vdd) / self._time(self.nominal)

    def _time(self, vdd) -> Float[Array, ""]:
        return vdd / (vdd - self.threshold) ** self.alpha

    def check(self, vdd) -> None:
        """Raise DeviceError outside of the range, or for a threshold that leaves no overdrive at its low end."""
        _check_overdrive(self.threshold, self.lowest, self.nominal)
        _check_range(vdd, self.lowest, self.highest, "the law of the supply is taken")


def _polynomial(coefficients: Float[Array, "n"], vdd) -> Float[Array, ""]:
    """Lowest power first."""
    return jnp.polyval(coefficients[::-1], vdd)


def _between(vdd, at: Float[Array, "points"], values: Float[Array, "points"]) -> Float[Array, ""]:
    """Piecewise power law: linear in the logarithms."""
    return jnp.exp(jnp.interp(jnp.log(vdd), jnp.log(at), jnp.log(values)))


def _check_range(vdd, low, high, what: str) -> None:
    if any(isinstance(value, Tracer) for value in (vdd, low, high)):  # what is traced has no value yet
        return
    low, high, vdd = float(low), float(high), float(vdd)
    if not low * (1 - 1e-6) <= vdd <= high * (1 + 1e-6):
        raise DeviceError(f"vdd = {vdd:g} V, but {what} from {low:g} to {high:g} V: choose one in that range")


def _check_overdrive(threshold, lowest, nominal) -> None:
    if any(isinstance(value, Tracer) for value in (threshold, lowest, nominal)):  # what is traced has no value yet
        return
    threshold, lowest, nominal = float(threshold), float(lowest), float(nominal)
    if threshold >= min(lowest, nominal):
        raise DeviceError(
            f"supply.threshold = {threshold:g} V is not below supply.lowest = {lowest:g} V and supply.nominal = "
            f"{nominal:g} V, so that the law has no delay there: lower it, or raise them"
        )
