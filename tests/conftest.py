"""What every test runs under: checked shapes, no rank promotion, the CPU, and the same examples each time."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # Compiling takes most of the time of the suite: what one worker has compiled the others, which are started with
    # these variables, need not. The folder goes with the run.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="pim-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import beartype
import hypothesis
import jax
import jaxtyping
import pytest

# A shape that JAX would widen in silence is a bug until somebody writes the axis out. Dtype promotion
# stays "standard": the strict mode refuses uint32 keys and codes beside int32 counts at every turn.
jax.config.update("jax_numpy_rank_promotion", "raise")

# Compiling makes any first example slow, and a suite that draws other examples each time cannot be trusted.
hypothesis.settings.register_profile("pim", deadline=None, derandomize=True, database=None, max_examples=25)
hypothesis.settings.load_profile("pim")

CHECKER = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))  # an int is a float, as for pyright


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check a function's annotations with beartype, but leave dataclasses' fields alone.

    JAX rebuilds a registered record through `__init__` with stand-ins for its leaves (an axis more under
    `vmap`, `None`, bare objects), so that fields do not keep their annotated shapes; the functions that
    take them apart do.
    """
    return function if function.__name__ == "__init__" else CHECKER(function)


# Every function of `pim`, of whichever wing, checks its annotations; users do not pay for it. The hook only
# sees what is imported later, and asks for the checker by an expression.
assert "pim" not in sys.modules, "pim was imported before its annotations could be checked"
jaxtyping.config.update("jaxtyping_remove_typechecker_stack", True)
jaxtyping.install_import_hook("pim", f"sys.modules[{__name__!r}].check")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Workers for `-n auto`: none for chosen files or tests, for slow ones (some measure time), or under a debugger."""
    chosen = any(".py" in argument for argument in config.args)
    slow = "slow" in config.option.markexpr and "not slow" not in config.option.markexpr
    return 0 if chosen or slow or config.option.usepdb else min(os.cpu_count() or 1, 4)


@pytest.fixture(scope="module", autouse=True)
def _forget_what_was_compiled() -> Iterator[None]:
    """Drop a file's compiled code when it is done: thousands of programs exhaust the memory maps of a process."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout (or at $PIM_SHARED); a user's clone has none."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("PIM_SHARED", beside))
    if not folder.is_dir():
        pytest.skip(f"needs the reference data, and there is no folder {folder}: set PIM_SHARED to it")
    return folder


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Run as users do, without checked annotations: for tests of what *our* errors say about bad input."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
