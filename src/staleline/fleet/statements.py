# SPDX-License-Identifier: GPL-2.0-or-later
"""What is asked of a fleet's tables, in SQL that DuckDB and Spark both take as it stands.

No rule is in here: what a class comes to is a row of the table ``verdicts``, which the engine of
`audit` filled. Statements count hosts, and join to each what its class comes to.

    told        a row for each host: its evidence, or the newest of several
    counted     how many hosts share class, kernel and hardware
    judged      the same, with what they come to
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "ASKED_COLUMNS",
    "CHANGED",
    "COLUMNS",
    "FAULTS",
    "LATEST_FAULTS",
    "OLD",
    "OPEN",
    "TWICE",
    "Outlook",
    "counted_table",
    "doubtful",
    "grouped",
    "judged",
    "owner_columns",
    "quoted",
    "rows",
    "told_again",
]

#: Clocks of hosts may be ahead by so many seconds.
_AHEAD = 300

#: The columns of a row for each host; those of an inventory stand behind the second.
COLUMNS = (
    *("host", "collected", "vendor", "model", "release", "build_id", "kernel_evidence", "rule"),
    *("class", "verdict", "kexec", "crash", "broken", "missing", "contradictions", "unneeded"),
    *("faults", "flush_ms", "evidence", "age", "note"),
)

#: What was asked of all rows, in files that have no other place for it.
ASKED_COLUMNS = ("what_if", "next_kernel", "append")

#: Ids of what makes a host unknown whatever its class comes to.
TWICE, OLD, FAULTS = "told-twice-differently", "evidence-too-old", "not-read"


def quoted(text: str) -> str:
    """A name of a column; only those that need it are quoted, as engines do it differently.

    It may be a word of SQL's own, as `group` is, and then stands behind a table's name or AS.
    """
    if re.fullmatch(r"[a-z][a-z0-9_]*", text):
        return text
    return '"' + text.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Outlook:
    """How a run looks at the evidence.

    Attributes:
        now: Seconds since 1970.
        max_age: Older evidence tells nothing any more; None for any age.
        again: Are there hosts that were told more than once?
        doubtful: How many times are none, or lie in the future.
        inventory: Names of the owner's columns.
        by_profile: Is a verdict of a profile, as for another kernel than the host's own?
    """

    now: int
    max_age: int | None = None
    again: bool = False
    doubtful: int = 0
    inventory: Sequence[str] = ()
    by_profile: bool = False

    @property
    def trusted(self) -> str:
        """The time of collecting, where it can be trusted."""
        return f"CASE WHEN time = 'told' AND collected <= {self.now + _AHEAD} THEN collected END"

    @property
    def old(self) -> str:
        """Is the evidence too old, or of unknown age where that matters?"""
        if self.max_age is None:
            return "FALSE"
        return f"COALESCE(({self.trusted}) < {self.now - self.max_age}, TRUE)"

    @property
    def conflict(self) -> str:
        """Was the host told twice, differently, with nothing to tell which is newer?"""
        return "conflict" if self.again else "FALSE"

    @property
    def key(self) -> str:
        """What `told` and ``verdicts`` are joined by."""
        own = " AND v.profile = t.profile" if self.by_profile else ""
        return f"v.subject = t.subject{own}"


def doubtful(told: Outlook) -> str:
    """How many times are none, or cannot be trusted.

    By what is trusted, so that a clock that is a little ahead is not said to be doubted. In three
    parts, of which Parquet's statistics mostly tell that no row is one.
    """
    untrusted = (
        "time <> 'told'",
        f"time = 'told' AND collected > {told.now + _AHEAD}",
        "time = 'told' AND collected IS NULL",
    )
    return "SELECT " + " + ".join(f"(SELECT COUNT(*) FROM hosts WHERE {one})" for one in untrusted)


def told_again(told: Outlook) -> str:
    """The hosts that were told more than once: of each the newest evidence, and what it replaced.

    Evidence of the same time, or of none that can be trusted, has to tell the same of host and
    kernel; else nothing says which of them holds. Under another kernel than the host's own that is
    its profile too, as the same class may then be read otherwise.
    """
    names = ("subject", "profile") if told.by_profile else ("subject",)
    holds = "newest_time IS NULL OR trusted IS NULL OR trusted = newest_time"
    may_hold = ", ".join(f"CASE WHEN {holds} THEN {name} END AS may_{name}" for name in names)
    bounds = ", ".join(
        f"{bound}(may_{name}) OVER (PARTITION BY host) AS {bound.lower()}_{name}"
        for name in names
        for bound in ("MIN", "MAX")
    )
    differ = " OR ".join(f"min_{name} <> max_{name}" for name in names)
    return f"""
WITH several AS (
    SELECT h.*, {told.trusted} AS trusted
    FROM hosts h WHERE h.host IN (SELECT host FROM repeated)
), newest AS (
    SELECT s.*, MAX(trusted) OVER (PARTITION BY host) AS newest_time,
        COUNT(*) OVER (PARTITION BY host) AS times
    FROM several s
), weighed AS (
    SELECT n.*, {may_hold} FROM newest n
), ranked AS (
    SELECT w.*, {bounds},
        ROW_NUMBER() OVER (PARTITION BY host ORDER BY
            CASE WHEN trusted = newest_time THEN 0 ELSE 1 END, file, place, evidence) AS rank
    FROM weighed w
), others AS (
    SELECT host, MIN(CASE WHEN rank > 1 THEN CONCAT(file, CASE WHEN place = '' THEN '' ELSE ':' END,
        place) END) AS other
    FROM ranked GROUP BY host
)
SELECT r.*, {differ} AS conflict,
    CONCAT('told ', CAST(times AS VARCHAR(20)), ' times: ',
        CASE WHEN {differ} THEN 'nothing tells which is newer, ' ELSE 'the newest holds, ' END,
        file, CASE WHEN place = '' THEN '' ELSE ':' END, place, '; also ', other) AS again
FROM ranked r JOIN others o ON o.host = r.host
WHERE r.rank = 1
"""


#: Faults that hold: a file that was read since, whole or mended, is none.
LATEST_FAULTS = """
WITH latest AS (
    SELECT i.file, i.modified, ROW_NUMBER() OVER (PARTITION BY i.file ORDER BY part DESC) AS rank
    FROM inputs i WHERE i.file IN (SELECT file FROM quarantine)
)
SELECT DISTINCT q.host, q.file, q.place, q.reason, q.contradictions, q.evidence
FROM quarantine q JOIN latest l ON l.file = q.file AND l.modified = q.modified AND l.rank = 1
"""


def owner_columns(names: Sequence[str]) -> tuple[str, ...]:
    """What the owner's columns are called within statements.

    Theirs may be called as one of a table's is, `hardware` or `old`, which would be taken instead.
    """
    return tuple(f"own_{number}" for number, _ in enumerate(names))


def _with_owners(names: Sequence[str], host: str) -> str:
    """The owner's columns beside each host, under the names of `owner_columns`."""
    if not names:
        return ""
    pairs = zip(names, owner_columns(names), strict=True)
    own = "".join(f", n.{quoted(name)} AS {column}" for name, column in pairs)
    return f"LEFT JOIN (SELECT n.host{own} FROM inventory n) i ON i.host = {host}"


def _told_rows(told: Outlook, columns: Sequence[str]) -> str:
    """`columns` of a row for each host."""
    plain = ", ".join(f"h.{name}" for name in columns)
    if not told.again:
        return f"SELECT {plain} FROM hosts h"
    own = ", ".join(columns)
    # With a length, as Spark has no VARCHAR without one.
    return f"""SELECT {plain}, FALSE AS conflict, CAST(NULL AS VARCHAR(20)) AS again FROM hosts h
        LEFT JOIN repeated r ON r.host = h.host WHERE r.host IS NULL
    UNION ALL SELECT {own}, conflict, again FROM told_again"""


def counted_table(told: Outlook, by: Sequence[str] = ()) -> str:
    """How many hosts share class, kernel and hardware, and the columns of `by`."""
    names = ["subject", "hardware", *(["profile"] if told.by_profile else [])]
    columns = [*names, "collected", "time", *(["host"] if by else [])]
    own = ", ".join(f"t.{name}" for name in names)
    owner = "".join(f", i.{name}" for name in owner_columns(by))
    return f"""
SELECT {own}{owner}, {told.old} AS old, {told.conflict} AS conflict, COUNT(*) AS hosts
FROM ({_told_rows(told, columns)}) t {_with_owners(by, "t.host")}
GROUP BY {own}{owner}, {told.old}, {told.conflict}
"""


def _verdict(column: str, told: Outlook) -> str:
    """A column of verdicts, unless something else than its class makes a host unknown."""
    if told.max_age is None and not told.again:
        return f"v.{column}"
    return f"CASE WHEN {told.conflict} OR {told.old} THEN 'unknown' ELSE v.{column} END"


#: What is said of a class that was judged, and of no host whose evidence may not hold.
_OF_VERDICT = ("broken", "unneeded", "faults")


def _of_verdict(column: str, told: Outlook) -> str:
    """A column of what was found beside the verdict, which is nothing where that is unknown."""
    if told.max_age is None and not told.again:
        return f"v.{column}"
    return f"CASE WHEN {told.conflict} OR {told.old} THEN '' ELSE v.{column} END"


def judged(told: Outlook, by: Sequence[str] = ()) -> str:
    """What is counted, with what it comes to; a record that could not be read is one unknown host.

    Whatever hosts are counted by, the counts add up to all of them: those that nobody could read
    belong to their owner's groups as well.
    """
    owner, of_fault = (
        "".join(f", {table}.{name}" for name in owner_columns(by)) for table in ("t", "i")
    )
    text, number = "CAST(NULL AS VARCHAR(20))", "CAST(NULL AS BIGINT)"
    missing = f"CASE WHEN t.conflict THEN '{TWICE}' WHEN t.old THEN '{OLD}' ELSE v.missing END"

    def verdict(column: str) -> str:
        return f"CASE WHEN t.conflict OR t.old THEN 'unknown' ELSE v.{column} END AS {column}"

    broken, unneeded, faults = (
        f"CASE WHEN t.conflict OR t.old THEN '' ELSE v.{column} END AS {column}"
        for column in _OF_VERDICT
    )
    return f"""
SELECT t.subject, v.class, v.rule, v.kernel_evidence, v.release, v.build_id, hw.vendor,
    hw.cpu AS model, {verdict("verdict")}, {verdict("kexec")}, {verdict("crash")},
    {broken}, {missing} AS missing, v.contradictions, {unneeded}, {faults}, v.note,
    c.flush_ms, t.hosts{owner}
FROM counted t JOIN verdicts v ON {told.key} JOIN kinds hw ON hw.hardware = t.hardware
    LEFT JOIN costs c ON c.pattern = v.pattern AND c.hardware = t.hardware
UNION ALL
SELECT {number}, {number}, {text}, 'none', {text}, {text}, {text}, {text}, 'unknown', 'unknown',
    'unknown', '', '{FAULTS}', f.contradictions, '', '', f.reason, CAST(NULL AS DOUBLE), 1{of_fault}
FROM faults f {_with_owners(by, "f.host")}
"""


def grouped(columns: Sequence[str]) -> str:
    """Hosts by columns of ``judged``, and by verdict, with what their flushes take in all."""
    names = ", ".join(columns)
    return f"""
SELECT {names}, SUM(hosts) AS hosts,
    SUM(CASE WHEN verdict = 'at-risk' THEN hosts ELSE 0 END) AS at_risk,
    SUM(CASE WHEN verdict = 'unknown' THEN hosts ELSE 0 END) AS unknown,
    SUM(CASE WHEN verdict = 'safe' THEN hosts ELSE 0 END) AS safe,
    SUM(flush_ms * hosts) AS flush_ms,
    SUM(CASE WHEN flush_ms IS NULL THEN hosts ELSE 0 END) AS flush_unknown
FROM judged GROUP BY {names} ORDER BY at_risk DESC, unknown DESC, hosts DESC, {names}
"""


#: Classes with kernels of which something is missing, and how many hosts that is.
OPEN = """
SELECT subject, missing, SUM(hosts) AS hosts FROM judged
WHERE verdict = 'unknown' AND missing <> '' AND subject IS NOT NULL
GROUP BY subject, missing ORDER BY hosts DESC, subject
"""


def _note(told: Outlook) -> str:
    """What has to be said of a host besides its verdict."""
    if not (told.again or told.doubtful):
        return "v.note"
    again = "again" if told.again else "CAST(NULL AS VARCHAR(20))"
    time = f"""CASE WHEN time = 'none' THEN 'nothing says when it was collected'
        WHEN time = 'no-time' THEN 'what says when it was collected is no time'
        WHEN time = 'no-zone' THEN 'its time names no zone'
        WHEN time = 'not-set' THEN 'its clock was not set'
        WHEN collected > {told.now + _AHEAD} THEN 'its time lies in the future' END"""
    return f"CONCAT_WS('; ', {again}, {time}, NULLIF(v.note, ''))"


def rows(told: Outlook) -> str:
    """A row for each host, and one for each fault: `COLUMNS`, and the owner's."""
    pairs = zip(told.inventory, owner_columns(told.inventory), strict=True)
    owner = "".join(f", i.{column} AS {quoted(name)}" for name, column in pairs)
    columns = ["host", "collected", "time", "subject", "hardware", "evidence"]
    columns += ["profile"] if told.by_profile else []
    missing = "v.missing"
    if told.again or told.max_age is not None:
        missing = f"""CASE WHEN {told.conflict} THEN '{TWICE}' WHEN {told.old} THEN '{OLD}'
            ELSE v.missing END"""
    none = "CAST(NULL AS VARCHAR(20))"
    return f"""
SELECT t.host, t.collected{owner}, hw.vendor, hw.cpu AS model, v.release, v.build_id,
    v.kernel_evidence, v.rule, v.class, {_verdict("verdict", told)} AS verdict,
    {_verdict("kexec", told)} AS kexec, {_verdict("crash", told)} AS crash,
    {_of_verdict("broken", told)} AS broken, {missing} AS missing, v.contradictions,
    {_of_verdict("unneeded", told)} AS unneeded, {_of_verdict("faults", told)} AS faults,
    c.flush_ms, t.evidence,
    {told.now} - t.collected AS age, {_note(told)} AS note
FROM ({_told_rows(told, columns)}) t
    JOIN verdicts v ON {told.key} JOIN kinds hw ON hw.hardware = t.hardware
    LEFT JOIN costs c ON c.pattern = v.pattern AND c.hardware = t.hardware
    {_with_owners(told.inventory, "t.host")}
UNION ALL
SELECT COALESCE(f.host, CONCAT(file, CASE WHEN place = '' THEN '' ELSE ':' END, place)),
    CAST(NULL AS BIGINT){owner}, {none}, {none}, {none}, {none}, 'none', {none},
    CAST(NULL AS BIGINT), 'unknown', 'unknown', 'unknown', '', '{FAULTS}', contradictions, '', '',
    CAST(NULL AS DOUBLE), evidence, CAST(NULL AS BIGINT),
    CONCAT(file, CASE WHEN place = '' THEN '' ELSE ':' END, place, ': ', reason)
FROM faults f {_with_owners(told.inventory, "f.host")}
"""


def _changed(path: str | None) -> str:
    """Hosts of which two results say something else, of one path or overall (None).

    A host's verdict is the worst of its paths', so it hides what another path comes to: a path is
    told where the host's verdict stays, and where the path gets worse and the host does not.
    """
    column, name, condition = "verdict", "NULL", "o.verdict IS DISTINCT FROM n.verdict"
    if path is not None:
        column, name = path, f"'{path}'"
        worse = f"{_rank('o', path)} < {_rank('n', path)}"
        better = f"{_rank('n', 'verdict')} < {_rank('o', 'verdict')}"
        condition = f"o.{path} <> n.{path} AND (o.verdict = n.verdict OR ({worse} AND {better}))"
    return f"""
SELECT COALESCE(n.host, o.host) AS host, {name} AS path, o.{column} AS old, n.{column} AS new,
    o.class AS old_class, n.class AS new_class, o.rule AS old_rule, n.rule AS new_rule,
    o.release AS old_release, n.release AS new_release, o.missing AS old_missing,
    n.missing AS new_missing
FROM old_rows o FULL OUTER JOIN new_rows n ON n.host = o.host
WHERE {condition}
"""


def _rank(side: str, column: str) -> str:
    """How bad a verdict is."""
    return f"CASE {side}.{column} WHEN 'safe' THEN 0 WHEN 'unknown' THEN 1 ELSE 2 END"


#: Hosts of which two results say something else, and what is there only once.
CHANGED = " UNION ALL ".join(map(_changed, (None, "kexec", "crash")))
