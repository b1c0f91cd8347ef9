"""The forward, on Llama: against an obvious implementation, Hugging Face's logits, and itself token by token."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import covering

from pim.llm_workloads.checkpoint import load_checkpoint
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.model import load_model
from pim.llm_workloads.text import as_scored
from pim.llm_workloads.transformer import advance, digital_matmul, forward, init_cache

SHAPES = {
    "vocab_size": 31,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 32,
}
CONFIG = llama_config(**SHAPES)
FORWARD = jax.jit(forward, static_argnums=0, static_argnames="matmul")
ADVANCE = jax.jit(advance, static_argnums=0)


def random_params(config, seed=0):
    draw = np.random.default_rng(seed)
    layers, hidden = config.num_hidden_layers, config.hidden_size

    def normal(*shape):
        return jnp.asarray(draw.normal(size=shape) / math.sqrt(shape[-2]), jnp.float32)

    def gain(*shape):
        return jnp.asarray(draw.uniform(0.5, 1.5, shape), jnp.float32)

    segment = {name: normal(layers, *shape) for name, shape in config.matrix_shapes.items()}
    segment |= {"input_norm": gain(layers, hidden), "post_norm": gain(layers, hidden)}
    params = {"embed": normal(config.vocab_size, hidden), "segments": [segment], "norm": gain(hidden)}
    return params if config.tie_word_embeddings else {**params, "head": normal(hidden, config.vocab_size)}


def random_tokens(config, batch, time, seed=1):
    return jnp.asarray(np.random.default_rng(seed).integers(0, config.vocab_size, (batch, time)), jnp.int32)


def obvious_logits(config, params, tokens):
    """One token, head and pair at a time, in float64."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def norm(x, gain):
        return x / np.sqrt((x**2).mean() + config.norm.eps) * gain

    def turned(x, position):
        half = len(x) // 2
        out = x.copy()
        for i in range(half):
            angle = position * config.positions.theta ** (-2 * i / len(x))
            out[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
            out[i + half] = x[i + half] * math.cos(angle) + x[i] * math.sin(angle)
        return out

    stream = [p["embed"][token] for token in np.asarray(tokens)]
    for layer in range(config.num_hidden_layers):
        w = {name: leaf[layer] for name, leaf in p["segments"][0].items()}
        keys, values = [], []
        for position, x in enumerate(stream):
            h = norm(x, w["input_norm"])
            q, k, v = ((h @ w[f"attention.{m}"]).reshape(-1, config.head_dim) for m in "qkv")
            keys.append([turned(head, position) for head in k])
            values.append(v)
            mixed = []
            for head, query in enumerate(q):
                group = head // config.group
                scores = np.array([turned(query, position) @ key[group] for key in keys]) / math.sqrt(config.head_dim)
                weights = np.exp(scores) / np.exp(scores).sum()
                mixed.append(sum(a * value[group] for a, value in zip(weights, values, strict=True)))
            x = x + np.concatenate(mixed) @ w["attention.o"]
            h = norm(x, w["post_norm"])
            gate = h @ w["ffn.gate"]
            stream[position] = x + (gate / (1 + np.exp(-gate)) * (h @ w["ffn.up"])) @ w["ffn.down"]
    head = p["head"] if "head" in p else p["embed"].T
    return np.stack([norm(x, p["norm"]) @ head for x in stream])


@pytest.mark.parametrize(("tied", "heads"), covering([False, True], [(6, 2), (4, 4), (4, 1)]))
def test_forward_equals_an_obvious_one(tied, heads):
    heads, kv_heads = heads
    config = llama_config(31, 24, 20, 2, heads, kv_heads, 4, rope_theta=50.0, tie_word_embeddings=tied)
    params, tokens = random_params(config), random_tokens(config, 2, 9)
    expected = np.stack([obvious_logits(config, params, row) for row in tokens])
    np.testing.assert_allclose(FORWARD(config, params, tokens), expected, atol=2e-5)


def test_hugging_face_logits_whole_and_token_by_token(shared):
    folder = shared / "data" / "hf_parity" / "llama"
    config, params = load_checkpoint(folder)
    with np.load(folder / "io.npz", allow_pickle=False) as golden:
        ids, logits, decoded = (golden[name] for name in ("input_ids", "logits", "decode_logits"))
    tokens = jnp.asarray(ids, jnp.int32)
    np.testing.assert_allclose(FORWARD(config, params, tokens), logits, atol=1e-4)
    cache, found = init_cache(config, batch=2, capacity=16), []
    for t in range(tokens.shape[1]):
        step, cache = ADVANCE(config, params, tokens[:, t : t + 1], cache)
        found.append(step)
    np.testing.assert_allclose(jnp.concatenate(found, axis=1), decoded, atol=1e-4)


def test_prefill_and_decode_equal_the_forward_of_the_whole():
    params, tokens = random_params(CONFIG), random_tokens(CONFIG, 2, 8)
    whole = FORWARD(CONFIG, params, tokens)
    cache = init_cache(CONFIG, 2, capacity=8)
    parts = []
    for piece in (tokens[:, :4], tokens[:, 4:5], tokens[:, 5:6], tokens[:, 6:]):
        logits, cache = ADVANCE(CONFIG, params, piece, cache)
        parts.append(logits)
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, atol=2e-5)
    assert (cache.position == 8).all()


def test_sequences_of_one_cache_may_have_read_different_lengths():
    params, tokens = random_params(CONFIG), random_tokens(CONFIG, 2, 8)
    cache = init_cache(CONFIG, 2, capacity=8)
    _, cache = ADVANCE(CONFIG, params, tokens[:, :6], cache)
    back = replace(cache, position=cache.position.at[:, 1].set(4))
    logits, _ = ADVANCE(CONFIG, params, jnp.stack([tokens[0, 6:8], tokens[1, 4:6]]), back)
    whole = FORWARD(CONFIG, params, tokens)
    np.testing.assert_allclose(logits[0], whole[0, 6:8], atol=2e-5)
    np.testing.assert_allclose(logits[1], whole[1, 4:6], atol=2e-5)


def test_later_tokens_and_padding_change_nothing():
    params, tokens = random_params(CONFIG), random_tokens(CONFIG, 2, 8)
    other = tokens.at[:, 6:].set(0)
    whole, padded = FORWARD(CONFIG, params, tokens), FORWARD(CONFIG, params, other)
    np.testing.assert_array_equal(whole[:, :6], padded[:, :6])
    assert not np.allclose(whole[:, 6:], padded[:, 6:])


def test_layers_may_be_split_into_segments():
    params, tokens = random_params(CONFIG), random_tokens(CONFIG, 2, 8)
    (stacked,) = params["segments"]
    split = [{name: leaf[a:b] for name, leaf in stacked.items()} for a, b in ((0, 1), (1, 3))]
    np.testing.assert_allclose(
        FORWARD(CONFIG, {**params, "segments": split}, tokens), FORWARD(CONFIG, params, tokens), atol=1e-6
    )


def test_every_product_goes_through_the_hook_with_names_of_its_tokens():
    """Each token's id is (document, position) whether it comes in prefill or in decode."""
    config = llama_config(31, 24, 20, 1, 6, 2, 4)
    params, tokens = random_params(config), random_tokens(config, 2, 4)
    documents = jnp.array([7, 5], jnp.uint32)
    seen = []

    def spy(operator, w, x, ids):
        seen.append((operator, np.shape(w), x.shape))
        jax.debug.callback(lambda found: named.append(np.asarray(found)), ids)
        return digital_matmul(operator, w, x, ids)

    named = []
    forward(config, params, tokens, documents=documents, matmul=spy)
    jax.effects_barrier()
    expected = np.stack(np.broadcast_arrays(np.array([[7], [5]]), np.arange(4)[None, :]), axis=-1)
    assert len(named) == 10 and all((found == expected).all() for found in named)
    assert seen == [
        ("attention.q", (24, 24), (2, 4, 24)),
        ("attention.k", (24, 8), (2, 4, 24)),
        ("attention.v", (24, 8), (2, 4, 24)),
        ("attention.qk", (2, 2, 4, 4), (2, 2, 12, 4)),
        ("attention.pv", (2, 2, 4, 4), (2, 2, 12, 4)),
        ("attention.o", (24, 24), (2, 4, 24)),
        ("ffn.gate", (24, 20), (2, 4, 24)),
        ("ffn.up", (24, 20), (2, 4, 24)),
        ("ffn.down", (20, 24), (2, 4, 20)),
        ("head", (24, 31), (2, 4, 24)),
    ]
    named.clear()
    cache = init_cache(config, 2, 4, documents)
    for t in range(2):
        _, cache = advance(config, params, tokens[:, t : t + 1], cache, matmul=spy)
        jax.effects_barrier()
        assert all((found == expected[:, t : t + 1]).all() for found in named)
        named.clear()


def test_matrices_are_opaque_to_the_forward():
    """A hook may be given any record in place of a matrix; here: a matrix and its scale."""
    params, tokens = random_params(CONFIG), random_tokens(CONFIG, 2, 8)
    (segment,) = params["segments"]
    layers = CONFIG.num_hidden_layers
    halved = {n: (leaf / 2, jnp.full(layers, 2.0)) if leaf.ndim == 3 else leaf for n, leaf in segment.items()}

    def scaled(operator, w, x, ids):
        return (
            digital_matmul(operator, w[0], x, ids) * w[1]
            if isinstance(w, tuple)
            else digital_matmul(operator, w, x, ids)
        )

    found = forward(CONFIG, {**params, "segments": [halved]}, tokens, matmul=scaled)
    np.testing.assert_allclose(found, FORWARD(CONFIG, params, tokens), atol=1e-5)


def test_gradients_are_finite_and_reach_every_parameter():
    params, tokens = random_params(CONFIG), random_tokens(CONFIG, 2, 6)
    gradient = jax.jit(jax.grad(lambda p: jnp.square(forward(CONFIG, p, tokens)).mean()))(params)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(gradient)]
    assert all(np.isfinite(leaf).all() and leaf.any() for leaf in leaves)


def test_a_full_cache_is_refused():
    params, cache = random_params(CONFIG), init_cache(CONFIG, 1, capacity=4)
    with pytest.raises(WorkloadError, match="room for 4 tokens, 5 are to be in it"):
        advance(CONFIG, params, random_tokens(CONFIG, 1, 2), replace(cache, position=cache.position + 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_key_value_heads": 4}, "multiple of num_key_value_heads"),
        ({"head_dim": 3}, "head_dim must be even"),
        ({"hidden_size": 0}, "hidden_size must be a whole number of at least 1, not 0"),
        ({"vocab_size": 31.0}, "vocab_size must be a whole number"),
        ({"rope_theta": math.nan}, "rope_theta must be a positive number"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings must be true or false"),
    ],
)
def test_impossible_configs_are_refused(unchecked, change, message):
    with pytest.raises(WorkloadError, match=message):
        llama_config(**{**SHAPES, **change})


@pytest.fixture(scope="module")
def stories(shared):
    return load_model(shared / "data" / "stories260K")


@pytest.mark.parametrize(
    ("file", "context", "perplexity", "tokens", "documents"),
    [
        ("tinystories_dev.txt", 256, 3.9468, 27807, 114),
        ("tinystories_gpt4_sample.txt", 256, 3.4803, 1242, 5),
        ("tinystories_gpt4_sample.txt", 512, 3.5401, 1802, 5),
        pytest.param("tinystories_dev.txt", 512, 4.1860, 42425, 114, marks=pytest.mark.slow),
    ],
)
def test_perplexity_of_a_real_model(shared, stories, file, context, perplexity, tokens, documents):
    """Golden values of a torch implementation; the same protocol gives 3.66 in llama2.c's own README."""
    text = as_scored((shared / "data" / "text" / file).read_text(), stories.tokenizer, context=context)
    assert (text.count, text.scored_tokens().sum()) == (documents, tokens)
    loss = 0.0
    for batch in text.batches(8192):
        logits = jax.nn.log_softmax(FORWARD(stories.config, stories.params, batch.tokens))
        losses = -jnp.take_along_axis(logits[:, :-1], batch.tokens[:, 1:, None], axis=-1)[..., 0]
        loss += float((losses * batch.scored).sum())
    assert math.exp(loss / tokens) == pytest.approx(perplexity, abs=1e-4)  # golden values have four decimals


def test_windows_of_a_text_without_documents(shared, stories):
    text = (shared / "data" / "text" / "wikitext2_valid.txt").read_text()[:20000]
    scored = as_scored(text, stories.tokenizer, context=256)
    logits = jax.nn.log_softmax(FORWARD(stories.config, stories.params, scored.tokens))
    losses = -np.take_along_axis(np.asarray(logits)[:, :-1], scored.tokens[:, 1:, None], axis=-1)
    assert losses.size == 12750
    assert math.exp(losses.mean()) == pytest.approx(286.2344, abs=0.05)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([1, 2], "batch, time"),
        ([[0.5]], "whole numbers"),
        ([[1, 512]], "vocabulary is 512"),
        ([[-1]], "vocabulary is 512"),
        ([[]], "whole numbers"),
    ],
)
def test_tokens_that_a_model_cannot_read(stories, tokens, message):
    with pytest.raises(WorkloadError, match=message):
        stories.logits(tokens)


def test_logits_of_a_model(stories):
    logits = stories.logits([[1, 403, 407]])
    assert logits.shape == (1, 3, 512) and logits.dtype == jnp.float32


def test_unknown_models_are_refused():
    with pytest.raises(WorkloadError, match=r"no model 'gpt-5': .*shipped are .*config.json"):
        load_model("gpt-5")
