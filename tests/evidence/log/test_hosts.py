# SPDX-License-Identifier: GPL-2.0-or-later
"""Logs of which the lines name their host: a server that collects logs has those of many."""

from __future__ import annotations

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.snapshot import Snapshot

OFF = "Command line: BOOT_IMAGE=/vmlinuz mem_encrypt=off"
SEV = "kvm_amd: SEV enabled (ASIDs 1 - 509)"
FORMS = [
    "Nov 30 10:00:00 {host} kernel: {message}",
    "Nov 30 10:00:00 {host} kernel: [    1.000000] {message}",
    "Nov 30 10:00:00 {host} kern.info kernel: {message}",
    "2026-11-30T10:00:00.000001+00:00 {host} kernel: {message}",
    "[    1.000000] {host} kernel: {message}",
    "<6>1 2026-11-30T10:00:00.000001Z {host} kernel - - - {message}",
]


def read(form: str, *hosts: str) -> Snapshot:
    messages = (OFF, SEV, "BIOS-provided physical RAM map:")
    lines = (
        form.format(host=host, message=message)
        for host, message in zip((*hosts, *hosts[-1:]), messages, strict=True)
    )
    return parse_snapshot("".join(f"{line}\n" for line in lines), "file")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("hosts", [("a", "b"), ("a.example.org", "b"), ("10.0.0.5", "10.0.0.6")])
def test_messages_of_two_hosts_are_refused(form: str, hosts: tuple[str, str]) -> None:
    """They were put together as those of one machine."""
    with pytest.raises(EvidenceError, match=r"file:2: is a message of host .*, and line 1 one of"):
        read(form, *hosts)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "hosts",
    [("a", "a"), ("localhost", "a"), ("fedora", "a"), ("a", "a.example.org"), ("A", "a")],
)
def test_a_host_has_no_name_before_it_is_told_one(form: str, hosts: tuple[str, str]) -> None:
    machine = read(form, *hosts)
    assert machine.kernel.cmdline == OFF.removeprefix("Command line: ")
    assert machine.log is not None
    assert SEV in machine.log.lines


def test_lines_without_a_host_are_of_the_one_that_is_named() -> None:
    text = f"Nov 30 10:00:00 kernel: {OFF}\nNov 30 10:00:00 kern.info kernel: {SEV}\n"
    machine = parse_snapshot(f"{text}Nov 30 10:00:01 a kernel: x\n", "file")
    assert machine.log is not None
    assert machine.log.lines == (SEV,)


@pytest.mark.parametrize(
    "prose", ["Linux version 6.1 is what it runs on", "<4>[   99.0] Linux version in pstore"]
)
def test_prose_is_no_banner(prose: str) -> None:
    """linux 7.3.4 init/version-timestamp.c:25: who built it stands in brackets behind a number."""
    log = f"[    0.000000] Linux version 6.12.1 (a@b) #1 SMP\n[    0.000001] {OFF}\n"
    machine = parse_snapshot(f"{log}[    0.000002] x\n{prose}\n", "file")
    assert machine.kernel.release == "6.12.1"
    assert machine.kernel.cmdline == OFF.removeprefix("Command line: ")


#: What pages on confidential computing show of an AMD machine, and then of an Intel one.
SNP = "ccp 0000:22:00.1: SEV-SNP API:1.51 build:3\n"
TDX = "tdx: TDX module initialized\nvirt/tdx: module initialized\n"
BOOT = "[    0.000000] Linux version 6.12.1 (a@b) (gcc) #1 SMP\n"


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (SNP, f"```\n\n```\n{TDX}"),
        (f"{BOOT}[    1.0] {SNP}", f"{BOOT}[    1.0] x86/tme: enabled by BIOS\n"),
        (
            f"{BOOT}[    1.0] smpboot: CPU0: AMD EPYC 7543 (family: 0x19, model: 0x1)\n",
            f"{BOOT}[    1.0] smpboot: CPU0: Intel(R) Xeon(R) 6972P (family: 0x6, model: 0xad)\n",
        ),
        (
            "[    9.0] Performance Events: Fam18h core perfctr, HYGON PMU driver.\n",
            "[    1.0] Performance Events: Fam17h core perfctr, AMD PMU driver.\n",
        ),
    ],
)
def test_boots_on_cpus_of_two_makers_are_of_two_machines(earlier: str, later: str) -> None:
    """The earlier one was left out unseen, and the later one at risk."""
    with pytest.raises(
        EvidenceError, match=r"is of a CPU of .+, and line \d+ of one of .+; give one"
    ):
        parse_snapshot(f"{earlier}{later}[    2.0] x\n", "file")


def test_boots_on_a_cpu_of_which_only_one_names_the_maker_are_of_one_machine() -> None:
    early = "[    1.0] Memory Encryption Features active: AMD SME\n"
    late = "[    1.0] Performance Events: Fam18h core perfctr, HYGON PMU driver.\n"
    machine = parse_snapshot(f"{BOOT}{early}{BOOT}{late}", "file")
    assert machine.log is not None
    assert machine.state.sme_active is None


@pytest.mark.parametrize("behind", ["****\n", "", "1\n", "ro quiet\n"])
def test_one_message_that_may_be_cut_is_a_log(behind: str) -> None:
    """It was refused as holding none, beside other outputs too."""
    text = f"Jan 06 22:59:22 a kernel: Command line: root=/dev/sda1 quiet\n{behind}"
    machine = parse_snapshot(text, "file")
    assert machine.kernel.cmdline in (None, "root=/dev/sda1 quiet")
    assert machine.log is not None
