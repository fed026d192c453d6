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
    long_lived,
    longest_chain,
    strayed_tests,
    upward_imports,
)


def package(folder: Path, files: Mapping[str, str], name: str = "house") -> Path:
    root = folder / name
    for file, text in files.items():
        path = root / file
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


def test_a_circle_through_a_folders_own_init_is_seen(tmp_path: Path) -> None:
    files = {
        "up/__init__.py": "from house.up.first import x\n",
        "up/first.py": "def f():\n    from house.up import y\n",
    }
    ((folder, entries),) = circles_of_entries(layout(package(tmp_path, files)))
    assert folder == "house.up"
    assert set(entries) == {"__init__", "first"}


def test_an_import_upward_is_seen_wherever_it_is(tmp_path: Path) -> None:
    files = {
        "up/first.py": "from house.down.deep.first import x\nfrom house import errors\n",
        "down/deep/first.py": "def f():\n    import house.up.first\n",
        "down/second.py": "if TYPE_CHECKING:\n    from ..up import first\n",
        "errors.py": "from house.down.second import x\n",
    }
    allowed = {"up": frozenset({"down", "errors"}), "down": frozenset({"errors"})}
    assert list(upward_imports(layout(package(tmp_path, files)), allowed)) == [
        ("house.down.deep.first", "house.up.first"),
        ("house.down.second", "house.up.first"),
        ("house.errors", "house.down.second"),
    ]


def test_what_has_one_name_twice_is_named(tmp_path: Path) -> None:
    files = {
        "up/rule.py": "class Rule:\n    def f(self): ...\n",
        "up/more/rule.py": "def rule(): ...\n\n\ndef _own(): ...\n",
        "up/other.py": "class Rule: ...\n\n\ndef _own(): ...\n",
    }
    modules = layout(package(tmp_path, files))
    assert doubled_names(modules) == {"Rule": ["house.up.other", "house.up.rule"]}
    assert set(doubled_file_names(modules)) == {"up: rule.py"}
    assert largest_folders(modules)["up"] == 2


def test_one_name_for_one_concept_is_named_outside_of_it_only(tmp_path: Path) -> None:
    files = {
        "readers/first.py": "def parse(): ...\n",
        "readers/second.py": "def parse(): ...\n",
        "readers_of_old/first.py": "def parse(): ...\n",
        "up/other.py": "def parse(): ...\n",
    }
    modules = layout(package(tmp_path, files))
    assert doubled_names(modules, {"parse": ("readers",)}) == {
        "parse": ["house.readers_of_old.first", "house.up.other"]
    }
    assert not doubled_names(modules, {"parse": ("readers", "readers_of_old")})


def test_a_test_lies_where_what_it_tests_lies(tmp_path: Path) -> None:
    modules = {"up/rule.py": "", "up/deep/far.py": "", "up/deep/near.py": ""}
    right = {
        "test_all.py": "",
        "tools/test_far.py": "",
        "up/shared.py": "from house.up.rule import x\n",
        "up/test_rule.py": "import house.up.rule\n",
        "up/test_through_shared.py": "from tests.up.shared import x\n",
        "up/test_command.py": "",
        "up/deep/test_far.py": "",
        "up/deep/test_both.py": "",
    }
    strayed = {
        "up/test_far.py": "from house.up.rule import x\n",
        "up/test_deep_things.py": "from house.up.deep.near import x\n",
        "up/deep/test_rule.py": "",
        "away/test_it.py": "",
    }
    house = layout(package(tmp_path, modules))
    tests = layout(package(tmp_path, {**right, **strayed}, "tests"))
    assert list(strayed_tests(house, tests, frozenset({"tools"}))) == [
        ("tests.away.test_it", "nothing lies in away"),
        ("tests.up.deep.test_rule", "what it is named for lies in up"),
        ("tests.up.test_deep_things", "it imports nothing that lies in up itself"),
        ("tests.up.test_far", "what it is named for lies in up.deep"),
    ]


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


def test_a_name_lives_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    between = "    a = 1\n    b = 2\n    c = 3\n"
    files = {
        "short.py": "def f(rows):\n    one = rows[0]\n    rows.clear()\n    return one\n",
        "long.py": f"def f(one, rows):\n{between}    return one, rows\n",
        "inner.py": f"def f():\n    one = 1\n{between}    return [one for one in (a, b)]\n",
        "shared.py": f"def f():\n    one = 1\n{between}    return [one for a in (b, c)]\n",
        "field.py": "class A:\n    one: int\n",
    }
    modules = layout(package(tmp_path, files))
    assert list(long_lived(modules, frozenset({"one"}))) == [
        ("house.field", 2, "one"),
        ("house.long", 1, "one"),
        ("house.shared", 2, "one"),
    ]
