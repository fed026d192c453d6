# SPDX-License-Identifier: GPL-2.0-or-later
"""A fleet whose rows lie in a lake: the same statements on Spark, in the user's own session.

Rows are read and written where they are. Only classes, subjects and kinds of hardware come to the
driver, which judges them as everywhere else. Spark itself is never a dependency: the session is
the user's, of Spark 3.5 or newer, classic or Connect.

    session.read.parquet("fleet/hosts").createOrReplaceTempView("hosts")   # and the other tables
    rows = fleet_rows(session)
    rows.write.parquet("s3://lake/verdicts")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from staleline.fleet import statements
from staleline.fleet.judging import Judge
from staleline.fleet.result import AuditOptions, count, count_costs, judge_subjects, look

__all__ = ["SparkStatements", "fleet_rows"]

_KINDS = {"VARCHAR": "STRING", "BIGINT": "BIGINT", "BOOLEAN": "BOOLEAN", "DOUBLE": "DOUBLE"}


class SparkStatements:
    """Statements in a session, on its views."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        """What a statement gives; never asked for rows of hosts."""
        answer = self.session.sql(statement, args=list(values)) if values else None
        answer = self.session.sql(statement) if answer is None else answer
        return [row.asDict() for row in answer.collect()]

    def value(self, statement: str) -> Any:
        """The one value that a statement gives."""
        (row,) = self.session.sql(statement).collect()
        return row[0]

    def make(self, name: str, select: str) -> None:
        """Keep a statement under a name: a view, which Spark works out when it is read."""
        self.session.sql(select).createOrReplaceTempView(name)

    def table(
        self, name: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]
    ) -> None:
        """Make a small table of rows."""
        schema = ", ".join(f"{column} {_KINDS[kind]}" for column, kind in columns.items())
        given = [tuple(row[column] for column in columns) for row in rows]
        self.session.createDataFrame(given, schema).createOrReplaceTempView(name)


def fleet_rows(
    session: Any, options: AuditOptions | None = None, *, inventory: Sequence[str] = ()
) -> Any:
    """A row for each host and fault, as a DataFrame that has not been worked out yet.

    Args:
        session: Its views ``hosts``, ``classes``, ``subjects``, ``profiles``, ``hardware``,
            ``quarantine``, ``inputs`` and ``repeated`` are the fleet's tables; ``inventory`` the
            owner's, if its columns are named.
        options: What is asked.
        inventory: Columns of the inventory.
    """
    asked = options or AuditOptions()
    running, judge = SparkStatements(session), Judge(asked.question)
    again = bool(running.value("SELECT COUNT(*) FROM repeated"))
    outlook = look(running, asked, again=again, inventory=inventory)
    judge_subjects(running, judge, outlook)
    count_costs(running)
    count(running, outlook)
    return session.sql(statements.rows(outlook))
