# SPDX-License-Identifier: GPL-2.0-or-later
"""One handover on one known machine: what the kernel does against what the model requires."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

from staleline.check import Answer, Counterexample, Requirements, check, required_flushes
from staleline.model.scenario import Flush, ForeignLines, Scenario
from staleline.verdict.kernels import Behaviour
from staleline.verdict.machine import Guest, Machine
from staleline.vocabulary import Path, ReportOrder, Site, Verdict

__all__ = ["SECONDARIES", "Judgement", "judge", "scenarios_of"]

#: Secondaries in the model. Two show every violation that larger numbers show: the
#: transitions of one secondary and the interference of another are all there is.
SECONDARIES = 2


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one handover, and what stands beside it.

    Attributes:
        verdict: Safe, at risk, or unknown.
        because: For a safe handover, why it is, as a clause; else empty.
        answer: The model checker's answer; None where several were possible.
        flushes: Per site of this path: WBINVD executed, or None where not established.
        needed: Per site: does every safe choice of flushes include it? None if not settled.
        unneeded: Sites whose WBINVD no stale line required, with the reason.
        faults: Sites whose WBINVD traps on this machine.
        unknown: What could not be established.
    """

    verdict: Verdict
    because: str
    answer: Answer | None
    flushes: dict[Site, bool | None]
    needed: dict[Site, bool | None]
    unneeded: dict[Site, str]
    faults: tuple[Site, ...]
    unknown: tuple[str, ...]

    @property
    def counterexample(self) -> Counterexample | None:
        """The shortest interleaving that breaks it, for an at-risk verdict."""
        return None if self.answer is None else self.answer.counterexample


def judge(machine: Machine, behaviour: Behaviour, *, path: Path, next_encrypts: bool) -> Judgement:
    """Check every way in which the behaviour's unknowns may turn out.

    Where all ways agree, what is unknown did not matter.
    """
    scenarios = list(scenarios_of(machine, behaviour, path, next_encrypts))
    answers = [_check(scenario) for scenario in scenarios]
    requirements = _requirements(scenarios[0])
    sites = (path.secondaries_site, Site.RELOCATE_KERNEL)
    flushes = {site: _executed(behaviour.flushes[site]) for site in sites}
    needed: dict[Site, bool | None] = {site: site in requirements.needed for site in sites}
    verdict = _verdict(answers)
    return Judgement(
        verdict=verdict,
        because=_why_safe(machine, behaviour, path, next_encrypts, requirements)
        if verdict is Verdict.SAFE
        else "",
        answer=answers[0] if verdict is not Verdict.UNKNOWN else None,
        flushes=flushes,
        needed=needed,
        unneeded={
            site: _why_unneeded(machine, behaviour, path, next_encrypts, site)
            for site in sites
            if flushes[site] and site in requirements.unneeded
        },
        faults=tuple(site for site in sites if flushes[site] and machine.guest.wbinvd_faults),
        unknown=() if verdict is not Verdict.UNKNOWN else _reasons(behaviour, path),
    )


def scenarios_of(
    machine: Machine, behaviour: Behaviour, path: Path, next_encrypts: bool
) -> Iterator[Scenario]:
    """One scenario per way in which the behaviour's unknowns may turn out."""
    secondary = behaviour.flushes[path.secondaries_site]
    jumping = behaviour.flushes[Site.RELOCATE_KERNEL]
    for flush_secondary, flush_jumping, report in product(
        _either(secondary), _either(jumping), _orders(behaviour, path, secondary)
    ):
        yield Scenario(
            path=path,
            old_encrypts=bool(behaviour.sme_active),
            next_encrypts=next_encrypts,
            incoherent=_incoherent(machine, behaviour),
            foreign=_foreign(machine, behaviour),
            flush_secondary=flush_secondary,
            flush_jumping=flush_jumping,
            report=report,
            secondaries=SECONDARIES,
        )


def _either(flush: Flush | None) -> tuple[Flush, ...]:
    return (Flush.NEVER, Flush.ALWAYS) if flush is None else (flush,)


def _orders(behaviour: Behaviour, path: Path, secondary: Flush | None) -> tuple[ReportOrder, ...]:
    # crash_nmi_callback() counts a CPU as stopped after its callback, in every version read
    # (linux 5.10.262 and 7.3.4 arch/x86/kernel/reboot.c).
    if path is Path.CRASH:
        return (ReportOrder.AFTER_FLUSH,)
    if behaviour.report is not None:
        return (behaviour.report,)
    # Without a flush there is nothing that a report could come before.
    return (ReportOrder.AFTER_FLUSH,) if secondary is Flush.NEVER else tuple(ReportOrder)


def _incoherent(machine: Machine, behaviour: Behaviour) -> bool:
    """Can this machine's caches hold two incoherent aliases of one line?

    AMD and Hygon: with SME or SEV enabled by firmware, unless CPUID 0x8000001F EAX[10]
    says that hardware keeps C-bit aliases coherent. Intel: KeyIDs are never coherent, but
    only a host that used TDX has a second one. A guest's caches are its hypervisor's.
    """
    if machine.guest is not Guest.NONE:
        return False
    if _foreign(machine, behaviour) is ForeignLines.TDX:
        return True
    return machine.sme_enabled and not machine.coherency_enforced


def _foreign(machine: Machine, behaviour: Behaviour) -> ForeignLines:
    if machine.tdx_used and behaviour.seamcalls:
        return ForeignLines.TDX
    return ForeignLines.SEV_GUESTS if machine.sev_guests_run else ForeignLines.NONE


@cache
def _check(scenario: Scenario) -> Answer:
    return check(scenario)


@cache
def _requirements(scenario: Scenario) -> Requirements:
    """Required flushes; they do not depend on what this kernel does."""
    return required_flushes(
        replace(scenario, flush_secondary=Flush.NEVER, flush_jumping=Flush.NEVER)
    )


def _verdict(answers: list[Answer]) -> Verdict:
    broken = {answer.counterexample is not None for answer in answers}
    if broken == {False}:
        return Verdict.SAFE
    return Verdict.AT_RISK if broken == {True} else Verdict.UNKNOWN


def _executed(flush: Flush | None) -> bool | None:
    return None if flush is None else flush is not Flush.NEVER


def _reasons(behaviour: Behaviour, path: Path) -> tuple[str, ...]:
    if behaviour.unknown:
        return behaviour.unknown
    unread = [
        site
        for site in (path.secondaries_site, Site.RELOCATE_KERNEL)
        if behaviour.flushes[site] is None
    ]
    return tuple(f"{site}: not read from this image" for site in unread) or (
        "the order of the stop protocol could not be read from this image",
    )


def _why_safe(
    machine: Machine,
    behaviour: Behaviour,
    path: Path,
    next_encrypts: bool,
    requirements: Requirements,
) -> str:
    site = path.secondaries_site
    if not requirements.needed:
        return _why_unneeded(machine, behaviour, path, next_encrypts, site)
    names = {site: "the secondaries", Site.RELOCATE_KERNEL: "the jumping CPU"}
    who = " and ".join(name for wanted, name in names.items() if wanted in requirements.needed)
    return f"the WBINVD that the handover requires is executed by {who}"


def _why_unneeded(
    machine: Machine, behaviour: Behaviour, path: Path, next_encrypts: bool, site: Site
) -> str:
    """Why no stale line required this WBINVD, as a clause."""
    if machine.guest is not Guest.NONE:
        return "in a guest the caches are the hypervisor's to write back"
    if not machine.sme_supported and not machine.sev_supported and not machine.tdx_used:
        return "this CPU has no memory encryption, so a line has one alias only"
    if machine.coherency_enforced:
        return "the hardware keeps the aliases of a line coherent (CPUID 0x8000001F EAX[10])"
    if not machine.sme_enabled and not machine.tdx_used:
        return "firmware left memory encryption off (SYSCFG[23]=0), so the C-bit is not honoured"
    if not behaviour.sme_active and not next_encrypts:
        return "neither kernel uses the C-bit, so a line has one alias only"
    if path is Path.CRASH:
        return "the crash kernel uses its reservation only, which was flushed when it was loaded"
    if site is Site.RELOCATE_KERNEL and not behaviour.sme_active:
        return "the next kernel's own WBINVD in __enc_copy covers the jumping CPU"
    return "every stale line of this CPU is written back before the next kernel owns its memory"
