# SPDX-License-Identifier: GPL-2.0-or-later
"""A handover is judged by its circumstances, whatever else is known of the machine."""

from __future__ import annotations

from dataclasses import fields, replace
from random import Random
from typing import Any

import pytest

from staleline.kernel.boot.decision import OfflineWay, SiteDecision, Store
from staleline.model.scenario import Flush
from staleline.verdict.handover.case import Case
from staleline.verdict.handover.judgement import judge, judged_once
from staleline.verdict.handover.kernels import Behaviour
from staleline.verdict.machines.machine import Machine
from staleline.vocabulary import Path, ReportOrder, Site, Through


def some_case(random: Random) -> Case:
    facts = {
        field.name: random.random() < 0.5
        for field in fields(Machine)
        if field.name not in ("vendor", "max_extended_leaf")
    }
    behaviour = Behaviour(
        flushes={site: random.choice((Flush.NEVER, Flush.ALWAYS)) for site in Site},
        report=random.choice(tuple(ReportOrder)),
        sme_active=random.random() < 0.5,
        seamcalls=False,
    )
    return Case(
        machine=Machine(vendor="AuthenticAMD", max_extended_leaf=0x8000_001F, **facts),
        behaviour=behaviour,
        path=random.choice(tuple(Path)),
        next_encrypts=random.random() < 0.5,
    )


def with_one_fact_changed(case: Case, random: Random) -> Case:
    names = [field.name for field in fields(Machine) if field.name not in ("vendor",)]
    name = random.choice(names)
    changes: dict[str, Any] = {name: not getattr(case.machine, name)}
    if name == "max_extended_leaf":
        changes[name] = 0
    return replace(case, machine=replace(case.machine, **changes))


def test_cases_that_are_alike_in_their_circumstances_are_judged_alike() -> None:
    alike = 0
    for seed in range(1500):
        random = Random(seed)
        case = some_case(random)
        other = with_one_fact_changed(case, random)
        if case.circumstances != other.circumstances:
            continue
        alike += 1
        assert tuple(case.scenarios()) == tuple(other.scenarios())
        one, again = judge(case), judge(other)
        told = ("verdict", "answer", "because", "attainable", "flushes", "needed", "unneeded")
        for what in (*told, "faults", "left_behind", "unknown", "scenarios"):
            assert getattr(one, what) == getattr(again, what), (what, case, other)
    assert alike > 100


LEFT = Store(
    address=0xFFFFFFFF83000000,
    physical=0x3000000,
    size=8,
    through=Through.OWN,
    line="a variable",
    code="stop_this_cpu+0x58",
)

HALTED = OfflineWay("another way", SiteDecision(flushes=True))


@pytest.mark.parametrize("path", Path)
def test_who_is_stopped_and_what_is_left_behind_are_circumstances(path: Path) -> None:
    """Whatever tells scenarios apart tells circumstances apart."""
    case = replace(
        some_case(Random(0)),
        path=path,
        machine=replace(some_case(Random(0)).machine, several_cpus=True, reboot_force=False),
    )
    for known in (
        {"stops": {path: None}},
        {"stops": {path: False}},
        {"left_behind": {path.secondaries_site: (LEFT,)}},
        {"left_behind": {Site.RELOCATE_KERNEL: (LEFT,)}},
        {"crash_left_behind": {Site.RELOCATE_KERNEL: (LEFT,)}},
    ):
        other = replace(case, behaviour=replace(case.behaviour, **known))
        alike = tuple(case.scenarios()) == tuple(other.scenarios())
        assert alike == (path is Path.KEXEC and "crash_left_behind" in known), known
        assert (case.circumstances == other.circumstances) == alike, known


def test_what_offline_cpus_leave_is_told_of_each_kernel_by_itself() -> None:
    """Two that leave something else may be judged alike, and yet say something else."""
    ways = [
        OfflineWay("a way", SiteDecision(flushes=True, stores=(replace(LEFT, line=line),)))
        for line in ("one line", "another line")
    ]
    host: dict[str, Any] = {
        **dict.fromkeys(("sev_guest", "tdx_guest", "snp_guest", "isolated"), False),
        **dict.fromkeys(("several_cpus", "offline", "jumped_by_kernel"), True),
        **dict.fromkeys(("hypervisor", "reboot_force"), False),
    }
    cases = [
        Case(
            machine=replace(some_case(Random(0)).machine, **host),
            behaviour=replace(some_case(Random(0)).behaviour, offline=(way, HALTED)),
            path=Path.KEXEC,
            next_encrypts=False,
        )
        for way in ways
    ]
    assert tuple(cases[0].scenarios()) == tuple(cases[1].scenarios())
    first, second = map(judged_once, cases)
    assert first is not second
    assert first is judged_once(replace(cases[0], machine=replace(cases[0].machine)))
