# SPDX-License-Identifier: GPL-2.0-or-later
"""The columns of a fleet's tables, and rows of them as Parquet."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

from staleline.fleet.asked import ASKED, BOOLEANS, INTEGERS, REGISTERS

__all__ = ["parquet"]


def parquet(table: str, rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows as a file of Parquet: the same bytes for the same rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, _kinds(pa)[kind]) for name, kind in _columns(table)])
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema), sink, compression="zstd")
    return sink.getvalue()


def _kinds(pa: Any) -> dict[type, Any]:
    return {str: pa.string(), int: pa.int64(), bool: pa.bool_()}


def _columns(table: str) -> Iterator[tuple[str, type]]:
    yield from _COLUMNS[table]
    if table in ("hosts", "classes"):
        yield from ((name, _kind_of(name)) for name in ASKED)


def _kind_of(name: str) -> type:
    return bool if name in BOOLEANS else int if name in INTEGERS else str


_COLUMNS: dict[str, tuple[tuple[str, type], ...]] = {
    "hosts": (
        *(("host", str), ("named", bool), ("collected", int), ("time", str), ("release", str)),
        *(("build_id", str), ("subject", int), ("class", int), ("profile", int)),
        *(("hardware", int), ("file", str), ("place", str), ("evidence", str)),
    ),
    "quarantine": (
        *(("host", str), ("file", str), ("place", str), ("modified", str), ("reason", str)),
        *(("contradictions", str), ("evidence", str)),
    ),
    "inputs": (("file", str), ("bytes", int), ("modified", str), ("piece", str), ("part", int)),
    "profiles": (("profile", int), ("snapshot", str)),
    "classes": (("class", int), (REGISTERS, str)),
    "subjects": (
        *(("subject", int), ("class", int), ("release", str), ("build_id", str)),
        ("profile", int),
    ),
    "hardware": (
        *(("hardware", int), ("vendor", str), ("family", int), ("model", int), ("stepping", int)),
        *(("cpu", str), ("socket", int), ("cluster", int), ("jumping_cpu", int)),
    ),
}
