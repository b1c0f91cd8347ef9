# ruff: noqa: F811 (fixtures of another file)
"""Writing text: how tokens are chosen, decoding under noise against prefill, where chips part, and how it is shown."""

import json
from dataclasses import replace as changed
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_emulation import CONFIG, Letters, model, plan, story, system  # noqa: F401 (fixtures)

import pim
from pim.decoding import decode
from pim.devices.catalogue import preset
from pim.devices.random import chip_key, choice_key, root_key, row_keys
from pim.emulation import emulated, hook, program_model
from pim.errors import StudyError
from pim.generation import MARK, generate
from pim.llm_workloads.checkpoint import load_checkpoint
from pim.llm_workloads.model import Model, load_model
from pim.llm_workloads.transformer import forward
from pim.mapping.plan import place
from pim.mapping.system import System
from pim.sampling import sampling
from pim.side_by_side import NARROWEST, side_by_side, wrapped

GREEDY = sampling()


# Choosing a token


def keys_of(count):
    rows = jnp.stack([jnp.zeros(count, jnp.uint32), jnp.arange(count, dtype=jnp.uint32)], axis=1)
    return row_keys(choice_key(root_key(0)), rows)


def test_without_temperature_the_likeliest_token():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(50, 7)), jnp.float32)
    for how in (GREEDY, sampling(0.0, top_k=3), sampling(0.0, top_p=0.5)):
        np.testing.assert_array_equal(how.choose(logits, keys_of(50)), logits.argmax(axis=1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_their_probability(temperature):
    """Chi-square over 20,000 draws: 6 degrees of freedom exceed 22.5 once in a thousand times."""
    logits = np.array([0.3, -1.0, 1.2, 0.0, -0.4, 0.8, -2.0], np.float32)
    draws = sampling(temperature).choose(jnp.broadcast_to(logits, (20_000, 7)), keys_of(20_000))
    expected = 20_000 * np.asarray(jax.nn.softmax(logits / temperature))
    assert ((np.bincount(draws, minlength=7) - expected) ** 2 / expected).sum() < 22.5


def obvious_allowed(logits, temperature, top_k, top_p):
    """One token after another, the likeliest first, until enough probability is together."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[: top_k or len(logits)]
    weights = np.exp((np.array([logits[i] for i in order], np.float64) - max(logits)) / temperature)
    chosen, together = set(), 0.0
    for i, weight in zip(order, weights / weights.sum(), strict=True):
        if chosen and together >= (top_p or 2.0):
            break
        chosen.add(i)
        together += weight
    return chosen


@given(
    logits=st.lists(st.integers(-30, 30).map(lambda n: n / 8), min_size=1, max_size=12),
    top_k=st.none() | st.integers(1, 14),
    top_p=st.none() | st.floats(0.05, 1.0).map(lambda p: round(p, 2) + 0.003),
)
def test_which_tokens_may_be_chosen(logits, top_k, top_p):
    top_p = None if top_p is None else min(top_p, 1.0)
    kept = sampling(0.7, top_k, top_p).allowed(jnp.asarray([logits], jnp.float32))
    expected = obvious_allowed(logits, 0.7, top_k, top_p)
    if top_p == 1.0:  # what is left of a probability of one is lost in rounding
        assert set(np.flatnonzero(kept[0])) <= expected
    else:
        assert set(np.flatnonzero(kept[0])) == expected


def test_a_choice_hangs_on_its_key_alone():
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(9, 40)), jnp.float32)
    how, keys = sampling(1.0, top_k=20, top_p=0.9), keys_of(9)
    alone = [int(how.choose(logits[i : i + 1], keys[i : i + 1])[0]) for i in range(9)]
    assert how.choose(logits, keys).tolist() == alone


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({}, "the likeliest token"),
        ({"temperature": 0.8}, "temperature 0.8"),
        ({"temperature": 1.0, "top_k": 40, "top_p": 0.95}, "temperature 1, top k 40, top p 0.95"),
    ],
)
def test_the_choice_in_words(how, words):
    assert sampling(**how).in_words() == words


# Decoding


@pytest.fixture(scope="module")
def stories(shared):
    return load_model(shared / "data" / "stories260K")


def test_greedy_text_of_a_real_model(shared, stories):
    golden = json.loads((shared / "golden" / "models.json").read_text())["stories260K"]
    written = generate(place(stories, System({"weights": preset("ideal")})), golden["prompt"], tokens=50)
    assert list(written.prompt_ids) == golden["prompt_ids"]
    assert list(written.digital.ids) == golden["greedy50_ids"]
    assert " " + written.prompt + written.digital.text == golden["greedy50_text"]


def test_greedy_text_of_a_real_gpt2(shared):
    """Positions from a table, characters as tokens, and no BOS."""
    golden = json.loads((shared / "golden" / "models.json").read_text())["char_gpt"]["greedy200_text"]
    characters = load_model(shared / "data" / "char_gpt")
    text = generate(place(characters, System({"weights": preset("ideal")})), golden[:6], tokens=len(golden) - 6)
    assert text.prompt == "ROMEO:" and len(text.prompt_ids) == 6
    assert text.prompt + text.digital.text == golden
    assert text.chips[0].part is None


@pytest.fixture(scope="module")
def written(plan):
    return generate(plan, "abcab", tokens=20, chips=2, seed=3, temperature=0.9, top_k=30)


@jax.jit
def prefill(params, devices, tokens, key):
    """The logits of a text that a chip reads at once."""
    return forward(CONFIG, params, tokens, matmul=hook(devices, key))


def test_what_is_written_is_what_prefill_of_it_would_choose_noise_included(plan, written):
    """The log probability of each token, and each choice, from one pass over the whole text."""
    front, count = len(written.prompt_ids), 20
    rows = jnp.stack([jnp.zeros(count, jnp.uint32), front + jnp.arange(count, dtype=jnp.uint32)], axis=1)
    keys = [chip_key(root_key(3), chip) for chip in range(2)]
    for of_chip, key, other in zip(written.chips, keys, reversed(keys), strict=True):
        params, whole = program_model(plan, key), jnp.asarray([[*written.prompt_ids, *of_chip.ids]], jnp.int32)
        logits = prefill(params, emulated(plan), whole, key)[0, front - 1 : -1]
        values = jax.nn.log_softmax(logits)[jnp.arange(count), whole[0, front:]]
        close = np.isclose(values, of_chip.log_probabilities, atol=1e-4)
        assert close.mean() > 0.9, "an ADC code may flip at a tie, and few do"
        chosen = sampling(0.9, 30).choose(logits, row_keys(choice_key(root_key(3)), rows))
        assert (np.asarray(chosen) == of_chip.ids)[close].all()
        logits = prefill(params, emulated(plan), whole, other)[0, front - 1 : -1]
        noisy = jax.nn.log_softmax(logits)[jnp.arange(count), whole[0, front:]]
        assert not np.isclose(noisy, values, atol=1e-4).any(), "the same cells, read with other noise"


def test_the_exact_model_judges_every_text(model, written):
    for text in (written.digital, *written.chips):
        logits = jax.nn.log_softmax(model.logits([[*written.prompt_ids, *text.ids]])[0])
        expected = logits[jnp.arange(5, 25), jnp.asarray(text.ids)]
        np.testing.assert_allclose(text.exact_log_probabilities, expected, atol=1e-4)
    np.testing.assert_allclose(written.digital.log_probabilities, written.digital.exact_log_probabilities, atol=1e-4)


def test_chips_part_where_they_first_write_something_else(written):
    assert all(chip.part is not None for chip in written.chips)
    for chip in written.chips:
        assert chip.ids[: chip.part] == written.digital.ids[: chip.part]
        assert chip.ids[chip.part] != written.digital.ids[chip.part]
        assert chip.text_at_part == chip.part, "a token of this tokenizer is a character"
        assert chip.marked.replace(MARK, "") == chip.text.replace(MARK, "")
    assert written.notes[0].startswith(f"chip 0 parts at token {written.chips[0].part} ({MARK}): ")


def test_the_same_seed_writes_the_same_and_more_chips_change_nothing(plan, written):
    options = {"tokens": 20, "temperature": 0.9, "top_k": 30}
    again = generate(plan, "abcab", chips=1, seed=3, **options)
    assert again.chips[0].ids == written.chips[0].ids and again.digital.ids == written.digital.ids
    other = generate(plan, "abcab", chips=1, seed=4, **options)
    assert other.digital.ids != written.digital.ids


def test_an_exact_system_writes_the_same(model):
    ideal = place(model, System({"weights": preset("ideal")}))
    same = generate(ideal, "abc", tokens=12, chips=2, temperature=1.5)
    assert all(chip.ids == same.digital.ids and chip.part is None for chip in same.chips)
    assert same.notes == ("chip 0 writes the same 12 tokens", "chip 1 writes the same 12 tokens")


def test_a_text_ends_at_the_token_that_ends_it(model):
    ideal = lambda tokenizer: place(changed(model, tokenizer=tokenizer), System({"weights": preset("ideal")}))
    whole = generate(ideal(Letters()), "abc", tokens=16).digital
    end = whole.ids[9]
    ended = generate(ideal(Letters(eos_id=end)), "abc", tokens=16)
    count = whole.ids.index(end) + 1
    assert ended.digital.ids == whole.ids[:count] and len(ended.digital.log_probabilities) == count
    assert ended.chips[0].ids == ended.digital.ids


def test_decoding_compiles_once_for_all_chips_temperatures_and_seeds(model):
    ideal = place(model, System({"weights": preset("ideal")}))
    generate(ideal, "abcd", tokens=9, temperature=0.3, top_p=0.5)
    before = decode._cache_size()
    generate(ideal, "bcda", tokens=9, chips=3, temperature=0.9, top_p=0.8, seed=5)
    assert decode._cache_size() == before


def test_a_result_keeps_its_protocol(written):
    read = json.loads(json.dumps(written.to_dict(), allow_nan=False))
    assert read["protocol"]["sampling"] == "temperature 0.9, top k 30"
    assert (read["protocol"]["seed"], read["protocol"]["chips"], read["protocol"]["tokens"]) == (3, 2, 20)
    assert read["protocol"]["calibration"]["tokens"] > 0
    assert read["chips"][1]["ids"] == list(written.chips[1].ids)
    assert read["digital"]["part"] is None and read["chips"][0]["part"] == written.chips[0].part


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 0}, "tokens = 0: give at least one"),
        ({"chips": 0}, "chips = 0: give at least one"),
        ({"temperature": -1.0}, "temperature = -1.0: give a number of at least 0"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"top_k": 0}, "top_k = 0: give at least one token"),
        ({"top_p": 0.0}, "top_p = 0.0: give a probability"),
        ({"top_p": 1.5}, "top_p = 1.5: give a probability"),
        ({"tokens": 61}, "61 tokens behind a prompt of 4 do not fit the 64 positions of random: ask for at most 60"),
        ({"prompt": "a" * 70}, "do not fit the 64 positions of random: shorten the prompt"),
    ],
)
def test_what_cannot_be_written(plan, options, message):
    with pytest.raises(StudyError, match=message):
        generate(plan, **{"prompt": "abc", "tokens": 20, **options})


def test_encoders_write_nothing():
    config, params = load_checkpoint(Path(__file__).parent / "golden" / "hf" / "bert")
    encoder = Model("small", config, params, Letters())
    with pytest.raises(StudyError, match=r"small is an encoder \(bert\): it reads whole texts and writes none"):
        generate(place(encoder, System({"weights": preset("ideal")})), "abc")


def test_plans_that_cannot_write(model, system):
    with pytest.raises(StudyError, match="needs the model's weights"):
        generate(place(CONFIG, system), "abc")
    with pytest.raises(StudyError, match=r"has no converter ranges: call pim\.calibrate"):
        generate(place(model, system), "abc", tokens=20)
    nothing = place(changed(model, tokenizer=Letters(bos_id=None)), System({"weights": preset("ideal")}))
    with pytest.raises(StudyError, match="the prompt is empty, and no token of this model begins a text"):
        generate(nothing, "")
    wrong = place(changed(model, tokenizer=Letters(bos_id=48)), System({"weights": preset("ideal")}))
    with pytest.raises(StudyError, match="token id 48, but the vocabulary of random is 48"):
        generate(wrong, "a")
    assert generate(place(model, System({"weights": preset("ideal")})), "", tokens=2).digital.text, "BOS is a beginning"


# Side by side

TEXT = st.text("ab é\n", max_size=60)


@given(texts=st.lists(st.tuples(st.just("name"), TEXT), min_size=1, max_size=5), width=st.integers(1, 160))
def test_columns_keep_to_the_width_and_lose_no_word(texts, width):
    lines = side_by_side(texts, width)
    assert max(map(len, lines)) <= width
    letters = lambda some: sorted(c for c in "".join(some) if c in "abé")
    fit = max(1, (width + 3) // (NARROWEST + 3))
    repeats = 1 if fit == 1 or len(texts) == 1 else -(-(len(texts) - 1) // (fit - 1))
    body = [line for line in lines if "name"[:width] not in line]
    assert letters(body) == letters([texts[0][1]] * repeats + [text for _, text in texts[1:]])


def test_two_texts_side_by_side():
    lines = side_by_side([("digital", "one two three four five six\n\nend"), ("chip 0", "one two")], 54)
    assert lines == [
        "digital                   | chip 0",
        "------------------------- | -------------------------",
        "one two three four five   | one two",
        "six                       |",
        "                          |",
        "end                       |",
    ]


def test_what_would_steer_a_terminal_is_not_printed():
    assert wrapped("a\x1b[31mb\tc\nd", 80) == ["a\N{REPLACEMENT CHARACTER}[31mb\N{REPLACEMENT CHARACTER}c", "d"]


def test_a_generation_prints_itself(written, monkeypatch):
    narrow, wide = written.shown(60).splitlines(), repr(written).splitlines()
    assert wide[0] == f"random on {written.protocol['system']}: temperature 0.9, top k 30, 2 chips, seed 3"
    assert wide[1] == "prompt: abcab"
    assert wide[3].split() == ["digital", "|", "chip", "0", "|", "chip", "1"]
    assert max(map(len, narrow)) <= 60 and max(map(len, wide)) <= 118
    assert pim.generate is generate
