"""Whether matrices fit the arrays that there are: how many tiles each takes, and how much of them it fills."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pim.devices.digital_macro import DigitalMacro
from pim.devices.macro import AnalogMacro
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.operators import Phase, products
from pim.mapping.encoding import encoding_of
from pim.mapping.errors import MappingError
from pim.mapping.system import System
from pim.mapping.tiles import column_arrays, row_tiles

ARRAYS = (AnalogMacro, DigitalMacro)
"""Devices of arrays, each of which holds a tile of a matrix."""


@dataclass(frozen=True)
class Fit:
    """Arrays of one device that the matrices of weights take.

    Attributes:
        arrays: tiles of all matrices: each array holds one.
        values: weights in them.
        room: weights that so many arrays could hold.
        rows: of a tile: inputs that an array has.
    """

    arrays: int
    values: int
    room: int
    rows: int

    @property
    def utilisation(self) -> float:
        """Share of the arrays' room that is filled: the rest are tiles cut off at the ends of matrices."""
        return self.values / self.room if self.room else 0.0


def fit_of(
    config: ModelConfig,
    assignment: Mapping[str, str],
    name: str,
    macro: AnalogMacro | DigitalMacro,
    copies: Callable[[str], int] = lambda path: 1,
) -> Fit:
    """What the matrices of weights that are assigned to a device take of its arrays, each copy by itself.

    Args:
        config: shapes of the model.
        assignment: device of each operator.
        name: of the device.
        macro: its arrays.
        copies: how often the matrix of an operator is there, such as `System.copies_of`.

    >>> fit_of(plan.config, plan.assignment, "weights", plan.system.devices["weights"].model).arrays
    """
    here = [(path, shape) for path, shape in _static_shapes(config) if assignment[path] == name]
    shapes = [shape for path, shape in here for _ in range(copies(path))]
    arrays = sum(tiles_of(macro, *shape) for shape in shapes)
    return Fit(arrays, sum(n_in * n_out for n_in, n_out in shapes), arrays * _room(macro), rows_of(macro))


def tiles_of(macro: AnalogMacro | DigitalMacro, n_in: int, n_out: int) -> int:
    """Arrays that a matrix takes."""
    side = column_arrays(n_out, macro) if isinstance(macro, AnalogMacro) else -(-n_out // macro.outputs)
    return row_tiles(n_in, rows_of(macro)) * side


def rows_of(macro: AnalogMacro | DigitalMacro) -> int:
    """Inputs that a full array has."""
    return macro.rows if isinstance(macro, AnalogMacro) else macro.rows * macro.row_groups


def _room(macro: AnalogMacro | DigitalMacro) -> int:
    """Weights that a full array holds."""
    if isinstance(macro, DigitalMacro):
        return rows_of(macro) * macro.outputs
    return macro.rows * encoding_of(macro).outputs_per_array(macro.columns, macro.slices)


def _static_shapes(config: ModelConfig) -> list[tuple[str, tuple[int, int]]]:
    """Paths and shapes of all matrices of weights."""
    static = (product for product in products(config, Phase()) if not product.dynamic)
    return [(p.path, (int(p.n_in), int(p.n_out))) for p in static for _ in range(int(p.copies))]


def check_fit(config: ModelConfig, assignment: Mapping[str, str], system: System) -> None:
    """Raise MappingError where a device has fewer arrays than its matrices take; those not counted are enough."""
    for name, count in system.counts.items():
        macro: Any = system.devices[name].model
        if not isinstance(macro, ARRAYS):
            continue
        need = fit_of(config, assignment, name, macro, system.copies_of)
        if need.arrays > count:
            raise MappingError(
                f"{name}: the model needs {need.arrays:,} tiles of {need.rows} rows, has {count:,}: raise "
                f"counts.{name}, or send some operators elsewhere"
            )
