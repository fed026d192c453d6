# SPDX-License-Identifier: GPL-2.0-or-later
"""The layout of a code base in figures, on packages that are made for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tools.structure import (
    circles_of_entries,
    doubled_file_names,
    doubled_names,
    figures,
    largest_folders,
    layout,
    longest_chain,
)


def package(folder: Path, files: Mapping[str, str]) -> Path:
    root = folder / "house"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for made in {root, *(path.parent for path in root.rglob("*.py"))}:
        (made / "__init__.py").touch()
    return root


def test_an_import_counts_wherever_it_is(tmp_path: Path) -> None:
    modules = layout(
        package(
            tmp_path,
            {
                "a.py": "from house.b import x\n",
                "b.py": "def f():\n    from house import c\n",
                "c.py": "if TYPE_CHECKING:\n    import house.d\n",
                "d.py": "",
            },
        )
    )
    assert longest_chain(modules) == ["house.a", "house.b", "house.c", "house.d"]
    assert not list(circles_of_entries(modules))


def test_a_circle_of_files_is_seen(tmp_path: Path) -> None:
    root = package(tmp_path, {"a.py": "from house import b\n", "b.py": "from . import a\n"})
    ((folder, entries),) = circles_of_entries(layout(root))
    assert folder == "house"
    assert set(entries) == {"a", "b"}


def test_a_circle_of_folders_is_one_without_a_circle_of_files(tmp_path: Path) -> None:
    files = {
        "up/first.py": "from house.down.first import x\n",
        "up/second.py": "",
        "down/first.py": "",
        "down/second.py": "import house.up.second\n",
    }
    ((folder, entries),) = circles_of_entries(layout(package(tmp_path, files)))
    assert folder == "house"
    assert set(entries) == {"up", "down"}


def test_what_has_one_name_twice_is_named(tmp_path: Path) -> None:
    files = {
        "up/rule.py": "class Rule:\n    def f(self): ...\n",
        "up/more/rule.py": "def rule(): ...\n\n\ndef _own(): ...\n",
        "up/other.py": "class Rule: ...\n\n\ndef _own(): ...\n",
    }
    modules = layout(package(tmp_path, files))
    assert doubled_names(modules) == {"Rule": ["house.up.other", "house.up.rule"]}
    assert set(doubled_file_names(modules)) == {"up: rule.py"}
    assert largest_folders(modules)["up"] == 3


def test_only_what_is_said_to_people_is_a_comment(tmp_path: Path) -> None:
    text = (
        '# SPDX: a licence\n"""What it is.\n\nLong.\n"""\n# Why.\nx = 1  # noqa\ny = (\n    2,\n)\n'
    )
    root = package(tmp_path, {"a.py": text})
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_a.py").write_text("\n" * 5)
    measured = figures(layout(root), tests)
    assert measured.comments_per_100 == 25.0
    assert measured.test_lines_per_line == 0.5
    assert measured.circles == measured.doubled_names == 0
