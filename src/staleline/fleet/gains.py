# SPDX-License-Identifier: GPL-2.0-or-later
"""Which single thing that is missing would settle how many hosts, by the engine alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from staleline.evidence.snapshot import TDX_MODULE_STATES
from staleline.fleet.asked import ASKED, BOOLEANS, ClassValues
from staleline.fleet.judging import Asked, Judge, with_kernel
from staleline.fleet.subjects import FleetSubject
from staleline.policy.atoms import VENDORS
from staleline.vocabulary import Verdict

__all__ = ["Gain", "gains"]

_RULE = "unknown-rule"
_FLAGS = (True, False)
#: Id of what is missing -> the facts that one look at the host tells.
_TOLD_BY = {
    "unknown-syscfg": ("sme_enabled", "snp_enabled"),
    "unknown-sev-status": ("sev_guest", "sev_es_guest", "snp_guest"),
    "unknown-tdx-keyids": ("tdx_keyids",),
    "unknown-command-line": ("mem_encrypt",),
    "unknown-sev-guests": ("sev_guests_run",),
    "unknown-tdx-use": ("tdx_module",),
    "unknown-reboot-force": ("reboot_force",),
    "unknown-cpu-count": ("several_cpus",),
    "unknown-offline-cpus": ("offline_cpus",),
    "unknown-hypervisor": ("hypervisor", "jumped_by", "isolated"),
    "unknown-cpuid": (
        *("vendor", "sme", "sev", "unchecked_sme_bit", "coherency_enforced", "coherency_sfw_no"),
        *("hypervisor", "tdx_guest", "mwait", "tme"),
    ),
}
#: What a fact that is no yes or no may turn out to be: one of each kind that is told apart.
_ANSWERS: Mapping[str, Sequence[int | str]] = {
    "vendor": VENDORS,
    "mem_encrypt": ("on", "off"),
    # Of one that failed, too, it is not known what it left in the caches.
    "tdx_module": TDX_MODULE_STATES,
    "jumped_by": ("kernel", "xen", "hyper-v", "jailhouse"),
    "tdx_keyids": (0, 2),
}
#: Each way is an audit. Where a thing may turn out in more, it is not said that it settles a host.
_WAYS_MAX = 64


@dataclass(frozen=True, slots=True)
class Gain:
    """What getting one thing would bring.

    Attributes:
        id: Of what is missing.
        hosts: Of so many it is missing.
        settled: So many of them it settles for certain.
        perhaps: So many more it settles if the answer is a good one.
    """

    id: str
    hosts: int
    settled: int
    perhaps: int


def gains(
    judge: Judge, subjects: Iterable[FleetSubject], open_subjects: Iterable[Mapping[str, Any]]
) -> list[Gain]:
    """Each thing that is missing, the most valuable first.

    Args:
        judge: The engine, with what it knows.
        subjects: All subjects of the fleet.
        open_subjects: Rows: what is missing of which subjects, and how many hosts that is.
    """
    missing: Counter[str] = Counter()
    settled: Counter[str] = Counter()
    perhaps: Counter[str] = Counter()
    settling: dict[str, dict[str, bool | None]] = {}
    representatives: dict[int, FleetSubject] = {}
    for subject in subjects:
        representatives.setdefault(subject.number, subject)
    # In the order in which profiles are read; what is summed up has none.
    for row in sorted(open_subjects, key=lambda row: representatives[row["subject"]].profile):
        names, hosts = row["missing"].split(","), int(row["hosts"])
        missing.update(dict.fromkeys(names, hosts))
        subject = representatives[row["subject"]]
        own = judge.asked(subject)
        known = settling.setdefault(repr((own.values, own.key)), {})
        for name in names:
            if name not in known:
                known[name] = _settles(judge, own, subject.registers, name)
        settled.update({name: hosts for name in names if known[name]})
        perhaps.update({name: hosts for name in names if known[name] is None})
    order = sorted(missing, key=lambda name: (-settled[name], -perhaps[name], -missing[name], name))
    return [Gain(name, missing[name], settled[name], perhaps[name]) for name in order]


def _settles(judge: Judge, asked: Asked, registers: str, name: str) -> bool | None:
    """For certain, perhaps (None), or not at all."""
    verdicts = {judge.verdict_of(one) for one in _ways(asked, registers, name)}
    # No machine answers so, and what cannot be answered decides nothing.
    known = [one.verdict != Verdict.UNKNOWN for one in verdicts if not one.contradictions]
    # For certain: every answer that it may give, as far as the host's other facts allow it, makes
    # the verdict safe or at risk.
    if known and all(known):
        return True
    return None if any(known) else False


def _ways(asked: Asked, registers: str, name: str) -> Iterator[Asked]:
    """The class once for each way in which the missing thing may turn out."""
    if name == _RULE:
        # The image would show which of these it carries.
        for kernel in asked.kernels:
            yield with_kernel(asked, kernel, registers)
        return
    values = dict(zip(ASKED, asked.values, strict=True))
    open_facts = [fact for fact in _TOLD_BY.get(name, ()) if values[fact] is None]
    ways = [_FLAGS if fact in BOOLEANS else _ANSWERS[fact] for fact in open_facts]
    count = 1
    for way in ways:
        count *= len(way)
    if not open_facts or count > _WAYS_MAX:
        return
    for answers in product(*ways):
        told = values | dict(zip(open_facts, answers, strict=True))
        changed: ClassValues = tuple(told[fact] for fact in ASKED)
        yield replace(asked, values=changed)
