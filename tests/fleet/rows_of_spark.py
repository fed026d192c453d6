# SPDX-License-Identifier: GPL-2.0-or-later
"""`make fleet-spark`: the same statements on Spark give the same rows, both ways.

Needs a Java runtime (openjdk of Debian). FLEET_SPARK_HOSTS says how many hosts.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from benchmarks.fleet import million
from pyspark.sql import SparkSession

from staleline.fleet.judging import FleetQuestion
from staleline.fleet.result import AuditOptions, asked_fleet
from staleline.fleet.spark import fleet_rows
from staleline.fleet.store import TABLES, Fleet
from staleline.fleet.tables import engine
from tests.fleet.equality import fleet_of, some_hosts

_HOSTS = int(os.environ.get("FLEET_SPARK_HOSTS", "20000"))
_NOW = 1_796_100_000


@pytest.fixture(scope="module")
def session():
    remote = os.environ.get("FLEET_SPARK_REMOTE")
    builder = SparkSession.builder.remote(remote) if remote else SparkSession.builder
    if not remote:
        builder = builder.master("local[2]").config("spark.ui.enabled", "false")
    found = builder.config("spark.sql.shuffle.partitions", "4").getOrCreate()
    yield found
    found.stop()


def with_views(session, fleet: Fleet) -> None:
    for table in TABLES:
        files = [str(path) for path in fleet.parts(table)]
        session.read.parquet(*files).createOrReplaceTempView(table)
    session.read.parquet(str(fleet.repeated)).createOrReplaceTempView("repeated")


def differing(fleet: Fleet, session, options: AuditOptions, tmp_path: Path) -> tuple[int, int, int]:
    """How many rows there are, and how many only one of both has."""
    with_views(session, fleet)
    fleet_rows(session, options).write.mode("overwrite").parquet(str(tmp_path / "spark"))
    with asked_fleet(fleet.directory, options) as asked:
        asked.write_rows(tmp_path / "duckdb.parquet")
        columns = ", ".join(name for name in asked.columns if name != "flush_ms")
    own = f"SELECT {columns}, ROUND(flush_ms, 6) AS flush_ms FROM '{tmp_path}/duckdb.parquet'"
    other = f"SELECT {columns}, ROUND(flush_ms, 6) AS flush_ms FROM '{tmp_path}/spark/*.parquet'"
    with engine() as running:
        return tuple(
            running.value(f"SELECT COUNT(*) FROM ({text})")
            for text in (own, f"{own} EXCEPT ALL {other}", f"{other} EXCEPT ALL {own}")
        )


def test_rows_of_a_drawn_fleet(session, tmp_path):
    fleet = million(tmp_path / "fleet", _HOSTS)
    options = AuditOptions(now=_NOW)
    assert differing(fleet, session, options, tmp_path) == (_HOSTS, 0, 0)


@pytest.mark.parametrize(
    "options",
    [
        AuditOptions(now=_NOW),
        AuditOptions(now=_NOW, max_age=60),
        AuditOptions(FleetQuestion(kernel="linux-6.18"), now=_NOW),
    ],
)
def test_rows_with_faults_and_hosts_told_twice(session, tmp_path, options):
    hosts = some_hosts(20, seed=8)
    again = {f"{name}-again": text for name, text in list(hosts.items())[:6]}
    again["node0-again"] = hosts["node0"].replace("2026-11-30T06:00", "2026-11-30T07:00")
    again["node1-again"] = hosts["node1"].replace("2026-11-30T06", "2036-11-30T06")
    again["cut"] = hosts["node2"][:700]
    fleet = Fleet(fleet_of(hosts | again, tmp_path))
    count, *others = differing(fleet, session, options, tmp_path)
    assert (count, others) == (21, [0, 0])
