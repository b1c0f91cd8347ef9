"""What is installed is whole: every way in gives every module and data file, and imports run one way.

The wheel is built by the backend's own hooks from what the sdist holds, as pip does without build isolation, so that
no index is needed. It goes into fresh virtual environments that see the running one's packages but not its `pim`.
"""

import ast
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
FOLDERS = SETUPTOOLS["package-dir"]
"""Where each wing lies: {"pim": "pim", "pim.devices": "devices", ...}."""

MAY_IMPORT = {
    "pim.devices": ("pim.devices",),
    "pim.llm_workloads": ("pim.llm_workloads",),
    "pim.mapping": ("pim.mapping", "pim.devices", "pim.llm_workloads"),
    "pim": ("pim",),
}

IMPORT_ALL = """
import importlib, pathlib, pkgutil, sys
import pim
optional = set(sys.argv[1].split(","))
for module in pkgutil.walk_packages(pim.__path__, "pim."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if error.name not in optional:
            raise
    print(module.name)
print("from", pathlib.Path(pim.__file__).resolve())
"""
OPTIONAL = "optax,lm_eval"  # the extras `train` and `lm-eval`


def files_of(wing: str) -> Iterator[Path]:
    """Every file of a wing, in the folder that holds it; links to other wings are not followed."""
    for path in sorted((ROOT / FOLDERS[wing]).rglob("*")):
        parts = path.relative_to(ROOT).parts
        linked = any(parent.is_symlink() for parent in [path, *path.parents])
        hidden = any(part == "__pycache__" or part.startswith(".") for part in parts)
        if path.is_file() and not linked and not hidden:
            yield path


def installed_name(wing: str, path: Path) -> str:
    """Where a file lies in the wheel: devices/converters/adc.py is pim/devices/converters/adc.py."""
    return f"{wing.replace('.', '/')}/{path.relative_to(ROOT / FOLDERS[wing]).as_posix()}"


def module_name(wing: str, path: Path) -> str:
    return installed_name(wing, path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


EXPECTED = {installed_name(wing, path) for wing in FOLDERS for path in files_of(wing)}
MODULES = {module_name(wing, path): (wing, path) for wing in FOLDERS for path in files_of(wing) if path.suffix == ".py"}


# What pyproject.toml says


def test_every_folder_with_modules_is_listed():
    packages = {name.rpartition("/")[0].replace("/", ".") for name in EXPECTED if name.endswith(".py")}
    assert packages <= set(SETUPTOOLS["packages"]), "a folder is not in pyproject's packages: the wheel lacks it"


def test_every_listed_package_exists():
    for package in SETUPTOOLS["packages"]:
        assert f"{package.replace('.', '/')}/__init__.py" in EXPECTED


def test_every_data_file_is_named_by_package_data():
    shipped = set()
    for package in SETUPTOOLS["packages"]:
        wing = max((wing for wing in FOLDERS if f"{package}.".startswith(f"{wing}.")), key=len)
        folder = ROOT / FOLDERS[wing] / package.removeprefix(wing).replace(".", "/").strip("/")
        data = SETUPTOOLS["package-data"]
        for pattern in ["*.py", *data.get("*", []), *data.get(package, [])]:
            shipped |= {installed_name(wing, path) for path in folder.glob(pattern)}
    assert shipped == EXPECTED, "a file's suffix is missing from pyproject's package-data, or its folder from packages"


# Which way imports run


def imports_of(path: Path) -> Iterator[tuple[str, int, bool]]:
    """Each module that a file imports, with its line and whether that happens when the file is loaded."""
    tree = ast.parse(path.read_text(), str(path))
    later = set()
    for node in ast.walk(tree):
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if typing_only or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            later |= {id(inner) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, id(node) not in later) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                yield (deeper if deeper in MODULES else str(node.module)), node.lineno, id(node) not in later


@pytest.mark.parametrize("wing", FOLDERS)
def test_imports_run_one_way(wing: str):
    for path in files_of(wing):
        for imported, line, _ in imports_of(path) if path.suffix == ".py" else ():
            where = f"{path.relative_to(ROOT)}:{line} imports {imported}"
            top = imported.partition(".")[0]
            assert top not in {"devices", "mapping", "llm_workloads"}, f"{where}: a second copy, write pim.{imported}"
            if top == "pim":
                allowed = any(f"{imported}.".startswith(f"{wing}.") for wing in MAY_IMPORT[wing])
                assert allowed, f"{where}: {wing} may import {', '.join(MAY_IMPORT[wing])} alone"


def test_nothing_outside_the_wings_imports_a_bare_wing():
    for path in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        for imported, line, _ in imports_of(path):
            bare = imported.partition(".")[0] in {"devices", "mapping", "llm_workloads"}
            assert not bare, f"{path.relative_to(ROOT)}:{line} imports {imported}: write pim.{imported}"


def test_no_module_waits_for_one_that_waits_for_it():
    needs = {
        name: {imported for imported, _, at_load in imports_of(path) if at_load and imported in MODULES}
        for name, (_, path) in MODULES.items()
    }
    assert list(TopologicalSorter(needs).static_order())


# What is built


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user would, outside the checkout; its output is the message where it fails."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def checkout(folder: Path, *, links: bool = True) -> Path:
    """A clean copy of what is built; without links, what git leaves of one: a small file holding its target."""
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for source in FOLDERS.values():
        shutil.copytree(
            ROOT / source, folder / source, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
    if not links:
        for link in [path for path in (folder / "pim").iterdir() if path.is_symlink()]:
            target = link.readlink()
            link.unlink()
            link.write_text(target.as_posix())
    return folder


def build(kind: str, source: Path, target: Path) -> Path:
    """Call the backend's hook `build_sdist` or `build_wheel` in a source tree."""
    setuptools = pytest.importorskip("setuptools", reason="building needs setuptools: install '.[test]'")
    if int(setuptools.__version__.partition(".")[0]) < 77:
        pytest.skip(f"building needs setuptools>=77, this is {setuptools.__version__}")
    program = f"import setuptools.build_meta as b, sys; print('built', b.build_{kind}(sys.argv[1]))"
    target.mkdir(exist_ok=True)
    output = run(sys.executable, "-c", program, target, cwd=source).stdout
    return target / output.rpartition("built ")[2].strip()


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    return build("sdist", checkout(folder / "checkout"), folder / "dist")


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(sdist.parent, filter="data")
    return build("wheel", sdist.parent / sdist.name.removesuffix(".tar.gz"), sdist.parent)


def held(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_from_the_sdist_holds_every_file(wheel: Path):
    assert held(wheel) == EXPECTED


def test_a_clone_without_links_builds_the_same_wheel(tmp_path: Path):
    source = checkout(tmp_path / "checkout", links=False)
    assert (source / "pim" / "devices").read_text() == "../devices"
    assert held(build("wheel", source, tmp_path / "dist")) == EXPECTED


# What is installed


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of a fresh virtual environment that sees the running one's packages, but not its `pim`."""
    if os.name == "nt":
        pytest.skip("this environment is put together from POSIX links and paths")
    pytest.importorskip("pip", reason="installing needs pip in the running environment")
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in [entry for folder in map(Path, sys.path) if "-packages" in folder.name for entry in folder.iterdir()]:
        ours = entry.name.startswith(("pim", "__editable__")) or entry.suffix == ".pth"
        if not ours and not (packages / entry.name).exists():
            (packages / entry.name).symlink_to(entry)
    home = tmp_path / "venv"
    venv.create(home, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(str(packages))
    return home / "bin" / "python"


def install(python: Path, *what: str | Path) -> None:
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    run(python, "-m", "pip", "install", *options, *what, cwd=python.parent)


def check_installed(python: Path, where: Path, user: Path) -> None:
    """Every module imports, from `where`; the command and `python -m` answer."""
    user.mkdir()
    output = run(python, "-c", IMPORT_ALL, OPTIONAL, cwd=user).stdout.split()
    assert set(output[:-2]) | {"pim"} == set(MODULES)
    assert Path(output[-1]).is_relative_to(where.resolve())
    assert run(python.parent / "pim", "--help", cwd=user).stdout == run(python, "-m", "pim", "-h", cwd=user).stdout


def test_the_installed_wheel_runs(wheel: Path, python: Path, tmp_path: Path):
    install(python, wheel)
    check_installed(python, where=tmp_path / "venv", user=tmp_path / "user")


def test_an_editable_install_runs_and_sees_new_files(python: Path, tmp_path: Path):
    source = checkout(tmp_path / "checkout")
    install(python, "-e", source)
    check_installed(python, where=source, user=tmp_path / "user")
    (source / "devices" / "brand_new.py").write_text("answer = 42")
    program = "from pim.devices.brand_new import answer; print(answer)"
    assert run(python, "-c", program, cwd=tmp_path).stdout.split() == ["42"]


# How it behaves where a user works


def test_a_users_own_files_do_no_harm(tmp_path: Path):
    for name in ("devices", "mapping", "llm_workloads"):
        (tmp_path / f"{name}.py").write_text("mine = True")
    program = """
import devices, mapping, llm_workloads
import pim, pim.devices, pim.mapping, pim.llm_workloads
assert devices.mine and mapping.mine and llm_workloads.mine
assert not hasattr(pim.devices, "mine")
"""
    run(sys.executable, "-c", program, cwd=tmp_path)
    run(sys.executable, "-c", IMPORT_ALL, OPTIONAL, cwd=tmp_path)
    run(sys.executable, "-m", "pim", "--help", cwd=tmp_path)


HEAVY = "{'jax', 'jaxlib', 'matplotlib', 'scipy', 'xarray', 'numpy'} & set(sys.modules)"


def test_importing_pim_loads_nothing_heavy(tmp_path: Path):
    program = f"import sys, pim; dir(pim); pim.__version__; print({HEAVY})"
    assert run(sys.executable, "-c", program, cwd=tmp_path).stdout.strip() == "set()"


def test_help_loads_nothing_heavy(tmp_path: Path):
    program = f"""
import runpy, sys
sys.argv = ["pim", "--help"]
try:
    runpy.run_module("pim", run_name="__main__", alter_sys=True)
except SystemExit as stop:
    assert not stop.code, stop.code
print({HEAVY})
"""
    printed = run(sys.executable, "-c", program, cwd=tmp_path).stdout.strip()
    assert printed.startswith("usage: pim")
    assert printed.endswith("set()")
