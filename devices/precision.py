"""How precise a device is: what is left of one weight, and what an ADC would need to lose nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from pim.devices.cells.cell import Cell
from pim.devices.converters.exact_dac import ExactDAC
from pim.devices.random import root_key, site_key

WEIGHTS = 100_000
CLIP = 3.0


@dataclass(frozen=True)
class WeightPrecision:
    """One weight on a pair of cells, at one time."""

    time: float | None
    """s since programming; None: the cell does not age."""
    rms_error: float
    """Root mean square error over the largest weight; read noise included."""
    snr_db: float
    """Mean square weight over mean square error, in dB."""
    gain: float
    """The one factor on all weights that leaves the least error: above 1 after drift."""
    snr_compensated_db: float
    """SNR behind that factor."""
    note: str | None = None
    """Between which measured times it lies and how it was interpolated; None: it lies at one, or there is a law."""

    @property
    def effective_bits(self) -> float:
        """(SNR - 1.76 dB) / 6.02 dB: the bits of an ideal quantiser with as much error."""
        return (self.snr_db - 1.76) / 6.02


@dataclass(frozen=True)
class Precision:
    """What `device.precision()` reports."""

    levels: float | None
    """States of a cell; None: continuous."""
    lossless_adc_bits: int | None
    """Bits of an ADC that tells every sum of an array apart; None: the weights are continuous."""
    weights: tuple[WeightPrecision, ...]
    """At each time asked for."""

    def __str__(self) -> str:
        head = f"levels {self.levels or 'continuous'}; lossless ADC {self.lossless_adc_bits or 'unbounded'} bits"
        rows = [
            f"  t = {'-' if w.time is None else format(w.time, 'g')} s: rms error {w.rms_error:.4f}, "
            f"SNR {w.snr_db:.1f} dB ({w.effective_bits:.1f} bits), with one gain {w.snr_compensated_db:.1f} dB"
            + (f"\n    {w.note}" if w.note else "")
            for w in self.weights
        ]
        return "\n".join([head, *rows])


def weight_precision(cell: Cell, time: float | None, *, seed: int = 0) -> WeightPrecision:
    """Programme many weights and compare: Gaussian, clipped at three sigma, on a differential pair.

    The convention in which published devices are compared (both cells of a pair err; the largest weight is g_max).
    """
    normal = np.asarray(ndtri(jnp.asarray((np.arange(WEIGHTS) + 0.5) / WEIGHTS)))
    weights = np.random.default_rng(seed).permutation(np.clip(normal, -CLIP, CLIP) / CLIP)
    when = time if time is not None or not cell.ages else cell.reference_time
    error, programmed = _measured(cell, jnp.asarray(weights, jnp.float32), when, root_key(seed))
    noise, signal = float(jnp.mean(error)), float(np.mean(weights**2))
    programmed = np.asarray(programmed, np.float64)
    variance = noise - float(np.mean((programmed - weights) ** 2))  # of the reads
    gain = float(programmed @ weights / (programmed @ programmed + len(weights) * variance))
    left = np.mean((gain * programmed - weights) ** 2) + variance * gain**2
    return WeightPrecision(
        None if when is None else float(when),
        math.sqrt(noise),
        10 * math.log10(signal / noise) if noise > 0 else math.inf,
        gain,
        10 * math.log10(signal / left) if left > 0 else math.inf,
        cell.interpolation(when),
    )


@jax.jit
def _measured(cell: Cell, weights, time, key):
    """Mean square error of each weight, read noise included, and the programmed weights."""
    fractions = jnp.stack([jnp.maximum(weights, 0), jnp.maximum(-weights, 0)])[:, :, None]
    g = cell.program(cell.targets(fractions), lambda use: site_key(key, use=use), time)
    window = cell.g_max - cell.g_min
    read = cell.read_mean(g)
    programmed = (read[0] - read[1])[:, 0] / window
    variance = cell.read_variance(g)
    reads = 0.0 if variance is None else variance.sum(axis=0)[:, 0] / window**2
    return (programmed - weights) ** 2 + reads, programmed


def lossless_adc_bits(rows: int, input_levels: float, cell_levels: float) -> int:
    """Bits that tell every sum of `rows` products of integers apart: ceil(log2(rows (a - 1) (b - 1) + 1)).

    Args:
        rows: cells that are summed.
        input_levels: a, levels of an input, 2 for a bit.
        cell_levels: b, levels of a cell.
    """
    return math.ceil(math.log2(rows * (input_levels - 1) * (cell_levels - 1) + 1))


def macro_precision(macro, times: Sequence[float] | None = None, *, seed: int = 0) -> Precision:
    """The precision of an analog macro at some times, by default at its cell's reference time."""
    cell = macro.cell
    for time in times or ():
        cell.check_time(time)
    levels = None if cell.levels is None else float(cell.levels)
    inputs = _input_levels(macro.dac)
    bits = None if levels is None or inputs is None else lossless_adc_bits(macro.rows, inputs, levels)
    return Precision(levels, bits, tuple(weight_precision(cell, time, seed=seed) for time in times or (None,)))


def _input_levels(dac) -> float | None:
    """Levels of what one step applies: magnitudes, since the sign is the polarity. None: not counted."""
    return None if isinstance(dac, ExactDAC) else float(dac.largest_level) + 1.0
