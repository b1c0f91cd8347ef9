"""The papers beside the code say what the code says."""

import re
from pathlib import Path

import pytest

from pim import __version__

ROOT = Path(__file__).resolve().parents[1]


def test_the_citation_is_of_this_version():
    text = (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^version: {re.escape(__version__)}$", text, re.MULTILINE)
    assert text.startswith("cff-version: 1.2.0\n")
    assert "\t" not in text


def test_the_citation_is_yaml_with_what_the_format_requires():
    yaml = pytest.importorskip("yaml", reason="reading YAML needs PyYAML")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["authors"] == [{"name": "The pim developers"}]
    assert citation["license"] == "Apache-2.0"
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("Apache License")


def test_the_changelog_opens_with_this_version():
    headings = re.findall(r"^## \[(.+?)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0][0] == __version__
    assert all(re.fullmatch(r"Unreleased|\d{4}-\d\d-\d\d", date) for _, date in headings)
