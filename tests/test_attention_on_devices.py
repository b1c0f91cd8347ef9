"""Attention on devices: keys and values written into analog arrays and digital macros, vector by vector.

An obvious oracle writes one token after another; what is drawn for a token depends on its document, head and position.
"""

from dataclasses import replace as changed
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_emulation import CONFIG, model, story  # noqa: F401
from test_golden_curves import device

from pim import written_arrays, written_codes
from pim.calibration import calibrate
from pim.devices.array_wires import ArrayWires
from pim.devices.bit_errors import BitErrorTable
from pim.devices.catalogue import preset
from pim.devices.cells.read_noise import AdditiveReadNoise
from pim.devices.cells.variation import Variation
from pim.devices.converters.mismatch import GainOffsetMismatch
from pim.devices.device import Device, replace
from pim.devices.errors import DeviceError
from pim.devices.macro import Ideal
from pim.devices.random import array_key, chip_key, root_key
from pim.emulation import emulated, hook, program_model
from pim.errors import StudyError
from pim.evaluation import evaluate
from pim.llm_workloads.model import load_model
from pim.llm_workloads.stories import story_text
from pim.llm_workloads.text import as_scored
from pim.llm_workloads.transformer import advance, forward, init_cache
from pim.mapping.errors import MappingError
from pim.mapping.plan import place
from pim.mapping.system import System
from pim.plan_checks import check_calibrated
from pim.scoring import score
from pim.streaming.scoring import score_streamed
from pim.tile_programming import tile_programmer
from pim.written_vectors import Site

EXACT = Device("exact", "test", "exact", Ideal(), {}, {})
KEY = chip_key(root_key(4), 0)
NOISE = AdditiveReadNoise(jnp.float32(0.02))


def placed(model, held, *, products=("qk", "pv")):  # noqa: F811
    """A model with nothing but attention on a device."""
    rules = [(f"layers.*.attention.{each}", "kv") for each in products]
    return place(model, System({"weights": EXACT, "kv": held}, rules))


def noisy() -> Device:
    """Arrays of 5 tokens' values and 6 tokens' keys, whose cells and converters err."""
    parts = {"rows": 5, "columns": 12, "cell.read_noise": NOISE, "dac.noise": 0.3, "adc.noise": 0.3}
    return replace(device(sigma=0.05, adc_bits=9.0, dac_bits=7.0), parts)


def mismatched() -> Device:
    """The same with converters that differ."""
    off = GainOffsetMismatch(jnp.float32(0.01), jnp.float32(0.5))
    return replace(noisy(), {"dac.mismatch": off, "adc.mismatch": off})


@partial(jax.jit, static_argnums=0)
def prefilled(config, params, devices, tokens, documents, key):
    return forward(config, params, tokens, documents=documents, matmul=hook(devices, key))


@partial(jax.jit, static_argnums=0)
def stepped(config, params, devices, token, cache, key):
    return advance(config, params, token, cache, matmul=hook(devices, key))


def logits(plan, key, tokens, documents=None):
    documents = jnp.arange(len(tokens), dtype=jnp.uint32) if documents is None else documents
    return prefilled(plan.config, program_model(plan, key), emulated(plan), tokens, documents, key)


@pytest.fixture(scope="module")
def tokens():
    return jnp.asarray(np.random.default_rng(2).integers(1, 48, (3, 13)), jnp.int32)


def drawn(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape), jnp.float32)


# Against what is exact ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["differential", "differential_digital", "offset", "offset_digital"])
def test_cells_at_their_targets_give_the_digital_logits(model, tokens, encoding):  # noqa: F811
    """Inputs of 16 bits are all that is lost."""
    held = replace(device(), {"rows": 5, "columns": 12, "encoding": encoding})
    found, exact = logits(placed(model, held), KEY, tokens), model.logits(tokens)
    assert 0 < np.abs(found - exact).max() < 2e-4 * np.abs(exact).max()


def named(documents, time):
    """(document, position) of tokens of the documents 5, 6, ..."""
    at = jnp.arange(5, 5 + documents, dtype=jnp.uint32)[:, None], jnp.arange(time, dtype=jnp.uint32)[None]
    return jnp.stack(jnp.broadcast_arrays(*at), axis=-1)


@partial(jax.jit, static_argnums=1)
def as_arrays(macro, keys, vectors, x):
    operator, matrices = ("attention.qk", jnp.swapaxes(vectors, -1, -2)) if keys else ("attention.pv", vectors)
    return written_arrays.product(macro, operator, matrices, x, named(len(x), 13), Site(KEY, 3, 7), None, None)


@partial(jax.jit, static_argnums=1)
def as_codes(macro, keys, vectors, x, key=KEY):
    operator, matrices = ("attention.qk", jnp.swapaxes(vectors, -1, -2)) if keys else ("attention.pv", vectors)
    return written_codes.product(macro, operator, matrices, x, named(len(x), 13), Site(key, 3, 7))


def oracle_cells(macro, keys, vectors, document, head, key):
    """Cells of a head in units of the window, [rows, outputs]: each token written into an array with nothing else."""
    dim = vectors.shape[1]
    each = macro.columns // 2 if keys else macro.rows
    macro = changed(macro, rows=min(macro.rows, dim)) if keys else macro  # rows that no key reaches are not made
    columns = []
    for t, vector in enumerate(np.asarray(vectors)):
        array, place_of = divmod(t, each)
        own = array_key(key, document=document, head=head, array=array)
        matrix = np.zeros((dim, each) if keys else (each, dim), np.float32)
        matrix[(slice(None), place_of) if keys else place_of] = vector / np.abs(vector).max()
        one_tile = tile_programmer(matrix.shape, macro, own, None, layer=3, operator=7, die=key)
        if not keys:
            columns.append(one_tile(jnp.int32(0), jnp.asarray(matrix), jnp.ones(dim)).signal[0, place_of])
            continue
        parts = []
        for tile in range(-(-dim // macro.rows)):
            part = matrix[tile * macro.rows : (tile + 1) * macro.rows]
            full = np.zeros((macro.rows, each), np.float32)
            full[: len(part)] = part
            programmed = one_tile(jnp.int32(tile), jnp.asarray(full), jnp.ones(each))
            parts.append(programmed.signal[0, : len(part), place_of])
        columns.append(jnp.concatenate(parts))
    return np.stack(columns, axis=1 if keys else 0)


def oracle_product(macro, keys, vectors, x, document, head, key):
    """Row tiles of `macro.rows` word lines, one conversion each over the full range of an array."""
    cells = oracle_cells(macro, keys, vectors, document, head, key)
    scale = np.abs(np.asarray(vectors)).max(axis=1)
    x = np.asarray(x) if keys else np.asarray(x) * scale
    full = np.abs(x).max(axis=1, keepdims=True)
    top, codes = 2.0 ** (float(macro.dac.bits) - 1) - 1, 2.0 ** (float(macro.adc.bits) - 1) - 1
    levels = np.round(x / full * top) / top
    lsb, y = macro.rows / codes, np.zeros((len(x), cells.shape[1]))
    for first in range(0, len(cells), macro.rows):
        part = slice(first, first + macro.rows)
        y += np.clip(np.round(levels[:, part] @ cells[part] / lsb), -codes, codes) * lsb
    return y * full * (scale if keys else 1.0)


@pytest.mark.parametrize("rows", [5, 12])
@pytest.mark.parametrize("keys", [True, False])
def test_the_product_is_that_of_vectors_written_one_by_one(keys, rows):
    """Two documents, two heads of groups of two queries, several arrays; keys longer than an array is high, or not."""
    macro = replace(device(sigma=0.05, adc_bits=9.0, dac_bits=7.0), {"rows": rows, "columns": 12}).model
    vectors = drawn(2, 2, 13, 8)
    x = drawn(2, 2, 26, 8) if keys else jnp.abs(drawn(2, 2, 26, 13))
    found = np.asarray(as_arrays(macro, keys, vectors, x))
    for b, h in np.ndindex(2, 2):
        wanted = oracle_product(macro, keys, vectors[b, h], x[b, h], 5 + b, h, KEY)
        close = np.isclose(found[b, h], wanted, atol=1e-4)
        assert close.mean() > 0.99, "a code of a converter may flip at a tie, and few do"
        assert np.abs(found[b, h] - wanted).max() < 0.05 * np.abs(wanted).max()


# The same draws however it is run -----------------------------------------------------------------------------------


def token_by_token(plan, tokens, capacity):
    """Logits as decoding finds them."""
    programmed, cache, parts = program_model(plan, KEY), init_cache(plan.config, len(tokens), capacity=capacity), []
    for t in range(tokens.shape[1]):
        part, cache = stepped(plan.config, programmed, emulated(plan), tokens[:, t : t + 1], cache, KEY)
        parts.append(part)
    return jnp.concatenate(parts, axis=1)


def test_decoding_token_by_token_equals_prefill_noise_included(model, tokens):  # noqa: F811
    plan = placed(model, noisy())
    found, whole = token_by_token(plan, tokens, 32), logits(plan, KEY, tokens)
    assert np.isclose(found, whole, atol=1e-4).mean() > 0.99, "an ADC code may flip at a tie, and few do"
    assert np.abs(whole - model.logits(tokens)).max() > 0.1  # it is noisy


def test_draws_do_not_depend_on_the_batch_or_its_order(model, tokens):  # noqa: F811
    plan, documents = placed(model, noisy()), jnp.asarray([7, 8, 9], jnp.uint32)
    together = logits(plan, KEY, tokens, documents)
    order = jnp.asarray([2, 0, 1])
    mixed = logits(plan, KEY, tokens[order], documents[order])
    assert np.isclose(mixed, together[order], atol=1e-4).mean() > 0.99
    twice, named_twice = tokens.at[2].set(tokens[0]).at[0, 9:].set(3), documents.at[2].set(7)
    twins = logits(plan, KEY, twice, named_twice)  # a document on its own in the batch, and one that goes on otherwise
    assert np.isclose(twins[2], together[0], atol=1e-4).mean() > 0.99
    assert np.isclose(twins[0, :9], together[0, :9], atol=1e-4).mean() > 0.99
    other = logits(plan, KEY, tokens, documents + 3)  # other documents are written into other cells
    assert np.abs(other - together).max() > 0.05


def test_heads_and_queries_in_turns_give_what_all_at_once_do(monkeypatch):
    held = replace(device(sigma=0.05), {"rows": 5, "columns": 12, "cell.read_noise": NOISE})
    run = lambda: as_arrays(held.model, True, drawn(3, 2, 13, 8), drawn(3, 2, 26, 8))
    whole = run()
    as_arrays.clear_cache()
    monkeypatch.setattr(written_arrays, "CELLS", 1000)
    monkeypatch.setattr(written_arrays, "SUMS", 100)
    np.testing.assert_allclose(run(), whole, atol=1e-5)


def test_queries_of_a_group_are_read_with_noise_of_their_own():
    """The same query three times over: the same cells, other reads; without read noise the same results."""
    queries = jnp.tile(drawn(1, 2, 13, 8), (1, 1, 3, 1))
    own, still = (replace(device(sigma=0.05), {"cell.read_noise": noise}).model for noise in (NOISE, None))
    read, quiet = (np.asarray(as_arrays(macro, True, drawn(1, 2, 13, 8), queries)) for macro in (own, still))
    noise = (read - quiet).reshape(2, 3, -1)
    for h, g in np.ndindex(2, 3):
        assert 0.02 < noise[h, g].std() < 1.0
        assert all(abs(np.corrcoef(noise[h, g], noise[other])[0, 1]) < 0.3 for other in ((1 - h, g), (h, (g + 1) % 3)))
    np.testing.assert_array_equal(quiet.reshape(2, 3, -1)[:, 0], quiet.reshape(2, 3, -1)[:, 2])


def test_tokens_that_are_not_seen_are_as_if_they_were_not_there():
    """Weights of zero select no word line: neither the cells there nor their converters and lines add anything."""
    unseen = np.zeros((26, 13), bool)
    unseen[:, 8:] = unseen[:9, :6] = True  # an array that nobody reads, and one that some read
    weights = jnp.where(jnp.asarray(unseen)[None, None], 0.0, jnp.abs(drawn(1, 2, 26, 13)))
    run = partial(as_arrays, mismatched().model, False)
    vectors = drawn(1, 2, 13, 8)
    found, other = run(vectors, weights), run(vectors.at[:, :, 8:].set(3.0), weights)
    np.testing.assert_array_equal(found, other)
    assert np.abs(found - run(vectors.at[:, :, 7].set(3.0), weights)).max() > 0.1
    assert not np.asarray(run(vectors, jnp.zeros_like(weights))).any()


def test_a_die_is_the_same_for_all_that_is_written_into_it():
    die = Variation(*map(jnp.float32, (0.3, 0.0, 0.0, 0.0)))
    exact, own = (replace(device(), {"cell.variation": law}).model for law in (None, die))
    found, whole = (as_arrays(macro, True, drawn(2, 2, 13, 8), drawn(2, 2, 13, 8)) for macro in (own, exact))
    factor = float(found[0, 0, 0, 0] / whole[0, 0, 0, 0])
    assert abs(factor - 1.0) > 0.01
    np.testing.assert_allclose(found, factor * np.asarray(whole), atol=1e-4)


# What it does to a model --------------------------------------------------------------------------------------------


def scores(plan, tokens=160, streamed=False):
    text = as_scored(story_text(2, 3), plan.model.tokenizer, context=40, max_tokens=tokens)
    found = (score_streamed if streamed else score)([plan], text, chips=1, seed=1, progress=False)
    return found.nll.sum() / found.tokens.sum(), found.digital.sum() / found.tokens.sum()


def test_more_write_noise_loses_more():
    stories = load_model("tiny-stories")
    losses = [scores(placed(stories, device(sigma=sigma, adc_bits=14.0)))[0] for sigma in (0.01, 0.1, 0.3)]
    _, exact = scores(placed(stories, device()))
    assert abs(losses[0] - exact) < 1e-3 < losses[1] - exact < 0.1 * (losses[2] - exact)


def test_streamed_evaluation_finds_the_same():
    plan = placed(load_model("tiny-stories"), replace(device(sigma=0.05, adc_bits=9.0), {"rows": 16, "columns": 32}))
    assert scores(plan, streamed=True)[0] == pytest.approx(scores(plan)[0], rel=2e-3)


def test_calibrated_ranges_keep_what_full_ranges_round_away(model, tokens):  # noqa: F811
    held = replace(device(adc_bits=8.0, input_range="calibrated"), {"rows": 32, "columns": 24})
    plan = placed(model, held)
    with pytest.raises(StudyError, match=r"layers.0.attention.qk \(and 5 more\) has no converter ranges"):
        check_calibrated(plan)
    calibrated = calibrate(plan, story(1))
    assert set(calibrated.ranges) == {f"layers.{i}.attention.{each}" for i in range(3) for each in ("qk", "pv")}
    check_calibrated(calibrated)
    exact = model.logits(tokens)
    full, own = (np.abs(logits(each, KEY, tokens) - exact).std() for each in (plan, calibrated))
    assert own < full / 3
    narrow = changed(calibrated, ranges={})
    np.testing.assert_array_equal(logits(narrow, None, tokens), logits(plan, None, tokens))


# Digital macros -----------------------------------------------------------------------------------------------------


def digital(**changes) -> Device:
    return replace(preset("sram-digital28"), changes)


def codes_of(values, bits):
    """Nearest codes, and what a code of one is worth, by the largest magnitude of each row."""
    top = 2 ** (bits - 1) - 1
    scale = np.abs(values).max(axis=-1, keepdims=True) / np.float32(top)
    return np.round(values / scale).astype(np.int64), scale


@pytest.mark.parametrize(("weight_bits", "input_bits"), [(8, 8), (4, 8), (6, 5)])
@pytest.mark.parametrize("keys", [True, False])
def test_codes_are_multiplied_exactly(weight_bits, input_bits, keys):
    macro = digital(weight_bits=weight_bits, input_bits=input_bits).model
    vectors, x = np.asarray(drawn(2, 2, 13, 8)), np.asarray(jnp.abs(drawn(2, 2, 26, 8 if keys else 13)))
    codes, scale = codes_of(vectors, weight_bits)
    scale = np.swapaxes(scale, -1, -2)
    inputs, full = codes_of(x if keys else x * scale, input_bits)
    sums = np.einsum("bhri,bhti->bhrt" if keys else "bhrt,bhti->bhri", inputs, codes)
    wanted = sums.astype(np.float32) * full * (scale if keys else 1.0)
    found = as_codes(macro, keys, jnp.asarray(vectors), jnp.asarray(x), key=None)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_bits_of_a_token_fail_wherever_the_text_ends():
    """Failing bits hang on document, head and position: more tokens, or other documents beside, change none."""
    table = BitErrorTable([0.5, 0.9], [3e-2, 1e-12])
    macro = digital(bit_errors=table, vdd=0.5, outputs=6, rows=8).model
    vectors, x = drawn(3, 2, 13, 8), drawn(3, 2, 13, 8)
    whole = np.asarray(as_codes(macro, True, vectors, x))
    clean = np.asarray(as_codes(macro, True, vectors, x, key=None))
    assert 0.02 < (whole != clean).mean() < 0.98
    np.testing.assert_array_equal(as_codes(macro, True, vectors[:, :, :9], x)[..., :9], whole[..., :9])
    np.testing.assert_array_equal(as_codes(macro, True, vectors[:1], x[:1]), whole[:1])
    weights = jnp.abs(drawn(3, 2, 13, 13))
    shorter = as_codes(macro, False, vectors[:, :, :9], weights.at[..., 9:].set(0.0)[..., :9])
    longer = as_codes(macro, False, vectors.at[:, :, 9:].set(5.0), weights.at[..., 9:].set(0.0))
    np.testing.assert_array_equal(shorter, longer)


def test_narrow_accumulators_saturate_as_they_do_for_weights():
    vectors, x = drawn(1, 1, 13, 8), drawn(1, 1, 13, 8)
    wide, narrow = (as_codes(digital(**some).model, True, vectors, x) for some in ({}, {"accumulator_bits": 12.0}))
    top = 2**11 * np.abs(np.asarray(vectors)).max(axis=-1)[:, :, None] * np.abs(np.asarray(x)).max(axis=-1)[..., None]
    assert (np.abs(narrow) <= top / 127**2 * (1 + 1e-6)).all()
    assert (np.abs(wide) > top / 127**2).any()


def test_decoding_on_a_digital_macro_equals_prefill(model, tokens):  # noqa: F811
    held = digital(bit_errors=BitErrorTable([0.5, 0.9], [1e-2, 1e-12]), vdd=0.5)
    plan = placed(model, held)
    found, whole = token_by_token(plan, tokens, 32), logits(plan, KEY, tokens)
    np.testing.assert_allclose(found, whole, atol=1e-5)
    exact = model.logits(tokens)
    clean = logits(placed(model, digital()), KEY, tokens)
    assert np.abs(clean - exact).max() < 0.05 * np.abs(exact).max() < np.abs(whole - exact).max()


def test_one_placement_says_what_is_lost_and_what_it_costs():
    rules = [("layers.*.attention.?[kv]", "kv"), ("*", "weights")]
    plan = place(load_model("tiny-stories"), System({"weights": preset("digital-28nm"), "kv": digital()}, rules))
    result = evaluate(plan, story_text(2, 2), tokens=96, chips=1, progress=False)
    assert 0 < result.points[0].kl < 1e-3
    operators = set(result.points[0].cost.decode.ledger.operators)
    assert {"layers.0.attention.qk", "layers.5.attention.pv"} <= operators
    with pytest.raises(StudyError, match="no matrix of tiny-stories is on an analog device"):
        result.snr()


# What is refused ----------------------------------------------------------------------------------------------------


def test_what_cannot_be_computed_is_refused_in_words(model, tokens):  # noqa: F811
    wired = replace(device(), {"wires": ArrayWires(word_line=2.0, bit_line=2.0)})
    with pytest.raises(DeviceError, match=r"kv: keys and values are written anew.*kv.wires = none"):
        program_model(placed(model, wired), KEY)
    narrow = replace(device(), {"columns": 1})
    with pytest.raises(MappingError, match="cannot hold one weight"):
        placed(model, narrow)
    unsigned = replace(device(), {"dac.code": "unsigned"})
    with pytest.raises(DeviceError, match="drives nothing below zero"):
        program_model(placed(model, unsigned), KEY)
    found = logits(placed(model, unsigned, products=("pv",)), KEY, tokens)  # weights of values have no sign
    assert np.abs(found - model.logits(tokens)).max() < 1e-3
    with pytest.raises(DeviceError, match="computed with codes of 2 to 8 bits"):
        program_model(placed(model, digital(weight_bits=12)), KEY)
