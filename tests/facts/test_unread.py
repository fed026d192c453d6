# SPDX-License-Identifier: GPL-2.0-or-later
"""A message in a form that nobody foresaw is no fact, and no reason for a verdict either."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from staleline.evidence.detect import parse_snapshot
from staleline.evidence.hosts.snapshot_json import parse, snapshot_text
from staleline.evidence.log.wordings import wordings
from staleline.evidence.snapshot import Snapshot, UnreadMessage
from staleline.facts.machine import from_snapshot
from staleline.kernel.reading.decided import image_opener
from staleline.verdict.audit.agreement import audit
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.audit.old_kernel import choose_kernels
from staleline.vocabulary import Path as Way
from staleline.vocabulary import Verdict
from tests.properties.answers import Answers, answers, named

DATA = Path(__file__).parents[1] / "data" / "cpuid" / "libcpuid"
DRESSES = ["[520.321@0] {}", "(520,1) {}", '  "[ 0.0] {}\\n",', "| x | {} |", "<ann> {}"]
QUESTIONS = (named("linux-6.5"), named("unconditional"))


def settled(text: str) -> Snapshot:
    """The machine, with all that decides and that its log does not tell."""
    machine = parse_snapshot(text, "file")
    state = {"sme_active": False, "sev_guests_run": False}
    if machine.cpus[0].cpuid.vendor == "GenuineIntel":
        state["tdx_module"] = "not-initialized"  # type: ignore[assignment]
    known = {name: value for name, value in state.items() if getattr(machine.state, name) is None}
    return replace(
        machine,
        state=replace(machine.state, offline_cpus=(), reboot_force=False, **known),  # type: ignore[arg-type]
        kernel=replace(machine.kernel, cmdline=machine.kernel.cmdline or "ro mem_encrypt=off"),
    )


def asked(text: str) -> Answers:
    return answers(lambda: settled(text), QUESTIONS)


def definite(found: Answers) -> dict[tuple[str, str], object]:
    """Every verdict that is given."""
    return {
        (str(question), name): value
        for question, answer in found.audits.items()
        for name, value in answer.values.items()
        if name.startswith("verdict") and value is not None
    }


@pytest.mark.parametrize(
    "dump",
    ["amd-epyc-9654-96-core-processor-dual.test", "intel-xeon-cpu-e5520.test"],
)
def test_a_dressed_message_gives_no_other_verdict_than_the_plain_one(dump: str) -> None:
    text = (DATA / dump).read_text()
    alone = definite(asked(text))
    assert set(alone.values()) == {Verdict.SAFE}
    doubted = 0
    for number, row in enumerate(wordings()):
        dressed = DRESSES[number % len(DRESSES)].format(row.example)
        plain = definite(asked(f"{text}[    0.000000] {row.example}\n[    0.000001] x\n"))
        found = definite(asked(f"{text}{dressed}\n"))
        assert found.items() <= plain.items(), row.id
        doubted += found != alone
    assert doubted > len(wordings()) // 2


def in_doubt(*messages: str) -> Snapshot:
    unread = tuple(UnreadMessage(f"file:{n}", message) for n, message in enumerate(messages, 9))
    return replace(settled((DATA / "intel-xeon-cpu-e5520.test").read_text()), unread=unread)


def test_the_line_is_named_and_what_to_do() -> None:
    facts = from_snapshot(in_doubt("Hypervisor detected: KVM"))
    assert facts.boolean("unread_messages")
    for told in (facts["hypervisor"].missing, facts["unread_messages"].source):
        assert told is not None
        assert 'file:9 holds "Hypervisor detected: KVM"' in told
        assert "give the output of dmesg" in told
    kernels = choose_kernels(Snapshot(cpus=()), "linux-6.5", image_opener())
    found = audit(facts, kernels, following=Next.ANY, paths=tuple(Way))
    assert {row.verdict for row in found.handovers} == {Verdict.UNKNOWN}
    assert found.unknown[0].id == "unread-message"


@pytest.mark.parametrize(
    "message",
    [
        "smpboot: CPU0: Intel(R) Xeon(R) E5520 (family: 0x6, model: 0x1a, stepping: 0x5)",
        "Performance Events: Nehalem events, Intel PMU driver.",
        "efi: EFI v2.7 by American Megatrends",
    ],
)
def test_a_message_that_changes_nothing_leaves_the_verdict(message: str) -> None:
    machine = in_doubt(message)
    facts = from_snapshot(machine)
    assert facts["unread_messages"].value is False
    assert "file:9" in str(facts["unread_messages"].source)
    values = {fact.name: fact.value for fact in from_snapshot(replace(machine, unread=()))}
    assert {fact.name: fact.value for fact in facts} == values


def test_two_that_exclude_each_other_are_no_contradiction_of_the_machine() -> None:
    facts = from_snapshot(in_doubt("Hypervisor detected: KVM", "Hypervisor detected: Xen PV"))
    assert facts.boolean("unread_messages")
    assert facts["hypervisor"].value is None


def test_snapshots_keep_the_doubt() -> None:
    machine = Snapshot(cpus=(), unread=(UnreadMessage("file:9", "Hypervisor detected: KVM"),))
    assert parse(snapshot_text(machine), "file").unread == machine.unread


ASKING: list[Callable[[str], str]] = [
    lambda dump: f"{dump}\nI expected `SEV-SNP enabled (ASIDs 1 - 99)` here, but it is not.\n",
    lambda dump: f"On the other host it says: Hypervisor detected: Xen PV\n\n{dump}",
]


@pytest.mark.parametrize("written", ASKING)
def test_prose_is_no_fact_and_no_verdict(written: Callable[[str], str]) -> None:
    text = written((DATA / "intel-xeon-cpu-e5520.test").read_text())
    assert parse_snapshot(text, "file").log is None
    assert definite(asked(text)) == {}
