# SPDX-License-Identifier: GPL-2.0-or-later
"""Several sources of one machine as one snapshot: each adds what those before left unknown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from functools import reduce
from typing import TypeVar

from staleline.evidence.consistency import contradictions_between, raise_if_any
from staleline.evidence.snapshot import KernelEvidence, Note, Snapshot, StateEvidence

__all__ = ["merged"]

_Table = TypeVar("_Table", KernelEvidence, StateEvidence)


def merged(sources: Iterable[Snapshot], where: str) -> Snapshot:
    """The machine that all `sources` are of; earlier ones are the better evidence.

    Raises:
        ContradictionError: Two of them cannot be of one machine.
    """

    def add(first: Snapshot, second: Snapshot) -> Snapshot:
        raise_if_any(contradictions_between(first, second), where)
        return _added(first, second)

    return reduce(add, sources)


def _added(first: Snapshot, second: Snapshot) -> Snapshot:
    both = replace(
        first,
        cpus=first.cpus or second.cpus,
        host=first.host if first.host is not None else second.host,
        collected=first.collected if first.collected is not None else second.collected,
        cpuinfo=first.cpuinfo or second.cpuinfo,
        kernel=_filled(first.kernel, second.kernel),
        state=_filled(first.state, second.state),
        caches=first.caches or second.caches,
        modules=first.modules if first.modules is not None else second.modules,
        log=first.log or second.log,
    )
    notes = dict.fromkeys((*first.notes, *second.notes))
    return replace(both, notes=tuple(note for note in notes if not _settled(note, both)))


def _filled(first: _Table, second: _Table) -> _Table:
    known = {
        field.name: getattr(first, field.name)
        if getattr(first, field.name) is not None
        else getattr(second, field.name)
        for field in fields(first)
    }
    return type(first)(**known)


def _settled(note: Note, machine: Snapshot) -> bool:
    """Has another source given what this note says is missing?"""
    given = {
        "cpuid": bool(machine.cpus),
        "cpuinfo": machine.cpuinfo is not None,
        "host": machine.host is not None,
        "kernel release": machine.kernel.release is not None,
        "cmdline": machine.kernel.cmdline is not None,
        "kernel log": machine.log is not None and note.why.startswith("/dev/kmsg"),
        "offline CPUs": machine.state.offline_cpus is not None,
    }
    return given.get(note.what.partition(" of ")[0], False)
