# SPDX-License-Identifier: GPL-2.0-or-later
"""The layout is the flow: nothing imports upward, and some layers do not know each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import staleline

ROOT = Path(staleline.__file__).parent

#: What each package may import besides itself and the modules at the top.
ALLOWED = {
    "evidence": set(),
    "facts": {"evidence"},
    "policy": set(),
    "kernel": {"evidence", "policy"},
    "model": set(),
    "check": {"model"},
    "verdict": {"evidence", "facts", "kernel", "policy", "model", "check"},
    "report": {"evidence", "facts", "kernel", "policy", "model", "check", "verdict"},
    "cli": {"evidence", "facts", "kernel", "policy", "model", "check", "verdict", "report"},
}


def imported_packages(file: Path) -> Iterator[str]:
    """Packages of staleline that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "staleline" and len(parts) > 1 and (ROOT / parts[1]).is_dir():
                yield parts[1]


def test_every_package_is_in_the_table() -> None:
    packages = {entry.name for entry in ROOT.iterdir() if (entry / "__init__.py").is_file()}
    assert packages == set(ALLOWED)


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_lies_before_it(package: str) -> None:
    for file in (ROOT / package).rglob("*.py"):
        upward = set(imported_packages(file)) - ALLOWED[package] - {package}
        assert not upward, f"{file.relative_to(ROOT)} imports {upward}"
