# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline facts``: the JSON document and the text."""

from __future__ import annotations

import json
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from staleline.cli.facts import command
from staleline.cli.main import main
from staleline.evidence.detect import read_snapshot
from staleline.facts import from_snapshot
from staleline.report.machines.facts_json import facts_document

DATA = Path(__file__).parents[1] / "data" / "cpuid"
ROME = DATA / "libcpuid/amd-epyc-7742-64-core-processor-dual.test"
SCHEMA: dict[str, Any] = json.loads(
    files("staleline").joinpath("schemas/facts-1.json").read_text("utf-8")
)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_document_of_a_rome_server() -> None:
    document = json.loads(run(str(ROME), "--json"))
    assert document["schema"] == "staleline/facts/1"
    (machine,) = document["machines"]
    assert {name: machine[name] for name in list(machine)[:5]} == {
        "file": str(ROME),
        "vendor": "AuthenticAMD",
        "signature": "0x00830f10",
        "max_extended_leaf": "0x80000020",
        "hypervisor": False,
    }
    assert list(machine)[6:] == ["hardware", "firmware", "kernel"]
    hardware = {
        "sme": True,
        "sev": True,
        "sev_es": True,
        "sev_snp": False,
        "coherency_enforced": False,
        "cbit_position": 47,
        "tme": False,
        "wbnoinvd": True,
    }
    assert {name: machine["hardware"][name] for name in hardware} == hardware
    assert machine["firmware"]["sme_enabled"] is None
    assert machine["kernel"]["mem_encrypt"] is None


def test_every_dump_gives_a_document_that_the_schema_accepts() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    paths = sorted(DATA.glob("*/*.test*")) + sorted(DATA.glob("registers/*"))
    document = facts_document(
        (str(path), from_snapshot(read_snapshot(path))) for path in paths if path.is_file()
    )
    assert len(document["machines"]) == 213
    validator.validate(document)


def test_the_schema_refuses_a_fact_it_does_not_know() -> None:
    document = json.loads(run(str(ROME), "--json"))
    document["machines"][0]["hardware"]["sme2"] = True
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(document)


def test_the_text_shows_layers_sources_and_what_is_missing() -> None:
    text = run(str(ROME))
    titles = ["machine", "hardware can", "firmware enabled", "kernel does"]
    lines = text.splitlines()
    assert [line for line in lines if line in titles] == titles
    assert any(line.split()[:3] == ["sme", "yes", "CPUID"] for line in lines)
    assert any(
        line.split()[:4] == ["sme_enabled", "unknown", "MSR", "0xc0010010"] for line in lines
    )


def test_evidence_cannot_put_escape_sequences_on_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "host[bold].json"
    kernel = {"release": "6.12\u001b[2J[bold]x", "cmdline": "quiet\u0007"}
    path.write_text(json.dumps({"schema": "staleline/snapshot/1", "cpus": [], "kernel": kernel}))
    text = run(str(path))
    assert "\u001b" not in text
    assert "\u0007" not in text
    assert "host[bold].json" in text.replace("\n", "")
    assert "[bold]x" in text


def test_a_file_name_that_is_no_text_is_spelt_out(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/rome-\xff"
    Path(os.fsdecode(name)).write_bytes(ROME.read_bytes())
    assert "rome-\\xff" in json.loads(run(os.fsdecode(name), "--json"))["machines"][0]["file"]


def test_a_bad_file_is_named_and_the_others_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("nothing of the kind\n")
    assert main(["facts", "--json", str(path), str(ROME)]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert re.match(r"staleline: .*notes\.txt: is of no known format", line)
    document = json.loads(captured.out)
    jsonschema.validate(document, SCHEMA)
    assert [machine["file"] for machine in document["machines"]] == [str(ROME)]
    assert [one["file"] for one in document["unreadable"]] == [str(path)]
