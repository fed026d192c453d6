# SPDX-License-Identifier: GPL-2.0-or-later
"""A fleet, asked: what its hosts come to, counted and one by one."""

from __future__ import annotations

import gc
import importlib
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from staleline.errors import UsageError
from staleline.fleet import statements
from staleline.fleet.asked import ASKED
from staleline.fleet.judging import (
    ClassVerdict,
    FleetQuestion,
    Judge,
    flush_milliseconds,
    keep_verdicts,
    kept_verdicts,
)
from staleline.fleet.sheets import for_sheets
from staleline.fleet.statements import Outlook
from staleline.fleet.store import Fleet, opened
from staleline.fleet.subjects import FleetSubject, subjects_of
from staleline.fleet.tables import Engine, Statements, engine, relation, with_tables
from staleline.printable import printable
from staleline.vocabulary import WORST_FIRST, Verdict

__all__ = [
    "AskedFleet",
    "AuditOptions",
    "Fault",
    "asked_fleet",
    "count",
    "count_costs",
    "judge_subjects",
    "look",
]

_OF_VERDICTS = tuple(one.name for one in fields(ClassVerdict))
#: Objects that are made before garbage is looked for, which takes a third of judging otherwise.
_COLLECTED_AFTER = 100_000
_VERDICT_COLUMNS = {
    "subject": "BIGINT",
    "profile": "BIGINT",
    "class": "BIGINT",
    "release": "VARCHAR",
    "build_id": "VARCHAR",
    **dict.fromkeys(_OF_VERDICTS, "VARCHAR"),
}
_COST_COLUMNS = {"pattern": "VARCHAR", "hardware": "BIGINT", "flush_ms": "DOUBLE"}


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """How a fleet is looked at.

    Attributes:
        question: Which kernels.
        max_age: Seconds; None for any age.
        now: Seconds since 1970; None for now.
        by: Columns of the inventory to count by.
    """

    question: FleetQuestion = field(default_factory=FleetQuestion)
    max_age: int | None = None
    now: int | None = None
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """A record that could not be read."""

    host: str | None
    file: str
    place: str
    reason: str
    contradictions: str

    @property
    def where(self) -> str:
        """File and place."""
        return f"{self.file}:{self.place}".removesuffix(":")


@dataclass(frozen=True)
class AskedFleet:
    """The answer, while its tables are open.

    Attributes:
        fleet: Of which directory.
        options: What was asked.
        told: How the evidence was looked at.
        running: The tables.
        judge: The engine, with what it knows.
        faults: What could not be read.
        doubtful: Hosts whose time of collecting is none, or lies in the future.
    """

    fleet: Fleet
    options: AuditOptions
    told: Outlook
    running: Engine
    judge: Judge
    faults: tuple[Fault, ...]
    doubtful: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Verdict -> hosts; what could not be read is unknown."""
        hosts = dict.fromkeys((verdict.value for verdict in WORST_FIRST), 0)
        for row in self.running.rows(
            "SELECT verdict, SUM(hosts) AS n FROM judged GROUP BY verdict"
        ):
            hosts[row["verdict"]] += int(row["n"])
        return hosts

    @property
    def status(self) -> int:
        """0 all safe, 2 any at risk, 3 any unknown, 1 if nothing could be judged."""
        counts = self.counts
        judged = self.running.value("SELECT COUNT(*) FROM judged WHERE rule IS NOT NULL")
        if not judged:
            return 1
        if counts[Verdict.AT_RISK]:
            return 2
        return 3 if counts[Verdict.UNKNOWN] else 0

    def by(self, *columns: str) -> list[dict[str, Any]]:
        """Hosts by columns of ``judged``, worst first."""
        return self.running.rows(statements.grouped(columns))

    def by_owner(self, name: str) -> list[dict[str, Any]]:
        """Hosts by a column of the inventory that was asked for, as ``value``; worst first."""
        columns = dict(zip(self.options.by, statements.owner_columns(self.options.by), strict=True))
        rows = self.by(columns[name])
        return [{"value": row.pop(columns[name]), **row} for row in rows]

    @property
    def trapping(self) -> int:
        """Hosts on which a WBINVD traps, whatever their verdict is."""
        return int(self.running.value("SELECT SUM(hosts) FROM judged WHERE faults <> ''") or 0)

    @property
    def open_subjects(self) -> list[dict[str, Any]]:
        """What is missing of which subjects, and how many hosts that is."""
        return self.running.rows(statements.OPEN)

    @property
    def columns(self) -> tuple[str, ...]:
        """Of a row for each host."""
        first, second, *others = statements.COLUMNS
        return (first, second, *self.told.inventory, *others)

    def rows(self, where: str = "TRUE", limit: int | None = None) -> list[dict[str, Any]]:
        """A row for each host and fault, worst first."""
        bound = "" if limit is None else f"LIMIT {limit}"
        return self.running.rows(
            f"""SELECT * FROM ({statements.rows(self.told)}) WHERE {where}
            ORDER BY CASE verdict WHEN 'at-risk' THEN 0 WHEN 'unknown' THEN 1 ELSE 2 END, host
            {bound}"""
        )

    def write_rows(self, file: Path) -> int:
        """Write a row for each host and fault as Parquet or CSV.

        Returns:
            How many rows.

        Raises:
            UsageError: It cannot be written; AssertionError: a host has got lost.
        """
        told = {
            "schema": "staleline/fleet-rows/1",
            "now": self.told.now,
            "asked": {
                "kernel": self.options.question.kernel,
                "next": self.options.question.following,
                "append": self.options.question.append,
                "max_age": self.options.max_age,
            },
            "classes": {str(number): list(values) for number, values in self.class_values.items()},
        }
        kind = "FORMAT parquet, COMPRESSION zstd"
        if file.suffix != ".csv":
            text = json.dumps(told).replace("'", "''")
            kind += f", KV_METADATA {{staleline: '{text}'}}"
        statement = statements.rows(self.told)
        if file.suffix == ".csv":
            question = self.options.question
            asked = (question.kernel, question.following, question.append)
            named = dict(zip(statements.ASKED_COLUMNS, asked, strict=True))
            kind, statement = "FORMAT csv, HEADER", for_sheets(statement, self.columns, named)
        name = str(file).replace("'", "''")
        with _copying(file):
            written = self.running.value(f"COPY ({statement}) TO '{name}' ({kind})")
        hosts = self.running.value("SELECT SUM(hosts) FROM counted") or 0
        # A join that loses a host loses a verdict, and nobody would see it.
        if written != hosts + len(self.faults):
            raise AssertionError(f"{written} rows of {hosts} hosts and {len(self.faults)} faults")
        return int(written)

    @cached_property
    def subjects(self) -> Mapping[tuple[int, int | None], FleetSubject]:
        """By their numbers, and profile where the kernel is another one."""
        return {
            (row["subject"], row["profile"] if self.told.by_profile else None): subject
            for row, subject in subjects_of(self.running, by_profile=self.told.by_profile)
        }

    @property
    def class_values(self) -> dict[int, tuple[Any, ...]]:
        """Class -> its facts under its own kernels."""
        rows = self.running.rows("SELECT DISTINCT * FROM classes ORDER BY class")
        return {row["class"]: tuple(row[name] for name in ASKED) for row in rows}


@contextmanager
def _copying(file: Path) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.IOException as error:
        raise UsageError(
            f"cannot be written: {printable(str(error).splitlines()[0])[:300]}",
            where=file,
            do="name another place",
        ) from error


@contextmanager
def asked_fleet(directory: Path, options: AuditOptions) -> Iterator[AskedFleet]:
    """Ask a fleet; inside, the answer can be looked at from all sides.

    Raises:
        UsageError: It is no fleet, is not finished, or is being written to.
    """
    fleet = opened(directory)
    judge = Judge(options.question, lambda: kept_verdicts(fleet))
    with fleet.locked(writing_to_it=False):
        fleet.require_finished()
        with engine() as running:
            with_tables(running, fleet)
            again = _with_repeated(running, fleet)
            inventory = _inventory(running, fleet, options.by)
            outlook = look(running, options, again=again, inventory=inventory)
            _verdicts(running, fleet, judge, outlook)
            faults = tuple(
                Fault(*(row[one.name] for one in fields(Fault)))
                for row in running.rows("SELECT * FROM faults ORDER BY file, place")
            )
            count(running, outlook, options.by)
            _require_all(running, len(faults))
            yield AskedFleet(fleet, options, outlook, running, judge, faults, outlook.doubtful)
            if judge.judged:
                keep_verdicts(fleet, judge.verdicts)


def _require_all(running: Engine, faults: int) -> None:
    """A join that loses a host loses a verdict, and nobody would see it."""
    hosts, counted = (
        int(running.value(f"SELECT SUM(hosts) FROM {name}") or 0) for name in ("judged", "counted")
    )
    if hosts != counted + faults:
        raise AssertionError(f"{hosts} hosts judged of {counted} and {faults} that were not read")


def _with_repeated(running: Engine, fleet: Fleet) -> bool:
    """Are there hosts that were told more than once?"""
    if not fleet.repeated.exists():
        return False
    running.connection.execute(f"CREATE VIEW repeated AS FROM {relation([fleet.repeated])}")
    return bool(running.value("SELECT COUNT(*) FROM repeated"))


def look(
    running: Statements, options: AuditOptions, *, again: bool, inventory: Sequence[str] = ()
) -> Outlook:
    """What is told of which hosts, and whether all of it can be trusted."""
    now = int(time.time()) if options.now is None else options.now
    outlook = Outlook(
        now=now,
        max_age=options.max_age,
        again=again,
        inventory=inventory,
        by_profile=options.question.kernel is not None,
    )
    outlook = replace(outlook, doubtful=int(running.value(statements.doubtful(outlook))))
    running.make("faults", statements.LATEST_FAULTS)
    if again:
        running.make("told_again", statements.told_again(outlook))
    return outlook


def _inventory(running: Engine, fleet: Fleet, by: Sequence[str]) -> tuple[str, ...]:
    names: tuple[str, ...] = ()
    if fleet.inventory.exists():
        running.connection.execute(f"CREATE VIEW inventory AS FROM {relation([fleet.inventory])}")
        columns = running.rows("DESCRIBE inventory")
        names = tuple(row["column_name"] for row in columns if row["column_name"] != "host")
    strange = [name for name in by if name not in names]
    if strange:
        do = f"give one of {', '.join(names)}" if names else "add one with --inventory"
        raise UsageError(f"the inventory has no column {strange[0]!a}", do=do)
    return names


def _verdicts(running: Engine, fleet: Fleet, judge: Judge, outlook: Outlook) -> None:
    """Fill ``verdicts`` and ``costs``, from what was judged before if all of it was."""
    import duckdb

    kept = fleet.table_of_verdicts(judge.question.number)
    try:
        running.make("verdicts", f"SELECT * FROM {relation([kept])}")
    # It is not there, or no whole file: what may be deleted at any time is made anew.
    except duckdb.Error:
        judge_subjects(running, judge, outlook)
        _keep(running, fleet, kept)
    count_costs(running)


def judge_subjects(running: Statements, judge: Judge, outlook: Outlook) -> None:
    """Fill ``verdicts``: the only place where anything is judged."""
    with _garbage_left():
        rows = [
            {**{name: row[name] for name in _OF_SUBJECTS}, **_columns(judge.verdict(subject))}
            for row, subject in subjects_of(running, by_profile=outlook.by_profile)
        ]
    running.table("verdicts", rows, _VERDICT_COLUMNS)


def _columns(verdict: ClassVerdict) -> dict[str, Any]:
    return {name: getattr(verdict, name) for name in _OF_VERDICTS}


@contextmanager
def _garbage_left() -> Iterator[None]:
    """Inside, garbage is seldom looked for, and not in what was there: of verdicts, all is kept."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_COLLECTED_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def count_costs(running: Statements) -> None:
    """Fill ``costs``: what the flushes of each pattern take on each kind of hardware."""
    patterns = running.rows("SELECT DISTINCT pattern FROM verdicts ORDER BY pattern")
    running.make("kinds", "SELECT DISTINCT * FROM hardware")
    costs = [
        {
            "pattern": row["pattern"],
            "hardware": hardware["hardware"],
            "flush_ms": milliseconds.get(row["pattern"]),
        }
        for hardware in running.rows("SELECT * FROM kinds")
        for milliseconds in (flush_milliseconds(hardware),)
        for row in patterns
    ]
    running.table("costs", costs, _COST_COLUMNS)


def _keep(running: Engine, fleet: Fleet, file: Path) -> None:
    """Keep the table for the next time; a fleet that cannot be written to goes without."""
    sink = io.BytesIO()
    pq = importlib.import_module("pyarrow.parquet")
    pq.write_table(running.connection.sql("SELECT * FROM verdicts").to_arrow_table(), sink)
    try:
        fleet.write(file, sink.getvalue())
    except UsageError:
        return


_OF_SUBJECTS = ("subject", "profile", "class", "release", "build_id")


def count(running: Statements, outlook: Outlook, by: Sequence[str] = ()) -> None:
    """Fill ``counted`` and ``judged``."""
    running.make("counted", statements.counted_table(outlook, by))
    running.make("judged", statements.judged(outlook, by))
