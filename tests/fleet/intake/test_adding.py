# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing is lost on the way into a fleet, whatever lies among the files and whoever is killed."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from staleline.cli.main import main
from staleline.errors import UsageError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.evidence.snapshot import KernelEvidence
from staleline.fleet.intake import adding, sources
from staleline.fleet.intake.adding import AddOptions, add_to_fleet
from staleline.fleet.intake.records import records
from staleline.fleet.intake.sources import listed
from staleline.fleet.judging import FleetQuestion
from staleline.fleet.result import AuditOptions, asked_fleet
from staleline.fleet.store import TABLES, created, opened
from tests.evidence.writers import KMSG, SME_ACTIVE
from tests.fleet.equality import some_hosts

ONE = AddOptions(jobs=1)
NOW = 1_796_040_000  # some hours after the hosts were collected
TIME = "2026-11-30T06:00:00Z"


@pytest.fixture(scope="module")
def hosts() -> dict[str, str]:
    return some_hosts(12, seed=4)


def rows_of(fleet: Path, **options) -> dict[str, dict[str, Any]]:
    with asked_fleet(fleet, AuditOptions(now=NOW, **options)) as asked:
        return {row["host"]: row for row in asked.rows()}


def told(text: str, **changes) -> str:
    """The same host, told otherwise."""
    snapshot = parse_snapshot(text, "a host")
    kernel = replace(snapshot.kernel, **{k: changes.pop(k) for k in ("release",) if k in changes})
    return snapshot_text(replace(snapshot, kernel=kernel, **changes))


def written(folder: Path, texts: Mapping[str, str | bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def with_field(text: str, **fields: object) -> str:
    return json.dumps({**json.loads(text), **fields})


def tar_of(texts: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        for name, content in texts.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return sink.getvalue()


@pytest.fixture(scope="module")
def faults(hosts) -> dict[str, bytes]:
    """One of each fault."""
    text = hosts["node0"]
    found = json.loads(text)
    contradicting = with_field(
        hosts["node1"], state={"tsme": True}, cpuinfo={"vendor": "GenuineIntel"}
    )
    texts = {
        "cut.json": text[: len(text) // 2],
        "empty.json": "",
        "blank.txt": "\n\n",
        "foreign.txt": "Dear all,\nattached is the list of hosts.\n",
        "contradicting.json": contradicting,
        "schema-of-tomorrow.json": with_field(text, schema="staleline/snapshot/2"),
        "misspelt.json": with_field(text, kernal={}),
        "twice.json": text.replace('"host":', '"host": "another",\n "host":', 1),
        "null-byte.json": text.replace("node0", "no\0de"),
        "deep.json": '{"a":' * 100_000,
        "number.json": "17",
    }
    assert found["schema"] == "staleline/snapshot/1"
    return {
        **{name: content.encode() for name, content in texts.items()},
        "binary": bytes(range(256)) * 9,
        "cut.tar.gz": tar_of({"a.json": text.encode()})[:-40],
        "cut.json.gz": gzip.compress(text.encode())[:-9],
        "no-snapshot.parquet": _parquet({"text": ["x"]}),
        "cut.parquet": _parquet({"snapshot": [text]})[:-30],
        "no-row.parquet": _parquet({"snapshot": pa.array([], pa.string())}),
    }


def _parquet(columns: Mapping[str, Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_every_fault_is_counted_and_named_in_every_format(hosts, faults, tmp_path, capsys):
    good = {f"{name}.json": text for name, text in hosts.items()}
    source = written(tmp_path / "in", good | faults)
    fleet = tmp_path / "fleet"
    added = add_to_fleet(fleet, [str(source)], ONE)
    assert (added.hosts, added.quarantined) == (len(hosts), len(faults))
    with asked_fleet(fleet, AuditOptions(now=NOW)) as asked:
        rows = asked.rows()
    assert len(rows) == len(hosts) + len(faults)
    assert sum(row["verdict"] == "unknown" for row in rows) >= len(faults)
    assert main(["fleet", "audit", str(fleet), "--json", "--fail-on", "nothing"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {Path(one["file"]).name for one in document["faults"]} == set(faults)
    assert all(one["reason"] for one in document["faults"])
    assert sum(document["counts"].values()) == len(rows) == len(document["rows"])
    main(["fleet", "audit", str(fleet)])
    text = capsys.readouterr().out
    assert f"Not read, and counted as unknown: {len(faults)}" in text
    page = tmp_path / "page.html"
    main(["fleet", "page", str(fleet), "-o", str(page)])
    html = page.read_text()
    for name in faults:
        assert name in html
    rows_file = tmp_path / "rows.csv"
    main(["fleet", "audit", str(fleet), "-o", str(rows_file)])
    assert all(name in rows_file.read_text() for name in faults)


def test_all_kinds_of_sources_tell_the_same(hosts, tmp_path):
    plain = written(tmp_path / "plain", {f"{name}.json": text for name, text in hosts.items()})
    lines = "".join(json.dumps(json.loads(text)) + "\n" for text in hosts.values())
    others = {
        "tar": {"all.tar.gz": tar_of({f"a/{n}.json": t.encode() for n, t in hosts.items()})},
        "lines": {"all.ndjson": lines.encode()},
        "parquet": {"all.parquet": _parquet({"snapshot": list(hosts.values()), "n": [1] * 12})},
        "packed": {f"{n}.gz": gzip.compress(t.encode()) for n, t in hosts.items()},
    }
    add_to_fleet(tmp_path / "of-plain", [str(plain)], ONE)
    compared = ("verdict", "class", "rule", "missing", "flush_ms", "collected", "release")
    wanted = {
        host: [row[c] for c in compared] for host, row in rows_of(tmp_path / "of-plain").items()
    }
    assert len(wanted) == len(hosts)
    for kind, files in others.items():
        source = written(tmp_path / kind, files)
        add_to_fleet(tmp_path / f"of-{kind}", [str(source)], ONE)
        rows = rows_of(tmp_path / f"of-{kind}")
        assert {host: [row[c] for c in compared] for host, row in rows.items()} == wanted, kind
    memory = fsspec.filesystem("memory")
    for name, text in hosts.items():
        memory.pipe(f"/hosts/{name}.json", text.encode())
    found = list(listed(["memory://hosts"]))
    assert [next(iter(records(one))).text for one in found] == [
        hosts[name] for name in sorted(hosts, key=lambda name: f"{name}.json")
    ]


def test_large_lines_are_read_in_pieces_without_loss(hosts, tmp_path, monkeypatch):
    lines = [json.dumps(json.loads(text)) for text in hosts.values()]
    file = tmp_path / "all.ndjson"
    file.write_text("\n".join(lines))
    monkeypatch.setattr(sources, "_PIECE", 7001)
    pieces = list(listed([str(file)]))
    assert len(pieces) > 3
    digests = [record.digest for piece in pieces for record in records(piece)]
    monkeypatch.undo()
    (whole,) = listed([str(file)])
    assert digests == [record.digest for record in records(whole)]
    assert len(digests) == len(hosts)


def test_the_newest_of_several_holds_and_both_are_named(hosts, tmp_path):
    text = told(hosts["node0"], collected=TIME)
    newer = told(text, collected="2026-11-30T07:00:00Z", release="5.4.0-216-generic")
    source = written(tmp_path / "in", {"old.json": text, "new.json": newer})
    add_to_fleet(tmp_path / "fleet", [str(source)], ONE)
    (row,) = rows_of(tmp_path / "fleet").values()
    assert row["release"] == "5.4.0-216-generic"
    assert "new.json" in row["note"]
    assert "old.json" in row["note"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (TIME, TIME),
        (None, TIME),
        (None, None),
        ("yesterday", TIME),
        ("2031-01-01T00:00:00Z", TIME),
        ("2026-11-30T06:30:00", TIME),
        ("1970-01-01T00:10:00Z", TIME),
    ],
)
def test_what_nothing_puts_in_order_is_a_contradiction(hosts, tmp_path, first, second):
    text = told(hosts["node0"], collected=first, release="6.12.117+deb13-amd64")
    other = told(text, collected=second, release="5.4.0-216-generic")
    source = written(tmp_path / "in", {"a.json": text, "b.json": other})
    add_to_fleet(tmp_path / "fleet", [str(source)], ONE)
    (row,) = rows_of(tmp_path / "fleet").values()
    assert (row["verdict"], row["missing"]) == ("unknown", "told-twice-differently")
    assert "a.json" in row["note"]
    assert "b.json" in row["note"]


def test_evidence_that_another_kernel_reads_otherwise_is_a_contradiction_under_it(hosts, tmp_path):
    """A 6.1's three readers of mem_encrypt= differ in the second line, and know no default.

    Under a 6.12 the first line is off and the second on (linux 6.12.117
    arch/x86/boot/compressed/misc.c parse_mem_encrypt(): where each word first stands).
    """
    lines = {"a.json": "quiet", "b.json": "mem_encrypt=on mem_encrypt=foo"}
    host = replace(parse_snapshot(hosts["node0"], "a host"), collected=TIME, log=None)
    running = KernelEvidence(release="6.1.0-50-amd64")
    texts = {
        name: snapshot_text(replace(host, kernel=replace(running, cmdline=line)))
        for name, line in lines.items()
    }
    add_to_fleet(tmp_path / "fleet", [str(written(tmp_path / "in", texts))], ONE)
    (own,) = rows_of(tmp_path / "fleet").values()
    assert own["missing"] != "told-twice-differently"
    (row,) = rows_of(tmp_path / "fleet", question=FleetQuestion(kernel="6.12")).values()
    assert (row["verdict"], row["missing"]) == ("unknown", "told-twice-differently")
    assert "nothing tells which is newer" in row["note"]


def test_the_same_evidence_twice_is_no_contradiction(hosts, tmp_path):
    text = told(hosts["node0"], collected=TIME)
    alone = written(tmp_path / "alone", {"a.json": text})
    twice = written(tmp_path / "twice", {"a.json": text, "b.json": text})
    add_to_fleet(tmp_path / "of-alone", [str(alone)], ONE)
    add_to_fleet(tmp_path / "of-twice", [str(twice)], ONE)
    (row,), (again,) = (rows_of(tmp_path / f"of-{n}").values() for n in ("alone", "twice"))
    assert {**again, "note": ""} == {**row, "note": ""}


@pytest.mark.parametrize(
    ("collected", "word"),
    [
        (None, "nothing says when"),
        ("yesterday", "is no time"),
        ("2031-01-01T00:00:00Z", "lies in the future"),
        ("2026-11-30T06:00:00", "names no zone"),
        ("1970-01-01T00:10:00Z", "clock was not set"),
    ],
)
def test_a_time_that_is_none_is_told_and_not_trusted(hosts, tmp_path, collected, word):
    text = told(hosts["node0"], collected=collected)
    add_to_fleet(tmp_path / "fleet", [str(written(tmp_path / "in", {"a": text}))], ONE)
    (row,) = rows_of(tmp_path / "fleet").values()
    assert word in row["note"]
    (row,) = rows_of(tmp_path / "fleet", max_age=86400).values()
    assert (row["verdict"], row["missing"]) == ("unknown", "evidence-too-old")


@pytest.mark.parametrize(("ahead", "doubtful"), [(0, 0), (299, 0), (301, 1)])
def test_a_clock_that_is_a_little_ahead_is_trusted_and_not_said_to_be_doubted(
    hosts, tmp_path, ahead, doubtful
):
    at = datetime.fromtimestamp(NOW + ahead, UTC).isoformat()
    text = told(hosts["node0"], collected=at)
    add_to_fleet(tmp_path / "fleet", [str(written(tmp_path / "in", {"a": text}))], ONE)
    with asked_fleet(tmp_path / "fleet", AuditOptions(now=NOW)) as asked:
        (row,) = asked.rows()
        assert asked.doubtful == doubtful
        assert ("lies in the future" in row["note"]) == bool(doubtful)


def test_old_evidence_tells_nothing_beyond_its_age(hosts, tmp_path):
    text = told(hosts["node0"], collected=TIME, release="4.14.336")
    add_to_fleet(tmp_path / "fleet", [str(written(tmp_path / "in", {"a": text}))], ONE)
    (plain,) = rows_of(tmp_path / "fleet").values()
    (young,) = rows_of(tmp_path / "fleet", max_age=86400).values()
    (old,) = rows_of(tmp_path / "fleet", max_age=60).values()
    assert young["verdict"] == plain["verdict"]
    assert (old["verdict"], old["kexec"], old["missing"]) == (
        "unknown",
        "unknown",
        "evidence-too-old",
    )


def test_a_mended_file_replaces_its_fault(hosts, tmp_path):
    source = written(tmp_path / "in", {"a.json": hosts["node0"][:900]})
    fleet = tmp_path / "fleet"
    add_to_fleet(fleet, [str(source)], ONE)
    assert [row["missing"] for row in rows_of(fleet).values()] == ["not-read"]
    written(source, {"a.json": hosts["node0"]})
    assert add_to_fleet(fleet, [str(source)], ONE).hosts == 1
    assert list(rows_of(fleet)) == ["node0"]
    assert add_to_fleet(fleet, [str(source)], ONE).already == 1


def test_a_hosts_directory_that_changed_is_read_again(tmp_path):
    """Its own name, size and time were all that was held against what had been added."""
    host = tmp_path / "in" / "node"
    (host / "proc/sys/kernel").mkdir(parents=True)
    (host / "proc/sys/kernel/hostname").write_text("node\n")
    (host / "proc/cmdline").write_text("ro mem_encrypt=off\n")
    fleet = tmp_path / "fleet"
    counts = []
    for line in ("off", "off", "on"):
        if line == "on":
            (host / "proc/cmdline").write_text("ro mem_encrypt=on\n")
        added = add_to_fleet(fleet, [str(tmp_path / "in")], ONE)
        counts.append((added.hosts, added.already))
    assert counts == [(1, 0), (0, 1), (1, 0)]
    assert [row["missing"] for row in rows_of(fleet).values()] == ["told-twice-differently"]


def test_a_folder_that_cannot_be_listed_costs_no_other_file(hosts, tmp_path, monkeypatch):
    folder, fleet = tmp_path / "in", tmp_path / "fleet"
    written(folder, {"a.json": hosts["node0"]})
    written(folder / "lost+found", {"b.json": hosts["node1"]})
    listing = os.scandir

    def refusing(path):
        if Path(path).name == "lost+found":
            raise PermissionError(errno.EACCES, "Permission denied")
        return listing(path)

    # As root nothing is refused by its mode.
    with monkeypatch.context() as refused:
        refused.setattr(os, "scandir", refusing)
        added = add_to_fleet(fleet, [str(folder)], ONE)
    assert (added.hosts, added.quarantined) == (1, 1)
    (told_of,) = added.faults
    assert told_of[0] == str(folder / "lost+found")
    assert rows_of(fleet).keys() == {"node0", told_of[0]}
    # What was said of the folder holds until it could be listed.
    add_to_fleet(fleet, [str(folder)], ONE)
    assert rows_of(fleet).keys() == {"node0", "node1"}
    assert add_to_fleet(fleet, [str(folder)], ONE).inputs == 0


def test_a_fault_names_its_file_and_reason_however_long_names_are(hosts, tmp_path, capsys):
    # A cell has no file of its own, and a member's name may be longer than any reason.
    cells = _parquet({"snapshot": [None, "\0" * 9, "Dear all,"]})
    member = tar_of({"n" * 5000: b"\0" * 9})
    source = written(tmp_path / "in", {"cells.parquet": cells, "long.tar.gz": member})
    fleet, page, rows = tmp_path / "fleet", tmp_path / "page.html", tmp_path / "rows.csv"
    assert main(["fleet", "add", str(source), "--into", str(fleet)]) == 3
    shown = [capsys.readouterr().err]
    main(["fleet", "audit", str(fleet)])
    shown.append(capsys.readouterr().out)
    main(["fleet", "page", str(fleet), "-o", str(page)])
    main(["fleet", "audit", str(fleet), "-o", str(rows)])
    shown += [page.read_text(), rows.read_text()]
    for text in shown:
        for words in ("cells.parquet", "row 1", "row 2", "row 3", "holds no snapshot"):
            assert words in text
        assert text.count("is binary") >= 2
        assert "is of no known format" in text


def test_whole_snapshots_before_an_archives_damage_are_hosts(hosts, tmp_path):
    texts = {f"snapshots/{name}.json": text.encode() for name, text in hosts.items()}
    whole = gzip.decompress(tar_of(texts))
    (tmp_path / "cut.tar").write_bytes(whole[: whole.index(b"snapshots/node7")])
    added = add_to_fleet(tmp_path / "fleet", [str(tmp_path / "cut.tar")], ONE)
    assert (added.hosts, added.quarantined) == (7, 1)
    # A host's own archive that is cut is no host, and neither is a file in it.
    log = {"sos_commands/kernel/dmesg": KMSG.format(message=SME_ACTIVE).encode()}
    other = gzip.decompress(tar_of({**log, "sos_commands/kernel/uname_-a": b"Linux x"}))
    (tmp_path / "sos.tar").write_bytes(other[: other.index(b"sos_commands/kernel/uname") + 200])
    added = add_to_fleet(tmp_path / "sos", [str(tmp_path / "sos.tar")], ONE)
    assert (added.hosts, added.quarantined) == (0, 1)


def test_an_archive_without_files_is_a_fault(tmp_path):
    with tarfile.open(tmp_path / "hosts.tar", "w") as archive:
        folder = tarfile.TarInfo("hosts")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    added = add_to_fleet(tmp_path / "fleet", [str(tmp_path / "hosts.tar")], ONE)
    assert (added.hosts, added.quarantined) == (0, 1)


HOSTILE = (
    "\x1b[31mred",
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "ä" * 5000,
    "a\nb",
    "\u202ex",
)


def test_names_are_harmless_everywhere(hosts, tmp_path, capsys):
    texts = {f"{n}.json": told(hosts["node0"], host=name) for n, name in enumerate(HOSTILE)}
    fleet, page, rows = tmp_path / "fleet", tmp_path / "page.html", tmp_path / "rows.csv"
    add_to_fleet(fleet, [str(written(tmp_path / "in", texts))], ONE)
    assert len(rows_of(fleet)) == len(HOSTILE)
    main(["fleet", "audit", str(fleet)])
    main(["fleet", "audit", str(fleet), "--format", "prometheus"])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    main(["fleet", "page", str(fleet), "-o", str(page)])
    main(["fleet", "audit", str(fleet), "-o", str(rows)])
    assert "<script>alert" not in page.read_text()
    assert "\n=cmd" not in rows.read_text()
    assert "'=cmd" in rows.read_text()


# ---- what is written -----------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
from staleline.fleet.intake import sources
from staleline.fleet.intake.adding import AddOptions, add_to_fleet
if __name__ == "__main__":
    add_to_fleet(Path(sys.argv[1]), [sys.argv[2]], AddOptions(jobs=1, inputs_at_most=2))
"""


def tree_bytes(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def why_refused(fleet: Path) -> str:
    """Why nothing is read of it, once its killed writers have let go of the lock."""
    deadline = time.monotonic() + 30
    while True:
        with pytest.raises(UsageError) as refused:
            rows_of(fleet)
        if "another process" not in str(refused.value) or time.monotonic() > deadline:
            return str(refused.value)
        time.sleep(0.05)


def test_a_kill_at_any_moment_changes_no_byte(hosts, tmp_path):
    source = written(tmp_path / "in", {f"{name}.json": text for name, text in hosts.items()})
    script = tmp_path / "adding.py"
    script.write_text(SCRIPT)
    add_to_fleet(tmp_path / "whole", [str(source)], AddOptions(jobs=1, inputs_at_most=2))
    killed = tmp_path / "killed"
    command = [sys.executable, str(script), str(killed), str(source)]
    kills = 0
    for parts in (0, 2, 4):
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if (killed / "adding.json").exists() and (
                len(list(killed.glob("hosts/part-*"))) >= parts
            ):
                break
            time.sleep(0.002)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        if (killed / "adding.json").exists():
            assert "not finished" in why_refused(killed)
    assert kills
    (killed / "hosts" / ".part-000000.parquet.abc").write_bytes(b"half")
    time.sleep(1)  # the processes of the last one have let go of the lock
    add_to_fleet(killed, [str(source)], AddOptions(jobs=1, inputs_at_most=2))
    assert tree_bytes(killed) == tree_bytes(tmp_path / "whole")


def test_until_hosts_that_were_told_twice_are_known_nothing_is_asked(hosts, tmp_path, monkeypatch):
    texts = {"a.json": hosts["node0"], "b.json": told(hosts["node1"], host="node0")}
    source, fleet = str(written(tmp_path / "in", texts)), tmp_path / "fleet"
    monkeypatch.setattr(adding, "keep_repeated", lambda _: pytest.fail("killed here"))
    with pytest.raises(pytest.fail.Exception):
        add_to_fleet(fleet, [source], ONE)
    monkeypatch.undo()
    assert "not finished" in why_refused(fleet)
    assert add_to_fleet(fleet, [source], ONE).repeated == 1
    assert len(rows_of(fleet)) == 1


@pytest.mark.parametrize("table", [*TABLES, "repeated"])
def test_a_copy_that_lacks_a_part_is_refused_and_left_alone(hosts, tmp_path, table):
    fleet, source = tmp_path / "fleet", tmp_path / "in"
    add_to_fleet(fleet, [str(written(source, {"a.json": hosts["node0"]}))], ONE)
    add_to_fleet(fleet, [str(written(source, {"b.json": hosts["node1"]}))], ONE)
    # Copied in the order of names, any of these may be the first that is not there yet.
    (
        fleet / ("repeated.parquet" if table == "repeated" else f"{table}/part-000000.parquet")
    ).unlink()
    before = tree_bytes(fleet)
    more = str(written(tmp_path / "more", {"c.json": hosts["node2"]}))
    for attempt in (lambda: rows_of(fleet), lambda: add_to_fleet(fleet, [more], ONE)):
        with pytest.raises(UsageError, match=f"lacks {table}"):
            attempt()
    assert tree_bytes(fleet) == before


def test_a_copy_without_its_last_part_is_refused(hosts, tmp_path):
    fleet, source = tmp_path / "fleet", tmp_path / "in"
    add_to_fleet(fleet, [str(written(source, {"a.json": hosts["node0"]}))], ONE)
    add_to_fleet(fleet, [str(written(source, {"b.json": hosts["node1"]}))], ONE)
    for table in TABLES:
        (fleet / table / "part-000001.parquet").unlink()
    with pytest.raises(UsageError, match="lacks hosts/part-000001"):
        rows_of(fleet)


@pytest.mark.parametrize("name", ["hosts/part-000000.parquet", "repeated.parquet"])
def test_a_file_that_is_cut_is_refused(hosts, tmp_path, name):
    fleet = tmp_path / "fleet"
    add_to_fleet(fleet, [str(written(tmp_path / "in", {"a.json": hosts["node0"]}))], ONE)
    os.truncate(fleet / name, 100)
    with pytest.raises(UsageError, match=f"cannot be read: .*{name}"):
        rows_of(fleet)


def test_kept_verdicts_that_are_damaged_are_made_anew(hosts, tmp_path):
    fleet = tmp_path / "fleet"
    add_to_fleet(fleet, [str(written(tmp_path / "in", {"a.json": hosts["node0"]}))], ONE)
    before = rows_of(fleet)
    for kept in fleet.glob("verdicts*"):
        os.truncate(kept, 100)
    assert rows_of(fleet) == before


def test_rows_that_cannot_be_written_are_no_defect(hosts, tmp_path):
    fleet = tmp_path / "fleet"
    add_to_fleet(fleet, [str(written(tmp_path / "in", {"a.json": hosts["node0"]}))], ONE)
    with (
        asked_fleet(fleet, AuditOptions(now=NOW)) as asked,
        pytest.raises(UsageError, match="cannot be written"),
    ):
        asked.write_rows(tmp_path / "nowhere" / "rows.csv")


def test_a_fleet_that_is_written_to_is_locked(hosts, tmp_path):
    fleet = tmp_path / "fleet"
    source = str(written(tmp_path / "in", {"a.json": hosts["node0"]}))
    add_to_fleet(fleet, [source], ONE)
    before = tree_bytes(fleet)
    with created(fleet).locked(writing_to_it=True):
        with pytest.raises(UsageError, match="another process"):
            add_to_fleet(fleet, [source], ONE)
        with pytest.raises(UsageError, match="another process"):
            rows_of(fleet)
    assert tree_bytes(fleet) == before


def test_what_is_no_fleet_of_this_edition_is_refused_and_left_alone(hosts, tmp_path):
    source = str(written(tmp_path / "in", {"a.json": hosts["node0"]}))
    strange = written(tmp_path / "strange", {"thesis.tex": "years of work"})
    with pytest.raises(UsageError, match="is no fleet, and holds"):
        add_to_fleet(strange, [source], ONE)
    older = written(tmp_path / "older", {"fleet.json": '{"schema": "staleline/fleet/0"}'})
    for attempt in (lambda: add_to_fleet(older, [source], ONE), lambda: opened(older)):
        with pytest.raises(UsageError, match="another edition"):
            attempt()
    damaged = written(tmp_path / "damaged", {"fleet.json": "{"})
    with pytest.raises(UsageError, match="cannot be read"):
        opened(damaged)
    assert tree_bytes(strange) == {"thesis.tex": b"years of work"}
    with pytest.raises(UsageError, match="cannot be read"):
        add_to_fleet(tmp_path / "new", [str(tmp_path / "nothing-there")], ONE)


@pytest.mark.parametrize("source", ["{folder}/none", "memory://nothing-there"])
def test_a_source_without_a_file_is_refused(tmp_path, source):
    # A pattern or a copy that went wrong would otherwise be a fleet without these hosts.
    (tmp_path / "none/within").mkdir(parents=True)
    with pytest.raises(UsageError, match="holds no file"):
        list(listed([source.format(folder=tmp_path)]))
