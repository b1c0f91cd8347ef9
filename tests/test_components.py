"""Components are records with sources, of which devices are built, and do what the tables that they come from say."""

import json
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pim
from pim.cli import main
from pim.costs.costing import cost
from pim.devices.catalogue import component_names
from pim.devices.components.cacti_buffer import CactiBuffer
from pim.devices.components.logic import gates_at, tree_adders
from pim.devices.components.special_functions import activation, norm, softmax
from pim.devices.components.wires import HTree, SignalWire
from pim.devices.device import GRADES
from pim.devices.errors import DeviceError
from pim.devices.reach import extrapolations
from pim.devices.record import cast, walk
from pim.study import find_device


def component(name: str) -> Any:
    """A component, without the warning about what is only recalled."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pim.component(name)


def part(name: str, **changes: Any) -> Any:
    return pim.replace(component(name), changes).model


# --- the files


@pytest.mark.parametrize("name", component_names())
def test_every_value_of_a_component_has_a_source_and_a_grade(name):
    device = component(name)
    assert device.family == "component" and device.name == name
    for path, _, value in walk(device.model):
        if value is not None:
            known = device.provenance[path]
            assert known.grade in GRADES and (known.source == "default" or device.sources[known.source].citation), path
    assert extrapolations(device.model) == ()


def test_the_table_lists_them_and_presets_do_not():
    assert [line.split()[0] for line in str(pim.components()).splitlines()] == component_names()
    assert not set(component_names()) & {row.name for row in pim.presets()}
    assert all(row.family == "component" and row.source for row in pim.components())


def test_what_is_recalled_warns():
    from pim.devices.catalogue import component as fresh

    fresh.cache_clear()
    with pytest.warns(UserWarning, match="link-nvlink: recalled.*energy_per_bit"):
        pim.component("link-nvlink")


def test_the_command_line_explains_components(capsys):
    assert main(["explain", "adc-isaac.power", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["value"], row["unit"], row["grade"]) == (2e-3, "W", "derived") and "ISCA 2016" in row["citation"]
    assert main(["presets", "adc-isaac"]) == 0
    told = capsys.readouterr().out
    assert "1.28e+09" in told and "endurance" not in told


def test_an_unknown_component_names_the_nearest():
    with pytest.raises(DeviceError, match="unknown component 'adc-isac'; did you mean adc-isaac"):
        pim.component("adc-isac")
    with pytest.raises(DeviceError, match="adc-isaac"):
        find_device("adc-isac")


# --- in devices


def test_a_component_takes_the_place_of_a_part_with_its_sources():
    device = pim.replace(pim.preset("rram-techC"), {"adc.cost": component("adc-isaac")})
    known = device.provenance["adc.cost.power"]
    assert known.grade == "derived" and "ISCA 2016" in device.sources[known.source].citation
    assert known.source in device.citations() and "adc.cost.capacitance_per_bit" not in device.provenance
    energy, _ = row(cost(device, (64, 64)), "adc")
    assert energy == pytest.approx(64 * 1.5625e-12, rel=1e-4)  # a conversion a pair of columns


def test_a_component_must_be_such_a_part(unchecked):
    device = pim.preset("rram-techC")
    for path, says in (
        ("adc.bits", "is a value, and adc-isaac is a RatedADCCost"),
        ("periphery", "takes a Periphery, and adc-isaac is a RatedADCCost"),
    ):
        with pytest.raises(DeviceError, match=says):
            pim.replace(device, {path: component("adc-isaac")})
    with pytest.raises(DeviceError, match="takes a Memory, and wire-global is a SignalWire"):
        pim.replace(device, {"periphery.buffer": component("wire-global")})


def test_any_buffer_serves_a_macro():
    device = pim.preset("rram-techC")
    small = pim.replace(component("sram-cacti-28nm"), {"bytes": 512})
    fitted = row(cost(pim.replace(device, {"periphery.buffer": small}), (64, 64)), "buffer")
    assert fitted == pytest.approx(row(cost(device, (64, 64)), "buffer"), rel=2e-3)  # its figures come of the same fit


def row(priced: Any, of: str) -> tuple[float, float]:
    """Energy and area of a component in a cost."""
    at = priced.ledger.components.index(of)
    return float(priced.ledger.energy[at]), float(priced.ledger.area[at])


def device_file(folder: Path, text: str, base: str = "macro-28nm", name: str = "mine") -> Path:
    file = folder / f"{name}.toml"
    file.write_text(f'name = "{name}"\nfamily = "reram"\nsummary = "mine"\nbase = "{base}"\n{text}')
    return file


CELL = """
[device.cell]
type = "Cell"
g_min = 1e-6
g_max = 4e-5
"""


def test_a_file_names_a_component_for_a_part(tmp_path):
    device = pim.load_device(device_file(tmp_path, CELL + '[device.adc.cost]\ncomponent = "adc-isaac"\nrate = 1e9\n'))
    law = device.model.adc.cost
    assert (
        type(law).__name__ == "RatedADCCost"
        and float(law.rate) == 1e9
        and device["adc.cost.power"] == pytest.approx(2e-3)
    )
    assert device.provenance["adc.cost.rate"].grade == "user"
    source = device.provenance["adc.cost.power"].source
    assert "hwcomponents-library and by the simulator" in device.sources[source].citation
    assert "carried by hwcomponents-library" in device.sources["isaac"].citation  # the base's own, of other words


def test_a_source_of_the_same_key_keeps_apart(tmp_path):
    text = '[sources.isaac]\ncitation = "something else"\n' + CELL + '[device.adc.cost]\ncomponent = "adc-isaac"\n'
    device = pim.load_device(device_file(tmp_path, text))
    assert device.sources["isaac"].citation == "something else"
    assert device.provenance["adc.cost.power"].source == "adc-isaac/isaac"
    assert "ISCA 2016" in device.sources["adc-isaac/isaac"].citation


def test_a_component_replaces_the_part_of_a_base_and_is_replaced_itself(tmp_path):
    below = device_file(tmp_path, CELL + '[device.adc.cost]\ncomponent = "adc-isaac"\n', name="below")
    assert pim.load_device(below).model.adc.cost.rated_vdd is None
    same = pim.load_device(device_file(tmp_path, "[device.adc.cost]\npower = 1e-3\n", base="below", name="same"))
    assert same["adc.cost.power"] == pytest.approx(1e-3) and same["adc.cost.rate"] == pytest.approx(1.28e9)
    other = device_file(tmp_path, '[device.adc.cost]\ncomponent = "adc-kull2013"\n', base="below", name="other")
    assert pim.load_device(other)["adc.cost.power"] == pytest.approx(3.1e-3)
    with pytest.raises(DeviceError, match=r"bad.toml: unknown component 'adc-isac'; did you mean adc-isaac"):
        pim.load_device(device_file(tmp_path, '[device.adc.cost]\ncomponent = "adc-isac"\n', name="bad"))


# --- how far laws reach


def test_costs_say_what_is_extrapolated():
    device = pim.preset("rram-techC")
    told = cost(pim.replace(device, {"adc.cost": component("adc-andrulis"), "adc.cost.node": 7e-9}), (64, 64)).notes
    (note,) = [note for note in told if note.startswith("adc.cost")]
    assert note == "adc.cost: node = 7 nm is outside 16 to 180 nm, for which AndrulisADCCost was made: extrapolated"
    lossy = {"adc.cost": component("adc-survey-p10"), "adc.cost.enob_loss": 4.0}
    assert any("enob = 4 is outside 5 to 12" in note for note in extrapolations(pim.replace(device, lossy).model))
    fine = pim.replace(device, {"adc.bits": 12}).model
    assert any("bits = 12 is outside 3 to 9" in note for note in extrapolations(fine))


def test_a_law_that_means_nothing_is_an_error():
    flash = pim.replace(pim.preset("rram-techC"), {"adc.cost": component("adc-flash28"), "adc.bits": 14})
    with pytest.raises(DeviceError, match=r"adc.cost: bits = 14 is outside 1 to 12: FlashADCCost means nothing there"):
        cost(flash, (64, 64))


def test_arrays_are_looked_at_and_traced_values_are_not():
    model = pim.replace(pim.preset("rram-techC"), {"adc.cost": component("adc-zigzag28")}).model

    def with_bits(bits):
        adc = jax.tree.map(lambda leaf: leaf, model.adc)
        return type(model)(**{**vars(model), "adc": type(adc)(**{**vars(adc), "bits": bits})})

    assert any("bits = 11" in note for note in extrapolations(with_bits(np.array([4.0, 11.0]))))
    found = []
    jax.make_jaxpr(lambda bits: found.append(extrapolations(with_bits(bits))) or bits)(jnp.float32(11.0))
    assert not any("bits" in note.split(":")[1].split("=")[0].split() for note in found[0])


# --- wires


def test_a_wire_in_its_units():
    """Reference, section 2: 0.098 pJ a bit and mm for a full cycle at 2e-10 F/m and 0.7 V, half of it a transition."""
    full, once, random = (part("wire-global", transitions=n) for n in (2.0, 1.0, 0.5))
    assert float(full.energy_per_bit(1e-3, 0.7)) == pytest.approx(0.098e-12, rel=1e-3)
    assert float(once.energy_per_bit(1e-3, 0.7)) == pytest.approx(0.049e-12, rel=1e-3)
    assert float(random.energy_per_bit(1e-3, 0.7)) == pytest.approx(0.0245e-12, rel=1e-3)
    # the bus of ISAAC, 0.054 pJ a bit, is then a millimetre or two of wire: a tile is 0.6 mm wide
    assert 0.5e-3 < 0.054e-12 / float(random.energy_per_bit(1.0, 0.9)) < 2e-3


def drawn(side: float, levels: int) -> tuple[float, float]:
    """Wire of an H-tree and the way to a leaf, H by H."""
    if levels == 0:
        return 0.0, 0.0
    below, way = drawn(side / 2, levels - 1)
    return 1.5 * side + 4 * below, side / 2 + way


@pytest.mark.parametrize("levels", [0, 1, 2, 5])
def test_an_h_tree_is_its_hs(levels):
    tree = cast(HTree(SignalWire(2e-10, 0.5), 4.0**levels, 2e-3))
    length, way = drawn(2e-3, levels)
    assert [float(tree.length()), float(tree.path())] == pytest.approx([length, way], rel=1e-5)
    assert float(tree.broadcast_per_bit(0.9)) >= float(tree.energy_per_bit(0.9))


# --- links and memories


def test_links_as_published():
    hyper, pcie = part("link-hypertransport"), part("link-pcie")
    assert float(hyper.energy(25.6e9)) == pytest.approx(10.4) and float(hyper.time(25.6e9)) == pytest.approx(1.0)
    assert float(hyper.energy_per_bit_full()) == pytest.approx(50.8e-12, rel=1e-3)
    assert float(pcie.energy(1e9)) == pytest.approx(8e9 * 4.4e-12)
    assert float(part("bus-isaac").energy(1.0)) == pytest.approx(8 * 0.054e-12)
    assert float(part("router-isaac").energy(32.0)) == pytest.approx(20.74e-12, rel=1e-3)
    assert float(part("dram-ddr4-interface").read_energy(1.0)) == pytest.approx(29.6e-12)


@pytest.mark.parametrize(("stop", "pj"), [("bank", 0.55), ("bank_group", 1.56), ("buffer", 3.29), ("host", 3.59)])
def test_the_way_out_of_a_stack(stop, pj):
    """AttAcc's four units, reference dram-pim section 2.3."""
    assert float(part("dram-hbm3-path", stop=stop).energy_per_bit()) == pytest.approx(pj * 1e-12, rel=1e-5)


RUNS = [(22, 2, 0.073), (22, 8, 0.096), (22, 32, 0.24), (22, 64, 0.39), (22, 256, 0.92), (22, 1024, 2.05),
        (32, 64, 0.87), (65, 64, 2.67)]  # fmt: skip


def test_the_buffers_fit_lies_as_near_cacti_as_it_says():
    """pJ a byte by node (nm) and KB, from runs of CACTI 7: reference, section 2."""
    logs = [
        np.log(float(part("sram-cacti-28nm", bytes=1024 * kb, node=nm * 1e-9).energy_per_byte()) * 1e12 / pj)
        for nm, kb, pj in RUNS
    ]
    assert np.abs(logs).max() < 0.36 and np.sqrt(np.mean(np.square(logs))) < 0.2  # two of its 0.18, and about one


def test_a_buffer_at_28_and_32_nm():
    here, hot = part("sram-cacti-28nm"), part("sram-cacti-hp32")
    device = pim.preset("rram-techC")  # its reference figures were worked out by hand from the same fit
    for figure, at in (("energy", here.energy_per_byte()), ("area", here.area()), ("leakage", here.leakage())):
        assert float(at) == pytest.approx(device[f"periphery.buffer.reference_{figure}"], rel=2e-3)
    run = [11.4e-3, 0.42e-9, 0.114e-6]
    assert [float(hot.leakage()), float(hot.latency()), float(hot.area())] == pytest.approx(run, rel=0.3)
    banked = part("sram-cacti-28nm", banks=4)
    assert float(banked.energy_per_byte()) == pytest.approx(float(here.energy_per_byte()) * 0.25**0.553)
    assert float(banked.area()) > float(here.area())


def test_embedded_dram_matches_the_golden_table(shared: Path):
    table = json.loads((shared / "golden/component_tables.json").read_text())["components"]["hwcomponents_table"]
    isaac, gain = part("edram-isaac"), part("edram-gaincell16")
    known = table["ISAAC eDRAM 256b x 2048 32nm"]
    assert float(isaac.energy_per_byte()) * 32e12 == pytest.approx(known["pJ_per_256b"], rel=1e-3)
    assert float(isaac.area()) * 1e12 == pytest.approx(known["um2"])
    known = table["gain-cell eDRAM 1Mb 16nm per 1024b"]
    assert float(gain.energy_per_byte()) * 128e12 == pytest.approx((known["read_pJ"] + known["write_pJ"]) / 2, rel=1e-3)


# --- logic


@pytest.mark.parametrize(("inputs", "bits"), [(2, 1), (8, 4), (64, 8), (256, 1)])
def test_a_tree_of_adders_level_by_level(inputs, bits):
    adders, width, left = 0, bits, inputs
    while left > 1:
        adders, width, left = adders + left // 2 * width, width + 1, left // 2
    assert float(tree_adders(float(inputs), float(bits))) == adders
    tree = part("adder-tree-28nm", inputs=inputs, bits=bits)
    one = float(tree.gates.adder_capacitance())
    assert float(tree.energy(0.9)) == pytest.approx(0.5 * adders * one * 0.81)


def test_an_adder_follows_its_node_without_a_jump():
    """A simulator has 2.5 nW for a bit of a full adder at 28 to 55 and 130 nm, and 300 nW at 65."""
    gates = part("gates-28nm")
    nodes = np.array([7, 10, 14, 16, 20, 22, 28, 32, 40, 45, 55, 65, 90, 130]) * 1e-9
    supply = np.interp(nodes, [7e-9, 16e-9, 32e-9, 65e-9, 130e-9], [0.7, 0.8, 0.9, 1.0, 1.2])
    scaled = [gates_at(gates, 28e-9, 0.9, node, vdd) for node, vdd in zip(nodes, supply, strict=True)]
    energies = np.array([float(g.adder_capacitance()) * vdd**2 for g, vdd in zip(scaled, supply, strict=True)])
    steps = np.diff(np.log(energies)) / np.diff(np.log(nodes))
    assert (steps > 0).all() and energies[-1] / energies[0] < 200
    assert float(gates_at(gates, 28e-9, 0.9, 28e-9, 0.9).capacitance) == pytest.approx(0.7e-15)


def test_gates_make_isaacs_shift_and_add_near_enough():
    """0.021 pJ and 60 um^2 at 32 nm for 16 bits; half of the bits toggling and ripple carries, gates come to more."""
    ours = part("shift-add-28nm")
    assert 1 < float(ours.energy(0.9)) / (0.021e-12 * 0.792) < 3
    assert 1 < float(ours.area()) / (60e-12 * 0.792) < 3


# --- special functions


def test_operations_by_hand():
    assert softmax(1) == (0 + 1 + 1 + 0 + 2, 1 + 4 + 1, 1 + 1)
    assert softmax(100).products - softmax(99).products == 2 and softmax(100).adds - softmax(99).adds == 4
    assert norm(64).products == 3 * 64 + 7 and norm(64, centred=True).adds == norm(64).adds + 63 + 128
    assert activation(10) == (10, 10, 10) and activation(10, gated=True).products == 30


def test_special_functions_at_their_node_and_another():
    home = part("special-functions-40nm", node=40e-9)
    work = softmax(2048)
    by_hand = work.adds * 0.21e-12 + work.products * 12.68e-12 + work.lookups * 1.27e-12
    assert float(home.energy(work)) == pytest.approx(by_hand, rel=1e-4)
    small = part("special-functions-40nm", node=7e-9, vdd=0.7)
    assert float(small.energy(work)) < 0.1 * by_hand and float(small.area()) < 0.15 * float(home.area())
    assert float(small.latency(work)) < float(home.latency(work))
    eight, sixteen = (float(part("special-functions-40nm", lanes=n).latency(work)) for n in (8, 16))
    assert sixteen == pytest.approx(eight / 2, rel=1e-3)


# --- traps, drivers, leakage


def test_a_dac_is_milliwatts():
    """A table lists an 8-bit DAC at 0.4992 W, where its series means mW."""
    dac = component("dac-isaac")
    assert "mW" in dac.provenance["capacitance_per_bit"].note
    a_pulse = float(dac.model.capacitance_per_bit) * 0.81
    assert 1024 * a_pulse / 100e-9 == pytest.approx(4e-3, rel=1e-3)


def test_a_write_pulse_charges_its_line_and_heats_its_cell():
    driver = part("write-driver-rram", efficiency=1.0)
    cell, line = 4.0 * 1e-4 * 10e-9, 90e-15 * 4.0
    assert float(driver.energy(1e-4)) == pytest.approx(cell + line) and float(driver.energy(0.0)) == pytest.approx(line)
    assert float(part("write-driver-rram").energy(1e-4)) == pytest.approx(2 * (cell + line))


def test_leakage_doubles():
    law = part("leakage-lstp22")
    assert float(law.power(1e-6)) == pytest.approx(28e-6) and float(law.power(1e-6, 310.0)) == pytest.approx(56e-6)
    assert float(law.power(1e-6, None, 0.8)) == pytest.approx(28e-6 * np.exp(-0.38), rel=1e-4)
    assert float(part("leakage-hp32").density) == pytest.approx(11.4e-3 / 0.114e-6)


def figures(record: Any) -> Any:
    """Everything that a component gives, as numbers."""
    calls = {
        "energy_per_byte": (), "latency": (), "area": (), "leakage": (), "path": (), "length": (), "time": (64.0,),
        "energy_per_bit_full": (), "read_energy": (64.0,), "write_energy": (64.0,),
    }  # fmt: skip
    own = {"SpecialFunctions": (softmax(64.0),), "SampleHold": (0.5, 1e-8), "WriteDriver": (1e-4,), "Leakage": (1e-6,)}
    found = []
    for name in ("energy", "power", "energy_per_bit", *calls):
        method = getattr(record, name, None)
        if not callable(method):
            continue
        kind = type(record).__name__
        args = calls.get(name, ())
        if name in ("energy", "power") or (kind == "SpecialFunctions" and name == "latency"):
            args = own.get(kind, (64.0,) if kind in ("Link", "Router") else (0.9,))
        if name == "energy_per_bit":
            args = {"SignalWire": (1e-3, 0.9), "HTree": (0.9,)}.get(kind, ())
        found.append(method(*args))
    return jnp.stack([jnp.asarray(value, jnp.float32) for value in found])


OTHERS = [
    name
    for name in component_names()
    if not name.startswith(("adc-", "dac-")) and type(component(name).model).__name__ not in ("Block", "Gates")
]


@pytest.mark.parametrize("name", OTHERS)
def test_figures_are_positive_with_finite_gradients(name):
    model = component(name).model
    assert (figures(model) >= 0).all() and figures(model).max() > 0
    slopes = jax.jacrev(lambda record: figures(record) * 1e9)(model)
    assert all(bool(jnp.isfinite(slope).all()) for slope in jax.tree.leaves(slopes))


@settings(deadline=None, max_examples=30)
@given(kb=st.floats(2, 512), node=st.floats(22e-9, 64e-9), banks=st.sampled_from([1.0, 4.0]))
def test_a_larger_buffer_takes_more_of_everything(kb, node, banks):
    def all_of(size, node):
        law = cast(CactiBuffer(size, banks, node))
        return jnp.stack([law.energy_per_byte() * 1e12, law.latency() * 1e9, law.area() * 1e12, law.leakage() * 1e6])

    here = all_of(1024.0 * kb, node)
    assert (all_of(1100.0 * kb, node) > here).all() and (all_of(1024.0 * kb, node * 1.02) > here).all()
    assert jnp.isfinite(jax.jacrev(lambda n: all_of(1024.0 * kb, n * 1e-9))(jnp.float32(node * 1e9))).all()
