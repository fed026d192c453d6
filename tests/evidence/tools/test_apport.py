# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports of apport's: fields of one line and indented ones are of the machine."""

from __future__ import annotations

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot

#: As Launchpad shows them, tabs as blanks; apport doc/data-format.md.
REPORT = (
    "ProblemType: KernelOops\n"
    "Architecture: amd64\n"
    "ProcCmdline: /usr/bin/kexec -l mem_encrypt=off\n"
    "ProcCpuinfoMinimal:\n"
    " processor    : 127\n"
    " vendor_id    : AuthenticAMD\n"
    " cpu family    : 23\n"
    " model        : 49\n"
    " flags        : fpu vme sme sev\n"
    " power management:\n"
    "ProcKernelCmdLine: BOOT_IMAGE=/boot/vmlinuz root=/dev/sda1 ro mem_encrypt=on\n"
    "ProcVersionSignature: Ubuntu 5.15.0-91.101-generic 5.15.131\n"
    "Tags: jammy\n"
    "Uname: Linux 5.15.0-91-generic x86_64\n"
)


def test_its_fields_are_the_machines() -> None:
    """All of it was passed over but for a row that looks like lscpu's."""
    machine = parse_snapshot(REPORT, "file")
    assert machine.kernel.release == "5.15.0-91-generic"
    assert machine.kernel.cmdline == "BOOT_IMAGE=/boot/vmlinuz root=/dev/sda1 ro mem_encrypt=on"
    assert machine.cpuinfo is not None
    assert (machine.cpuinfo.vendor, machine.cpuinfo.family) == ("AuthenticAMD", 23)
    assert "sme" in machine.cpuinfo.flags


@pytest.mark.parametrize("field", REPORT.splitlines(keepends=True)[1:])
def test_less_of_it_tells_nothing_else(field: str) -> None:
    whole, less = parse_snapshot(REPORT, "file"), parse_snapshot(REPORT.replace(field, ""), "file")
    assert less.kernel.cmdline in (None, whole.kernel.cmdline)
    assert less.kernel.release in (None, whole.kernel.release)
    assert less.cpuinfo is None or less.cpuinfo.vendor in (None, "AuthenticAMD")


def test_what_stands_beside_is_held_against_it() -> None:
    log = "[    0.000000] Command line: root=/dev/sdb1 ro\n[    0.100000] x\n"
    with pytest.raises(EvidenceError, match="two-kernels"):
        parse_snapshot(f"{REPORT}\n{log}", "file")


def test_lines_of_its_names_alone_are_no_report() -> None:
    with pytest.raises(EvidenceError, match="no known format"):
        parse_snapshot("x\nProcKernelCmdLine: mem_encrypt=on\n", "file")
