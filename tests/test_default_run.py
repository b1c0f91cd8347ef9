"""The main job as a new user starts it: a fresh process, no arguments."""

import json
import subprocess
import sys
import time

import pytest


@pytest.mark.slow
def test_pim_run_ends_within_90_seconds_with_its_files(tmp_path):
    """Cold on two cores, nothing else running: imports, compilation, 2,048 tokens on 4 chips at 6 settings, report."""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "pim", "run"], cwd=tmp_path, capture_output=True, text=True)
    took = time.monotonic() - start
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["report.html", "result.json", "result.nc"]
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["protocol"]["scored_tokens"] == 2048 and result["protocol"]["chips"] == 4
    assert "digital perplexity" in done.stdout and "out/report.html" in done.stdout
    assert took < 90
