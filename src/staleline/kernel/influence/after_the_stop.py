# SPDX-License-Identifier: GPL-2.0-or-later
"""What decides whether a kexec wakes CPUs that have stopped, other than listed facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from staleline.kernel.boot.machine import EmulatedMachine, two_cpus
from staleline.kernel.boot.rawfacts import ENCRYPTING_HOST
from staleline.kernel.boot.rawmachine import raw_machine
from staleline.kernel.boot.startup import boot_once
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.execution.end import RunLimits
from staleline.kernel.emulator.traps import LogicalCpu
from staleline.kernel.image.exceptiontable import expected_faults
from staleline.kernel.influence.beyond import turned_beyond
from staleline.kernel.rerun.changes import Memory
from staleline.kernel.rerun.conditions import JUMPS_NEAR, JUMPS_SHORT, inverted
from staleline.kernel.rerun.constantmemory import variable_memory
from staleline.kernel.rerun.fixedinputs import FIXED_CALLS_ON_WAY, is_fixed, open_static_call
from staleline.kernel.rerun.reruns import Accesses
from staleline.kernel.sites.stoppath import forked, report_stopped, sends, wakes
from staleline.kernel.sites.wholeway import STOPPING
from staleline.vocabulary import Site

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage

__all__ = ["KexecWay", "waking_jumps"]

#: A run takes some thousand instructions; one that has no end has woken nobody by then.
_LIMITS: Final = RunLimits(instructions=100_000, seconds=1.0)
_TWO_BYTE: Final = 0x0F
_SHORT_SIZE: Final = 2
_NEAR_SIZE: Final = 6
#: What is in machine_ops.shutdown and x86_apic_ops.restore, by which these are known where they
#: have no names: arch/x86/kernel/reboot.c and x86_init.c, 5.10 to 7.3.
_DEFAULTS: Final = frozenset(("native_machine_shutdown", "native_restore_boot_irq_mode"))
_WORD: Final = 8
_NULL: Final = bytes(_WORD)
#: Leads nowhere, as NULL does, but is not NULL.
_NOWHERE: Final = (1).to_bytes(_WORD, "little")


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
        boot_once(self._emulated, machine, self._cpus)
        self._booted = self._emulated.memory.kept()

    def _accesses_of(self, run: Callable[[], object]) -> Accesses:
        """What is read and executed; memory is as after boot then."""
        accesses = Accesses(self._emulated.memory)
        where = variable_memory(self._emulated.image.symbols, ())
        with (
            self._emulated.emulator.watched(accesses.note, where),
            self._emulated.emulator.blocks(accesses.execute),
        ):
            run()
        self._emulated.memory.put_back(self._booted)
        return accesses

    def _decided_elsewhere(self, accesses: Accesses) -> Iterator[str]:
        """Variables that hold where code begins that was executed, static calls, and what may fail.

        Without those that are taken as they are in the image.
        """
        begun = {address for address, _ in accesses.blocks}
        for (address, size), content in accesses.reads.items():
            target = int.from_bytes(content, "little")
            is_told = not _DEFAULTS.isdisjoint(self._emulated.image.symbols.names_at(target))
            leads_there = size == _WORD and target in begun and not is_told
            name = self._emulated.places.variable(address) if leads_there else None
            if name is not None and not is_fixed(FIXED_CALLS_ON_WAY, name, size):
                yield name
        image, places = self._emulated.image, self._emulated.places
        yield from filter(
            None, (open_static_call(image.symbols.names_at(place)) for place in sorted(begun))
        )
        tried = expected_faults(image).keys()
        for address, size in sorted(accesses.blocks):
            for place in sorted(tried & set(range(address, address + size))):
                yield f"whether what is tried at {places.code(place)} fails"

    def _unset_pointers(self, accesses: Accesses) -> Iterator[tuple[int, str]]:
        """Variables that may be pointers that are not set: address and name."""
        for (address, size), content in accesses.reads.items():
            name = self._emulated.places.variable(address) if content == _NULL else None
            if name is not None and not is_fixed(FIXED_CALLS_ON_WAY, name, size):
                yield address, name


class _AfterStop(KexecWay):
    """From where it has interrupted the others."""

    def reasons(self) -> Iterator[str]:
        """One sentence for each jump.

        Raises:
            DerivationError: It does not get to an interrupt as it is.
        """
        with self._emulated.emulator.series():
            jumping = self._interrupting()
            accesses = self._accesses_of(lambda: self._emulated.emulator.go_on(jumping))
            for name in dict.fromkeys(
                (*self._decided_elsewhere(accesses), *self._called(accesses))
            ):
                yield _reason(
                    name, "it decides what is called, or done, when the others have stopped"
                )
            # A jump goes the other way each time that it is come by, also with those behind it.
            # Where the CPU interrupts or starts others so, whether these rest depends on what is
            # asked there.
            for turned in sorted(self._jumps(accesses), key=lambda one: one.cell):
                if any(self._wakes(way, accesses) for way in self._ways(turned, accesses)):
                    where = self._emulated.emulator.describe(turned.cell[0])
                    what = "it decides whether CPUs that have stopped are woken"
                    yield _reason(f"what is asked at {where}", what)

    def _called(self, accesses: Accesses) -> Iterator[str]:
        """Names of pointers that are not set, and followed if they are."""
        for address, name in self._unset_pointers(accesses):
            if self._follows(address):
                yield name

    def _follows(self, address: int) -> bool:
        """Does it go on where a variable says, or through that?"""
        jumping, emulator = self._interrupting(), self._emulated.emulator
        before = emulator.null_uses
        self._emulated.memory.write(address, _NOWHERE)
        try:
            emulator.go_on(jumping)
            return emulator.null_uses != before
        finally:
            self._emulated.memory.put_back(self._booted)

    def _jumps(self, accesses: Accesses) -> Iterator[Memory]:
        """Those that it comes by, the other way round."""
        for turned in filter(None, (self._turned(at + size) for at, size in accesses.blocks)):
            if not self._stops(turned.cell[0]):
                yield turned

    def _ways(self, turned: Memory, accesses: Accesses) -> Iterator[tuple[Memory, ...]]:
        """The turned jump, and with conditions that are asked only where it is turned."""
        yield (turned,)
        begun = {address for address, _ in accesses.blocks}
        read, address = self._emulated.memory.read, turned.cell[0]
        size = _NEAR_SIZE if turned.content[0] == _TWO_BYTE else _SHORT_SIZE
        displacement = read(address, size)[len(turned.content) :]
        behind = address + size
        target = behind + int.from_bytes(displacement, "little", signed=True)
        # Where it leads that was executed it was not turned.
        for way in {behind, target} - begun:
            yield from turned_beyond(read, turned, way, begun)

    def _turned(self, end: int) -> Memory | None:
        """The conditional jump that ends there, with its other opcode; None if none does."""
        code = self._emulated.memory.read(end - _NEAR_SIZE, _NEAR_SIZE)
        if code[0] == _TWO_BYTE and code[1] in JUMPS_NEAR:
            return _code(end - _NEAR_SIZE, inverted(code[:2], 1))
        short = code[-_SHORT_SIZE : 1 - _SHORT_SIZE]
        is_jump = short[0] in JUMPS_SHORT
        return _code(end - _SHORT_SIZE, inverted(short, 0)) if is_jump else None

    def _stops(self, place: int) -> bool:
        return self._emulated.image.symbols.function_of(place) in STOPPING

    def _interrupting(self) -> LogicalCpu:
        """The jumping CPU where it has interrupted the others, which have stopped."""
        jumping, secondary = forked(self._cpus)
        if sends(self._emulated, (jumping, secondary)) is None:
            raise DerivationError("it interrupts no other CPU")
        report_stopped(self._emulated.image, self._emulated.memory)
        return jumping

    def _wakes(self, changes: Sequence[Memory], as_given: Accesses) -> bool:
        """With other opcodes it wakes somebody, however it goes on, or calls what is not set."""
        jumping = self._interrupting()
        told, calls = len(jumping.commands), self._emulated.emulator.null_uses.calls
        self._go_on(jumping, changes)
        if wakes(self._emulated, jumping, told) is not None:
            return True
        is_called = self._emulated.emulator.null_uses.calls > calls
        return is_called and self._calls_unset(changes, as_given)

    def _calls_unset(self, changes: Sequence[Memory], as_given: Accesses) -> bool:
        """Is it none of what is taken as it is in the image?"""
        jumping = self._interrupting()
        accesses = self._accesses_of(lambda: self._go_on(jumping, changes))
        known = {address for address, _ in self._unset_pointers(as_given)}
        return any(address not in known for address, _ in self._unset_pointers(accesses))

    def _go_on(self, jumping: LogicalCpu, changes: Sequence[Memory]) -> None:
        """From where it has interrupted the others; memory is as after boot then."""
        memory = self._emulated.memory
        before = [memory.read(*change.cell) for change in changes]
        self._put(changes, [change.content for change in changes])
        try:
            self._emulated.emulator.go_on(jumping)
        finally:
            self._put(changes, before)
            memory.put_back(self._booted)

    def _put(self, changes: Sequence[Memory], contents: Sequence[bytes]) -> None:
        for change, content in zip(changes, contents, strict=True):
            address, size = change.cell
            self._emulated.memory.write(address, content)
            self._emulated.emulator.forget_code(address, size)


def _code(address: int, content: bytes) -> Memory:
    return Memory((address, len(content)), content, "", is_code=True)


def _reason(name: str, what: str) -> str:
    return f"{Site.RELOCATE_KERNEL} also depends on {name}, which no fact sets: {what}"
