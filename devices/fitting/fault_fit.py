"""Faults: cells that do not do what they are told, by the state in which they stay.

A cell can be judged if it was asked for two states that are half the window apart, by targets or by set and reset
pulses. It is faulty if its conductances stay within a fifth of the window: stuck_lrs near the top, stuck_hrs near the
bottom, stuck_mid between. A cell whose forming failed is non_forming and nothing else.
"""

import numpy as np
from jaxtyping import Int

from pim.devices.fitting.columns import PULSES
from pim.devices.fitting.estimate import Estimator, LawFit, NotMeasured, Unknown, judge
from pim.devices.fitting.history import in_order
from pim.devices.fitting.table import Measurements
from pim.devices.fitting.weighted import proportion

LEAST_CELLS = 20
ASKED, MOVED, EDGE = 0.5, 0.2, 0.25
"""Shares of the window: asked for at least, moved at least by a sound cell, and what counts as its top or bottom."""
STATES = ("stuck_lrs", "stuck_hrs", "stuck_mid", "non_forming")


def fit_faults(table: Measurements, seed: int = 0) -> LawFit:
    """Share of cells in each state of `STATES`, with intervals of Clopper and Pearson.

    The window is `g_min_S` to `g_max_S` of the sidecar, else that of the targets, else where the middle 90 % of all
    conductances lie.

    Raises:
        NotMeasured: fewer than 20 cells can be judged.
    """
    state = fault_states(table)
    judged = np.flatnonzero(state >= 0)
    if len(judged) < LEAST_CELLS:
        raise NotMeasured(f"{len(judged)} cells were asked for states half the window apart; {LEAST_CELLS} are needed")
    is_in = (state[judged][:, None] == np.arange(1, len(STATES) + 1)).astype(float)
    cells = len(judged)
    which = state[judged]

    def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shares = np.append(1 - values.sum(), values)
        return np.log(np.clip(shares[which], 1 / (2 * cells), 1.0)), np.full(cells, np.nan)

    unknowns = tuple(Unknown(name, "1", f"share of cells that are {name}") for name in STATES)
    estimate = lambda weights: weights @ is_in / weights.sum(axis=1, keepdims=True)
    fit = judge(
        Estimator(unknowns, np.arange(cells), cells, estimate, predict), "faults",
        "each cell by itself, the same for all", seed, kind="shares", constants={"judged": float(cells)},
    )  # fmt: skip
    for i, count in enumerate(is_in.sum(axis=0).astype(int)):
        _, fit.low[i], fit.high[i] = proportion(int(count), cells)
    return fit


def fault_states(table: Measurements) -> Int[np.ndarray, "cells"]:
    """Of each cell: -1 not to be judged, 0 sound, 1, 2, ... the states of `STATES`."""
    rows = in_order(table)
    cell, g = rows.cells, rows["g_S"]
    count = int(cell.max(initial=-1)) + 1
    pulse, form = rows.is_op(*PULSES), rows["op"] == "form"
    after = np.maximum.accumulate(np.where(pulse, np.arange(len(rows)), -1))
    written = (after >= 0) & (cell[after] == cell) & np.isfinite(g) & ~form
    if not pulse.any():
        written = np.isfinite(g) & ~form
    if not written.any():
        return np.full(count, -1)
    aimed = np.isfinite(rows["g_target_S"])
    targets = rows["g_target_S"][aimed]
    bottom, top = np.quantile(g[written], (0.05, 0.95))
    if targets.size and np.ptp(targets) > 0:
        bottom, top = targets.min(), targets.max()
    bottom = rows.sidecar.g_min_S if rows.sidecar.g_min_S is not None else bottom
    top = rows.sidecar.g_max_S or top
    share = (g - bottom) / max(top - bottom, 1e-30)
    lowest, highest = _ends(cell[written], share[written], count)
    target = (rows["g_target_S"] - bottom) / max(top - bottom, 1e-30)
    least, most = _ends(cell[aimed], target[aimed], count)
    has = lambda mask: np.bincount(cell[mask], minlength=count) > 0
    asked = (most - least >= ASKED) | (has(rows["op"] == "set") & has(rows["op"] == "reset"))
    middle = (lowest + highest) / 2
    still = asked & (highest - lowest < MOVED)
    state = np.where(asked & has(written), 0, -1)
    state = np.where(still & (state == 0), np.select([middle > 1 - EDGE, middle < EDGE], [1, 2], 3), state)
    last_form = np.full(count, -1)
    np.maximum.at(last_form, cell[form], np.flatnonzero(form))
    failed = (last_form >= 0) & (rows["ok"][np.maximum(last_form, 0)] == 0)
    return np.where(failed, 4, state)


def _ends(cell: np.ndarray, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest value of each cell; 0 and 0 where there is none."""
    least, most = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(least, cell, values)
    np.maximum.at(most, cell, values)
    there = np.isfinite(most)
    return np.where(there, least, 0.0), np.where(there, most, 0.0)
