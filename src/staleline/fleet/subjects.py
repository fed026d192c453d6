# SPDX-License-Identifier: GPL-2.0-or-later
"""The subjects of a fleet: what is to be judged, each with one of the hosts that it is of."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from staleline.evidence.snapshot import Snapshot
from staleline.fleet.asked import ASKED, REGISTERS, ClassValues
from staleline.fleet.profile import snapshot_of
from staleline.fleet.tables import Statements

__all__ = ["FleetSubject", "ProfileTexts", "subjects_of"]

#: One of the hosts of each subject: that of the least profile. By profile, as `ProfileTexts` reads.
_SUBJECTS = """
WITH least AS (SELECT subject, MIN(profile) AS profile FROM subjects GROUP BY subject)
SELECT DISTINCT s.subject, s.class, s.release, s.build_id, s.profile
FROM subjects s JOIN least l ON l.subject = s.subject AND l.profile = s.profile
ORDER BY s.profile, s.subject
"""
_SUBJECTS_BY_PROFILE = """
WITH pairs AS (SELECT DISTINCT subject, profile FROM hosts),
    once AS (SELECT DISTINCT subject, class, release, build_id FROM subjects)
SELECT p.subject, o.class, o.release, o.build_id, p.profile
FROM pairs p JOIN once o ON o.subject = p.subject
ORDER BY p.profile, p.subject
"""
# Several parts may have a profile, all with the same text; MIN is what both engines have.
_TEXTS = """
SELECT profile, MIN(snapshot) AS snapshot FROM profiles
WHERE profile >= ? AND profile <= ? GROUP BY profile
"""


@dataclass(frozen=True, slots=True)
class FleetSubject:
    """Hosts that are alike in every fact and run the same kernel.

    Attributes:
        number: Of its row.
        values: Its class's, one per name of `ASKED`.
        registers: What an image would be run on, beside these.
        profile: The number of a profile that some of them have.
        profile_text: Gets a profile by its number.
    """

    number: int
    values: ClassValues
    registers: str
    release: str | None
    build_id: str | None
    profile: int
    profile_text: Callable[[int], str] = field(compare=False)

    @property
    def snapshot(self) -> Snapshot:
        """One of these hosts, but for what tells it from the others."""
        return snapshot_of(self.profile_text(self.profile), self.release, self.build_id)


def subjects_of(
    running: Statements, *, by_profile: bool
) -> Iterator[tuple[dict[str, Any], FleetSubject]]:
    """Each row with its subject; of hosts' own kernels one a subject, else one a profile of it."""
    classes = {row["class"]: row for row in running.rows("SELECT DISTINCT * FROM classes")}
    rows = running.rows(_SUBJECTS_BY_PROFILE if by_profile else _SUBJECTS)
    texts = ProfileTexts(running, [row["profile"] for row in rows])
    for row in rows:
        known = classes[row["class"]]
        yield (
            row,
            FleetSubject(
                number=row["subject"],
                values=tuple(known[name] for name in ASKED),
                registers=known[REGISTERS],
                release=row["release"],
                build_id=row["build_id"],
                profile=row["profile"],
                profile_text=texts,
            ),
        )


class ProfileTexts:
    """The texts of profiles, which are too many to be had all at once.

    To get one its table is read from end to end, so that with it come those that follow: who asks
    in the order of their numbers has each read once.
    """

    #: So many at a time, of 4 to 90 kB each.
    at_a_time = 1_000

    def __init__(self, running: Statements, numbers: Sequence[int]) -> None:
        self._running = running
        self._numbers = sorted(set(numbers))
        self._known: Mapping[int, str] = {}

    def __call__(self, number: int) -> str:
        """Of one profile."""
        if number not in self._known:
            first = bisect_left(self._numbers, number)
            last = self._numbers[first : first + self.at_a_time][-1]
            rows = self._running.rows(_TEXTS, [number, last])
            self._known = {row["profile"]: str(row["snapshot"]) for row in rows}
        return self._known[number]
