# SPDX-License-Identifier: GPL-2.0-or-later
"""However hosts are counted, all are, and nothing that could not be read is left out."""

from __future__ import annotations

import csv
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from staleline.cli.main import main
from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import with_given
from staleline.evidence.hosts.snapshot_json import snapshot_text, to_json
from staleline.fleet.statements import COLUMNS
from tests.conftest import RealKernel
from tests.documents import document_of

CPUID = Path(__file__).parents[1] / "data" / "cpuid"
ROME = CPUID / "libcpuid/amd-epyc-7742-64-core-processor-dual.test"
NEHALEM = CPUID / "libcpuid/intel-xeon-cpu-e5520.test"


def run(capsys, *arguments: object, status: int | None = None) -> str:
    ended = main(["fleet", *map(str, arguments)])
    assert status in (None, ended)
    return str(capsys.readouterr().out)


def told(name: str, machine: Path = NEHALEM, **more: object) -> str:
    return json.dumps({**to_json(read_snapshot(machine)), "host": name, **more})


@pytest.fixture
def fleet(tmp_path, capsys) -> Path:
    """Two hosts that were read, one that contradicts itself, and a file of nobody's."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.json").write_text(told("a"))
    (folder / "b.json").write_text(told("b", ROME))
    cpus = [to_json(read_snapshot(machine))["cpus"][0] for machine in (ROME, NEHALEM)]
    (folder / "c.json").write_text(told("c", cpus=cpus))
    (folder / "d.json").write_text("{")
    run(capsys, "add", folder, "--into", tmp_path / "fleet", "--jobs", 1, "--quiet", status=3)
    return tmp_path / "fleet"


def with_inventory(capsys, fleet: Path, *lines: str) -> None:
    file = fleet.parent / "owners.csv"
    file.write_text("\n".join(lines))
    run(capsys, "add", "--into", fleet, "--inventory", file, "--quiet")


def test_hosts_that_could_not_be_read_count_for_their_owners(fleet, capsys):
    with_inventory(capsys, fleet, "host,team", "a,x", "b,y", "c,x")
    document = document_of(run(capsys, "audit", fleet, "--by", "team", "--json"))
    unknown = {row["value"]: row["unknown"] for row in document["by"]["team"]}
    assert unknown == {"x": 2, "y": 1, None: 1}
    assert {row["host"]: row["team"] for row in document["rows"]}["c"] == "x"
    for counted in (document["groups"], document["by"]["team"]):
        assert sum(row["hosts"] for row in counted) == document["hosts"] == 4
    pairs = document_of(run(capsys, "pairs", fleet, "--next", "on", "--json"))["pairs"]
    assert sum(row["unknown"] for row in pairs) == 4

    text = run(capsys, "audit", fleet, "--by", "team", "--format", "prometheus")
    metrics = {one.name: one.samples for one in text_string_to_metric_families(text)}
    for name in ("hosts", "kernel_hosts", "group_hosts"):
        samples = metrics[f"staleline_fleet_{name}"]
        assert sum(one.value for one in samples if one.labels["verdict"] == "unknown") == 4
    # A host without a value is told from one whose owner calls it so.
    assert {one.labels["value"] for one in metrics["staleline_fleet_group_hosts"]} == {"x", "y", ""}


def _words_of_sql() -> list[str]:
    with duckdb.connect() as connection:
        rows = connection.execute("SELECT keyword_name FROM duckdb_keywords()").fetchall()
    return [row[0] for row in rows]


#: Columns of the tables within, and of what is counted.
_OURS = (
    *("hardware", "old", "conflict", "again", "time", "file", "place", "subject", "profile"),
    *("hosts", "at_risk", "unknown", "safe", "flush_unknown", "value", "own_0", "reason"),
)


def test_an_owners_column_may_be_called_anything(fleet, capsys):
    names = [*dict.fromkeys((*_OURS, *_words_of_sql())), "=SUM(A1)", "-1", "a b", 'a"b']
    # Two columns of one name in a row would be one that is lost.
    names = [name for name in names if name not in COLUMNS]
    # `Hosts` and `hosts` are one name in SQL.
    for several in (names[start : start + 90] for start in range(0, len(names), 90)):
        quoted = ['"' + name.replace('"', '""') + '"' for name in several]
        own = [f"{name} of a" for name in several]
        line = ",".join('"' + text.replace('"', '""') + '"' for text in own)
        with_inventory(capsys, fleet, f"host,{','.join(quoted)}", f"a,{line}")
        by = [f"--by={name}" for name in several]
        document = document_of(run(capsys, "audit", fleet, "--json", *by))
        for name, text in zip(several, own, strict=True):
            assert {row["value"] for row in document["by"][name]} == {text, None}
            (row,) = (row for row in document["rows"] if row["host"] == "a")
            assert row[name] == text


def test_no_cell_of_a_table_is_a_formula(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    # What CPUID says of its vendor is a hypervisor's choice, as a host's name is its owner's.
    dump = ROME.read_text().replace("AuthenticAMD", "=cmd|' /C '!")
    (folder / "a.json").write_text(told("=HYPERLINK(0)"))
    (folder / "b.json").write_text(dump)
    fleet = tmp_path / "fleet"
    run(capsys, "add", folder, "--into", fleet, "--jobs", 1, "--quiet")
    with_inventory(capsys, fleet, 'host,"=1+1",rack', "=HYPERLINK(0),@x,-7")
    rows = tmp_path / "rows.csv"
    run(capsys, "audit", fleet, "-o", rows)
    lines = list(csv.reader(rows.read_text().splitlines()))
    assert [cell for line in lines for cell in line if re.match(r"[=+@\t\r-]", cell)] == []
    assert "'=1+1" in lines[0]
    assert {"'@x", "'-7", "'=HYPERLINK(0)"} <= {cell for line in lines for cell in line}


def _parquet(file: Path) -> None:
    pq.write_table(pa.table({"snapshot": pa.array([], pa.string())}), file)


EMPTY = {
    "table.parquet": _parquet,
    "nothing.json": lambda file: file.write_text(""),
    "lines.jsonl": lambda file: file.write_text("\n\n"),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_input_that_holds_no_host_is_a_fault(name, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    EMPTY[name](tmp_path / "in" / name)
    fleet = tmp_path / "fleet"
    run(capsys, "add", tmp_path / "in", "--into", fleet, "--jobs", 1, "--quiet", status=3)
    (fault,) = document_of(run(capsys, "audit", fleet, "--json"))["faults"]
    assert name in fault["file"]


def steps(text: str) -> list[str]:
    """What to do next, each on one line."""
    _, _, rest = text.partition("What to do next\n")
    told, _, _ = rest.partition("\n\n")
    return [" ".join(step.split()) for step in re.split(r"\n?  \d+\. ", f"\n{told}")[1:]]


def test_hosts_that_nobody_could_read_hide_no_other_unknown_host(fleet, capsys):
    told_steps = steps(run(capsys, "audit", fleet))
    assert told_steps[0].startswith("No single fact settles the 2 unknown hosts: ")
    assert told_steps[1] == "Could not be read: 2 records. Collect them again."


def test_a_fleet_without_hosts_is_not_cleared(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    run(capsys, "add", tmp_path / "in", "--into", tmp_path / "fleet")
    text = run(capsys, "audit", tmp_path / "fleet")
    assert text.startswith("UNKNOWN for a fleet of 0 hosts")
    (step,) = steps(text)
    assert step.startswith("There is no host.")
    for command in re.findall(r"`staleline ([^`]*)`", step):
        assert str(tmp_path / "fleet") in shlex.split(command)


def test_of_evidence_that_is_too_old_nothing_is_said_to_break(tmp_path, capsys):
    # linux 7.3.4 arch/x86/kernel/cpu/hygon.c does not set the flag that 6.18 flushes by.
    (tmp_path / "in").mkdir()
    hygon = read_snapshot(CPUID / "registers/hygon-c86-3250.cpuid")
    given = with_given(
        replace(hygon, host="h", collected="2026-01-01T00:00:00Z"),
        msr=["0xc0010010=0x800000"],
        cmdline="mem_encrypt=on",
        state=["offline_cpus=none", "sev_guests_run=no"],
    )
    (tmp_path / "in" / "h.json").write_text(snapshot_text(given))
    fleet = tmp_path / "fleet"
    run(capsys, "add", tmp_path / "in", "--into", fleet, "--jobs", 1, "--quiet")
    asked = ("audit", fleet, "--kernel", "linux-6.18", "--json")
    fresh = document_of(run(capsys, *asked, status=2))
    assert "kexec:P1" in fresh["rows"][0]["broken"]
    old = document_of(run(capsys, *asked, "--max-age", "30d", status=3))
    for row in (old["rows"][0], old["groups"][0]):
        assert (row["verdict"], row["broken"]) == ("unknown", "")
    assert old["rows"][0]["missing"] == "evidence-too-old"


def test_rows_are_no_document(fleet, tmp_path, capsys):
    file = str(tmp_path / "rows.csv")
    assert main(["fleet", "audit", str(fleet), "--json", "-o", file]) == 1
    assert "leave one of them out" in capsys.readouterr().err
    assert not Path(file).exists()


def test_what_is_and_what_if_are_not_compared_in_silence(fleet, tmp_path, capsys):
    old, new = tmp_path / "old.parquet", tmp_path / "new.parquet"
    run(capsys, "audit", fleet, "-o", old)
    run(capsys, "audit", fleet, "-o", new, "--kernel", "linux-6.5", "--next", "on")
    same = run(capsys, "diff", old, old)
    assert "what was asked differs" not in same
    text = " ".join(run(capsys, "diff", old, new).split())
    assert "before each with its own kernel; next kernel: any; now what if: linux-6.5" in text
    asked = document_of(run(capsys, "diff", old, new, "--json"))["asked"]
    assert (asked["old"]["kernel"], asked["new"]["kernel"]) == (None, "linux-6.5")


def test_each_row_of_a_table_says_what_was_asked(
    fleet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CSV has no place but its rows, and one of a what-if is none of the host as it is."""
    file = tmp_path / "rows.csv"
    told = []
    for asked in ((), ("--kernel", "linux-6.5", "--next", "on")):
        run(capsys, "audit", fleet, "-o", file, *asked)
        rows = list(csv.DictReader(file.read_text().splitlines()))
        assert rows
        told += list({(row["what_if"], row["next_kernel"], row["append"]) for row in rows})
    assert told == [("", "any", ""), ("linux-6.5", "on", "")]


def test_an_inventory_has_no_column_of_what_was_asked(fleet: Path, tmp_path: Path) -> None:
    file = tmp_path / "owners.csv"
    file.write_text("host,what_if\nnode1,x\n")
    given = ("--into", str(fleet), "--inventory", str(file), "--key", "host")
    assert main(["fleet", "add", *given]) == 1


def test_the_next_kernels_command_line_and_the_age_are_part_of_what_was_asked(
    fleet: Path, capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    image = str(real_kernels["6.12"].path)
    questions = (
        ("--next", image),
        ("--next", image, "--append", ""),
        ("--next", image, "--append", "mem_encrypt=on"),
        ("--next", image, "--max-age", "30d"),
    )
    samples = [
        (sample.name, tuple(sorted(sample.labels.items())))
        for question in questions
        for family in text_string_to_metric_families(
            run(capsys, "audit", fleet, *question, "--format", "prometheus")
        )
        for sample in family.samples
    ]
    assert len(samples) == len(set(samples))
    (*_, document) = (
        document_of(run(capsys, "audit", fleet, *question, "--json")) for question in questions[:3]
    )
    assert document["asked"]["append"] == "mem_encrypt=on"
    text = run(capsys, "audit", fleet, *questions[2])
    assert "its command line 'mem_encrypt=on'" in " ".join(text.split())
