"""Presets, dotted paths and device files: what is accepted, what is refused, and in which words."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pim.devices.catalogue import preset, preset_names, presets
from pim.devices.cells.state_law import Polynomial
from pim.devices.cells.write_error import GaussianWriteError
from pim.devices.converters.sar_adc import SAR
from pim.devices.device import GRADES, replace
from pim.devices.errors import DeviceError
from pim.devices.loader import PRESETS, load_device
from pim.devices.random import root_key
from pim.devices.record import walk
from pim.programming import program


def test_keys_are_refused_where_jax_numbers_random_words_otherwise():
    jax.config.update("jax_threefry_partitionable", False)
    try:
        with pytest.raises(DeviceError, match="jax_threefry_partitionable is off"):
            root_key(0)
    finally:
        jax.config.update("jax_threefry_partitionable", True)


CELL = """
name = "mine"
family = "reram"
summary = "a cell of my own"
base = "macro-28nm"

[device.cell]
type = "Cell"
g_min = 1e-6
g_max = 50e-6
area = 1e-13
"""


@pytest.mark.parametrize("name", preset_names())
def test_every_value_of_every_preset_has_unit_source_and_grade(name):
    device = preset(name)
    for path, field, value in walk(device.model):
        if value is None or path.endswith(".quantiles"):
            continue
        entry = device.provenance[path]
        assert entry.unit == field.metadata["unit"], path
        assert entry.grade in GRADES and entry.grade != "user", path
        assert entry.source in device.sources, path
        assert entry.grade != "derived" or entry.note or np.ndim(value) == 2, f"{path} is derived, but not how"


def test_the_catalogue_prints_each_preset_once():
    assert [line.split()[0] for line in str(presets()).splitlines()] == preset_names()
    assert "<table>" in presets()._repr_html_()


def test_values_are_read_and_replaced_by_dotted_path():
    device = preset("rram-techC")
    changed = replace(device, {"adc.bits": 7, "rows": 128, "cell.read_noise": None, "encoding": "offset"})
    assert (device["adc.bits"], device["rows"]) == (8.0, 64)
    assert (changed["adc.bits"], changed["rows"], changed["encoding"]) == (7.0, 128, "offset")
    assert changed.model.cell.read_noise is None
    assert changed.provenance["adc.bits"].grade == "user"
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(changed.model))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"adc.bit": 7}, "did you mean adc.bits"),
        ({"adc.bits": 0}, r"adc.bits = 0 is out of range; it may lie in \[2, 16\]"),
        ({"adc.bits": 40}, "out of range"),
        ({"adc.bits": "many"}, "not a number"),
        ({"adc.bits": [6, 7]}, "shape"),
        ({"adc.bits": float("nan")}, "not finite"),
        ({"rows": 0}, "too small"),
        ({"rows": 64.5}, "whole number"),
        ({"encoding": "twos-complement"}, "none of differential, .*offset_digital"),
        ({"adc": 7}, "is a part"),
        ({"nothing.at.all": 1}, "has no field"),
    ],
)
def test_a_bad_change_names_the_field_and_the_remedy(change, words):
    with pytest.raises(DeviceError, match=words):
        replace(preset("rram-techC"), change)


def test_a_number_in_quotes_is_a_text():
    with pytest.raises(DeviceError, match=r"vdd = '0\.9' is not a number; give one in V"):
        replace(preset("rram-techC"), {"vdd": "0.9"})


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(DeviceError, match="did you mean rram-techC"):
        preset("rram-tecC")


def test_a_users_file_is_a_device_like_any_preset(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(CELL)
    device = load_device(file)
    assert device["cell.g_max"] == pytest.approx(50e-6)
    assert device.provenance["cell.g_max"].grade == "user"
    assert device.provenance["adc.bits"].source == "house"
    assert "user" in device.citations()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "mine"', "", "'name' is missing"),
        ("g_max = 50e-6", 'g_max = {value = 50, unit = "uS"}', "has the unit 'uS'; the field is in 'S'"),
        ("g_max = 50e-6", "g_mx = 50e-6", "unknown field 'cell.g_mx'.*did you mean g_max"),
        ("g_max = 50e-6", 'g_max = {value = 5e-5, unit = "S", source = "me"}', "source 'me' is not among"),
        ("g_max = 50e-6", 'g_max = {value = 5e-5, unit = "S", grade = "sure"}', "grade 'sure' is none of"),
        ("g_max = 50e-6", "g_max = nan", "not finite"),
        ("g_max = 50e-6", "", "the field 'g_max' is missing"),
        ('type = "Cell"', 'type = "Cel"', "unknown type 'Cel'; did you mean Cell"),
        ("[device.cell]", "[device.cell", "not valid TOML"),
        ('base = "macro-28nm"', 'base = "macro-7nm"', "no base 'macro-7nm'"),
    ],
)
def test_a_bad_device_file_names_the_place_and_the_remedy(tmp_path, old, new, words):
    file = tmp_path / "mine.toml"
    file.write_text(CELL.replace(old, new))
    with pytest.raises(DeviceError, match=words):
        load_device(file)


def test_a_part_of_another_type_takes_the_place_of_the_bases(tmp_path):
    file = tmp_path / "serial.toml"
    file.write_text(
        CELL
        + '[device.dac]\ntype = "BitSerialDAC"\nbits = 8\npercentile = 99.9\ncapacitance_per_bit = 5e-14\narea = 0\n'
    )
    device = load_device(file)
    assert device.model.dac.steps == 7
    file.write_text(CELL + '[device]\nadc = "none"\n')
    assert "adc.bits" not in load_device(file).paths()


def test_a_missing_device_file_says_so(tmp_path):
    with pytest.raises(DeviceError, match="no device file"):
        load_device(tmp_path / "nowhere.toml")


def test_a_part_may_be_given_in_plain_numbers():
    """Lists and numbers become arrays, so that a part of the user's compiles once with those of the files."""
    law = GaussianWriteError(Polynomial([0.2, 1.5]), 1e-6, 40e-6)
    device = replace(preset("rram-wan2022-crosssim"), {"cell.write_error": law})
    spread = device.model.cell.write_error.spread.coefficients
    assert spread.dtype == jnp.float32 and spread.shape == (2,)
    np.testing.assert_allclose(device.model.cell.write_error.sigma(jnp.array([40e-6])), 1.7e-6, rtol=1e-5)
    with pytest.raises(DeviceError, match=r"cell\.write_error\.spread_unit = 'uS' is not a number"):
        replace(device, {"cell.write_error": GaussianWriteError(Polynomial([0.2]), "uS", 40e-6)})
    with pytest.raises(DeviceError, match=r"cell\.write_error\.g_reference = 0 is out of range"):
        replace(device, {"cell.write_error": GaussianWriteError(Polynomial([0.2]), 1e-6, 0.0)})


def test_a_change_may_be_traced():
    """`replace` under `jax.grad`: the slope of a product against finite differences, converters with a limit too."""
    w, x = np.eye(8, dtype=np.float32), np.ones((1, 8), np.float32)
    device = replace(preset("rram-wan2022-crosssim"), {"adc": None, "dac.bits": 16})

    def output(unit, g_max):
        changed = replace(device, {"cell.write_error.spread_unit": unit, "cell.g_max": g_max})
        return program(w, changed, key=root_key(0)).matmul(x, key=None).sum()

    at = jnp.float32(1e-6), jnp.float32(39e-6)
    for i, step in enumerate((1e-8, 1e-7)):
        up, down = ([value + sign * step * (k == i) for k, value in enumerate(at)] for sign in (1, -1))
        finite = (output(*up) - output(*down)) / (2 * step)
        assert float(jax.grad(output, argnums=i)(*at)) == pytest.approx(float(finite), rel=0.05)
    sar = replace(preset("sram-c2c22"), {"adc.architecture": SAR(0.01)})
    assert jax.jit(lambda bits: replace(sar, {"adc.bits": bits}).model.adc.codes())(jnp.float32(6)) == 31
    with pytest.raises(DeviceError, match="tabulated outside jit"):
        jax.grad(lambda g: replace(preset("rram-techC"), {"cell.relaxation.g_limit": g}).model.cell.g_max)(40e-6)


def test_what_is_only_told_does_not_set_devices_apart():
    """Facts stay through `replace`, and are none of the compiled structure."""
    device = preset("rram-wan2022")
    told = replace(device, {"cell.facts.endurance": 1e6, "adc.bits": 7})
    assert told["cell.facts.endurance"] == 1e6 and told["cell.facts.write_latency"] > 0
    silent = replace(device, {"cell.facts": None})
    assert jax.tree.structure(silent.model) == jax.tree.structure(told.model)
    assert jax.jit(lambda model: model.cell.facts is None)(told.model)


def test_two_presets_of_a_family_share_one_structure():
    shapes = [jax.tree.structure(dataclasses.replace(preset(n).model.cell, relaxation=None, write_error=None))
              for n in ("rram-techC", "rram-wan2022")]  # fmt: skip
    assert shapes[0] == shapes[1]
    assert all(file.suffix == ".toml" for file in PRESETS.iterdir() if file.suffix not in (".py", ""))
