"""CONTRIBUTING.md names what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# Paths of the repository, in backticks or in a command; not those of examples, which have a placeholder.
PATHS = re.findall(r"\b(?:deepscan|tests|docs|configs|data|benchmarks|scripts)/[\w./<>-]*[\w>]", TEXT)


@pytest.mark.parametrize("path", sorted({path for path in PATHS if "<" not in path}))
def test_its_paths_exist(path: str) -> None:
    assert (ROOT / path).exists()


def test_its_names_are_defined_where_it_says() -> None:
    for name, path in re.findall(r"`(_?[A-Z]+)` in `(deepscan/[\w/]+\.py)`", TEXT):
        assert re.search(rf"^{name}\b", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), (name, path)
