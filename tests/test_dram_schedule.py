"""Near-DRAM schedules: command by command they take the cycles of the simulators, and of our closed forms.

Golden rows: `dram_pim_cycles.json` of the reference data, runs of aim_simulator (0f28a07), PIMSimulator (b464dde) and
AttAcc's Ramulator 2 (c600051).
"""

import json
from collections import Counter
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pim.costs.costing import cost
from pim.devices.catalogue import preset, presets
from pim.devices.device import Device, replace
from pim.devices.dram.banks import Banks
from pim.devices.dram.kernel import Memory
from pim.devices.dram.kernels.all_bank import AllBankKernel
from pim.devices.dram.kernels.heads import HeadsKernel
from pim.devices.dram.schedules.command_bus import CommandBus
from pim.devices.dram.schedules.schedule import Kind, Schedule
from pim.devices.dram.timing import DramTiming
from pim.devices.dram.work import Commands, Work
from pim.devices.errors import DeviceError
from pim.devices.near_dram import NearDram
from pim.devices.record import cast
from pim.dram_trace import Trace
from pim.errors import StudyError

OPERATIONS = st.sampled_from(["gemv", "score", "context"])


@pytest.fixture(scope="session")
def golden(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "golden/dram_pim_cycles.json").read_text())


def device(name: str, **changes: Any) -> Device:
    return replace(preset(name), {path.replace("__", "."): value for path, value in changes.items()})


def both(model: NearDram, work: Work) -> tuple[Schedule, Commands]:
    return model.schedule(work), model.commands(work)


def aim_row(row: dict[str, Any], **changes: Any) -> tuple[Device, Work]:
    on = device("dram-aim", banks__channels=row["channels"], kernel__registers=row.get("reuse", 1), **changes)
    if row["kind"] == "gemv":
        return on, Work("gemv", row["in"], row["out"])
    return on, Work("score", row["d"], row["L"]) if row["kind"] == "score" else Work("context", row["L"], row["d"])


# Against the simulators ----------------------------------------------------------------------------------------------


def test_aim_is_told_the_commands_of_its_simulator_in_the_same_cycles(golden):
    """All 19 rows: cycles and the number of each of seven commands, as integers."""
    assert len(golden["aim_gddr6"]) == 19
    for row in golden["aim_gddr6"]:
        on, work = aim_row(row, refresh=None)
        schedule = on.model.schedule(work)
        assert schedule.end == row["cycles"], row
        assert schedule.counts() == row["commands_one_channel"], row


@pytest.mark.parametrize(("rows", "refresh", "off"), [("_no_refresh", False, 0), ("", True, 1)])
def test_hbm_pim_is_told_the_accesses_of_its_simulator_in_the_same_cycles(golden, rows, refresh, off):
    """8 rows without refresh, and 14 of 16 with it; the other two are a cycle short, that in which the other rank of
    the simulated memory is refreshed."""
    exact = 0
    for row in golden[f"hbmpim_pimsimulator{rows}"]:
        on = device("dram-hbm-pim", banks__channels=row["channels"], **({} if refresh else {"refresh": None}))
        schedule = on.model.schedule(Work("gemv", row["in"], row["out"], row["batch"]))
        assert abs(schedule.end - row["pim_cycles"]) <= off, row
        exact += schedule.end == row["pim_cycles"]
        counts = schedule.counts()
        assert (counts["RD"] + counts["MAC8"]) * row["channels"] == row["pim_reads"]
        assert sum(n for name, n in counts.items() if name[:2] == "WR") * row["channels"] == row["pim_writes"]
    assert exact == (14 if refresh else 8)


def test_attacc_takes_the_cycles_of_its_closed_form(golden):
    names = {"bank": "dram-attacc", "bg": "dram-attacc-bank-group", "buffer": "dram-attacc-buffer"}
    for row in golden["attacc_ramulator2"]:
        changes = {"timing__all_bank_act": "free"} if "NPC" in row["timing"] else {}
        on = device(names[row["unit"]], **changes)
        shapes = [("gemv", row["in"], row["out"])] if row["kind"] == "gemv" else []
        if not shapes:
            heads = (1, row["heads_per_stack"])
            shapes = [("score", row["d"], row["L"], *heads), ("context", row["L"], row["d"], *heads)]
        for shape in shapes:
            schedule, form = both(on.model, Work(*shape))
            assert schedule.end == float(form.cycles.total), row
            units = on.model.banks.banks / on.model.banks.banks_per_unit
            macs = schedule.counts()[f"MAC{int(units)}"]
            turns = -(-row.get("heads_per_stack", 16) // 16)
            assert macs * units * 16 * row.get("heads_per_stack", 16) / (16 * turns) == float(form.columns)


# Against the closed form, anywhere -----------------------------------------------------------------------------------


def aim_like(draw: Any, level: str, operation: str, turns: bool) -> tuple[AllBankKernel, Memory]:
    """A memory and a kernel with intervals that no chip has, within what the closed form says it holds for."""
    small = lambda low, high: draw(st.integers(low, high))
    timing = DramTiming(
        1e-9, n_bl=2, n_cl=10, n_rcd=small(1, 20), n_rcd_wr=10, n_rp=small(1, 20), n_ras=small(1, 60),
        n_rtp=small(1, 15), n_wr=5, n_ccd_s=2, n_ccd_l=small(1, 6), n_faw=small(1, 30),
        all_bank_act=draw(st.sampled_from(["free", "t_faw"])), n_rcd_mac=draw(st.sampled_from([None, 3, 30])),
    )  # fmt: skip
    early = draw(st.sampled_from(["no", "yes"]))
    kernel = AllBankKernel(
        buffer_bytes=draw(st.sampled_from([32, 64, 128, 512])), n_buffer=small(1, 4), n_turn=small(0, 6),
        registers=small(1, 5), n_read=small(0, 3), n_preset=small(0, 3), n_mode=draw(st.sampled_from([0, 1, 40])),
        early_row=early,
    )  # fmt: skip
    first = timing.n_rcd if timing.n_rcd_mac is None else timing.n_rcd_mac
    assume(timing.n_rtp + timing.n_rp + first >= timing.n_ccd_l and timing.n_faw <= timing.n_ras + timing.n_rp)
    if operation == "score" or early == "yes" or turns:  # reads between the columns of a row: n_ras has passed
        assume(timing.n_ras <= first + timing.n_rtp)
    per_unit = small(1, 2) if level == "bank" else 4
    banks = Banks(
        draw(st.sampled_from([1, 3, 8])), 8, draw(st.sampled_from([128, 256])), 32, 1e6, banks_per_unit=per_unit
    )
    return cast(kernel), Memory(cast(banks), cast(timing), level, 16)


@settings(max_examples=100)
@given(
    OPERATIONS,
    st.integers(1, 200),
    st.integers(1, 200),
    st.integers(1, 3),
    st.sampled_from([1, 1, 2, 5, 12]),
    st.data(),
)
def test_the_closed_form_is_the_schedule(operation, n_in, n_out, vectors, copies, data):
    """Any shape, registers, presets, buffer, copies, modal or not: cycles, and the count of every command."""
    kernel, memory = aim_like(data.draw, "bank", operation, vectors > 1 and copies > 1)
    work = Work(operation, n_in, n_out, vectors, copies)
    schedule, form = kernel.schedule(memory, work, None), kernel.commands(memory, work)
    assert schedule.end == float(form.cycles.total)
    assert all(float(part) >= 0 for part in jax.tree.leaves(form.cycles))
    assert_counts_agree(schedule, form, memory, copies, vectors)


def assert_counts_agree(schedule: Schedule, form: Commands, memory: Memory, copies: int, vectors: int) -> None:
    """Every channel that holds a part of a copy is counted as the busiest is: rounds of copies are the busiest's."""
    banks, units = float(memory.banks.banks), float(memory.banks.banks / memory.banks.banks_per_unit)
    counts = Counter({name.rstrip("0123456789"): count for name, count in schedule.counts().items()})
    width = float(memory.banks.column_bytes) * 8
    channels = float(form.columns) / (counts["MAC"] * units)  # as many busiest channels as there are columns for
    opened = banks if memory.level == "bank" else units
    steps = -(-opened // 4) if memory.timing.all_bank_act == "t_faw" else 1
    assert counts["ACT"] / steps * opened * channels == pytest.approx(float(form.activations))
    assert counts["WRGB"] * width * channels == pytest.approx(float(form.bits_in))
    assert counts["RDMAC"] * units * memory.bits * channels == pytest.approx(float(form.bits_out))
    assert counts["WRMAC"] * units * memory.bits * channels == pytest.approx(float(form.preset_bits))
    rounds = -(-copies // float(memory.banks.channels))
    assert channels * rounds == pytest.approx(round(channels * rounds)) and channels * rounds >= copies


@given(
    st.sampled_from(["bank_group", "buffer"]),
    OPERATIONS,
    st.integers(1, 300),
    st.integers(1, 200),
    st.integers(1, 2),
    st.data(),
)
def test_units_with_several_banks_wait_for_the_first_row_alone(level, operation, n_in, n_out, vectors, data):
    """Unless rows have so few columns that the next is not open in time: then the schedule is longer."""
    kernel, memory = aim_like(data.draw, level, operation, False)
    work = Work(operation, n_in, n_out, vectors)
    schedule, form = kernel.schedule(memory, work, None), kernel.commands(memory, work)
    assert schedule.end >= float(form.cycles.total)
    assert_counts_agree(schedule, form, memory, 1, vectors)
    quick = memory._replace(timing=cast(changed(memory.timing, n_rp=1, n_rtp=1, n_rcd=1, n_rcd_mac=1, n_ras=1)))
    quick = quick._replace(timing=changed(quick.timing, n_ccd_l=jnp.float32(4), all_bank_act="free"))
    alone = Work(operation, n_in, n_out)
    assert kernel.schedule(quick, alone, None).end == float(kernel.commands(quick, alone).cycles.total)


@given(
    st.sampled_from(["bank", "bank_group", "buffer"]),
    st.sampled_from(["score", "context"]),
    st.integers(1, 300),
    st.integers(1, 1000),
    st.integers(1, 40),
    st.integers(1, 80),
)
def test_heads_take_the_cycles_of_their_closed_form(level, operation, dim, tokens, heads, n_ras):
    per_unit = {"bank": 1, "bank_group": 4, "buffer": 16}[level]
    banks = cast(Banks(4, 16, 256, 32, 1e6, banks_per_unit=per_unit))
    timing = cast(DramTiming(1e-9, 2, 10, 5, 5, 4, n_ras if level == "bank" else 9, 3, 5, 2, 4, 20))
    kernel, memory = cast(HeadsKernel(1 if per_unit == 16 else 4)), Memory(banks, timing, level, 16)
    work = Work(operation, *((dim, tokens) if operation == "score" else (tokens, dim)), 1, heads)
    schedule, form = kernel.schedule(memory, work, None), kernel.commands(memory, work)
    columns = schedule.counts()[f"MAC{16 // per_unit}"] / -(-heads // 4)
    assert float(form.columns) == columns * heads * 16 / per_unit
    if level == "bank" or columns >= 8:  # else rows of a column or two wait for their openings
        assert schedule.end == float(form.cycles.total)
    assert schedule.end >= float(form.cycles.total)


@pytest.mark.slow
@settings(max_examples=15)
@given(
    st.integers(1, 900), st.integers(1, 300), st.integers(1, 2), st.integers(1, 2),
    st.sampled_from([4, 8, 16]), st.data(),
)  # fmt: skip
def test_what_a_tile_costs_in_lockstep_follows_from_the_intervals(n_in, n_out, vectors, copies, registers, data):
    """With any intervals, form and schedule differ by what entering and leaving the mode takes, alike for all sizes:
    `n_start` is a figure for the preset's. Tiles fill a row at least: results share the row of shorter ones."""
    intervals = {"n_rp": (11, 20), "n_rcd": (11, 20), "n_rcd_wr": (8, 14), "n_rtp": (2, 6), "n_ccd_l": (4, 6)}
    delays = {"n_write_read": (15, 25), "n_read_write": (12, 18), "n_write_close": (22, 33)}
    timing = {f"timing__{name}": data.draw(st.integers(*span)) for name, span in intervals.items()}
    kernel = {f"kernel__{name}": data.draw(st.integers(*span)) for name, span in delays.items()}
    for changes in ({}, timing | kernel):
        model = device("dram-hbm-pim", banks__channels=1, refresh=None, kernel__registers=registers, **changes).model
        one, some = (both(model, Work("gemv", *sizes)) for sizes in ((128, 8), (n_in, n_out, vectors, copies)))
        start = one[0].end - float(one[1].cycles.total)
        assert some[0].end - float(some[1].cycles.total) == start
        if not changes:
            assert start == 0
        schedule, form = some
        data_rows = schedule.row < float(model.banks.rows) - 4
        opened = np.isin(schedule.cycle, schedule.of("ACT8")) & data_rows & (schedule.column < 0)
        assert 8 * (opened & np.isin(schedule.command, kinds(schedule, "ACT8"))).sum() == float(form.activations)
        assert 8 * schedule.counts()["MAC8"] == float(form.columns)
        assert 256 * schedule.counts()["WRGRF"] == float(form.bits_in)
        assert 8 * 256 * schedule.counts()["WRRES8"] == float(form.bits_out)


def kinds(schedule: Schedule, *names: str) -> list[int]:
    return [i for i, kind in enumerate(schedule.kinds) if kind.name in names]


@pytest.mark.parametrize("name", [row.name for row in presets() if row.family == "near-dram"])
def test_every_preset_of_one_command_to_all_banks_has_the_schedule_of_its_form(name):
    model = preset(name).model
    if not isinstance(model.kernel, AllBankKernel):
        pytest.skip("another kernel, tested above")
    for n_in, n_out, vectors in ((1, 1, 1), (700, 3000, 2), (5000, 1000, 1)):
        schedule, form = both(model, Work("gemv", n_in, n_out, vectors))
        assert schedule.end == float(form.cycles.total)


# Laws of a schedule ---------------------------------------------------------------------------------------------------


def test_commands_keep_their_intervals_and_go_one_a_cycle():
    """Looked up in the finished list of commands, not in what made it."""
    schedule = device("dram-aim", refresh=None, kernel__registers=3).model.schedule(Work("gemv", 1500, 3000))
    assert (np.diff(schedule.cycle) >= 1).all()
    intervals = {
        ("ACT16", "MAC16"): 56, ("ACT16", "PREA"): 54, ("MAC16", "PREA"): 12, ("PREA", "ACT16"): 32,
        ("MAC16", "MAC16"): 2, ("WRGB", "WRGB"): 2, ("RDMAC16", "RDMAC16"): 3, ("RDMAC16", "WRMAC16"): 5,
        ("TMOD", "MAC16"): 32, ("TMOD", "PREA"): 32, ("TMOD", "RDMAC16"): 32, ("TMOD", "WRGB"): 32,
    }  # fmt: skip
    for (before, after), cycles in intervals.items():
        earlier, later = schedule.of(before), schedule.of(after)
        place = np.searchsorted(earlier, later) - 1  # the last one before each
        assert (later - earlier[place])[place >= 0].min() >= cycles, (before, after)


def test_each_product_reads_a_row_that_is_open():
    for name, work in (("dram-aim", ("score", 128, 700)), ("dram-attacc-bank-group", ("gemv", 500, 900))):
        schedule = device(name).model.schedule(Work(*work))
        open_rows: dict[int, int] = {}
        for i, kind in enumerate(schedule.kinds[number] for number in schedule.command):
            bank, row = int(schedule.bank[i]), int(schedule.row[i])
            if kind.name.startswith("ACT"):
                open_rows[bank] = row
            elif kind.name.startswith("PRE"):
                assert open_rows.pop(bank) == row
            elif kind.name.startswith("MAC"):
                assert open_rows[bank if "group" in name else -1] == row


def test_refreshes_come_when_they_are_due_and_move_the_rest():
    model = device("dram-aim", banks__channels=2).model
    schedule, form = both(model, Work("gemv", 4096, 4096))
    refreshes, stall = schedule.of("REFab"), int(model.refresh.stall)
    np.testing.assert_array_equal(refreshes, 3800 * np.arange(1, len(refreshes) + 1))
    assert schedule.end == float(form.cycles.total) and len(refreshes) * 2 == float(form.refreshes)
    for cycle in refreshes:
        assert not ((schedule.cycle > cycle) & (schedule.cycle < cycle + stall)).any()
    plain = changed(model, refresh=None).schedule(Work("gemv", 4096, 4096))
    assert schedule.counts() == {**plain.counts(), "REFab": len(refreshes)}
    short = device("dram-aim").model.schedule(Work("gemv", 64, 64))
    assert "REFab" not in short.counts()


def test_a_bus_issues_each_command_as_soon_as_may_be():
    bus = CommandBus([Kind("ACT"), Kind("RD", "read")], {("ACT", "RD"): 5, ("RD", "RD"): 2})
    assert bus.last("RD") == -1
    assert [bus.issue("ACT", row=1), bus.issue("RD", 3, row=1, column=4), bus.issue("ACT", row=2)] == [0, 5, 10]
    assert [bus.issue("ACT", row=3, ahead=True), bus.issue("ACT", row=4, ahead=True)] == [0, 1]  # a bus of their own
    schedule = bus.schedule(20)
    assert schedule.cycle.tolist() == [0, 0, 1, 5, 7, 9, 10] and schedule.column.tolist()[3:6] == [4, 5, 6]
    assert len(schedule) == 7 and schedule.counts() == {"ACT": 4, "RD": 3}


def test_a_schedule_is_printed_run_by_run():
    text = str(device("dram-aim", refresh=None).model.schedule(Work("gemv", 1024, 1024)))
    assert text.startswith("204 commands in 700 cycles: 64 WRGB, 2 WRMAC16, ")
    assert "     32..158  WRGB         -      -  0..63" in text and "ACT16" in text
    assert len(device("dram-aim").model.schedule(Work("gemv", 4096, 4096)).table(5).splitlines()) == 7


# Traces --------------------------------------------------------------------------------------------------------------


def test_a_cost_brings_its_trace_if_it_is_asked_for():
    found = cost(device("dram-aim", refresh=None), (1024, 1024), trace=True)
    assert isinstance(found.trace, Trace) and cost(preset("dram-aim"), (1024, 1024)).trace is None
    trace = found.trace
    assert trace.schedule.end * 0.5e-9 == pytest.approx(float(found.latency))
    events = trace.events
    assert len(events) == len(trace) == sum(trace.counts().values())
    assert events["time"][1] == 32 * 5e-10 and events["command"][1] == "WRGB"
    assert (events["command"] == "ACT16").sum() == trace.counts()["ACT16"] == 2
    assert str(trace) == str(trace.schedule)
    assert jax.tree.map(lambda leaf: leaf, found).trace is None  # told, and no part of the pytree
    heads = cost(preset("dram-attacc"), (128, 2048), operation="score", copies=16, trace=True)
    assert heads.trace.counts() == {"ACT64": 8, "PREA": 8, "MAC64": 256}


def parsed(text: str) -> list[tuple[str, ...]]:
    """Lines of AiM instructions, refused where the simulator would refuse them."""
    fields = {"WR_GB": 3, "WR_BIAS": 2, "MAC_ABK": 3, "RD_MAC": 2, "EOC": 0}
    assert text.endswith("AiM EOC\n") and text.count("EOC") == 1
    lines = [tuple(line.split(" ")) for line in text.removesuffix("\n").split("\n")]
    for word, name, *rest in lines:
        assert word == "AiM" and len(rest) == fields[name] and all(int(field, 0) >= 0 for field in rest)
    return [line[1:] for line in lines]


def test_aim_instructions_are_those_of_its_golden_runs(golden):
    for row in golden["aim_gddr6"]:
        on, work = aim_row(row)
        lines = parsed(Trace(on.model, work, on.model.schedule(work)).aim_isr())
        counts: Counter[str] = Counter()
        for name, *rest in lines[:-1]:
            counts[name] += int(rest[0]) if name in ("WR_GB", "MAC_ABK") else 1
            mask = int(rest[2 if name == "WR_GB" else 1], 16)
            assert mask == ((1 << 32) - 1) >> (32 - row["channels"]) << (32 - row["channels"])
        rows = len({rest[2] for name, *rest in lines if name == "MAC_ABK"})
        assert {**counts, "ROW": rows} == row["isr"], row


@given(OPERATIONS, st.integers(1, 2500), st.integers(1, 700), st.integers(1, 2), st.integers(1, 9), st.integers(1, 4))
def test_aim_instructions_give_each_channel_its_commands(operation, n_in, n_out, vectors, copies, registers):
    """The busiest channel gets those of the schedule, the others as many or fewer, and all together every output."""
    on = device("dram-aim", refresh=None, banks__channels=5, kernel__registers=registers)
    trace = cost(on, (n_in, n_out), vectors=vectors, copies=copies, operation=operation, trace=True).trace
    channels: list[Counter[str]] = [Counter() for _ in range(32)]
    for name, *rest in parsed(trace.aim_isr())[:-1]:
        mask = int(rest[2 if name == "WR_GB" else 1], 16)
        for channel in range(32):
            if mask >> (31 - channel) & 1:
                channels[channel][name] += int(rest[0]) if name in ("WR_GB", "MAC_ABK") else 1
    counts = trace.counts()
    expected = {"WR_GB": "WRGB", "WR_BIAS": "WRMAC16", "MAC_ABK": "MAC16", "RD_MAC": "RDMAC16"}
    assert channels[0] == {ours: counts[theirs] for ours, theirs in expected.items()}
    assert all(channel[name] <= channels[0][name] for channel in channels for name in expected)
    assert not any(channel for channel in channels[5:])
    pieces = 1 if operation == "score" and n_in <= 1024 else -(-n_in // 1024)
    results = sum(channel["RD_MAC"] for channel in channels) * 16
    assert results >= n_out * vectors * copies * pieces  # a bank that is full or padded is read
    if copies == 1 and operation == "gemv":
        per = -(-n_out // 80)
        assert results <= (n_out + 16 * per) * vectors * pieces  # but no channel beyond the last that has any


def accesses(text: str) -> list[tuple[Any, ...]]:
    lines = text.removesuffix("\n").split("\n")
    assert all(line.count(" ") == 1 for line in lines)
    return [(line[0], *map(int, line[2:].split(","))) for line in lines]


@pytest.mark.parametrize(
    ("name", "units", "deep"),
    [("dram-aim", 16, 1), ("dram-hbm-pim", 8, 2), ("dram-attacc", 64, 1), ("dram-attacc-buffer", 2, 32)],
)
def test_accesses_for_ramulator_name_every_bank_once(name, units, deep):
    trace = cost(preset(name), (700, 300), trace=True).trace
    found, counts = accesses(trace.ramulator()), trace.counts()
    macs = counts[f"MAC{units}"]
    alone = sum(n for kind, n in counts.items() if kind[:2] in ("RD", "WR")) - counts.get("WRRES8", 0)
    assert len(found) == units * (macs + counts.get("WRRES8", 0)) + alone
    last = int(trace.device.banks.rows) - 1
    assert all(channel == 0 and bank < 4 and row <= last for _, channel, _, bank, row, _ in found)
    columns = int(trace.device.banks.columns)
    products = [line for line in found if line[0] == "R" and line[4] < last - 3]
    assert len(products) == macs * units and all(line[5] < columns for line in products)
    (at,) = kinds(trace.schedule, f"MAC{units}")
    first = int(trace.schedule.bank[trace.schedule.command == at][0])
    assert [4 * group + bank for _, _, group, bank, _, _ in products[:units]] == [
        unit * deep + first for unit in range(units)
    ]
    times_read = Counter(products)  # sums go through the matrix once
    assert set(times_read.values()) == {1}


def test_traces_are_files(tmp_path: Path):
    trace = cost(preset("dram-aim"), (256, 64), trace=True).trace
    for form, text in (("aim", trace.aim_isr()), ("ramulator", trace.ramulator())):
        assert trace.save(tmp_path / "it.trace", format=form).read_text() == text
        assert [path.name for path in tmp_path.iterdir()] == ["it.trace"]
    with pytest.raises(StudyError, match="format = 'csv' is none of aim, ramulator"):
        trace.save(tmp_path / "it.trace", format="csv")
    with pytest.raises(StudyError, match="a folder of that name"):
        trace.save(tmp_path, format="aim")


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("dram-hbm-pim", {}, "a LockstepKernel at the bank has none: take"),
        ("dram-attacc", {}, r"AiM has banks.banks = 16, not 64"),
        ("dram-aim", {"banks__row_bytes": 1024}, r"AiM has banks.row_bytes = 2048, not 1024"),
        ("dram-aim", {"banks__channels": 33}, r"not 33 with 8: take banks.channels <= 32"),
    ],
)
def test_aim_instructions_are_refused_where_they_do_not_apply(name, changes, words):
    with pytest.raises(StudyError, match=words):
        cost(device(name, **changes), (128, 64), trace=True).trace.aim_isr()


def test_a_long_buffer_is_no_instruction_of_aim():
    with pytest.raises(StudyError, match=r"with 100: take banks.channels <= 32 and kernel.buffer_bytes <= 2048"):
        cost(device("dram-aim", kernel__buffer_bytes=4096), (1600, 64), trace=True).trace.aim_isr()


@pytest.mark.parametrize(
    ("name", "shape", "extra", "words"),
    [
        ("dram-aim", (np.array([128, 256]), 64), {}, "n_in must be one number"),
        ("dram-aim", (128, 64), {"copies": np.array([1, 2])}, "copies must be one number"),
        ("dram-aim", (4096, 4096), {"vectors": 10**6}, "5e.06 is the most: take fewer vectors or copies"),
        ("dram-hbm-pim", (4096, 4096), {"vectors": 10**6}, "5e.06 is the most: take fewer vectors or copies"),
        ("dram-attacc", (2**17, 128), {"operation": "context", "copies": 10**6}, "is the most: take fewer vectors"),
        ("dram-upmem", (128, 64), {}, "a number of instructions, and no schedule of DRAM commands"),
        ("dram-aim-cent", (128, 64), {"operation": "score"}, "front end that all channels share. Take the attention"),
        ("dram-hbm-pim", (4096, 40000), {"copies": 40}, r"rows of each bank, and there are 16380: take a smaller"),
    ],
)
def test_a_schedule_that_is_none_says_what_to_do(unchecked, name, shape, extra, words):
    with pytest.raises(DeviceError, match=words):
        cost(preset(name), shape, trace=True, **extra)


def test_what_does_not_fit_has_no_schedule():
    few = {"banks__rows": 100, "banks__channels": 1}
    with pytest.raises(DeviceError, match=r"128 rows of each bank are needed, and there are 100: take a smaller"):
        device("dram-aim", **few).model.schedule(Work("gemv", 2048, 1024))
    with pytest.raises(DeviceError, match=r"2 heads of 128 rows in each unit are more than banks.rows = 100"):
        device("dram-attacc", **few).model.schedule(Work("score", 128, 32768, 2))


def test_a_schedule_is_of_one_product_on_one_device():
    model = device("dram-aim").model
    with pytest.raises(DeviceError, match="n_out is traced: ask outside jit and vmap"):
        jax.jit(lambda n: model.schedule(Work("gemv", 16, n)).end)(16)
    with pytest.raises(DeviceError, match=r"banks.column_bytes is traced"):
        jax.jit(lambda on: on.schedule(Work("gemv", 16, 16)).end)(model)
    for wrong, words in ((Work("gemv", 0, 16), "n_in = 0 is no size"), (Work("gemv", 1.5, 2), "n_in = 1.5 is no size")):
        with pytest.raises(DeviceError, match=words):
            model.schedule(wrong)
    with pytest.raises(DeviceError, match="there are schedules of gemv, score, context, and none of 'append_key'"):
        model.schedule(Work("append_key", 128, 1))
    with pytest.raises(DeviceError, match="serves an even and an odd bank"):
        device("dram-hbm-pim", banks__banks_per_unit=4).model.schedule(Work("gemv", 16, 16))


def test_a_trace_is_of_a_near_dram_device():
    words = "a trace lists the commands of a product on a near-DRAM device: leave trace away"
    with pytest.raises(StudyError, match=words):
        cost(preset("rram-techC"), (128, 128), trace=True)
    with pytest.raises(StudyError, match=words):
        cost(object(), (128, 128), trace=True)  # type: ignore[call-overload]
