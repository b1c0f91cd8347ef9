"""Rooflines: published times of whole models, measured shares, and what is not known."""

import json

import numpy as np
import pytest

from pim.costs.costing import cost
from pim.costs.roofline_cost import notes as roofline_notes
from pim.costs.roofline_cost import product_counts, roofline_cost, vector_counts
from pim.devices.catalogue import preset
from pim.devices.device import replace
from pim.devices.random import root_key
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.operators import Phase, VectorWork, products, vector_work
from pim.mapping.plan import place
from pim.mapping.system import System
from pim.programming import program

IDEAL = replace(preset("gpu-a100"), {"compute_share": 1, "bandwidth_share": 1})
NAMES = {
    "vocab_size": "V", "hidden_size": "d", "intermediate_size": "ff", "num_hidden_layers": "L",
    "num_attention_heads": "H", "num_key_value_heads": "Hkv", "head_dim": "dh", "tie_word_embeddings": "tied",
}  # fmt: skip
SMALL = llama_config(
    vocab_size=100, hidden_size=32, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, max_position_embeddings=64,
)  # fmt: skip


@pytest.fixture(scope="module")
def golden(shared):
    return json.loads((shared / "golden" / "llm_operators.json").read_text())


@pytest.mark.parametrize("name", ["llama2-7b", "llama2-70b", "llama3-8b"])
@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("phase", ["prefill2048", "decode_ctx2048"])
def test_the_time_of_a_model_is_that_of_its_operators_one_by_one(golden, name, batch, phase):
    """Nothing is fused but Q, K and V, which read their input once and write keys and values to their cache."""
    config = llama_config(**{ours: golden["models"][name]["hyper"][theirs] for ours, theirs in NAMES.items()},
                         max_position_embeddings=4096)  # fmt: skip
    work = Phase(batch, 2048 if phase == "prefill2048" else 1, 2048, causal=False)
    every = products(config, work)
    layer = {product.path.removeprefix("layers.0."): product for product in every[:9]}
    q, k, v = (layer.pop(f"attention.{one}") for one in "qkv")
    written = layer["attention.qk"].written + layer["attention.pv"].written
    softmax = next(work for work in vector_work(config, work) if work.kind == "softmax")
    rows = [
        (2 * (q.macs + k.macs + v.macs), sum(p.held + p.moved for p in (q, k, v)) - 2 * q.vectors * q.n_in + written),
        *((2 * product.macs, product.held + product.moved) for product in layer.values()),
        (0, 2 * softmax.elements),
    ]
    rows = rows * config.num_hidden_layers + [(2 * every[-1].macs, every[-1].held + every[-1].moved)]
    operations, values = np.array(rows, np.float64).T
    found = roofline_cost(IDEAL.model, operations=operations, values=values).latency.sum()
    case = golden["cases"][f"{name}/{phase}/b{batch}"]["roofline"]["A100-80G-SXM"]
    assert float(found) == pytest.approx(case["t_per_op_unfused_s"], rel=1e-3)


@pytest.mark.parametrize("gpu", ["a100", "h100"])
def test_the_shares_are_those_that_were_measured(golden, gpu):
    device, measured = preset(f"gpu-{gpu}"), golden["measured_gpu_linear_layers"]["derived"]
    assert device["bandwidth_share"] == pytest.approx(measured[f"{gpu}/1tok"]["efficiency"], rel=2e-3)
    assert device["compute_share"] == pytest.approx(measured[f"{gpu}/2048tok"]["efficiency"], rel=2e-3)
    hardware = golden["hardware"][{"a100": "A100-80G-SXM", "h100": "H100-SXM"}[gpu]]
    assert (device["operations_per_second"], device["bytes_per_second"]) == pytest.approx(
        (hardware["fp16"], hardware["bw"]), rel=1e-6
    )


def test_a_product_takes_the_longer_of_computing_and_moving():
    model = preset("gpu-a100").model
    vectors = np.array([1, 100, 1000, 100_000])
    found = cost(model, (4096, 4096), vectors=vectors)
    operations, moved = 2.0 * 4096**2 * vectors, 2.0 * (4096**2 + 8192 * vectors)
    times = operations / (312e12 * 0.695), moved / (2.039e12 * 0.746)
    np.testing.assert_allclose(found.latency, np.maximum(*times), rtol=1e-5)
    np.testing.assert_allclose(found.energy, operations * 0.16e-12 + moved * 28.72e-12, rtol=1e-5)
    bound = times[0] > times[1]
    np.testing.assert_array_equal(bound, operations / moved > float(model.ridge))
    assert bound.any() and not bound.all()


def test_what_is_not_known_is_unknown_and_not_zero():
    found = cost(preset("npu-int8"), (64, 64))
    assert np.isnan(found.area) and found.energy > 0 and found.latency > 0
    assert "area of this processor unknown" in " ".join(found.notes) and "unknown" in str(found)
    assert "an ideal roofline" in " ".join(found.notes)
    assert found.to_dict()["total"]["area"] is None
    blind = cost(replace(preset("npu-int8"), {"energy_per_byte": None}), (64, 64))
    assert np.isnan(blind.energy) and blind.latency == found.latency
    sized = cost(replace(preset("npu-int8"), {"area": 1e-4}), (np.array([64, 128]), 64))
    np.testing.assert_allclose(sized.area, 1e-4)


def test_a_language_model_on_a_gpu_alone_costs_the_sum_of_its_operators():
    device = preset("gpu-a100")
    run = cost(place(SMALL, System({"gpu": device})), prompt=8, generate=4)
    for phases, found in (
        ([Phase(tokens=8, context=8)], run.prefill),
        ([Phase(tokens=1, context=8 + step) for step in range(1, 5)], run.decode),
    ):
        energy = latency = 0.0
        for phase in phases:
            rows = [(2 * p.macs, p.held + p.written + p.moved) for p in products(SMALL, phase)]
            rows += [(work.ops, 2 * work.elements) for work in vector_work(SMALL, phase)]
            for operations, values in rows:
                one = roofline_cost(device.model, operations=operations, values=values)
                energy, latency = energy + float(one.energy.sum()), latency + float(one.latency.sum())
        assert float(found.energy) == pytest.approx(energy, rel=1e-5)
        assert float(found.latency) == pytest.approx(latency, rel=1e-5)
    assert not any("its format is not applied" in note for note in run.notes)


def test_its_products_are_those_of_its_format():
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(64, 5)).astype(np.float32), rng.normal(size=(3, 64)).astype(np.float32)
    y = program(w, preset("gpu-a100"), key=root_key(0)).matmul(x, key=None)
    wanted = x.astype(np.float16).astype(np.float64) @ w.astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(y, wanted, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(np.asarray(y), np.asarray(y).astype(np.float16).astype(np.float32))


# What keeps a GPU from its roof, and numbers of different sizes -------------------------------------------------------


STEP = Phase(batch=4, tokens=1, context=40)


def spent(model, item):
    counts = vector_counts(model, item) if isinstance(item, VectorWork) else product_counts(model, item)
    return roofline_cost(model, **counts)


def test_weights_keys_and_activations_have_bytes_of_their_own():
    changes = {"bytes_per_weight": 0.5, "bytes_per_key": 1, "bytes_per_activation": 4}
    model = replace(IDEAL, changes).model
    for product in products(SMALL, STEP):
        stored = product.read + product.written
        moved = stored * (1 if product.dynamic else 0.5) + 4 * product.moved
        energy = float(spent(model, product).without("compute").energy.sum())
        assert energy == pytest.approx(moved * 28.72e-12, rel=1e-5)
    counted = [spent(IDEAL.model, product) for product in products(SMALL, STEP)]
    plain = [
        roofline_cost(IDEAL.model, operations=2 * p.macs, values=p.read + p.written + p.moved)
        for p in products(SMALL, STEP)
    ]
    for ours, theirs in zip(counted, plain, strict=True):
        np.testing.assert_allclose(ours.latency, theirs.latency, rtol=1e-5)
        np.testing.assert_allclose(ours.energy, theirs.energy, rtol=1e-5)


def test_four_bits_of_weight_are_read_nearly_four_times_as_fast():
    half, quarter = (cost(preset(f"gpu-a100{bits}"), (8192, 8192)).latency for bits in ("", "-w4a16"))
    assert float(half / quarter) == pytest.approx(2 / (4 + 20 / 128) * 8, rel=2e-3)
    byte = cost(preset("gpu-a100-w8a8"), (8192, 8192), vectors=np.array([1, 8192]))
    whole = cost(preset("gpu-a100"), (8192, 8192), vectors=np.array([1, 8192]))
    np.testing.assert_allclose(whole.latency / byte.latency, 2, rtol=1e-3)


def test_fused_attention_leaves_its_scores_on_the_die():
    apart, fused = IDEAL.model, replace(IDEAL, {"attention": "fused"}).model
    byte = float(apart.energy_per_byte)

    def moved(model, items):
        return sum(float(spent(model, item).without("compute").energy.sum()) for item in items) / byte

    attention = [product for product in products(SMALL, STEP) if product.dynamic]
    softmax = [work for work in vector_work(SMALL, STEP) if work.kind == "softmax"]
    scores = sum(work.elements for work in softmax)
    saved = moved(apart, [*attention, *softmax]) - moved(fused, [*attention, *softmax])
    assert saved == pytest.approx(2 * 4 * scores, rel=1e-4)  # written, read, written and read, 2 bytes each
    others = [
        item for item in (*products(SMALL, STEP), *vector_work(SMALL, STEP)) if item not in (*attention, *softmax)
    ]
    assert moved(apart, others) == pytest.approx(moved(fused, others))


def test_heads_fill_the_cores_round_by_round():
    """Cores without a head idle: 12 heads on 108 cores have a ninth of the bandwidth, 109 take two rounds."""
    bare, cores = IDEAL.model, replace(IDEAL, {"cores": 108}).model
    heads = np.array([1, 12, 108, 109, 216, 0])
    rounds = np.ceil(heads / 108)
    wanted = np.where(heads > 0, rounds * 108 / np.maximum(heads, 1), 1.0)
    for amounts in ({"operations": 1e9, "keys": 1.0}, {"operations": 1.0, "keys": 1e9}):
        slow, fast = (roofline_cost(model, heads=heads, **amounts).latency.sum(axis=0) for model in (cores, bare))
        np.testing.assert_allclose(slow / fast, wanted, rtol=1e-5)


def test_norms_and_activations_take_their_time_to_start():
    model = replace(IDEAL, {"vector_latency": 7e-6}).model
    for work in vector_work(SMALL, STEP):
        late = float(spent(model, work).latency.sum() - spent(IDEAL.model, work).latency.sum())
        assert late == pytest.approx(7e-6 if work.kind in ("norm", "activation") else 0.0, abs=1e-11)
    assert "start of products" in " ".join(roofline_notes(model))


def test_power_at_rest_is_taken_all_the_while():
    resting = replace(preset("gpu-a100"), {"idle_power": 50})
    both = [cost(device, (64, 64), vectors=np.array([1, 1000])) for device in (preset("gpu-a100"), resting)]
    np.testing.assert_allclose(both[1].energy - both[0].energy, 50 * both[0].latency, rtol=1e-4)
    np.testing.assert_allclose(both[1].area, both[0].area)
    assert "power at rest" in " ".join(both[0].notes) and "power at rest" not in " ".join(both[1].notes)
