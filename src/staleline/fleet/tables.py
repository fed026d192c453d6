# SPDX-License-Identifier: GPL-2.0-or-later
"""A fleet's tables as DuckDB sees them. What is asked of them is in `statements`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from staleline.errors import UsageError
from staleline.fleet.columns import parquet
from staleline.fleet.store import TABLES, Fleet
from staleline.printable import printable

__all__ = [
    "Engine",
    "Statements",
    "engine",
    "keep_repeated",
    "known_inputs",
    "number_of_repeated",
    "quarantined_files",
    "relation",
    "with_tables",
]

_FAULTS_SHOWN = 20
_MEMORY = "600MB"


class Statements(Protocol):
    """An engine that has a fleet's tables."""

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        """What a statement gives, as one dictionary a row."""

    def value(self, statement: str) -> Any:
        """The one value that a statement gives."""

    def make(self, name: str, select: str) -> None:
        """Keep what a statement gives under a name."""

    def table(
        self, name: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]
    ) -> None:
        """Make a small table of rows; `columns` are names and SQL types."""


class Engine:
    """Statements on a fleet's tables, one after the other."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        """What a statement gives, as one dictionary a row."""
        cursor = self.connection.execute(statement, list(values))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def value(self, statement: str) -> Any:
        """The one value that a statement gives."""
        return self.connection.execute(statement).fetchone()[0]

    def make(self, name: str, select: str) -> None:
        """Keep what a statement gives under a name."""
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {select}")

    def table(
        self, name: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]
    ) -> None:
        """Make a small table of rows; `columns` are names and SQL types."""
        import pyarrow as pa

        kinds = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "BOOLEAN": pa.bool_()}
        kinds["DOUBLE"] = pa.float64()
        schema = pa.schema([(column, kinds[kind]) for column, kind in columns.items()])
        given = pa.Table.from_pylist([dict(row) for row in rows], schema)
        self.connection.register("given_rows", given)
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM given_rows")
        self.connection.unregister("given_rows")


@contextmanager
def engine() -> Iterator[Engine]:
    """A database in memory."""
    import duckdb

    with duckdb.connect(config={"memory_limit": _MEMORY}) as connection:
        # What needs an order asks for it; to keep that of the files takes memory.
        connection.execute("SET preserve_insertion_order = false")
        try:
            yield Engine(connection)
        # So it calls files that are cut or damaged, and what is no Parquet.
        except (duckdb.IOException, duckdb.InvalidInputException) as error:
            raise UsageError(
                f"cannot be read: {printable(str(error).splitlines()[0])[:300]}",
                do="copy the fleet as a whole, or add its sources to a new directory",
            ) from error


def relation(files: Iterable[Path]) -> str:
    """Files of Parquet as what a statement reads from."""
    names = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
    return f"read_parquet([{names}])"


def with_tables(running: Engine, fleet: Fleet) -> None:
    """Make a view of each of the fleet's tables; without parts it has columns and no rows."""
    import pyarrow.parquet as pq

    for table in TABLES:
        parts = fleet.parts(table)
        if parts:
            running.connection.execute(f"CREATE OR REPLACE VIEW {table} AS FROM {relation(parts)}")
        else:
            empty = pq.read_table(io.BytesIO(parquet(table, [])))
            running.connection.register(table, empty)


def known_inputs(fleet: Fleet) -> set[tuple[str, int, str]]:
    """File, size and time of change of every input that was added."""
    if not fleet.parts("inputs"):
        return set()
    with engine() as running:
        statement = f"SELECT file, bytes, modified FROM {relation(fleet.parts('inputs'))}"
        return {(row["file"], row["bytes"], row["modified"]) for row in running.rows(statement)}


def quarantined_files(fleet: Fleet, *, since: int) -> list[tuple[str, str, str]]:
    """A few of what could not be read in the parts from a number on: file, place, reason."""
    parts = fleet.parts("quarantine")[since:]
    if not parts:
        return []
    with engine() as running:
        statement = f"""SELECT file, place, reason FROM {relation(parts)}
            ORDER BY file, place LIMIT {_FAULTS_SHOWN}"""
        return [(row["file"], row["place"], row["reason"]) for row in running.rows(statement)]


def number_of_repeated(fleet: Fleet) -> int:
    """How many hosts were told more than once."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(fleet.repeated).num_rows) if fleet.repeated.exists() else 0


def keep_repeated(fleet: Fleet) -> None:
    """Write down which hosts were told more than once; there are few, or none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names: list[str] = []
    if fleet.parts("hosts"):
        with engine() as running:
            statement = f"""SELECT host FROM {relation(fleet.parts("hosts"))}
                GROUP BY host HAVING count(*) > 1 ORDER BY host"""
            names = [row["host"] for row in running.rows(statement)]
    sink = io.BytesIO()
    pq.write_table(pa.table({"host": pa.array(names, pa.string())}), sink, compression="zstd")
    # Untouched, so that a fleet to which nothing was added keeps its bytes.
    if not fleet.repeated.exists() or fleet.repeated.read_bytes() != sink.getvalue():
        fleet.write(fleet.repeated, sink.getvalue())
