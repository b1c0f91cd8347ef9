"""Operators: golden counts of real models, counts that a recorded forward confirms, closed forms in arrays."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pim.llm_workloads.config import AttentionKind, FeedForward, Norm
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.operators import DYNAMIC, Phase, layer_path, operator_paths, products, vector_work
from pim.llm_workloads.positions import Learned
from pim.llm_workloads.transformer import advance, init_cache

GOLDEN = ("llama2-7b", "llama2-70b", "llama3-8b", "gpt3-175b", "opt-6.7b", "gpt2-124m", "mixtral-8x7b")
SMALL = llama_config(31, 24, 20, 2, 6, 2, 4)


def golden(shared):
    return json.loads((shared / "golden" / "llm_operators.json").read_text())


def config_of(hyper):
    """A model of the golden file; biases of its products and the embedding of its positions, where it has any."""
    names = ("V", "d", "ff", "L", "H", "Hkv", "dh")
    config = llama_config(*(hyper[name] for name in names), tie_word_embeddings=hyper["tied"])
    ffn = FeedForward(gated=hyper["n_ffn_mats"] == 3, experts=hyper.get("E", 0), experts_per_token=hyper.get("topk", 0))
    config = replace(config, ffn=ffn, norm=Norm("layer" if hyper["norm"] == "ln" else "rms"))
    config = replace(config, biases=config.static if hyper["bias"] else ())
    return replace(config, positions=Learned(hyper["pos"])) if hyper["pos"] else config


def flops(found, wanted):
    return 2 * sum(product.macs for product in found if wanted(product))


def is_linear(product):
    return not product.dynamic and product.path != "head"


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_parameter_counts(shared, name):
    model = golden(shared)["models"][name]
    config = config_of(model["hyper"])
    assert config.parameters == model["params"]["total"]
    found = products(config, Phase())
    assert sum(p.held for p in found if is_linear(p)) == model["params"]["matmul_weights_layers"]
    assert found[-1].held == model["params"]["lm_head"]


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("kind", ["prefill2048", "decode_ctx2048"])
def test_golden_operations_and_bytes(shared, name, batch, kind):
    """Closed formulas of another program, in fp16."""
    everything = golden(shared)
    case = everything["cases"].get(f"{name}/{kind}/b{batch}")
    if case is None:
        pytest.skip("not among the golden cases")
    config = config_of(everything["models"][name]["hyper"])
    tokens = 2048 if kind.startswith("prefill") else 1
    dense = products(config, Phase(batch, tokens, 2048, causal=False))
    causal = products(config, Phase(batch, tokens, 2048))
    every = products(config, Phase(batch, tokens, 2048, logits=tokens))
    assert flops(dense, is_linear) == case["flops_linear"]
    assert flops(dense, lambda p: p.dynamic) == case["flops_attention_dense"]
    assert flops(causal, lambda p: p.dynamic) == case["flops_attention_causal"]
    assert flops(dense, lambda p: p.path == "head") == case["flops_lm_head_last"]
    assert flops(every, lambda p: p.path == "head") == case["flops_lm_head_all"]
    assert 2 * sum(p.held for p in dense if p.dynamic) == case["bytes_kv_read"]
    assert 2 * sum(p.written for p in dense) == case["bytes_kv_write"]
    work = vector_work(config, Phase(batch, tokens, 2048, causal=False))
    assert sum(w.ops for w in work if w.kind == "softmax") == case["softmax_vector_ops_5_per_score"]


def test_the_figures_of_llama_2_7b():
    """2.6526e13 linear and 2.1990e12 dense attention operations for 2,048 tokens."""
    found = products(llama_config(32000, 4096, 11008, 32, 32, 32, 128), Phase(1, 2048, 2048, causal=False))
    assert flops(found, is_linear) == pytest.approx(2.6526e13, rel=1e-4)
    assert flops(found, lambda p: p.dynamic) == pytest.approx(2.1990e12, rel=1e-4)


@given(batch=st.integers(1, 4), past=st.integers(0, 9), tokens=st.integers(1, 9))
def test_causal_counts_are_exact(batch, past, tokens):
    """Against pairs counted one by one."""
    phase = Phase(batch, tokens, past + tokens)
    pairs = sum(past + t + 1 for t in range(tokens))
    assert phase.visible() * tokens == pytest.approx(pairs)
    scores = next(w for w in vector_work(SMALL, phase) if w.kind == "softmax")
    assert scores.elements == pytest.approx(batch * SMALL.num_attention_heads * pairs)
    found = {p.path: p for p in products(SMALL, phase)}
    for operator in DYNAMIC:
        macs = found[layer_path(0, operator)].macs
        assert macs == pytest.approx(batch * SMALL.num_attention_heads * pairs * SMALL.head_dim)


@given(past=st.integers(0, 9), tokens=st.integers(1, 9), window=st.integers(1, 12))
def test_windows_are_counted_pair_by_pair(past, tokens, window):
    phase = Phase(2, tokens, past + tokens)
    pairs = sum(min(window, past + t + 1) for t in range(tokens))
    config = replace(SMALL, attention=AttentionKind(windows=(None, window)))
    found = {p.path: p for p in products(config, phase)}
    for operator in DYNAMIC:
        assert found[layer_path(1, operator)].macs == pytest.approx(2 * config.num_attention_heads * pairs * 4)
        assert found[layer_path(0, operator)] == {p.path: p for p in products(SMALL, phase)}[layer_path(0, operator)]


def test_experts_share_the_tokens():
    config = replace(SMALL, ffn=FeedForward(experts=4, experts_per_token=2))
    one, few = (sum(p.macs for p in products(c, Phase(2, 8, 8)) if ".up" in p.path) for c in (SMALL, config))
    assert few == 2 * one
    work = {w.path: w.elements for w in vector_work(config, Phase(2, 8, 8))}
    assert work["layers.0.ffn.activation"] == 2 * 16 * config.intermediate_size


def test_the_forward_does_these_products():
    """Dense counts are the shapes that the hook sees, operator by operator."""
    seen = []

    def spy(operator, w, x, ids):
        seen.append((operator, w.shape, x.shape))
        return jnp.matmul(x, w)

    segment = {name: jnp.zeros((2, *shape)) for name, shape in SMALL.matrix_shapes.items()}
    segment |= {"input_norm": jnp.zeros((2, 24)), "post_norm": jnp.zeros((2, 24))}
    params = {"embed": jnp.zeros((31, 24)), "segments": [segment], "norm": jnp.zeros(24), "head": jnp.zeros((24, 31))}
    cache, tokens = init_cache(SMALL, batch=3, capacity=7), jnp.zeros((3, 5), jnp.int32)
    jax.eval_shape(lambda: advance(SMALL, params, tokens, cache, matmul=spy)[0])
    found = products(SMALL, Phase(batch=3, tokens=5, context=7, logits=5, causal=False))
    layer = [p for p in found if p.path.startswith("layers.1.")] + found[-1:]
    assert [p.path.removeprefix("layers.1.") for p in layer] == [operator for operator, _, _ in seen]
    for product, (_, matrix, inputs) in zip(layer, seen, strict=True):
        assert matrix[-2:] == (product.n_in, product.n_out)
        assert np.prod(inputs[:-1]) == product.copies * product.vectors
        assert product.held == np.prod(matrix)
        assert product.dynamic == (len(matrix) == 4)


def test_paths_name_every_operator_once():
    paths = [p.path for p in products(SMALL, Phase())]
    assert paths == operator_paths(SMALL)
    assert len(set(paths)) == len(paths) == 2 * 9 + 1
    work = [w.path for w in vector_work(SMALL, Phase())]
    assert len(set(work)) == len(work) == 2 * 7 + 1


def test_phases_may_be_arrays():
    """A decode of many tokens is one phase with an array of contexts."""
    contexts = 10 + np.arange(1, 5)
    together = products(SMALL, Phase(batch=2, tokens=1, context=contexts))
    for k, context in enumerate(contexts):
        for all_steps, one in zip(together, products(SMALL, Phase(2, 1, int(context))), strict=True):
            assert np.broadcast_to(all_steps.macs, 4)[k] == one.macs
            assert np.broadcast_to(all_steps.held, 4)[k] == one.held
    steps = [sum(w.ops for w in vector_work(SMALL, Phase(2, 1, int(context)))) for context in contexts]
    assert np.array_equal(sum(w.ops for w in vector_work(SMALL, Phase(2, 1, contexts))), np.array(steps))


def test_reading_in_pieces_adds_up():
    """Prefill of 8 tokens does the causal work of 3, then 5."""
    whole = products(SMALL, Phase(tokens=8, context=8, logits=8))
    pieces = [
        products(SMALL, Phase(tokens=3, context=3, logits=3)),
        products(SMALL, Phase(tokens=5, context=8, logits=5)),
    ]
    for one, first, second in zip(whole, *pieces, strict=True):
        assert one.macs == first.macs + second.macs and one.written == first.written + second.written


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ({"batch": 0}, "batch must be at least 1, not 0"),
        ({"tokens": 5, "context": 4}, "a context of 4 tokens cannot hold 5 new ones"),
        ({"tokens": 2, "context": 4, "logits": 3}, "logits of 3 tokens were asked for, but 2 are new"),
        ({"context": np.array([3, 0])}, "context must be at least 1"),
    ],
)
def test_phases_that_cannot_be(phase, message):
    with pytest.raises(WorkloadError, match=message):
        Phase(**phase)
