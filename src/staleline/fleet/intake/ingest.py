# SPDX-License-Identifier: GPL-2.0-or-later
"""From inputs to one part of each table: a row for each machine, or for why there is none."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from staleline.errors import EvidenceError, StalelineError
from staleline.evidence.contradiction import ContradictionError
from staleline.fleet.asked import ASKED, REGISTERS, number_of
from staleline.fleet.columns import parquet
from staleline.fleet.intake.records import Record, records
from staleline.fleet.intake.sources import FleetInput
from staleline.fleet.profile import Description, Profiles, description_of
from staleline.fleet.store import TABLES, Fleet
from staleline.printable import printable

__all__ = [
    "Batch",
    "BatchCount",
    "TableRows",
    "add_batch",
    "add_record",
    "class_number",
    "seconds_of",
    "try_input",
]

#: No collector of snapshots is older: a clock that says so was never set.
_FIRST_SECOND = int(datetime(2017, 1, 1, tzinfo=UTC).timestamp())
_REASON_MAX = 500


@dataclass(frozen=True, slots=True)
class Batch:
    """The inputs of one part.

    Attributes:
        refused: Inputs that ended the process that read them, and why.
    """

    directory: str
    number: int
    inputs: tuple[FleetInput, ...]
    refused: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class BatchCount:
    """What became of a batch."""

    hosts: int
    quarantined: int
    inputs: int


@dataclass(slots=True)
class TableRows:
    """Rows of each table; of those that describe, each once."""

    hosts: list[dict[str, Any]] = field(default_factory=list)
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    profiles: dict[int, dict[str, Any]] = field(default_factory=dict)
    classes: dict[int, dict[str, Any]] = field(default_factory=dict)
    subjects: dict[int, dict[str, Any]] = field(default_factory=dict)
    hardware: dict[int, dict[str, Any]] = field(default_factory=dict)

    def of(self, table: str) -> list[dict[str, Any]]:
        """In an order that does not depend on which host came first."""
        rows = getattr(self, table)
        return [rows[key] for key in sorted(rows)] if isinstance(rows, dict) else rows


def add_batch(batch: Batch) -> BatchCount:
    """Read the inputs of a batch, and write its part of each table; the inputs' own comes last."""
    profiles, rows = Profiles(), TableRows()
    refused = dict(batch.refused)
    for number, input_ in enumerate(batch.inputs):
        if number in refused:
            error = EvidenceError(refused[number], do="look at the file, and give it again")
            _quarantine(rows, input_, Record("", "", error=error), error)
        else:
            _add_input(rows, profiles, input_)
        rows.inputs.append(
            {
                "file": printable(input_.location),
                "bytes": input_.bytes,
                "modified": input_.modified,
                "piece": json.dumps(input_.piece),
                "part": batch.number,
            }
        )
    fleet = Fleet(Path(batch.directory))
    for table in TABLES:
        fleet.write(fleet.part(table, batch.number), parquet(table, rows.of(table)))
    return BatchCount(len(rows.hosts), len(rows.quarantine), len(batch.inputs))


def try_input(input_: FleetInput) -> None:
    """Read one input, and keep nothing: does that end the process?"""
    _add_input(TableRows(), Profiles(), input_)


def _add_input(rows: TableRows, profiles: Profiles, input_: FleetInput) -> None:
    try:
        for record in records(input_):
            add_record(rows, profiles, input_, record)
    except Exception as error:  # a defect, which is not to cost the other inputs
        _quarantine(rows, input_, Record("", ""), error)


def add_record(rows: TableRows, profiles: Profiles, input_: FleetInput, record: Record) -> None:
    """Add a row for a record, or for why there is none."""
    file = printable(input_.location)
    try:
        told = _described(profiles, input_, record)
    except Exception as error:  # whatever a hostile record brings about is that record's fault
        _quarantine(rows, input_, record, error)
        return
    # Without a name a host is its file, and no two files are one host.
    host = printable(told.host) if told.host else f"{file}:{record.place}".removesuffix(":")
    known = class_number(told)
    subject = number_of("subject", known, told.kernel.release, told.kernel.build_id)
    collected, time = seconds_of(told.collected)
    hardware = told.hardware
    values = dict(zip(ASKED, told.values, strict=True))
    rows.hosts.append(
        {
            "host": host,
            "named": bool(told.host),
            "collected": collected,
            "time": time,
            "release": _plain(told.kernel.release),
            "build_id": _plain(told.kernel.build_id),
            "subject": subject,
            "class": known,
            "profile": told.profile.number,
            "hardware": hardware.number,
            "file": file,
            "place": record.place,
            "evidence": record.digest,
            **values,
        }
    )
    rows.profiles[told.profile.number] = {
        "profile": told.profile.number,
        "snapshot": told.profile.text,
    }
    rows.classes[known] = {"class": known, **values, REGISTERS: told.registers}
    rows.subjects[subject] = _representing(
        rows.subjects.get(subject),
        {
            "subject": subject,
            "class": known,
            "release": told.kernel.release,
            "build_id": told.kernel.build_id,
            "profile": told.profile.number,
        },
    )
    socket, cluster, jumping = hardware.capacity or (None, None, None)
    rows.hardware[hardware.number] = {
        "hardware": hardware.number,
        "vendor": _plain(hardware.vendor),
        "family": hardware.family,
        "model": hardware.model,
        "stepping": hardware.stepping,
        "cpu": printable(hardware.cpu),
        "socket": socket,
        "cluster": cluster,
        "jumping_cpu": jumping,
    }


def _representing(known: dict[str, Any] | None, row: dict[str, Any]) -> dict[str, Any]:
    """Of hosts that are alike, the one of the least profile stands for all."""
    # Not the first, as which that is depends on how inputs were divided into batches.
    return row if known is None or row["profile"] < known["profile"] else known


def class_number(told: Description) -> int:
    """The same for hosts that no verdict tells apart."""
    return number_of("class", told.values, told.registers)


def _described(profiles: Profiles, input_: FleetInput, record: Record) -> Description:
    if record.error is not None:
        raise record.error
    if record.snapshot is not None:
        return description_of(record.snapshot)
    where = f"{input_.location}:{record.place}".removesuffix(":")
    return profiles.describe(record.text or "", where)


def _quarantine(rows: TableRows, input_: FleetInput, record: Record, error: Exception) -> None:
    contradicted = error.ids if isinstance(error, ContradictionError) else ()
    rows.quarantine.append(
        {
            "host": _named_in(record.text),
            "file": printable(input_.location),
            "place": record.place,
            "modified": input_.modified,
            "reason": _reason(input_, record, error),
            "contradictions": ",".join(contradicted),
            "evidence": record.digest,
        }
    )


def _reason(input_: FleetInput, record: Record, error: Exception) -> str:
    """What was wrong, and where within the record; file and place have columns of their own."""
    if isinstance(error, StalelineError):
        within = error.where or ""
        for known in (f"{input_.location}:{record.place}", input_.location, record.place):
            within = within.removeprefix(known).removeprefix(":")
        what = str(StalelineError(error.what, where=within or None, do=error.do))
    else:
        what = f"{type(error).__name__} while it was read: {error}"
    return printable(" ".join(what.split()))[:_REASON_MAX]


def _named_in(text: str | None) -> str | None:
    """The host that a snapshot names which is not believed otherwise."""
    if text is None or not text.startswith("{"):
        return None
    try:
        host = json.loads(text).get("host")
    except (ValueError, RecursionError, AttributeError):
        return None
    return printable(host) if isinstance(host, str) and host else None


def _plain(text: str | None) -> str | None:
    return None if text is None else printable(text)


def seconds_of(collected: str | None) -> tuple[int | None, str]:
    """Seconds since 1970, and ``told``, ``none``, or why they are not known."""
    if collected is None:
        return None, "none"
    try:
        time = datetime.fromisoformat(collected.strip())
    except ValueError:
        return None, "no-time"
    # It may be off by a day.
    if time.tzinfo is None:
        return None, "no-zone"
    try:
        seconds = int(time.timestamp())
    except (OverflowError, ValueError):
        return None, "no-time"
    return (None, "not-set") if seconds < _FIRST_SECOND else (seconds, "told")
