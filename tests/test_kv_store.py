"""Keys and values in a store beside what multiplies them: format, age, window and sinks, in accuracy and in cost.

An obvious oracle reads, for each pair of a query and a token, what age has left of the token, bit by bit.
"""

from dataclasses import replace as changed
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_attention_on_devices import EXACT, KEY, logits, token_by_token
from test_emulation import model, story  # noqa: F401

from pim.costs.capacity import fits, held_bytes
from pim.costs.costing import cost
from pim.devices.catalogue import component, preset
from pim.devices.device import Device, replace
from pim.devices.errors import DeviceError
from pim.devices.kv_store import Fading, key_value_store
from pim.devices.number_format import FLOATS
from pim.devices.random import array_key, fine_uniform, fold, name_id, site_key
from pim.devices.retention_errors import RetentionErrors
from pim.devices.stored_words import WORD_BITS
from pim.evaluation import evaluate, sweep
from pim.llm_workloads.attention import visible
from pim.llm_workloads.config import AttentionKind, Kept
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.model import load_model
from pim.llm_workloads.operators import Phase, products, vector_work
from pim.llm_workloads.stories import story_text
from pim.llm_workloads.text import as_scored
from pim.llm_workloads.transformer import forward, init_cache
from pim.mapping.errors import MappingError
from pim.mapping.plan import place
from pim.mapping.system import System
from pim.mapping.system_file import load_system
from pim.scoring import score
from pim.stored_keys import Stored, product
from pim.streaming.scoring import score_streamed

INTERFACE = component("dram-ddr4-interface").model
LEAKY = RetentionErrors(*map(jnp.float32, (1e6, 0.05, 1.0, 0.0, 1.0, 1.0)))
"""Half of the charged cells are lost after 50 ms."""
CONFIG = llama_config(512, 256, 768, 4, 8, 4, 32, max_position_embeddings=4096)
GPU = preset("gpu-a100")


def store(**fields: Any) -> Device:
    return key_value_store(**fields)


def beside(held: Device, device: Device = EXACT, **fields: Any) -> System:
    return System({"unit": device, "kv": held}, stores={"unit": "kv"}, **fields)


@pytest.fixture(scope="module")
def tokens():
    return jnp.asarray(np.random.default_rng(2).integers(1, 48, (3, 13)), jnp.int32)


# What a window keeps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "kept"), [(None, Kept(4, 2)), (3, Kept(4, 2)), (6, Kept(4, 2)), (4, None), (None, Kept(1))]
)
def test_what_is_counted_as_seen_is_what_the_mask_lets_through(own, kept):
    """Each count against the mask: prefill in one go, decoding, and some tokens in the middle."""
    kind = AttentionKind(windows=(own,), kept=(kept,))
    config = changed(llama_config(48, 32, 80, 1, 4, 2, 8), attention=kind)
    seen = config.seen(0)
    layer = {"attention.window": seen.window, "attention.sinks": seen.sinks}
    for first, new in [(0, 17), (9, 1), (16, 1), (3, 8)]:
        cache = jax.tree.map(lambda leaf: leaf[0], init_cache(config, 1, capacity=first + new))
        mask = np.asarray(visible(kind, layer, cache, first + jnp.arange(new, dtype=jnp.int32)[None]))[0]
        for t, row in enumerate(mask):
            at = first + t
            wanted = {j for j in range(at + 1) if j > at - seen.window or j < seen.sinks}
            assert set(np.flatnonzero(row)) == wanted
        phase = Phase(tokens=new, context=first + new)
        (scores,) = (p for p in products(config, phase) if p.path.endswith("qk"))
        assert scores.n_out == pytest.approx(mask.sum(axis=1).mean())
        (softmax,) = (work for work in vector_work(config, phase) if work.kind == "softmax")
        assert softmax.elements == pytest.approx(4 * mask.sum())
        assert scores.held == 2 * 8 * min(first + new, seen.window + seen.sinks + new - 1)


def test_a_window_is_that_of_a_model_which_has_it(model, tokens):  # noqa: F811
    own = changed(model, config=changed(model.config, attention=AttentionKind(windows=(4,) * 3)))
    layer = {**model.params["segments"][0], "attention.window": jnp.full(3, 4, jnp.int32)}
    wanted = forward(own.config, {**model.params, "segments": [layer]}, tokens)
    found = logits(place(model, beside(store(window=4))), None, tokens)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(logits(place(model, beside(store(window=4, sinks=2))), None, tokens) - wanted).max() > 0.05
    np.testing.assert_allclose(
        logits(place(model, beside(store(window=11, sinks=2))), None, tokens), model.logits(tokens), atol=1e-5
    )


def test_the_sinks_stay_and_the_middle_goes(model, tokens):  # noqa: F811
    """In one layer a token that is evicted changes nothing behind its window, a sink does."""
    one = changed(model, config=changed(model.config, num_hidden_layers=1))
    one = changed(
        one, params={**model.params, "segments": [jax.tree.map(lambda w: w[:1], model.params["segments"][0])]}
    )
    plan = place(one, beside(store(window=4, sinks=2)))
    found = logits(plan, None, tokens)
    middle = logits(plan, None, tokens.at[:, 3].set(7))
    sink = logits(plan, None, tokens.at[:, 1].set(7))
    np.testing.assert_allclose(middle[:, 7:], found[:, 7:], atol=1e-5)
    assert (np.abs(middle - found)[:, 3:7].max(axis=-1) > 1e-3).all()
    assert (np.abs(sink - found)[:, 1:].max(axis=-1) > 1e-4).all()


def test_the_window_follows_what_is_set_and_the_phase(model):  # noqa: F811
    plan = place(model, beside(store(window=8, sinks=2)))
    assert plan.config.window(0) == 10 and model.config.window(0) is None
    assert plan.replace({"kv.window": 4, "kv.sinks": 1}).config.window(2) == 5
    system = System(
        {"unit": EXACT, "far": EXACT, "kv": store(window=4)},
        [("*.attention.?[kv]", "far", "decode")],
        stores={"far": "kv"},
    )
    moved = place(model, system)
    assert moved.config.window(0) is None and moved.in_phase("decode").config.window(0) == 4


# What is stored -----------------------------------------------------------------------------------------------------


def drawn(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape), jnp.float32)


def named(documents, time):
    at = jnp.arange(5, 5 + documents, dtype=jnp.uint32)[:, None], jnp.arange(time, dtype=jnp.uint32)[None]
    return jnp.stack(jnp.broadcast_arrays(*at), axis=-1)


def stored_product(model, keys, vectors, x, ids, key=KEY):  # noqa: F811
    operator, matrices = ("attention.qk", jnp.swapaxes(vectors, -1, -2)) if keys else ("attention.pv", vectors)
    at = Stored("kv", None, matrices, jnp.int32(3), jnp.uint32(name_id(operator)))
    return product(at, {"kv": model}, operator, x, ids, key)


def as_words(vector, name):
    """The words of a vector as Python integers, and the value of each word."""
    vector = np.asarray(vector)
    if name in FLOATS:
        kinds = {"fp16": (np.float16, np.uint16), "fp32": (np.float32, np.uint32)}
        kind, word = kinds[name]
        return [int(w) for w in vector.astype(kind).view(word)], lambda w: float(np.array([w], word).view(kind)[0])
    bits = WORD_BITS[name]
    top = 2 ** (bits - 1) - 1
    scale = np.abs(vector).max() / np.float32(top)
    codes = [int(c) for c in np.round(vector / scale)]
    signed = lambda w: w - (1 << bits) if w >> (bits - 1) else w
    return [c & ((1 << bits) - 1) for c in codes], lambda w: signed(w) * scale


def oracle_read(law, name, vector, position, age, key):
    """A token's vector at an age (s), bit by bit: a charged cell whose limit is below the rate is lost."""
    words, value = as_words(vector, name)
    own = fold(key, np.uint32(position))
    anti = bool(law.anti(own, 1)[0])
    rate = float(changed(law, refresh_interval=jnp.minimum(jnp.float32(age), law.refresh_interval)).rate())
    out = []
    limits = np.stack(
        [np.asarray(fine_uniform(fold(own, np.uint32(b)), (len(words),))) for b in range(WORD_BITS[name])]
    )
    for d, word in enumerate(words):
        for bit in range(WORD_BITS[name]):
            charged = bool(word >> bit & 1) != anti
            if charged and limits[bit, d] < rate:
                word ^= 1 << bit
        out.append(value(word))
    return np.array(out, np.float32)


@pytest.mark.parametrize(
    ("keys", "name", "interval"), [(True, "int8", 1e6), (False, "int4", 0.04), (True, "int4", 0.04)]
)
def test_each_pair_of_query_and_token_has_the_bits_of_its_age(keys, name, interval):
    """Two documents, two heads, groups of two queries; with a refresh nothing is lost behind the first one."""
    law = changed(LEAKY, refresh_interval=jnp.float32(interval))
    held = store(format=name, retention=law, token_time=0.01).model
    vectors, ids = drawn(2, 2, 9, 8), named(2, 9)
    x = drawn(2, 2, 18, 8) if keys else jnp.abs(drawn(2, 2, 18, 9))
    found = np.asarray(stored_product(held, keys, vectors, x, ids))
    operator = np.uint32(name_id("attention.qk" if keys else "attention.pv"))
    for b, h in np.ndindex(2, 2):
        own = array_key(KEY, document=np.uint32(5 + b), head=np.uint32(h), array=0)
        own = site_key(own, layer=3, operator=operator, use="retention")
        for row in range(18):
            t = row % 9
            read = np.stack([
                oracle_read(law, name, vectors[b, h, j], j, 0.01 * max(t - j, 0), own) for j in range(9)
            ])  # fmt: skip
            if keys:
                np.testing.assert_allclose(
                    found[b, h, row, : t + 1], (read @ np.asarray(x[b, h, row]))[: t + 1], atol=1e-4
                )
            else:
                np.testing.assert_allclose(found[b, h, row], np.asarray(x[b, h, row]) @ read, atol=1e-4)


@pytest.mark.parametrize("name", ["bf16", "int4"])
def test_bits_are_lost_as_those_of_weights_are(name):
    """At one age a token reads as a column of a matrix does under the same law; at none all is as it was written."""
    held = store(format=name, retention=LEAKY, token_time=0.01).model
    vectors, key = drawn(6, 8), site_key(KEY, use="retention")
    words = held.write(vectors)
    cells = held.cells(key, 6, 8)
    found = np.asarray(held.aged(words, cells, jnp.full(6, 0.03, jnp.float32)))
    law = changed(LEAKY, refresh_interval=jnp.float32(0.03))
    for t in range(6):
        flipped = law.flip(words.words[t][:, None], name, fold(key, np.uint32(t)))[:, 0]
        wanted = held.values(words._replace(words=jnp.broadcast_to(flipped[None], words.words.shape)))[t]
        np.testing.assert_array_equal(found[t], wanted)
    np.testing.assert_array_equal(held.aged(words, cells, jnp.zeros(6)), held.values(words))
    assert np.isfinite(found).all() and (found != held.values(words)).any()


def test_what_leaks_is_left_by_age():
    held = store(format="fp32", retention=Fading(jnp.float32(0.05)), token_time=0.01).model
    vectors, ids = drawn(1, 2, 9, 8), named(1, 9)
    queries, weights = drawn(1, 2, 18, 8), jnp.abs(drawn(1, 2, 18, 9))
    age = np.maximum(np.arange(9)[:, None] - np.arange(9)[None], 0)
    left = np.tile(np.exp(-age * 0.01 / 0.05), (2, 1))
    scores = np.einsum("bhrd,bhtd->bhrt", queries, vectors) * left
    np.testing.assert_allclose(stored_product(held, True, vectors, queries, ids), scores, atol=1e-4)
    mixed = np.einsum("bhrt,bhtd->bhrd", np.asarray(weights) * left, vectors)
    np.testing.assert_allclose(stored_product(held, False, vectors, weights, ids, key=None), mixed, atol=1e-4)


def test_a_large_number_becomes_the_largest_of_its_format():
    vectors = jnp.asarray([[1e6, -1e6, 1.0]], jnp.float32)
    held = store(format="fp16").model
    np.testing.assert_array_equal(held.values(held.write(vectors)), [[65504.0, -65504.0, 1.0]])


# The same draws however it is run -----------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [EXACT, GPU])
def test_decoding_token_by_token_equals_prefill(model, tokens, unit):  # noqa: F811
    held = store(format="int8", retention=LEAKY, token_time=0.005, window=5, sinks=2)
    plan = place(model, beside(held, unit, rules=[("*.attention.?[kv]", "unit")]))
    found, whole = token_by_token(plan, tokens, 32), logits(plan, KEY, tokens)
    near = 1e-4 if unit is EXACT else 0.05  # float16 rounds partial sums of other lengths otherwise
    np.testing.assert_allclose(found, whole, atol=near * float(np.abs(whole).max()))
    assert np.abs(whole - logits(plan, None, tokens)).max() > 0.1  # bits are lost
    order = jnp.asarray([2, 0, 1])
    mixed = logits(plan, KEY, tokens[order], jnp.asarray([2, 0, 1], jnp.uint32))
    np.testing.assert_allclose(mixed, whole[order], atol=1e-4)


def test_streamed_evaluation_finds_the_same(model):  # noqa: F811
    held = store(format="int8", retention=LEAKY, token_time=0.001, window=12, sinks=2)
    text = as_scored(story(1), model.tokenizer, context=24, max_tokens=60)
    plan = place(model, beside(held))
    whole, streamed = (run([plan], text, chips=1, seed=1, progress=False) for run in (score, score_streamed))
    np.testing.assert_allclose(streamed.nll, whole.nll, rtol=1e-4)
    assert (whole.kl > 1e-4).all()


# What it costs ------------------------------------------------------------------------------------------------------


def rows(ledger, component, operator=""):
    chosen = [
        c == component and o.startswith(operator) for o, c in zip(ledger.operators, ledger.components, strict=True)
    ]
    return np.asarray(ledger.energy)[chosen].sum(axis=0), np.asarray(ledger.latency)[chosen].sum(axis=0)


def test_bytes_read_and_written_are_those_of_what_is_kept():
    """By hand: a step reads the window and the sinks of each layer, sequence and head, and writes one token."""
    held = store(format="int8", interface=INTERFACE, window=60, sinks=4, area=1e-6)
    step = cost(place(CONFIG, beside(held, GPU)), batch=3, context=2048)
    values = 4 * 3 * 4 * 2 * 32  # layers, sequences, heads, keys and values, their width
    each = 1 + 4 / 32
    energy, time = rows(step.ledger, "read")
    assert energy == pytest.approx(values * 64 * each * 8 * float(INTERFACE.read_energy_per_bit), rel=1e-5)
    written, longer = rows(step.ledger, "write")
    assert written == pytest.approx(values * each * 8 * float(INTERFACE.write_energy_per_bit), rel=1e-5)
    moved = values * 65 * each
    alone = 8 * float(INTERFACE.latency) + moved / float(INTERFACE.bytes_per_second)
    assert 0.5 * alone < time + longer < alone  # the products are done while they stream


def test_the_energy_is_the_sum_and_nothing_is_held_twice():
    held = store(format="fp16", interface=INTERFACE, area=1e-6, capacity=1e9)
    plan, plain = place(CONFIG, beside(held, GPU)), place(CONFIG, System({"unit": GPU}))
    run, without = cost(plan, prompt=256, generate=8), cost(plain, prompt=256, generate=8)
    assert run.energy == pytest.approx(float(run.ledger.energy.sum()), rel=1e-6)
    byte = 8 * float(INTERFACE.read_energy_per_bit)
    moved = (rows(run.decode.ledger, "read")[0] + rows(run.decode.ledger, "write")[0]) / byte
    saved = rows(without.decode.ledger, "memory")[0] - rows(run.decode.ledger, "memory")[0]
    assert saved / float(GPU.model.energy_per_byte) == pytest.approx(moved, rel=1e-3)
    kept = held_bytes(plan, 2, 1000)
    assert kept["kv"] == 2 * 2 * 4 * 4 * 32 * 1000 * 2
    assert kept["unit"] + kept["kv"] == pytest.approx(held_bytes(plain, 2, 1000)["unit"])


def test_what_streams_faster_than_it_is_multiplied_takes_no_time():
    def step(rate: float, **fields: Any):
        interface = changed(INTERFACE, bytes_per_second=jnp.float32(rate), latency=jnp.float32(0.0))
        held = store(format="fp16", interface=interface, area=0.0)
        return cost(place(CONFIG, beside(held, GPU, **fields)), batch=[2], context=512)

    quick, late, half = step(1e15), step(1e6), step(1e6, counts={"kv": 2})
    assert rows(quick.ledger, "read")[1] == 0
    assert (quick.bottleneck, late.bottleneck) == ("unit", "kv")
    assert rows(half.ledger, "read")[1] == pytest.approx(rows(late.ledger, "read")[1] / 2, rel=0.01)


def test_a_refresh_reads_and_writes_what_is_kept():
    law = changed(LEAKY, refresh_interval=jnp.float32(1e-3))
    held = store(format="int8", interface=INTERFACE, retention=law, token_time=0.01, standing_power=0.5, area=0.0)
    step = cost(place(CONFIG, beside(held, GPU)), batch=3, context=2048)
    kept = 4 * 3 * 4 * 2 * 32 * 2048 * (1 + 4 / 32)
    each = 8 * float(INTERFACE.read_energy_per_bit + INTERFACE.write_energy_per_bit)
    assert rows(step.ledger, "refresh")[0] == pytest.approx(kept * each / 1e-3 * float(step.latency), rel=1e-4)
    assert rows(step.ledger, "static", "kv")[0] == pytest.approx(0.5 * float(step.latency), rel=1e-5)


def test_room_is_that_of_the_store():
    token = 4 * 4 * 2 * 32 * 2
    small = store(format="fp16", interface=INTERFACE, capacity=1000.0 * token, area=0.0)
    plan = place(CONFIG, beside(small, GPU))
    np.testing.assert_array_equal(fits(plan, 1, np.array([999, 1000, 1001])), [True, True, False])
    np.testing.assert_array_equal(fits(plan.replace({"kv.window": 900}), 1, np.array([999, 4000])), True)
    assert any("do not fit" in note for note in cost(plan, batch=1, context=4000).notes)


def test_a_narrow_window_wears_its_cells_more_often():
    """Arrays hold keys and values themselves; a store without a format says what they keep."""
    unit = {"unit": preset("digital-28nm"), "kv": preset("rram-wan2022")}
    rules = [("layers.*.attention.?[kv]", "kv")]
    life = lambda system: cost(place(CONFIG, system), prompt=960, generate=64)
    whole = life(System(unit, rules))
    some = life(System({**unit, "policy": store(window=60, sinks=4)}, rules, stores={"kv": "policy"}))
    assert some.area < whole.area / 4
    spent, wide = ((run.lifetimes()["kv"].seconds or 0.0) / run.decode_latency for run in (some, whole))
    assert spent == pytest.approx(wide * 60 / 1024, rel=1e-3)


# What is lost, beside what is spent ---------------------------------------------------------------------------------


def test_a_narrower_window_and_fewer_bits_lose_more_and_cost_less():
    unit = preset("digital-28nm")
    plan = place(load_model("tiny-stories"), beside(store(format="int8", interface=INTERFACE, area=0.0), unit))
    found, text = {}, story_text(2, 4)
    sets = {"all": {}, "wide": {"kv.window": 24}, "narrow": {"kv.window": 6}, "int4": {"kv.format": "int4"}}
    for name, changes in sets.items():
        point = evaluate(plan.replace(changes), text, tokens=200, chips=1, progress=False).points[0]
        found[name] = point.kl, point.cost.energy_per_token
    assert found["all"][0] < 1e-3 < found["wide"][0] < found["narrow"][0]
    assert found["int4"][0] > 5 * found["all"][0]
    assert found["narrow"][1] < found["wide"][1] < found["all"][1] and found["int4"][1] < found["all"][1]


def test_a_store_is_swept_as_a_device_is(model):  # noqa: F811
    held = store(format="int8", interface=INTERFACE, retention=LEAKY, token_time=1e-4, area=0.0)
    plan = place(model, beside(held, preset("digital-28nm")))
    swept = sweep(plan, {"kv.token_time": [1e-6, 1e-2]}, story(1), tokens=60, chips=1, progress=False)
    near, far = np.asarray(swept["kl"]).reshape(2, -1).sum(axis=1)
    assert 0 <= near < 0.01 * far


# Files, and what is refused -----------------------------------------------------------------------------------------

FILE = """
name = "with-a-store"
summary = "a processor and a memory for keys and values"

[devices.gpu]
base = "gpu-a100"

[devices.kv]
name = "kv"
family = "memory"
summary = "DRAM for keys and values"

[devices.kv.device]
type = "KeyValueStore"
format = "int8"
capacity = 1e9
window = 1020
sinks = 4

[devices.kv.device.interface]
component = "dram-ddr4-interface"

[stores]
gpu = "kv"
"""


def test_a_file_says_as_much(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FILE)
    system = load_system(path)
    assert system.stores == {"gpu": "kv"} and system.devices["kv"]["interface.bytes_per_second"] == 25.6e9
    assert place(CONFIG, system).config.window(3) == 1024
    assert "zigzagdse" in system.citations()
    path.write_text(FILE.replace('gpu = "kv"', 'gpu = "kw"'))
    with pytest.raises(MappingError, match=r"mine.toml: stores.gpu names the device 'kw'.*kv"):
        load_system(path)
    path.write_text(FILE.replace('gpu = "kv"', "gpu = 3"))
    with pytest.raises(MappingError, match="stores must be a table of names"):
        load_system(path)


def test_what_makes_no_sense_is_refused_in_words(model):  # noqa: F811
    with pytest.raises(DeviceError, match="sinks = 4 without a window"):
        store(sinks=4)
    with pytest.raises(DeviceError, match="needs a format"):
        store(interface=INTERFACE)
    with pytest.raises(DeviceError, match="give token_time"):
        store(format="int8", retention=LEAKY)
    with pytest.raises(DeviceError, match="without correction"):
        store(format="int8", retention=changed(LEAKY, ecc_word_bits=64), token_time=1.0)
    with pytest.raises(DeviceError, match="is none of None, fp32"):
        replace(store(format="int8"), {"format": "int3"})
    held = store(format="int8")
    with pytest.raises(MappingError, match="'kv', which stores keys and values and multiplies nothing"):
        place(model, System({"kv": held, "unit": EXACT}, stores={"unit": "kv"}))
    with pytest.raises(MappingError, match="no store of keys and values"):
        place(model, System({"unit": EXACT, "other": GPU}, stores={"unit": "other"}))
    with pytest.raises(MappingError, match=r"in the cells that hold them: its store 'kv' can say what is kept"):
        place(model, System({"arrays": preset("sram-digital28"), "kv": held}, stores={"arrays": "kv"}))
    with pytest.raises(MappingError, match="in different stores"):
        place(model, System({"unit": EXACT, "far": EXACT, "kv": held}, [("*.pv", "far")], stores={"unit": "kv"}))
    with pytest.raises(MappingError, match="stores names the device 'none'"):
        System({"unit": EXACT, "kv": held}, stores={"none": "kv"})
