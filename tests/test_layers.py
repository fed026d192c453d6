# SPDX-License-Identifier: GPL-2.0-or-later
"""The layout is the flow: nothing imports upward or in a circle, and one name is one thing.

`tests.tools.test_structure` shows that each of these checks fails where it should.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from tools.structure import (
    Layout,
    circles_of_entries,
    doubled_file_names,
    doubled_names,
    largest_folders,
    layout,
    long_lived,
    longest_chain,
    strayed_tests,
    upward_imports,
)

import staleline

ROOT = Path(staleline.__file__).parent
TESTS = Path(__file__).parent

#: The files at the top, for every package.
FILES = frozenset(
    {
        "__init__",
        "cores",
        "errors",
        "extras",
        "files",
        "hardware",
        "inputfile",
        "outputfile",
        "pattern",
        "printable",
        "tar",
        "unpacking",
        "vocabulary",
        "workers",
    }
)

#: What a verdict is made of.
JUDGING = frozenset({"evidence", "facts", "kernel", "policy", "model", "check"})
#: What asks for many verdicts, or beside a verdict.
ASKING = frozenset({"fleet", "simulation", "litmus"})

#: What each file and folder at the top may import besides itself.
ALLOWED = {
    "__init__": frozenset({"api", "errors", "vocabulary"}),
    "errors": frozenset[str](),
    "cores": frozenset[str](),
    "vocabulary": frozenset[str](),
    "hardware": frozenset[str](),
    "pattern": frozenset[str](),
    "printable": frozenset[str](),
    "inputfile": frozenset({"errors"}),
    "files": frozenset({"errors"}),
    "outputfile": frozenset({"errors", "files"}),
    "unpacking": frozenset({"errors"}),
    "extras": frozenset({"errors"}),
    "workers": frozenset({"errors", "extras"}),
    "tar": frozenset({"errors", "unpacking"}),
    "evidence": FILES,
    "policy": FILES,
    "model": FILES,
    "facts": FILES | {"evidence"},
    "kernel": FILES | {"evidence", "policy"},
    "check": FILES | {"model"},
    "litmus": FILES | {"evidence", "model", "check"},
    "verdict": FILES | JUDGING | {"litmus"},
    "fleet": FILES | JUDGING | {"verdict"},
    "simulation": FILES | JUDGING | {"verdict"},
    "report": FILES | JUDGING | ASKING | {"verdict"},
    "cli": FILES | JUDGING | ASKING | {"verdict", "report"},
    "api": FILES | JUDGING | ASKING | {"verdict", "report"},
    "__main__": frozenset({"cli"}),
}

#: As many as are seen at once. The commands lie in one folder whatever their number: a user types
#: their names side by side, and looks for each under the name that was typed.
MODULES_AT_MOST = 15
COMMANDS_AT_MOST = 24
#: Modules of which each imports the next, from a command to the last. What grows it is mostly one
#: small name or type of a module that does more: it wants a module of its own, further down.
CHAIN_AT_MOST = 20

#: Names that mean one thing in each of these places. A reader recognises and parses one format;
#: `command` is what click runs; the collector runs alone on a host, so it repeats what it needs;
#: the face for programs calls things what they are called inside.
ONE_CONCEPT = {
    "parse": ("evidence", "policy.expression"),
    "parse_json": ("evidence",),
    "is_row": ("evidence",),
    "is_read": ("evidence.log",),
    "is_json": ("evidence",),
    "command": ("cli",),
    "main": ("cli.main", "evidence.staleline_collect"),
    "collect": ("evidence.live", "evidence.staleline_collect"),
    "read_images": ("api", "kernel.reading.many"),
}

#: They say of a value that it was found, or that there are others. Where both ends of its life are
#: seen at once that is enough.
SAYS_NOTHING = frozenset({"found", "one"})

#: Folders of tests that are not of one package: of the tools, and of everything at once.
OF_NO_PACKAGE = frozenset({"tools", "properties", "fuzz", "machine"})


@cache
def modules() -> Layout:
    return layout(ROOT)


def test_every_file_and_package_at_the_top_is_in_the_table() -> None:
    entries = {(*name.split("."), "__init__")[1] for name in modules().files}
    assert entries == set(ALLOWED)


def test_nothing_imports_upward() -> None:
    assert not list(upward_imports(modules(), ALLOWED))


def test_no_files_or_folders_import_each_other_in_a_circle() -> None:
    assert not list(circles_of_entries(modules()))


def test_no_chain_of_imports_is_long() -> None:
    chain = longest_chain(modules())
    assert len(chain) <= CHAIN_AT_MOST, " ".join(chain)


@pytest.mark.parametrize("folder", largest_folders(modules()))
def test_a_folder_is_seen_at_once(folder: str) -> None:
    at_most = COMMANDS_AT_MOST if folder == "cli" else MODULES_AT_MOST
    assert largest_folders(modules())[folder] <= at_most


def test_no_two_modules_of_a_package_have_one_name() -> None:
    assert not doubled_file_names(modules())


def test_no_two_public_definitions_have_one_name() -> None:
    assert not doubled_names(modules(), ONE_CONCEPT)


def test_what_lives_longer_than_some_lines_has_a_name_of_its_own() -> None:
    assert not list(long_lived(modules(), SAYS_NOTHING))


def test_tests_lie_where_what_they_test_lies() -> None:
    assert not list(strayed_tests(modules(), layout(TESTS), OF_NO_PACKAGE))
