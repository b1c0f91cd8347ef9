"""What digital macros multiply: bits that switch on lines, counted one by one, and what that does to the energy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pim.calibration import calibrate
from pim.costs.costing import cost
from pim.costs.digital_operands import DigitalOperands, measure_digital_operands
from pim.devices.arithmetic import Codes
from pim.devices.catalogue import preset
from pim.devices.digital_macro import DigitalMacro
from pim.devices.errors import DeviceError
from pim.devices.random import root_key
from pim.devices.record import cast
from pim.errors import StudyError
from pim.llm_workloads.model import load_model
from pim.llm_workloads.stories import story_text
from pim.mapping.plan import place
from pim.mapping.system import inference_system
from pim.programming import program


def made(**fields: Any) -> DigitalMacro:
    usual = {"rows": 4, "outputs": 4, "weight_bits": 8.0, "input_bits": 8.0, "clock": 1e8, "vdd": 0.7}
    return cast(DigitalMacro(**{**usual, **fields}))


def sent_one_by_one(codes: np.ndarray, rows: int, row_groups: int, serial: int, bits: int) -> float:
    """Share of bits that differ from the one before on their line, line by line as the hardware sends them."""
    batch, n_in = codes.shape
    portions, groups = -(-bits // serial), -(-n_in // rows)
    array_of = [group // row_groups for group in range(groups)]
    changes = 0
    for array in range(max(array_of) + 1):
        mine = [group for group in range(groups) if array_of[group] == array]
        turns = min(row_groups, groups)
        for row in range(rows):
            for wire in range(serial):
                state = 0
                for vector in range(batch):
                    for turn in range(turns):
                        place = mine[turn] * rows + row if turn < len(mine) else n_in
                        value = int(codes[vector, place]) if place < n_in else 0
                        for portion in range(portions):
                            bit = (value >> (portion * serial + wire)) & 1
                            changes += bit != state
                            state = bit
    return changes / (batch * n_in * portions * serial)


@settings(max_examples=8)
@given(
    batch=st.integers(1, 4), n_in=st.integers(1, 20), rows=st.integers(1, 6), row_groups=st.integers(1, 3),
    serial=st.sampled_from([1, 2, 3, 8]), bits=st.integers(2, 8), seed=st.integers(0, 999),
)  # fmt: skip
def test_toggles_are_those_of_the_lines_one_by_one(batch, n_in, rows, row_groups, serial, bits, seed):
    rng = np.random.default_rng(seed)
    limit = (1 << (bits - 1)) - 1
    codes = rng.integers(-limit, limit + 1, (batch, n_in))
    codes[:, 0] = limit  # so that inputs are their own codes
    macro = made(rows=rows, row_groups=row_groups, serial_bits=serial, input_bits=float(bits))
    held = Codes(codes=jnp.ones((n_in, 2), jnp.int8), scale=jnp.ones(2))
    found = measure_digital_operands(held, macro, jnp.asarray(codes, jnp.float32))
    assert float(found.toggle) == pytest.approx(sent_one_by_one(codes, rows, row_groups, serial, bits), rel=1e-5)
    assert float(found.zeros) == pytest.approx((codes == 0).mean(), abs=1e-6)


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_the_density_is_that_of_the_stored_bits(bits):
    rng = np.random.default_rng(0)
    codes = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (30, 7))
    held = Codes(codes=jnp.asarray(codes, jnp.int8), scale=jnp.ones(7))
    found = measure_digital_operands(held, made(weight_bits=float(bits)), jnp.ones((1, 30)))
    wanted = np.mean([(codes >> bit) & 1 for bit in range(bits)])
    assert float(found.density) == pytest.approx(wanted, rel=1e-6)


def test_a_chip_measures_and_its_cost_follows():
    device = preset("sram-digital28")
    rng = np.random.default_rng(0)
    w = rng.normal(size=(128, 64)).astype(np.float32)
    chip = program(w, device, key=root_key(0))
    dense = rng.normal(size=(40, 128)).astype(np.float32)
    sparse = np.where(rng.random(dense.shape) < 0.9, 0.0, dense).astype(np.float32)
    many, few = chip.operands(dense), chip.operands(sparse)
    assert isinstance(many, DigitalOperands) and isinstance(few, DigitalOperands)
    assert float(few.zeros) == pytest.approx(0.9, abs=0.03) and float(few.toggle) < 0.2 * float(many.toggle) + 0.05
    assert float(many.toggle) == pytest.approx(0.5, abs=0.1) and float(many.density) == pytest.approx(0.5, abs=0.1)
    costs = [cost(device, w.shape, operands=operands) for operands in (many, few, None)]
    rows = [dict(zip(found.ledger.components, np.asarray(found.ledger.energy), strict=True)) for found in costs]
    for i, operands in enumerate((many, few)):
        activity = float(operands.toggle * operands.density) / 0.25
        assert rows[i]["adder_tree"] == pytest.approx(rows[2]["adder_tree"] * activity, rel=1e-5)
        assert rows[i]["accumulators"] == rows[2]["accumulators"]
    assert "measured on inputs" in costs[0].notes[0] and "not measured" in costs[2].notes[0]


def test_statistics_may_be_arrays_and_are_checked():
    device = preset("sram-digital28")
    several = DigitalOperands(toggle=jnp.asarray([0.1, 0.5]), density=jnp.float32(0.5))
    found = cost(device, (128, 128), operands=several)
    alone = cost(device, (128, 128), operands=DigitalOperands(toggle=jnp.float32(0.1), density=jnp.float32(0.5)))
    assert found.energy.shape == (2,) and float(found.energy[0]) == pytest.approx(float(alone.energy), rel=1e-6)
    analog = preset("rram-techC")
    with pytest.raises(StudyError, match=r"depends on Operands, not on DigitalOperands.*chip.operands"):
        cost(analog, (64, 64), operands=several)
    chips = program(np.ones((4, 4)), device, key=root_key(0), chips=2)
    with pytest.raises(DeviceError, match="one chip"):
        chips.operands(np.ones((1, 4)))
    with pytest.raises(DeviceError, match="last axis must be 4"):
        chips[0].operands(np.ones((1, 5)))


def test_the_energy_has_a_gradient_in_the_statistics():
    macro = preset("sram-colonnade").model

    def energy(toggle):
        return cost(macro, (128, 8), operands=DigitalOperands(toggle=toggle, density=jnp.float32(0.5))).energy

    for toggle in (0.0, 0.5, 1.0):
        assert float(jax.grad(energy)(jnp.float32(toggle))) > 0


def test_a_plan_measures_its_matrices_on_a_text():
    model, text = load_model("tiny-stories"), story_text(2, 1)
    plan = place(model, inference_system(preset("sram-digital28"), preset("digital-28nm")))
    measured = calibrate(plan, text, tokens=96)
    assert set(measured.operands) >= {"layers.0.attention.q", "layers.0.ffn.down"} and not measured.ranges
    assert all(0.05 < float(found.toggle) < 0.7 for found in measured.operands.values())
    assumed, known = cost(plan, prompt=8, generate=4), cost(measured, prompt=8, generate=4)
    assert any("measured on inputs" in note for note in known.notes)
    assert any("not measured on this model" in note for note in assumed.notes)
    assert known.energy != assumed.energy
