# SPDX-License-Identifier: GPL-2.0-or-later
"""A handover that can be judged: a known machine, what the kernel does on it, a transition."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

from staleline.kernel.boot.decision import Store
from staleline.model.scenario import (
    Flush,
    ForeignLines,
    LeftBehind,
    Offline,
    Scenario,
    Stop,
)
from staleline.model.state.lines import Role, lines_of
from staleline.verdict.handover.kernels import Behaviour
from staleline.verdict.handover.offline import offline_ends
from staleline.verdict.machines.machine import Guest, Machine
from staleline.vocabulary import Path, ReportOrder, Site, Through

__all__ = ["SECONDARIES", "Case"]

#: Secondaries in the model. Two show every violation that larger numbers show: the
#: transitions of one secondary and the interference of another are all there is.
SECONDARIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One old kernel on one machine, one next kernel, one path.

    Attributes:
        machine: Where it happens.
        behaviour: What the old kernel does there.
        path: How it hands over.
        next_encrypts: The next kernel uses the C-bit.
        roles: Lines of these roles are looked at; None for all of them.
        load_settled: It is accepted without evidence that what was written when a crash kernel
            was loaded has left the caches (docs/model.md).
    """

    machine: Machine
    behaviour: Behaviour
    path: Path
    next_encrypts: bool
    roles: frozenset[Role] | None = None
    load_settled: bool = False

    @property
    def has_lines(self) -> bool:
        """Is there a line of a role that is looked at?"""
        return any(map(self.is_looked_at, self.scenarios()))

    def is_looked_at(self, scenario: Scenario) -> bool:
        """Has it a line of such a role?"""
        roles = self.roles
        return roles is None or any(line.role in roles for line in lines_of(scenario))

    @property
    def is_modelled(self) -> bool:
        """Is all that decides it in the model?"""
        return self.can_be_asked and not self.uses_borrowed_memory

    @property
    def can_be_asked(self) -> bool:
        """Does the model say anything of it?"""
        machine = self.machine
        # The model has no hypervisor that jumps instead of the kernel, nor how one hides a guest's
        # memory, nor code that was not read.
        outside = not machine.jumped_by_kernel or machine.isolated
        return not outside and self.path not in self.behaviour.open

    @property
    def uses_borrowed_memory(self) -> bool:
        """Does a crash kernel use memory that may be in the caches under another alias?

        The model confines it to its reservation.
        """
        machine, behaviour = self.machine, self.behaviour
        if self.path is not Path.CRASH or behaviour.crash_kernel_borrows is None:
            return False
        # With ``crashkernel=size,cma`` it uses memory that processes had until then (linux 7.3.4
        # arch/x86/kernel/crash.c:336). Unlike a reservation, that can be what guests
        # had, as all memory on a kexec.
        two_keys = _foreign(machine, behaviour) is not ForeignLines.NONE
        # An encrypted guest has two aliases, private and shared, whoever encrypts it.
        encrypted = machine.guest_encrypts or self.old_encrypts or self.next_encrypts
        two_aliases = two_keys or encrypted
        return two_aliases and _incoherent(machine, behaviour, Path.KEXEC)

    @property
    def circumstances(self) -> tuple[Hashable, ...]:
        """All that its judgement depends on: cases that are alike in this are judged alike."""
        behaviour = self.behaviour
        return (
            self.path,
            self.next_encrypts,
            *(behaviour.flush(site, self.path) for site in self.sites),
            *(behaviour.left(site, self.path) for site in self.sites),
            behaviour.stops.get(self.path, True),
            behaviour.report,
            behaviour.sme_active,
            behaviour.seamcalls,
            self.offline,
            # Of those that may be dirty, what each leaves is told.
            behaviour.offline if len(self.offline) > 1 else (),
            behaviour.unknown,
            behaviour.open.get(self.path),
            behaviour.crash_kernel_borrows,
            self.roles,
            self.load_settled,
            self.machine.circumstances,
        )

    @property
    def old_encrypts(self) -> bool:
        """The old kernel uses the C-bit."""
        # `sme_active` is of hosts: an SEV guest uses the C-bit whatever that says.
        return bool(self.behaviour.sme_active) or self.machine.sev_guest

    @property
    def sites(self) -> tuple[Site, Site]:
        """The secondaries' site on this path, and the jumping CPU's."""
        return (self.path.secondaries_site, Site.RELOCATE_KERNEL)

    @property
    def stops_secondaries(self) -> bool:
        """May they be stopped, as far as is known?"""
        return Stop.COMPLETE in self._ways_of_stopping

    @property
    def _ways_of_stopping(self) -> tuple[Stop, ...]:
        """With reboot=force a kexec stops nobody (linux 7.3.4 arch/x86/kernel/smp.c:155)."""
        if not self.machine.several_cpus:
            return (Stop.COMPLETE,)
        stops = self.behaviour.stops.get(self.path, True)
        if self.path is Path.CRASH:
            # In a crash those that nobody stops go on for as long as those that the wait gives up
            # on.
            return (Stop.COMPLETE,) if stops else (Stop.COMPLETE, Stop.GIVES_UP)
        if self.machine.reboot_force or stops is False:
            return (Stop.SKIPPED,)
        return (Stop.COMPLETE,) if stops else (Stop.COMPLETE, Stop.SKIPPED)

    @property
    def _ways_of_stopping_and_waking(self) -> tuple[tuple[Stop, Offline], ...]:
        """Where others are not stopped, offline CPUs make it no worse."""
        return tuple(
            (stop, offline)
            for stop in self._ways_of_stopping
            for offline in (self.offline if stop is Stop.COMPLETE else (Offline.NONE,))
        )

    def flush(self, site: Site) -> Flush | None:
        """What the old kernel does at a site; None where it could not be established."""
        return self.behaviour.flush(site, self.path)

    def left_behind(self, site: Site) -> tuple[Store, ...]:
        """What the old kernel leaves behind dirty at a site."""
        return self.behaviour.left(site, self.path)

    @property
    def offline(self) -> tuple[Offline, ...]:
        """What CPUs that are offline may do; which of it depends on their idle driver."""
        if not self.machine.offline:
            return (Offline.NONE,)
        kicks = self.path is Path.KEXEC and self.stops_secondaries
        return offline_ends(
            self.behaviour.offline, self.path, mwait=self.machine.mwait, kicks=kicks
        )

    def scenarios(self) -> Iterator[Scenario]:
        """One scenario per way in which the behaviour's unknowns may turn out."""
        flushes = [self._flush(site) for site in self.sites]
        by_secondary, by_jumping = (_left(self.left_behind(site)) for site in self.sites)
        machine, encrypted_guest = self.machine, self.machine.guest_encrypts
        for (stop, offline), secondary, jumping, report in product(
            self._ways_of_stopping_and_waking,
            _either(flushes[0]),
            _either(flushes[1]),
            _orders(self.behaviour, self.path, flushes[0]),
        ):
            yield _scenario(
                path=self.path,
                old_encrypts=self.old_encrypts or encrypted_guest,
                next_encrypts=self.next_encrypts or encrypted_guest,
                incoherent=_incoherent(machine, self.behaviour, self.path),
                foreign=_foreign(machine, self.behaviour),
                flush_secondary=secondary,
                flush_jumping=jumping,
                report=report,
                guest=encrypted_guest,
                stop=stop,
                secondaries=SECONDARIES if machine.several_cpus else 0,
                offline=offline,
                left_by_secondary=by_secondary,
                left_by_jumping=by_jumping,
                # Elsewhere it means nothing, and would make two scenarios of one.
                load_settled=self.load_settled and self.path is Path.CRASH,
            )

    def _flush(self, site: Site) -> Flush | None:
        """What a flush comes to: in an encrypted guest, that is its hypervisor's doing."""
        unheard = self.machine.guest_encrypts and not self.machine.guest_flushes
        return Flush.NEVER if unheard else self.flush(site)


#: Thousands of machines that fit little evidence share a few dozen scenarios.
_scenario = cache(Scenario)


def _left(stores: tuple[Store, ...]) -> LeftBehind:
    """Through which aliases these go."""
    through = {store.through for store in stores}
    if through == set(Through):
        return LeftBehind.BOTH
    if not through:
        return LeftBehind.NONE
    return LeftBehind.KERNEL if Through.OWN in through else LeftBehind.PLAIN


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


def _incoherent(machine: Machine, behaviour: Behaviour, path: Path) -> bool:
    """Can this machine's caches hold two incoherent aliases of one line?"""
    # A plain guest's caches are its hypervisor's; an encrypted guest has a private and a shared
    # alias of its own lines.
    if machine.guest is not Guest.NONE:
        return machine.guest_encrypts and not machine.guest_aliases_coherent
    foreign = _foreign(machine, behaviour)
    # Intel's KeyIDs are never coherent, but only a host that used TDX has a second one.
    if foreign is ForeignLines.TDX:
        return True
    # In a crash the next kernel stays in its reservation, where guests never were.
    met_again = foreign is ForeignLines.SEV_GUESTS and path is Path.KEXEC
    # Lines of guest keys have to be out of the caches for devices too, whatever is said of C-bit
    # aliases.
    if met_again and not machine.guest_keys_snooped:
        return True
    # CPUID 0x8000001F EAX[10]: CPUs keep C-bit aliases coherent.
    return machine.sme_enabled and not machine.coherency_enforced


def _foreign(machine: Machine, behaviour: Behaviour) -> ForeignLines:
    # A host has one of them: TDX is Intel's, SEV is AMD's.
    if machine.tdx_used and behaviour.seamcalls:
        return ForeignLines.TDX
    return ForeignLines.SEV_GUESTS if machine.sev_guests_run else ForeignLines.NONE
