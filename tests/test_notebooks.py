"""Every notebook runs from top to bottom at its quick size, and what its cells show can be shown."""

import ast
import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def run_cell(source: str, namespace: dict) -> None:
    """Run a cell; display its last expression as a notebook would."""
    tree = ast.parse(source)
    last = tree.body.pop()
    exec(compile(tree, "cell", "exec"), namespace)
    if not isinstance(last, ast.Expr):
        exec(compile(ast.Module([last], []), "cell", "exec"), namespace)
    else:
        shown = eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
        assert repr(shown)
        if hasattr(shown, "_repr_html_") and not isinstance(shown, Figure):  # shown as a picture
            assert shown._repr_html_()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(notebook, monkeypatch, tmp_path):
    monkeypatch.setenv("PIM_QUICK", "1")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    cells = json.loads(notebook.read_text())["cells"]
    assert all(not cell.get("outputs") for cell in cells), "commit notebooks without outputs"
    namespace: dict = {"__name__": "notebook"}
    for cell in cells:
        if cell["cell_type"] == "code":
            run_cell("".join(cell["source"]), namespace)
    plt.close("all")


def test_there_are_notebooks():
    assert NOTEBOOKS
