# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline export`` and ``staleline replay`` as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from staleline.check.answer import check
from staleline.check.runs.itf import itf_document
from staleline.cli.main import main
from staleline.model.scenario import Flush
from tests.check.scenarios import kexec


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    found = check(kexec("on→off", flush_secondary=Flush.NEVER)).counterexample
    assert found is not None
    path = tmp_path / "kexec-on-off.itf.json"
    path.write_text(json.dumps(itf_document(found)))
    return path


_LINUX = ("--kernel", "linux-6.5", "--platform", "amd-sme-incoherent")


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(one) for one in arguments]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(one) for one in arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_murphi_has_secondaries_as_a_scalarset_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    case = ("export", "kexec:on-off", "--to", "murphi", "--secondaries", 3)
    assert "secondary: scalarset(SECONDARIES);" in printed(capsys, *case)
    assert "secondary: 0 .. SECONDARIES - 1;" in printed(capsys, *case, "--no-symmetry")


def test_promela_has_a_process_per_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "export", "kexec:on-off", "--to", "promela")
    assert "active [SECONDARIES] proctype secondary()" in text
    assert "active proctype jumping_cpu()" in text


def test_parameters_change_the_case(capsys: pytest.CaptureFixture[str]) -> None:
    never = printed(
        capsys, "export", "kexec:on-off", "--to", "murphi", "--set", "flush_jumping=never"
    )
    assert "jumping_skips_flush" in never
    assert "jumping_flush_begins" not in never


def test_lines_are_chosen_and_combined(capsys: pytest.CaptureFixture[str]) -> None:
    two = ("--line", "image", "--line", "stop-mask")
    text = printed(capsys, "export", "kexec:on-off", "--to", "murphi", *two)
    assert "image_dram: " in text
    assert "stop_mask_dram: " in text


def test_the_header_says_of_which_lines_it_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "export", "kexec:on-off", "--to", "promela")
    assert "// Lines: image, without rest-of-ram, decrypted-page, stop-mask (--line)." in text
    two = ("--line", "image", "--line", "stop-mask")
    text = printed(capsys, "export", "kexec:on-off", "--to", "promela", *two)
    assert "// Lines: image, stop-mask, without rest-of-ram, decrypted-page (--line)." in text


def test_the_header_says_what_was_changed_of_the_case(
    capsys: pytest.CaptureFixture[str], trace: Path
) -> None:
    """The case is called kexec:on-off, and would pass for it."""
    changed = ("--set", "path=crash", "--set", "old_encrypts=no", "--secondaries", 1)
    for case in (("kexec:on-off",), ("kexec:on-off", *_LINUX)):
        text = printed(capsys, "export", *case, "--to", "smt2", *changed)
        head = " ".join(text.replace(";", "").split()).partition(" by staleline")[0]
        assert head.endswith("path=crash, old_encrypts=no, secondaries=1,")
    text = printed(capsys, "export", trace, "--to", "smt2", "--set", "flush_jumping=never")
    assert "flush_jumping=never, by staleline" in " ".join(text.replace(";", "").split())


def test_two_values_of_one_parameter_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    case = ("export", "kexec:on-off", "--to", "smt2")
    for twice in (
        ("--set", "flush_jumping=never", "--set", "flush_jumping=always"),
        ("--set", "secondaries=1", "--secondaries", 2),
    ):
        assert "is given two values" in refused(capsys, *case, *twice)
    printed(capsys, *case, "--set", "late_nmi=yes", "--set", "late_nmi=true")


@pytest.mark.parametrize("platform", ["intel-tdx", "amd-no-sme", "guest-sev"])
def test_a_class_on_which_no_sev_guest_can_have_run_is_refused_with_them(
    capsys: pytest.CaptureFixture[str], platform: str
) -> None:
    """The header said that they had run, over a model without their lines."""
    transition = "on-on" if platform == "guest-sev" else "off-off"
    case = ("export", f"kexec:{transition}", "--kernel", "linux-6.5", "--platform", platform)
    assert "SEV guests" not in printed(capsys, *case, "--to", "murphi")
    assert f"does not happen on {platform}" in refused(
        capsys, *case, "--sev-guests", "--to", "murphi"
    )


@pytest.mark.parametrize(("condition", "several"), [("mem_encrypt", True), ("true", False)])
def test_the_header_says_where_a_handover_may_be_several(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, condition: str, several: bool
) -> None:
    """A rule that asks for mem_encrypt= of a kernel that never encrypts leaves it open."""
    rule = tmp_path / "rule.toml"
    rule.write_text(
        f"""
name = "rule"
title = "for this test"
source = ["this test"]

[kernel]
encrypts = "false"

[releases]
upstream = ["6.5..6.17"]

[sites]
stop_this_cpu = "true"
relocate_kernel = "{condition}"
crash_nmi_callback = "false"

[protocol]
reported_stopped = "after-flush"
"""
    )
    asked = ("--kernel", rule, "--platform", "amd-sme-incoherent")
    text = printed(capsys, "export", "kexec:off-off", "--to", "smt2", *asked)
    assert ("the first of 2 scenarios that it may be" in text) is several


def test_the_case_of_a_trace_is_exported(capsys: pytest.CaptureFixture[str], trace: Path) -> None:
    output = trace.with_suffix(".pml")
    assert printed(capsys, "export", trace, "--to", "promela", "-o", output) == ""
    assert "secondary_destroys_through_cbit" in output.read_text()


def test_a_trace_is_replayed(capsys: pytest.CaptureFixture[str], trace: Path) -> None:
    assert "the last one breaks P1" in printed(capsys, "replay", trace)
    document = json.loads(printed(capsys, "replay", trace, "--json"))
    assert document["schema"] == "staleline/replay/1"
    assert document["steps"][-1]["action"] == "secondary_destroys_through_cbit"


def test_a_trace_of_another_model_is_refused(
    capsys: pytest.CaptureFixture[str], trace: Path
) -> None:
    document = json.loads(trace.read_text())
    document["#meta"]["model"] = "sha256:0000\n0000"
    trace.write_text(json.dumps(document))
    assert "the model has changed since" in refused(capsys, "replay", trace)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["kexec:on-of"], "no case 'kexec:on-of'"),
        (["sleep:on-off"], "no case 'sleep:on-off'"),
        (["kexec:on-off", "--line", "moon"], "no line 'moon'; give one of image, "),
        (["kexec:on-off", "--set", "flush_jumping=maybe"], "flush_jumping cannot be 'maybe'"),
        (["kexec:on-off", "--set", "incoherent=maybe"], "give yes or no"),
        (["kexec:on-off", "--set", "secondaries=-1"], "give a number"),
        (["kexec:on-off", "--set", "moon"], "'moon' is no parameter"),
        (["absent.itf.json"], "absent.itf.json: cannot be read"),
        (["kexec:on-off", "-o", "/absent/file"], "/absent/file: cannot be written"),
    ],
)
def test_cases_that_do_not_exist(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert says in refused(capsys, "export", *arguments, "--to", "murphi")
