"""What is shown of a result: table, figures, files and page say the same, and say it of any sweep."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib._pylab_helpers as pyplot_state
import numpy as np
import pytest
import xarray as xr

from pim.costs.plan_cost import plan_cost
from pim.devices.catalogue import preset
from pim.errors import StudyError
from pim.evaluation import interpolated
from pim.files import OutputFolder
from pim.llm_workloads.families.llama import llama_config
from pim.mapping.plan import place
from pim.mapping.system import inference_system
from pim.plots import accuracy_against_energy, energy_split, loss_difference
from pim.report import netcdf, page, write_report
from pim.result import Result, combinations
from pim.scoring import Scores
from pim.summary import array_energy, label, notes, point_to_show, split, summary
from pim.table import result_table
from pim.units import column, common_scale, significant

CONFIG = llama_config(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=512,
)
BITS = {"weights.adc.bits": [4, 6, 8]}
GRID = {"weights.cell.read_noise.sigma": [0.0, 4e-7], "weights.adc.bits": [5, 8]}
SWEEPS = {"bits": BITS, "grid": GRID, "mixed": {"weights.weight_bits": [None, 4]}, "single": {}}


def synthetic(axes=BITS, chips=3) -> Result:
    """A result with real costs and made-up scores: losses fall by four with each bit."""
    plan = place(CONFIG, inference_system(preset("rram-techC"), preset("digital-28nm")))
    draw = np.random.default_rng(0)
    tokens = draw.integers(50, 90, 5)
    digital = tokens * draw.normal(1.1, 0.05, 5)
    points = combinations(axes)
    bits = np.array([point.get("weights.adc.bits", 8) for point in points])
    extra = (0.03 + 2.0 ** (9 - 2 * bits))[:, None, None] * np.exp(draw.normal(0, 0.2, (1, chips, 5)))
    agree = tokens * np.exp(-extra)
    scores = Scores(digital + tokens * extra, tokens * extra, agree, agree / 2, digital, tokens / 2, tokens)
    protocol = {
        "model": "made <up>",
        "system": plan.system.name,
        "devices": {name: device.name for name, device in plan.system.devices.items()},
        "rules": [list(rule) for rule in plan.system.rules],
        "documents": 5,
        "scored_tokens": int(tokens.sum()),
        "context": 256,
        "text_protocol": "documents: each block alone",
        "calibration": {"tokens": 1024, "percentiles": {"weights": {"input": 99.99}}},
        "chips": chips,
        "seed": 0,
        "time_s": 3600.0,
        "versions": {"pim": "0"},
    }
    return Result(plan, axes, scores, [plan_cost(plan.replace(point)) for point in points], protocol)


@pytest.fixture(scope="module")
def result() -> Result:
    return synthetic()


@pytest.fixture(scope="module", params=SWEEPS)
def any_result(request) -> Result:
    return synthetic(SWEEPS[request.param], chips=1 if request.param == "single" else 3)


# Numbers for people


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        ([4.2e-7, 1.5e-6], "J", ("µJ", ["0.420", "1.500"])),
        ([9.999e-4], "s", ("µs", ["999.9"])),
        ([1e-9, 1e-9], "J", ("nJ", ["1.000", "1.000"])),
        ([7.6e-6, 2.5e-5], "m^2", ("mm²", ["7.60", "25.00"])),
        ([0.0, 0.0], "J", ("J", ["0.000", "0.000"])),
    ],
)
def test_a_column_has_one_unit(values, unit, expected):
    assert column(values, unit) == expected


def test_scales_reach_from_atto_to_giga():
    assert [common_scale([10.0**p], "J")[1] for p in (-18, -13, 0, 4, 9)] == ["aJ", "fJ", "J", "kJ", "GJ"]


def test_four_digits_say_enough():
    assert [significant(v) for v in (3.94682, 1234.56, 0.0, 0.012345, 8.123e9)] == [
        "3.947", "1235", "0.000", "0.012", "8.123e+09",
    ]  # fmt: skip


# What is shown


def test_the_devices_own_setting_is_the_one_whose_split_is_shown(result: Result):
    assert point_to_show(result) == (2, "at adc.bits = 8, the device's own setting")
    assert point_to_show(synthetic({"weights.adc.bits": [4, 5]})) == (1, "at adc.bits = 5")
    assert point_to_show(synthetic({})) == (0, "on the system as given")


def test_paths_are_cut_unless_two_would_be_the_same():
    assert label({"weights.adc.bits": 8, "weights.rows": None}) == "adc.bits = 8, weights.rows = none"
    assert label({"a.x.adc.bits": 8, "b.x.adc.bits": 7}) == "a.x.adc.bits = 8, b.x.adc.bits = 7"


@pytest.mark.parametrize("by", ["component", "operator"])
def test_splits_sum_to_the_point(result: Result, by: str):
    point = result.points[0]
    rows = split(point, by)
    assert sum(row["energy"] for row in rows) == pytest.approx(point.cost.energy_per_token, rel=1e-5)
    assert sum(row["latency"] for row in rows) == pytest.approx(point.cost.decode_latency, rel=1e-5)
    assert sum(row["area"] for row in rows) == pytest.approx(point.cost.area, rel=1e-5)


def test_arrays_and_the_rest_are_the_whole(result: Result):
    point = result.points[0]
    ledger = point.cost.decode.ledger
    digital = ("head", "attention.qk", "attention.pv", "softmax", "norm", "rope", "residual", "activation", "digital")
    mine = [not operator.endswith(digital) for operator in ledger.operators]
    expected = np.asarray(ledger.energy)[mine].sum() / point.cost.decode_tokens
    assert array_energy(result, point) == pytest.approx(expected, rel=1e-5)
    assert 0 < expected < point.cost.energy_per_token


def test_the_table_fits_a_terminal_and_holds_every_point(any_result: Result):
    lines = result_table(any_result).splitlines()
    assert max(map(len, lines)) <= (118 if len(any_result.axes) < 2 else 126)
    assert f"digital perplexity {any_result.digital_perplexity:.4g}" in lines[1]
    for point in any_result.points:
        assert any(str(point.difference) in line for line in lines)


def test_a_result_prints_as_its_table(result: Result):
    assert repr(result) == str(result) == result_table(result)


def test_a_single_chip_has_no_deviation():
    table = result_table(synthetic({}, chips=1))
    assert "±" not in table.replace("mean ± std", "")
    assert "1 chip," in table


def test_an_interpolated_time_is_told_in_protocol_table_and_notes():
    result = synthetic(SWEEPS["single"])
    assert interpolated([result.plan], None) == interpolated([result.plan], 1e5) == []
    told = interpolated([result.plan, result.plan], 3600.0)
    assert told == [
        "weights: 3600 s lies between the measured 4 s and 100000 s: quantiles of the relaxation linear in log time"
    ]
    later = replace(result, protocol={**result.protocol, "time_s": 3600.0, "notes": told})
    assert told[0] in result_table(later) and told[0] in notes(later) and told[0] in page(later)
    assert told[0] not in result_table(result)


def test_what_is_only_recalled_is_said(result: Result):
    assert "recalled" not in " ".join(notes(result))
    devices = result.plan.system.devices
    provenance = devices["weights"].provenance
    doubtful = {**provenance, "v_read": replace(provenance["v_read"], grade="recalled")}
    changed = {**devices, "weights": replace(devices["weights"], provenance=doubtful)}
    system = replace(result.plan.system, devices=changed)
    told = notes(replace(result, plan=replace(result.plan, system=system)))
    assert "weights: recalled, unverified figures: v_read" in told


# Figures


@pytest.mark.parametrize("draw", [accuracy_against_energy, loss_difference, energy_split])
def test_figures_draw_any_sweep_and_leave_nothing_behind(any_result: Result, draw, tmp_path: Path):
    draw(any_result).savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000
    assert not pyplot_state.Gcf.figs


def test_the_points_of_the_figure_are_those_of_the_result(result: Result):
    whole, arrays = accuracy_against_energy(result).axes
    assert whole.get_xlabel() == "energy of a written token (nJ)"
    for axes, energy in ((whole, "energy_per_token"), (arrays, None)):
        (line,) = [line for line in axes.lines if line.get_marker() == "o"]
        x = [getattr(p.cost, energy) if energy else array_energy(result, p) for p in result.points]
        np.testing.assert_allclose(np.asarray(line.get_xdata()), np.array(x) * 1e9, rtol=1e-6)
        np.testing.assert_allclose(np.asarray(line.get_ydata()), np.asarray(result.perplexity), rtol=1e-12)


def test_the_bars_are_as_long_as_the_energy(result: Result):
    left, _ = energy_split(result).axes
    ends = [bar.get_x() + bar.get_width() for bar in left.containers[-1]]
    np.testing.assert_allclose(ends, [p.cost.energy_per_token * 1e9 for p in result.points], rtol=1e-5)


# Files


def strict_json(text: str):
    def refuse(constant: str):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_files_hold_the_result(any_result: Result, tmp_path: Path):
    files = write_report(any_result, tmp_path / "out")
    assert [file.name for file in files] == ["result.nc", "result.json", "report.html"]
    assert {file.name for file in (tmp_path / "out").iterdir()} == {file.name for file in files}
    read = strict_json(files[1].read_text())
    assert len(read["points"]) == len(any_result.points)
    assert read["points"][0]["perplexity"]["chips"] == any_result.points[0].perplexity.tolist()
    with xr.open_dataset(files[0], engine="scipy") as data:
        written = any_result.to_dataset()
        for name in written:
            np.testing.assert_array_equal(data[name], written[name])
        assert json.loads(data.attrs["protocol"]) == any_result.protocol
        assert data["energy"].attrs["units"] == "J"


def test_netcdf_keeps_axes_of_any_values():
    data = xr.Dataset({"y": ("x", [1.0, 2.0])}, {"x": np.array([None, 4], object)})
    with xr.open_dataset(netcdf(data), engine="scipy") as read:
        assert read["x"].values.tolist() == ["None", "4"]


class Reader(HTMLParser):
    """Open tags, what is loaded from elsewhere, and the text."""

    def __init__(self):
        super().__init__()
        self.open, self.loaded, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)
        self.loaded += [value for name, value in attrs if name == "src"] + [tag] * (tag in ("link", "script"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(any_result: Result):
    reader = Reader()
    reader.feed(page(any_result))
    assert reader.open == []
    assert len(reader.loaded) == 3
    assert all(source.startswith("data:image/svg+xml;base64,") for source in reader.loaded)
    assert "made <up> on rram-techC" in reader.text
    for point in any_result.points:
        assert str(point.difference) in reader.text
    for source in any_result.citations().values():
        assert source.citation in reader.text


def test_a_report_is_the_same_each_time(result: Result):
    assert page(result) == page(result)


def test_a_full_disk_leaves_nothing(result: Result, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(StudyError, match="make room or choose another folder"):
        write_report(result, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failure_leaves_the_last_report(result: Result, tmp_path: Path, monkeypatch):
    OutputFolder(tmp_path).write({"result.json": "before"})
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk broke")))
    with pytest.raises(OSError, match="disk broke"):
        result.report(tmp_path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("result.json", "before")]


def test_the_summary_is_plain(any_result: Result):
    read = summary(any_result)
    assert strict_json(json.dumps(read, allow_nan=False)) == read
    assert (read["points"][0]["perplexity"]["std"] is None) == (any_result.protocol["chips"] == 1)
