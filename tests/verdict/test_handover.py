# SPDX-License-Identifier: GPL-2.0-or-later
"""A handover is judged by its circumstances, whatever else is known of the machine."""

from __future__ import annotations

from dataclasses import fields, replace
from random import Random

from staleline.model.scenario import Flush
from staleline.verdict.case import Case
from staleline.verdict.handover import judge
from staleline.verdict.kernels import Behaviour
from staleline.verdict.machine import Machine
from staleline.vocabulary import Path, ReportOrder, Site


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
    value = 0 if name == "max_extended_leaf" else not getattr(case.machine, name)
    return replace(case, machine=replace(case.machine, **{name: value}))


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
        for what in ("verdict", "answer", "flushes", "needed", "unneeded", "faults", "unknown"):
            assert getattr(one, what) == getattr(again, what), (what, case, other)
    assert alike > 100
