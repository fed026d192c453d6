# SPDX-License-Identifier: GPL-2.0-or-later
"""A fleet's directory: tables of Parquet in parts, what is being added, and a lock.

fleet.json          which edition of this layout it is, and how many parts it has
adding.json         what is to be added, while that is not finished
hosts/ …            one file per part and table
inventory.parquet   columns of the owner's, by host
repeated.parquet    hosts that were told more than once
verdicts*           what was judged before; may be deleted
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from staleline.errors import UsageError
from staleline.files import replace_whole
from staleline.outputfile import writing

__all__ = ["SCHEMA", "TABLES", "Fleet", "created", "opened", "require_libraries"]

SCHEMA = "staleline/fleet/3"
#: Written in this order: a part whose inputs are there is whole.
TABLES = ("hosts", "quarantine", "profiles", "classes", "subjects", "hardware", "inputs")

_MARK = "fleet.json"
_ADDING = "adding.json"
_LOCK = "lock"
_READABLE = 0o644
_LIBRARIES = ("duckdb", "pyarrow", "fsspec")


def require_libraries() -> None:
    """Refuse to begin without what the extra brings.

    Raises:
        UsageError: It is not installed.
    """
    lacking = [name for name in _LIBRARIES if find_spec(name) is None]
    if lacking:
        raise UsageError(
            f"fleets need {', '.join(lacking)}, which is not installed",
            do="pip install 'staleline[fleet]'",
        )


@dataclass(frozen=True, slots=True)
class Fleet:
    """A directory that is a fleet of this edition."""

    directory: Path

    def table(self, name: str) -> Path:
        """The folder of a table's parts."""
        return self.directory / name

    def part(self, table: str, number: int) -> Path:
        """The file of one part."""
        return self.table(table) / f"part-{number:06}.parquet"

    def has_part(self, number: int) -> bool:
        """Is a part there, of each table?"""
        return all(self.part(table, number).exists() for table in TABLES)

    def parts(self, table: str) -> list[Path]:
        """Every part of a table that is whole."""
        # A part is there as a whole or not at all.
        whole = {path.name for path in self.table("inputs").glob("part-*.parquet")}
        return sorted(
            path for path in self.table(table).glob("part-*.parquet") if path.name in whole
        )

    @property
    def inventory(self) -> Path:
        """Columns of the owner's, by host."""
        return self.directory / "inventory.parquet"

    @property
    def repeated(self) -> Path:
        """Hosts that were told more than once."""
        return self.directory / "repeated.parquet"

    @property
    def verdicts(self) -> Path:
        """What was judged before."""
        return self.directory / "verdicts.json"

    def table_of_verdicts(self, question: int) -> Path:
        """What subjects come to under a question, of the parts that are there."""
        parts = len(self.parts("inputs"))
        # Parts never change, so that their number says which hosts were judged.
        return self.directory / f"verdicts-{question:016x}-{parts}.parquet"

    @property
    def plan(self) -> dict[str, Any] | None:
        """What is being added, if that is not finished."""
        path = self.directory / _ADDING
        return _json(path) if path.exists() else None

    @property
    def number_of_parts(self) -> int:
        """How many there were when adding was last finished."""
        return int(_json(self.directory / _MARK).get("parts", 0))

    def keep_number_of_parts(self) -> None:
        """Every part is there, and whoever has fewer has a copy of some of it."""
        parts = len(self.parts("inputs"))
        # Untouched, so that a fleet to which nothing was added keeps its bytes.
        if parts != self.number_of_parts:
            self.write(self.directory / _MARK, _mark(parts))

    def keep_plan(self, plan: dict[str, Any] | None) -> None:
        """Begin to add, or be done with it."""
        path = self.directory / _ADDING
        if plan is None:
            path.unlink(missing_ok=True)
        else:
            self.write(path, json.dumps(plan).encode())

    def write(self, path: Path, content: bytes) -> None:
        """Write a file as a whole.

        Raises:
            UsageError: It cannot be written.
        """
        with writing(path):
            replace_whole(path, content, _READABLE)

    def sweep(self) -> None:
        """Take away what a process that was killed had begun to write."""
        for folder in (self.directory, *map(self.table, TABLES)):
            for path in folder.glob(".*"):
                # As `replace_whole` calls what it has not finished.
                if path.name.startswith((".part-", ".adding", ".inventory", ".repeated", ".fleet")):
                    path.unlink(missing_ok=True)

    def require_whole(self, parts: int) -> None:
        """Refuse a fleet that lacks one of its first parts, of whichever table.

        Its hosts would be missing, or joined to nothing, and nobody would see it.

        Raises:
            UsageError: It does.
        """
        for number in range(parts):
            for table in TABLES:
                if not self.part(table, number).exists():
                    self._refuse(f"lacks {table}/{self.part(table, number).name}")
        if parts and not self.repeated.exists():
            self._refuse(f"lacks {self.repeated.name}")

    def _refuse(self, what: str) -> None:
        raise UsageError(
            f"{what}, as if it was copied in part",
            where=self.directory,
            do="copy it as a whole, or add its sources to a new directory",
        )

    def require_finished(self) -> None:
        """Refuse a fleet of which a part is missing.

        Raises:
            UsageError: Adding to it was not finished, or it is no whole copy.
        """
        plan = self.plan
        if plan is None:
            self.require_whole(self.number_of_parts)
            if len(self.parts("inputs")) != self.number_of_parts:
                self._refuse(f"has more parts than the {self.number_of_parts} it was left with")
            return
        done = len(self.parts("inputs"))
        raise UsageError(
            f"adding to it was not finished: {done - plan['first']} of {len(plan['batches'])} "
            "parts are there",
            where=self.directory,
            do=f"finish it with `staleline fleet add --into {shlex.quote(str(self.directory))}`",
        )

    @contextmanager
    def locked(self, *, writing_to_it: bool) -> Iterator[None]:
        """Inside, nobody else writes to it, or, if this process writes, reads it.

        Raises:
            UsageError: Somebody does.
        """
        try:
            # Not for workers: one that outlives a kill would hold it.
            lock = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _READABLE)
        except OSError:
            if writing_to_it:
                raise
            yield  # a fleet that may not be written to is not written to
            return
        try:
            kind = fcntl.LOCK_EX if writing_to_it else fcntl.LOCK_SH
            try:
                fcntl.flock(lock, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    "another process is writing to this fleet, or reading it",
                    where=self.directory,
                    do="wait until it has ended",
                ) from None
            yield
        finally:
            os.close(lock)


def opened(directory: Path) -> Fleet:
    """The fleet in a directory.

    Raises:
        UsageError: There is none, or one of another edition.
    """
    mark = directory / _MARK
    if not mark.exists():
        raise UsageError(
            "is no fleet",
            where=directory,
            do=f"make one with `staleline fleet add SOURCE --into {shlex.quote(str(directory))}`",
        )
    schema = _json(mark).get("schema")
    if schema != SCHEMA:
        raise UsageError(
            f"is a fleet of another edition: {str(schema)[:80]!a}, not {SCHEMA!r}",
            where=directory,
            do="add its sources to a new directory",
        )
    return Fleet(directory)


def created(directory: Path) -> Fleet:
    """The fleet in a directory, which is made one if it is empty or not there.

    Raises:
        UsageError: It holds something else, or cannot be made.
    """
    if (directory / _MARK).exists():
        return opened(directory)
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        strange = sorted(path.name for path in directory.iterdir() if not _is_of_ours(path.name))
    if strange:
        raise UsageError(
            f"is no fleet, and holds {strange[0]!a}", where=directory, do="name another directory"
        )
    fleet = Fleet(directory)
    with writing(directory):
        for table in TABLES:
            fleet.table(table).mkdir(exist_ok=True)
    fleet.write(directory / _MARK, _mark(0))
    return fleet


def _mark(parts: int) -> bytes:
    return json.dumps({"schema": SCHEMA, "parts": parts}).encode() + b"\n"


def _is_of_ours(name: str) -> bool:
    return name in {*TABLES, _LOCK} or name.startswith(".fleet")


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot be read as JSON: {error}", where=path, do="add the sources to a new directory"
        ) from error
    if not isinstance(document, dict):
        raise UsageError("is no JSON object", where=path, do="add the sources to a new directory")
    return document
