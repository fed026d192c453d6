# SPDX-License-Identifier: GPL-2.0-or-later
"""What has to hold of an image beside what is run of it, for its sites to be reached at all.

The sites are run from where the machine is shut down. Who calls that, who else may have written to
the functions that it calls, how long it waits, and what lies between it and the jump is looked at
here, once for an image.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from staleline.errors import KernelImageError
from staleline.kernel.boot.decision import SiteDecision
from staleline.kernel.boot.hookwriters import (
    FLUSH_INPUTS,
    unknown_hook_writers,
    unknown_input_writers,
)
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.layout import APIC
from staleline.kernel.emulator.localapic import INTERRUPT_COMMAND, INTERRUPT_COMMAND_MSR
from staleline.kernel.emulator.memory import MachineMemory
from staleline.kernel.inventory.codescan import CodeArea
from staleline.kernel.inventory.functioncode import function_size
from staleline.kernel.inventory.pointers import Pointers
from staleline.kernel.inventory.tablewrites import table_writes
from staleline.kernel.sites.addressguards import Block, Followed, asks_for_address
from staleline.kernel.sites.jump import run_relocate_kernel
from staleline.kernel.sites.kexecentry import CRASH_ENTRY, KEXEC_ENTRY, jumps_unprepared
from staleline.kernel.sites.sites import run_stop_this_cpu
from staleline.kernel.sites.stoppath import code_on_way, forked
from staleline.kernel.sites.waiting import wait_of
from staleline.vocabulary import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.emulator.traps import LogicalCpu
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.sites.ending import CrashRun
    from staleline.kernel.sites.stoppath import WayToKexec

__all__ = ["STOPPING", "asked_where_it_runs", "led_to_crash", "led_to_kexec", "rewritten_inputs"]

_LOOKED: WeakKeyDictionary[MachineMemory, dict[Callable[..., str | None], str | None]] = (
    WeakKeyDictionary()
)

_ASKED: WeakKeyDictionary[MachineMemory, dict[bool | None, Mapping[Site, str]]] = (
    WeakKeyDictionary()
)
_FORGETFUL: WeakKeyDictionary[MachineMemory, tuple[str, ...]] = WeakKeyDictionary()
#: By which stop_this_cpu() decides too, since 6.18.
_OF_BOTH: Final = "cache_state_incoherent"
_INPUT_SIZE: Final = 1
#: By which other CPUs are started (SDM volume 3, 12.6.1 and 12.12): a register, an MSR, and the
#: first argument of the APIC driver's functions. ``mov $number, %ecx`` and ``%edi``.
_COMMAND: Final = APIC.start + INTERRUPT_COMMAND
_NAMES_COMMAND: Final = (
    b"\xb9" + INTERRUPT_COMMAND_MSR.to_bytes(4, "little"),
    b"\xbf" + INTERRUPT_COMMAND.to_bytes(4, "little"),
)
#: Where it stops them, and interrupts those that are slow once more, by an NMI each since 6.6:
#: arch/x86/kernel/smp.c and apic/ipi.c, 5.10 to 7.3.
STOPPING: Final = ("native_stop_other_cpus", "apic_send_IPI_allbutself")
_DISPLACEMENT: Final = 4


def led_to_kexec(
    emulated: EmulatedMachine, cpus: tuple[LogicalCpu, LogicalCpu], way: WayToKexec
) -> WayToKexec:
    """The way, if a kexec leads to it and it is the one that is taken on every machine.

    Memory and CPUs are left as they are.
    """
    if way.to_stop is not None:
        return way
    wait = wait_of(emulated, cpus)
    reason = _once(emulated, _kexec_entry) or _once(emulated, _hook_writers) or wait.reason
    if reason is not None:
        return replace(way, to_stop=reason, stops=None, sent=None)
    way = replace(way, told=wait.told)
    forgets = None if way.to_jump else _forgetful(emulated, cpus)
    return way if forgets is None else replace(way, to_jump=forgets)


def asked_where_it_runs(
    emulated: EmulatedMachine, cpus: tuple[LogicalCpu, LogicalCpu], *, sme_active: bool | None
) -> Mapping[Site, str]:
    """The sites of a kexec that depend on where KASLR has put the kernel, and why.

    Looked for on the first machine of each kind. Memory, in which a kexec has begun, and CPUs are
    left as they are.
    """
    known = _ASKED.setdefault(emulated.memory, {})
    if sme_active not in known:
        before = emulated.memory.kept()
        try:
            known[sme_active] = dict(_asking_sites(emulated, forked(cpus)))
        finally:
            emulated.memory.put_back(before)
    return known[sme_active]


def rewritten_inputs(image: KernelImage) -> dict[Site, str]:
    """The sites that decide by what others than the boot may write, and who does."""
    writers = unknown_input_writers(image)
    reasons = {Site.RELOCATE_KERNEL: "; ".join(writers.values())}
    if _OF_BOTH in writers:
        reasons[Site.STOP_THIS_CPU] = writers[_OF_BOTH]
    return reasons if writers else {}


def _asking_sites(
    emulated: EmulatedMachine, cpus: tuple[LogicalCpu, LogicalCpu]
) -> Iterator[tuple[Site, str]]:
    jumping, secondary = cpus
    runs: Mapping[Site, Callable[[], object]] = {
        Site.STOP_THIS_CPU: lambda: run_stop_this_cpu(emulated, secondary, jumping=jumping),
        Site.RELOCATE_KERNEL: lambda: run_relocate_kernel(emulated, jumping),
    }
    for site, run in runs.items():
        blocks = _Blocks()
        # What it fails for is told by the run that decides.
        with emulated.emulator.blocks(blocks.note), suppress(DerivationError):
            run()
        place = asks_for_address(emulated.memory, blocks.followed)
        if place is not None:
            where = emulated.emulator.describe(place)
            yield site, f"{site} also depends on where KASLR puts the kernel, asked at {where}"


@dataclass(slots=True)
class _Blocks:
    """Which runs of instructions followed which."""

    followed: set[Followed] = field(default_factory=set)
    _last: Block = (0, 0)

    def note(self, address: int, size: int) -> None:
        """One more."""
        block = address, size
        self.followed.add((self._last, block))
        self._last = block


def led_to_crash(emulated: EmulatedMachine, crash: CrashRun) -> CrashRun:
    """What a secondary does in a crash, if a crash leads to it."""
    reason = _once(emulated, _crash_entry) or _once(emulated, _hook_writers)
    if reason is None or crash.crash_nmi_callback.flushes is None:
        return crash
    return replace(crash, crash_nmi_callback=SiteDecision(None, reason))


def _forgetful(emulated: EmulatedMachine, cpus: tuple[LogicalCpu, LogicalCpu]) -> str | None:
    """What on the way to the jump may change what the jump's flush depends on.

    What is executed there is seen in what the jump does then; this is of code that is not, for now.
    """
    known = _FORGETFUL.get(emulated.memory)
    if known is None:
        known = _FORGETFUL[emulated.memory] = _writers(emulated, cpus)
    return "; ".join(known) or None


def _writers(emulated: EmulatedMachine, cpus: tuple[LogicalCpu, LogicalCpu]) -> tuple[str, ...]:
    image = emulated.image
    inputs = {image.symbols.only_address(name): name for name in FLUSH_INPUTS}
    inputs[_COMMAND] = "the local APIC's interrupt command register"
    cells = [Pointers(at, (at,), _INPUT_SIZE) for at in inputs if at is not None]
    starts = map(image.symbols.start_of, code_on_way(emulated, cpus))
    functions = {start for start in starts if start is not None}
    areas = list(filter(None, map(_area, repeat(image), functions)))
    writes = {
        (write.function, inputs[write.slot]) for write in table_writes(image, cells, areas=areas)
    }
    for area in areas:
        name, _ = image.symbols.enclosing(area.address) or (f"{area.address:#x}", 0)
        named = any(constant in area.code for constant in _NAMES_COMMAND)
        if named or (name.split(".")[0] not in STOPPING and _sends(emulated.memory, area)):
            writes.add((name, inputs[_COMMAND]))
    return tuple(
        f"{function}(), on the way to the jump, may write to {what}, and when it does is not known"
        for function, what in sorted(writes)
    )


def _sends(memory: MachineMemory, area: CodeArea) -> bool:
    """Does it lead to what the APIC's driver sends by, as a call or a jump ends?"""
    distances = {call - area.address for call in memory.sending_calls}
    return any(
        end + int.from_bytes(area.code[end - _DISPLACEMENT : end], "little", signed=True)
        in distances
        for end in range(_DISPLACEMENT, len(area.code) + 1)
    )


def _area(image: KernelImage, function: int) -> CodeArea | None:
    """A function's code; None for what is none, as the end of a run."""
    try:
        return CodeArea(function, image.read(function, function_size(image, function) or 0))
    except KernelImageError:
        return None


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
