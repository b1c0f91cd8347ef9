"""Measured sums: what calibration keeps of the sums that come to the output converters."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.converters.adc import ADC
from pim.devices.macro import AnalogMacro
from pim.order_statistics import percentile
from pim.ranges import NARROWEST, Ranges, read_as
from pim.sum_grid import smallest_product

LEAST_BITS = jnp.arange(2.0, 13.0)
"""Resolutions for which the range of the least error is found; finer converters take the last."""

SAMPLES = {"tile": 4096, "column": 256}
"""Sums of each range, evenly spaced in rank, by which that range is judged."""

COARSE = 2.0 ** (0.5 - jnp.arange(224.0) / 32.0)
"""Candidates, over the largest sum: above it, where codes may fall on the grid of sums, and down to a 90th, for sums
with far outliers. So close together (2 %) because that grid makes many narrow minima."""
FINE = jnp.linspace(2.0**-0.03, 2.0**0.03, 17)
"""Candidates over the best of those."""


class Sums(NamedTuple):
    """Of a tile, [slices, #columns]."""

    high: Float[Array, "slices #columns"]
    low: Float[Array, "slices #columns"] | None
    mean: Float[Array, "slices #columns"]
    std: Float[Array, "slices #columns"]
    least: Float[Array, "slices #columns ends bits"] | None


def measured_sums(macro: AnalogMacro, sums: Float[Array, "n slices columns"]) -> Sums:
    """What ranges are made of: percentiles, mean and standard deviation of a tile's sums, of each column or over all.

    For codes with two ends the percentile cuts as many sums off below as above; for the rule minimum_error the range
    of the least error at each resolution.
    """
    adc = macro.adc
    each = adc is not None and adc.range_per == "column"
    over = (0,) if each else (0, 2)
    most = adc.percentile if adc is not None else 100.0
    mean, std = jnp.mean(sums, over, keepdims=True)[0], jnp.std(sums, over, keepdims=True)[0]
    least = None
    if adc is not None and adc.range_rule == "minimum_error":
        least = least_error_ranges(adc, _sample(sums, each), smallest_product(macro))
    if adc is None or adc.code != "offset":
        high = percentile(jnp.abs(sums), most, over)[0]
        return Sums(jnp.maximum(high, NARROWEST), None, mean, std, least)
    cut = (100.0 - most) / 2.0
    high, low = (percentile(sums, at, over)[0] for at in (100.0 - cut, cut))
    return Sums(jnp.maximum(high, low + NARROWEST), low, mean, std, least)


def calibrated_ranges(macro: AnalogMacro, full: Float[Array, ""], sums: Sums) -> Ranges:
    """The ranges of a matrix from the full scale of its inputs and the measured sums of its tiles, stacked."""
    code = "" if sums.least is None or macro.adc is None else macro.adc.code
    return Ranges(
        x=full,
        adc=sums.high,
        mean=sums.mean,
        std=sums.std,
        low=sums.low,
        least=sums.least,
        least_code=code,
        read_as=read_as(macro),
    )


def _sample(sums: Float[Array, "n slices columns"], each: bool) -> Float[Array, "samples slices #columns"]:
    """Sums in order, of each column or of all, thinned out to as many as a range is judged by."""
    if not each:
        sums = jnp.moveaxis(sums, 1, 2).reshape(-1, sums.shape[1], 1)
    ordered, wanted = jnp.sort(sums, axis=0), SAMPLES["column" if each else "tile"]
    if ordered.shape[0] <= wanted:
        return ordered
    rank = (jnp.arange(wanted) + 0.5) * (ordered.shape[0] / wanted)
    return ordered[jnp.floor(rank).astype(jnp.int32)]


def least_error_ranges(
    adc: ADC, sums: Float[Array, "samples slices #columns"], unit: Float[Array, ""] | None
) -> Float[Array, "slices #columns ends bits"]:
    """The ends that leave the smallest mean square error of converted sums, at each of `LEAST_BITS`.

    The error is that of the converter itself without its imperfections: steps, clipping and, with `reconstruct`, whole
    numbers. A grid of candidates, then a finer one around the best. With two ends each is searched for in turn,
    since what one cuts off does not depend on the other; only the step does.
    """
    ideal = replace(adc, mismatch=None, inl=None, architecture=None, noise=None, enob=None)
    lowest, highest = sums.min(axis=0), sums.max(axis=0)

    def error(converter: ADC, low, high):
        read = converter.convert(sums, converter.reaching(low[None], high[None]), unit=unit)
        return jnp.mean((read - sums) ** 2, axis=0)

    def best(converter: ADC, ends, candidates):
        """The candidate [c, slices, #columns] of the least error; `ends` makes a range of it."""
        errors = jax.lax.map(lambda c: error(converter, *ends(c)), candidates)
        return jnp.take_along_axis(candidates, errors.argmin(axis=0)[None], axis=0)[0]

    def search(converter: ADC, ends, largest):
        coarse = best(converter, ends, COARSE[:, None, None] * largest[None])
        return best(converter, ends, FINE[:, None, None] * coarse[None])

    def at(bits):
        converter = replace(ideal, bits=bits)
        if adc.code != "offset":
            reach = search(converter, lambda c: (-c, c), jnp.maximum(jnp.maximum(highest, -lowest), NARROWEST))
            return jnp.stack([-reach, reach], axis=-1)
        middle = sums[sums.shape[0] // 2]
        up, down = (jnp.maximum(end, NARROWEST) for end in (highest - middle, middle - lowest))
        scale = search(converter, lambda c: (middle - down * c, middle + up * c), jnp.ones_like(middle))
        up, down = up * scale, down * scale
        for _ in range(2):
            up = search(converter, lambda c, down=down: (middle - down, middle + c), jnp.maximum(highest - middle, up))
            down = search(converter, lambda c, up=up: (middle - c, middle + up), jnp.maximum(middle - lowest, down))
        return jnp.stack([middle - down, middle + up], axis=-1)

    return jnp.moveaxis(jax.lax.map(at, LEAST_BITS), 0, -1)
