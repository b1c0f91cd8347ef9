"""Presets of DRAM with units at its banks: what they come to, and their energies from what their sources say."""

import json

import numpy as np
import pytest
from covering import first_few

from pim.channel_hint import internal_bound, stream_time
from pim.costs.costing import cost
from pim.costs.near_dram_cost import matrix_cost
from pim.device_plot import device_figure
from pim.devices.catalogue import preset, preset_names
from pim.devices.device import Device, replace
from pim.devices.dram.energy import CommandEnergy

FACTS = {
    # name: (GiB, GB/s inside, GB/s over the pins, us and uJ of a 4096 x 4096 product, pJ a multiply-accumulate less
    # standby and refresh)
    "dram-hbm2": (8, 2048, 256, 29.12, 190.0, 10.70),
    "dram-hbm2-dramsim3": (8, 4096, 256, 25.83, 478.7, 27.55),
    "dram-hbm3": (16, 13107, 819.2, 8.32, 181.9, 9.43),
    "dram-gddr6": (2, 449.1, 56.14, 126.5, 297.7, 13.56),
    "dram-lpddr5": (8, 409.6, 51.2, 119.1, 172.1, 8.57),
    "dram-lpddr5x-pim": (8, 409.6, 51.2, 119.1, 172.1, 8.57),
    "dram-ddr4": (8, 204.9, 19.21, 201.1, 297.3, 10.70),
    "dram-ddr4-3200": (8, 204.8, 25.6, 200.2, 323.3, 11.24),
    "dram-ddr5": (16, 820.5, 38.46, 70.6, 247.1, 9.09),
}
"""Computed here when the presets were made: a change of a preset or of the closed form shows."""

GENERAL = [*FACTS]
KNOWN = ["dram-aim", "dram-hbm-pim", "dram-attacc"]
SHAPES = (np.array([16, 128, 1000, 4096, 11008]), np.array([4096, 2048, 33, 4096, 4096]))
BIG = (65536, 65536)
PEER = "dram-hbm2-dramsim3"
"""Its currents do not tell the edge of the bank from the pads: a product pays for a whole read."""


def of_16_bits(name: str) -> Device:
    """The preset, in one arithmetic for all: its cost knows the width alone, and one compilation serves them."""
    return replace(preset(name), {"arithmetic": preset("dram-hbm2").model.arithmetic})


def energies(device: Device, *shape: int, **work) -> dict[str, float]:
    ledger = matrix_cost(device.model, *shape, **work).by_component()
    return dict(zip(ledger.components, np.asarray(ledger.energy, np.float64).tolist(), strict=True))


def test_every_table_of_timings_has_its_preset():
    assert set(preset_names()) >= {*GENERAL, *KNOWN} and "dram-bank-level" not in preset_names()
    for name in GENERAL:
        device = preset(name)
        assert device.family == "near-dram" and device["timing.all_bank_act"] == "t_faw"
        grades = {path: entry.grade for path, entry in device.provenance.items()}
        assert "recalled" not in grades.values() and grades["timing.t_ck"] == "stated"
    assert preset("dram-lpddr5x-pim").summary.startswith("HYPOTHETICAL")


@pytest.mark.parametrize("name", GENERAL)
def test_facts_of_general_presets(name):
    device = of_16_bits(name)
    assert device.model.memory.bits == preset(name).model.memory.bits
    capacity, inside, outside, latency, energy, mac = FACTS[name]
    bits = BIG[0] * BIG[1] * device.model.memory.bits
    stream = float(stream_time(replace(device, {"refresh": None}).model, *BIG))
    assert float(device.model.banks.capacity) == capacity * 2**30
    assert bits / 8 / float(internal_bound(device.model, *BIG)) == pytest.approx(1e9 * inside, rel=1e-3)
    assert bits / 8 / stream == pytest.approx(1e9 * outside, rel=1e-3)
    assert inside > 4 * outside
    found = cost(device, (4096, 4096))
    assert float(found.latency) == pytest.approx(1e-6 * latency, rel=1e-3)
    assert float(found.energy) == pytest.approx(1e-6 * energy, rel=1e-3)
    parts = energies(device, 4096, 4096)
    dynamic = (sum(parts.values()) - parts["static"] - parts["refresh"]) / 4096**2
    assert dynamic == pytest.approx(1e-12 * mac, rel=1e-3)
    assert 2e-12 < dynamic < (30e-12 if name == PEER else 20e-12)


@pytest.mark.parametrize("name", first_few(5, [*KNOWN, *GENERAL]))  # KNOWN: a kernel each; GENERAL: one for all
def test_a_product_takes_at_least_its_reading_and_rules_only_slow_it_down(name):
    """Activation under t_faw is never faster than free, refresh never shortens anything, rows sum to the total."""
    device = of_16_bits(name)
    free, calm = replace(device, {"timing.all_bank_act": "free"}), replace(device, {"refresh": None})
    slow = replace(device, {"timing.all_bank_act": "t_faw"})
    found, unhindered, unrefreshed, limited = (cost(d, SHAPES) for d in (device, free, calm, slow))
    for one, other in ((found, unrefreshed), (limited, unhindered)):
        assert (np.asarray(one.latency) >= np.asarray(other.latency)).all()
        assert (np.asarray(one.energy) >= np.asarray(other.energy)).all()
    assert (np.asarray(found.latency) > np.asarray(internal_bound(device.model, *SHAPES))).all()
    assert (np.asarray(found.ledger.energy) >= 0).all() and np.isfinite(np.asarray(found.energy)).all()
    np.testing.assert_allclose(found.energy, np.asarray(found.ledger.energy, np.float64).sum(axis=0), rtol=1e-6)


def test_a_longer_window_of_activation_is_what_parts_the_two_hbm2():
    """At the same clock: tFAW 15 and 30 ns, tCCD 4 and 2 ns; a row of 16 banks opens in 3 windows beyond the first."""
    ours, peer = preset("dram-hbm2"), preset(PEER)
    assert float(ours.model.timing.opened(16.0)) == 14 + 3 * 15 and float(peer.model.timing.opened(16.0)) == 14 + 3 * 30
    assert float(ours.model.timing.n_column("bank")) == 2 * float(peer.model.timing.n_column("bank"))


def test_a_rank_is_as_wide_as_its_bus():
    """Chips in lock-step: a burst of all is a cache line, a vector reaches each over its own pins."""
    for name, burst in (("dram-ddr4", 64), ("dram-ddr5", 128)):
        model = preset(name).model
        assert float(model.banks.channels * model.banks.column_bytes) == burst
        one = replace(preset(name), {"banks.channels": 1})
        pins = [energies(d, 4096, int(d["banks.channels"]) * 512)["io"] for d in (one, preset(name))]
        assert pins[1] == pytest.approx(8 * pins[0])


def test_at_lpddr5x_rates_the_hypothetical_device_has_the_bandwidth_that_is_told_of_it():
    """102.4 GB/s in a die of LPDDR5-PIM, and 614 GB/s for 76.8 GB/s of a package at 9.6 Gb/s: eight times, as here."""
    device = preset("dram-lpddr5x-pim")
    size = 2 * BIG[0] * BIG[1]
    die = replace(device, {"banks.channels": 1}).model
    assert size / float(internal_bound(die, *BIG)) == pytest.approx(102.4e9, rel=1e-3)
    fast = replace(device, {"timing.t_ck": 1.25e-9 * 6400 / 9600, "refresh": None}).model
    assert size / float(internal_bound(fast, *BIG)) == pytest.approx(614.4e9, rel=1e-3)
    assert size / float(stream_time(fast, *BIG)) == pytest.approx(76.8e9, rel=1e-3)


# Energies from currents ---------------------------------------------------------------------------------------------


def one_bank(vdd: float, idd0: float, idd2n: float, idd3n: float, ras: float, rp: float, banks: float = 1) -> float:
    """Opening and closing a row: volts, milliamperes, nanoseconds; IDD3N holds for so many open banks."""
    standby = idd2n + (idd3n - idd2n) / banks
    return 1e-12 * vdd * (idd0 * (ras + rp) - standby * ras - idd2n * rp)


def read(vdd: float, idd4r: float, idd3n: float, gigabits: float) -> float:
    """A bit read at full rate."""
    return 1e-12 * vdd * (idd4r - idd3n) / gigabits


SQUARE = {volts: (volts / 1.2) ** 2 for volts in (1.05, 1.1, 1.35)}
"""Energies of HBM2 at another supply."""

FROM_CURRENTS = {
    ("dram-hbm2-dramsim3", "activation"): one_bank(1.2, 65, 40, 55, 34, 14),
    ("dram-hbm2-dramsim3", "cell"): read(1.2, 390, 55, 256),
    ("dram-hbm3", "activation"): 909e-12 * SQUARE[1.1],
    ("dram-hbm3", "cell"): 0.44e-12 * SQUARE[1.1],
    ("dram-gddr6", "activation"): 66.3e-3 * 44.5e-9,
    ("dram-gddr6", "cell"): 0.44e-12 * SQUARE[1.35],
    ("dram-lpddr5", "activation"): one_bank(1.05, 53, 32.5, 40, 42, 18, 16) + one_bank(1.8, 3.8, 1.5, 2.8, 42, 18, 16),
    ("dram-lpddr5", "cell"): 0.44e-12 * SQUARE[1.05],
    ("dram-lpddr5", "pins"): read(0.5, 111.9, 0.6, 120),
    ("dram-ddr4", "activation"): one_bank(1.2, 48, 34, 43, 32, 14.16, 16),
    ("dram-ddr4", "pins"): 0.5 * 1.2**2 / 74 / 2.4e9,
    ("dram-ddr4-3200", "activation"): one_bank(1.2, 57, 37, 52, 32.5, 13.75, 16),
    ("dram-ddr4-3200", "pins"): 0.5 * 1.2**2 / 74 / 3.2e9,
    ("dram-ddr5", "activation"): one_bank(1.1, 103, 92, 142, 32, 16, 32),
    ("dram-ddr5", "cell"): 0.44e-12 * SQUARE[1.1],
    ("dram-ddr5", "pins"): 0.5 * 1.1**2 / 74 / 4.8e9 + read(1.1, 57, 31, 38.4),
    **{("dram-hbm2", "refresh"): 1.2 * (66.331 - 14.281) * 350e-12, ("dram-hbm2", "standby"): 1.2 * 14.281e-3},
    **{("dram-hbm-pim", "refresh"): 1.2 * (66.331 - 14.281) * 350e-12, ("dram-hbm-pim", "standby"): 1.2 * 14.281e-3},
    **{("dram-hbm3", "refresh"): 1.1 * (164.7 - 73.3) * 350e-12, ("dram-hbm3", "standby"): 1.1 * 73.3e-3},
    **{("dram-attacc", "refresh"): 2.2 * (164.7 - 73.3) * 350e-12, ("dram-attacc", "standby"): 2.2 * 73.3e-3},
    **{(name, "refresh"): 1.35 * (790 - 460) / 2 * 120e-12 for name in ("dram-gddr6", "dram-aim")},
    ("dram-lpddr5", "refresh"): 1.05 * (205 - 40) * 280e-12,
    ("dram-lpddr5", "standby"): 1.05 * 40e-3 + 1.8 * 2.8e-3,
    ("dram-ddr4", "refresh"): 1.2 * (34 + (53 - 34) * 7800 / 350 - 43) * 350e-12,
    ("dram-ddr4", "standby"): 1.2 * 43e-3,
    ("dram-ddr4-3200", "standby"): 1.2 * 52e-3,
    ("dram-ddr5", "refresh"): 1.1 * (277 - 142) * 295e-12,
    ("dram-ddr5", "standby"): 1.1 * 142e-3,
}
WHOLE_READ = {
    "dram-gddr6": 438.15e-3 * 1.25e-9 / 256,
    "dram-lpddr5": read(1.05, 390, 40, 120) + read(1.8, 18.0, 2.8, 120),
    "dram-ddr4": read(1.2, 135, 43, 19.2),
    "dram-ddr4-3200": read(1.2, 168, 52, 25.6),
    "dram-ddr5": read(1.1, 377, 142, 38.4),
}


@pytest.mark.parametrize(("name", "field"), FROM_CURRENTS)
def test_energies_are_those_of_the_currents_in_their_notes(name, field):
    assert preset(name)[f"energy.{field}"] == pytest.approx(FROM_CURRENTS[name, field], rel=1e-3)


@pytest.mark.parametrize("name", WHOLE_READ)
def test_the_rungs_sum_to_a_read_on_the_die_in_the_shares_of_hbm2(name):
    rungs = [preset(name)[f"energy.{rung}"] for rung in ("cell", "to_group", "to_channel")]
    assert sum(rungs) == pytest.approx(WHOLE_READ[name], rel=1e-3)
    assert rungs[1] / rungs[2] == pytest.approx(1.01 / 1.23, rel=1e-3)


def test_the_ladder_of_attacc_is_its_published_one():
    """pJ/bit of whole rows: 0.55 at the bank, 1.56 at its group, 3.29 at the buffer, 3.59 at a GPU."""
    device = preset("dram-attacc")
    energy: CommandEnergy = device.model.energy
    opening = float(energy.activation) / (8 * device["banks.row_bytes"])
    assert opening == pytest.approx(0.11e-12, rel=1e-7)
    for level, published in (("bank", 0.55e-12), ("bank_group", 1.56e-12), ("buffer", 3.29e-12)):
        below = np.float32(energy.cell) + np.float32(energy.below(level))
        assert float(below) + opening == pytest.approx(published, rel=1e-7)
        whole = float(below) + float(energy.above(level)) + float(energy.pins) + opening
        assert whole == pytest.approx(3.59e-12, rel=1e-7)


def test_energies_of_aim_are_those_of_its_simulators_commands(shared):
    """CENT's constants on the commands that the simulator issued: every component of every golden row to 1e-3."""
    rows = json.loads((shared / "golden" / "dram_pim_cycles.json").read_text())["aim_gddr6"]
    assert len(rows) == 19
    for row in rows:
        changes = {"refresh": None, "banks.channels": row["channels"], "kernel.registers": row.get("reuse", 1)}
        shape = {"gemv": ("in", "out"), "score": ("d", "L"), "context": ("L", "d")}[row["kind"]]
        device = replace(preset("dram-aim"), changes)
        found = energies(device, *(row[size] for size in shape), operation=row["kind"])
        theirs = row["energy_cent_constants"]
        ours = {
            "act_pj": found["activation"],
            "mac_pj": found["cell"] + found["mac"],
            "reg_rd_pj": found["readout"],
            "reg_wr_pj": found["broadcast"],
            "dq_pj": found["io"],
        }
        ours["total_dynamic_pj"] = sum(ours.values())
        assert {name: 1e12 * value for name, value in ours.items()} == pytest.approx(theirs, rel=1e-3), row


@pytest.mark.parametrize(("channels", "energy"), [(32, "150.17 µJ"), (2, "139 µJ")])
def test_a_product_on_aim_takes_the_energy_that_its_constants_make(channels, energy):
    parts = energies(replace(preset("dram-aim"), {"banks.channels": channels, "refresh": None}), 4096, 4096)
    found = 1e6 * (sum(parts.values()) - parts["static"])
    assert (f"{found:.2f} µJ" if channels == 32 else f"{found:.0f} µJ") == energy


# What is not known --------------------------------------------------------------------------------------------------


def test_what_is_unknown_stays_unknown():
    device = replace(preset("dram-hbm2"), {"energy.standby": None})
    found = cost(device, (4096, 4096))
    assert np.isnan(found.energy) and float(found.latency) > 0
    assert "unknown" in str(found).splitlines()[-2]
    assert found.to_dict()["total"]["energy"] is None
    parts = energies(device, 4096, 4096)
    assert [name for name, value in parts.items() if np.isnan(value)] == ["static"]
    calm = replace(preset("dram-hbm2"), {"energy.refresh": None, "refresh": None})
    assert np.isfinite(cost(calm, (4096, 4096)).energy)  # what never happens costs nothing


def test_the_picture_shows_time_energy_and_error_and_names_what_is_unknown():
    partly = replace(preset("dram-hbm2"), {"energy.standby": None, "energy.mac": None})
    time, energy, error = device_figure(partly).axes
    assert time.get_xlabel() == "latency (µs)" and energy.get_xlabel() == "energy (µJ)"
    assert time.get_title("left") == "4096 × 4096: 29.12 µs"
    assert energy.get_title("left") == "4096 × 4096: 155.1 µJ and unknown: mac, static"
    assert [label.get_text() for label in energy.get_yticklabels()][:2] == ["cell", "activation"]
    assert error.get_ylabel() == "relative error (%)"
    unknown = device_figure(preset("dram-upmem")).axes[1]
    assert [text.get_text() for text in unknown.texts] == ["the energy of a product\nis not known"]
