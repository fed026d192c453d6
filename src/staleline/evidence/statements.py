# SPDX-License-Identifier: GPL-2.0-or-later
"""What texts and users say of facts that no field of a snapshot holds.

Of CPUs that differ the machine has no one value. What the user says never takes the place of what
the evidence shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from staleline.evidence.log import kernel_log
from staleline.evidence.snapshot import Snapshot, Statement
from staleline.hardware import HYPERVISORS

__all__ = ["ALONE_BY_KERNEL", "agreed", "is_of", "said_by_user", "shown_otherwise"]

#: The source of one CPU as /sys/devices/system/cpu/present lists it: of those that the kernel has.
ALONE_BY_KERNEL: Final = "--state cpus=0"
#: The hypervisor with domains that see the machine's own CPUID.
_OF_THE_MACHINE: Final = "Xen"
#: What is said of there being a hypervisor.
_WORDS: Final[Mapping[object, str]] = {True: "one", False: "none"}


def agreed(statements: Iterable[Statement]) -> tuple[Statement, ...]:
    """Each fact once, in order, without those of which two values are told."""
    first: dict[str, Statement] = {}
    differ = set()
    for statement in statements:
        if first.setdefault(statement.name, statement).value != statement.value:
            differ.add(statement.name)
    return tuple(one for name, one in first.items() if name not in differ)


def said_by_user(name: str, value: object) -> Iterator[Statement]:
    """What ``--state NAME=VALUE`` says, as facts: how many CPUs there are, or the hypervisor.

    CPUs are a number, or the list that the kernel has of them.
    """
    from staleline.evidence.staleline_collect import cpu_list_text

    shown = cpu_list_text(value) if isinstance(value, tuple) else value
    source = f"--state {name}={shown}"
    if name == "cpus":
        yield Statement("several_cpus", value not in (1, (0,)), source)
        return
    yield Statement("hypervisor", value != "none", source)
    if value != "none":
        yield Statement("hypervisor_name", str(value), source)


def is_of(statement: Statement, said: Iterable[Statement]) -> bool:
    """Is it what the user said before of what is `said` now?"""
    option, _, _ = statement.source.partition("=")
    return option in {one.source.partition("=")[0] for one in said}


def shown_otherwise(snapshot: Snapshot, name: str, value: object) -> Iterator[tuple[str, str]]:
    """Fields of `snapshot` that cannot be so if that is true, with what they show."""
    if name == "cpus" and isinstance(value, int):
        yield from _more_cpus(snapshot, value)
    elif name == "cpus" and isinstance(value, tuple):
        yield from _more_cpus(snapshot, len(value))
        yield from _others(snapshot, frozenset(value))
    elif name == "hypervisor":
        yield from _another_hypervisor(snapshot, str(value))


def _more_cpus(snapshot: Snapshot, count: int) -> Iterator[tuple[str, str]]:
    """Where more CPUs show than `count`; of fewer the evidence need not hold all."""
    state = snapshot.state
    log = kernel_log.told(snapshot.log, snapshot.kernel.release)
    shown = [
        ("cpus", len(snapshot.cpus)),
        ("state.online_cpus", state.online_cpus or 0),
        # One that is online is not in that list.
        ("state.offline_cpus", (state.online_cpus or 1) + len(state.offline_cpus or ())),
        *(("log", log[name].value) for name in ("present_cpus", "cpus_brought_up") if name in log),
    ]
    # How many CPUID counts in a socket is a maximum, except that one is no more than one.
    if count == 1:
        shown += [
            (f"cpus[{index}].cpuid", cpu.cpuid.logical_cpus or 0)
            for index, cpu in enumerate(snapshot.cpus)
        ]
    yield from (
        (field, str(seen)) for field, seen in shown if isinstance(seen, int) and seen > count
    )


def _others(snapshot: Snapshot, listed: frozenset[int]) -> Iterator[tuple[str, str]]:
    """Where a CPU shows that is none of those listed."""
    numbered = (cpu.number for cpu in snapshot.cpus if cpu.number is not None)
    state = snapshot.state
    for field, shown in (
        ("cpus", numbered),
        ("state.offline_cpus", state.offline_cpus or ()),
        ("state.seamcalled_cpus", state.seamcalled_cpus or ()),
    ):
        if others := set(shown) - listed:
            yield field, f"CPU {min(others)}"


def _another_hypervisor(snapshot: Snapshot, name: str) -> Iterator[tuple[str, str]]:
    """Where something else shows than a hypervisor of this name; "none" for a bare machine."""
    log = kernel_log.told(snapshot.log, snapshot.kernel.release)
    shown: list[tuple[str, object]] = [
        *((f"statements.{one.name}", one.value) for one in _of_hypervisors(snapshot.statements)),
        *(("log", log[fact].value) for fact in ("hypervisor", "hypervisor_name") if fact in log),
    ]
    for index, cpu in enumerate(snapshot.cpus):
        leaf, signature = cpu.cpuid.recorded(1), cpu.cpuid.hypervisor_signature or b""
        # A clear bit of CPUID shows none, but for Xen: in its PV domains it is the machine's.
        if leaf is not None and (leaf[2] >> 31 or name != _OF_THE_MACHINE):
            shown.append((f"cpus[{index}].cpuid.0x00000001:0 ECX[31]", bool(leaf[2] >> 31)))
        if signature in HYPERVISORS:
            shown.append((f"cpus[{index}].cpuid.0x40000000:0", HYPERVISORS[signature]))
    if snapshot.cpuinfo is not None and "hypervisor" in snapshot.cpuinfo.flags:
        shown.append(("cpuinfo.flags", True))
    for field, seen in shown:
        if seen not in (name, name != "none"):
            yield field, _WORDS.get(seen, str(seen))


def _of_hypervisors(statements: Iterable[Statement]) -> Iterator[Statement]:
    return (one for one in statements if one.name in ("hypervisor", "hypervisor_name"))
