# SPDX-License-Identifier: GPL-2.0-or-later
"""A fleet of a million hosts against a query written by hand over the same Parquet, in one run.

    python -m benchmarks.fleet [--hosts 1000000] [--keep DIR]
    python -m benchmarks.fleet --keep DIR --over 50    the same files fifty times over

The query by hand knows one rule of thumb and no model; it is what somebody would write who has
only the columns. Ingestion is compared with the readers of single snapshots.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tests.properties.corpus import RELEASES, some_truth

from staleline.evidence.detect import parse_snapshot
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.facts import from_snapshot
from staleline.fleet.columns import parquet
from staleline.fleet.intake.ingest import TableRows, add_record
from staleline.fleet.intake.records import Record
from staleline.fleet.intake.sources import FleetInput
from staleline.fleet.profile import Profiles
from staleline.fleet.result import AuditOptions, asked_fleet
from staleline.fleet.store import TABLES, Fleet, created
from staleline.fleet.tables import keep_repeated, relation

__all__ = ["main", "million"]

_PART = 125_000
_MACHINES, _KERNELS = 1_000, 5
_BY_HAND = """
CASE WHEN sme_enabled IS NULL AND vendor = 'AuthenticAMD' THEN 'unknown'
    WHEN NOT COALESCE(sme_enabled, FALSE) AND NOT COALESCE(tdx_keyids >= 2, FALSE) THEN 'safe'
    WHEN coherency_enforced THEN 'safe'
    WHEN release LIKE '4.%' OR release LIKE '5.1%' THEN 'at-risk'
    WHEN reboot_force THEN 'at-risk' WHEN mem_encrypt IS NULL THEN 'unknown' ELSE 'safe' END
"""
_SUMMARY = f"""
SELECT verdict, release, hw.cpu, COUNT(*)
FROM (SELECT {_BY_HAND} AS verdict, release, hardware FROM {{hosts}}) h
    JOIN (SELECT DISTINCT hardware, cpu FROM {{hardware}}) hw ON hw.hardware = h.hardware
GROUP BY ALL
"""  # noqa: S608 - the names of its own files
_ROWS = f"""
COPY (SELECT host, collected, vendor, hw.cpu AS model, release, build_id,
    'release' AS kernel_evidence, CASE WHEN release LIKE '4.%' THEN 'linux-4.15'
        WHEN release LIKE '5.%' THEN 'linux-5.18' ELSE 'linux-6.5' END AS rule,
    class, {_BY_HAND} AS verdict, {_BY_HAND} AS kexec, {_BY_HAND} AS crash, '' AS broken,
    CASE WHEN sme_enabled IS NULL THEN 'unknown-syscfg' ELSE '' END AS missing,
    '' AS contradictions, '' AS unneeded, '' AS faults, hw.socket / 1e8 AS flush_ms, evidence,
    1796040000 - collected AS age, '' AS note
    FROM {{hosts}} h JOIN (SELECT DISTINCT hardware, cpu, socket FROM {{hardware}}) hw
        ON hw.hardware = h.hardware)
TO '{{out}}' (FORMAT parquet, COMPRESSION zstd)
"""  # noqa: S608 - likewise


def million(directory: Path, hosts: int, *, seed: int = 1) -> Fleet:
    """A fleet of hosts drawn from a thousand real dumps with firmware, state and releases."""
    fleet, rows = created(directory), TableRows()
    random, profiles = Random(seed), Profiles()
    for number in range(_MACHINES):
        snapshot = some_truth(random).snapshot()
        for release in random.sample(RELEASES, _KERNELS):
            kernel = replace(snapshot.kernel, release=release)
            text = snapshot_text(replace(snapshot, host=f"kind{number}-{release}", kernel=kernel))
            add_record(rows, profiles, FleetInput("drawn"), Record("", "0" * 32, text=text))
    kinds = pq.read_table(pa.BufferReader(parquet("hosts", rows.of("hosts"))))
    drawn = np.random.default_rng(seed)
    for part, first in enumerate(range(0, hosts, _PART)):
        count = min(_PART, hosts - first)
        _write_part(fleet, part, _hosts(kinds, drawn, first, count), rows)
    keep_repeated(fleet)
    fleet.keep_number_of_parts()
    return fleet


def _hosts(kinds: pa.Table, drawn: Any, first: int, count: int) -> pa.Table:
    table = kinds.take(pa.array(drawn.integers(0, kinds.num_rows, count)))
    numbers = range(first, first + count)
    times = 1_796_000_000 + drawn.integers(0, 86_400, count)
    own = {
        "host": pa.array([f"node{number:07}.example" for number in numbers]),
        "collected": pa.array(times, pa.int64()),
        "file": pa.array([f"in/{number // 10_000}.tar" for number in numbers]),
        "place": pa.array([f"node{number:07}.json" for number in numbers]),
        "evidence": pa.array([one.hex() for one in (drawn.bytes(16) for _ in numbers)]),
    }
    for name, column in own.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def _write_part(fleet: Fleet, part: int, hosts: pa.Table, rows: TableRows) -> None:
    for table in TABLES:
        path = fleet.part(table, part)
        if table == "hosts":
            pq.write_table(hosts, path, compression="zstd")
        else:
            described = (
                rows.of(table) if part == 0 and table not in ("inputs", "quarantine") else []
            )
            path.write_bytes(parquet(table, described))


def over(fleet: Fleet, directory: Path, times: int) -> Fleet:
    """A fleet of the same hosts so many times over, which takes no room."""
    larger = created(directory)
    parts = len(fleet.parts("inputs"))
    for table in TABLES:
        for number, part in product(range(times), range(parts)):
            path = larger.part(table, number * parts + part)
            # What describes hosts is there once, as it would be if they were added together.
            if number and table not in ("hosts", "inputs"):
                path.write_bytes(parquet(table, []))
            else:
                os.link(fleet.part(table, part), path)
    for kept in (fleet.repeated, fleet.verdicts):
        os.link(kept, larger.directory / kept.name)
    larger.keep_number_of_parts()
    return larger


#: Wall-clock and CPU seconds.
_Seconds = tuple[float, float]


def _timed(function: Callable[[], object]) -> _Seconds:
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def _compared(
    by_hand: Callable[[], object], own: Callable[[], object], times: int
) -> tuple[list[_Seconds], list[_Seconds]]:
    """Both in turn, so that what else the machine does slows both."""
    pairs = [(_timed(by_hand), _timed(own)) for _ in range(times)]
    return [hand for hand, _ in pairs], [ours for _, ours in pairs]


def _told(hand: list[_Seconds], ours: list[_Seconds]) -> Iterator[str]:
    for index, clock in enumerate(("wall", "CPU")):
        for name, of in (("least", min), ("median", median)):
            one, other = of(run[index] for run in hand), of(run[index] for run in ours)
            yield f"{name} {clock} {one:.3f} s by hand, {other:.3f} s: {other / one:.2f}x"


def _by_hand(fleet: Fleet, out: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    hosts, hardware = (relation(fleet.parts(name)) for name in ("hosts", "hardware"))

    def connected() -> Any:
        connection = duckdb.connect(config={"memory_limit": "600MB"})
        connection.execute("SET preserve_insertion_order = false")
        return connection

    def summary() -> object:
        return connected().execute(_SUMMARY.format(hosts=hosts, hardware=hardware)).fetchall()

    def rows() -> object:
        return connected().execute(_ROWS.format(hosts=hosts, hardware=hardware, out=out))

    return summary, rows


def _ingestion(count: int) -> tuple[float, float]:
    """Snapshots a CPU second: the single readers, and a fleet's."""
    random = Random(7)
    kinds = [some_truth(random).snapshot() for _ in range(20)]
    texts = [
        snapshot_text(
            replace(kinds[n % 20], host=f"node{n}", collected=f"2026-11-30T06:{n % 60:02}:00Z")
        )
        for n in range(count)
    ]
    start = time.process_time()
    for text in texts:
        from_snapshot(parse_snapshot(text, "a host"))
    single = time.process_time() - start
    rows, profiles = TableRows(), Profiles()
    start = time.process_time()
    for number, text in enumerate(texts):
        add_record(rows, profiles, FleetInput("drawn"), Record("", f"{number:032}", text=text))
    return count / single, count / (time.process_time() - start)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--over", type=int, metavar="TIMES", help="of the fleet that was kept")
    options = parser.parse_args()
    if options.over is not None:
        _print_growth(Fleet(options.keep / "fleet"), options.keep, options.over)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.keep or Path(temporary)
        fleet_directory = directory / "fleet"
        if not (fleet_directory / "repeated.parquet").exists():
            million(fleet_directory, options.hosts)
        fleet = Fleet(fleet_directory)
        size = sum(path.stat().st_size for path in fleet.parts("hosts"))
        print(f"{options.hosts:,} hosts, {size / 1e6:.0f} MB of Parquet")
        for known in fleet.directory.glob("verdicts*"):
            known.unlink()
        _print_fleet(fleet, directory)
        print(f"memory at most: {_memory():.0f} MB")
    single, many = _ingestion(2000)
    print(f"ingestion: {single:.0f} snapshots a CPU second by the single readers, {many:.0f} by")
    print(f"           a fleet's: {many / single:.1f} times as many")
    return 0


def _memory() -> float:
    """Megabytes, at most until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _print_growth(fleet: Fleet, directory: Path, times: int) -> None:
    options = AuditOptions(now=1_796_100_000)
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        larger = over(fleet, Path(temporary) / "fleet", times)
        with asked_fleet(larger.directory, options) as asked:
            hosts, judged = sum(asked.counts.values()), asked.judge.judged
        print(f"{hosts:,} hosts; {judged} judged")

        def summary() -> None:
            with asked_fleet(larger.directory, options) as again:
                again.by("verdict", "release", "model")

        def rows() -> None:
            with asked_fleet(larger.directory, options) as again:
                assert again.write_rows(Path(temporary) / "rows.parquet") == hosts

        for name, work in (("summary", summary), ("a row for each host", rows)):
            wall, cpu = _timed(work)
            print(f"{name:20} {wall:.2f} s, {cpu:.2f} s CPU, {_memory():.0f} MB", flush=True)
        print(f"rows: {(Path(temporary) / 'rows.parquet').stat().st_size / 1e6:.0f} MB")


def _print_fleet(fleet: Fleet, directory: Path) -> None:
    options = AuditOptions(now=1_796_100_000)
    wall, cpu = time.perf_counter(), time.process_time()
    with asked_fleet(fleet.directory, options) as asked:
        first = asked.judge.judged, asked.judge.seconds
        counts = asked.counts
    print(f"first time: {time.perf_counter() - wall:.2f} s, {time.process_time() - cpu:.2f} s CPU")
    print(f"            {first[0]} judged in {first[1]:.2f} CPU seconds of the engine; {counts}")

    def summary() -> None:
        with asked_fleet(fleet.directory, options) as again:
            again.by("verdict", "release", "model")

    def rows() -> None:
        with asked_fleet(fleet.directory, options) as again:
            assert again.judge.judged == 0
            again.write_rows(directory / "rows.parquet")

    summary_by_hand, rows_by_hand = _by_hand(fleet, directory / "by-hand.parquet")
    for name, own, by_hand, times in (
        ("summary", summary, summary_by_hand, 11),
        ("a row for each host", rows, rows_by_hand, 3),
    ):
        for line in _told(*_compared(by_hand, own, times)):
            print(f"{name:20} {line}")


if __name__ == "__main__":
    raise SystemExit(main())
