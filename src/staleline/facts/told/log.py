# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel log tells, as observations of the same facts that registers tell."""

from __future__ import annotations

from collections.abc import Iterator

from staleline.evidence.log import kernel_log
from staleline.evidence.snapshot import Snapshot
from staleline.facts.fact import Fact, Layer
from staleline.facts.observation import Observation, first_told, observed_as, untold

__all__ = ["log_facts", "of_log", "of_log_before_registers"]

_COLLECT = "staleline collect, or dmesg from its beginning"
#: Facts that no register tells: name -> layer and text.
_OF_LOG = {
    "booted_by": (Layer.KERNEL, "what started this kernel (efi, bios, kexec)"),
    "efi": (Layer.FIRMWARE, "the kernel has the tables of EFI firmware"),
    "present_cpus": (Layer.HARDWARE, "CPUs that this kernel counts as present"),
    "cpus_brought_up": (Layer.KERNEL, "CPUs that were online at the end of boot"),
    "livepatched": (Layer.KERNEL, "its code was patched while it ran (live patch)"),
}


def of_log(snapshot: Snapshot, name: str, vendor: str | None = None) -> Iterator[Observation]:
    """What the log tells of the fact `name`, if it does.

    Args:
        snapshot: The evidence.
        name: The fact.
        vendor: Of the CPU, where something better than the log tells.
    """
    told_by_log = kernel_log.told(snapshot.log, snapshot.kernel.release, vendor)
    if (said := told_by_log.get(name)) is not None:
        yield observed_as(said.value, said.source)


def of_log_before_registers(snapshot: Snapshot, name: str) -> Iterator[Observation]:
    """The same where the registers that can be read are known to show something else."""
    said = kernel_log.told(snapshot.log, snapshot.kernel.release).get(name)
    if said is not None and said.unlike_registers:
        yield observed_as(said.value, said.source)


def log_facts(snapshot: Snapshot) -> Iterator[Fact]:
    """The facts that no register tells."""
    for name, (layer, text) in _OF_LOG.items():
        missing = untold(f"no message of the kernel log tells: {_COLLECT}")
        observations = (*_by_command_line(snapshot, name), *of_log(snapshot, name), missing)
        yield first_told(observations).fact(name, layer, text)


def _by_command_line(snapshot: Snapshot, name: str) -> Iterator[Observation]:
    """A crash kernel is told where the dead one's memory is (Linux kernel/crash_dump.c)."""
    words = (snapshot.kernel.cmdline or "").split()
    if name == "booted_by" and any(word.startswith("elfcorehdr=") for word in words):
        yield observed_as("kexec", "/proc/cmdline: elfcorehdr=")
