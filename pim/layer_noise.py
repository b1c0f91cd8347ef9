"""Signal over noise of one large matrix with the statistics of real models: how wide a layer can be.

Outputs are independent of each other, so that a few hundred of them stand for any number; the number of inputs is what
matters: it decides in how many tiles a product is summed up, and with outlier channels how far inputs spread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key
from tqdm import tqdm

from pim.devices.device import Device
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.random import chip_key, fine_uniform, fold, name_id, normal, root_key, uniform
from pim.errors import StudyError
from pim.llm_workloads.statistics import Statistics, statistics
from pim.noise_sources import SOURCES
from pim.noise_split import NoiseSplit, decibels, split_noise
from pim.programming import program

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OUTPUTS = 256
"""Outputs of a matrix of which only the inputs are given."""

Shape = int | tuple[int, int]


@dataclass(frozen=True, repr=False)
class LayerSnr:
    """Noise of matrices of several shapes on one device; prints as a table.

    Attributes:
        shapes: inputs and outputs of each matrix.
        splits: of each shape, of each chip, its noise by source.
        device: name of the device.
        weights: statistics of the weights.
        activations: statistics of the inputs.
        vectors: input vectors of each chip.

    >>> found = pim.layer_snr([4096, 11008, 28672], pim.preset("rram-techC"))
    >>> found.to_dataset()["total_snr"].mean("chip")
    """

    shapes: tuple[tuple[int, int], ...]
    splits: tuple[tuple[NoiseSplit, ...], ...]
    device: str
    weights: Statistics
    activations: Statistics
    vectors: int

    @property
    def sources(self) -> list[str]:
        """The sources that the device has, in their order."""
        return [name for name in SOURCES if name in self.splits[0][0].noise]

    def to_dataset(self) -> xr.Dataset:
        """Noise over signal, and SNR in dB, by `shape`, `chip` and `source`; coordinates tell inputs and outputs."""
        noise = np.array([[[split.noise[name] for name in self.sources] for split in row] for row in self.splits])
        total = np.array([[split.total for split in row] for row in self.splits])
        at = ("shape", "chip")
        data = {
            "noise": ((*at, "source"), noise, {"units": "1"}),
            "snr": ((*at, "source"), np.vectorize(decibels)(noise), {"units": "dB"}),
            "cross": (at, total - noise.sum(axis=-1), {"units": "1"}),
            "total": (at, total, {"units": "1"}),
            "total_snr": (at, np.vectorize(decibels)(total), {"units": "dB"}),
        }
        inputs, outputs = zip(*self.shapes, strict=True)
        coords = {
            "source": self.sources,
            "chip": np.arange(total.shape[1]),
            "n_in": ("shape", list(inputs)),
            "n_out": ("shape", list(outputs)),
        }
        attrs = {"device": self.device, "weights": self.weights.name, "activations": self.activations.name}
        return xr.Dataset(data, coords, attrs)

    def plot(self) -> "Figure":
        """SNR against the number of inputs: a line a source and one of all noise, with a band over chips."""
        from pim.noise_plots import snr_by_width

        return snr_by_width(self)

    def __str__(self) -> str:
        data = self.to_dataset()
        heads = ["inputs", "outputs", *self.sources, "all"]
        columns = np.concatenate([data["snr"].values, data["total_snr"].values[..., None]], axis=-1)
        rows = [
            [f"{n_in:,}", f"{n_out:,}", *(_spread(columns[i, :, k]) for k in range(columns.shape[-1]))]
            for i, (n_in, n_out) in enumerate(self.shapes)
        ]
        widths = [max(len(row[k]) for row in [heads, *rows]) for k in range(len(heads))]
        top, *lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in [heads, *rows]]
        chips = columns.shape[1]
        return "\n".join(
            [
                f"{self.device}: SNR (dB) of products, {'mean ± std over ' if chips > 1 else ''}{chips} "
                f"chip{'s' if chips > 1 else ''} with matrices of their own, {self.vectors} vectors each",
                f"weights {_words(self.weights)}; activations {_words(self.activations)}",
                "",
                top,
                "-" * len(top),
                *lines,
            ]
        )

    __repr__ = __str__


def layer_snr(
    shape: Shape | Sequence[Shape],
    device: Device,
    *,
    weights: str | Statistics = "llm",
    activations: str | Statistics = "hidden",
    vectors: int = 128,
    calibration: int = 256,
    chips: int = 3,
    seed: int = 0,
    time: float | None = None,
    progress: bool = True,
) -> LayerSnr:
    """Signal over noise of a matrix of a given size on a device, by source, with the statistics of real models.

    Each chip has a matrix, inputs, cells and reads of its own. Ranges of converters come from other inputs with the
    same outlier channels. One tile is at hand at a time but for the programmed cells, of which a matrix of 28,672
    inputs and 256 outputs has 29 MB a copy.

    Args:
        shape: inputs and outputs of the matrix, or its inputs alone (256 outputs), or several of either.
        device: with analog cells.
        weights: statistics, or the name of published ones (`pim.llm_workloads.statistics`): "llm", "gaussian".
        activations: the same of inputs: "hidden", "hidden-opt", "ffn-swiglu", "ffn-relu", "gaussian".
        vectors: inputs on which the noise is measured.
        calibration: inputs that set the ranges.
        chips: how many; more never change earlier ones.
        seed: of everything drawn.
        time: s since programming; by default the reference time of the device.
        progress: show a bar on standard error after two seconds.

    Raises:
        DeviceError: a device without analog cells.
        StudyError: no shape, no vectors or no chips.
        WorkloadError: statistics of an unknown name.

    >>> print(pim.layer_snr([4096, 11008], pim.preset("rram-techC"), activations="ffn-swiglu"))
    """
    if not isinstance(device.model, AnalogMacro):
        raise DeviceError(f"{device.name} has no analog cells: its products have no noise to split")
    shapes = _shapes(shape)
    for name, count in (("vectors", vectors), ("calibration", calibration), ("chips", chips)):
        if count < 1:
            raise StudyError(f"{name} = {count}: give at least one")
    of_weights = statistics("weights", weights) if isinstance(weights, str) else weights
    of_inputs = statistics("activations", activations) if isinstance(activations, str) else activations
    splits = []
    bar = tqdm(total=len(shapes) * chips, desc="noise of a layer", unit="chip", disable=not progress, delay=2)
    for n_in, n_out in shapes:
        of_shape = []
        for c in range(chips):
            key = chip_key(root_key(seed), c)
            w = drawn(of_weights, fold(key, name_id("weights")), n_out, n_in).T
            x = drawn(of_inputs, fold(key, name_id("inputs")), vectors + calibration, n_in)
            of_shape.append(_split(w, device, x[:vectors], x[vectors:], key, time))
            bar.update()
        splits.append(tuple(of_shape))
    bar.close()
    return LayerSnr(shapes, tuple(splits), device.name, of_weights, of_inputs, vectors)


def drawn(of: Statistics, key: Key[Array, ""], count: int, channels: int) -> Float[Array, "count channels"]:
    """Values with the given statistics; which channels stand out, the key decides alone, not their number."""
    places = uniform(fold(key, 1), (channels,))
    if of.samples is not None:
        samples = jnp.asarray(of.samples, jnp.float32)
        n, width = samples.shape
        columns = jnp.arange(channels) if width == channels else (places * width).astype(jnp.int32)
        rows = (uniform(fold(key, 2), (count,)) * n).astype(jnp.int32)
        return samples[rows[:, None], columns[None]]
    shape = count, channels
    if of.nu is None:
        values = normal(fold(key, 2), shape)
    else:
        values = _student(fold(key, 2), of.nu, shape) * np.sqrt((of.nu - 2.0) / of.nu)
    if of.one_sided:
        values = jnp.abs(values)
    if of.zero_share > 0:
        values = jnp.where(uniform(fold(key, 3), shape) < of.zero_share, 0.0, values)
    rank = jnp.argsort(jnp.argsort(places))
    return values * jnp.where(rank < of.outliers(channels), of.outlier_ratio, 1.0)[None]


def _student(key: Key[Array, ""], nu: float, shape: tuple[int, int]) -> Float[Array, "count channels"]:
    """Student-t numbers from two uniform ones: sqrt(nu (u^(-2/nu) - 1)) cos(2 pi v), an order faster than by a gamma.

    R. W. Bailey, Polar generation of random variates with the t-distribution, Math. Comp. 62, 779-781 (1994).
    """
    u, v = fine_uniform(fold(key, 1), shape), uniform(fold(key, 2), shape)
    return jnp.sqrt(nu * jnp.expm1(-2.0 / nu * jnp.log(u))) * jnp.cos(2.0 * np.pi * v)


def _split(w: Array, device: Device, x: Array, calibration: Array, key: Array, time: float | None) -> NoiseSplit:
    chip = program(w, device, key=key, calibration=calibration, time=time)
    assert chip.crossbar is not None
    assert isinstance(device.model, AnalogMacro)
    number = jnp.arange(x.shape[0], dtype=jnp.uint32)
    rows = jnp.stack([jnp.zeros_like(number), number], axis=1)
    return split_noise(chip.weights, chip.crossbar, device.model, x, rows, chip=key, read=key, time=chip.time)


def _shapes(shape: Shape | Sequence[Shape]) -> tuple[tuple[int, int], ...]:
    """Inputs and outputs of each matrix; a pair of two whole numbers is one shape."""
    if isinstance(shape, Integral):
        several: Sequence[Shape] = [int(shape)]
    elif isinstance(shape, tuple) and len(shape) == 2 and all(isinstance(n, Integral) for n in shape):
        several = [(int(shape[0]), int(shape[1]))]  # type: ignore[arg-type]
    else:
        several = list(shape)  # type: ignore[arg-type]
    pairs = tuple((int(each), OUTPUTS) if isinstance(each, Integral) else _pair(each) for each in several)
    if not pairs or any(n < 1 for pair in pairs for n in pair):
        raise StudyError(f"shape = {shape!r}: give inputs and outputs, at least one of each")
    return pairs


def _pair(shape: Any) -> tuple[int, int]:
    n_in, n_out = shape
    return int(n_in), int(n_out)


def _spread(values: np.ndarray) -> str:
    if len(values) == 1 or not np.isfinite(values).all():
        return f"{values.mean():.1f}"
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"


def _words(of: Statistics) -> str:
    """Statistics in a few words."""
    if of.samples is not None:
        return f"{of.name} ({of.samples.shape[0]:,} x {of.samples.shape[1]:,} samples)"
    parts = ["normal" if of.nu is None else f"Student-t, nu {of.nu:.3g}"]
    if of.outlier_share > 0:
        parts.append(f"{of.outlier_share:.2g} of the channels {of.outlier_ratio:.3g} times as large")
    if of.zero_share > 0:
        parts.append(f"{of.zero_share:.2g} zeros")
    return f"{of.name} ({', '.join(parts)})"
