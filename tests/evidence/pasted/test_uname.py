# SPDX-License-Identifier: GPL-2.0-or-later
"""Host and release by uname, in a session or a report."""

from __future__ import annotations

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.snapshot import Snapshot

RELEASE = "6.1.0-50-amd64"
#: coreutils 9.1 src/uname.c; Debian's login shows the second (uname -snrvm), busybox 1.36 the last.
ROWS = [
    f"Linux node17 {RELEASE} #1 SMP PREEMPT_DYNAMIC Debian 6.1.170-1 (2026-04-01) x86_64 GNU/Linux",
    f"Linux node17 {RELEASE} #1 SMP PREEMPT_DYNAMIC Debian 6.1.170-1 (2026-04-01) x86_64",
    f"Linux node17 {RELEASE} #1-Ubuntu SMP Tue Apr  1 2026 x86_64 x86_64 x86_64 GNU/Linux",
    f"Linux node17 {RELEASE} #7 SMP PREEMPT_DYNAMIC Tue Apr  1 2026 x86_64 Linux",
]
FLAGS = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu sme sev\n\n"
LOG = (
    "[    0.000000] Linux version {} (x@y) #1 SMP\n[    0.000001] BIOS-provided physical RAM map:\n"
)


def named(text: str) -> tuple[str | None, str | None]:
    machine = parse_snapshot(text, "file")
    return machine.host, machine.kernel.release


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("layout", ["$ uname -a\n{}\n{}", "{}\n{}", "{1}{0}\n", "> {}\n> {}"])
def test_a_row_names_host_and_release_wherever_it_stands(row: str, layout: str) -> None:
    rest = FLAGS.replace("\n", "\n> ") if layout.startswith(">") else FLAGS
    assert named(layout.format(row, rest)) == ("node17", RELEASE)


@pytest.mark.parametrize(
    ("options", "output", "expected"),
    [
        ("-r", RELEASE, (None, RELEASE)),
        ("--kernel-release", RELEASE, (None, RELEASE)),
        ("-n", "node17", ("node17", None)),
        ("-rn", f"node17 {RELEASE}", ("node17", RELEASE)),
        ("-s -r", f"Linux {RELEASE}", (None, RELEASE)),
        ("-srm", f"Linux {RELEASE} x86_64", (None, RELEASE)),
        ("-m", "x86_64", (None, None)),
        ("-r", "$ uname -n", (None, None)),
        ("-r", "", (None, None)),
    ],
)
def test_a_command_names_what_it_was_asked_for(
    options: str, output: str, expected: tuple[str | None, str | None]
) -> None:
    assert named(f"root@node17:~# uname {options}\n{output}\n{FLAGS}") == expected


def test_a_log_of_another_kernel_is_a_contradiction() -> None:
    """The release of the log was taken for the running kernel's, whatever uname said."""
    for row in ROWS:
        with pytest.raises(ContradictionError, match="two-kernels"):
            parse_snapshot(f"$ uname -a\n{row}\n$ dmesg\n{LOG.format('6.12.117')}", "file")
    assert named(f"$ uname -a\n{ROWS[0]}\n$ dmesg\n{LOG.format(RELEASE)}") == ("node17", RELEASE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ROWS[0].replace("x86_64", "aarch64"), r"file:1: is of an aarch64 machine"),
        (f"$ uname -a\nFreeBSD node17 14.1-RELEASE amd64\n{FLAGS}", "itself 'FreeBSD', and not L"),
    ],
)
def test_a_system_that_is_not_this_one_is_refused(text: str, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        parse_snapshot(f"{text}\n{FLAGS}", "file")


@pytest.mark.parametrize(
    "line",
    [
        "Linux node17 is the host of this log #1",
        "LinuxX node17 6.1.0 #1 SMP x86_64",
        f"the row was: {ROWS[0]}",
    ],
)
def test_what_only_resembles_a_row_names_nothing(line: str) -> None:
    assert parse_snapshot(f"{line}\n{FLAGS}", "file").kernel == Snapshot(cpus=()).kernel
