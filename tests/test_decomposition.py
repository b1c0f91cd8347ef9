"""Scores taken from inputs instead of keys: the algebra, the counts, what it costs, and where it cannot be done."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pim.costs.attention_alternatives import attention_alternatives
from pim.costs.plan_cost import plan_cost
from pim.devices.catalogue import preset
from pim.devices.device import replace as replace_device
from pim.emulation import emulated
from pim.errors import StudyError
from pim.llm_workloads.checkpoint import load_checkpoint
from pim.llm_workloads.decomposition import decomposed, scores_from_inputs, why_not
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.known_shapes import known_shape
from pim.llm_workloads.operators import DYNAMIC, Phase, operator_paths, products
from pim.llm_workloads.transformer import digital_matmul, forward
from pim.mapping.errors import MappingError
from pim.mapping.fit import fit_of
from pim.mapping.plan import place
from pim.mapping.system import System
from pim.mapping.system_file import load_system

GPT2 = Path(__file__).parent / "golden" / "hf" / "gpt2"
SMALL = replace(
    known_shape("gpt2"), num_hidden_layers=2, hidden_size=192, num_attention_heads=3, num_key_value_heads=3,
    head_dim=64, intermediate_size=384, vocab_size=512,
)  # fmt: skip
UNIT, ARRAYS, ENGINE = preset("digital-28nm"), preset("rram-wan2022"), preset("sram-digital28")
HEAD = [("head", "digital")]


def on(scored: str) -> System:
    return System({"weights": ARRAYS, "digital": UNIT}, HEAD, scored=scored)


@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 9), st.integers(1, 5), st.integers(1, 7),
    st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_scores_from_inputs_are_scores_of_keys(kv_heads, group, dim, hidden, time, tokens, biased, seed):
    """Query heads that share a key head, biases, any shape: (q W^T) X^T + q b is q (X W + 1 b)^T."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape)
    query, weights, inputs = draw(kv_heads * group, time, dim), draw(hidden, kv_heads * dim), draw(tokens, hidden)
    bias = draw(kv_heads * dim) if biased else None
    keys = inputs @ weights + (bias[None] if biased else 0.0)
    expected = np.empty((kv_heads * group, time, tokens))
    for head in range(kv_heads * group):
        own = keys[:, (head // group) * dim : (head // group + 1) * dim]
        expected[head] = query[head] @ own.T
    cast = lambda x: None if x is None else jnp.asarray(x, jnp.float32)
    found = scores_from_inputs(cast(query), cast(weights), cast(inputs), cast(bias))
    np.testing.assert_allclose(np.asarray(found), expected, rtol=2e-4, atol=2e-4)


def test_in_a_model_every_layer_can_score_its_inputs():
    """Queries, inputs and matrices of a checkpoint's own forward, against the scores that it computes."""
    config, params = load_checkpoint(GPT2)
    seen = []

    def spy(operator, w, x, ids):
        y = digital_matmul(operator, w, x, ids)
        seen.append((operator, w, x, y))
        return y

    with jax.disable_jit():
        forward(config, params, jnp.arange(7, dtype=jnp.int32)[None] % config.vocab_size, matmul=spy)
    of = lambda name: [entry for entry in seen if entry[0] == name]
    assert len(of("attention.qk")) == config.num_hidden_layers
    biases = jnp.concatenate([segment["attention.k.bias"] for segment in params["segments"]])
    for k, qk, bias in zip(of("attention.k"), of("attention.qk"), biases, strict=True):
        found = scores_from_inputs(qk[2][0], k[1], k[2][0], bias)
        np.testing.assert_allclose(found, qk[3][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scored", ["inputs", "inputs_by_head"])
def test_counts_of_scoring_inputs(scored):
    """Weights stay as many; each query has hidden_size numbers; inputs are written once, or for each key head."""
    phase = Phase(batch=2, tokens=3, context=10)
    plain, other = ({p.path: p for p in products(config, phase)} for config in (SMALL, decomposed(SMALL, scored)))
    assert plain.keys() == other.keys()
    changed = {path for path in plain if plain[path] != other[path]}
    assert changed == {f"layers.{i}.attention.{end}" for i in range(2) for end in ("k", "qk")}
    k, qk = other["layers.1.attention.k"], other["layers.1.attention.qk"]
    assert k.held == k.copies * k.n_in * k.n_out == plain["layers.1.attention.k"].held
    assert k.macs == plain["layers.1.attention.k"].macs  # as many heads of queries as of keys
    assert qk.macs == plain["layers.1.attention.qk"].macs * SMALL.hidden_size / SMALL.head_dim
    copies = SMALL.num_key_value_heads if scored == "inputs_by_head" else 1
    assert qk.written == copies * 2 * 3 * SMALL.hidden_size
    assert qk.held == copies * 2 * 10 * SMALL.hidden_size
    assert qk.copies * qk.vectors == 2 * 3 * SMALL.num_attention_heads


def test_grouped_queries_go_back_through_the_matrix_of_their_key_head():
    config = replace(SMALL, num_attention_heads=6, num_key_value_heads=3, head_dim=32)
    k = {p.path: p for p in products(decomposed(config), Phase(batch=2))}["layers.0.attention.k"]
    assert (k.n_in, k.n_out, k.copies, k.vectors) == (32, 192, 3, 2 * 2)


def test_arrays_hold_the_part_of_each_key_head():
    """Of arrays with more word lines than a head has numbers, the rest is empty."""
    macro = replace_device(ARRAYS, {"rows": 128}).model
    paths = {path: "weights" if ".attention.k" in path else "other" for path in operator_paths(SMALL)}
    plain, parts = (fit_of(config, paths, "weights", macro) for config in (SMALL, decomposed(SMALL)))
    side = plain.arrays // (2 * 2)  # two layers, two tiles of 128 inputs
    assert parts.arrays == 2 * 3 * side and parts.values == plain.values
    assert parts.utilisation == pytest.approx(0.5)


def test_its_cost_is_that_of_what_it_does():
    """Arrays hold every weight, rows add up, and writing hides behind the products in front of it but no further."""
    plain, early = (plan_cost(place(SMALL, on(scored)), prompt=16, generate=4) for scored in ("keys", "inputs"))
    rows = lambda run, end, component: sum(
        float(t) for t, o, c in zip(run.ledger.latency, run.ledger.operators, run.ledger.components, strict=True)
        if o.endswith(end) and c == component
    )  # fmt: skip
    for run in (plain, early):
        assert float(np.sum(run.ledger.energy)) == pytest.approx(run.energy, rel=1e-5)
    writing = rows(plain, "attention.qk", "write")
    before = sum(rows(early, end, c) for end in ("attention.q", "attention.k") for c in set(early.ledger.components))
    lines = min(SMALL.hidden_size, ARRAYS.model.rows) / min(SMALL.head_dim, ARRAYS.model.rows)  # one after another
    assert rows(early, "attention.qk", "write") == pytest.approx(writing * lines - before, rel=0.01)
    assert rows(early, "attention.pv", "write") == pytest.approx(rows(plain, "attention.pv", "write"))
    silicon = early.silicon().arrays["weights"]
    assert silicon.values == plain.silicon().arrays["weights"].values
    assert early.loading is not None and plain.loading is not None
    cells = lambda run: float(np.sum(run.loading.loadings["weights"].cells))
    assert cells(early) == pytest.approx(cells(plain), rel=0.05)


def test_three_ways_to_the_same_scores():
    """No writes elsewhere; inputs once are as many cells as keys, for each head `heads` times as many."""
    found = attention_alternatives(SMALL, ARRAYS, ENGINE, UNIT, prompt=32, generate=8)
    keys, elsewhere, inputs, by_head = found.rows
    assert elsewhere.cells == 0 and np.isinf(elsewhere.life) and np.isfinite(keys.life)
    assert inputs.cells == pytest.approx(keys.cells)
    assert by_head.cells == pytest.approx(keys.cells * (1 + 3) / 2)  # values are written as ever
    assert keys.multiplications == elsewhere.multiplications < inputs.multiplications == by_head.multiplications
    assert elsewhere.prefill_energy < keys.prefill_energy and elsewhere.decode_latency < keys.decode_latency
    assert by_head.prefill_energy > keys.prefill_energy
    assert str(found).count("\n") == 4 and found.named("inputs in arrays") is inputs
    assert len(found.to_columns()["name"]) == 4


def test_rotated_keys_are_no_linear_function_of_inputs():
    llama = known_shape("llama-2-7b")
    with pytest.raises(WorkloadError, match="rotated by their positions"):
        place(llama, on("inputs"))
    normed = replace(SMALL, attention=replace(SMALL.attention, normed=True))
    assert why_not(normed) == "normalised" and why_not(SMALL) is None
    assert [row.name for row in attention_alternatives(
        replace(llama, num_hidden_layers=1), ARRAYS, ENGINE, UNIT, prompt=4, generate=2
    ).rows] == ["keys in arrays", "keys elsewhere"]  # fmt: skip


def test_it_is_priced_and_not_emulated():
    with pytest.raises(StudyError, match="priced, not emulated"):
        emulated(place(SMALL, on("inputs")))
    with pytest.raises(MappingError, match="did you mean inputs"):
        on("input")


def test_a_file_says_what_is_scored(tmp_path):
    text = 'name = "mine"\nsummary = "mine"\n[devices.a]\nbase = "rram-wan2022"\n[attention]\n'
    (tmp_path / "mine.toml").write_text(text + 'scored = "inputs"\n')
    assert load_system(tmp_path / "mine.toml").scored == "inputs"
    (tmp_path / "mine.toml").write_text(text + 'scores = "inputs"\n')
    with pytest.raises(MappingError, match=r"unknown key attention\.scores"):
        load_system(tmp_path / "mine.toml")
    assert load_system("reram-inputs").scored == "inputs_by_head"
    assert [path for path in DYNAMIC if path == "attention.qk"]
