# SPDX-License-Identifier: GPL-2.0-or-later
"""Findings that somebody has decided to live with, from a file, each with a reason and an end.

    [[waiver]]
    id = "hygon-not-flushed"
    release = "6.18.*"
    reason = "no Hygon machine runs this archive"
    until = 2027-06-30

A waived finding is a note. One that is past its day is no more: the finding counts again, and the
waiver is reported, as is one that no finding met.
"""

from __future__ import annotations

import datetime
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from staleline.errors import UsageError
from staleline.inputfile import read_input
from staleline.report.formats.findings import (
    Finding,
    Findings,
    HandoverFindings,
    Level,
    Waived,
)
from staleline.report.words.explanations import explanations

__all__ = ["Waiver", "Waivers", "read_waivers", "waived_fields"]

_LARGEST = 1 << 20
#: What a waiver may be narrowed to; patterns as of a shell.
_NARROWED = ("subject", "release", "package", "rule", "platform", "path", "transition", "site")
_REQUIRED = ("id", "reason", "until")


@dataclass(frozen=True, slots=True)
class Waiver:
    """One of them.

    Attributes:
        id: Of the finding.
        reason: Why it is put up with.
        until: The last day on which it is.
        narrowed: Property -> pattern that it has to match.
    """

    id: str
    reason: str
    until: datetime.date
    narrowed: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        where = "".join(f", {name} {text}" for name, text in self.narrowed.items())
        return f"{self.id}{where}"

    def meets(self, finding: Finding, properties: Mapping[str, str]) -> bool:
        """Is it about this finding, which has these properties?"""
        return finding.id == self.id and all(
            fnmatchcase(properties.get(name, ""), pattern)
            for name, pattern in self.narrowed.items()
        )


@dataclass
class Waivers:
    """All of a file, and which of them were used: asked once of everything, before they are told.

    Attributes:
        waivers: In the order of the file.
        today: The day on which they are asked.
    """

    waivers: tuple[Waiver, ...]
    today: datetime.date
    _used: Counter[Waiver] = field(default_factory=Counter, repr=False)

    def applied(self, findings: Findings) -> Findings:
        """The same with what is waived as notes."""
        return replace(
            findings,
            other=tuple(self._finding(one, findings.properties) for one in findings.other),
            handovers=tuple(self._handover(findings, row) for row in findings.handovers),
        )

    def complaints(self) -> list[str]:
        """What is wrong with the file by now: past their day, or met by nothing."""
        complaints = []
        for waiver in self.waivers:
            if waiver.until < self.today:
                complaints.append(f"waiver {waiver} ended on {waiver.until}: {waiver.reason}")
            elif waiver not in self._used:
                complaints.append(f"waiver {waiver} is unused: {waiver.reason}")
        return complaints

    def met(self) -> list[str]:
        """What was waived, for reports that have no place for it beside the finding."""
        return [
            f"waived until {waiver.until}, {waiver.reason}: {waiver}, {count} "
            f"finding{'' if count == 1 else 's'}"
            for waiver, count in self._used.items()
        ]

    def _handover(self, found: Findings, row: HandoverFindings) -> HandoverFindings:
        properties = {
            **found.properties,
            "platform": row.platform or "",
            "path": str(row.path),
            "transition": row.transition,
        }
        return replace(row, findings=tuple(self._finding(one, properties) for one in row.findings))

    def _finding(self, finding: Finding, properties: Mapping[str, str]) -> Finding:
        several = finding.sites or ("",)
        for waiver in self.waivers:
            met = all(waiver.meets(finding, {**properties, "site": site}) for site in several)
            # A note weighs nothing, and would make a waiver look used that nothing needs.
            if met and waiver.until >= self.today and finding.level is not Level.NOTE:
                self._used[waiver] += 1
                message = f"waived until {waiver.until}, {waiver.reason}: {finding.message}"
                waived = Waived(waiver.reason, waiver.until)
                return replace(finding, level=Level.NOTE, message=message, waived=waived)
        return finding


def waived_fields(several: Iterable[Findings]) -> list[dict[str, Any]]:
    """For documents: every finding that was waived, with its handover if it is of one."""
    return [
        {
            "subject": findings.subject,
            "id": finding.id,
            "sites": list(finding.sites),
            "platform": row and row.platform,
            "sev_guests_run": row and row.sev_guests_run,
            "old": row and row.old,
            "next": row and row.next,
            "path": row and row.path,
            "reason": finding.waived.reason,
            "until": finding.waived.until.isoformat(),
        }
        for findings in several
        for row, finding in findings.each()
        if finding.waived is not None
    ]


def read_waivers(file: str) -> Waivers:
    """Read a file of waivers, to be asked today (UTC).

    Raises:
        UsageError: It cannot be read, or says something that is not understood.
    """
    text = read_input(Path(file), UsageError, limit=_LARGEST, do="give a file of waivers")
    try:
        table = tomllib.loads(text.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"not TOML: {error}", where=file) from None
    except ValueError:  # of int(), which takes a few thousand digits
        what, do = "has a number of more digits than any that is used", "give a file of waivers"
        raise UsageError(what, where=file, do=do) from None
    strange = sorted(set(table) - {"waiver"})
    rows = table.get("waiver", [])
    if strange or not isinstance(rows, list):
        raise UsageError(f"{(strange or ['waiver'])[0]!a} is none", where=file, do="[[waiver]]")
    # In UTC, so that one file means the same wherever it is asked.
    day = datetime.datetime.now(datetime.UTC).date()
    return Waivers(tuple(_waiver(row, file, number) for number, row in enumerate(rows, 1)), day)


def _waiver(row: Any, file: str, number: int) -> Waiver:
    where = f"{file}: waiver {number}"
    if not isinstance(row, dict):
        raise UsageError("no table", where=where, do="write [[waiver]]")
    _require_keys(row, where)
    until = row["until"]
    # A `datetime` is a date as well, and has no last day.
    if type(until) is not datetime.date:
        raise UsageError("until is no date", where=where, do="write until = 2027-06-30")
    for name, value in row.items():
        if name != "until" and (not isinstance(value, str) or not value.strip()):
            raise UsageError(f"{name} is no text", where=where, do=f'write {name} = "…"')
    # A name that was mistyped would waive nothing, and be noticed when it counts.
    if row["id"] not in explanations():
        raise UsageError(f"no finding {row['id']!a}", where=where, do="see `staleline explain`")
    narrowed = {name: row[name] for name in _NARROWED if name in row}
    return Waiver(row["id"], row["reason"], until, _Frozen(narrowed))


def _require_keys(row: Mapping[str, Any], where: str) -> None:
    known = (*_REQUIRED, *_NARROWED)
    strange = sorted(set(row) - set(known))
    missing = [name for name in _REQUIRED if name not in row]
    if strange:
        raise UsageError(f"unknown key {strange[0]!a}", where=where, do=f"use {', '.join(known)}")
    if missing:
        raise UsageError(f"{missing[0]} is missing", where=where, do="give id, reason and until")


class _Frozen(dict[str, str]):
    """A mapping that may be in a set: nothing changes it."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))
