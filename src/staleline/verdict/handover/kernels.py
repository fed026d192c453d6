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
    RawMachine,
    SiteDecision,
    Store,
    common_decision,
)
from staleline.model.scenario import Flush
from staleline.policy.policy import Policy
from staleline.verdict.machines.machine import Machine
from staleline.verdict.machines.registers import asked_of, registers_of
from staleline.vocabulary import Path, ReportOrder, Site

__all__ = [
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


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What one kernel does on one machine.

    Attributes:
        flushes: Per site; None where it could not be established.
        crash_flushes: Sites at which it is another in a crash.
        report: Order of the stop protocol; None where it could not be established.
        sme_active: The kernel encrypts its memory as a host.
        seamcalls: The kernel contains the code to use TDX as a host.
        wakes_offline: A kexec wakes CPUs that are offline and wait in MWAIT; each then dirties
            a line and halts without a flush (linux 7.3.4 arch/x86/kernel/smp.c:165,
            smpboot.c:1459).
        unknown: One sentence per thing that could not be established.
        left_behind: Per site, what its CPU stores to after its flush and leaves dirty.
        crash_left_behind: Sites at which it is something else in a crash.
        stops: Paths on which it may not stop the secondaries: False if it does not, None if that
            could not be established.
    """

    flushes: Mapping[Site, Flush | None]
    report: ReportOrder | None
    sme_active: bool | None
    seamcalls: bool
    wakes_offline: bool = False
    unknown: tuple[str, ...] = ()
    crash_flushes: Mapping[Site, Flush | None] = field(default_factory=dict)
    left_behind: Mapping[Site, tuple[Store, ...]] = field(default_factory=dict)
    crash_left_behind: Mapping[Site, tuple[Store, ...]] = field(default_factory=dict)
    stops: Mapping[Path, bool | None] = field(default_factory=dict)

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
        return Behaviour(
            flushes={site: self._flush(site, machine) for site in Site},
            report=self.policy.reported,
            sme_active=machine.activates_sme,
            seamcalls=True,
            wakes_offline=self.wakes_offline,
        )

    @property
    def wakes_offline(self) -> bool:
        """A kexec wakes CPUs that are offline, by its release."""
        return self.release is not None and self.release >= _WAKES_SINCE

    def _flush(self, site: Site, machine: Machine) -> Flush:
        """Never, always, or only on CPUs that made a SEAMCALL (where any CPU can)."""
        before, after = (
            self.policy.flushes(site, machine.atoms(seamcalled=called))
            for called in (False, machine.tdx_used)
        )
        if before:
            return Flush.ALWAYS
        return Flush.AFTER_SEAMCALL if after else Flush.NEVER


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
    def wakes_offline(self) -> bool:
        """A kexec wakes CPUs of AMD and Hygon that are offline and wait in MWAIT."""

    @property
    def doubts(self) -> Mapping[Site, tuple[str, ...]]:
        """Per site, what its decision depends on that no listed fact sets."""

    def decide(self, machine: RawMachine) -> Decision:
        """What its code does on a machine."""


@dataclass(frozen=True)
class ImageKernel:
    """A kernel image whose own code is run for the machine's registers."""

    image: Image
    snapshot: Snapshot
    evidence: str = "read by running the image's own code"
    _decisions: dict[tuple[Hashable, ...], Decision] = field(
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
        return self._doubted(
            Behaviour(
                flushes={
                    Site.STOP_THIS_CPU: _flush(before.stop_this_cpu, after.stop_this_cpu),
                    Site.RELOCATE_KERNEL: _flush(before.relocate_kernel, after.relocate_kernel),
                    Site.CRASH_NMI_CALLBACK: _flush(
                        before.crash_nmi_callback, after.crash_nmi_callback
                    ),
                },
                crash_flushes={
                    Site.RELOCATE_KERNEL: _flush(
                        before.crash_relocate_kernel, after.crash_relocate_kernel
                    )
                },
                left_behind={
                    Site.STOP_THIS_CPU: _left(before.stop_this_cpu, after.stop_this_cpu),
                    Site.RELOCATE_KERNEL: _left(before.relocate_kernel, after.relocate_kernel),
                    Site.CRASH_NMI_CALLBACK: _left(
                        before.crash_nmi_callback, after.crash_nmi_callback
                    ),
                },
                crash_left_behind={
                    Site.RELOCATE_KERNEL: _left(
                        before.crash_relocate_kernel, after.crash_relocate_kernel
                    )
                },
                report=before.reported_stopped or after.reported_stopped,
                sme_active=before.sme_active,
                seamcalls=seamcalls,
                wakes_offline=self.image.wakes_offline,
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
        reasons = (reason for several in doubts.values() for reason in several)
        return replace(
            behaviour,
            flushes={**behaviour.flushes, **nothing},
            crash_flushes={**behaviour.crash_flushes, **in_a_crash},
            unknown=tuple(dict.fromkeys((*behaviour.unknown, *reasons))),
        )

    def _decide(self, machine: Machine, *, seamcalled: bool) -> Decision:
        key = (asked_of(machine), seamcalled)
        if key not in self._decisions:
            several = registers_of(machine, self.snapshot, seamcalled=seamcalled)
            decisions = [self.image.decide(registers) for registers in several]
            self._decisions[key] = common_decision(decisions, _UNDER_SEVERAL)
        return self._decisions[key]


def _readings(decision: Decision) -> Iterator[tuple[str, SiteDecision]]:
    yield Site.STOP_THIS_CPU, decision.stop_this_cpu
    yield Site.RELOCATE_KERNEL, decision.relocate_kernel
    yield Site.CRASH_NMI_CALLBACK, decision.crash_nmi_callback
    yield f"{Site.RELOCATE_KERNEL} in a crash", decision.crash_relocate_kernel


def _flush(before: SiteDecision, after: SiteDecision) -> Flush | None:
    """A site as read before and after a SEAMCALL."""
    if before.flushes is None or after.flushes is None:
        return None
    if before.flushes:
        return Flush.ALWAYS
    return Flush.AFTER_SEAMCALL if after.flushes else Flush.NEVER


def _left(before: SiteDecision, after: SiteDecision) -> tuple[Store, ...]:
    """What a site leaves behind before or after a SEAMCALL."""
    return tuple(dict.fromkeys((*before.left_behind, *after.left_behind)))


def _both(before: bool | None, after: bool | None) -> bool | None:
    return before if before is after else None
