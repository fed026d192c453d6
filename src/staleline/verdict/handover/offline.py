# SPDX-License-Identifier: GPL-2.0-or-later
"""What CPUs that are offline may have left in their caches, by the ways in which they sleep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from staleline.kernel.boot.decision import OfflineWay, SiteDecision
from staleline.model.scenario import Offline
from staleline.vocabulary import Path, Through

__all__ = ["left_offline", "offline_ends", "what_is_left"]

_ANY: Final = (Offline.NONE, Offline.WOKEN, Offline.STORES, Offline.UNFLUSHED)


def offline_ends(
    ways: Sequence[OfflineWay], path: Path, *, mwait: bool, kicks: bool
) -> tuple[Offline, ...]:
    """What they may do, as the model has it; nothing to speak of where no way is known.

    Args:
        ways: Those of the image.
        path: Of the handover.
        mwait: The CPUs have MWAIT.
        kicks: The handover kicks CPUs out of it.
    """
    taken = [way for way in ways if mwait or not way.by_mwait]
    # Which way a CPU took depends on its idle driver, which no evidence names, so all that the
    # image has count.
    ends = {end for way in taken for end in _ends(way, path, kicks=kicks)}
    # In the order of `Offline`, the plainest first: the first scenario's run is the one that is
    # shown.
    return tuple(end for end in Offline if end in ends) or (Offline.NONE,)


def _ends(way: OfflineWay, path: Path, *, kicks: bool) -> Iterator[Offline]:
    # Only a kexec that stops others kicks CPUs out of MWAIT (linux 7.3.4
    # arch/x86/kernel/smp.c:155,165).
    if way.woken is None or not kicks:
        yield from _end(way.asleep, Offline.STORES, path)
        return
    yield from _end(way.woken, Offline.WOKEN, path)
    # Whoever wakes has slept before.
    yield from (end for end in _end(way.asleep, Offline.STORES, path) if end is not Offline.NONE)


def _end(decision: SiteDecision, stores: Offline, path: Path) -> Sequence[Offline]:
    if decision.flushes is None:
        return _ANY
    if not decision.flushes:
        return (Offline.UNFLUSHED,)
    through = {store.through for store in decision.left_behind}
    # What they store to is the old kernel's memory, and no crash kernel's reservation.
    if not through or path is Path.CRASH:
        return (Offline.NONE,)
    # The model has lines of the kernel's own alias alone.
    return (stores,) if through == {Through.OWN} else _ANY


def what_is_left(ways: Sequence[OfflineWay], *, mwait: bool) -> Iterator[str]:
    """One clause for each way in which a CPU does not sleep with clean caches."""
    clauses = (left_offline(way) for way in ways if mwait or not way.by_mwait)
    yield from filter(None, clauses)


def left_offline(way: OfflineWay) -> str | None:
    """What a CPU leaves dirty in a way, as a clause; None if nothing."""
    asleep, woken = way.asleep, way.woken
    if asleep.unknown is not None:
        return f"what it leaves in {way.name} is not known: {asleep.unknown}"
    if not asleep.flushes:
        return f"in {way.name} it executes no WBINVD"
    if asleep.left_behind:
        return f"in {way.name} it stores to {_lines(asleep)} behind its WBINVD"
    if woken is None:
        return None
    if woken.unknown is not None:
        return (
            f"what it leaves when a kexec wakes it out of {way.name} is not known: {woken.unknown}"
        )
    if not woken.left_behind:
        return None
    return f"woken out of {way.name} by a kexec it stores to {_lines(woken)}"


def _lines(decision: SiteDecision) -> str:
    return ", ".join(sorted({store.line for store in decision.left_behind}))
