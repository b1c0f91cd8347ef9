"""Published figures of systems: what a point asks for, and what it is held against."""

import math

import pytest

import pim
from pim.devices.errors import DeviceError
from pim.mapping.published_runs import FIGURES, published_runs, read_runs
from pim.silicon.run_value import run_value

HEAD = '[sources.here]\ncitation = "a test"\n'
POINT = {
    "system": '"a100"',
    "model": '"llama-2-7b"',
    "name": '"a figure"',
    "figure": '"tokens_per_second"',
    "value": "100.0",
    "unit": '"1/s"',
    "tolerance": "0.1",
    "source": '"here"',
    "batch": "1",
    "context": "512",
}


def _read(tmp_path, **changes):
    """The only point of a file of points, with some keys changed, or left out if they are None."""
    keys = {key: value for key, value in {**POINT, **changes}.items() if value is not None}
    file = tmp_path / "points.toml"
    file.write_text(HEAD + "[[point]]\n" + "\n".join(f"{key} = {value}" for key, value in keys.items()) + "\n")
    (point,) = read_runs(file)
    return point


def _cost(model="llama-2-7b", **asked):
    return pim.cost(pim.place(model, pim.load_system("a100")), **asked)


def test_a_point_is_the_figure_of_a_step_or_of_a_run(tmp_path):
    step = _cost(batch=1, context=512)
    assert run_value(_read(tmp_path)) == pytest.approx(float(step.tokens_per_second))
    run = _cost(batch=2, prompt=64, generate=16)
    asked = {"context": None, "batch": "2", "prompt": "64", "generate": "16"}
    figures = {
        "tokens_per_second": run.tokens_per_second,
        "tokens_per_joule": 1 / run.energy_per_token,
        "latency": run.latency,
        "energy": run.energy,
        "prefill_latency": run.prefill_latency,
        "prefill_tokens_per_second": 2 * 64 / run.prefill_latency,
        "prefill_energy_per_token": run.prefill_energy_per_token,
    }
    for figure, ours in figures.items():
        point = _read(tmp_path, **asked, figure=f'"{figure}"', unit=f'"{FIGURES[figure]}"')
        assert run_value(point) == pytest.approx(ours), figure


def test_reading_alone_needs_a_prompt_alone(tmp_path):
    point = _read(tmp_path, context=None, prompt="64", figure='"prefill_latency"', unit='"s"')
    assert run_value(point) == pytest.approx(_cost(prompt=64, generate=1).prefill_latency)


@pytest.mark.parametrize(
    ("across", "of_all"),
    [
        ("geometric", lambda found: math.prod(found) ** (1 / len(found))),
        ("arithmetic", lambda found: sum(found) / len(found)),
        ("smallest", min),
        ("largest", max),
    ],
)
def test_several_runs_are_one_figure(tmp_path, across, of_all):
    models, contexts = ["llama-2-7b", "llama-2-13b"], [128, 1024]
    lists = {"model": str(models).replace("'", '"'), "context": str(contexts), "across": f'"{across}"'}
    point = _read(tmp_path, **lists)
    each = [float(_cost(model, context=context).tokens_per_second) for model in models for context in contexts]
    assert len(point.runs) == len(each)
    assert run_value(point) == pytest.approx(of_all(each))


def test_a_mean_of_ratios_is_not_a_ratio_of_means(tmp_path):
    relative = {"relative_to": '{system = "a100", batch = 8}', "unit": '"1"', "across": '"arithmetic"'}
    point = _read(tmp_path, context="[128, 4096]", **relative)
    one, eight = (
        [float(_cost(batch=batch, context=context).tokens_per_second) for context in (128, 4096)] for batch in (1, 8)
    )
    ratios = [a / b for a, b in zip(one, eight, strict=True)]
    assert run_value(point) == pytest.approx(sum(ratios) / 2)
    assert run_value(point) != pytest.approx(sum(one) / sum(eight), rel=1e-4)


def test_steps_of_several_tokens_and_batches_are_runs_of_their_own(tmp_path):
    point = _read(tmp_path, batch="[1, 4]", tokens="[1, 3]", across='"smallest"')
    each = [float(_cost(batch=b, context=512, tokens=t).tokens_per_second) for b in (1, 4) for t in (1, 3)]
    assert [(run.batch, run.tokens) for run in point.runs] == [(1, 1), (1, 3), (4, 1), (4, 3)]
    assert run_value(point) == pytest.approx(min(each))


def test_of_several_systems_each_run_takes_the_best(tmp_path):
    systems = {"system": '["a100", "h100"]', "batch": "[1, 8]", "across": '"arithmetic"'}
    for figure in ("tokens_per_second", "decode_latency", "tokens_per_joule", "energy_per_token"):
        asked = {"figure": f'"{figure}"', "unit": f'"{FIGURES[figure]}"'}
        alone = [
            run_value(_read(tmp_path, **asked, system=f'"{one}"', batch=b)) for b in "18" for one in ("a100", "h100")
        ]
        best = max if figure.startswith("tokens") else min
        both = [best(alone[:2]), best(alone[2:])]
        assert run_value(_read(tmp_path, **asked, **systems)) == pytest.approx(sum(both) / 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"system": '"a10"'}, r"no system 'a10'.*a100"),
        ({"figure": '"tokens_per_secnd"'}, "unknown figure 'tokens_per_secnd'.*tokens_per_second"),
        ({"unit": '"s"'}, "unit = 's', but this figure is in '1/s'"),
        ({"across": '"mean"'}, "across = 'mean'"),
        ({"context": "[]"}, "is empty"),
        ({"context": "[512, 0]"}, "context = 0 is not a positive whole number"),
        ({"context": "1.5"}, "context = 1.5 is not a whole number or a list"),
        ({"model": '["llama-2-7b", 7]'}, "model = 7 is not a text"),
        ({"context": None}, "give prompt and generate, or the context"),
        ({"prompt": "16"}, "give prompt and generate, or the context"),
        ({"context": None, "prompt": "16"}, "give prompt and generate, or the context"),
        ({"figure": '"latency"', "unit": '"s"'}, "a step of decoding has no latency"),
        ({"context": None, "prompt": "16", "generate": "2", "tokens": "2"}, "tokens are those of a single step"),
        ({"system": "[]"}, "the list of systems is empty"),
        ({"batch": "[4, 0]"}, "batch = 0 is not a positive whole number"),
        ({"source": '"there"'}, "source 'there' is not among"),
        ({"relative_to": "{batch = 1}", "unit": '"1"'}, "relative_to.system is missing"),
    ],
)
def test_a_wrong_point_is_told_by_file_point_and_key(tmp_path, changes, words):
    with pytest.raises(DeviceError, match=rf"points\.toml: point 'a figure' of .*{words}"):
        _read(tmp_path, **changes)


def test_two_points_of_a_system_have_names_of_their_own(tmp_path):
    file = tmp_path / "points.toml"
    point = "[[point]]\n" + "\n".join(f"{key} = {value}" for key, value in POINT.items()) + "\n"
    file.write_text(HEAD + point + point.replace("llama-2-7b", "llama-2-13b"))
    with pytest.raises(DeviceError, match="point 'a figure' of a100 is there twice"):
        read_runs(file)


def test_every_point_that_ships_names_a_model_and_a_source():
    for publication, points in published_runs().items():
        assert points, publication
        for point in points:
            assert point.runs and point.source.citation and point.tolerance < 1, point.where
