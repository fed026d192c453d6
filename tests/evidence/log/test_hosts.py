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
