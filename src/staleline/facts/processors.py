# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether there is more than one CPU, so that a kexec has others to stop."""

from __future__ import annotations

from collections.abc import Iterator

from staleline.evidence.commandline import arguments, encoded
from staleline.evidence.snapshot import Snapshot
from staleline.evidence.statements import ALONE_BY_KERNEL
from staleline.facts.fact import Fact, Layer
from staleline.facts.observation import Observation, first_told, observed_as, untold
from staleline.facts.told.log import of_log
from staleline.facts.told.stated import stated

__all__ = ["several_cpus"]

_MISSING = untold(
    'how many CPUs there are: give --state "cpus=$(cat /sys/devices/system/cpu/present)" and '
    '--cmdline "$(cat /proc/cmdline)", or run staleline collect'
)
_LINE_MISSING = untold(
    "the command line, by which the kernel may have been told to leave CPUs out (nr_cpus=): give "
    '--cmdline "$(cat /proc/cmdline)", or run staleline collect'
)
#: Parameters that leave CPUs out of all that the kernel lists, and by which value; any if None
#: (linux 7.3.4 kernel/smp.c:1074-1098, arch/x86/kernel/cpu/topology.c:424-428,570,
#: arch/x86/kernel/apic/apic.c setup_disableapic(), apic_set_disabled_cpu_apicid(),
#: arch/x86/kernel/acpi/boot.c parse_acpi()).
_LEAVE_OUT = {
    b"acpi": b"off",
    b"disable_cpu_apicid": None,
    b"disableapic": None,
    b"maxcpus": b"0",
    b"nolapic": None,
    b"nosmp": None,
    b"nr_cpus": None,
    b"possible_cpus": None,
}


def several_cpus(snapshot: Snapshot) -> Fact:
    """True where any evidence shows two; false only where CPUID and the kernel agree on one.

    What the kernel counts says nothing of CPUs that it was told to leave out.
    """
    observation = first_told(
        (*_several(snapshot), *_stated(snapshot), *_one(snapshot), _how_to_get(snapshot))
    )
    return observation.fact("several_cpus", Layer.KERNEL, "there is more than one CPU")


def _stated(snapshot: Snapshot) -> Iterator[Observation]:
    for observation in stated("several_cpus", snapshot, bool):
        by_kernel = observation.source == ALONE_BY_KERNEL
        if not by_kernel or _left_out(snapshot.kernel.cmdline) == ():
            yield observation


def _how_to_get(snapshot: Snapshot) -> Observation:
    left_out = _left_out(snapshot.kernel.cmdline)
    if left_out:
        return untold(
            f"how many CPUs there are beside those that {left_out[0]} on the command line leaves: "
            "give --state cpus=2 if there are others, and --state cpus=1 if there is none"
        )
    alone = snapshot.state.online_cpus == 1 or any(stated("several_cpus", snapshot, bool))
    return _LINE_MISSING if left_out is None and alone else _MISSING


def _left_out(cmdline: str | None) -> tuple[str, ...] | None:
    """The words that leave CPUs out; None where the line is not known."""
    if cmdline is None:
        return None
    return tuple(
        name.decode() if value is None else f"{name.decode()}={value.decode('utf-8', 'replace')}"
        for name, value in arguments(encoded(cmdline))
        if name in _LEAVE_OUT and _LEAVE_OUT[name] in (None, value)
    )


def _several(snapshot: Snapshot) -> Iterator[Observation]:
    if len(snapshot.cpus) > 1:
        yield observed_as(True, f"CPUID of {len(snapshot.cpus)} CPUs")
    if snapshot.state.offline_cpus or (snapshot.state.online_cpus or 0) > 1:
        yield observed_as(True, "/sys/devices/system/cpu/{present,online}")
    # CPUs that Linux was told not to use (nr_cpus=) count: CPUID is the better witness, as
    # what is said of one CPU alone must not depend on what else was collected.
    threads = max((cpu.cpuid.logical_cpus or 0 for cpu in snapshot.cpus), default=0)
    if threads > 1:
        yield observed_as(True, f"CPUID: {threads} logical CPUs in a socket")
    for name in ("present_cpus", "cpus_brought_up"):
        for counted in of_log(snapshot, name):
            if isinstance(counted.value, int) and counted.value > 1:
                yield observed_as(True, counted.source or "")


def _one(snapshot: Snapshot) -> Iterator[Observation]:
    """The kernel's own count, as one CPU may have been read for all."""
    state = snapshot.state
    # All three: a secondary that is overlooked leaves its lines behind unseen, while one that is
    # assumed where there is none only asks for more evidence.
    alone = state.online_cpus == 1 and state.offline_cpus == ()
    alone = alone and _left_out(snapshot.kernel.cmdline) == ()
    if alone and len(snapshot.cpus) == 1 and snapshot.cpus[0].cpuid.logical_cpus == 1:
        source = "/sys/devices/system/cpu/{present,online}, /proc/cmdline and CPUID"
        yield observed_as(False, source)
