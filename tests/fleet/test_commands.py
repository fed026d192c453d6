# SPDX-License-Identifier: GPL-2.0-or-later
"""`staleline fleet`: documents by schema, statuses, inventories, images, and what changed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import sqlglot
import yaml
from prometheus_client.parser import text_string_to_metric_families

from staleline.cli.main import main
from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.given import with_given
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.fleet import statements
from staleline.fleet.intake.adding import AddOptions, add_to_fleet
from staleline.fleet.profile import essential_words
from staleline.fleet.statements import Outlook
from staleline.kernel.image.assembly import load_image
from tests.conftest import RealKernel
from tests.documents import document_of
from tests.fleet.equality import fleet_of, some_hosts

CPUID = Path(__file__).parents[1] / "data" / "cpuid"
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NOW = ("--now", "1796040000")


@pytest.fixture(scope="module")
def hosts() -> dict[str, str]:
    return some_hosts(25, seed=11)


@pytest.fixture(scope="module")
def fleet(hosts, tmp_path_factory) -> Path:
    return fleet_of(hosts, tmp_path_factory.mktemp("commands"))


def run(capsys, *arguments: object) -> tuple[int, str]:
    status = main(["fleet", *map(str, arguments)])
    return status, capsys.readouterr().out


def test_documents_follow_their_schemas(fleet, hosts, capsys, tmp_path):
    status, text = run(capsys, "audit", fleet, "--json", *NOW)
    audited = document_of(text)
    assert status == 2
    assert audited["hosts"] == len(audited["rows"]) == len(hosts)
    assert sum(group["hosts"] for group in audited["groups"]) == len(hosts)
    assert (
        document_of(run(capsys, "missing", fleet, "--json", *NOW)[1])["missing"]
        == (audited["missing"])
    )
    pairs = document_of(run(capsys, "pairs", fleet, "--next", "on", "--next", "off", "--json")[1])
    assert {row["next"] for row in pairs["pairs"]} == {"on", "off"}
    for kernel, name in ((None, "own"), ("linux-6.18", "other")):
        wanted = [] if kernel is None else ["--kernel", kernel]
        run(capsys, "audit", fleet, *wanted, *NOW, "-o", tmp_path / f"{name}.parquet")
    status, text = run(
        capsys, "diff", tmp_path / "own.parquet", tmp_path / "other.parquet", "--json"
    )
    changed = document_of(text)
    assert changed["hosts"] == {"old": len(hosts), "new": len(hosts)}
    assert any("rule: " in word for one in changed["changes"] for word in one["by"])
    same = run(capsys, "diff", tmp_path / "own.parquet", tmp_path / "own.parquet", "--json")
    assert (same[0], document_of(same[1])["changes"]) == (0, [])


def compared(capsys, snapshot, folder):
    """Status and text of `fleet diff` of a host before and after it was told reboot=force."""
    for name, forced in (("old", False), ("new", True)):
        told = replace(snapshot, state=replace(snapshot.state, reboot_force=forced))
        (folder / name).mkdir()
        (folder / name / "a.json").write_text(snapshot_text(told))
        add_to_fleet(folder / f"of-{name}", [str(folder / name)], AddOptions(jobs=1))
        out = folder / f"{name}.parquet"
        run(capsys, "audit", folder / f"of-{name}", "-o", out, "--kernel", "linux-6.5")
    return run(capsys, "diff", folder / "old.parquet", folder / "new.parquet")


def test_what_changed_is_told_by_the_fact(hosts, tmp_path, capsys):
    status, text = compared(capsys, parse_snapshot(hosts["node2"], "node2"), tmp_path)
    assert (status, "1 worse, 0 the same" in text) == (2, True)
    assert "  safe → at-risk  reboot_force: no → yes" in text


def test_a_path_that_is_worse_is_told_where_the_other_is_at_risk_before_and_after(tmp_path, capsys):
    rome = read_snapshot(CPUID / "libcpuid" / "amd-epyc-7742-64-core-processor-dual.test")
    given = with_given(
        replace(rome, host="rome"),
        msr=["0xc0010010=0x800000"],
        cmdline="mem_encrypt=on",
        state=["sev_guests_run=no", "offline_cpus=none"],
    )
    status, text = compared(capsys, given, tmp_path)
    assert (status, "1 worse, 0 the same" in text) == (2, True)
    assert "  kexec safe → at-risk  reboot_force: no → yes" in text


def test_statuses(fleet, hosts, tmp_path, capsys):
    assert run(capsys, "audit", fleet, "--fail-on", "nothing")[0] == 0
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "nothing.json").write_text("")
    assert run(capsys, "add", tmp_path / "in", "--into", tmp_path / "bad", "--jobs", "1")[0] == 3
    assert run(capsys, "audit", tmp_path / "bad")[0] == 1
    assert main(["fleet", "audit", str(tmp_path / "nowhere")]) == 1
    assert "is no fleet" in capsys.readouterr().err


def test_metrics_have_what_dashboard_and_alerts_ask_for(fleet, capsys):
    _, text = run(capsys, "audit", fleet, "--format", "prometheus", *NOW)
    metrics = {one.name: one for one in text_string_to_metric_families(text)}
    labels = {name: set(one.samples[0].labels) for name, one in metrics.items() if one.samples}
    alerts = yaml.safe_load((EXAMPLES / "fleet-alerts.yaml").read_text())
    dashboard = json.loads((EXAMPLES / "fleet-dashboard.json").read_text())
    asked = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    asked += [one["expr"] for panel in dashboard["panels"] for one in panel["targets"]]
    assert len(asked) > 8
    for expression in asked:
        found = re.findall(r"(staleline_\w+)(?:\{([^}]*)\})?", expression)
        assert found, expression
        for name, inside in found:
            assert name in metrics, name
            wanted = {label.split("=")[0].strip() for label in inside.split(",") if label}
            assert wanted <= labels[name], expression
    pods = yaml.safe_load((EXAMPLES / "fleet-daemonset.yaml").read_text())
    assert pods["kind"] == "DaemonSet"
    assert "--slim" in pods["spec"]["template"]["spec"]["containers"][0]["args"][0]


def test_the_owners_columns_are_counted_by_and_in_rows(hosts, tmp_path, capsys):
    fleet = fleet_of(hosts, tmp_path)
    file = tmp_path / "cmdb.csv"
    named = [f"{name},{'Berlin' if n % 2 else 'Oslo'}" for n, name in enumerate(hosts)][:-3]
    file.write_text("\n".join(["hostname,site", *named]))
    _, text = run(capsys, "add", "--into", fleet, "--inventory", file, "--key", "hostname")
    assert "3 hosts of the fleet are not in it" in text
    found = document_of(run(capsys, "audit", fleet, "--by", "site", "--json")[1])
    assert {row["value"]: row["hosts"] for row in found["by"]["site"]} == {
        "Berlin": 11,
        "Oslo": 11,
        None: 3,
    }
    assert {row["site"] for row in found["rows"]} == {"Berlin", "Oslo", None}
    assert main(["fleet", "audit", str(fleet), "--by", "rack"]) == 1
    assert "give one of site" in capsys.readouterr().err
    file.write_text("hostname,site\nnode1,a\nnode1,b\n")
    assert main(
        ["fleet", "add", "--into", str(fleet), "--inventory", str(file), "--key", "hostname"]
    )
    assert "twice" in capsys.readouterr().err


def test_hosts_get_the_image_of_their_build(
    hosts, tmp_path, capsys, real_kernels: dict[str, RealKernel]
):
    kernel = real_kernels["6.12"]
    image = load_image(str(kernel.path))
    folder = tmp_path / "kernels"
    folder.mkdir()
    (folder / "vmlinuz").symlink_to(kernel.path)
    (folder / "README").write_text("no image")
    told = {}
    for number, build in enumerate((image.build_id, None, "ab" * 20)):
        snapshot = parse_snapshot(hosts["node0"], "a host")
        running = replace(snapshot.kernel, release=image.release, build_id=build)
        told[f"host{number}"] = snapshot_text(
            replace(snapshot, host=f"host{number}", kernel=running)
        )
    fleet = fleet_of(told, tmp_path)
    status = main(["fleet", "audit", str(fleet), "--kernels", str(folder), "--json"])
    captured = capsys.readouterr()
    assert status in (0, 2, 3)
    assert "README" in captured.err
    evidence = {row["host"]: row["kernel_evidence"] for row in document_of(captured.out)["rows"]}
    assert evidence == {
        "host0": "image, by build ID",
        "host1": "image, by release",
        "host2": "release",
    }


DIALECTS = ("spark", "trino", "clickhouse")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "outlook",
    [
        Outlook(now=1),
        Outlook(now=1, max_age=60, again=True, doubtful=1, inventory=("site",), by_profile=True),
    ],
)
def test_statements_are_understood_elsewhere(dialect, outlook):
    """Each is parsed as DuckDB has it, written in another dialect, and parsed as that."""
    texts = [
        statements.rows(outlook),
        statements.counted_table(outlook),
        statements.judged(outlook),
    ]
    texts += [statements.told_again(outlook), statements.LATEST_FAULTS, statements.CHANGED]
    texts += [statements.grouped(("verdict", "release")), statements.OPEN]
    for text in texts:
        (written,) = sqlglot.transpile(text, read="duckdb", write=dialect)
        assert sqlglot.parse_one(written, read=dialect)
        assert sqlglot.parse_one(text, read="spark")


def test_words_that_nothing_reads_are_left_out():
    line = "BOOT_IMAGE=/v root=UUID=1 ro mem_encrypt=on quiet reboot=pci -- sh mem_encrypt=off"
    assert essential_words(line) == "mem_encrypt=on reboot=pci -- mem_encrypt=off"
    assert essential_words('foo="a b" ro') == 'foo="a b" ro'
