"""What writing costs: pulses, failures, time and energy of a cell, and of many that are written side by side."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from pim.devices.cells.cell import Cell
from pim.devices.cells.write_verify import WriteVerify
from pim.devices.errors import DeviceError
from pim.devices.random import root_key, site_key

CELLS = 40_000
"""Cells that are tried out, spread over the levels or evenly over the window."""


@dataclass(frozen=True)
class MatrixWriting:
    """What writing many cells costs. None: unknown."""

    cells: int
    parallel: int
    """Cells that are written side by side."""
    pulses: float | None
    """On all cells together."""
    energy: float | None
    """J."""
    time: float | None
    """s, where cells that are written side by side wait for the slowest of them."""

    def __str__(self) -> str:
        return (
            f"{self.cells:,} cells, {self.parallel:,} at a time: {_shown(self.pulses, 'pulses')}, "
            f"energy {_shown(self.energy, 'J')}, time {_shown(self.time, 's')}"
        )


@dataclass(frozen=True)
class Writing:
    """What `device.writing()` reports. None: unknown."""

    basis: str
    """Where the figures come from."""
    mean: float | None
    """Pulses a cell, those that were given up included."""
    median: float | None
    p95: float | None
    """Pulses that 95 % of the cells do not exceed."""
    failures: float | None
    """Share of the cells that were given up."""
    time: float | None
    """s a cell."""
    energy: float | None
    """J a cell."""
    done: tuple[float, ...] = ()
    """Share of the cells that take no more pulses than 1, 2, 3, ..."""

    def for_cells(self, cells: int, *, parallel: int) -> MatrixWriting:
        """Cost of writing `cells` cells, `parallel` at a time (those of a word line, say).

        Cells side by side get their pulses at the same times, and a group is done with its slowest cell; a cell that is
        done gets no more pulses.

        >>> pim.preset("rram-radar").writing().for_cells(2 * 512 * 512, parallel=64)
        """
        if cells < 0 or parallel < 1:
            raise DeviceError(f"cells = {cells}, parallel = {parallel}: give 0 cells or more, and 1 or more at a time")
        whole, rest = divmod(cells, parallel)
        rounds = whole * self._slowest(parallel) + (self._slowest(rest) if rest else 0.0)
        slower = None if self.time is None else self.time * rounds
        of_all = lambda each: None if each is None else each * cells
        return MatrixWriting(cells, parallel, of_all(self.mean), of_all(self.energy), slower)

    def _slowest(self, group: int) -> float:
        """Pulses of the slowest of a group over those of the mean cell: E[max] = sum over n >= 0 of 1 - F(n)^group."""
        if not self.done or not self.mean:
            return 1.0
        below = np.concatenate([[0.0], np.asarray(self.done)])[:-1]  # F(0), F(1), ...
        return float((1.0 - below**group).sum()) / self.mean

    def __str__(self) -> str:
        pulses = "pulses unknown"
        if self.mean is not None and self.failures is not None:
            pulses = (
                f"{self.mean:.3g} pulses (median {self.median:g}, 95 % within {self.p95:g}), "
                f"{self.failures:.2%} of the cells given up"
            )
        return f"{pulses}; a cell takes {_shown(self.time, 's')} and {_shown(self.energy, 'J')} ({self.basis})"


def cell_writing(cell: Cell, *, seed: int = 0) -> Writing:
    """Pulses, failures, time and energy of a cell: by its law of write-verify, else by what is known of it."""
    law, facts = cell.write_error, cell.facts
    if not isinstance(law, WriteVerify):
        basis = "no write-verify: time and energy of a write as its source gives them"
        known = [None if facts is None else getattr(facts, name) for name in ("write_latency", "write_energy")]
        time, energy = (None if value is None else float(value) for value in known)
        return Writing(basis, None, None, None, None, time, energy)
    free = replace(law, **dict.fromkeys(("pulse_width", "pulse_energy", "verify_time", "verify_energy")))
    pulses, success = _tried(replace(cell, write_error=free, facts=None), _targets(cell), root_key(seed))
    pulses = np.asarray(pulses, np.int64).ravel()
    mean = float(pulses.mean())
    of_pulses = lambda *parts: None if None in parts else mean * sum(map(float, parts))
    return Writing(
        f"write-verify, {CELLS:,} cells over {'its levels' if cell.levels is not None else 'its window'}",
        mean,
        float(np.median(pulses)),
        float(np.percentile(pulses, 95, method="inverted_cdf")),
        float(1.0 - np.asarray(success).mean()),
        of_pulses(law.pulse_width, law.verify_time),
        of_pulses(law.pulse_energy, law.verify_energy),
        tuple(float(share) for share in np.cumsum(np.bincount(pulses)[1:]) / pulses.size),
    )


def _targets(cell: Cell) -> jax.Array:
    """Targets (S) of an array of cells, over all states alike."""
    states = 100 if cell.levels is None else int(cell.levels)
    fractions = jnp.tile(jnp.linspace(0.0, 1.0, states), CELLS // states + 1)[:CELLS]
    return cell.targets(fractions.reshape(1, 1, 200, -1))


@jax.jit
def _tried(cell: Cell, targets, key):
    key_for: Callable[[str], jax.Array] = lambda use: site_key(key, use=use)
    written = cell.tries(targets, key_for)
    assert written is not None
    return written.pulses, written.success


def _shown(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:.4g} {unit}"
