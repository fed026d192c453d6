# SPDX-License-Identifier: GPL-2.0-or-later
"""What the old kernel does at each site on one machine, by its image or by a policy.

Both kinds of kernel answer the same question, and both say how good the answer is: an
image's own code was run, a policy named by the user is a rule, a policy guessed from a
release number is a rule that the binary may not carry.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from staleline.evidence.snapshot import Snapshot
from staleline.kernel.boot.decision import (
    Decision,
    OfflineWay,
    RawMachine,
    SiteDecision,
    Store,
    common_decision,
)
from staleline.model.scenario import Flush
from staleline.policy.atoms import AtomValue
from staleline.policy.evaluate import evaluate
from staleline.policy.expression import Expression
from staleline.policy.policy import Policy
from staleline.verdict.handover.unknown import Unknown
from staleline.verdict.machines.machine import Machine
from staleline.verdict.machines.registers import asked_of, registers_of
from staleline.vocabulary import Path, ReportOrder, Site, Through

__all__ = [
    "AlteredKernel",
    "Behaviour",
    "FixedKernel",
    "Image",
    "ImageKernel",
    "Kernel",
    "PolicyKernel",
]

_UNDER_SEVERAL = (
    "the way into the next kernel is not the same under all hypervisors, and which this is was "
    "not read"
)
#: CPUs of AMD and Hygon wait in MWAIT while offline: 6.12.118 does not let them
#: (arch/x86/kernel/smpboot.c mwait_play_dead()), some later release before 6.17 does.
_WAKES_SINCE = (6, 13)
_SEAMCALLED = "seamcalled"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What one kernel does on one machine.

    Attributes:
        flushes: Per site; None where it could not be established.
        crash_flushes: Sites at which it is another in a crash.
        report: Order of the stop protocol; None where it could not be established.
        sme_active: The kernel encrypts its memory as a host.
        seamcalls: The kernel contains the code to use TDX as a host.
        offline: The ways in which its CPUs go offline, if any are on this machine. Whether any are
            makes it no other behaviour.
        unknown: One sentence per thing that could not be established.
        left_behind: Per site, what its CPU stores to after its flush and leaves dirty.
        crash_left_behind: Sites at which it is something else in a crash.
        stops: Paths on which it may not stop the secondaries: False if it does not, None if that
            could not be established.
        open: Paths of which a part of the rule is not known, and why: nothing is safe there,
            however the part turns out, since what is stored behind a flush is not known either.
        crash_kernel_borrows: What that leaves open, if the crash kernel is told of memory besides
            its reservation, or may be.
    """

    flushes: Mapping[Site, Flush | None]
    report: ReportOrder | None
    sme_active: bool | None
    seamcalls: bool
    offline: tuple[OfflineWay, ...] = field(default=(), compare=False)
    unknown: tuple[str, ...] = ()
    crash_flushes: Mapping[Site, Flush | None] = field(default_factory=dict)
    left_behind: Mapping[Site, tuple[Store, ...]] = field(default_factory=dict)
    crash_left_behind: Mapping[Site, tuple[Store, ...]] = field(default_factory=dict)
    stops: Mapping[Path, bool | None] = field(default_factory=dict)
    open: Mapping[Path, tuple[str, ...]] = field(default_factory=dict)
    crash_kernel_borrows: Unknown | None = None

    def flush(self, site: Site, path: Path) -> Flush | None:
        """At a site on a path; None where it could not be established."""
        if path is Path.CRASH and site in self.crash_flushes:
            return self.crash_flushes[site]
        return self.flushes[site]

    def left(self, site: Site, path: Path) -> tuple[Store, ...]:
        """What is left behind at a site on a path."""
        if path is Path.CRASH and site in self.crash_left_behind:
            return self.crash_left_behind[site]
        return self.left_behind.get(site, ())


class Kernel(Protocol):
    """An old kernel of which a verdict is wanted."""

    @property
    def name(self) -> str:
        """The policy's name or the image's release."""

    @property
    def evidence(self) -> str:
        """How its behaviour is known, as a phrase for reports."""

    def behaviour(self, machine: Machine) -> Behaviour:
        """What it does on this machine."""


@dataclass(frozen=True, slots=True)
class AlteredKernel:
    """What kernels have in common that do something otherwise than another, and the rest as it."""

    kernel: Kernel

    @property
    def name(self) -> str:
        """The other's."""
        return self.kernel.name

    @property
    def evidence(self) -> str:
        """The other's."""
        return self.kernel.evidence


@dataclass(frozen=True, slots=True)
class PolicyKernel:
    """A kernel that carries a policy.

    Attributes:
        policy: Its rule.
        evidence: How it is known.
        release: Its version, where the rule was guessed from that. A rule by itself says
            nothing of CPUs that are offline, and is judged as if there were none.
    """

    policy: Policy
    evidence: str
    release: tuple[int, int] | None = None
    guessed: bool = False  # from a release number, so that the binary may carry another

    @property
    def name(self) -> str:
        """The policy's name."""
        return self.policy.name

    def behaviour(self, machine: Machine) -> Behaviour:
        """Evaluate the policy; nothing is unknown on a machine that is fully known."""
        rules = {site: self.policy.condition(site) for site in Site}
        return Behaviour(
            flushes={site: self._flush(rule, machine) for site, rule in rules.items()},
            crash_flushes={
                site: self._flush(rule, machine) for site, rule in self.policy.in_a_crash.items()
            },
            report=self.policy.reported,
            sme_active=self._encrypts(machine),
            # A rule does not say whether its kernel can use TDX. If this host did, then it can,
            # unless it was read from an image that has no such code.
            seamcalls=_SEAMCALLED not in self.policy.lacks,
            offline=() if self.release is None else tuple(_offline_ways(self.release)),
        )

    def _encrypts(self, machine: Machine) -> bool:
        encrypts = self.policy.encrypts
        if encrypts is None:
            return machine.activates_sme
        return bool(evaluate(encrypts, self._atoms(machine, seamcalled=False)))

    def _atoms(self, machine: Machine, *, seamcalled: bool) -> Mapping[str, AtomValue]:
        """Of this kernel on a machine, with what has no code there as not so."""
        lacked = dict.fromkeys(self.policy.lacks, False)
        return {**machine.atoms(seamcalled=seamcalled), **lacked}

    def _flush(self, rule: Expression, machine: Machine) -> Flush:
        """Never, always, or only on CPUs that made a SEAMCALL (where any CPU can)."""
        active = {"sme_active": self._encrypts(machine)}
        before, after = (
            evaluate(rule, {**self._atoms(machine, seamcalled=called), **active})
            for called in (False, machine.tdx_used)
        )
        # Since commit 10df8607bf1a (6.18) each CPU remembers by itself that it made one, in
        # cache_state_incoherent (linux 7.3.4 arch/x86/virt/vmx/tdx/seamcall_internal.h:40).
        return _by_seamcall(before=bool(before), after=bool(after))


@dataclass(frozen=True, slots=True)
class FixedKernel:
    """A kernel that flushes at given sites whatever the machine; for what-if questions."""

    flushes: Mapping[Site, bool]
    evidence: str = "flushes given per site"

    @property
    def name(self) -> str:
        """The sites that flush."""
        sites = [site for site, flush in self.flushes.items() if flush]
        return f"WBINVD in {' and '.join(sites)} only" if sites else "no WBINVD anywhere"

    def behaviour(self, machine: Machine) -> Behaviour:
        """The given flushes; sites that are not given do not flush."""
        return Behaviour(
            flushes={
                site: Flush.ALWAYS if self.flushes.get(site) else Flush.NEVER for site in Site
            },
            report=ReportOrder.AFTER_FLUSH,
            sme_active=machine.activates_sme,
            seamcalls=True,
        )


class Image(Protocol):
    """An image whose code can be run, or was (`RunningImage`, `RememberedImage`)."""

    @property
    def path(self) -> str:
        """The file."""

    @property
    def release(self) -> str | None:
        """What ``uname -r`` says when it runs."""

    @property
    def build_id(self) -> str | None:
        """GNU build ID in hexadecimal."""

    @property
    def seamcalls(self) -> bool:
        """It has the code to use TDX as a host."""

    @property
    def doubts(self) -> Mapping[Site, tuple[str, ...]]:
        """Per site, what its decision depends on that no listed fact sets."""

    def decide(self, machine: RawMachine) -> Decision:
        """What its code does on a machine."""

    def offline_ways(self, machine: RawMachine) -> tuple[OfflineWay, ...]:
        """The ways in which its code takes CPUs of a machine offline."""


@dataclass(frozen=True)
class ImageKernel:
    """A kernel image whose own code is run for the machine's registers."""

    image: Image
    snapshot: Snapshot
    evidence: str = "read by running the image's own code"
    _decisions: dict[tuple[Hashable, ...], Decision] = field(
        init=False, repr=False, default_factory=dict
    )
    _ways: dict[Hashable, tuple[OfflineWay, ...]] = field(
        init=False, repr=False, default_factory=dict
    )

    @property
    def name(self) -> str:
        """The image's release, or its file name."""
        return self.image.release or self.image.path

    def behaviour(self, machine: Machine) -> Behaviour:
        """Run the image's code, on a host that used TDX also after a SEAMCALL."""
        before = self._decide(machine, seamcalled=False)
        seamcalls = self.image.seamcalls
        used = seamcalls and machine.tdx_used
        after = self._decide(machine, seamcalled=True) if used else before
        unknown = [
            f"{where}: {reading.unknown}"
            for decision in dict.fromkeys((before, after))
            for where, reading in _readings(decision)
            if reading.flushes is None
        ]
        sites = {
            Site.STOP_THIS_CPU: (before.stop_this_cpu, after.stop_this_cpu),
            Site.RELOCATE_KERNEL: (before.relocate_kernel, after.relocate_kernel),
            Site.CRASH_NMI_CALLBACK: (before.crash_nmi_callback, after.crash_nmi_callback),
        }
        jumping_in_a_crash = (before.crash_relocate_kernel, after.crash_relocate_kernel)
        return self._doubted(
            Behaviour(
                flushes={site: _flush(*read) for site, read in sites.items()},
                crash_flushes={Site.RELOCATE_KERNEL: _flush(*jumping_in_a_crash)},
                left_behind={site: _left(*read) for site, read in sites.items()},
                crash_left_behind={Site.RELOCATE_KERNEL: _left(*jumping_in_a_crash)},
                # The order is that of the code; a run without a flush shows none.
                report=before.reported_stopped or after.reported_stopped,
                sme_active=before.sme_active,
                seamcalls=seamcalls,
                offline=self._offline_ways(machine),
                unknown=tuple(dict.fromkeys(unknown)),
                stops={
                    Path.KEXEC: _both(before.stops, after.stops),
                    Path.CRASH: _both(before.crash_stops, after.crash_stops),
                },
            )
        )

    def _doubted(self, behaviour: Behaviour) -> Behaviour:
        """Nothing is said of a site that depends on what no fact sets."""
        doubts = self.image.doubts
        nothing = dict.fromkeys(doubts)
        in_a_crash = {site: None for site in doubts if site in behaviour.crash_flushes}
        reasons = (reason for of_site in doubts.values() for reason in of_site)
        return replace(
            behaviour,
            flushes={**behaviour.flushes, **nothing},
            crash_flushes={**behaviour.crash_flushes, **in_a_crash},
            unknown=tuple(dict.fromkeys((*behaviour.unknown, *reasons))),
        )

    def _offline_ways(self, machine: Machine) -> tuple[OfflineWay, ...]:
        """Of a machine of which CPUs are offline; no other is asked."""
        if not machine.offline:
            return ()
        key = asked_of(machine)
        if key not in self._ways:
            several = registers_of(machine, self.snapshot, seamcalled=False)
            ways = (way for one in several for way in self.image.offline_ways(one))
            self._ways[key] = tuple(dict.fromkeys(ways))
        return self._ways[key]

    def _decide(self, machine: Machine, *, seamcalled: bool) -> Decision:
        # An emulated run takes milliseconds; thousands of machines share a few dozen of them.
        key = (asked_of(machine), seamcalled)
        if key not in self._decisions:
            hypervisors = registers_of(machine, self.snapshot, seamcalled=seamcalled)
            decisions = [self.image.decide(registers) for registers in hypervisors]
            self._decisions[key] = common_decision(decisions, _UNDER_SEVERAL)
        return self._decisions[key]


def _offline_ways(release: tuple[int, int]) -> Iterator[OfflineWay]:
    """What releases do by their sources, from 5.10 to 7.3; which lines they are is not told."""
    store = Store(0, 0, 8, Through.OWN, "the stack of the CPU", "acpi_idle_play_dead")
    stores = SiteDecision(flushes=True, stores=(store,))
    yield OfflineWay("hlt_play_dead() by HLT", SiteDecision(flushes=True))
    yield OfflineWay("acpi_idle_play_dead() by HLT", stores)
    if release >= _WAKES_SINCE:
        state = replace(store, line="per-CPU mwait_cpu_dead", code="mwait_play_dead")
        woken = SiteDecision(flushes=True, stores=(state,))
        yield OfflineWay(
            "mwait_play_dead() by MWAIT", SiteDecision(flushes=True), woken, by_mwait=True
        )


def _readings(decision: Decision) -> Iterator[tuple[str, SiteDecision]]:
    yield Site.STOP_THIS_CPU, decision.stop_this_cpu
    yield Site.RELOCATE_KERNEL, decision.relocate_kernel
    yield Site.CRASH_NMI_CALLBACK, decision.crash_nmi_callback
    yield f"{Site.RELOCATE_KERNEL} in a crash", decision.crash_relocate_kernel


def _flush(before: SiteDecision, after: SiteDecision) -> Flush | None:
    """A site as read before and after a SEAMCALL."""
    if before.flushes is None or after.flushes is None:
        return None
    return _by_seamcall(before=before.flushes, after=after.flushes)


def _by_seamcall(*, before: bool, after: bool) -> Flush:
    """By what CPUs do that made no SEAMCALL yet, and those that did."""
    if after:
        return Flush.ALWAYS if before else Flush.AFTER_SEAMCALL
    # One that flushes before only comes to none: lines of another key are in the caches of CPUs
    # that made a SEAMCALL, and of no other (`ForeignLines.TDX`).
    return Flush.NEVER


def _left(before: SiteDecision, after: SiteDecision) -> tuple[Store, ...]:
    """What a site leaves behind before or after a SEAMCALL."""
    return tuple(dict.fromkeys((*before.left_behind, *after.left_behind)))


def _both(before: bool | None, after: bool | None) -> bool | None:
    return before if before is after else None
