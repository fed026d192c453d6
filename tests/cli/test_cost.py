# SPDX-License-Identifier: GPL-2.0-or-later
"""The cost in ``staleline audit``: in the document, in the text, and measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.cli.main import main
from tests.cli.test_audit import HYGON, MILAN, ROME, SME_ON, audit

RULE = ("--kernel", "linux-6.18", "--path", "kexec")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """As docs/examples/wbinvd.bt prints it."""
    file = tmp_path / "trace"
    file.write_text("Attaching 5 probes...\nwbinvd cpu 3 ns 800000\nall_cpus ns 2500000\n")
    return file


def test_a_document_has_a_cost_for_every_path(capsys: pytest.CaptureFixture[str]) -> None:
    _, document = audit(capsys, "--snapshot", ROME, *SME_ON, "--kernel", "linux-6.18")
    cost = document["cost"]
    assert set(cost["paths"]) == {"kexec", "crash"}
    assert cost["paths"]["kexec"]["secondaries"] == {
        "site": "stop_this_cpu",
        "executed": True,
        "unneeded": False,
        "at_least_ms": pytest.approx(1.4746, abs=1e-3),
        "likely_ms": pytest.approx(2.4576, abs=1e-3),
        "measured_ms": None,
    }
    assert cost["dirty_at_most"]["socket_bytes"] == 288 << 20
    assert cost["bandwidth"]["assumed"] is False
    # Nobody flushes there without SNP (linux 7.3.4 arch/x86/kernel/crash.c).
    assert cost["paths"]["crash"]["secondaries"]["executed"] is False


def test_bandwidth_and_measured_times_can_be_given(
    capsys: pytest.CaptureFixture[str], trace: Path
) -> None:
    arguments = ("--snapshot", HYGON, *SME_ON, "--kernel", "linux-6.5", "--path", "kexec")
    _, document = audit(capsys, *arguments)
    assert document["cost"]["bandwidth"]["assumed"] is True
    _, document = audit(capsys, *arguments, "--bandwidth", "20", "--measured", trace)
    cost = document["cost"]
    assert cost["bandwidth"] == {
        "bytes_per_second": 20e9,
        "assumed": False,
        "source": "given by you",
    }
    assert cost["measured_events"] == 2
    assert cost["paths"]["kexec"]["secondaries"]["measured_ms"] == 2.5
    assert cost["paths"]["kexec"]["jumping_cpu"]["measured_ms"] == 0.8


def test_the_text_says_what_it_rests_on(capsys: pytest.CaptureFixture[str], trace: Path) -> None:
    no_guests = ("--state", "sev_guests_run=no")
    main(["audit", "--snapshot", str(MILAN), *SME_ON, *no_guests, *RULE, "--measured", str(trace)])
    text = " ".join(capsys.readouterr().out.split())
    _, _, cost = text.partition("Cost of the flushes ")
    assert cost == (
        "kexec: all other CPUs at once: 1.5 ms at least, 2.5 ms likely, 2.5 ms measured, unneeded; "
        "then the jumping CPU: 0.17 ms at least, 1.2 ms likely, 0.8 ms measured, unneeded "
        "if all of 288 MB of L2 and L3 per socket is dirty, and of 32.5 MB for one CPU, at 204.8 "
        "GB/s (EPYC 7003 (Milan): 8 channels at 3200 MT/s)"
    )


def test_a_file_that_is_no_trace_is_an_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert main(["audit", "--snapshot", str(ROME), *RULE, "--measured", str(empty)]) == 1
    assert f"{empty}: no line says how long a WBINVD took" in capsys.readouterr().err
