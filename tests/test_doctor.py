"""The doctor finds this machine well, and would not if a sum came out wrong."""

import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

from pim import health as doctor_module
from pim.canary import Canary, Finding, canaries, examine
from pim.health import Report, canary_problems, doctor, version_problems

MATRIX = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def report() -> Report:
    return doctor()


def test_this_machine_computes_right(report: Report):
    """The suite's own guard: a wrong release of JAX makes every other test meaningless."""
    assert report.ok, "\n".join(report.lines)
    assert len(report.findings) == len(canaries())


def test_the_report_in_words_and_in_json(report: Report):
    text = "\n".join(report.lines)
    assert f"jax {jax.__version__}" in " ".join(text.split())
    assert text.endswith("all is well")
    read = json.loads(report.to_json())
    assert read["ok"] is True
    assert read["versions"]["jax"] == jax.__version__
    assert [finding["name"] for finding in read["findings"]] == [canary.name for canary in canaries()]


def miscompiled(wrong):
    """A function that `jit` gets wrong: the jitted trace takes another way than single operations do."""

    def total(x):
        right = jnp.sum(x**2)
        return wrong(right) if isinstance(x, Tracer) else right

    return total


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda y: y * 1.002, id="slightly off"),
        pytest.param(lambda y: y * jnp.nan, id="NaN"),
        pytest.param(lambda y: y + jnp.inf, id="infinite"),
        pytest.param(lambda y: y * 0, id="zero"),
    ],
)
def test_a_wrong_sum_is_caught(wrong):
    finding = examine(Canary("broken", miscompiled(wrong), (MATRIX,)))
    assert not finding.ok
    problems = canary_problems((finding,))
    assert len(problems) == 1
    assert "'broken' comes out wrong" in problems[0]
    assert "another release of jax" in problems[0]


def test_one_wrong_row_among_many_is_caught():
    def rows(x):
        right = jnp.sum(x**2, axis=-1)
        return right.at[-1].mul(0.9) if isinstance(x, Tracer) else right

    assert not examine(Canary("last row", rows, (MATRIX,))).ok


def test_a_right_sum_passes_and_a_bare_reference_is_used():
    assert examine(Canary("fine", miscompiled(lambda y: y), (MATRIX,))).ok
    assert not examine(Canary("product", lambda x: x @ x, (MATRIX,), reference=lambda x: x @ x + 1)).ok


@pytest.mark.parametrize("canary", canaries(), ids=lambda canary: canary.name)
def test_each_canary_would_sing(canary: Canary):
    """A per-mille error in a single element is more than rounding, in each of them."""

    def right(*arguments):
        return canary.function(*map(jnp.asarray, arguments))

    def broken(*arguments):
        result = right(*arguments).astype(jnp.float32)
        largest = jnp.unravel_index(jnp.argmax(jnp.abs(result)), result.shape)
        return result.at[largest].mul(1.001)

    assert not examine(dataclasses.replace(canary, function=broken, reference=canary.reference or right)).ok


@pytest.mark.parametrize("bad", ["0.10.2", "0.11.0", "0.11.1"])
def test_a_bad_release_is_refused_with_the_remedy(monkeypatch, bad: str):
    monkeypatch.setattr(doctor_module.metadata, "version", lambda _: bad)
    report = doctor()
    assert not report.ok
    assert not report.findings, "a release that may hang must not be run"
    assert len(report.problems) == 2
    assert report.problems[0].startswith(f"jax {bad} ")
    assert "pip install 'jax>=0.9,!=0.10.2,!=0.11.0,!=0.11.1'" in report.lines[-1]


def test_good_releases_raise_no_word():
    assert version_problems({"jax": "0.10.1", "jaxlib": "0.9.2"}) == ()


def test_the_remedy_is_what_we_depend_on():
    requirements = doctor_module.metadata.requires("pim-emulator") or []
    (jax_requirement,) = [line for line in requirements if line.startswith("jax") and "typing" not in line]
    remedy = doctor_module.REMEDY.split("'")[1]
    assert set(jax_requirement.removeprefix("jax").split(",")) == set(remedy.removeprefix("jax").split(","))


def test_infinity_is_written_as_json_allows():
    findings = (Finding("broken", float("inf")),)
    text = Report({"jax": "0.10.1"}, findings, canary_problems(findings)).to_json()

    def refuse(constant: str):
        raise AssertionError(f"{constant} is no JSON")

    read = json.loads(text, parse_constant=refuse)
    assert not read["findings"][0]["ok"]


def test_flags_that_change_xla_are_shown(report: Report):
    assert report.versions["XLA_FLAGS"] == os.environ.get("XLA_FLAGS", "(none)")
