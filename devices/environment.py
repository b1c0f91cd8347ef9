"""Environment: what temperature and supply do to the circuits around the cells.

What a cell does at another temperature is a law of the cell (`cells/temperature.py`); this is gain and offset of the
output converters, the reference currents that are subtracted from columns, and leakage. The supply is the macro's
`vdd`. Named corners of temperature, supply and process are in `corner.py`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.record import leaf, record

ROOM = 300.0
"""K: taken where no temperature is given."""


def _per(of: str, unit: str):
    return leaf(unit, of, default=0.0)


@record
class Environment:
    """Temperature, and how far gain, offset, references and leakage move with it and with the supply.

    Deviations add up: a gain is off by per_kelvin (T - T_nominal) + per_volt (vdd - vdd_nominal). They are the same in
    all converters of a chip, and calibration of the ranges, done at the nominal point, does not take them out.
    """

    nominal_temperature: Float[Array, ""] = leaf("K", "at which nothing deviates", low=1)
    nominal_vdd: Float[Array, ""] = leaf("V", "supply at which nothing deviates", low=0.1, high=5)
    temperature: Float[Array, ""] | None = leaf(
        "K", "of circuits and cells; absent: nominal, and cells as they were measured", low=1, default=None
    )
    adc_gain_per_kelvin: Float[Array, ""] = _per("relative change of the output converters' gain", "1/K")
    adc_gain_per_volt: Float[Array, ""] = _per("relative change of the output converters' gain", "1/V")
    adc_offset_per_kelvin: Float[Array, ""] = _per("change of the output converters' offset, in LSB", "1/K")
    adc_offset_per_volt: Float[Array, ""] = _per("change of the output converters' offset, in LSB", "1/V")
    reference_per_kelvin: Float[Array, ""] = _per("relative change of the reference currents", "1/K")
    reference_per_volt: Float[Array, ""] = _per("relative change of the reference currents", "1/V")
    leakage_doubling: Float[Array, ""] | None = leaf(
        "K", "temperature difference that doubles the leakage; absent: it does not change", low=1, default=None
    )
    leakage_per_volt: Float[Array, ""] = _per("change of ln(leakage power) with the supply", "1/V")

    def _away(self, vdd) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """How far temperature (K) and supply (V) are from nominal."""
        kelvin = jnp.zeros(()) if self.temperature is None else self.temperature - self.nominal_temperature
        return kelvin, vdd - self.nominal_vdd

    def seen_by_adc(self, sums: Float[Array, "*n"], step: Float[Array, "*m"], vdd) -> Float[Array, "*n"]:
        """Sums as converters with a step (LSB, in the units of the sums) see them at a supply (V)."""
        kelvin, volt = self._away(vdd)
        gain = self.adc_gain_per_kelvin * kelvin + self.adc_gain_per_volt * volt
        offset = self.adc_offset_per_kelvin * kelvin + self.adc_offset_per_volt * volt
        return sums * (1.0 + gain) + offset * step

    def reference(self, vdd) -> Float[Array, ""]:
        """Factor of the reference currents."""
        kelvin, volt = self._away(vdd)
        return 1.0 + self.reference_per_kelvin * kelvin + self.reference_per_volt * volt

    def leakage(self, vdd) -> Float[Array, ""]:
        """Factor of the leakage power."""
        kelvin, volt = self._away(vdd)
        doublings = 0.0 if self.leakage_doubling is None else kelvin / self.leakage_doubling
        return 2.0**doublings * jnp.exp(self.leakage_per_volt * volt)
