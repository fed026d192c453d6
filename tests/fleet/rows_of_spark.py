# SPDX-License-Identifier: GPL-2.0-or-later
"""`make fleet-spark`: the same statements on Spark, classic and Connect, give the same rows.

Needs a Java runtime (openjdk of Debian). FLEET_SPARK_HOSTS says how many hosts; FLEET_SPARK_REMOTE
names a Connect server that runs already.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyspark
import pytest
from benchmarks.fleet import million
from pyspark.sql import SparkSession

from staleline.fleet.judging import FleetQuestion
from staleline.fleet.result import AuditOptions, asked_fleet
from staleline.fleet.spark import fleet_rows
from staleline.fleet.store import TABLES, Fleet
from staleline.fleet.tables import engine
from tests.fleet.equality import fleet_of, some_hosts

# Connect's client asks for pandas, of which it says this; nothing here is of pandas.
pytestmark = pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas")
_HOSTS = int(os.environ.get("FLEET_SPARK_HOSTS", "20000"))
_NOW = 1_796_100_000
_SECONDS_TO_START, _SECONDS_TO_END = 120.0, 30.0


@contextmanager
def connect_server(directory: Path) -> Iterator[str]:
    """A Connect server of its own, on the loopback alone; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
    }
    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    command = [str(submit), "--master", "local[2]", "--driver-memory", "1g"]
    command += [word for one in settings.items() for word in ("--conf", "=".join(one))]
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer"]
    said = directory / "server.log"
    with said.open("wb") as log:
        server = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)
    try:
        _wait_for(port, server, said)
        yield f"sc://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes], said: Path) -> None:
    last = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < last and server.poll() is None:
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"no Connect server: {said.read_text()[-2000:]}")


@pytest.fixture(scope="module", params=["classic", "connect"])
def session(request, tmp_path_factory):
    with ExitStack() as stack:
        builder = SparkSession.builder
        if request.param == "connect":
            remote = os.environ.get("FLEET_SPARK_REMOTE")
            directory = tmp_path_factory.mktemp("connect")
            builder = builder.remote(remote or stack.enter_context(connect_server(directory)))
        else:
            builder = builder.master("local[2]").config("spark.ui.enabled", "false")
        found = builder.config("spark.sql.shuffle.partitions", "4").getOrCreate()
        stack.callback(found.stop)
        assert is_remote_session(found) == (request.param == "connect")
        yield found


def is_remote_session(session) -> bool:
    return type(session).__module__.startswith("pyspark.sql.connect.")


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
