"""The verb `validate`: what the cost model says of published chips, against what was published.

A row whose device has a value set from it (`fitted`) is `calibrated`: it shows that the device file is what it says,
and predicts nothing. Figures that are only `recalled` count for nothing either. A miss is shown, with what is known of
its cause. Values that were set from published figures are the free constants of a device file: they are counted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from tqdm import tqdm

from pim.devices.device import Device
from pim.devices.errors import DeviceError
from pim.devices.loader import load_device
from pim.devices.published import Point, published
from pim.mapping.published_runs import RunPoint, is_runs, published_runs, read_runs
from pim.silicon.point_value import point_value
from pim.silicon.run_value import run_value
from pim.silicon.uncalibrated import FACTOR, UncalibratedRow, uncalibrated
from pim.silicon.validation_table import WIDTH, uncalibrated_table, validation_table
from pim.units import plain

STATUSES = ("predicted", "calibrated", "recalled")


@dataclass(frozen=True)
class ValidationRow:
    """One published figure and ours.

    Attributes:
        name: what the figure is, in words.
        chip: the chip, by the folder of its files; or the system.
        device: the device file that describes it; of a system the model that runs on it.
        figure: which figure of `pim.peak`, or of `pim.cost` of a model.
        published: as published, in `unit`.
        ours: as our model has it; NaN if it does not know.
        unit: SI; "1" for shares and for figures relative to others.
        ratio: ours over published.
        tolerance: largest relative difference that passes; of a share the largest difference.
        within: whether it passes.
        status: "predicted", "calibrated" (a value of the device was set from this figure) or "recalled".
        grade: how well the published figure is known.
        source: its citation.
        note: under which conditions, or how it was derived.
        why: where it misses, why.
    """

    name: str
    chip: str
    device: str
    figure: str
    published: float
    ours: float
    unit: str
    ratio: float
    tolerance: float
    within: bool
    status: str
    grade: str
    source: str
    url: str = ""
    note: str = ""
    why: str = ""


@dataclass(frozen=True, repr=False)
class Validation:
    """All rows, and the free constants of each device: values that were set from published figures.

    Example:
        >>> found = pim.validate()
        >>> print(found)
        >>> [row.name for row in found.predicted if not row.within]
    """

    rows: tuple[ValidationRow, ...]
    free_constants: Mapping[str, int]
    uncalibrated: tuple[UncalibratedRow, ...] = ()
    """Generic macros against published ones, where all chips were asked for."""

    @property
    def predicted(self) -> tuple[ValidationRow, ...]:
        """The rows that no value was set from."""
        return tuple(row for row in self.rows if row.status == "predicted")

    @property
    def unexplained(self) -> tuple[ValidationRow, ...]:
        """Predicted rows that are missed without a word."""
        return tuple(row for row in self.predicted if not row.within and not row.why)

    @property
    def closing(self) -> str:
        """How many rows are predicted, calibrated and recalled, and what was free."""
        count = lambda status: sum(row.status == status for row in self.rows)
        within = sum(row.within for row in self.predicted)
        free = ", ".join(f"{device}: {number}" for device, number in self.free_constants.items() if number) or "none"
        return (
            f"{count('predicted')} predicted ({within} within tolerance), {count('calibrated')} calibrated, "
            f"{count('recalled')} recalled; free constants: {free}"
        )

    @property
    def closing_uncalibrated(self) -> str:
        """How many chips come out of their node, cell, array, bits and supply alone."""
        trusted = [row for row in self.uncalibrated if row.macro.confidence == "high"]
        near = sum(row.within for row in trusted)
        return (
            "without any calibration, from node, cell, array, bits and supply alone: "
            f"{near} of {len(trusted)} energies within a factor of {FACTOR:g}, of figures of high confidence"
        )

    def to_dict(self) -> dict[str, Any]:
        """Rows and counts as plain values, ready for JSON; what is unknown is None."""
        rows = [asdict(row) | {key: plain(getattr(row, key)) for key in ("ours", "ratio")} for row in self.rows]
        counts = {status: sum(row.status == status for row in self.rows) for status in STATUSES}
        return {
            "rows": rows,
            **counts,
            "within": sum(row.within for row in self.predicted),
            "free_constants": dict(self.free_constants),
            "uncalibrated": [
                {**asdict(row.macro), "ours": row.efficiency, "energy_ratio": row.energy_ratio, "within": row.within}
                for row in self.uncalibrated
            ],
        }

    def __str__(self) -> str:
        lines = validation_table(self.rows)
        if self.uncalibrated:
            lines += ["", *uncalibrated_table(self.uncalibrated), "", *wrap(self.closing_uncalibrated, WIDTH)]
        return "\n".join([*lines, "", *wrap(self.closing, WIDTH)])

    __repr__ = __str__


def validate(names: str | Iterable[str] | None = None, *, progress: bool = True) -> Validation:
    """What the cost model says of published chips, against what was published.

    Args:
        names: chips (folders of the presets), presets, publications of systems, or files of your own with [[point]]
            tables; all that ship, if none is given.
        progress: show a bar on standard error after two seconds.

    Raises:
        DeviceError: a name of which no figures are published, or a file that is not as it should be (file, point, key).

    Example:
        >>> print(pim.validate("tu2022"))
        >>> pim.validate().closing
    """
    chosen = [None] if names is None else [names] if isinstance(names, str) else list(names)
    points = list({point.where: point for name in chosen for point in _points(name)}.values())
    chips = [point for point in points if isinstance(point, Point)]
    devices = {file: load_device(file) for file in dict.fromkeys(point.device_file for point in chips)}
    bar = tqdm(points, desc="published figures", unit="figure", disable=not progress, delay=2)
    rows = tuple(_row(p, devices[p.device_file]) if isinstance(p, Point) else _run_row(p) for p in bar)
    free = {device.name: sum(p.grade == "fitted" for p in device.provenance.values()) for device in devices.values()}
    return Validation(rows, free, uncalibrated() if names is None else ())


def _points(name: str | None) -> tuple[Point | RunPoint, ...]:
    """The points of a name: of a chip or a device, of a publication of systems, of a file; of all without one."""
    runs = published_runs()
    if name is None:
        return (*published(), *(point for points in runs.values() for point in points))
    if name in runs:
        return runs[name]
    if name.endswith(".toml") and is_runs(Path(name)):
        return read_runs(Path(name))
    try:
        return published(name)
    except DeviceError as error:
        raise DeviceError(f"{error}; of systems: {', '.join(runs)}" if runs else str(error)) from None


def _row(point: Point, device: Device) -> ValidationRow:
    return _compared(point, point_value(point, device), point.chip, device.name, point.share)


def _run_row(point: RunPoint) -> ValidationRow:
    return _compared(point, run_value(point), _systems(point), _models(point), False)


def _systems(point: RunPoint) -> str:
    return " or ".join(system.stem for system in point.of.systems)


def _models(point: RunPoint) -> str:
    models = list(dict.fromkeys(run.model for run in point.runs))
    return models[0] if len(models) == 1 else f"{models[0]} to {models[-1]}"


def _compared(point: Point | RunPoint, ours: float, chip: str, device: str, share: bool) -> ValidationRow:
    ratio = ours / point.value
    off = abs(ours - point.value) if share else abs(ratio - 1)
    return ValidationRow(
        name=point.name,
        chip=chip,
        device=device,
        figure=point.figure,
        published=point.value,
        ours=ours,
        unit=point.unit,
        ratio=ratio,
        tolerance=point.tolerance,
        within=off <= point.tolerance,  # what is unknown is not
        status="recalled" if point.grade == "recalled" else "calibrated" if point.fitted else "predicted",
        grade=point.grade,
        source=point.source.citation,
        url=point.source.url,
        note=point.note,
        why=point.why,
    )
