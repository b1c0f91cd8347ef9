"""Columns of a Parquet file, for which pyarrow is needed: it is no dependency of ours."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import numpy as np

from pim.devices.errors import DeviceError


def read_parquet(file: Path) -> Mapping[str, np.ndarray]:
    """The columns of a Parquet file: numbers as float64 with NaN where missing, the others as objects.

    Raises:
        DeviceError: pyarrow is not installed, there is no such file, or it is no Parquet.

    >>> read_parquet(Path("cells.parquet"))["g_S"]
    """
    if not file.is_file():
        raise DeviceError(f"no file {file}; give the path of a table of measurements")
    try:
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise DeviceError(
            f"{file.name}: Parquet is read by pyarrow, which is not installed: `python -m pip install pyarrow`, or "
            "save the table as CSV"
        ) from None
    try:
        table = parquet.read_table(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise DeviceError(f"{file.name} is not valid Parquet: {error}") from None
    found = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = np.asarray(column.to_numpy())
        found[name] = values.astype(float) if values.dtype.kind in "fiub" else values
    return found
