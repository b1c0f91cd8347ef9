"""Where the error of a product comes from: its sources put in one after the other.

Starting from the exact product, one more source of error is put in at each step, with the same chip and the same reads,
so that all draws are the same; the converters' ranges are always those of the whole chip. What a source contributes is
the mean square of the step that it makes in the product. The contributions add up to the mean square error but for
correlations between the steps, which are given as `cross`. They are those of this order: a source that comes later acts
on what the earlier ones have left.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt32

from pim import crossbar as engine
from pim.crossbar import Crossbar
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.noise_sources import MEANINGS, present, same_cells, without
from pim.tile_programming import program_tiles


@dataclass(frozen=True, repr=False)
class NoiseSplit:
    """Noise of a product by source.

    Attributes:
        noise: mean square of the step that each source makes in the product, over `signal`; absent ones left out.
        total: mean square error over `signal`.
        signal: mean square of the exact product.

    >>> split = chip.diagnose(x, key=key).split
    >>> split.snr["adc"], split.total_snr
    """

    noise: Mapping[str, float]
    total: float
    signal: float

    @property
    def cross(self) -> float:
        """What correlations between the steps add to the sum of the contributions, over `signal`; may be negative."""
        return self.total - sum(self.noise.values())

    @property
    def snr(self) -> dict[str, float]:
        """Signal over the noise of each source, in dB."""
        return {name: decibels(noise) for name, noise in self.noise.items()}

    @property
    def total_snr(self) -> float:
        """Signal over the whole error, in dB."""
        return decibels(self.total)

    @property
    def worst(self) -> str:
        """The source that contributes most."""
        return max(self.noise, key=lambda name: self.noise[name])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: noise and SNR (dB) by source, their cross term and the total."""
        return {
            "signal": self.signal,
            "noise": dict(self.noise),
            "snr_db": self.snr,
            "cross": self.cross,
            "total_noise": self.total,
            "total_snr_db": self.total_snr,
        }

    def __str__(self) -> str:
        rows = [(name, noise, f"{decibels(noise):.1f}", MEANINGS[name]) for name, noise in self.noise.items()]
        rows += [("cross", self.cross, "", "correlations between them")]
        rows += [("all", self.total, f"{self.total_snr:.1f}", "")]
        lines = [f"{'source':<12}  {'noise/signal':>12}  {'SNR, dB':>7}  of", "-" * 80]
        lines += [f"{name:<12}  {noise:>12.3g}  {snr:>7}  {text}".rstrip() for name, noise, snr, text in rows]
        return "\n".join(lines)

    __repr__ = __str__


def decibels(noise: float, signal: float = 1.0) -> float:
    """Signal over noise in dB: infinite without noise.

    >>> decibels(0.01)
    20.0
    """
    if noise == 0 or signal == 0:
        return float("inf") if noise == 0 else float("-inf")
    return float(10.0 * np.log10(signal / noise))


def split_noise(
    weights: Float[Array, "n_in n_out"],
    crossbar: Crossbar,
    macro: AnalogMacro,
    x: Float[Array, "batch n_in"],
    rows: UInt32[Array, "batch 2"],
    *,
    chip: Key[Array, ""],
    read: Key[Array, ""] | None,
    time: Any = None,
    temperature: Any = None,
    cycle: Any = None,
) -> NoiseSplit:
    """The split of a programmed matrix's product on inputs `x`.

    Args:
        weights: the matrix.
        crossbar: what it was programmed into.
        macro: the device.
        x: inputs.
        rows: (document, position) of each.
        chip: key of the chip.
        read: key of its reads; None: without their noise.
        time: s since programming.
        temperature: K.
        cycle: how often the chip was written before.

    Raises DeviceError if the exact product is zero: there is no signal.
    """
    sources = [name for name in present(macro) if name != "read" or read is not None]
    crossbar = as_cells(weights, crossbar, macro, chip, time, temperature, cycle)
    temperature = macro.temperature if temperature is None else temperature
    exact = last = _exact(x, weights)
    signal, noise = _power(exact), {}
    if signal == 0:
        raise DeviceError("the exact product is zero everywhere, so that noise has no signal to be compared with")
    for i, name in enumerate(sources):
        ahead = sources[i + 1 :]
        partial = without(macro, ahead)
        cells = crossbar
        if not same_cells(partial, macro):
            cells = _program(weights, crossbar, partial, chip, time, temperature, cycle)
            if "write" not in ahead:  # a compensation of what writing and time have done
                cells = replace(cells, scale=crossbar.scale)
        y = _product(cells, partial, x, rows, None if "read" in ahead else read)
        noise[name] = _power(y - last) / signal
        last = y
    return NoiseSplit(noise, _power(last - exact) / signal, signal)


def as_cells(weights, crossbar: Crossbar, macro: AnalogMacro, chip, time, temperature, cycle) -> Crossbar:
    """A programmed matrix with its cells, which a formulation of whole numbers does not keep."""
    if not crossbar.formulation.whole:
        return crossbar
    cells = _program(weights, crossbar, macro, chip, time, temperature, cycle)
    return replace(cells, scale=crossbar.scale)


@jax.jit
def _exact(x, weights):
    return jnp.matmul(x, weights, precision=jax.lax.Precision.HIGHEST)


@jax.jit
def _program(weights, crossbar, macro, chip, time, temperature, cycle):
    site = {"layer": crossbar.layer, "operator": crossbar.operator, "cycle": cycle}
    return program_tiles(weights, macro, chip, time, temperature, ranges=crossbar.ranges, **site)


@jax.jit
def _product(crossbar, macro, x, rows, read):
    return engine.matmul(crossbar, macro, x, rows, read)


def _power(y: Array) -> float:
    """Mean square, summed in double precision."""
    return float(np.mean(np.square(np.asarray(y, np.float64))))
