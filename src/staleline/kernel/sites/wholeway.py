# SPDX-License-Identifier: GPL-2.0-or-later
"""What has to hold of an image beside what is run of it, for its sites to be reached at all.

The sites are run from where the machine is shut down. Who calls that, who else may have written to
the functions that it calls, how long it waits, and what lies between it and the jump is looked at
here, once for an image.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from staleline.kernel.boot.decision import SiteDecision
from staleline.kernel.boot.hookwriters import unknown_hook_writers
from staleline.kernel.emulator.memory import MachineMemory
from staleline.kernel.inventory.codescan import CodeArea
from staleline.kernel.inventory.tablewrites import Pointers, table_writes
from staleline.kernel.sites.kexecentry import CRASH_ENTRY, KEXEC_ENTRY, jumps_unprepared
from staleline.kernel.sites.waiting import gives_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.emulator.traps import LogicalCpu
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.sites.crash import CrashRun
    from staleline.kernel.sites.stoppath import WayToKexec

__all__ = ["led_to_crash", "led_to_kexec"]

_LOOKED: WeakKeyDictionary[MachineMemory, dict[Callable[..., str | None], str | None]] = (
    WeakKeyDictionary()
)


def led_to_kexec(
    emulated: EmulatedMachine, cpus: tuple[LogicalCpu, LogicalCpu], way: WayToKexec
) -> WayToKexec:
    """The way, if a kexec leads to it and it is the one that is taken on every machine.

    Memory, in which no kexec has begun, and CPUs are left as they are.
    """
    if way.to_stop is not None:
        return way
    reason = (
        _once(emulated, _kexec_entry)
        or _once(emulated, _hook_writers)
        or gives_up(emulated, cpus)
    )
    return way if reason is None else replace(way, to_stop=reason, stops=None, sent=None)


def led_to_crash(emulated: EmulatedMachine, crash: CrashRun) -> CrashRun:
    """What a secondary does in a crash, if a crash leads to it."""
    reason = _once(emulated, _crash_entry) or _once(emulated, _hook_writers)
    if reason is None or crash.crash_nmi_callback.flushes is None:
        return crash
    return replace(crash, crash_nmi_callback=SiteDecision(None, reason))


def _once(emulated: EmulatedMachine, look: Callable[[KernelImage], str | None]) -> str | None:
    """What was found when an image was looked at first."""
    looked = _LOOKED.setdefault(emulated.memory, {})
    if look not in looked:
        looked[look] = look(emulated.image)
    return looked[look]


def _kexec_entry(image: KernelImage) -> str | None:
    return jumps_unprepared(image, KEXEC_ENTRY)


def _crash_entry(image: KernelImage) -> str | None:
    return jumps_unprepared(image, CRASH_ENTRY)


def _hook_writers(image: KernelImage) -> str | None:
    return "; ".join(unknown_hook_writers(image)) or None
