"""The verb `fit`: from measurements to a device, with its report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pim.devices.fitting.cell_fit import CellFit, fit_cells
from pim.devices.fitting.table import Measurements
from pim.files import OutputFolder, atomic_write


class Fit(CellFit):
    """What was fitted, with the files and figures of it.

    >>> found = pim.fit("cells.csv")
    >>> found["write_error"]["sigma_0"], found.device()
    >>> found.report("cells.html")
    """

    def report(self, path: str | Path = "fit.html") -> Path:
        """Write the report, one page of HTML that needs nothing from elsewhere; returns its path.

        Raises:
            StudyError: a folder stands where the file should go.
            OSError: the file cannot be written.
        """
        from pim.fit_report import fit_page

        atomic_write(path, fit_page(self))
        return Path(path)

    def save(self, folder: str | Path) -> list[Path]:
        """Write the device file (NAME.toml), fit.json and fit.html, all or none; returns their paths.

        Raises:
            DeviceError: a fitted figure is out of the range of its field in a device.
            StudyError, OSError: the files cannot be written.
        """
        from pim.fit_report import fit_page

        self.device()  # what is written can be read back
        files = {
            f"{self.name}.toml": self.to_toml(),
            "fit.json": json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n",
            "fit.html": fit_page(self),
        }
        return OutputFolder(Path(folder)).write(files)


def fit(
    data: str | Path | Measurements | Mapping[str, Any],
    what: str | Sequence[str] | None = None,
    *,
    importer: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Fit:
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
        Parameters with covariance and 95 % bands, residuals, held-out likelihood, the device they make, and a report.

    Raises:
        DeviceError: the file is wrong (with the line), an experiment is unknown, or one that was asked for was not
            measured.

    Example:
        >>> device = pim.fit("cells.csv").device()
    """
    found = fit_cells(data, what, importer=importer, seed=seed, progress=progress)
    return Fit(found.table, found.laws, found.absent)
