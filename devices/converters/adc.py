"""Analog-to-digital converter: what it does to a column's sum, and what a conversion costs.

The record is a uniform quantiser. What a real converter adds are parts and fields, each absent by default: mismatch of
gain and offset, a curved transfer (INL), an architecture with errors of its own (SAR, flash, ramp), and noise.
"""

from typing import Protocol

import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from pim.devices.cells.state_law import StateLaw
from pim.devices.converters.clipping import clip_factor
from pim.devices.converters.mismatch import GainOffsetMismatch
from pim.devices.errors import DeviceError
from pim.devices.record import leaf, part, record, static


class ConverterCost(Protocol):
    """Cost law of a converter: one conversion of `bits` at supply `vdd` (V) behind `rows` rows."""

    def energy(self, bits, vdd) -> Float[Array, ""]:
        """Energy (J) of a conversion."""
        ...

    def latency(self, bits, rows) -> Float[Array, ""]:
        """Time (s) of a conversion."""
        ...

    def area(self, bits) -> Float[Array, ""]:
        """Area (m^2) of a converter."""
        ...


class Architecture(Protocol):
    """How a signal becomes a code, by circuits that differ from converter to converter."""

    @property
    def numbers(self) -> int:
        """Standard normal numbers that make one converter, drawn once a chip."""
        ...

    @property
    def max_bits(self) -> int:
        """Largest resolution that it can have."""
        ...

    def code(
        self, level: Float[Array, "*n"], limit: Float[Array, ""], frozen: Float[Array, "numbers *m"]
    ) -> Float[Array, "*n"]:
        """Codes in [-limit, limit] of a signal in LSB; `frozen` broadcasts over it."""
        ...


@record
class ADC:
    """A uniform, symmetric quantiser with a clipping range, shared by several columns.

    `bits` give 2^bits - 1 codes, the same number on both sides of zero (sign and magnitude): the step (LSB) is
    range / (2^(bits-1) - 1). The range belongs to the programmed matrix: calibration measures its sums, and
    `range_rule` says what follows from them:

    - full: the largest sum that the array could ever give, so that nothing clips;
    - percentile: what holds `percentile` of the sums;
    - snr: |mean| + k standard deviations, with the k that is best at these `bits` for a bell-shaped distribution
      (see `clip_factor`).

    What shares a range, `range_per`: a column, or a tile (all columns of a slice in it); "slice" and "matrix" take
    the widest of their tiles.

    Noise is added first, then come gain and offset, then INL; the architecture finds the code of what results.
    """

    bits: Float[Array, ""] = leaf("1", "resolution: 2^bits - 1 codes, symmetric about zero", low=2, high=16)
    percentile: Float[Array, ""] = leaf(
        "1", "share (%) of calibration sums that the range must hold; the rest clips", low=50, high=100
    )
    columns_per_adc: Float[Array, ""] = leaf("1", "columns that take turns at one converter", low=1)
    cost: ConverterCost | None = part("what a conversion costs; absent: unknown", default=None)
    range_rule: str = static(
        "what sets the range, once calibrated", choices=("full", "percentile", "snr"), default="percentile"
    )
    range_per: str = static("what shares one range", choices=("matrix", "slice", "tile", "column"), default="tile")
    reconstruct: str = static(
        "what a code stands for: its level, or the whole number of smallest products next to it",
        choices=("level", "integer"),
        default="level",
    )
    noise: Float[Array, ""] | None = leaf(
        "1", "standard deviation of the input-referred noise of a conversion, in LSB; absent: none", low=0, default=None
    )
    enob: Float[Array, ""] | None = leaf(
        "1",
        "effective bits that the steps and noise leave of a full-scale sine (INL and mismatch come on top), in place "
        "of `noise`; absent: no noise",
        low=1,
        high=16,
        default=None,
    )
    mismatch: GainOffsetMismatch | None = part("gain and offset of each converter; absent: all alike", default=None)
    inl: StateLaw | None = part(
        "what every converter reads too high, in LSB, against signal / full scale; absent: straight", default=None
    )
    architecture: Architecture | None = part("how codes are found; absent: without error", default=None)

    def prepare(self) -> "ADC":
        """Itself, once it is known to make sense.

        Raises DeviceError for noise given twice, or for more bits than the architecture has.
        """
        if self.noise is not None and self.enob is not None:
            raise DeviceError("adc.noise and adc.enob both say how large the noise is: leave one away")
        if isinstance(self.bits, Tracer):
            return self
        if self.architecture is not None and float(self.bits) > self.architecture.max_bits:
            name = type(self.architecture).__name__
            raise DeviceError(
                f"adc.bits = {float(self.bits):g}, but this {name} has {self.architecture.max_bits} at most: raise "
                "adc.architecture.max_bits or lower adc.bits"
            )
        return self

    @property
    def numbers(self) -> int:
        """Standard normal numbers that make one converter, drawn once a chip: 0 if all are alike."""
        return sum(law.numbers for law in (self.mismatch, self.architecture) if law is not None)

    def codes(self) -> Float[Array, ""]:
        """The largest code: 2^(bits-1) - 1."""
        return 2.0 ** (self.bits - 1.0) - 1.0

    def snr_range(self, mean: Float[Array, "*n"], std: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The range of the rule "snr" for sums of this mean and standard deviation."""
        return jnp.abs(mean) + clip_factor(self.bits) * std

    def noise_variance(self) -> Float[Array, ""] | None:
        """Variance of the input-referred noise in LSB^2; None: no noise.

        A sine of amplitude L LSB has the power L^2 / 2, and `enob` means a signal over noise of 1.5 4^enob (6.02 enob +
        1.76 dB), so that noise and the steps' 1/12 LSB^2 together are L^2 / (3 4^enob). IEEE Std 1241.
        """
        if self.enob is None:
            return None if self.noise is None else self.noise**2
        return jnp.maximum(self.codes() ** 2 / (3.0 * 4.0**self.enob) - 1.0 / 12.0, 0.0)

    def convert(
        self,
        signal: Float[Array, "*n"],
        full_scale: Float[Array, "*m"],
        frozen: Float[Array, "numbers *k"] | None = None,
        unit: Float[Array, ""] | None = None,
    ) -> Float[Array, "*n"]:
        """The signal as the converter's codes say it is, in the units of the signal, without noise.

        Args:
            signal: what is converted.
            full_scale: the range; broadcasts over the signal.
            frozen: the standard normal numbers of the converters; broadcast over the signal. None: all zero.
            unit: the smallest product, for `reconstruct = "integer"`.
        """
        limit = self.codes()
        step = full_scale / limit
        level = signal / step
        if frozen is None:
            frozen = jnp.zeros((self.numbers, *(1,) * signal.ndim))
        if self.mismatch is not None:
            level = self.mismatch.distort(level, frozen[: self.mismatch.numbers])
        if self.inl is not None:
            level = level + self.inl(jnp.clip(level / limit, -1.0, 1.0))
        if self.architecture is not None:
            value = self.architecture.code(level, limit, frozen[self.numbers - self.architecture.numbers :]) * step
        else:
            value = jnp.clip(jnp.round(level), -limit, limit) * step
        if self.reconstruct == "integer" and unit is not None:
            value = jnp.round(value / unit) * unit
        return value
