# SPDX-License-Identifier: GPL-2.0-or-later
"""What two sites depend on when another way leads to them: an NMI, or a crash.

A secondary that does not stop by the first interrupt gets an NMI, whose handler has a way of its
own to ``stop_this_cpu()``; and a crash comes to ``machine_kexec()`` in another state than a kexec.
Each is searched as its site is, from the state in which it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.memory import lay_out
from staleline.kernel.influence.at_sites import search_sites
from staleline.kernel.influence.first_way import FirstWay
from staleline.kernel.influence.rows import boot_rows, machines
from staleline.kernel.rerun.reruns import Booted, Reruns
from staleline.kernel.sites.crash import (
    end_crash_shutdown,
    run_crash_nmi_callback,
    run_jump_in_crash,
)
from staleline.kernel.sites.kexecstate import begin_crash
from staleline.kernel.sites.sites import run_slow_to_stop
from staleline.kernel.sites.stoppath import forked, sends
from staleline.kernel.sites.waiting import wait_of
from staleline.vocabulary import Site
from staleline.workers import AsideError, aside

if TYPE_CHECKING:
    from staleline.kernel.boot.decision import RawMachine, SiteDecision
    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.emulator.memory import KeptMemory
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.rerun.inputs import VariedCpu

__all__ = ["SECOND_WAYS", "SecondWay", "second_ways_aside"]

Unlisted = Mapping[Site, tuple[str, ...]]


class SecondWay(Reruns):
    """One image, to be run many times on another way to a site."""

    #: The site.
    site: ClassVar[Site]
    #: What an image has that has this way.
    needs: ClassVar[str]
    #: When it is taken, as reasons say it.
    when: ClassVar[str]
    #: The code that the site begins with is the same as on its first way.
    begins_alike: ClassVar[bool] = False


class StoppedByNmi(SecondWay):
    """A secondary that is told to stop by an NMI, once the first interrupt has been sent."""

    site = Site.STOP_THIS_CPU
    needs = "stop_this_cpu"
    when = "where a CPU has to be told by an NMI"

    def __init__(self, image: KernelImage) -> None:
        super().__init__(image)
        self._before: dict[Booted, KeptMemory] = {}
        self._began: KeptMemory | None = None

    def boot(self, machine: RawMachine) -> Booted:
        """And begin to stop the others."""
        booted = super().boot(machine)
        before = self.memory.kept()
        told = wait_of(self._emulated, booted.cpus, for_each=False).told
        if sends(self._emulated, forked(booted.cpus)) is None or told is None:
            raise DerivationError("no other CPU is interrupted")
        for address, content in told.items():
            self.memory.write(address, content)
        sent = Booted(self.memory.kept(), booted.cpus)
        self._before[sent] = before
        return sent

    def restore(self, site: Site, booted: Booted) -> None:
        """The memory in which the NMI comes."""
        assert site is self.site
        self._began = self._before[booted]
        self.memory.put_back(booted.memory)

    def at_site(
        self, site: Site, cpus: Sequence[VariedCpu], emulated: EmulatedMachine
    ) -> SiteDecision:
        """Let the secondary take it."""
        assert site is self.site
        assert self._began is not None
        jumping, secondary = cpus
        run = run_slow_to_stop(emulated, secondary, jumping=jumping, began=self._began)
        return run.decision


class JumpInCrash(SecondWay):
    """The crashing CPU, which has shut down and jumps."""

    site = Site.RELOCATE_KERNEL
    needs = "machine_crash_shutdown"
    when = "in a crash"
    begins_alike = True

    def boot(self, machine: RawMachine) -> Booted:
        """And crash, up to the jump."""
        cpus = super().boot(machine).cpus
        begin_crash(self.image, self.memory, crashing=cpus[0].number)
        run_crash_nmi_callback(self._emulated, cpus)
        end_crash_shutdown(self._emulated, cpus[0])
        return Booted(self.memory.kept(), cpus)

    def restore(self, site: Site, booted: Booted) -> None:
        """The memory in which the crashing CPU jumps."""
        assert site is self.site
        self.memory.put_back(booted.memory)

    def at_site(
        self, site: Site, cpus: Sequence[VariedCpu], emulated: EmulatedMachine
    ) -> SiteDecision:
        """Let it jump."""
        assert site is self.site
        return run_jump_in_crash(emulated, cpus[0])


SECOND_WAYS: Final[tuple[type[SecondWay], ...]] = (StoppedByNmi, JumpInCrash)


def second_ways_aside(image: KernelImage) -> Callable[[Unlisted], Unlisted]:
    """Begin to search them in another process; no thread may run in this one.

    Returns:
        Adds what was found to what sites depend on and no fact sets; to be called once.
    """
    lay_out(image)
    # What both processes begin with.
    with suppress(DerivationError):
        boot_rows(image)
    wait_for_ways = aside(partial(_dependencies, image))

    def added(unlisted: Unlisted) -> Unlisted:
        try:
            ways = wait_for_ways()
        except AsideError as error:
            reason = f"what else another way to the sites depends on could not be tried: {error}"
            ways = [(way.site, reason, "") for way in SECOND_WAYS]
        for site, what, when in ways:
            told = unlisted.get(site, ())
            if not any(reason.startswith(what) for reason in told):
                unlisted = {**unlisted, site: (*told, what + when)}
        return unlisted

    return added


def _dependencies(image: KernelImage) -> list[tuple[Site, str, str]]:
    """Sites, what each depends on, and when."""
    return [
        (way.site, sentence, f" {way.when}, which no fact sets")
        for way in SECOND_WAYS
        if way.needs in image.symbols
        for sentence in _of_one(way(image))
    ]


def _of_one(way: SecondWay) -> Iterator[str]:
    """Searched on a machine where kernels flush and on one where they do not.

    Where the way itself cannot be run, its site is unknown for that reason.
    """
    rows = list(machines(way.image))
    encrypting, plain = rows[:2]
    with suppress(DerivationError), way.series():
        if _is_as_the_first(way, (encrypting, plain)):
            return
        searches = search_sites(
            way, rows, sites=(way.site,), is_telling=lambda _, machine: machine is plain
        )
        search = searches[way.site]
        for influence in search.influences.values():
            if not influence.explained:
                yield f"{way.site} also depends on {influence}"
        if search.exhausted:
            yield f"{way.site} depends on more than could be told apart"


def _is_as_the_first(way: SecondWay, rows: Sequence[RawMachine]) -> bool:
    """Does the site find the same in all that it reads there, so that it cannot do otherwise?"""
    if not way.begins_alike:
        return False
    first = FirstWay(way.image)
    with first.series():
        return all(_seen(first, way.site, row) == _seen(way, way.site, row) for row in rows)


def _seen(reruns: Reruns, site: Site, machine: RawMachine) -> Hashable:
    """What is where a site reads, and what its CPU has kept."""
    booted = reruns.boot(machine)
    reads = reruns.watched_site(site, booted).reads
    return frozenset(reads.items()), booted.cpus[0].kept
