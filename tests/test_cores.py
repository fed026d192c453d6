# SPDX-License-Identifier: GPL-2.0-or-later
"""Work is spread over the cores that there are for it, and nobody counts others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import staleline
from staleline.cores import usable_cores

PACKAGE = Path(staleline.__file__).parent
#: It runs by itself on other hosts, and tells of theirs.
COLLECTOR = "staleline_collect.py"


def test_what_a_container_may_not_use_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5})
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert usable_cores() == 2


def test_cores_are_counted_in_one_place() -> None:
    counting = {
        file.name
        for file in PACKAGE.rglob("*.py")
        if any(name in file.read_text("utf-8") for name in ("cpu_count(", "sched_getaffinity("))
    }
    assert counting == {"cores.py", COLLECTOR}
