# SPDX-License-Identifier: GPL-2.0-or-later
"""What was waived is told, and only what was not met is called unused, whatever is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.cli.main import main
from tests.conftest import RealKernel
from tests.documents import document_of

# linux 7.3.4 arch/x86/kernel/cpu/hygon.c does not set the flag that 6.18 flushes by.
HYGON = ("check", "linux-6.18", "--path", "kexec", "--platform", "hygon-sme-incoherent")
FORMATS = ("text", "json", "lkml", "junit", "sarif", "prometheus", "markdown")


def waivers(directory: Path, *names: str) -> tuple[str, str]:
    file = directory / "waivers.toml"
    rows = (f'[[waiver]]\nid = "{name}"\nreason = "known"\nuntil = 2999-12-31\n' for name in names)
    file.write_text("".join(rows))
    return ("--waivers", str(file))


@pytest.mark.parametrize("form", FORMATS)
def test_a_waiver_that_was_met_is_never_called_unused(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = waivers(tmp_path, "stale-write-back", "hang")
    assert main([*HYGON, *given, "--format", form]) == 0
    written = capsys.readouterr()
    assert [line for line in written.err.splitlines() if "unused" in line] == [
        "staleline: waiver hang is unused: known"
    ]
    # Status 0 beside handovers at risk is never without a reason.
    told = written.err if form in ("text", "json", "lkml") else written.out
    if form != "prometheus":  # which has how many notes there are, and no message
        assert "waived until 2999" in told


@pytest.mark.parametrize("form", ["text", "json", "junit"])
def test_likewise_of_images(
    form: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    real_kernels: dict[str, RealKernel],
) -> None:
    images = [str(real_kernels[series].path) for series in ("6.12", "6.18")]
    asked = ["kernel", "--series", *images, "--format", form]
    assert main(asked) == 2
    capsys.readouterr()
    known = waivers(tmp_path, "stale-write-back", "flush-faults", "hang")
    assert main([*asked, *known]) == 0
    written = capsys.readouterr()
    assert [line for line in written.err.splitlines() if "unused" in line] == [
        "staleline: waiver hang is unused: known"
    ]
    assert "waived until 2999" in (written.out if form == "junit" else written.err)


def test_a_document_tells_what_was_waived_and_leaves_verdicts_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*HYGON, "--json"]) == 2
    plain = document_of(capsys.readouterr().out, "check")
    assert "waived" not in plain
    assert main([*HYGON, *waivers(tmp_path, "stale-write-back"), "--json"]) == 0
    document = document_of(capsys.readouterr().out, "check")
    waived = document.pop("waived")
    # The file of waivers is among those that the latter rests on.
    for told in (plain, document):
        del told["provenance"]
    assert document == plain
    place = ("platform", "sev_guests_run", "old", "next", "path")
    at_risk = [row for row in plain["handovers"] if row["verdict"] == "at-risk"]
    assert [[one[name] for name in place] for one in waived] == [
        [row[name] for name in place] for row in at_risk
    ]
    assert {(one["id"], one["reason"], one["until"]) for one in waived} == {
        ("stale-write-back", "known", "2999-12-31")
    }


def test_likewise_of_builds(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    real_kernels: dict[str, RealKernel],
) -> None:
    images = [str(real_kernels[series].path) for series in ("6.12", "6.18")]
    known = waivers(tmp_path, "stale-write-back", "flush-faults")
    assert main(["kernel", "--series", *images, *known, "--json"]) == 0
    (*_, waived) = document_of(capsys.readouterr().out, "kernel")["waived"]
    assert waived["subject"] == " → ".join(images)
    assert main(["kernel", *images, *known, "--format", "jsonl"]) == 0
    for line in capsys.readouterr().out.splitlines():
        assert document_of(line, "kernel")["waived"] == []
