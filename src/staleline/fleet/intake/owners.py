# SPDX-License-Identifier: GPL-2.0-or-later
"""The owner's inventory: columns of theirs, joined to hosts by name."""

from __future__ import annotations

import io
from pathlib import Path

from staleline.errors import UsageError
from staleline.fleet.statements import ASKED_COLUMNS, COLUMNS, quoted
from staleline.fleet.store import Fleet
from staleline.fleet.tables import engine, relation
from staleline.printable import printable

__all__ = ["keep_inventory"]

_READERS = {
    #: As text: zeros in front belong to a host's name.
    ".csv": "read_csv(?, header = true, all_varchar = true)",
    ".tsv": "read_csv(?, header = true, all_varchar = true, delim = '\t')",
    ".json": "read_json_auto(?)",
    ".ndjson": "read_json_auto(?)",
    ".jsonl": "read_json_auto(?)",
    ".parquet": "read_parquet(?)",
}
_COLUMNS_MAX = 100


def keep_inventory(fleet: Fleet, file: Path, key: str) -> tuple[int, int]:
    """Take the inventory in a file in place of what was there.

    Args:
        fleet: Whose it is; nobody else may be writing to it.
        file: CSV, TSV, JSON, lines of JSON, or Parquet, by the end of its name.
        key: Its column that names hosts as their evidence does.

    Returns:
        How many hosts it has, and how many of the fleet's it lacks.

    Raises:
        UsageError: It cannot be read, or names a host twice.
    """
    import duckdb
    import pyarrow.parquet as pq

    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise UsageError(
            "is no inventory by its name", where=file, do=f"give one of {', '.join(_READERS)}"
        )
    with engine() as running:
        try:
            running.connection.execute(
                f"CREATE TEMP TABLE given AS SELECT * FROM {reader}", [str(file)]
            )
        except duckdb.Error as error:
            what = f"cannot be read: {printable(str(error).splitlines()[0])[:300]}"
            raise UsageError(what, where=file, do="check it") from error
        columns = [row["column_name"] for row in running.rows("DESCRIBE given")]
        _require_columns(columns, key, file)
        name = quoted(key)
        twice = running.rows(
            f"SELECT g.{name} AS host FROM given g GROUP BY g.{name} HAVING COUNT(*) > 1 LIMIT 1"
        )
        if twice:
            raise UsageError(
                f"names {str(twice[0]['host'])[:80]!a} twice",
                where=file,
                do="give one row for each host",
            )
        own = "".join(
            f", CAST(g.{quoted(column)} AS VARCHAR) AS {quoted(column)}"
            for column in columns
            if column != key
        )
        table = running.connection.sql(
            f"SELECT CAST(g.{name} AS VARCHAR) AS host{own} FROM given g "
            f"WHERE g.{name} IS NOT NULL ORDER BY 1"
        ).to_arrow_table()
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
    fleet.write(fleet.inventory, sink.getvalue())
    return table.num_rows, _lacking(fleet)


def _require_columns(columns: list[str], key: str, file: Path) -> None:
    if key not in columns:
        do = f"give --key one of {', '.join(map(printable, columns))[:300]}"
        raise UsageError(f"has no column {key!a}", where=file, do=do)
    taken = sorted({*COLUMNS, *ASKED_COLUMNS} & {c.lower() for c in columns if c != key})
    if taken:
        raise UsageError(
            f"has a column {taken[0]!a}, which rows of a fleet have too",
            where=file,
            do="give it another name",
        )
    if len(columns) > _COLUMNS_MAX:
        raise UsageError(f"has {len(columns)} columns", where=file, do="leave some out")


def _lacking(fleet: Fleet) -> int:
    if not fleet.parts("hosts"):
        return 0
    with engine() as running:
        return int(
            running.value(
                f"""SELECT COUNT(DISTINCT h.host) FROM {relation(fleet.parts("hosts"))} h
                LEFT JOIN {relation([fleet.inventory])} i ON i.host = h.host WHERE i.host IS NULL"""
            )
        )
