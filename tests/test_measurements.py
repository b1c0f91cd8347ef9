"""Tables of measurements: what is read, what is refused and in which words, and what the command line makes of them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import pim
from pim.cli import main
from pim.devices.errors import DeviceError
from pim.devices.fitting.columns import COLUMNS
from pim.devices.fitting.importers import read_measurements
from pim.devices.fitting.sidecar import read_sidecar, sidecar_of
from pim.devices.fitting.table import measurements, read_table

CELLS = """# measured on a Monday
device_id,op,t_s,g_S,g_target_S,ok,mood
a,prog,0,,4e-5,,calm
a,read,1,3.9e-5,4e-5,1,calm

b,prog,0,1e-5,1e-5,0,"calm, so far"
b,read,2.5,nan,1e-5,,
"""


@pytest.fixture
def write(tmp_path: Path):
    def make(text: str, name: str = "cells.csv") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return make


# The canonical table


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_is_read_with_its_extra_columns(write, separator):
    text = CELLS if separator == "," else CELLS.replace('"calm, so far"', "calm").replace(",", separator)
    table = read_table(write("\ufeff" + text))
    assert len(table) == 4
    assert list(table.lines) == [3, 4, 6, 7]
    np.testing.assert_array_equal(table["g_S"], [np.nan, 3.9e-5, 1e-5, np.nan])
    np.testing.assert_array_equal(table["ok"], [np.nan, 1, 0, np.nan])
    np.testing.assert_array_equal(table.cells, [0, 0, 1, 1])
    assert np.isnan(table["temp_K"]).all()
    assert table.extra["mood"][2].startswith("calm")
    assert list(table.where(table["op"] == "read").extra["mood"]) == ["calm", ""]


def test_a_conductance_is_the_current_over_the_voltage_where_none_is_given():
    columns = {
        "op": ["read"] * 4,
        "i_A": [2e-6, 2e-6, 1e-6, ""],
        "v_read_V": [0.2, 0.1, 0, 0.2],
        "g_S": ["", 1e-6, "", ""],
    }
    np.testing.assert_allclose(measurements(columns)["g_S"], [1e-5, 1e-6, np.nan, np.nan])


def test_cells_of_two_dies_are_two_cells():
    columns = {"op": ["read"] * 3, "g_S": [1e-6] * 3, "die": ["1", "2", "1"], "device_id": ["a", "a", "a"]}
    np.testing.assert_array_equal(measurements(columns).cells, [0, 1, 0])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("a,read,1,3.9e-5", "a,read,1,oops", "line 4: g_S = 'oops' is not a number"),
        ("a,read,1,3.9e-5", "a,raed,1,3.9e-5", "line 4: op = 'raed' is none of form, set, reset, prog, read; did you"),
        ("a,read,1,3.9e-5", "a,,1,3.9e-5", "line 4: op = '' is none of"),
        ("a,read,1,3.9e-5,4e-5,1,calm", "a,read,1,3.9e-5", "line 4: 4 fields where the header names 7 columns"),
        ("a,read,1,3.9e-5,4e-5,1", "a,read,1,3.9e-5,4e-5,maybe", "line 4: ok = 'maybe' is neither 1 nor 0"),
        ("a,read,1,3.9e-5", "a,read,inf,3.9e-5", "line 4: t_s is infinite"),
        ("a,read,1,3.9e-5", "a,read,-1,3.9e-5", "line 4: t_s = -1 s is no time of the row"),
        ("g_target_S", "g_S", "line 2: the column 'g_S' is there twice"),
        ("g_target_S", "g_target_uS", "line 2: the column 'g_target_uS': the table is in SI units, write g_target_S"),
        ("device_id,op", "device_id,what", "the column op is missing"),
        ("g_S,g_target_S", "x,y", "neither a conductance (g_S) nor a current (i_A)"),
        (CELLS, "# nothing\n", "is empty"),
        (CELLS, "op,g_S\n", "no rows"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_by_its_line(write, old, new, words):
    with pytest.raises(DeviceError) as error:
        read_table(write(CELLS.replace(old, new, 1)))
    assert words in str(error.value)
    assert "cells.csv" in str(error.value)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("g_S", 40, "It looks like µS: write 4e-05"),
        ("g_S", 25e3, "It looks like a resistance in ohm: write 4e-05"),
        ("g_target_S", 12.5, "It looks like µS: write 1.25e-05"),
        ("i_A", 3, "It looks like µA: write 3e-06"),
        ("v_read_V", 200, "It looks like mV: write 0.2"),
        ("pw_s", 100, "It looks like ns: write 1e-07"),
        ("temp_K", 85, "It looks like degrees Celsius: write 358.15"),
        ("t_s", 3e13, "it must lie in [0, 1e+11] s"),
        ("cycle", -1, "cycle = -1 is no number of the programming cycle"),
    ],
)
def test_units_are_checked_by_range(column, value, words):
    columns = {"op": ["read"] * 3, "g_S": [1e-6] * 3} | {column: [0.0 if column != "temp_K" else 300.0, value, value]}
    with pytest.raises(DeviceError) as error:
        measurements(columns)
    assert f"measurements, row 2: {column} = " in str(error.value)
    assert words in str(error.value)
    assert "(1 more row is out of range)" in str(error.value)


def test_a_file_that_is_none_says_so(write, tmp_path):
    with pytest.raises(DeviceError, match="no file"):
        read_table(tmp_path / "nowhere.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DeviceError, match="no text in UTF-8"):
        read_table(tmp_path / "binary.csv")


def test_a_cell_without_a_name_is_told_by_its_place():
    columns = {"op": ["read"] * 4, "g_S": [1e-6] * 4, "row": [0, 0, 1, 0], "col": [0, 1, 0, 0]}
    np.testing.assert_array_equal(measurements(columns).cells, [0, 1, 2, 0])
    assert measurements({"op": ["read"] * 2, "g_S": [1e-6] * 2}).cells.max() == 0


def test_files_of_windows_and_of_any_script_are_read(tmp_path):
    text = '# geändert\r\ndevice_id,op,g_S,note\r\nзелёный,read,1e-6,"two\r\nlines"\r\nb,read,2e-6,a\u2028b\r\n'
    (tmp_path / "cells.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    table = read_table(tmp_path / "cells.csv")
    assert list(table["device_id"]) == ["зелёный", "b"] and list(table.lines) == [3, 5]
    assert list(table.extra["note"]) == ["two\nlines", "a\u2028b"]


def test_a_decimal_comma_and_an_open_quotation_mark_are_named(write):
    with pytest.raises(DeviceError, match=r"line 2: g_S = '3,9e-5' is not a number; write the decimal point: 3.9e-5"):
        read_table(write("op;g_S\nread;3,9e-5\n"))
    with pytest.raises(DeviceError, match=r"line 3: .*is a quotation mark left open"):
        read_table(write('op,g_S\nread,1e-6\n"read,1e-6\n' + "read,1e-6\n" * 20_000))


def test_rows_in_many_blocks_are_one_table(write, monkeypatch):
    text = "op,device_id,g_S\n" + "".join(f"read,c{i % 7},{i + 1}e-6\n" for i in range(50))
    whole = read_table(write(text))
    monkeypatch.setattr("pim.devices.fitting.table.BLOCK", 8)
    parts = read_table(write(text))
    for column in ("g_S", "device_id", "op"):
        np.testing.assert_array_equal(parts[column], whole[column])
    np.testing.assert_array_equal(parts.cells, whole.cells)
    with pytest.raises(DeviceError, match=r"line 30: g_S = 'x' is not a number"):
        read_table(write(text.replace("29e-6", "x")))


def test_readings_that_are_there_twice_are_told():
    columns = {"op": ["read"] * 3, "t_s": [1, 2, 1], "g_S": [1e-6, 1e-6, 1e-6]}
    with pytest.warns(UserWarning, match=r"row 3 repeats the reading of row 1, time and all \(1 such rows\)"):
        measurements(columns)
    measurements(columns | {"t_s": [1, 2, 3]})


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "cells.parquet").write_bytes(b"PAR1")
    with pytest.raises(DeviceError, match="pip install pyarrow"):
        read_table(tmp_path / "cells.parquet")
    with pytest.raises(DeviceError, match="no file"):
        read_table(tmp_path / "none.parquet")


def test_parquet_is_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "op": ["read", "prog"],
        "g_S": [1e-6, None],
        "device_id": ["a", "b"],
        "ok": [True, None],
        "cycle": [1, 2],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "cells.parquet")
    table = read_table(tmp_path / "cells.parquet")
    np.testing.assert_array_equal(table["g_S"], [1e-6, np.nan])
    np.testing.assert_array_equal(table["ok"], [1, np.nan])
    assert list(table["device_id"]) == ["a", "b"]
    (tmp_path / "cells.parquet").write_bytes(b"PAR1")
    with pytest.raises(DeviceError, match="is not valid Parquet"):
        read_table(tmp_path / "cells.parquet")


# The sidecar


def test_the_sidecar_beside_the_table_is_read(write):
    write('technology = "PCM"\ng_max_S = 25e-6\narea_m2 = 1e-13\n[ranges]\ntemp_K = [4, 400]\n', "cells.toml")
    table = read_table(write(CELLS.replace("mood", "temp_K").replace("calm\n", "77\n").replace('"calm, so far"', "77")))
    assert table.sidecar.technology == "PCM"
    assert table.sidecar.g_max_S == pytest.approx(25e-6)
    assert table["temp_K"][0] == 77


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gmax_S = 1e-6", "unknown key 'gmax_S'; did you mean g_max_S"),
        ('g_max_S = "40 uS"', "g_max_S = '40 uS' must be a positive number"),
        ("g_max_S = -1.0", "must be a positive number"),
        ("[ranges]\ntemp_K = 4", "ranges.temp_K must be [lowest, highest]"),
        ("technology = ", "not valid TOML"),
    ],
)
def test_a_bad_sidecar_names_the_key(write, text, words):
    write(text, "cells.toml")
    with pytest.raises(DeviceError) as error:
        read_sidecar(write(CELLS))
    assert words in str(error.value) and "cells.toml" in str(error.value)


def test_a_sidecar_may_be_given_as_it_is():
    assert sidecar_of({"citation": "me", "window_ratio": 3}).window_ratio == 3.0


# The importers


def test_arc(write):
    rows = "Wordline\tBitline\tResistance\tAmplitude\tPulse width\tTag\tRead tag\tRead voltage\n" + "".join(
        f"{w}\t{b}\t{r}\t{v}\t{pw}\tS\tR\t0.5\n"
        for w, b, r, v, pw in [(1, 2, 1e4, 0, 0), (1, 2, 5e3, 1.2, 1e-6), (1, 3, 2e4, -1.4, 1e-6)]
    )
    table = read_measurements(write(rows, "arc.tsv"), "arc")
    np.testing.assert_allclose(table["g_S"], [1e-4, 2e-4, 5e-5])
    assert list(table["op"]) == ["read", "set", "reset"]
    assert list(table["device_id"]) == ["W1B2", "W1B2", "W1B3"]
    np.testing.assert_array_equal(table["pw_s"], [np.nan, 1e-6, 1e-6])
    assert list(table.extra["tag"]) == ["S"] * 3
    with pytest.raises(DeviceError, match=r"arc\.tsv, line 3: 7 fields where there must be 8"):
        read_measurements(write(rows.replace("1.2\t", ""), "arc.tsv"), "arc")
    with pytest.raises(DeviceError, match=r"arc\.tsv, line 2: a resistance of 0 ohm"):
        read_measurements(write(rows.replace("10000.0", "0"), "arc.tsv"), "arc")


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_relax_tsv(write, scale):
    rows = [(7, 0.01, 2.1e-5), (7, 1.0, 2.2e-5), (9, 0.01, 1.0e-5)]
    text = "".join(f"{a}\t{s}\t{1 / g}\t{g * scale}\t{2e-5 * scale}\t8\t{s}\n" for a, s, g in rows)
    table = read_measurements(write(text, "relax.tsv"), "relax_tsv")
    np.testing.assert_allclose(table["g_S"], [2.1e-5, 2.2e-5, 1.0e-5])
    np.testing.assert_allclose(table["g_target_S"], 2e-5)
    np.testing.assert_allclose(table["t_s"], [0.01, 1.0, 0.01])
    assert list(table["device_id"]) == ["7", "7", "9"] and set(table.extra) == {"level", "time_point"}
    with pytest.raises(DeviceError, match=r"relax\.tsv, line 2: 6 fields where there must be 7"):
        read_measurements(write(text.replace("\t1.0\n", "\n"), "relax.tsv"), "relax_tsv")
    with pytest.raises(DeviceError, match=r"R times G is 2.2e\+08; with R in ohm it must be 1"):
        read_measurements(write("7\t1\t22000\t10000\t2e-5\t8\t1\n", "relax.tsv"), "relax_tsv")


@pytest.mark.parametrize("importer", ["keithley", "b1500"])
def test_sweeps_side_by_side(write, importer):
    keithley = "V1,I1,t1,V2,I2,t2\n0.1,1e-6,0,0.1,2e-6,0\n0.2,2.1e-6,1,0.2,,1\n"
    b1500 = (
        "SetupTitle, sweep\nDataName, V1, I1, t1, V2, I2, t2\n"
        "DataValue, 0.1, 1e-6, 0, 0.1, 2e-6, 0\nDataValue, 0.2, 2.1e-6, 1, 0.2, , 1\n"
    )
    table = read_measurements(write(keithley if importer == "keithley" else b1500), importer)
    assert list(table["device_id"]) == ["1", "1", "2"]
    np.testing.assert_allclose(table["g_S"], [1e-5, 1.05e-5, 2e-5])
    np.testing.assert_allclose(table["v_read_V"], [0.1, 0.2, 0.1])
    assert set(table["op"]) == {"read"}


def test_a_sweep_without_columns_or_with_a_bad_row(write):
    assert read_measurements(write("Time (s),V (V),I (A)\n0,0.1,1e-6\n"), "keithley")["g_S"] == pytest.approx(1e-5)
    for text, words in (
        ("a,b,c\n1,2,3\n", "no line names columns V and I"),
        ("V1,I2\n1,2\n", "no column I has the number of a column V"),
        ("V1,I1\n0.1,1e-6\n0.2\n", "line 3: 1 fields where the columns' names are 2"),
        ("V1,I1\n0.1,what\n", "line 2: field 2 = 'what' is not a number"),
        ("V1,I1\n", "no readings"),
    ):
        with pytest.raises(DeviceError, match=words):
            read_measurements(write(text), "keithley")


@pytest.mark.parametrize("mirrored", [False, True])
def test_pulse_pair(write, mirrored):
    up = [(p, 1e-6 + 1e-7 * p) for p in range(5)]
    down = [(p, 1.4e-6 - 1e-7 * p) for p in range(5)]
    second = [(4 - p, g) for p, g in down] if mirrored else down
    table = read_measurements(write("".join(f"{p} ,{g}\n" for p, g in [*up, *second])), "pulse_pair")
    assert list(table["op"]) == ["read"] + ["set"] * 4 + ["read"] + ["reset"] * 4
    np.testing.assert_array_equal(table["pulse_no"], [0, 1, 2, 3, 4] * 2)
    np.testing.assert_array_equal(table["cycle"], 1)
    np.testing.assert_allclose(table["g_S"][-1], 1e-6)


def test_aihwkit(write):
    pulses = [1, 1, 1, -1, -1, 1, 1, -1]
    table = read_measurements(
        write("pulse,response\n" + "".join(f"{p},{1e-6 * (i + 1)}\n" for i, p in enumerate(pulses))), "aihwkit"
    )
    assert list(table["op"]) == ["set" if p > 0 else "reset" for p in pulses]
    np.testing.assert_array_equal(table["cycle"], [1, 1, 1, 1, 1, 2, 2, 2])
    with pytest.raises(DeviceError, match="line 2: a pulse of 2; pulses are"):
        read_measurements(write("1,1e-6\n2,1e-6\n"), "aihwkit")


def test_an_unknown_importer_names_the_nearest(write):
    with pytest.raises(DeviceError, match="unknown importer 'keithly'; did you mean keithley"):
        read_measurements(write(CELLS), "keithly")


# The verb and the command line


@pytest.fixture
def cells(write) -> Path:
    """Writes of 8 levels with a normal error of 0.5 uS, and the sidecar."""
    draw = np.random.default_rng(0)
    target = np.repeat(np.linspace(5e-6, 40e-6, 8), 30)
    g = target + 0.5e-6 * draw.normal(size=240)
    write('technology = "HfOx RRAM"\ncitation = "mine & others, \\"2024\\""\nlicence = "CC BY 4.0"\n', "cells.toml")
    return write(
        "device_id,op,g_S,g_target_S\n"
        + "".join(f"{i},prog,{a},{b}\n" for i, (a, b) in enumerate(zip(g, target, strict=True)))
    )


def test_five_lines_from_a_table_to_a_device(cells, tmp_path):
    found = pim.fit(cells)
    assert found["write_error"]["sigma_0"] == pytest.approx(0.5e-6, rel=0.2)
    device = found.device()
    assert device.sources["measured"].citation == 'mine & others, "2024" (licence: CC BY 4.0)'
    page = found.report(tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>") and page.count("data:image/svg+xml") == 1
    assert "mine &amp; others" in page and 'src="http' not in page
    assert pim.devices.fit(cells).laws.keys() == found.laws.keys()
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = pim.devices.fitt


def test_the_command_line_writes_a_device_a_report_and_the_numbers(cells, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "cells.csv", "--out", "mine", "--what", "write"]) == 0
    printed = capsys.readouterr().out
    assert "write_error (normal)" in printed
    assert printed.endswith("files: mine/cells.toml, mine/fit.json, mine/fit.html\n")
    assert pim.load_device("mine/cells.toml")["cell.g_max"] == pytest.approx(40e-6)
    assert main(["fit", "cells.csv", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["files"] == ["out/cells.toml", "out/fit.json", "out/fit.html"]
    assert read["laws"]["write_error"]["parameters"]["sigma_0"]["unit"] == "S"
    assert {name: value for name, value in read.items() if name != "files"} == json.loads(
        Path("out/fit.json").read_text()
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.csv"], "no file nowhere.csv"),
        (["bad.csv"], "bad.csv, line 3: g_S = 40 S is no conductance"),
        (["cells.csv", "--importer", "ark"], "unknown importer 'ark'; did you mean arc"),
        (["cells.csv", "--what", "drift"], "nothing to fit for drift"),
        (["cells.csv", "--what", "writ"], "unknown experiment 'writ'; did you mean write"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(cells, write, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    write("op,g_S\nread,4e-5\nread,40\n", "bad.csv")
    before = sorted(tmp_path.iterdir())
    assert main(["fit", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("pim: ") and printed.err.count("\n") == 1
    assert words in printed.err
    assert sorted(tmp_path.iterdir()) == before


def test_the_help_tells_the_columns(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    shown = capsys.readouterr().out
    assert all(f"\n  {column}" in shown for column in COLUMNS)
