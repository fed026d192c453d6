# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts, a kernel and the transitions asked for, put together into one verdict.

Whatever the evidence leaves open is tried both ways: each way is a *world*, one fully known
machine with one kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from staleline.evidence.contradiction import (
    Contradiction,
    against_kernel,
    raise_if_any,
    without_seamcalls,
)
from staleline.facts import MachineFacts
from staleline.kernel.boot.decision import Store
from staleline.verdict.audit.audit import Audit, Handover
from staleline.verdict.audit.missing import missing
from staleline.verdict.audit.next_kernel import Following
from staleline.verdict.audit.subject import Subject
from staleline.verdict.audit.worlds import Key, World, worlds
from staleline.verdict.handover.borrowing import KernelWithBorrowedMemory
from staleline.verdict.handover.changed import ChangedKernel
from staleline.verdict.handover.judgement import Judgement
from staleline.verdict.handover.kernels import ImageKernel, Kernel, PolicyKernel
from staleline.verdict.handover.reasons import in_all_worlds
from staleline.verdict.handover.unknown import Unknown, asked_once
from staleline.vocabulary import Path, Site, Verdict

__all__ = ["audit", "audit_of"]


def audit(
    facts: MachineFacts,
    kernels: Sequence[Kernel],
    *,
    following: Following,
    paths: Sequence[Path],
    given: Sequence[str] = (),
) -> Audit:
    """Judge every handover that was asked for.

    Args:
        facts: What is known of the machine.
        kernels: The old kernel; several where a release number leaves a choice.
        following: Which next kernels are asked about.
        paths: Which paths are asked about.
        given: Names of facts that the user gave and nobody observed.

    Raises:
        ContradictionError: No machine fits the evidence.
    """
    raise_if_any(tuple(_not_by_this_image(facts, kernels)), None)
    kernels = _as_told(facts, kernels)
    fitting = tuple(worlds(facts, kernels, following, paths))
    # Machines fit, or `possible_machines` would have said so: it is the rules that do not.
    if not fitting:
        raise_if_any((against_kernel(facts.boolean("sme_active")),), None)
    # The worst handover of each world, if the worlds agree; else it is unknown, and names the facts
    # that split them.
    verdict = _agreed(world.verdict for world in fitting)
    document = Audit(
        verdict=verdict,
        by_path={path: _agreed(world.verdict_on(path) for world in fitting) for path in paths},
        kernel=" or ".join(dict.fromkeys(kernel.name for kernel in kernels)),
        kernel_evidence=_evidence(facts, kernels[0]),
        facts=facts,
        given=tuple(given),
        handovers=tuple(_handovers(facts, fitting)),
        unknown=_unsettled(facts, fitting) if verdict is Verdict.UNKNOWN else (),
    )
    return _in_doubt(document) if facts["unread_messages"].value else document


_T = TypeVar("_T")
#: States of the TDX module that only SEAMCALLs bring about.
_SEAMCALLED = frozenset({"initialized", "failed"})
#: Rows that differ, kept for the machines of a fleet, which share most of theirs.
_KEPT = 4096
_SEVERAL_MACHINES = Unknown("the evidence leaves several machines possible", "unknown-machine")


def _in_doubt(judged: Audit) -> Audit:
    """Nothing is claimed where a line that may be the kernel's would make another machine of it."""
    reason = Unknown(str(judged.facts["unread_messages"].source), "unread-message")
    return replace(
        judged,
        verdict=Verdict.UNKNOWN,
        by_path=dict.fromkeys(judged.by_path, Verdict.UNKNOWN),
        handovers=tuple(_row_in_doubt(row, reason) for row in judged.handovers),
        unknown=(reason, *judged.unknown),
    )


def _row_in_doubt(row: Handover, reason: Unknown) -> Handover:
    return replace(
        row,
        verdict=Verdict.UNKNOWN,
        because="",
        flushes=dict.fromkeys(row.flushes),
        needed=dict.fromkeys(row.needed),
        unneeded={},
        faults=(),
        left_behind={},
        unknown=(reason,),
        shown=None,
        may_fault=(),
        is_modelled=False,
    )


def _evidence(facts: MachineFacts, kernel: Kernel) -> str:
    """How the kernel is known, and what a rule by itself takes for granted here."""
    by_rule = isinstance(kernel, PolicyKernel) and kernel.release is None
    granted = by_rule and facts["offline_cpus"].value
    return (
        f"{kernel.evidence}; CPUs that are offline count as clean" if granted else kernel.evidence
    )


def _not_by_this_image(facts: MachineFacts, kernels: Sequence[Kernel]) -> Iterator[Contradiction]:
    """A TDX module was initialised by SEAMCALLs, or failed; the running kernel has their code."""
    state = facts.text("tdx_module")
    images = [kernel.image for kernel in kernels if isinstance(kernel, ImageKernel)]
    if state in _SEAMCALLED and images and not any(image.seamcalls for image in images):
        yield without_seamcalls(str(state), images[0].path)


def _as_told(facts: MachineFacts, kernels: Sequence[Kernel]) -> Sequence[Kernel]:
    """The kernels as their command line has them, and as live patches and kprobes left them."""
    borrows = facts["crash_kernel_borrows"]
    # Where no command line was read it may be asked for: no answer may be surer without one.
    if borrows.value is not False:
        kernels = tuple(KernelWithBorrowedMemory(kernel, borrows.missing) for kernel in kernels)
    change = facts["stop_path_changed"]
    if not change.value:
        return kernels
    return tuple(ChangedKernel(kernel, str(change.source)) for kernel in kernels)


def _agreed(verdicts: Iterable[Verdict]) -> Verdict:
    return _same(verdicts) or Verdict.UNKNOWN


def _same(values: Iterable[_T]) -> _T | None:
    """The value that all share, or None."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _handovers(facts: MachineFacts, fitting: Sequence[World]) -> Iterator[Handover]:
    for key in sorted({key for world in fitting for key in world.judgements}, key=_row_order):
        yield _row(facts, key, [world for world in fitting if key in world.judgements])


_PLACE = {path: place for place, path in enumerate(Path)}


def _row_order(key: Key) -> tuple[int, bool, bool]:
    old, new, path = key
    return (_PLACE[path], not old, not new)


def _row(facts: MachineFacts, key: Key, containing: Sequence[World]) -> Handover:
    """What all worlds that contain a handover agree on."""
    # Worlds that differ in nothing that matters share theirs.
    judged = tuple(dict.fromkeys(world.judgements[key] for world in containing))
    row = _agreed_row(key, judged)
    if len(judged) == 1:
        return row  # no fact makes a difference
    open_traps = tuple(dict.fromkeys(_may_trap(facts, key, containing)))
    unsettled = _unsettled_in_row(facts, key, containing, row.verdict)
    return replace(row, unknown=asked_once((*unsettled, *open_traps)), may_fault=open_traps)


@lru_cache(_KEPT)
def _agreed_row(key: Key, rows: tuple[Judgement, ...]) -> Handover:
    """A row, but for the facts on which the judgements differ."""
    first = rows[0]
    verdict = _agreed(row.verdict for row in rows)
    reasons = dict.fromkeys(row.because for row in rows) if verdict is Verdict.SAFE else ()
    return Handover(
        old=key[0],
        next=key[1],
        path=key[2],
        verdict=verdict,
        because="; or ".join(reasons),
        flushes={site: _same(row.flushes[site] for row in rows) for site in first.flushes},
        needed={site: _same(row.needed[site] for row in rows) for site in first.needed},
        attainable=any(row.attainable for row in rows),
        unneeded={
            site: in_all_worlds(row.unneeded[site] for row in rows)
            for site in first.unneeded
            if all(site in row.unneeded for row in rows)
        },
        # A trap ends the handover, so it is told where it is sure; `may_fault` has the rest.
        faults=tuple(site for site in first.faults if all(site in row.faults for row in rows)),
        left_behind={site: _all_left(site, rows) for site in _leaving(rows)},
        unknown=asked_once(reason for row in rows for reason in row.unknown),
        shown=first if verdict is not Verdict.UNKNOWN else None,
        scenarios=tuple(dict.fromkeys(asked for row in rows for asked in row.scenarios)),
        is_modelled=all(row.case.is_modelled for row in rows),
    )


def _leaving(judgements: Sequence[Judgement]) -> Iterable[Site]:
    """Sites that leave something behind in any world."""
    return dict.fromkeys(site for judgement in judgements for site in judgement.left_behind)


def _all_left(site: Site, judgements: Sequence[Judgement]) -> tuple[Store, ...]:
    stores = (store for judgement in judgements for store in judgement.left_behind.get(site, ()))
    return tuple(dict.fromkeys(stores))


def _unsettled(facts: MachineFacts, fitting: Sequence[World]) -> tuple[Unknown, ...]:
    """Why the overall verdict is unknown."""
    reasons = [
        *missing(facts, fitting, lambda world: world.verdict),
        *(
            reason
            for world in fitting
            for judgement in world.judgements.values()
            for reason in judgement.unknown
        ),
    ]
    # The same sentence may say how to get two facts; a fleet counts hosts by what each lacks.
    return tuple({(reason, reason.id): reason for reason in reasons}.values()) or (
        _SEVERAL_MACHINES,
    )


def _unsettled_in_row(
    facts: MachineFacts, key: Key, containing: Sequence[World], verdict: Verdict
) -> Iterator[Unknown]:
    """Why the row's verdict is unknown."""
    if verdict is Verdict.UNKNOWN:
        yield from missing(facts, containing, lambda world: world.judgements[key].verdict)
        yield from (reason for world in containing for reason in world.judgements[key].unknown)
    if verdict is Verdict.AT_RISK:
        for reason in missing(facts, containing, lambda world: world.judgements[key].broken):
            yield Unknown(f"in which of several ways it breaks: {reason}", reason.id, str(reason))


def _may_trap(facts: MachineFacts, key: Key, containing: Sequence[World]) -> Iterator[Unknown]:
    """What would tell whether a WBINVD traps, where the worlds differ in that."""
    for reason in missing(facts, containing, lambda world: world.judgements[key].faults):
        yield Unknown(f"whether WBINVD traps here: {reason}", reason.id, str(reason))


def audit_of(subject: Subject, *, following: Following, paths: Sequence[Path]) -> Audit:
    """As `audit`, of one machine with one kernel.

    Raises:
        ContradictionError: No machine fits the evidence.
    """
    judged = audit(
        subject.facts, subject.kernels, following=following, paths=paths, given=subject.given
    )
    return replace(judged, identity=subject.identity)
