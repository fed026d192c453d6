# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel says is read, or is known to be unread: whatever it is dressed in."""

from __future__ import annotations

import html
import json
import re
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.log import kernel_log
from staleline.evidence.log.hearts import HEARTS, HEARTS_OF_KINDS
from staleline.evidence.log.wordings import Wording, wordings
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import CpuEvidence, LogEvidence, Snapshot
from staleline.pattern import Pattern
from tests.evidence.writers import (
    as_aida64,
    as_columns,
    as_cpu_z,
    as_cpucontrol,
    as_cpuid_tool,
    as_cpuinfo,
    as_kcpuid,
    as_libcpuid_raw,
    as_libvirt,
    as_lscpu,
    as_lscpu_json,
    as_x86info,
)

DUMP = Path(__file__).parents[2] / "data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"
_LEAVES = {(0, 0), (1, 0), (0x8000_0000, 0), (0x8000_001F, 0)}
_WHOLE = parse_snapshot(DUMP.read_text(), "rome")
_FEW = {at: row for at, row in _WHOLE.cpus[0].cpuid.leaves.items() if at in _LEAVES}
ROME = Snapshot(cpus=(CpuEvidence(CpuidTable(_FEW)),))
CPUINFO = parse_snapshot(
    "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 23\nmodel\t\t: 49\nstepping\t: 0\n"
    "flags\t\t: fpu sme sev\n\n",
    "cpuinfo",
).cpuinfo
assert CPUINFO is not None
BEFORE = {
    "cpuid -r": as_cpuid_tool(ROME),
    "AIDA64": as_aida64(ROME),
    "libcpuid": as_libcpuid_raw(ROME),
    "x86info": as_x86info(ROME),
    "columns": as_columns(ROME),
    "CPU-Z": as_cpu_z(ROME),
    "cpucontrol": as_cpucontrol(ROME),
    "kcpuid": as_kcpuid(ROME, indexed=frozenset({4})),
    "libvirt": as_libvirt(ROME),
    "cpuinfo": as_cpuinfo(CPUINFO),
    "lscpu": as_lscpu(CPUINFO),
    "lscpu -J": as_lscpu_json(CPUINFO) + "\n",
    "rdmsr": "# rdmsr 0xc0010010\nf40000\n",
    "dmesg": "[    0.000000] x86/fpu: Supporting XSAVE feature 0x001\n",
}
#: That prove nothing have nothing to be found by.
TELLING = [row for row in wordings() if row.id != "tdx-seamcall-failed"]
ROWS = [pytest.param(row, id=row.id) for row in TELLING]

Dress = Callable[[str], str]


def told(messages: tuple[str, ...]) -> set[tuple[str, object]]:
    """Every value that one of `messages` tells by itself."""
    logs = (LogEvidence((message,), complete=False) for message in messages)
    return {(fact, one.value) for log in logs for fact, one in kernel_log.told(log).items()}


def passed_over(text: str, row: Wording) -> set[str]:
    """The facts of which the message tells, and neither log nor unread messages of `text` do."""
    try:
        machine = parse_snapshot(text, "file")
    except EvidenceError:
        return set()
    if "release" in row.texts or "cmdline" in row.texts:
        # The reader may know that the line is cut.
        return set()
    read = told(machine.log.lines if machine.log is not None else ())
    # What stands around it may have run into a number.
    unread = {fact for fact, _ in told(tuple(one.message for one in machine.unread))}
    return {fact for fact, _ in told((row.example,)) - read} - unread


def letters(text: str) -> str:
    return re.sub("[^A-Za-z0-9]", "", text)


KINDS = {id_: Pattern(begin + kinds.pattern) for begin, (kinds, id_) in HEARTS_OF_KINDS.items()}
HEARTS_OF = {
    row.id: [begin + end for begin, ends in HEARTS.items() for end in ends if row.id in ends[end]]
    for row in TELLING
}


class TestHearts:
    @pytest.mark.parametrize("row", ROWS)
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def test_every_message_of_a_wording_has_a_heart(
        self, row: Wording, data: st.DataObject
    ) -> None:
        message = data.draw(st.from_regex(re.compile(row.pattern, re.ASCII), fullmatch=True))
        kind = KINDS.get(row.id)
        if kind is not None:
            assert kind.search(letters(message)), message
            return
        assert any(heart in letters(message) for heart in HEARTS_OF[row.id]), message

    def test_every_heart_is_of_a_wording(self) -> None:
        ids = {id_ for ends in HEARTS.values() for these in ends.values() for id_ in these}
        ids |= KINDS.keys()
        assert ids == {row.id for row in TELLING}


#: Foreseen by nobody: what people, services and tools really put around lines.
SEEN = [
    "[520.321@0] {}",
    "[520.321|  1] {}",
    "(520.321) {}",
    "[520,321] {}",
    "[ 520.321 ] {}",
    "[    0] {}",
    "Aug 15 07:33:43 node17 kernel[123]: {}",
    "- {}",
    "* {}",
    '"2025-08-15T07:33:43Z","node17","{}"',
    "I0815 07:33:43.123456       1 kmsg.go:12] {}",
    '        "[    0.000000] {}",',
    'ok: [node17] => {{"stdout": "[    0.000000] x\\n[    0.000000] {}\\n"}}',
    "| 0.000000 | {} |",
    "2025-08-15T07:33:43.1234567Z {}",
    "##[group]{}",
    "[12:01] <ann> {}",
    "alice: {}",
    "{}",
    "why is there no '{}' in my log?",
]


@pytest.mark.parametrize(
    ("before", "dress"),
    [
        *(("cpuid -r", dress) for dress in SEEN),
        *(("dmesg", dress) for dress in SEEN),
        *((before, SEEN[0]) for before in BEFORE),
    ],
)
def test_no_message_is_passed_over(before: str, dress: str) -> None:
    for row in TELLING[len(dress) % 2 :: 2]:
        assert not passed_over(f"{BEFORE[before]}{dress.format(row.example)}\n", row), row.id


#: What may stand before and behind a message, in any number and order.
_MARKS = st.sampled_from(
    [
        *(
            "[520.3]",
            "(",
            ")",
            "0.000000",
            "node17",
            "kernel:",
            "|",
            "- ",
            "* ",
            "> ",
            "\t",
            " ",
            '"',
        ),
        *("{", "INFO", ": ", "2025-08-15T07:33:43Z ", "##[group]", "<p>", "`", "**", '\\"', "&lt;"),
        *(
            "[12:01]",
            "<ann>",
            "# ",
            "$ ",
            "//",
            "\u2026",
            "\u00e9",
            "<6>",
            "[T1]",
            "1,2,3,-;",
            "~~~",
        ),
    ]
)
_PRINTABLE = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=8)
_AROUND = st.lists(_MARKS | _PRINTABLE, max_size=5).map("".join)
#: What is done to the words themselves: strings of JSON, HTML, tables, Markdown, mail, tabs.
_WITHIN: list[Dress] = [
    str,
    lambda message: json.dumps(message)[1:-1],
    html.escape,
    lambda message: message.replace(": ", ": | ", 1),
    lambda message: message.replace("_", r"\_").replace("[", r"\["),
    lambda message: message.replace(" ", "\n", 2),
    lambda message: message.replace(" ", "\n> ", 1),
    lambda message: message.replace(" ", "  "),
    lambda message: message.replace(" ", "\u00a0"),
    lambda message: message.replace(" ", "\t", 1),
    lambda message: message.replace(" ", "</b> <i class='x'>") + "</i>",
    lambda message: message.replace(" ", "[0m [1;32m"),
    urllib.parse.quote,
    lambda message: message.replace(" ", r"\u0020"),
    lambda message: message.replace(" ", "&nbsp;"),
    lambda message: message.replace(" ", "#011"),
]


@settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    st.sampled_from(TELLING),
    st.sampled_from(sorted(BEFORE)),
    _AROUND,
    _AROUND,
    st.sampled_from(_WITHIN),
)
def test_no_message_is_passed_over_in_any_dress(
    row: Wording, before: str, begin: str, end: str, within: Dress
) -> None:
    text = f"{BEFORE[before]}{begin}{within(row.example)}{end}\n"
    assert not passed_over(text, row), (row.id, text[-300:])


#: What kernels say on every other machine, and what holds the letters of a wording by chance.
#: Files of linux 7.3.4 where no other is named.
OTHER_MESSAGES = (
    # init/main.c print_unknown_bootoptions(); distributions' loaders pass BOOT_IMAGE=.
    'Unknown kernel command line parameters "BOOT_IMAGE=/boot/vmlinuz-6.12 splash", will be passed'
    " to user space.",
    "kexec-bzImage64: Final command line is: root=/dev/sda1 mem_encrypt=on",  # 5.10
    "NX (Execute Disable) protection: disabled by kernel command line option",  # 5.10
    "Spectre V2 : spectre_v2_user=on forced on command line.",
    "SEV command-line option 'debug' was not recognized",
    "AMD-Vi: Command-line override for hid:AMDI0020 uid:1",
    # arch/x86/events/core.c init_hw_perf_events(): of most virtual machines.
    "Performance Events: no PMU driver, software events only.",
    "Performance Events: p6 PMU driver.",
)


@pytest.mark.parametrize("message", OTHER_MESSAGES)
@pytest.mark.parametrize("dress", ["[    0.031001] {}", "kernel: {}", "{}", "> {}"])
def test_other_messages_of_kernels_leave_no_doubt(message: str, dress: str) -> None:
    log = "[    0.000000] Linux version 6.12.117 (a@b) (gcc) #1 SMP\n"
    for before in (log, BEFORE["cpuid -r"]):
        assert not parse_snapshot(before + dress.format(message) + "\n", "file").unread
