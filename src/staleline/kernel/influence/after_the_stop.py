# SPDX-License-Identifier: GPL-2.0-or-later
"""What decides whether a kexec wakes CPUs that have stopped, other than listed facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from staleline.kernel.boot.machine import EmulatedMachine, two_cpus
from staleline.kernel.boot.rawfacts import ENCRYPTING_HOST
from staleline.kernel.boot.rawmachine import raw_machine
from staleline.kernel.boot.startup import boot
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.execution.end import RunLimits
from staleline.kernel.emulator.traps import LogicalCpu
from staleline.kernel.rerun.conditions import JUMPS_NEAR, JUMPS_SHORT, inverted
from staleline.kernel.sites.stoppath import forked, report_stopped, sends, wakes
from staleline.vocabulary import Site

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage

__all__ = ["KexecWay", "waking_jumps"]

#: A run takes some thousand instructions; one that has no end has woken nobody by then.
_LIMITS: Final = RunLimits(instructions=100_000, seconds=1.0)
#: Where it stops them, and interrupts those that are slow once more: arch/x86/kernel/smp.c and
#: apic/ipi.c, 5.10 to 7.3.
_STOPPING: Final = ("native_stop_other_cpus", "apic_send_IPI_allbutself")
_TWO_BYTE: Final = 0x0F
_SHORT_SIZE: Final = 2
_NEAR_SIZE: Final = 6


def waking_jumps(image: KernelImage) -> tuple[str, ...]:
    """One sentence for each; nothing where the way is unknown without any change."""
    try:
        return tuple(_AfterStop(image).reasons())
    # The site itself is unknown then, and says why.
    except DerivationError:
        return ()


class KexecWay:
    """One image on one machine, booted once, of which the jumping CPU's way is run."""

    def __init__(self, image: KernelImage) -> None:
        self._emulated = EmulatedMachine(image, _LIMITS)
        machine = raw_machine(ENCRYPTING_HOST)
        self._cpus = two_cpus(machine, LogicalCpu)
        self._emulated.start_over()
        boot(self._emulated, self._cpus, mem_encrypt=machine.mem_encrypt)
        self._booted = self._emulated.memory.kept()


class _AfterStop(KexecWay):
    """From where it has interrupted the others."""

    def reasons(self) -> Iterator[str]:
        """One sentence for each jump.

        Raises:
            DerivationError: It does not get to an interrupt as it is.
        """
        with self._emulated.emulator.series():
            for address, other in sorted(self._jumps().items()):
                # The jump goes the other way each time that it is come by. Where the CPU interrupts
                # or starts others so, whether these rest depends on what is asked there.
                if self._wakes(address, other):
                    where = self._emulated.emulator.describe(address)
                    yield (
                        f"{Site.RELOCATE_KERNEL} also depends on what is asked at {where}, which "
                        "no fact sets: it decides whether CPUs that have stopped are woken"
                    )

    def _jumps(self) -> Mapping[int, bytes]:
        """Where those lie that it comes by, and their other opcodes."""
        blocks: set[tuple[int, int]] = set()
        jumping = self._interrupting()
        with self._emulated.emulator.blocks(lambda address, size: blocks.add((address, size))):
            self._emulated.emulator.go_on(jumping)
        self._emulated.memory.put_back(self._booted)
        turned = (self._turned(address + size) for address, size in blocks)
        return {at: code for at, code in filter(None, turned) if not self._stops(at)}

    def _turned(self, end: int) -> tuple[int, bytes] | None:
        """The conditional jump that ends there, and its other opcode; None if none does."""
        code = self._emulated.memory.read(end - _NEAR_SIZE, _NEAR_SIZE)
        if code[0] == _TWO_BYTE and code[1] in JUMPS_NEAR:
            return end - _NEAR_SIZE, inverted(code[:2], 1)
        short = code[-_SHORT_SIZE : 1 - _SHORT_SIZE]
        return (end - _SHORT_SIZE, inverted(short, 0)) if short[0] in JUMPS_SHORT else None

    def _stops(self, place: int) -> bool:
        name, _ = self._emulated.image.symbols.enclosing(place) or ("", 0)
        return name.split(".")[0] in _STOPPING

    def _interrupting(self) -> LogicalCpu:
        """The jumping CPU where it has interrupted the others, which have stopped."""
        jumping, secondary = forked(self._cpus)
        if sends(self._emulated, (jumping, secondary)) is None:
            raise DerivationError("it interrupts no other CPU")
        report_stopped(self._emulated.image, self._emulated.memory)
        return jumping

    def _wakes(self, address: int, other: bytes) -> bool:
        """With another opcode it wakes somebody, however it goes on."""
        memory, emulator = self._emulated.memory, self._emulated.emulator
        jumping = self._interrupting()
        told, before = len(jumping.commands), memory.read(address, len(other))
        memory.write(address, other)
        emulator.forget_code(address, len(other))
        try:
            emulator.go_on(jumping)
            return wakes(self._emulated, jumping, told) is not None
        finally:
            memory.write(address, before)
            emulator.forget_code(address, len(other))
            memory.put_back(self._booted)
