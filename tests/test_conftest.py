"""The test run's own safety nets are up: they would let everything through in silence if they were not."""

import importlib
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import pytest

import pim

PROBE = """
import dataclasses
import jax
from jaxtyping import Array, Float

def product(w: Float[Array, "inputs outputs"], x: Float[Array, "inputs"]) -> Float[Array, "outputs"]:
    return x @ w

@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cell:
    conductance: Float[Array, ""]

    def scaled(self, by: Float[Array, ""]) -> Float[Array, ""]:
        return by * self.conductance
"""


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A module `pim.probe`, imported as any other part of the package is."""
    (tmp_path / "probe.py").write_text(PROBE)
    monkeypatch.setattr(pim, "__path__", [*pim.__path__, str(tmp_path)])
    yield importlib.import_module("pim.probe")
    del sys.modules["pim.probe"]


def test_a_wrong_shape_raises(probe):
    assert probe.product(jnp.ones((3, 2)), jnp.ones(3)).shape == (2,)
    with pytest.raises(jaxtyping.TypeCheckError):
        probe.product(jnp.ones((3, 2)), jnp.ones((3, 1)))
    with pytest.raises(jaxtyping.TypeCheckError):
        probe.product(jnp.ones((3, 2)), jnp.ones(4))
    with pytest.raises(jaxtyping.TypeCheckError):
        probe.product(jnp.ones((3, 2)), jnp.ones(3, int))


def test_methods_are_checked_and_jax_may_rebuild_records(probe):
    cells = jax.vmap(probe.Cell)(jnp.ones(3))
    assert cells.conductance.shape == (3,)
    with pytest.raises(jaxtyping.TypeCheckError):
        cells.scaled(jnp.ones(2))


def test_unchecked_lets_bad_input_reach_our_own_checks(probe, unchecked):
    assert probe.product(jnp.ones((3, 2)), jnp.ones((4, 3))).shape == (4, 2)


@pytest.mark.parametrize("name", ["pim.devices", "pim.mapping", "pim.llm_workloads", "pim.__main__"])
def test_every_wing_is_checked(name: str):
    loader = importlib.import_module(name).__spec__.loader  # type: ignore[union-attr]
    assert type(loader).__name__ == "_JaxtypingLoader"


def test_rank_promotion_raises():
    with pytest.raises(ValueError, match="rank_promotion"):
        _ = jnp.ones((2, 3)) + jnp.ones(3)


def test_shared_is_skipped_with_a_reason_where_absent(tmp_path: Path):
    (tmp_path / "test_it.py").write_text("def test_it(shared): assert False")
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": "", "PIM_SHARED": str(tmp_path / "nowhere")},
    )
    assert run.returncode == 0, run.stdout
    assert "1 skipped" in run.stdout
    assert f"no folder {tmp_path / 'nowhere'}" in run.stdout
