# SPDX-License-Identifier: GPL-2.0-or-later
"""What changed from one result to another, and by which fact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from staleline.errors import UsageError
from staleline.fleet import statements
from staleline.fleet.asked import ASKED
from staleline.fleet.tables import Engine, engine, relation
from staleline.vocabulary import WORST_FIRST

__all__ = ["ROWS_SCHEMA", "Changes", "VerdictChange", "changes"]

ROWS_SCHEMA = "staleline/fleet-rows/1"
_HOSTS_SHOWN = 5
_DO = "give results that `staleline fleet audit -o FILE.parquet` wrote"


@dataclass(frozen=True, slots=True)
class VerdictChange:
    """Hosts whose verdict changed in the same way for the same reason.

    Attributes:
        path: Of which path, where the verdict over all paths hides it; else None.
        old: The verdict; None if the host was not there.
        new: Likewise, if it is not there any more.
        by: What changed: facts with both values, the kernel's rule, or what was missing.
        hosts: How many.
        examples: A few of them.
    """

    path: str | None
    old: str | None
    new: str | None
    by: tuple[str, ...]
    hosts: int
    examples: tuple[str, ...]

    @property
    def worse(self) -> bool:
        """Is it worse than before? At risk is worse than unknown."""
        order = [verdict.value for verdict in WORST_FIRST]
        # A host that is new counts by what it is; one that has gone is worse for nobody.
        if self.new is None or self.old is None:
            return self.new is not None and self.new != order[-1]
        return order.index(self.new) < order.index(self.old)


@dataclass(frozen=True, slots=True)
class Changes:
    """All of it, the worst first.

    Attributes:
        old: Hosts before.
        new: Hosts now.
        same: Hosts of which both results say the same.
        changed: What they do not say the same of.
        asked: What was asked for each, by name; empty where a result does not tell.
    """

    old: int
    new: int
    same: int
    changed: tuple[VerdictChange, ...]
    asked: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})

    @property
    def worse(self) -> int:
        """Hosts that are worse than before."""
        return sum(one.hosts for one in self.changed if one.worse)


def changes(old: Path, new: Path) -> Changes:
    """Compare two results.

    Raises:
        UsageError: One of them is none.
    """
    # Numbers of classes are digests of their facts, so that both results mean the same by one.
    kept = _kept(old), _kept(new)
    facts = {**kept[0]["classes"], **kept[1]["classes"]}
    with engine() as running:
        for name, file in (("old_rows", old), ("new_rows", new)):
            running.connection.execute(f"CREATE TEMP TABLE {name} AS {_once(file)}")
        before, now = (_count(running, name) for name in ("old_rows", "new_rows"))
        same = now - int(running.value(_TOUCHED))
        by_change: dict[tuple[str | None, str | None, str | None, tuple[str, ...]], list[Any]] = {}
        for row in running.rows(_GROUPED):
            key = (row["path"], row["old"], row["new"], _by(row, facts))
            known = by_change.setdefault(key, [0, []])
            known[0] += row["hosts"]
            known[1].extend(row["examples"])
    changed = [
        VerdictChange(
            path, old_verdict, new_verdict, by, hosts, tuple(sorted(examples)[:_HOSTS_SHOWN])
        )
        for (path, old_verdict, new_verdict, by), (hosts, examples) in by_change.items()
    ]
    changed.sort(
        key=lambda one: (not one.worse, _place(one.new), -one.hosts, one.by, one.path or "")
    )
    asked = kept[0].get("asked", {}), kept[1].get("asked", {})
    return Changes(before, now, same, tuple(changed), asked)


def _place(verdict: str | None) -> int:
    order = [one.value for one in WORST_FIRST]
    return len(order) if verdict is None else order.index(verdict)


def _count(running: Engine, name: str) -> int:
    return int(running.value(f"SELECT COUNT(*) FROM {name}"))


def _once(file: Path) -> str:
    """Each host once: a fault that names a host which is there as well says nothing more."""
    columns = "host, verdict, kexec, crash, class, rule, release, missing"
    table = relation([file])
    return f"""SELECT {columns} FROM {table} WHERE class IS NOT NULL
        UNION ALL SELECT DISTINCT ON (f.host) {", ".join("f." + c for c in columns.split(", "))}
        FROM {table} f WHERE f.class IS NULL
            AND f.host NOT IN (SELECT host FROM {table} WHERE class IS NOT NULL)"""


#: A host may be told of twice, by its verdict and by that of a path.
_TOUCHED = f"SELECT COUNT(DISTINCT host) FROM ({statements.CHANGED}) WHERE new IS NOT NULL"
_GROUPED = f"""
SELECT path, old, new, old_class, new_class, old_rule, new_rule, old_release, new_release,
    old_missing, new_missing, COUNT(*) AS hosts,
    (LIST(host ORDER BY host))[1:{_HOSTS_SHOWN}] AS examples
FROM ({statements.CHANGED}) GROUP BY ALL
"""


def _by(row: Mapping[str, Any], facts: Mapping[str, list[Any]]) -> tuple[str, ...]:
    """What of a host changed, in the order in which verdicts depend on it."""
    if row["old"] is None:
        return ("the host was not there before",)
    if row["new"] is None:
        return ("the host is not there any more",)
    before, after = (facts.get(str(row[name])) for name in ("old_class", "new_class"))
    if before is None or after is None:
        return (f"evidence: {row['old_missing'] or 'read'} → {row['new_missing'] or 'read'}",)
    changed = [
        f"{name}: {_word(old)} → {_word(other)}"
        for name, old, other in zip(ASKED, before, after, strict=True)
        if old != other
    ]
    if row["old_rule"] != row["new_rule"]:
        changed.append(f"rule: {row['old_rule']} → {row['new_rule']}")
    if not changed:
        changed.append(f"missing: {row['old_missing'] or 'no'} → {row['new_missing'] or 'no'}")
    return tuple(changed)


def _word(value: object) -> str:
    return {None: "unknown", True: "yes", False: "no"}.get(value, str(value))  # type: ignore[call-overload, no-any-return]


def _kept(file: Path) -> dict[str, Any]:
    """What a result carries with it: class -> facts, and what was asked."""
    import pyarrow.parquet as pq

    try:
        kept = pq.read_schema(file).metadata or {}
    except (OSError, ValueError) as error:
        what = f"is no Parquet that can be read: {error}"
        raise UsageError(what, where=file, do=_DO) from error
    try:
        document = json.loads(kept.get(b"staleline", b"{}"))
    except ValueError:
        document = {}
    if document.get("schema") != ROWS_SCHEMA:
        raise UsageError("is no result of a fleet's audit", where=file, do=_DO)
    kept_document: dict[str, Any] = document
    return kept_document
