"""All that can be fitted to a table of measurements, in one object."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pim.devices.errors import DeviceError, nearest
from pim.devices.fitting.conduction_fit import fit_conduction, is_sweep
from pim.devices.fitting.drift_fit import fit_drift
from pim.devices.fitting.endurance_fit import fit_endurance, fit_window
from pim.devices.fitting.estimate import LawFit, NotMeasured
from pim.devices.fitting.fault_fit import fault_states, fit_faults
from pim.devices.fitting.flicker_fit import fit_flicker
from pim.devices.fitting.importers import read_measurements
from pim.devices.fitting.pulse_count_fit import fit_pulse_count
from pim.devices.fitting.pulse_update_fit import fit_pulse_update
from pim.devices.fitting.read_noise_fit import fit_read_noise
from pim.devices.fitting.relaxation_fit import fit_relaxation
from pim.devices.fitting.retention_fit import fit_retention
from pim.devices.fitting.table import Measurements, measurements
from pim.devices.fitting.tcr_fit import fit_tcr
from pim.devices.fitting.telegraph_fit import fit_telegraph
from pim.devices.fitting.write_fit import fit_write_error

EXPERIMENTS: Mapping[str, Mapping[str, Callable[[Measurements, int], LawFit]]] = {
    "write": {"write_error": fit_write_error, "pulse_count": fit_pulse_count},
    "relaxation": {"relaxation": fit_relaxation},
    "drift": {"drift": fit_drift},
    "read_noise": {"read_noise": fit_read_noise, "flicker": fit_flicker, "telegraph": fit_telegraph},
    "temperature": {"retention": fit_retention, "tcr": fit_tcr},
    "conduction": {"conduction": fit_conduction},
    "pulses": {
        "pulse_up": partial(fit_pulse_update, op="set"),
        "pulse_down": partial(fit_pulse_update, op="reset"),
    },
    "faults": {"faults": fit_faults},
    "endurance": {"window": fit_window, "endurance": fit_endurance},
}
"""The standard fits by what is measured."""


@dataclass(frozen=True)
class CellFit:
    """The laws that were fitted, by name, and why the others were not.

    >>> found = fit("cells.csv")
    >>> print(found)
    >>> found["write_error"].band("sigma_0")
    >>> device = found.device()
    """

    table: Measurements
    laws: Mapping[str, LawFit]
    absent: Mapping[str, str]

    def __getitem__(self, name: str) -> LawFit:
        if name in self.laws:
            return self.laws[name]
        if name in self.absent:
            raise DeviceError(f"{self.table.name}: {name} was not fitted: {self.absent[name]}")
        raise DeviceError(f"no law {name!r}; {nearest(name, self.laws)}")

    def __contains__(self, name: str) -> bool:
        return name in self.laws

    @property
    def name(self) -> str:
        """The name of the table without its suffix: that of the device."""
        return Path(self.table.name).stem

    @cached_property
    def window(self) -> tuple[float, float]:
        """Lowest and highest conductance (S): of the sidecar, else of the targets, else of the middle 98 % of all."""
        targets = self.table["g_target_S"]
        aimed = targets[np.isfinite(targets)]
        g = self.table["g_S"]
        ends = (aimed.min(), aimed.max()) if aimed.size else np.nanquantile(g, (0.01, 0.99))
        low, high = self.table.sidecar.g_min_S, self.table.sidecar.g_max_S
        return float(max(ends[0], 0.0)) if low is None else low, float(ends[1]) if high is None else high

    def to_toml(self) -> str:
        """The device file: a macro of the house around the measured cell, each figure with unit, source and grade."""
        from pim.devices.fitting.device_file import device_text

        return device_text(self)

    def device(self) -> Any:
        """The device, as `pim.load_device` reads it from `to_toml`.

        Raises DeviceError if a fitted figure is out of the range of its field.
        """
        from pim.devices.fitting.device_file import device_of

        return device_of(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the figures' points as plain values, ready for JSON."""
        head = {"table": self.table.name, "rows": len(self.table), "cells": int(self.table.cells.max()) + 1}
        return {**head, "laws": {name: _plain(law) for name, law in self.laws.items()}, "not_fitted": dict(self.absent)}

    def __str__(self) -> str:
        lines = [f"{self.table.name}: {len(self.table)} rows of {self.table.cells.max() + 1} cells"]
        for name, law in self.laws.items():
            held = "" if law.held_out is None else f", held-out log-likelihood {law.held_out:.4g} a datum"
            lines += ["", f"{name} ({law.kind}): {law.law}", f"  {law.cells} cells, {law.data} data{held}"]
            lines += [f"  {row}" for row in parameter_lines(law)]
            lines += [f"  note: {note}" for note in law.notes]
        if self.absent:
            lines += ["", "not fitted:", *(f"  {name}: {reason}" for name, reason in self.absent.items())]
        return "\n".join(lines)

    __repr__ = __str__


def parameter_lines(law: LawFit, most: int = 16) -> list[str]:
    """A line for each parameter with its band; of long lists the first ones."""
    shown, hidden = law.unknowns[:most], len(law.unknowns) - most
    rows = [
        f"{u.name:<20} {v:>12.5g} [{low:.5g}, {high:.5g}] {'' if u.unit == '1' else u.unit}".rstrip()
        for u, v, low, high in zip(shown, law.values, law.low, law.high, strict=False)
    ]
    return [*rows, f"and {hidden} more"] if hidden > 0 else rows


def _plain(law: LawFit) -> dict[str, Any]:
    """A fitted law in plain values."""
    number = lambda value: float(value) if np.isfinite(value) else None
    parameters = {
        u.name: {"value": number(v), "low": number(low), "high": number(high), "unit": u.unit, "meaning": u.doc}
        for u, v, low, high in zip(law.unknowns, law.values, law.low, law.high, strict=True)
    }
    return {
        "law": law.law,
        "kind": law.kind,
        "parameters": parameters,
        "covariance": [[number(value) for value in row] for row in law.covariance],
        "constants": {name: number(value) for name, value in law.constants.items()},
        "criteria": dict(law.criteria),
        "held_out_log_likelihood": law.held_out,
        "cells": law.cells,
        "data": law.data,
        "notes": list(law.notes),
    }


def fit_cells(
    data: str | Path | Measurements | Mapping[str, Any],
    what: str | Sequence[str] | None = None,
    *,
    importer: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> CellFit:
    """Fit everything that a table of measurements allows; faulty cells enter the fit of the faults alone.

    Args:
        data: a CSV or Parquet file (its columns: `pim.devices.fitting.columns`), the columns themselves, or a table.
        what: experiments to fit: write, relaxation, drift, read_noise, temperature, conduction, pulses, faults,
            endurance. None: all that the table allows.
        importer: the form of the file, if it is not the canonical one: arc, relax_tsv, keithley, b1500, pulse_pair,
            aihwkit.
        seed: of the bootstrap.
        progress: show a bar on standard error after two seconds.

    Returns:
        Parameters with covariance and 95 % bands, residuals, held-out likelihood, and the device they make.

    Raises:
        DeviceError: the file is wrong (with the line), an experiment is unknown, or one that was asked for is not in
            the table.

    Example:
        >>> fit_cells("cells.csv")["write_error"]["sigma_0"]
    """
    if isinstance(data, (str, Path)):
        table = read_measurements(data, importer, progress)
    else:
        table = data if isinstance(data, Measurements) else measurements(data)
    asked = list(EXPERIMENTS) if what is None else [what] if isinstance(what, str) else list(what)
    for experiment in asked:
        if experiment not in EXPERIMENTS:
            raise DeviceError(f"unknown experiment {experiment!r}; {nearest(experiment, EXPERIMENTS)}")
    rows = _rows_for(table)
    laws: dict[str, LawFit] = {}
    absent: dict[str, str] = {}
    named = [(experiment, name) for experiment in asked for name in EXPERIMENTS[experiment]]
    bar = tqdm(named, desc="fitting", unit="law", disable=not progress, delay=2)
    for experiment, name in bar:
        bar.set_postfix_str(name, refresh=False)
        try:
            laws[name] = EXPERIMENTS[experiment][name](rows.get(experiment, rows[""]), seed)
        except NotMeasured as reason:
            absent[name] = str(reason)
    for experiment in [] if what is None else asked:
        if not laws.keys() & EXPERIMENTS[experiment].keys():
            raise DeviceError(
                f"{table.name}: nothing to fit for {experiment}: {absent[next(iter(EXPERIMENTS[experiment]))]}"
            )
    if not laws:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
        raise DeviceError(f"{table.name}: nothing can be fitted to these rows: {reasons}")
    return CellFit(table, laws, absent)


def _rows_for(table: Measurements) -> dict[str, Measurements]:
    """The rows that an experiment is fitted to: faults to those of all cells, the others, under "", to sound cells.

    Readings of a sweep of the voltage are for the conduction alone.
    """
    swept, faulty = is_sweep(table), (fault_states(table) > 0)[table.cells]
    part = lambda kept: table if kept.all() else table.where(kept)
    return {"faults": part(~swept), "conduction": part(~faulty), "": part(~swept & ~faulty)}
