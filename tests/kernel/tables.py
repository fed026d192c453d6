# SPDX-License-Identifier: GPL-2.0-or-later
"""Truth tables as an image of known behaviour would give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

from staleline.kernel.boot.decision import SiteDecision
from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.rule.enumeration import raw_facts
from staleline.kernel.rule.truthrows import TruthRow, TruthTable
from staleline.policy.axioms import axioms
from staleline.policy.evaluate import evaluate
from staleline.vocabulary import ReportOrder, Site
from tests.kernel.machines import Facts

__all__ = [
    "Rule",
    "can_exist",
    "combinations",
    "machines",
    "named_as_in_the_kernel",
    "table",
    "with_flags",
]

Rule = Callable[[RawFacts], bool | None]

_OPTIONAL = ("tdx_keyids", "seamcalled", "snp_host")


def with_flags(facts: RawFacts, flags: Mapping[str, bool]) -> RawFacts:
    """The same machine with some facts, of those that are true or false, as named."""
    changes: dict[str, Any] = {**flags}
    return replace(facts, **changes)


@cache
def combinations(*optional: str) -> tuple[RawFacts, ...]:
    """All that is enumerated, with each of the optional facts off and on."""
    return tuple(
        with_flags(facts, dict(zip(optional, values, strict=True)))
        for values in product((False, True), repeat=len(optional))
        for facts in raw_facts()
    )


@cache
def machines() -> tuple[RawFacts, ...]:
    """Those combinations, with every optional fact, that a machine can have."""
    return tuple(facts for facts in combinations(*_OPTIONAL) if can_exist(facts))


def can_exist(facts: RawFacts) -> bool:
    """Is there a machine with these facts?"""
    return all(evaluate(axiom, facts.atoms()) for axiom in axioms())


def table(
    stop_this_cpu: Rule,
    relocate_kernel: Rule,
    crash_nmi_callback: Rule | None = lambda facts: facts.snp_host,
    *,
    encrypts: Rule = lambda facts: facts.encrypts,
    reported: ReportOrder | None = ReportOrder.AFTER_FLUSH,
    rows: Sequence[RawFacts] | None = None,
) -> TruthTable:
    """The table of an image with these rules; where a rule gives None, its run did not end."""
    rules = {
        Site.STOP_THIS_CPU: stop_this_cpu,
        Site.RELOCATE_KERNEL: relocate_kernel,
        Site.CRASH_NMI_CALLBACK: crash_nmi_callback,
    }
    read = {site: rule for site, rule in rules.items() if rule is not None}
    found = tuple(
        TruthRow(
            facts,
            {site: _decision(rule(facts)) for site, rule in read.items()},
            encrypts(facts),
            reported if stop_this_cpu(facts) else None,
        )
        for facts in (machines() if rows is None else rows)
    )
    return TruthTable(found, runs=len(found))


def _decision(flushes: bool | None) -> SiteDecision:
    return SiteDecision(flushes, "the run stopped at f+0x10" if flushes is None else None)


def named_as_in_the_kernel(facts: RawFacts) -> Facts:
    """Raw facts in the words of `tests.kernel.eras`."""
    return Facts(
        vendor=facts.vendor,
        leaf=facts.leaf,
        sme=facts.sme,
        sev=facts.sev,
        hypervisor=facts.hypervisor,
        enabled=facts.sme_enabled,
        mem_encrypt=facts.mem_encrypt,
        sev_status=facts.sev_status,
    )
