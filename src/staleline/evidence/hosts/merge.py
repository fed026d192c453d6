# SPDX-License-Identifier: GPL-2.0-or-later
"""Several sources of one machine as one snapshot: each adds what those before left unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from functools import reduce
from typing import TypeVar

from staleline.evidence.commandline import words_in_front
from staleline.evidence.consistency import contradictions_between
from staleline.evidence.contradiction import raise_if_any
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import (
    CpuEvidence,
    CpuinfoEvidence,
    KernelEvidence,
    LogEvidence,
    Note,
    Snapshot,
    StateEvidence,
)

__all__ = ["merged"]

_Modules = Mapping[str, Mapping[str, str]]
_Table = TypeVar("_Table", CpuinfoEvidence, KernelEvidence, StateEvidence)


def merged(sources: Iterable[Snapshot], where: str) -> Snapshot:
    """The machine that all `sources` are of; earlier ones are the better evidence.

    Raises:
        ContradictionError: Two of them cannot be of one machine.
    """

    def add(first: Snapshot, second: Snapshot) -> Snapshot:
        raise_if_any(contradictions_between(first, second), where, first.host or second.host)
        return _added(first, second)

    return reduce(add, sources)


def _added(first: Snapshot, second: Snapshot) -> Snapshot:
    both = replace(
        first,
        cpus=_cpus(first.cpus, second.cpus),
        host=first.host if first.host is not None else second.host,
        collected=first.collected if first.collected is not None else second.collected,
        cpuinfo=_cpuinfo(first.cpuinfo, second.cpuinfo),
        kernel=replace(
            _filled(first.kernel, second.kernel),
            cmdline=_command_line(first.kernel.cmdline, second.kernel.cmdline),
        ),
        state=replace(
            _filled(first.state, second.state),
            tainting_modules=_either(first.state.tainting_modules, second.state.tainting_modules),
        ),
        caches=first.caches or second.caches,
        modules=_modules(first.modules, second.modules),
        log=_log(first.log, second.log),
        statements=tuple(dict.fromkeys((*first.statements, *second.statements))),
        unread=tuple(dict.fromkeys((*first.unread, *second.unread))),
    )
    notes = dict.fromkeys((*first.notes, *second.notes))
    return replace(both, notes=tuple(note for note in notes if not _settled(note, both)))


def _cpuinfo(
    first: CpuinfoEvidence | None, second: CpuinfoEvidence | None
) -> CpuinfoEvidence | None:
    """What either shows: an excerpt of one row may stand before the whole file."""
    if first is None or second is None:
        return second if first is None else first
    return replace(
        _filled(first, second),
        flags=first.flags | second.flags,
        bugs=first.bugs | second.bugs,
    )


def _either(
    first: tuple[str, ...] | None, second: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """What either lists: a list may be an excerpt, or of another moment."""
    if first is None or second is None:
        return second if first is None else first
    return tuple(dict.fromkeys((*first, *second)))


def _modules(first: _Modules | None, second: _Modules | None) -> _Modules | None:
    """The modules of both, each with all the parameters that are known of it."""
    if first is None or second is None:
        return second if first is None else first
    return {
        name: {**second.get(name, {}), **first.get(name, {})} for name in sorted({*first, *second})
    }


def _log(first: LogEvidence | None, second: LogEvidence | None) -> LogEvidence | None:
    """What both hold: each may be an excerpt, and a message that only one holds proves as much."""
    if first is None or second is None:
        return first or second
    lines = tuple(dict.fromkeys((*first.lines, *second.lines)))
    # One that is whole stays so only where the other adds nothing to it.
    whole = any(log.complete and set(lines) <= set(log.lines) for log in (first, second))
    return LogEvidence(lines, complete=whole)


def _cpus(
    first: tuple[CpuEvidence, ...], second: tuple[CpuEvidence, ...]
) -> tuple[CpuEvidence, ...]:
    """The CPUs of both: leaves from one source and MSRs from another are of the same CPUs.

    CPUs are told by their numbers where both sources have them of all, else by their place. The
    evidence of a single one that may stand for all is of the first.
    """
    if first and second and all(cpu.number is not None for cpu in (*first, *second)):
        others = {cpu.number: cpu for cpu in second}
        both = [_one_cpu(cpu, others.pop(cpu.number, cpu)) for cpu in first]
        return tuple(sorted((*both, *others.values()), key=lambda cpu: cpu.number or 0))
    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    if not shorter or (len(shorter) != len(longer) and len(shorter) != 1):
        return first or second
    joined = (*(map(_one_cpu, first, second)),)
    return joined + longer[len(joined) :]


def _command_line(first: str | None, second: str | None) -> str | None:
    """The whole line, where the other is the loader's alone, without what stands before it."""
    if first is None or second is None:
        return second if first is None else first
    return second if words_in_front(second, first) is not None else first


def _one_cpu(first: CpuEvidence, second: CpuEvidence) -> CpuEvidence:
    return replace(
        first,
        # The first outweighs: sources come in the order of how good they are.
        cpuid=CpuidTable({**second.cpuid.leaves, **first.cpuid.leaves}),
        msr={**second.msr, **first.msr},
        # A tool that read a register settles what another could not.
        msr_faults=(first.msr_faults | second.msr_faults) - first.msr.keys() - second.msr.keys(),
        number=first.number if first.number is not None else second.number,
    )


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
        "cpuid": any(cpu.cpuid.leaves for cpu in machine.cpus),
        "cpuinfo": machine.cpuinfo is not None,
        "host": machine.host is not None,
        "kernel release": machine.kernel.release is not None,
        "cmdline": machine.kernel.cmdline is not None,
        "kernel log": machine.log is not None and note.why.startswith("/dev/kmsg"),
        "offline CPUs": machine.state.offline_cpus is not None,
    }
    # What is missing of one CPU is given with that of any.
    return given.get(note.what.partition(" of ")[0], False)
