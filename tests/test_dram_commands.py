"""Near-DRAM cycles are those of the command-level simulators, and keep the laws that any memory keeps.

Golden rows: `dram_pim_cycles.json` of the reference data, runs of aim_simulator (0f28a07), PIMSimulator (b464dde) and
AttAcc's Ramulator 2 (c600051), and rows of the table that AttAcc's authors ship.
"""

import json
from dataclasses import replace as changed
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import first_few
from hypothesis import given
from hypothesis import strategies as st

from pim.channel_hint import channel_hint, internal_bound, stream_time
from pim.costs.costing import cost
from pim.costs.near_dram_cost import work_cost
from pim.devices.catalogue import preset, presets
from pim.devices.device import replace
from pim.devices.dram.work import Work
from pim.devices.errors import DeviceError
from pim.devices.near_dram import NearDram
from pim.errors import StudyError
from pim.llm_workloads.families.llama import llama_config
from pim.llm_workloads.operators import Phase, products
from pim.mapping.plan import place
from pim.mapping.system import System

UNITS = {"bank": "dram-attacc", "bg": "dram-attacc-bank-group", "buffer": "dram-attacc-buffer"}
SHIPPED = {"BA": "bank", "BG": "bg", "BUFFER": "buffer"}


@pytest.fixture(scope="session")
def golden(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "golden/dram_pim_cycles.json").read_text())


def near_dram() -> list[str]:
    return [row.name for row in presets() if row.family == "near-dram"]


@cache
def model(name: str, **changes: Any) -> NearDram:
    return replace(preset(name), dict(changes)).model


def on(device: NearDram, channels: float) -> NearDram:
    return changed(device, banks=changed(device.banks, channels=jnp.float32(channels)))


def cycles(device: NearDram, *work: Any) -> float:
    return float(device.commands(Work(*work)).cycles.total)


# Against the simulators ----------------------------------------------------------------------------------------------


def aim_work(row: dict[str, Any]) -> Work:
    if row["kind"] == "gemv":
        return Work("gemv", row["in"], row["out"])
    return Work("score", row["d"], row["L"]) if row["kind"] == "score" else Work("context", row["L"], row["d"])


def test_aim_takes_the_cycles_and_commands_of_its_simulator(golden):
    """All 19 open rows as integers; it issues no refresh for this memory."""
    assert len(golden["aim_gddr6"]) == 19
    for row in golden["aim_gddr6"]:
        device = replace(preset("dram-aim"), {"refresh": None, "kernel.registers": row.get("reuse", 1)})
        found = on(device.model, row["channels"]).commands(aim_work(row))
        counts = row["commands_all_channels"]
        assert float(found.cycles.total) == row["cycles"], row
        assert float(found.activations) == 16 * counts["ACT16"]
        assert float(found.columns) == 16 * counts["MAC16"]
        assert float(found.bits_in) == 256 * counts["WRGB"]
        assert float(found.preset_bits) == 256 * counts["WRMAC16"]
        assert float(found.bits_out) == 256 * counts["RDMAC16"]
        assert float(found.pin_bits) == 256 * (counts["WRGB"] + counts["WRMAC16"] + counts["RDMAC16"])


@pytest.mark.parametrize(("rows", "refresh", "gate"), [("_no_refresh", False, 0.0), ("", True, 0.01)])
def test_hbm_pim_takes_the_cycles_of_its_simulator(golden, rows, refresh, gate):
    """Equal without refresh, within 1 % with whole refreshes (ours: 0.74 % at most, two rows; 0.2 % else)."""
    device = preset("dram-hbm-pim") if refresh else replace(preset("dram-hbm-pim"), {"refresh": None})
    for row in golden[f"hbmpim_pimsimulator{rows}"]:
        found = cycles(on(device.model, row["channels"]), "gemv", row["in"], row["out"], row["batch"])
        assert found == pytest.approx(row["pim_cycles"], rel=gate, abs=0), row


def attention(device: NearDram, dim: int, tokens: int, heads: int) -> float:
    """Cycles of scores and contexts, one after the other."""
    refresh = device.refresh
    alone = changed(device, refresh=None)
    work = cycles(alone, "score", dim, tokens, 1, heads) + cycles(alone, "context", tokens, dim, 1, heads)
    return work if refresh is None else work + float(refresh.count(jnp.float32(work)) * refresh.stall)


def attacc(unit: str, *, power_limit: bool, byte: int, refresh: bool = True) -> NearDram:
    """AttAcc with the operands of a row; its INT8 has twice the lanes."""
    changes = {} if power_limit else {"timing.all_bank_act": "free"}
    device = replace(preset(UNITS[unit]), changes | ({} if refresh else {"refresh": None})).model
    return changed(device, arithmetic=preset("dram-upmem").model.arithmetic) if byte == 1 else device


def test_attacc_is_within_4_percent_of_its_simulator(golden):
    worst = 0.0
    for row in golden["attacc_ramulator2"]:
        limit, refresh = "NPC" not in row["timing"], row["refresh"] != "No"
        device = attacc(row["unit"], power_limit=limit, byte=row["dbyte"], refresh=refresh)
        if row["kind"] == "gemv":
            found = cycles(device, "gemv", row["in"], row["out"])
        else:
            found = attention(device, row["d"], row["L"], row["heads_per_stack"])
        worst = max(worst, abs(found / row["cycles"] - 1))
        assert found == pytest.approx(row["cycles"], rel=0.04), row
    assert worst < 0.036


def test_attacc_is_within_10_percent_of_the_medians_of_its_authors_table(golden):
    """In 44 of 47 groups of its rows; the other three have three heads only, and there the table is up to 24 % above
    what its own simulator, built from the same source, gives (`attacc_shipped_vs_built`)."""
    errors: dict[str, list[float]] = {"BA": [], "BG": [], "BUFFER": []}
    for group in golden["attacc_shipped_table"]["groups"]:
        device = attacc(SHIPPED[group["unit"]], power_limit=group["power_limit"], byte=group["dbyte"])
        found = [attention(device, group["dhead"], row["L"], group["nhead"]) for row in group["samples"]]
        ratio = np.median([ours / row["cycles"] - 1 for ours, row in zip(found, group["samples"], strict=True)])
        errors[group["unit"]].append(ratio)
        if group["nhead"] != 3:
            assert abs(ratio) < 0.10, group
    for unit in errors.values():
        assert abs(np.median(unit)) < 0.02
    rows = golden["attacc_shipped_vs_built"]
    few = [row for row in rows if row["nhead"] == 3]
    assert all(row["shipped_cycles"] > 1.09 * row["built_cycles"] for row in few)
    for row in rows:
        device = attacc(SHIPPED[row["unit"]], power_limit=row["power_limit"], byte=2)
        gate = 0.04 if row["L"] >= 512 else 0.08  # a head with a row or two opens them ahead, which is not modelled
        assert attention(device, 128, row["L"], row["nhead"]) == pytest.approx(row["built_cycles"], rel=gate), row


def test_a_score_is_a_product_with_the_keys_and_a_context_one_with_the_values():
    """On HBM-PIM, as its simulator's users run them: 2048 keys of 128 numbers on one pseudo-channel."""
    device = on(model("dram-hbm-pim"), 1)
    assert cycles(device, "score", 128, 2048) == cycles(device, "gemv", 128, 2048)
    assert cycles(device, "context", 2048, 128) == cycles(device, "gemv", 2048, 128)
    heads = on(device, 4)
    assert cycles(heads, "score", 128, 2048, 1, 4) == cycles(device, "score", 128, 2048)  # a head to each channel
    assert cycles(heads, "score", 128, 2048, 1, 5) > 1.9 * cycles(device, "score", 128, 2048)


# Laws ----------------------------------------------------------------------------------------------------------------

SIZES = st.integers(1, 20000)
DEVICES = st.sampled_from(near_dram())


@given(
    DEVICES,
    st.sampled_from(["gemv", "score", "context"]),
    SIZES,
    SIZES,
    st.integers(1, 40),
    st.integers(1, 40),
    st.data(),
)
def test_time_grows_with_each_dimension(name, operation, n_in, n_out, vectors, copies, data):
    sizes = [n_in, n_out, vectors, copies]
    grown = data.draw(st.integers(0, 3))
    more = [size + data.draw(st.integers(1, 5000)) if i == grown else size for i, size in enumerate(sizes)]
    device = model(name)
    assert cycles(device, operation, *more) >= cycles(device, operation, *sizes)


@given(DEVICES, SIZES, SIZES)
def test_nothing_beats_the_internal_bandwidth(name, n_in, n_out):
    device = model(name)
    seconds = cycles(device, "gemv", n_in, n_out) * device.timing.t_ck
    assert seconds >= 0.9999 * internal_bound(device, n_in, n_out)


@given(DEVICES, SIZES, SIZES, st.integers(1, 8))
def test_a_memory_without_refresh_is_never_slower(name, n_in, n_out, vectors):
    device = model(name)
    assert cycles(changed(device, refresh=None), "gemv", n_in, n_out, vectors) <= cycles(
        device, "gemv", n_in, n_out, vectors
    )


@pytest.mark.parametrize("name", first_few(2, ["dram-aim", "dram-upmem", "dram-hbm-pim", "dram-attacc"]))
@given(n_in=SIZES, n_out=SIZES)
def test_the_rows_of_the_ledger_sum_to_its_totals(name, n_in, n_out):
    found = cost(preset(name), (n_in, n_out))
    device, ledger = model(name), found.ledger
    seconds = cycles(device, "gemv", n_in, n_out) * float(device.timing.t_ck)
    assert float(found.latency) == pytest.approx(seconds, rel=1e-5)
    known = np.asarray(ledger.energy)[~np.isnan(np.asarray(ledger.energy))]
    assert (known >= 0).all() and (np.asarray(ledger.latency) >= 0).all()


def test_whole_refreshes_are_counted():
    refresh = model("dram-attacc").refresh
    between, first = float(refresh.n_refi - refresh.stall), float(refresh.n_refi)
    work = jnp.array([first - 1, first, first + between - 1, first + between], jnp.float32)
    np.testing.assert_array_equal(refresh.count(work), [0, 1, 1, 2])
    assert refresh.average(work)[0] == pytest.approx((first - 1) / between)


def test_the_rule_of_activation_decides():
    """GDDR6-AiM's own tFAW would take a row of 286 cycles to 412, and its share of products from 45 to 31 %."""
    for rule, row in (("free", 286), ("t_faw", 412)):
        device = replace(preset("dram-aim"), {"refresh": None, "timing.all_bank_act": rule}).model
        one, two = (cycles(on(device, 1), "gemv", 1024, 16 * rows) for rows in (10, 11))
        assert two - one == row
    with pytest.raises(DeviceError, match=r"no timing.n_ccd_power: give the cycles"):
        replace(preset("dram-aim"), {"timing.all_bank_act": "power_ccd"})


def test_new_keys_and_values_are_written():
    device = model("dram-aim", refresh=None)
    key, value = (device.commands(Work(f"append_{kind}", 128, 1, 3, 32)) for kind in ("key", "value"))
    assert float(key.cycles.total) == 3 * (32 + 28 + 6 + 8 * 2 + 33)  # close, open, write 8 columns, recover
    assert float(value.cycles.total) == 3 * 8 * (32 + 28 + 6 + 2 + 33)
    assert float(key.pin_bits) == float(value.pin_bits) == 3 * 32 * 128 * 16
    assert float(key.activations) == 3 * 32 and float(value.activations) == 3 * 32 * 8 * 16


# Language models -----------------------------------------------------------------------------------------------------

SMALL = llama_config(
    vocab_size=50, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=6, max_position_embeddings=64,
)  # fmt: skip


@pytest.mark.parametrize("name", first_few(1, ["dram-aim", "dram-attacc"]))
def test_a_model_takes_the_cycles_of_its_products_token_by_token(name):
    """Of each token: every matrix once, two queries a key head, and the new key and value of each head written."""
    device, run = model(name), cost(place(SMALL, System({"weights": preset(name)})), prompt=9, generate=3)
    total = 0.0
    for step in range(1, 4):
        for product in products(SMALL, Phase(tokens=1, context=9 + step)):
            sizes = (int(product.n_in), int(product.n_out), product.vectors, product.copies)
            works = [Work("gemv", *sizes)]
            if product.path.endswith("attention.qk"):
                works = [Work("score", *sizes), Work("append_key", 6, 1, 1, 2)]
            elif product.path.endswith("attention.pv"):
                works = [Work("context", *sizes), Work("append_value", 6, 1, 1, 2)]
            total += sum(float(device.commands(work, alone=False).cycles.total) for work in works)
    assert float(run.decode.latency) == pytest.approx(total * float(device.timing.t_ck), rel=1e-5)
    assert any("vector work" in note and "not counted" in note for note in run.notes)


def test_vector_work_goes_to_a_device_that_can_do_it():
    alone = cost(place(SMALL, System({"weights": preset("dram-aim")})), prompt=9, generate=3)
    both = System({"weights": preset("dram-aim"), "digital": preset("digital-28nm")})
    beside = cost(place(SMALL, both), prompt=9, generate=3)
    assert "vector" in beside.decode.ledger.components and "vector" not in alone.decode.ledger.components
    assert beside.decode.latency > alone.decode.latency and beside.energy_per_token > alone.energy_per_token
    assert not any("vector work" in note for note in beside.notes)


# Many at a time, hints, refusals -------------------------------------------------------------------------------------


def test_a_hundred_thousand_pairs_of_shape_and_preset_are_one_call():
    names = near_dram()
    devices = {name: model(name) for name in names}
    rng = np.random.default_rng(0)
    n_in, n_out = rng.integers(1, 20000, (2, -(-100_000 // len(names))))

    @jax.jit
    def latencies(devices, n_in, n_out):
        return jnp.stack([work_cost(device, n_in, n_out).latency.sum(axis=0) for device in devices.values()])

    found = np.asarray(latencies(devices, n_in, n_out))
    assert found.size >= 100_000 and np.isfinite(found).all()
    for name, row in zip(names, found, strict=True):
        for i in (0, 77, 1000):
            one = cycles(devices[name], "gemv", int(n_in[i]), int(n_out[i])) * float(devices[name].timing.t_ck)
            assert row[i] == pytest.approx(one, rel=1e-5)


def test_presets_of_one_kind_share_a_compilation():
    compiled = []

    @jax.jit
    def latency(device, n_in, n_out):
        compiled.append(1)
        return device.commands(Work("gemv", n_in, n_out)).cycles.total

    for name in ("dram-hbm-pim", "dram-hbm-pim-64"):
        latency(model(name), 4096, 4096)
    latency(on(model("dram-hbm-pim"), 7), 100, 4096)
    assert len(compiled) == 1


def test_a_wasteful_shape_is_told_with_a_better_number_of_channels():
    """1024 x 1024 on 64 pseudo-channels has 0.68 of the speed of streaming in the vendor's simulator; on 16 it takes as
    long, and 2.47 times the speed of streaming there."""
    notes = cost(preset("dram-hbm-pim-64"), (1024, 1024)).notes
    (hint,) = [note for note in notes if "wastes banks" in note]
    assert "64 channels take 3.6" in hint and "16 are as fast" in hint and "over the pins of all is faster" in hint
    many, few = model("dram-hbm-pim-64"), model("dram-hbm-pim")
    ratio = {
        d.banks.channels.item(): stream_time(d, 1024, 1024) / (cycles(d, "gemv", 1024, 1024) * 1e-9)
        for d in (many, few)
    }
    assert ratio[64] == pytest.approx(0.681, rel=0.05) and ratio[16] == pytest.approx(2.47, rel=0.05)
    assert channel_hint(many, 4096, 4096) is None and channel_hint(few, 1024, 1024) is None


def test_a_matrix_that_does_not_fit_is_told():
    (note,) = [note for note in cost(preset("dram-hbm-pim"), (65536, 65536)).notes if "do not fit" in note]
    assert note.startswith("8 GiB do not fit its 4 GiB")


@pytest.mark.parametrize("name", ["dram-hbm-pim", "dram-attacc", "dram-aim", "dram-upmem"])
def test_a_million_vectors_cost_a_million_times_one(name):
    """Counts of large work are no integers of 32 bits."""
    device = changed(model(name), refresh=None)
    few, many = (device.commands(Work("score", 128, 100_000, vectors, 8)) for vectors in (10_000, 1_000_000))
    for count in ("activations", "columns", "macs", "bits_in", "bits_out", "pin_bits"):
        assert float(getattr(many, count)) == pytest.approx(100 * float(getattr(few, count)), rel=0.01), count
    assert float(many.cycles.total) == pytest.approx(100 * float(few.cycles.total), rel=0.01)


def test_streaming_a_matrix_is_done_once_for_all_vectors():
    assert channel_hint(model("dram-aim"), 4096, 4096) is None
    assert "over the pins of all is faster" in str(channel_hint(model("dram-aim"), 4096, 4096, 64))


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("dram-attacc", {"attention.units_across": 128}, r"is less than attention.units_across, 128: raise it"),
        ("dram-aim", {"banks.row_bytes": 16}, r"banks.row_bytes = 16 is less than banks.column_bytes, 32"),
        ("dram-aim", {"banks.column_bytes": 1}, r"banks.column_bytes = 1 is less than the bytes of an operand, 2"),
        ("dram-aim", {"kernel.buffer_bytes": 1}, r"kernel.buffer_bytes = 1 is less than the bytes of an operand, 2"),
        ("dram-aim", {"refresh.n_rfc": 5000}, r"leave nothing of refresh.n_refi = 3800"),
        ("dram-aim", {"banks.channels": 2.5}, r"banks.channels = 2.5 is no whole number"),
        ("dram-hbm-pim", {"kernel.registers": 7.5}, r"kernel.registers = 7.5 is no whole number"),
    ],
)
def test_parts_that_do_not_fit_are_refused(name, changes, words):
    with pytest.raises(DeviceError, match=words):
        replace(preset(name), changes)


def test_what_is_unknown_or_not_counted_is_told():
    notes = cost(preset("dram-upmem"), (1024, 1024)).notes
    assert any("energies that are unknown: all" in note for note in notes) and "refresh is not counted" in notes
    ledger = cost(preset("dram-upmem"), (1024, 1024)).ledger
    known = {c for c, joules in zip(ledger.components, ledger.energy, strict=True) if not np.isnan(joules)}
    assert known <= {"mode", "refresh", "dies"}
    with pytest.raises(StudyError, match="a plan has products of its own"):
        cost(place(SMALL, System({"weights": preset("dram-aim")})), operation="score")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("dram-aim", {"vectors": 3_000_000_000}, r"vectors = 3e\+09 is too large, 2,147,483,647 is the most"),
        ("dram-aim", {"operation": "softmax"}, r"operation = 'softmax' is none of gemv, score, context"),
        ("dram-aim", {"copies": 0}, r"copies must be a whole number of at least 1"),
        ("rram-techC", {"operation": "score"}, r"are for near-DRAM devices, not for a AnalogMacro"),
        ("rram-techC", {"copies": 2}, r"are for near-DRAM devices"),
    ],
)
def test_bad_work_names_the_remedy(name, arguments, words):
    with pytest.raises(StudyError, match=words):
        cost(preset(name), (128, 128), **arguments)
