# SPDX-License-Identifier: GPL-2.0-or-later
"""What is to be judged is read in a time that grows with how much of it there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, cast

import pytest

from staleline.fleet.gains import gains
from staleline.fleet.images import no_images
from staleline.fleet.intake.adding import AddOptions, add_to_fleet
from staleline.fleet.judging import FleetQuestion
from staleline.fleet.result import AuditOptions, asked_fleet
from staleline.fleet.subjects import ProfileTexts
from staleline.fleet.tables import Engine, Statements
from tests.fleet.equality import some_hosts

AT_A_TIME = 5


@pytest.fixture(scope="module")
def fleets(tmp_path_factory) -> tuple[Path, Path]:
    """Some hosts, and four times as many."""
    hosts, folder = some_hosts(80, seed=31), tmp_path_factory.mktemp("growing")
    made = []
    for count in (20, 80):
        source = folder / f"hosts-{count}"
        source.mkdir()
        for name, text in list(hosts.items())[:count]:
            (source / f"{name}.json").write_text(text)
        add_to_fleet(folder / f"of-{count}", [str(source)], AddOptions(jobs=1, inputs_at_most=7))
        made.append(folder / f"of-{count}")
    return made[0], made[1]


@pytest.fixture
def texts_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many profiles each statement that reads their texts gave."""
    read = list[int]()
    rows = Engine.rows

    def recorded(self: Engine, statement: str, values: Sequence[object] = ()) -> list[Any]:
        given = rows(self, statement, values)
        if "snapshot" in statement:
            read.append(len(given))
        return given

    monkeypatch.setattr(Engine, "rows", recorded)
    monkeypatch.setattr(ProfileTexts, "at_a_time", AT_A_TIME)
    return read


def test_the_text_of_each_profile_is_read_once(fleets, texts_read):
    """Each statement reads the table from end to end: one for each profile would be too many."""
    for fleet in fleets:
        question = FleetQuestion(kernel="linux-6.18", images=no_images())
        with asked_fleet(fleet, AuditOptions(question, now=1)) as asked:
            profiles = asked.running.value("SELECT COUNT(DISTINCT profile) FROM profiles")
        assert profiles > AT_A_TIME
        assert sum(texts_read) == profiles
        assert len(texts_read) == ceil(profiles / AT_A_TIME)
        texts_read.clear()


def test_nor_more_often_for_what_is_missing_once_all_is_judged(fleets, texts_read):
    for fleet in fleets:
        question = FleetQuestion(kernel="linux-5.18", images=no_images())
        with asked_fleet(fleet, AuditOptions(question, now=1)) as asked:
            profiles = asked.running.value("SELECT COUNT(DISTINCT profile) FROM profiles")
        texts_read.clear()
        with asked_fleet(fleet, AuditOptions(question, now=1)) as asked:
            assert asked.judge.judged == 0
            assert gains(asked.judge, asked.subjects.values(), asked.open_subjects)
        assert 0 < len(texts_read) <= ceil(profiles / AT_A_TIME)
        texts_read.clear()


def test_no_text_is_read_for_rules_of_releases(fleets, texts_read):
    with asked_fleet(fleets[0], AuditOptions(now=1)) as asked:
        assert asked.judge.judged
    assert texts_read == []


class _Table:
    """Profiles whose texts are their numbers."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers, self.statements = numbers, 0

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Mapping[str, Any]]:
        self.statements += 1
        first, last = values
        within = [number for number in self.numbers if first <= number <= last]
        return [{"profile": number, "snapshot": str(number)} for number in within]


def test_in_whatever_order_they_are_asked_for_texts_are_those_of_their_profiles():
    numbers = [7, -3, 2, 90, 41, 5, 6, 11]
    table = _Table(numbers)
    texts = ProfileTexts(cast(Statements, table), numbers)
    assert [texts(number) for number in (*numbers, *numbers)] == [*map(str, numbers * 2)]
