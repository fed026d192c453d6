# SPDX-License-Identifier: GPL-2.0-or-later
"""The walks of ARCHITECTURE.md are short, and lead to files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WALKS = (ROOT / "ARCHITECTURE.md").read_text().split("\n## ")[1:]


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.partition("\n")[0])
def test_a_walk_visits_few_files_and_none_twice(walk: str) -> None:
    files = re.findall(r"\]\((src/staleline/[^)]+)\)", walk)
    assert 15 <= len(files) <= 25
    assert len(set(files)) == len(files)
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_both_ways_are_walked() -> None:
    assert len(WALKS) == 2
