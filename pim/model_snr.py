"""Signal over noise of every matrix of a model on its devices, split by the sources of the noise.

The inputs of each matrix are those of the exact model on the first tokens of the scored text, so that each is judged
on its own and no error of an earlier one is counted again. Chip and reads are the first of an evaluation: the same
keys, so the same cells and draws.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import xarray as xr
from tqdm import tqdm

from pim.crossbar import Crossbar
from pim.devices.macro import AnalogMacro
from pim.devices.random import chip_key, root_key
from pim.emulation import program_model
from pim.errors import StudyError
from pim.holding import reading_time
from pim.llm_workloads.operators import DYNAMIC, layer_path
from pim.llm_workloads.products import products
from pim.llm_workloads.text import ScoredText
from pim.llm_workloads.transformer import segment_length
from pim.mapping.plan import Plan
from pim.noise_sources import SOURCES
from pim.noise_split import NoiseSplit, decibels, split_noise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOKENS = 256
"""Tokens of the scored text on which products are judged, by default."""


@dataclass(frozen=True)
class MatrixSnr:
    """The noise of one matrix.

    Attributes:
        layer: its layer; the head is behind the last.
        operator: its name.
        device: name of the device that holds it.
        split: its noise by source.
    """

    layer: int
    operator: str
    device: str
    split: NoiseSplit


@dataclass(frozen=True, repr=False)
class ModelSnr:
    """The noise of all matrices of a model that are on analog devices; prints as a table by operator.

    Attributes:
        matrices: one entry a matrix, layer by layer.
        tokens: tokens on which they were judged.

    >>> found = pim.evaluate(plan, text).snr()
    >>> found.to_dataset()["snr"], found.worst
    """

    matrices: tuple[MatrixSnr, ...]
    tokens: int

    @property
    def sources(self) -> list[str]:
        """The sources that any of the matrices has, in their order."""
        found = {name for matrix in self.matrices for name in matrix.split.noise}
        return [name for name in SOURCES if name in found]

    @property
    def operators(self) -> list[str]:
        """The operators, in their order in a layer."""
        return list(dict.fromkeys(matrix.operator for matrix in self.matrices))

    @property
    def worst(self) -> MatrixSnr:
        """The matrix with the lowest signal over noise."""
        return max(self.matrices, key=lambda matrix: matrix.split.total)

    def to_dataset(self) -> xr.Dataset:
        """Noise over signal, and SNR in dB, by `matrix` and `source`; the coordinates tell layer, operator and device.

        A source that a device does not have makes no noise. `cross` is what correlations between sources add to their
        sum, `total` all noise. `.set_index(matrix=["layer", "operator"]).unstack()` makes axes of layer and operator.
        """
        splits = [matrix.split for matrix in self.matrices]
        noise = np.array([[split.noise.get(name, 0.0) for name in self.sources] for split in splits])
        total = np.array([split.total for split in splits])
        data = {
            "noise": (("matrix", "source"), noise, {"units": "1"}),
            "snr": (("matrix", "source"), np.vectorize(decibels)(noise), {"units": "dB"}),
            "cross": ("matrix", np.array([split.cross for split in splits]), {"units": "1"}),
            "total": ("matrix", total, {"units": "1"}),
            "total_snr": ("matrix", np.vectorize(decibels)(total), {"units": "dB"}),
            "signal": ("matrix", np.array([split.signal for split in splits]), {"units": "1"}),
        }
        coords = {
            "source": self.sources,
            **{name: ("matrix", [getattr(m, name) for m in self.matrices]) for name in ("layer", "operator", "device")},
        }
        return xr.Dataset(data, coords, {"tokens": self.tokens})

    def plot(self) -> "Figure":
        """Noise by layer and source, a panel for each operator."""
        from pim.noise_plots import noise_by_layer

        return noise_by_layer(self)

    def __str__(self) -> str:
        sources, worst = self.sources, self.worst
        heads = ["operator", "matrices", *sources, "all", "lowest"]
        rows = [self._row(operator, sources) for operator in self.operators]
        widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
        pad = lambda row: [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        top, *lines = ["  ".join(pad(row)) for row in [heads, *rows]]
        where = f"{_path(worst.layer, worst.operator)}, {worst.split.total_snr:.1f} dB"
        title = f"SNR (dB) of products on {self.tokens} tokens with exact inputs; noise is averaged over layers"
        end = f"lowest: {where}, most of it {worst.split.worst}"
        return "\n".join([title, "", top, "-" * len(top), *lines, "", end])

    __repr__ = __str__

    def _row(self, operator: str, sources: list[str]) -> list[str]:
        splits = [matrix.split for matrix in self.matrices if matrix.operator == operator]
        by_source = [decibels(float(np.mean([split.noise.get(name, 0.0) for split in splits]))) for name in sources]
        total = decibels(float(np.mean([split.total for split in splits])))
        lowest = min(split.total_snr for split in splits)
        return [operator, str(len(splits)), *(f"{value:.1f}" for value in (*by_source, total, lowest))]


def model_snr(
    plan: Plan, sample: ScoredText, *, seed: int = 0, time: float | None = None, progress: bool = True
) -> ModelSnr:
    """The signal over noise of every matrix of weights of a plan on an analog device.

    Args:
        plan: with a model, calibrated as for `evaluate`.
        sample: text; its first documents are the first of an evaluation on the whole.
        seed: of the evaluation.
        time: s since programming; by default each device's reference time.
        progress: show a bar on standard error after two seconds.

    Raises StudyError if there are no weights, or none of them on an analog device.
    """
    if plan.model is None:
        raise StudyError("this plan was placed from a config alone; its products have no signal")
    matrices = [path for path in plan.assignment if not path.endswith(DYNAMIC)]
    analog = [path for path in matrices if isinstance(plan.model_of(path), AnalogMacro)]
    if not analog:
        raise StudyError(f"no matrix of {plan.model.name} is on an analog device: there is no noise to split")
    key = chip_key(root_key(seed), 0)
    programmed, found = crossbars(program_model(plan, key, time)), []
    bar = tqdm(total=len(analog), desc="noise of each matrix", unit="matrix", disable=not progress, delay=2)
    for layer, operator, weights, x, rows in products(plan.model, sample):
        crossbar = programmed.get((layer, operator))
        if crossbar is None:
            continue
        macro = plan.model_of(_path(layer, operator))
        split = split_noise(weights, crossbar, macro, x, rows, chip=key, read=key, time=reading_time(macro, time))
        found.append(MatrixSnr(layer, operator, crossbar.device, split))
        bar.update()
    bar.close()
    return ModelSnr(tuple(found), int(sample.lengths.sum()))


def crossbars(programmed: Mapping[str, Any]) -> dict[tuple[int, str], Crossbar]:
    """The matrices of a programmed model that are on analog devices, by layer and operator."""
    found, layers = {}, 0
    for segment in programmed["segments"]:
        count = segment_length(segment)
        for operator, run in segment.items():
            if isinstance(run, Crossbar):
                for k in range(count):
                    found[layers + k, operator] = jax.tree.map(lambda leaf, k=k: leaf[k], run)
        layers += count
    for operator, run in programmed.items():
        if isinstance(run, Crossbar):
            found[layers, operator] = run
    return found


def _path(layer: int, operator: str) -> str:
    return operator if operator.startswith("head") else layer_path(layer, operator)
