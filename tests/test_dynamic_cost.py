"""What attention costs in arrays: tokens written one by one, matrices read, room for the context, and wear."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pim.costs import digital_macro_cost, macro_cost
from pim.costs.costing import cost
from pim.costs.dynamic_cost import dynamic_cost, dynamic_notes, sizes_of, standing_power, written_token
from pim.costs.matrix_writing import Shape, written
from pim.devices.catalogue import preset
from pim.devices.device import replace
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.operators import DYNAMIC, Phase, products
from pim.mapping.plan import place
from pim.mapping.system import System

CONFIG = llama_config(100, 48, 96, 2, 6, 2, 8, max_position_embeddings=4096)
DEVICES = ("rram-wan2022", "sram-digital28")
UNIT = preset("digital-28nm")


def attention(phase: Phase):
    return [p for p in products(CONFIG, phase) if p.path.startswith("layers.0.") and p.path.endswith(DYNAMIC)]


@pytest.mark.parametrize("name", DEVICES)
def test_a_step_is_a_write_and_a_read_of_every_head(name):
    """Against loops over sequences and heads, each with a matrix of its own."""
    device = preset(name)
    costs = macro_cost if name.startswith("rram") else digital_macro_cost
    for product in attention(Phase(batch=3, tokens=1, context=130)):
        keys = product.path.endswith("qk")
        energy = area = latency = 0.0
        for _ in range(3 * CONFIG.num_key_value_heads):
            n_in, n_out = (8, 130) if keys else (130, 8)
            read = costs.matrix_cost(device.model, n_in, n_out, CONFIG.group).without("leakage")
            one = written(device, Shape(*((8.0, 1.0) if keys else (1.0, 8.0)), 1.0))
            energy += float(read.energy.sum()) + float(one.energy)
            area += float(read.area.sum())
            latency = float(read.latency.sum()) + float(one.time)
        found = dynamic_cost(device, product, 1)
        assert float(found.energy.sum()) == pytest.approx(energy, rel=1e-5)
        assert float(found.area.sum()) == pytest.approx(area, rel=1e-5)
        assert float(found.latency.sum()) == pytest.approx(latency, rel=1e-5)
        assert float(standing_power(device, product, 1)[0]) > 0


def test_a_key_is_a_column_and_a_value_a_row():
    """Cells of a word line are written at once, word lines in turn: a key takes as many times as a head is wide."""
    keys, values = attention(Phase(context=10))
    one = [written_token(preset("rram-wan2022"), sizes_of(product)) for product in (keys, values)]
    assert one[0].cells == one[1].cells and one[0].energy == pytest.approx(one[1].energy)
    assert one[0].time == pytest.approx(8 * one[1].time, rel=0.2)
    assert any("word line by word line" in note for note in dynamic_notes(preset("rram-wan2022"), keys))


@pytest.mark.parametrize("name", DEVICES)
def test_many_points_are_one_call(name):
    batch, context = np.array([1, 2, 5, 9]), np.array([3, 64, 65, 900])
    for i, product in enumerate(attention(Phase(batch=batch, tokens=1, context=context))):
        many = dynamic_cost(preset(name), product, 4)
        for j in range(4):
            one = attention(Phase(batch=int(batch[j]), tokens=1, context=int(context[j])))[i]
            single = dynamic_cost(preset(name), one, 1)
            np.testing.assert_allclose(many.energy[:, 0, j], single.energy[:, 0, 0], rtol=1e-5)
            np.testing.assert_allclose(many.area[:, 0, j], single.area[:, 0, 0], rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 300))
def test_more_tokens_behind_never_cost_less(context, more):
    for product, longer in zip(
        attention(Phase(context=context)), attention(Phase(context=context + more)), strict=True
    ):
        few, many = (dynamic_cost(preset("rram-wan2022"), p, 1) for p in (product, longer))
        for figure in ("energy", "latency", "area"):
            assert float(getattr(few, figure).sum()) <= float(getattr(many, figure).sum()) * (1 + 1e-6)


def test_prefill_writes_every_token_once():
    reading, decode = attention(Phase(tokens=64, context=64)), attention(Phase(tokens=1, context=64))
    for whole, one in zip(reading, decode, strict=True):
        spent, single = (dynamic_cost(preset("rram-wan2022"), p, 1) for p in (whole, one))
        row = spent.components.index("write")
        assert float(spent.energy[row, 0, 0]) == pytest.approx(64 * float(single.energy[row, 0, 0]), rel=1e-5)


def test_what_writing_takes_is_not_nothing_where_it_is_not_known():
    keys, _ = attention(Phase(context=10))
    found = dynamic_cost(preset("rram-techC"), keys, 1)
    row = found.components.index("write")
    assert np.isnan(float(found.energy[row, 0, 0])) and np.isnan(float(found.latency[row, 0, 0]))
    assert any("unknown" in note for note in dynamic_notes(preset("rram-techC"), keys))


def on(name: str, **changes):
    device = replace(preset(name), changes) if changes else preset(name)
    system = System({"arrays": device, "digital": UNIT}, [("head", "digital")])
    return cost(place(CONFIG, system), prompt=1000, generate=1000)


def test_keys_and_values_wear_out_resistive_cells_in_a_matter_of_hours():
    """Not so those of SRAM, which have no figure of wear; matrices of weights are written once."""
    run = on("rram-wan2022")
    life = run.lifetimes()["arrays"]
    writes = float(preset("rram-wan2022")["cell.facts.endurance"])
    assert life.seconds == pytest.approx(writes * 2000 * run.decode_latency)
    assert 1 < life.seconds / 3600 < 100
    assert "life of keys and values in arrays" in str(run) and run.to_dict()["kv_lifetime"]["arrays"] == life.seconds
    assert on("sram-digital28").lifetimes() == {}
    write = run.decode.ledger.by_component()
    attention_energy = run.decode.ledger.by_operator()
    whole = sum(float(attention_energy.energy[attention_energy.operators.index(name)]) for name in DYNAMIC)
    assert float(write.energy[write.components.index("write")]) > 0.5 * whole, "writing is most of attention"


def test_the_run_holds_the_rows_of_attention():
    run = on("sram-digital28")
    operators = set(run.decode.ledger.operators)
    assert {f"layers.{i}.{name}" for i in (0, 1) for name in DYNAMIC} <= operators
    assert float(run.decode.energy) == pytest.approx(sum(map(float, run.decode.ledger.energy)), rel=1e-5)
