"""Rows and columns moved around stuck cells: the best order, what stays as it was, and what it buys."""

from itertools import permutations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from test_attention_on_devices import EXACT
from test_emulation import model, story  # noqa: F401
from test_golden_curves import device

from pim import crossbar, streamed_product
from pim.devices.array_wires import ArrayWires
from pim.devices.cells.faults import StuckFaults
from pim.devices.device import replace
from pim.devices.errors import DeviceError
from pim.devices.random import chip_key, root_key, site_key
from pim.devices.remapping import Remapping
from pim.llm_workloads.text import as_scored
from pim.mapping.assignment import assigned
from pim.mapping.plan import place
from pim.mapping.remapped import Places, best_places, stuck_error
from pim.mapping.system import System
from pim.programming import program
from pim.scoring import score
from pim.streamed_product import Unprogrammed
from pim.tile_programming import program_tiles

KEY = chip_key(root_key(3), 0)
ORDERS = {
    "rows": Remapping("rows"),
    "columns": Remapping("columns"),
    "both": Remapping("both"),
    "spares": Remapping("columns", spare_outputs=2),
    "all": Remapping("both", spare_outputs=2),
}


def faults(lrs: float, hrs: float | None = None, **lines: float) -> StuckFaults:
    return StuckFaults(jnp.float32(lrs), jnp.float32(lrs if hrs is None else hrs), **lines)


def faulty(law: StuckFaults | None, remapping: Remapping | None = None, **fields):
    return replace(
        device(sigma=0.02), {"rows": 32, "columns": 48, "cell.faults": law, "remapping": remapping, **fields}
    )


def drawn(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape), jnp.float32)


# The assignment -----------------------------------------------------------------------------------------------------


@given(st.sampled_from([1, 2, 9]), st.sampled_from([0, 3]), st.integers(0, 10**6))
def test_the_assignment_is_that_of_scipy(rows, more, seed):
    rng = np.random.default_rng(seed)
    costs = np.where(rng.random((rows, rows + more)) < 0.5, 0.0, rng.integers(0, 9, (rows, rows + more))).astype(
        np.float32
    )
    found = np.asarray(assigned(jnp.asarray(costs)))
    assert len(set(found)) == rows and found.min() >= 0 and found.max() < rows + more
    assert costs[np.arange(rows), found].sum() == costs[linear_sum_assignment(costs)].sum()


def test_without_a_better_order_it_is_the_one_at_hand():
    np.testing.assert_array_equal(assigned(jnp.zeros((5, 7))), np.arange(5))
    np.testing.assert_array_equal(assigned(jnp.asarray([[1.0, 1.0], [2.0, 2.0]])), [0, 1])


# The order ----------------------------------------------------------------------------------------------------------


def tile(seed: int, rows: int, columns: int, spares: int):
    """Shares of the window, states of the cells and the weighing of two slices."""
    rng = np.random.default_rng(seed)
    share = jnp.asarray(rng.random((2, 2, rows, columns)), jnp.float32)
    states = jnp.asarray(rng.choice([-1, 0, 1], (2, 2, rows, columns + spares), p=[0.2, 0.6, 0.2]), jnp.int8)
    return jnp.asarray([1.0, 16.0]), share, states


@pytest.mark.parametrize("order", ["rows", "columns"])
def test_no_other_order_is_better(order):
    """All of them tried, one after the other."""
    weighing, share, states = tile(1, 4, 4, 2 if order == "columns" else 0)
    used = jnp.asarray([True, True, True, False]) if order == "rows" else jnp.ones(4, bool)
    remapping = Remapping(order, spare_outputs=2 if order == "columns" else 0)
    places = best_places(remapping, weighing, share, states, used, arrays=1)
    here = jnp.arange(4, dtype=jnp.int32)
    every = [
        Places(jnp.asarray(p), here) if order == "rows" else Places(here, jnp.asarray(p))
        for p in permutations(range(states.shape[-1 if order == "columns" else -2]), 4)
    ]
    least = min(float(stuck_error(weighing, share, states, used, some)) for some in every)
    assert float(stuck_error(weighing, share, states, used, places)) == pytest.approx(least, rel=1e-5)
    assert least < 0.8 * float(stuck_error(weighing, share, states, used))


@given(st.integers(0, 10**6))
def test_the_error_is_never_larger(seed):
    weighing, share, states = tile(seed, 5, 7, 3)
    used = jnp.arange(5) < 4
    before = float(stuck_error(weighing, share, states, used))
    errors = {}
    for name, remapping in {**ORDERS, "spares": Remapping("columns", 1), "all": Remapping("both", 1)}.items():
        places = best_places(remapping, weighing, share, states[..., : 7 + 3 * remapping.spare_outputs], used, arrays=3)
        assert len(set(np.asarray(places.rows))) == 5 and len(set(np.asarray(places.columns))) == 7
        array = np.where(
            np.asarray(places.columns) < 7, np.asarray(places.columns) // 3, np.asarray(places.columns) - 7
        )
        np.testing.assert_array_equal(array, np.arange(7) // 3)  # an output stays in its array
        errors[name] = float(stuck_error(weighing, share, states, used, places))
    assert all(error <= before * (1 + 1e-5) for error in errors.values())
    assert errors["both"] <= errors["rows"] * (1 + 1e-5) and errors["spares"] <= errors["columns"] * (1 + 1e-5)


# Cells --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(ORDERS))
def test_without_stuck_cells_nothing_changes(name):
    x, w = drawn(9, 70), drawn(70, 30)
    for law in (None, faults(0.0)):
        plain, moved = (
            program(w, faulty(law, remapping), key=KEY).matmul(x, key=None) for remapping in (None, ORDERS[name])
        )
        np.testing.assert_array_equal(plain, moved)


def test_the_stuck_cells_of_a_chip_are_those_that_they_were():
    """States are what `apply` gives, spares beside an array change none in it, and lines cross as they did."""
    law = faults(0.05, 0.1, rows_stuck_hrs=jnp.float32(0.1), columns_stuck_lrs=jnp.float32(0.1))
    key = site_key(KEY, use="fault")
    states = np.asarray(law.states(key, (2, 1, 20, 30)))
    np.testing.assert_array_equal(law.states(key, (2, 1, 20, 30), spares=4)[..., :30], states)
    g = np.asarray(law.apply(jnp.full((2, 1, 20, 30), 5.0), 1.0, 9.0, key))
    np.testing.assert_array_equal(g, np.select([states > 0, states < 0], [9.0, 1.0], 5.0))
    found = np.asarray(law.states(key, (2, 1, 20, 30), spares=200))[..., 30:]
    assert 0.12 < (found > 0).mean() < 0.18  # single cells and columns


@pytest.mark.parametrize("name", list(ORDERS))
def test_a_product_comes_nearer_to_the_exact_one(name):
    """One cell in fifty at either end; every chip is better off, and the same at every time."""
    x, w = drawn(64, 70), drawn(70, 30)
    exact = np.asarray(x) @ np.asarray(w)
    power = {}
    for told, remapping in {"none": None, name: ORDERS[name]}.items():
        chips = program(w, faulty(faults(0.01), remapping), key=KEY, chips=8)
        power[told] = ((np.asarray(chips.matmul(x, key=None)) - exact) ** 2).mean(axis=(1, 2))
    assert (power[name] < power["none"]).all()
    assert power[name].mean() < {"rows": 0.75, "columns": 0.75}.get(name, 0.6) * power["none"].mean()


def test_what_is_gained_is_what_was_made_least():
    """The squared error of the weights, read out with ideal cells, is the sum over tiles that the order makes least."""
    w = drawn(50, 30)
    law = faults(0.03)
    for remapping in (None, ORDERS["all"]):
        held = replace(faulty(law, remapping), {"cell.write_error": None, "dac.bits": 16.0})
        chip = program(w, held, key=KEY)
        read = np.asarray(chip.matmul(jnp.eye(50), key=None))
        scale = np.abs(np.asarray(w)).max(axis=0)
        found = (((read - np.asarray(w)) / scale) ** 2).sum()
        wanted, macro = 0.0, held.model
        for number in range(2):
            part = np.zeros((32, 30), np.float32)
            rows = np.asarray(w)[32 * number : 32 * (number + 1)] / scale
            part[: len(rows)] = rows
            share = jnp.stack([jnp.maximum(part, 0), jnp.maximum(-part, 0)])[:, None]
            key = site_key(KEY, tile=number, use="fault")
            spares = 0 if remapping is None else 2 * remapping.spare_outputs
            states, used = macro.cell.faults.states(key, share.shape, spares), jnp.arange(32) < len(rows)
            one = jnp.ones(1)
            places = None if remapping is None else best_places(remapping, one, share, states, used, 2)
            wanted += float(stuck_error(one, share, states, used, places))
        # both cells of a pair may be stuck: their errors then add up or cancel, which the sum leaves out
        assert found == pytest.approx(wanted, rel=0.15)


def test_the_same_cells_tile_by_tile():
    """A matrix that is programmed while it is multiplied by finds the order that it has when it is held."""
    macro, x, w = faulty(faults(0.01), ORDERS["all"]).model, drawn(9, 70), drawn(70, 30)
    rows, layer, operator = jnp.zeros((9, 2), jnp.uint32), jnp.int32(2), jnp.uint32(7)
    held = program_tiles(w, macro, KEY, None, layer=layer, operator=operator)
    streamed = streamed_product.matmul(Unprogrammed(w, layer, operator), macro, x, rows, KEY)
    np.testing.assert_allclose(streamed, crossbar.matmul(held, macro, x, rows, KEY), atol=1e-4)


def test_keys_and_values_stay_where_they_are(model):  # noqa: F811
    """Which tokens come is not known when one is written."""
    text = as_scored(story(1), model.tokenizer, context=24, max_tokens=20)
    found = []
    for remapping in (None, ORDERS["both"]):
        system = System({"unit": EXACT, "kv": faulty(faults(0.01), remapping)}, [("*.attention.?[kv]", "kv")])
        found.append(score([place(model, system)], text, chips=1, seed=1, progress=False).nll)
    np.testing.assert_array_equal(*found)


# What is refused ----------------------------------------------------------------------------------------------------


def test_what_makes_no_sense_is_refused_in_words():
    wires = ArrayWires(word_line=2.0, bit_line=2.0)
    with pytest.raises(DeviceError, match="with wires it matters where they are"):
        faulty(None, ORDERS["rows"], wires=wires)
    with pytest.raises(DeviceError, match="slicing = 'residual' finds each"):
        faulty(None, ORDERS["rows"], slicing="residual")
    with pytest.raises(DeviceError, match="leaves reference columns where they are"):
        faulty(None, ORDERS["columns"], encoding="offset")
    with pytest.raises(DeviceError, match="order = 'rows' moves none"):
        faulty(None, Remapping("rows", spare_outputs=1))
    with pytest.raises(DeviceError, match="'lines' is none of rows, columns, both"):
        replace(faulty(None, ORDERS["rows"]), {"remapping.order": "lines"})
