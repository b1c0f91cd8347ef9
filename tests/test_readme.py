"""The README's example runs as it stands, and the README stays short enough to be read."""

import re
from pathlib import Path

import numpy as np

from pim.llm_workloads.stories import story_text

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_runs(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    namespace = {
        "weights": rng.normal(size=(200, 60)).astype(np.float32),
        "x": rng.normal(size=(8, 200)).astype(np.float32),
        "text": story_text(11, 2),
        "calibration_text": story_text(12, 2),
    }
    exec(compile(example, "README.md", "exec"), namespace)
    assert namespace["y"].shape == (8, 60)
    assert namespace["result"].perplexity >= namespace["result"].digital_perplexity * 0.9
    assert namespace["data"].sizes["weights.adc.bits"] == 3


def test_it_is_short_and_holds_both_commands():
    assert len(README.splitlines()) < 100
    assert "python -m pip install . && pim run" in README
    assert "python -m pip install '.[test]' && pytest" in README
