# SPDX-License-Identifier: GPL-2.0-or-later
"""The harness notices a program that breaks the principles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from random import Random
from typing import Any

import pytest

from staleline.evidence.cpuid import libcpuid_raw
from staleline.evidence.log import kernel_log
from staleline.evidence.snapshot import LogEvidence, Snapshot
from staleline.facts import Fact, MachineFacts, from_snapshot
from staleline.verdict.audit.agreement import audit as audit_module
from staleline.verdict.audit.worlds import World, worlds
from tests.properties import answers
from tests.properties.rounds import ROUNDS


def is_noticed(kind: str, principles: set[str], rounds: int = 60) -> bool:
    """Does a round of this kind find that one of the principles is broken?"""
    play = ROUNDS[kind]
    return any(
        violation.principle in principles
        for seed in range(rounds)
        for violation in play(Random(f"planted {seed}"), {}).violations
    )


def believing(name: str, value: bool | str) -> Callable[[Snapshot], MachineFacts]:
    """The facts, of which one is taken for known where it is not."""

    def planted(machine: Snapshot) -> MachineFacts:
        facts = from_snapshot(machine)
        if facts[name].value is not None:
            return facts
        known = Fact(name, facts[name].layer, facts[name].text, value, "nothing")
        return MachineFacts({**facts.facts, name: known})

    return planted


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vendor", "GenuineIntel"),
        ("hypervisor", False),
        ("sme", False),
        ("sme_enabled", False),
        ("sme_active", False),
        ("reboot_force", False),
        ("sev_guests_run", False),
    ],
)
def test_a_fact_that_is_believed_where_nothing_tells_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: bool | str
) -> None:
    monkeypatch.setattr(answers, "from_snapshot", believing(name, value))
    assert is_noticed("thinned", {"less"})


def test_a_verdict_of_the_first_possible_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(*arguments: object, **others: object) -> Iterator[World]:
        return islice(worlds(*arguments, **others), 1)  # type: ignore[arg-type]

    monkeypatch.setattr(audit_module, "worlds", planted)
    assert is_noticed("thinned", {"less"})


def test_a_log_whose_silence_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kernel_log.told

    def planted(log: LogEvidence, *others: Any, **more: Any) -> Mapping[str, Any]:
        return whole(replace(log, complete=True), *others, **more)

    monkeypatch.setattr(kernel_log, "told", planted)
    assert is_noticed("retold", {"two", "less"})


def test_a_reader_that_reads_a_leaf_as_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(libcpuid_raw._BY_LEAF, "ext_cpuid", 0x8000_0001)
    assert is_noticed("retold", {"two", "less"})


def test_a_fact_that_is_asked_of_a_vendor_nobody_thought_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def planted(machine: Snapshot) -> MachineFacts:
        vendors: Sequence[str | None] = ["AuthenticAMD", "HygonGenuine", "GenuineIntel", None]
        facts = from_snapshot(machine)
        vendors.index(facts.text("vendor"))
        return facts

    monkeypatch.setattr(answers, "from_snapshot", planted)
    assert is_noticed("random", {"every"})
