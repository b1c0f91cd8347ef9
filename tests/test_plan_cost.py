"""What a model costs on a system: sums over its operators and tokens, each priced alone by a slow loop."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pim.costs.costing import cost
from pim.costs.digital_cost import digital_cost, product_values
from pim.costs.macro_cost import leakage_power, matrix_cost
from pim.costs.operands import Operands
from pim.costs.plan_cost import PlanCost
from pim.devices.buffer import Buffer
from pim.devices.cells.cell import Cell
from pim.devices.components.adc_zigzag import ZigzagADCCost
from pim.devices.converters.adc import ADC
from pim.devices.converters.dac import MultibitDAC
from pim.devices.device import Device
from pim.devices.digital_unit import DigitalUnit
from pim.devices.loader import load_device, shipped
from pim.devices.macro import AnalogMacro, Ideal
from pim.devices.periphery import Periphery
from pim.devices.record import cast
from pim.errors import StudyError
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.model import load_model
from pim.llm_workloads.operators import Phase, products, vector_work
from pim.mapping.plan import Plan, place
from pim.mapping.system import System, inference_system


def made(cls: Any, *values: Any, **fields: Any) -> Any:
    """A record with float32 leaves."""
    return cast(cls(*values, **fields))


def device(model: Any) -> Device:
    return Device("made", "test", "for tests", model, {}, {})


def buffer(size: float, banks: float = 1.0) -> Buffer:
    return made(Buffer, size, banks, 65536.0, 0.6e-12, 1.1e-7, 1e-5, 0.55, 0.92, 0.95)


ARRAYS = device(
    made(
        AnalogMacro,
        rows=16,
        columns=32,
        slices=1,
        encoding="differential",
        weight_scale="column",
        input_range="calibrated",
        v_read=0.2,
        t_read=1e-8,
        vdd=0.9,
        cell=made(Cell, 0.0, 4e-5, 1e-13),
        dac=made(MultibitDAC, 8.0, 99.9, 5e-14, 2e-10),
        adc=made(ADC, 6.0, 99.9, 8.0, made(ZigzagADCCost, 1e-13, 1e-18, 6e-10, 6e-12, 1.6e-11, -0.037)),
        periphery=made(
            Periphery,
            wordline_capacitance=1e-16,
            select_capacitance=1e-16,
            select_voltage=0.9,
            bitline_capacitance=1e-16,
            settle=1e-9,
            sample_hold_energy=1e-15,
            sample_hold_area=1e-13,
            shift_add_energy=2e-14,
            shift_add_area=5e-11,
            shift_add_latency=1e-9,
            buffer=buffer(512.0),
            input_bytes=1.0,
            output_bytes=2.0,
            bus_energy_per_byte=3e-13,
            bus_area=1e-9,
            leakage_density=28.0,
        ),
    )
)
UNIT = device(
    made(
        DigitalUnit,
        energy_per_mac=1e-12,
        energy_per_op=1e-12,
        bytes_per_operand=2.0,
        macs_per_second=2e11,
        ops_per_second=5e10,
        bytes_per_second=1e11,
        reuse=4.0,
        area=8e-7,
        leakage=2e-5,
        buffer=buffer(2.0**20, 16.0),
    )
)
CONFIG = llama_config(
    vocab_size=50,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=6,
    max_position_embeddings=64,
)
PLAN = place(CONFIG, inference_system(ARRAYS, UNIT))


def slow(plan: Plan, phases: list[Phase]) -> tuple[float, float]:
    """Energy without leakage, and latency: one operator of one token after another."""
    joules = seconds = 0.0
    for phase in phases:
        for product in products(plan.config, phase):
            if isinstance(plan.model_of(product.path), AnalogMacro):
                rows = matrix_cost(
                    ARRAYS.model, product.n_in, product.n_out, product.vectors, plan.operands.get(product.path)
                )
                joules -= float(rows.energy[rows.components.index("leakage")])
            else:
                values = product_values(UNIT.model, product.held, product.vectors, product.moved)
                rows = digital_cost(UNIT.model, macs=product.macs, values=values)
            joules, seconds = joules + float(rows.energy.sum()), seconds + float(rows.latency.sum())
        for work in vector_work(plan.config, phase):
            rows = digital_cost(UNIT.model, values=2 * work.elements, ops=work.ops)
            joules, seconds = joules + float(rows.energy.sum()), seconds + float(rows.latency.sum())
    return joules, seconds


def leakage(run: PlanCost, phase: str) -> float:
    rows = getattr(run, phase).ledger.by_component()
    return float(rows.energy[rows.components.index("leakage")])


@pytest.mark.parametrize("batch", [1, 3])
def test_a_run_is_the_sum_of_its_operators_token_by_token(batch):
    run = cost(PLAN, batch=batch, prompt=9, generate=5)
    read = [Phase(batch=batch, tokens=9, context=9)]
    written = [Phase(batch=batch, tokens=1, context=9 + i) for i in range(1, 6)]
    for name, phases in (("prefill", read), ("decode", written)):
        joules, seconds = slow(PLAN, phases)
        found = getattr(run, name)
        assert float(found.energy) - leakage(run, name) == pytest.approx(joules, rel=1e-5)
        assert float(found.latency) == pytest.approx(seconds, rel=1e-5)


def test_everything_leaks_all_the_while():
    run = cost(PLAN, prompt=9, generate=5)
    arrays = sum(
        float(leakage_power(ARRAYS.model, p.n_in, p.n_out))
        for p in products(CONFIG, Phase())
        if PLAN.assignment[p.path] == "weights"
    )
    unit = float(UNIT.model.leakage + UNIT.model.buffer.leakage())
    for name in ("prefill", "decode"):
        assert leakage(run, name) == pytest.approx((arrays + unit) * float(getattr(run, name).latency), rel=1e-5)


def test_area_counts_once():
    run = cost(PLAN, prompt=9, generate=5)
    matrices = [p for p in products(CONFIG, Phase()) if PLAN.assignment[p.path] == "weights"]
    arrays = sum(float(matrix_cost(ARRAYS.model, p.n_in, p.n_out).area.sum()) for p in matrices)
    whole = arrays + float(UNIT.model.area + UNIT.model.buffer.area())
    assert run.area == pytest.approx(whole, rel=1e-5)
    assert float(run.prefill.area) == pytest.approx(whole, rel=1e-5)
    assert float(run.ledger.area.sum()) == pytest.approx(whole, rel=1e-5)


def test_totals_and_rates_follow_from_the_rows():
    run = cost(PLAN, batch=2, prompt=9, generate=5)
    plain = json.loads(json.dumps(run.to_dict()))
    for phase in ("prefill", "decode"):
        for name in ("energy", "latency", "area"):
            assert plain[phase]["total"][name] == np.sum([row[name] for row in plain[phase]["rows"]])
    assert run.energy == pytest.approx(float(run.ledger.energy.sum()), rel=1e-6)
    assert run.energy_per_token == pytest.approx(plain["decode"]["total"]["energy"] / 10)
    assert run.prefill_energy_per_token == pytest.approx(plain["prefill"]["total"]["energy"] / 18)
    assert run.tokens_per_second == pytest.approx(10 / plain["decode"]["total"]["latency"])
    assert run.decode_latency * run.tokens_per_second == pytest.approx(2)
    assert run.latency == pytest.approx(run.prefill_latency + 5 * run.decode_latency)


def test_every_operator_has_its_rows_and_vector_work_stays_off_the_arrays():
    ledger = cost(PLAN, prompt=9, generate=5).decode.ledger
    assert {*PLAN.assignment} <= {*ledger.operators}
    rows = {(o, c) for o, c in zip(ledger.operators, ledger.components, strict=True)}
    assert ("layers.1.ffn.up", "adc") in rows and ("layers.1.attention.softmax", "vector") in rows
    assert ("layers.1.attention.softmax", "adc") not in rows and ("head", "adc") not in rows
    kinds = ledger.by_operator().operators
    assert "attention.q" in kinds and "layers.0.attention.q" not in kinds


def test_a_longer_prompt_makes_later_tokens_dearer():
    short, long = cost(PLAN, prompt=4, generate=3), cost(PLAN, prompt=40, generate=3)
    assert long.energy_per_token > short.energy_per_token and long.decode_latency > short.decode_latency
    of = [r.decode.ledger.by_operator() for r in (short, long)]
    ffn = [float(rows.latency[rows.operators.index("ffn.up")]) for rows in of]
    assert ffn[0] == pytest.approx(ffn[1], rel=1e-6)


def test_calibrated_statistics_are_used_and_their_absence_is_told():
    statistics = made(Operands, 0.01, 1e-6, source="measured on inputs")
    paths = [path for path, name in PLAN.assignment.items() if name == "weights"]
    some, every = (replace(PLAN, operands=dict.fromkeys(chosen, statistics)) for chosen in (paths[:3], paths))
    runs = [cost(plan, prompt=9, generate=5) for plan in (PLAN, some, every)]
    assert runs[0].energy > runs[1].energy > runs[2].energy
    assert "14 of 14" in runs[0].notes[0] and "11 of 14" in runs[1].notes[0]
    assert runs[2].notes[0] == "weights: operand statistics measured on inputs"
    assert not any("assumed" in note for note in runs[2].notes)
    assert float(runs[2].decode.energy) - leakage(runs[2], "decode") == pytest.approx(
        slow(every, [Phase(context=9 + i) for i in range(1, 6)])[0], rel=1e-5
    )


def test_ideal_is_free_and_says_so():
    ideal = Device("ideal", "ideal", "exact", Ideal(), {}, {})
    run = cost(place(CONFIG, System({"all": ideal})), prompt=9, generate=5)
    assert run.energy == run.area == 0 and any("ideal" in note for note in run.notes)
    mixed = cost(place(CONFIG, inference_system(ideal, UNIT)), prompt=9, generate=5)
    assert 0 < mixed.energy < cost(PLAN, prompt=9, generate=5).energy


def test_limits_are_told():
    crowded = place(CONFIG, inference_system(ARRAYS, replace(UNIT, model=replace(UNIT.model, buffer=buffer(4e3)))))
    notes = cost(crowded, prompt=60, generate=10).notes
    assert any("70 tokens exceed the 64" in note for note in notes)
    assert any("do not fit" in note for note in notes)


def test_it_prints():
    run = cost(PLAN, prompt=9, generate=5)
    text, page = str(run), run._repr_html_()
    assert "energy per written token" in text and "attention.qk" in text and "note:" in text
    assert "<table>" in page and "attention.qk" in page


def test_bad_requests_are_refused(unchecked):
    with pytest.raises(StudyError, match="prompt must be a whole number"):
        cost(PLAN, prompt=0)
    with pytest.raises(StudyError, match="leave the shape away"):
        cost(PLAN, (4, 4))  # type: ignore[call-overload]
    with pytest.raises(StudyError, match="needs the shape"):
        cost(ARRAYS)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["sram-colonnade", "rram-isaac"])
def test_a_token_waits_for_the_one_before_it(name):
    """A step of decoding takes what one vector takes, however deep the pipeline: it fills anew for each token."""
    chip = load_device(shipped()[name])
    config = load_model("tiny-stories").config
    decode = cost(place(config, inference_system(chip, UNIT)), prompt=1, generate=5).decode.ledger
    path = "layers.0.ffn.gate"
    mine = sum(float(t) for operator, t in zip(decode.operators, decode.latency, strict=True) if operator == path)
    assert mine / 5 == pytest.approx(float(cost(chip, config.matrix_shapes["ffn.gate"]).latency), rel=1e-5)
