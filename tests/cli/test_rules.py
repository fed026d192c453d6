# SPDX-License-Identifier: GPL-2.0-or-later
"""``check``, ``prove``, ``report`` and ``export`` take an image where they take a policy."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from staleline.cli.main import main
from tests.cli.test_documents import run
from tests.conftest import RealKernel
from tests.documents import document_of

SERIES = ("6.12", "6.18")
AT_RISK = 2
WIDTHS = (60, 72, 80, 100, 132, 200)


def checked(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    return document_of(run(capsys, "check", *arguments, "--json")[1])


@pytest.mark.parametrize("series", SERIES)
def test_an_image_and_its_policy_file_are_judged_alike(
    capsys: pytest.CaptureFixture[str],
    real_kernels: dict[str, RealKernel],
    tmp_path: Path,
    series: str,
) -> None:
    image, written = real_kernels[series].path, tmp_path / "rule.toml"
    assert run(capsys, "kernel", "--as-policy", image, "-o", written) == (0, "")
    of_image, of_file = checked(capsys, image), checked(capsys, written)
    assert of_image["handovers"] == of_file["handovers"]
    assert of_image["image"]["release"] == real_kernels[series].release == of_file["policy"]
    assert of_image["image"]["sha256"] == real_kernels[series].sha256
    assert of_image["image"]["build_id"] in written.read_text()
    assert of_file["image"] is None


def test_what_holds_comes_first_and_each_reason_once(capsys: pytest.CaptureFixture[str]) -> None:
    found = checked(capsys, "linux-6.5")
    summary = found["summary"]
    status, text = run(capsys, "check", "linux-6.5")
    first = text.splitlines()[0]
    assert status == AT_RISK
    assert first == (
        f"linux-6.5: {summary['safe']} of {len(found['handovers'])} handovers safe, "
        f"{summary['at-risk']} at risk"
    )
    assert sum(reason["handovers"] for reason in found["reasons"]) == summary["at-risk"]
    assert text.count("Counterexample: ") == len(found["reasons"])
    assert len({(one["path"], one["reason"]) for one in found["reasons"]}) == len(found["reasons"])
    # Folded: fewer rows than handovers, and no two that are alike.
    rows = text.split("verdict  path")[1].split("Counterexample")[0].splitlines()
    assert len([row for row in rows if row.startswith(("safe", "at risk"))]) < summary["safe"] / 2


@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_shows_all_of_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Verdict, path and handover are whole, and no line ends in blanks or is too long."""
    monkeypatch.setenv("COLUMNS", str(width))
    found = checked(capsys, "linux-6.5", "--platform", "amd-sme-incoherent", "--path", "kexec")
    _, text = run(
        capsys, "check", "linux-6.5", "--platform", "amd-sme-incoherent", "--path", "kexec"
    )
    lines = text.splitlines()
    assert all(line == line.rstrip() and len(line) <= width for line in lines)
    assert max(map(len, lines)) > width - 20
    assert "…" not in text
    rows = [line for line in lines if line.startswith(("safe  ", "at risk  "))]
    assert rows
    assert all("kexec" in row and "→" in row for row in rows)
    for reason in found["reasons"]:
        assert reason["where"] in " ".join(text.split())
    for step in (step for row in found["handovers"] for step in row["steps"][-1:]):
        words = step.split()[-1]
        assert words in text


def test_an_assumption_is_accepted_by_its_name_and_what_rests_on_it_is_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # docs/model.md: with load_settled relocate_kernel's flush is all that a crash may need.
    rule = "host-mem-incoherent"
    without = checked(capsys, rule, "--path", "crash")
    found = checked(capsys, rule, "--path", "crash", "--accept", "load_settled")
    assert without["summary"]["at-risk"] > 0 == found["summary"]["at-risk"]
    assert found["accepted"] == ["load_settled"]
    assert found["only_accepted"] == without["summary"]["at-risk"]
    status, text = run(capsys, "check", rule, "--path", "crash", "--accept", "load_settled")
    assert status == 0
    assert f"without it {found['only_accepted']} of these are not safe" in text


def test_what_the_crashing_cpu_stores_is_not_accepted_with_the_load(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # linux 7.3.4 arch/x86/kernel/cpu/hygon.c does not set the flag that 6.18 flushes by, and
    # crash_save_vmcoreinfo() stores through the C-bit (kernel/crash_core.c:142).
    found = checked(capsys, "linux-6.18", "--path", "crash", "--accept", "load_settled")
    endangered = [row for row in found["handovers"] if row["verdict"] == "at-risk"]
    assert {(row["platform"], row["old"], row["next"]) for row in endangered} == {
        ("hygon-sme-incoherent", "on", "off")
    }


def test_a_role_selects_lines_and_handovers_that_have_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = checked(capsys, "linux-6.5", "--platform", "amd-sme-incoherent")
    found = checked(
        capsys, "linux-6.5", "--platform", "amd-sme-incoherent", "--role", "crash-segment"
    )
    assert {row["path"] for row in found["handovers"]} == {"crash"}
    # A control page of the crash kernel may be at risk where its segments are not.
    assert found["summary"]["at-risk"] <= whole["summary"]["at-risk"]
    assert main(["check", "linux-6.5", "--role", "moon"]) == 1
    assert "no role of a line 'moon'; give one of image" in capsys.readouterr().err


def test_prove_takes_an_image(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    narrow = ("--platform", "amd-sme-coherent", "--path", "kexec")
    status, text = run(capsys, "prove", real_kernels["6.12"].path, *narrow, "--json")
    found = document_of(text)
    assert status == 0
    assert found["answer"] == "proved"
    assert found["image"]["release"] == real_kernels["6.12"].release


def test_report_takes_an_image(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], tmp_path: Path
) -> None:
    image = real_kernels["6.12"]
    narrow = ("--platform", "amd-sme-incoherent", "--path", "kexec")
    status, _ = run(
        capsys, "report", "-o", tmp_path, "--policy", image.path, "--policy", "linux-6.5", *narrow
    )
    page = (tmp_path / "index.html").read_text()
    assert status == 0
    assert image.release in page
    assert "read by running the image" in page


def test_export_of_a_kernels_case_says_what_it_was_found_to_be(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    # Hygon with SME is flushed at neither site since 6.18 (linux 6.18 cpu/hygon.c).
    case = ("export", "kexec:on-off", "--platform", "hygon-sme-incoherent", "--to")
    _, refuted = run(capsys, *case, "murphi", "--kernel", real_kernels["6.18"].path)
    _, proved = run(capsys, *case, "murphi", "--kernel", "linux-6.5")
    assert refuted.startswith(f"-- {real_kernels['6.18'].release}, build ID ")
    assert "-- REFUTED here: P1 is broken" in refuted
    assert "jumping_skips_flush" in refuted
    assert "-- PROVED here for any number of CPUs" in proved
    assert "jumping_skips_flush" not in proved
    assert main(["export", "kexec:off-on", "--kernel", "linux-6.5", "--to", "smt2"]) == 1
    assert "no platform; give --platform with one of" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_not_taken_for_a_policy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in ("check", "prove"):
        assert main([command, "vmlinux"]) == 1
        assert "vmlinux: no such file; give an image" in capsys.readouterr().err


def test_findings_of_an_image_name_its_file(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    image = real_kernels["6.12"].path
    narrow = ("--platform", "guest-plain")
    _, text = run(capsys, "check", image, *narrow, "--format", "sarif")
    (log,) = json.loads(text)["runs"]
    assert log["artifacts"][0]["location"]["uri"] == image.as_uri()


def test_a_mail_is_plain_narrow_and_says_what_was_looked_at(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    image = real_kernels["6.18"]
    narrow = ("--platform", "hygon-sme-incoherent", "--path", "kexec", "--format", "lkml")
    status, text = run(capsys, "check", image.path, *narrow, "--ascii")
    lines = text.splitlines()
    assert status == AT_RISK
    assert text.isascii()
    assert all(line == line.rstrip() for line in lines)
    # Longer is only what cannot be broken: a path, a build ID.
    assert all(len(line) <= 72 or len(line.split()) <= 2 for line in lines)
    assert lines[0].startswith("staleline ")
    typed = text[text.index("$ ") + 2 : text.index("\n\n")].replace("\\\n", "")
    assert shlex.split(typed) == ["staleline", "check", str(image.path), *narrow, "--ascii"]
    found = checked(capsys, image.path, *narrow[:4])
    assert found["image"]["build_id"] in text
    assert image.release in text
    shortest = min((row["steps"] for row in found["handovers"] if row["steps"]), key=len)
    assert " 9. " in text
    assert len(shortest) == 9
    assert len(lines) < 60
    assert "→" in run(capsys, "check", image.path, *narrow)[1]
    assert main(["check", "linux-6.5", "--ascii"]) == 1
    assert "--ascii is for a mail; add --format lkml" in capsys.readouterr().err


def test_a_mail_of_a_comparison_has_the_diff_of_the_rule(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, text = run(capsys, "diff", "linux-6.5", "linux-6.18", "--format", "lkml")
    assert status == AT_RISK
    assert "--- linux-6.5\n+++ linux-6.18\n@@ stop_this_cpu @@\n-WBINVD if " in text
    assert "\n+WBINVD if " in text
    assert "handovers no longer safe: kexec" in text
    assert all(line == line.rstrip() and len(line) <= 72 for line in text.splitlines())
    same = run(capsys, "diff", "linux-6.5", "linux-6.5", "--format", "lkml")
    assert same[0] == 0
    assert "The rule is the same." in same[1]


RULE = """
name = "{name}"
title = "for this test"
[sites]
stop_this_cpu = "sme_active"
relocate_kernel = "sme_active"
"""


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ('[kernel]\nencrypts = "false"\n', "encrypts its memory"),
        ('[crash]\nrelocate_kernel = "true"\n', "relocate_kernel in a crash"),
    ],
)
def test_rules_that_differ_outside_of_their_sites_are_not_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, more: str, told: str
) -> None:
    before, after = tmp_path / "before.toml", tmp_path / "after.toml"
    before.write_text(RULE.format(name="before"))
    after.write_text(RULE.format(name="after") + more)
    for form in ((), ("--format", "lkml")):
        _, text = run(capsys, "diff", before, after, *form)
        assert told in text
        assert "The rule is the same." not in text
        assert told not in run(capsys, "diff", before, before, *form)[1]
    document = document_of(run(capsys, "diff", before, after, "--json")[1])
    changed = [document["encrypts"], *document["crash"].values()]
    assert any(one["added"] or one["dropped"] for one in changed)


def test_a_handover_is_told_as_it_was_where_the_old_kernel_encrypted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its flush by `sme_active` goes with it, though the words of the rule stay."""
    before, after = tmp_path / "before.toml", tmp_path / "after.toml"
    before.write_text(RULE.format(name="before"))
    after.write_text(f'{RULE.format(name="after")}[kernel]\nencrypts = "false"\n')
    _, text = run(capsys, "diff", before, after)
    assert "- stop_this_cpu: one WBINVD less where sme_active" in text
    assert "on→off, now off→off" in text
    rows = document_of(run(capsys, "diff", before, after, "--json")[1])["handovers"]
    assert {tuple(row["encrypts"]) for row in rows} == {("on", "off")}


def test_what_an_exact_number_of_cpus_shows_is_told_or_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ("check", "host-mem-incoherent", "--platform", "intel-tdx", "--cpus", "3")
    told = "Exactly 3 CPUs, "
    for form in ((), ("--format", "lkml")):
        status, text = run(capsys, *asked, *form)
        assert (status, told in text) == (0, True)
    for findings in ("sarif", "junit", "prometheus"):
        assert main([*asked, "--format", findings]) == 1
        assert f"--cpus is not told by --format {findings}" in capsys.readouterr().err
