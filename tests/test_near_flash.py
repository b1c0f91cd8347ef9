"""Near-flash devices: rounds of reads against a slow walk, what must add up, bits that are read wrong, files."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pim.costs.costing import cost
from pim.devices.arithmetic import FloatArithmetic, IntegerArithmetic
from pim.devices.catalogue import preset
from pim.devices.device import replace as changed
from pim.devices.errors import DeviceError
from pim.devices.near_flash import NearFlash, best_page_inputs
from pim.devices.page_errors import PageErrors, magnitude
from pim.devices.random import chip_key, root_key, site_key
from pim.devices.record import cast
from pim.devices.stored_words import code_values, code_words
from pim.errors import StudyError
from pim.evaluation import study
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.model import load_model
from pim.llm_workloads.operators import Phase, products
from pim.llm_workloads.stories import story_text
from pim.mapping.plan import place
from pim.mapping.system import System, inference_system

FLASH = preset("flash-cambricon-l")
KEY = site_key(root_key(0), use="bits")
ATTENTION = [("layers.*.attention.qk", "npu"), ("layers.*.attention.pv", "npu")]
CONFIG = llama_config(512, 256, 768, 4, 8, 4, 32, max_position_embeddings=4096)
reads = jax.jit(NearFlash.reads)


def flash(**fields) -> NearFlash:
    """A small flash, whose pages hold 8 inputs of 4 outputs."""
    values = {
        "channels": 2.0, "dies": 3.0, "planes": 2.0, "page_bytes": 32, "page_inputs": 8, "read_time": 30.0,
        "channel_rate": 4.0, "bytes_per_input": 1.0, "bytes_per_sum": 1.0, "core_rate": 1.6,
        "arithmetic": IntegerArithmetic("int8"),
    }  # fmt: skip
    return cast(NearFlash(**{**values, **fields}))


# Rounds -------------------------------------------------------------------------------------------------------------


def walked(device: NearFlash, pages: int, vectors: int, rounds: int, slices: int = 64) -> float:
    """When the last sum is there after so many rounds, channel by channel and slice by slice of a page.

    Rounds come one behind the other. A slice goes over the channel as soon as it is free, its page is in a register of
    another plane and the processor is ready for it; no slice delays a round.
    """
    inputs, outputs = device.page_shape
    rate, t_read, dies, planes = (float(getattr(device, f)) for f in ("channel_rate", "read_time", "dies", "planes"))
    t_in = vectors * inputs * float(device.bytes_per_input) / rate
    t_out = vectors * outputs * dies * float(device.bytes_per_sum) / rate
    macs = vectors * inputs * outputs
    t_core = 0.0 if device.core_rate is None else macs / float(device.core_rate)
    channels = float(device.channels)
    t_digest = 0.0 if device.processor_rate is None else macs * channels / float(device.processor_rate)
    period = max(t_in + max(t_read, t_core), t_in + t_out)
    busy = []  # of the channel, by rounds: inputs at its begin, sums of the last one before its end
    for i in range(rounds):
        busy += [(i * period, i * period + t_in), ((i + 1) * period - t_out, (i + 1) * period)]
    mine = max(pages - rounds * channels * dies, 0.0) / channels
    end = rounds * period + (t_core + t_out if rounds else 0.0)
    now, taken, side_by_side = 0.0, 0.0, dies * (planes - 1 if rounds else planes)
    for number in range(int(np.ceil(mine * slices - 1e-9))):
        page = number // slices
        now = max(now, t_read * (1 + page // side_by_side), taken + t_digest / slices)
        taken = now
        length = device.page_bytes / rate / slices
        for begin, stop in busy:
            if begin - 1e-9 <= now < stop - 1e-9 or now < begin < now + length - 1e-9:
                now = stop
        now += length
    return max(end, now)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 3), st.sampled_from([4.0, 1.0, 16.0]), st.sampled_from([None, 1.6, 8.0]),
    st.sampled_from([None, 1.0, 30.0]), st.sampled_from([1, 3, 12]),
)  # fmt: skip
def test_the_time_of_a_product_is_that_of_the_best_number_of_rounds(blocks, vectors, rate, core, processor, dies):
    """Slice by slice, over all numbers of rounds; what parts them are pages that are not whole, and sums of a round."""
    device = flash(channel_rate=rate, core_rate=core, processor_rate=processor, dies=float(dies))
    found = reads(device, 8 * 2, 4 * blocks, vectors)
    pages = 2 * blocks
    most = -(-pages // (2 * dies))
    slow = min(walked(device, pages, vectors, n) for n in range(most + 1))
    page = float(device.page_time(float(vectors)))
    fringe = page + float(device.drain(float(vectors))) + 4 * vectors * dies / rate
    assert abs(float(found.time) - slow) <= fringe + 1e-3 * slow
    assert float(found.rounds) <= most and float(found.die_pages + found.host_pages) == pages


@pytest.mark.parametrize("size", ["s", "m", "l"])
def test_many_pages_are_read_at_the_rate_of_dies_and_channels(size):
    device = preset(f"flash-cambricon-{size}").model
    found = reads(device, 16384, 65536)
    assert float(16384 * 65536 / found.time) == pytest.approx(float(device.rate), rel=0.05)
    alone = replace(device, split="dies")
    assert float(16384 * 65536 / reads(alone, 16384, 65536).time) == pytest.approx(float(alone.rate), rel=0.05)
    round_time = 3e-5 + device.page_inputs * 1e-9  # the paper's t_rc
    dies = float(device.channels * device.dies) * 16384 / round_time
    assert float(alone.rate) == pytest.approx(dies, rel=1e-5)


def test_a_matrix_of_two_pages_a_die_takes_two_rounds_and_its_last_page():
    found = reads(FLASH.model, 4096, 4096)
    assert (float(found.rounds), float(found.die_pages), float(found.host_pages)) == (2, 1024, 0)
    by_hand = 2 * (3e-5 + 512e-9) + 16384 / 8e8 + 32 * 16 * 1e-9
    assert float(found.time) == pytest.approx(by_hand, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 40))
def test_sharing_pages_is_no_slower_than_either_alone(n_in, n_out, vectors):
    times = {split: float(reads(flash(split=split, processor_rate=30.0), n_in, n_out, vectors).time)
             for split in ("shared", "dies", "processor")}  # fmt: skip
    assert times["shared"] <= min(times["dies"], times["processor"]) * (1 + 1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 8), st.sampled_from(["shared", "dies", "processor"]))
def test_every_page_is_multiplied_once_and_sums_and_inputs_are_sent_for_those_in_dies(n_in, n_out, vectors, split):
    found = reads(flash(split=split), n_in, n_out, vectors)
    pages = -(-n_in // 8) * -(-n_out // 4)
    assert float(found.die_pages + found.host_pages) == pages
    assert float(found.bytes_out) == float(found.die_pages) * vectors * 4
    assert float(found.bytes_in) == float(found.rounds) * 2 * vectors * 8
    assert {"dies": found.host_pages, "processor": found.die_pages}.get(split, 0.0) == 0.0


def test_a_processor_reads_matrices_of_many_vectors_and_dies_those_of_one():
    """A core of two multipliers is no place for a prompt."""
    one, many = (reads(FLASH.model, 4096, 4096, n) for n in (1, 512))
    assert float(one.die_pages) > float(one.host_pages) and float(many.die_pages) == 0
    assert float(many.time) < 512 * float(one.time) / 4


def test_the_best_pages_move_as_many_inputs_as_sums():
    for dies, weights in ((16, 16384), (4, 16384), (8, 4096)):
        best = best_page_inputs(dies, weights)
        traffic = lambda inputs, dies=dies, weights=weights: inputs + dies * weights / inputs
        assert all(traffic(best) <= traffic(2**k) for k in range(15))
    assert [preset(f"flash-cambricon-{s}").model.page_inputs for s in "sl"] == [256, 512]


# Costs --------------------------------------------------------------------------------------------------------------


def test_the_ledger_is_what_the_reads_take():
    found, work = cost(FLASH, (4096, 11008)), reads(FLASH.model, 4096, 11008)
    energy = dict(zip(found.ledger.components, np.asarray(found.ledger.energy), strict=True))
    assert float(found.latency) == pytest.approx(float(work.time), rel=1e-6)
    assert energy["page"] == pytest.approx(float(work.die_pages + work.host_pages) * 2.88e-6, rel=1e-5)
    bits = 8 * float(work.bytes_in + work.bytes_out + 16384 * work.host_pages)
    assert energy["channel"] == pytest.approx(bits * 5.5e-12, rel=1e-5)
    assert energy["mac"] == pytest.approx(4096 * 11008 * 3e-13, rel=1e-5)
    assert np.isnan(float(found.area)) and any("area" in note for note in found.notes)
    many = cost(FLASH, (np.array([64, 4096]), np.array([64, 11008])))
    assert np.asarray(many.latency)[1] == pytest.approx(float(found.latency), rel=1e-6)


def test_matrices_are_written_page_by_page_and_costs_can_be_printed():
    found = cost(FLASH, (4096, 4096))
    assert found.loading is not None
    by_hand = 7.5e-4 + max(1024 / 32 * 16384e-9, 1024 * 7.5e-4 / (32 * 16 * 2))
    assert float(found.loading.write_time) == pytest.approx(by_hand, rel=1e-5)
    assert np.isnan(found.loading.write_energy) and "unknown" in str(found)
    known = cost(changed(FLASH, {"program_energy": 1e-4}), (4096, 4096)).loading
    assert known is not None
    assert float(known.write_energy) == pytest.approx(1024 * (1e-4 + 8 * 16384 * 5.5e-12), rel=1e-5)


def test_a_plan_on_flash_is_the_sum_of_its_products():
    system = System({"flash": FLASH, "npu": preset("npu-cambricon")}, ATTENTION)
    step = cost(place(CONFIG, system), batch=1, context=100)
    static = [p for p in products(CONFIG, Phase(batch=1, tokens=1, context=100)) if not p.dynamic]
    time = sum(float(reads(FLASH.model, p.n_in, p.n_out).time) for p in static)
    assert step.busy["flash"] == pytest.approx(time, rel=1e-5)
    two = cost(place(CONFIG, replace(system, counts={"flash": 2})), batch=1, context=100)
    assert two.busy["flash"] < step.busy["flash"]


def test_keys_and_values_do_not_go_into_pages():
    with pytest.raises(StudyError, match="keys and values are written token by token"):
        cost(place(CONFIG, System({"flash": FLASH})), batch=1, context=100)


def test_a_flash_that_is_too_small_is_told():
    small = changed(FLASH, {"pages": 1.0})
    notes = cost(place(CONFIG, System({"flash": small, "npu": preset("npu-cambricon")}, ATTENTION)), context=9).notes
    assert not any("do not fit" in note for note in notes)  # 16 MiB hold it
    plan = place("llama-2-7b", System({"flash": small, "npu": preset("npu-cambricon")}, ATTENTION))
    assert any("6.15 GiB do not fit its 0.0156 GiB" in note for note in cost(plan, context=9).notes)


# Errors -------------------------------------------------------------------------------------------------------------


def codes(seed: int = 0, shape: tuple[int, int] = (40, 24)) -> np.ndarray:
    return np.clip(np.round(np.random.default_rng(seed).normal(0, 20, shape)), -127, 127).astype(np.int8)


def read(law: PageErrors, values: np.ndarray, page: tuple[int, int] = (16, 8), key=KEY) -> np.ndarray:
    words = code_words(jnp.asarray(values), "int8")
    return np.asarray(
        code_values(jax.jit(PageErrors.flip, static_argnums=(2, 4))(law, words, "int8", key, page), "int8")
    )


def law(rate: float, share: float = 0.0, **fields) -> PageErrors:
    return cast(PageErrors(rate, "outliers" if share else "none", share, **fields))


def test_so_many_bits_are_wrong_and_those_of_a_lower_rate_among_them():
    values = codes(shape=(400, 256))
    turned = {rate: values.view(np.uint8) ^ read(law(rate), values).view(np.uint8) for rate in (0.0, 0.01, 0.1)}
    assert not turned[0.0].any()
    for rate in (0.01, 0.1):
        share = np.unpackbits(turned[rate]).mean()
        assert share == pytest.approx(rate, abs=5 * np.sqrt(rate / turned[rate].size / 8))
    assert not (turned[0.01] & ~turned[0.1]).any()


def test_outliers_are_the_largest_of_each_page_and_others_stay_below_them():
    """Page by page, in plain words: the first largest keep their values but for votes that fail, others are cut off."""
    values, page, share = codes(1), (16, 8), 0.05
    wrong, found = read(law(0.02), values, page), read(law(0.02, share, copies=7), values, page)
    assert float(law(0.02, share, copies=7).majority_rate()) < 1e-5  # no vote fails
    for top in range(0, 40, 16):
        for left in range(0, 24, 8):
            here = (slice(top, min(top + 16, 40)), slice(left, left + 8))
            size = np.abs(values[here].astype(int)).ravel()
            order = np.argsort(-size, kind="stable")[: int(share * 128)]
            if top < 32:  # a page that the matrix fills; zeros beside it come last in any case
                kept = np.zeros(size.size, bool)
                kept[order] = True
                expected = np.where(np.abs(wrong[here].astype(int)).ravel() > size[order[-1]], 0, wrong[here].ravel())
                expected = np.where(kept, values[here].ravel(), expected)
                np.testing.assert_array_equal(found[here].ravel(), expected)
    assert (found != values).any() and np.abs(found.astype(int) - values).sum() < np.abs(
        wrong.astype(int) - values
    ).sum()


@pytest.mark.parametrize("copies", [1, 3, 5])
def test_a_bit_of_an_outlier_is_wrong_if_most_of_its_copies_are(copies):
    drawn = np.random.default_rng(2).random((200_000, copies)) < 0.1
    assert float(law(0.1, 0.5, copies=copies).majority_rate()) == pytest.approx((drawn.mean(1) > 0.5).mean(), abs=2e-3)
    values = codes(3, (400, 256))
    all_kept = read(law(0.1, 1.0, copies=copies), values).view(np.uint8) ^ values.view(np.uint8)
    assert np.unpackbits(all_kept).mean() == pytest.approx(
        float(law(0.1, 1.0, copies=copies).majority_rate()), abs=2e-3
    )


def test_words_of_floating_point_stay_finite_and_below_the_outliers():
    device = replace(FLASH.model, arithmetic=FloatArithmetic("fp16"), errors=law(0.05, 0.01))
    device = replace(device, page_bytes=256, page_inputs=16).prepare()
    w = jnp.asarray(np.random.default_rng(4).normal(size=(64, 32)), jnp.float32)
    (held,) = [leaf for leaf in jax.tree.leaves(device.hold(w, lambda use: KEY)) if leaf.size == w.size]
    assert np.isfinite(np.asarray(held, np.float32)).all()
    assert float(magnitude(jnp.uint32([0x7E00]), "fp16")[0]) == np.inf  # NaN


def test_a_chip_keeps_its_errors_and_a_nominal_matrix_has_none():
    device = replace(FLASH.model, errors=law(0.01, 0.01))
    w = jnp.asarray(np.random.default_rng(5).normal(size=(64, 48)), jnp.float32)
    of = lambda chip: np.asarray(device.hold(w, lambda use: site_key(chip_key(root_key(0), chip), use=use)).codes)
    np.testing.assert_array_equal(of(0), of(0))
    assert (of(0) != of(1)).any()
    exact = IntegerArithmetic("int8", "matrix").hold(w).codes
    np.testing.assert_array_equal(np.asarray(device.hold(w, None).codes), np.asarray(exact))


def test_a_language_model_needs_its_outliers():
    """The rate acts on what is emulated, and protection gives most of the loss back, as the paper has it."""
    plan = place(load_model("tiny-stories"), inference_system(FLASH, preset("digital-28nm")))
    swept = {"weights.errors.rate": [0.0, 3e-3], "weights.errors.outlier_share": [0.0, 0.01]}
    result = study(plan, swept, story_text(2, 1), tokens=64, chips=1, progress=False)
    loss = {tuple(map(float, point.changes.values())): float(point.kl) for point in result.points}
    assert loss[0.0, 0.0] == pytest.approx(loss[0.0, 0.01], abs=1e-6)
    assert loss[3e-3, 0.0] > 10 * loss[0.0, 0.0] and loss[3e-3, 0.01] < loss[3e-3, 0.0] / 3


# Files --------------------------------------------------------------------------------------------------------------


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(DeviceError, match="page_inputs = 7 does not divide the 32 weights of a page"):
        flash(page_inputs=7).prepare()
    with pytest.raises(DeviceError, match="planes = 1 leaves no plane"):
        changed(FLASH, {"planes": 1.0})
    with pytest.raises(DeviceError, match="none of shared, dies, processor"):
        changed(FLASH, {"split": "host"})
    with pytest.raises(DeviceError, match="out of range"):
        changed(FLASH, {"errors.rate": 0.7})
    assert changed(FLASH, {"planes": 1.0, "split": "dies"})["planes"] == 1.0
