# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a kexec waits for the CPUs that it told to stop.

``native_stop_other_cpus(1)`` looks for a second whether the others have stopped, sends an NMI to
those that have not, and looks again without an end (arch/x86/kernel/smp.c, linux 5.10.262 to
7.3.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from staleline.kernel.addresses import KERNEL_HALF
from staleline.kernel.boot.everycpu import CAVE, Counter, EveryCpu
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.execution.end import End, EndKind
from staleline.kernel.emulator.layout import APIC
from staleline.kernel.emulator.memory import MachineMemory
from staleline.kernel.image.symbols import AmbiguousNameError, required_address
from staleline.kernel.inventory.functioncode import reached_code
from staleline.kernel.opcodes import RET
from staleline.kernel.sites.stoppath import forked, sends

if TYPE_CHECKING:
    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.emulator.memory import KeptMemory
    from staleline.kernel.emulator.traps import Answer, LogicalCpu, Question

__all__ = ["Wait", "wait_of"]

_SHUT_DOWN: Final = "machine_shutdown"
_OPERATIONS: Final = "smp_ops"
_STOP_OTHERS: Final = 0x18  # struct smp_ops, asm/smp.h, 5.10 to 7.3
#: arch/x86/lib/delay.c, 5.10 to 7.3, and what these call in the end. How long that takes is up to
#: the hardware: MWAITX, the time stamp. Here it returns at once.
_DELAYS: Final = ("__const_udelay", "__udelay", "__ndelay")
_DELAYING: Final = "delay_fn"
_WORD: Final = 8
#: Looks of each wait: the first are not compared, as what is looked at first may be set up there.
_FIRST_LOOKS: Final = 1
_LOOKS: Final = 4
#: Of the second, which counts down by one.
_DOWN: Final = -1
#: What it looks at beside pointers, none of which ends a wait: arch/x86/kernel/smp.c, nmi.c,
#: apic/ipi.c and lib/delay.c, 5.10 to 7.3.
_LOOKED_AT: Final = frozenset(
    (
        *("__cpu_online_mask", "__num_online_cpus", "cpus_stop_mask", "stop_cpus_count"),
        *("nr_cpu_ids", "smp_no_nmi_ipi", "stopping_cpu", "cpu_bit_bitmap", "loops_per_jiffy"),
        *("nmi_desc", "smp_stop_nmi_callback_na", "apic_use_ipi_shorthand", "this_cpu_off"),
        *("cpu_info", "cpu_number", "pcpu_hot", "const_pcpu_hot", "__preempt_count"),
    )
)
#: Counters of instrumentation, which no kernel code looks at.
_COUNTERS: Final = ("__gcov", "__llvm_gcov")
#: And the driver of the local APIC.
_LOOKED_AT_BY_PREFIX: Final = ("apic_", "x2apic_", *_COUNTERS)
#: Points to a struct apic, which is no larger (asm/apic.h, 5.10 to 7.3).
_DRIVER: Final = "apic"
_DRIVER_SIZE: Final = 0x180
_GENERAL: Final = frozenset(
    ("rax", "rbx", "rcx", "rdx", "rbp", "rsi", "rdi", *(f"r{number}" for number in range(8, 16)))
)


@dataclass(frozen=True, slots=True)
class Wait:
    """What a wait was found to be.

    Attributes:
        reason: Why a kexec may go on before all others have stopped; None if it waits for them.
        told: What has changed in memory, from the first interrupt to when slow CPUs were sent an
            NMI: addresses and what is there; None if none is sent.
    """

    reason: str | None
    told: Mapping[int, bytes] | None = None


_KNOWN: WeakKeyDictionary[MachineMemory, dict[int, Wait]] = WeakKeyDictionary()


def wait_of(
    emulated: EmulatedMachine, cpus: tuple[LogicalCpu, LogicalCpu], *, for_each: bool = True
) -> Wait:
    """How a kexec waits for the others.

    Memory, in which no kexec has begun, and CPUs are left as they are. What does not depend on the
    machine is found out once for an image.

    Args:
        emulated: The machine.
        cpus: Its CPUs.
        for_each: Whether it waits for each CPU is to be found out as well.
    """
    known = _KNOWN.setdefault(emulated.memory, {})
    waiting = emulated.memory.read_int(
        required_address(emulated.image.symbols, _OPERATIONS) + _STOP_OTHERS, _WORD
    )
    if waiting not in known:
        known[waiting] = _Waiting(emulated, cpus, waiting).found(for_each=for_each)
    return known[waiting]


@dataclass(frozen=True, slots=True)
class _Look:
    """All that is there when a CPU looks."""

    registers: Mapping[str, int]
    memory: KeptMemory


@dataclass(slots=True)
class _Looks:
    """What was seen in one run, from the first interrupt on."""

    first: list[_Look] = field(default_factory=list)
    later: list[_Look] = field(default_factory=list)
    expired: bool = False
    reads: dict[int, int] = field(default_factory=dict)
    asked: dict[Question, Answer] = field(default_factory=dict)


class _Waiting:
    """A function in which a CPU waits."""

    def __init__(
        self, emulated: EmulatedMachine, cpus: tuple[LogicalCpu, LogicalCpu], function: int
    ) -> None:
        self._emulated = emulated
        self._cpus = cpus
        self._function = function
        names = emulated.image.symbols.names_at(function)
        self._name = names[0] if names else f"{function:#x}"
        self._began = emulated.memory.kept()
        self._looks = _Looks()
        self._counters: Sequence[Counter] = ()
        self._calls: Mapping[int, int] = {}
        self._failure: DerivationError | None = None

    def found(self, *, for_each: bool) -> Wait:
        """What it is."""
        try:
            self._calls = dict(self._delays())
            wait = self._found()
            # A wait in which nothing changes ends only by what it looks at; that it looks at each
            # CPU is tried with every one of them.
            if for_each and wait.reason is None:
                wait = replace(wait, reason=self._left_out())
            return wait
        except AmbiguousNameError:
            raise
        except DerivationError as error:
            return Wait(f"how long {self._name}() waits is not known: {error}")
        finally:
            self._emulated.memory.put_back(self._began)
            cave = self._emulated.image.symbols.only_address(CAVE)
            if cave is not None:
                self._emulated.emulator.forget_code(cave, len(RET))

    def _found(self) -> Wait:
        sent = self._interrupted()
        end = self._look_on()
        if self._failure is not None:
            raise self._failure
        if end.kind is not EndKind.LOOKED:
            return Wait(self._goes_on(end))
        reason = self._decided()
        counted = next((place for place, _ in self._changed(self._looks.later)), None)
        if reason is None and counted is not None:
            reason = f"{_SHUT_DOWN}() gives up waiting for the other CPUs after some time, "
            reason += f"which it counts in {self._called(counted)}"
        told = self._told(sent) if self._counters else None
        return Wait(reason, told)

    # -- runs -------------------------------------------------------------------------------

    def _interrupted(self) -> KeptMemory:
        """Shut down, to where the others are interrupted."""
        self._emulated.memory.put_back(self._began)
        self._jumping, secondary = forked(self._cpus)
        if sends(self._emulated, (self._jumping, secondary)) is None:
            raise DerivationError("it interrupts nobody")
        memory, symbols = self._emulated.memory, self._emulated.image.symbols
        returns = required_address(symbols, CAVE)
        memory.write(returns, RET)
        self._emulated.emulator.forget_code(returns, len(RET))
        memory.write_int(required_address(symbols, _DELAYING), returns, _WORD)
        return memory.kept()

    def _look_on(self) -> End:
        """Go on, and look at both waits."""
        emulator = self._emulated.emulator
        addresses = self._emulated.image.symbols.addresses
        delays = {address for name in _DELAYS for address in addresses(name)}
        waiting = self._jumping.going_on_as(self._jumping, self._looks.asked)
        with emulator.watched(self._note), emulator.calls_of(sorted(delays), self._look):
            return emulator.go_on(waiting)

    def _note(self, address: int, size: int, is_write: bool) -> None:
        memory = self._emulated.memory
        if not is_write and not memory.is_ram(address) and address not in APIC:
            self._looks.reads.setdefault(address, size)

    def _look(self, returns_to: int) -> None:
        """The code is about to delay, and would return there."""
        if returns_to not in self._calls:
            return
        emulated, looks = self._emulated, self._looks
        emulated.memory.was_run_in(1)
        seen = looks.later if looks.expired else looks.first
        # Between two looks lies a delay: what counts them is in what the CPU holds there, or in
        # memory.
        seen.append(_Look(emulated.emulator.registers(), emulated.memory.kept()))
        if len(seen) < _LOOKS:
            return
        if not looks.expired:
            self._expire()
        # Without a counter it waits without an end, and sends no NMI.
        if not looks.expired or seen is looks.later:
            looks.later = looks.later or looks.first
            emulated.emulator.leave()

    def _expire(self) -> None:
        """Set what counts the first wait to its end, if anything does."""
        try:
            # A second is a million looks, so they are not all run. The one value that goes down by
            # one counts the wait, and is set to its end.
            self._counters = tuple(self._counting())
        except DerivationError as error:
            self._failure = error
            return
        for counter in self._counters:
            value = counter.behind(1)
            if isinstance(counter.place, str):
                self._emulated.emulator.put(counter.place, value)
            else:
                self._emulated.memory.write_int(counter.place, value, counter.size)
        self._looks.expired = bool(self._counters)

    # -- what came of one -------------------------------------------------------------------

    def _delays(self) -> Iterator[tuple[int, int]]:
        """Where the function goes on behind a delay, and where it calls it.

        Raises:
            DerivationError: It does not, as far as its code tells.
        """
        image = self._emulated.image
        calls = {
            address + instruction.size: address
            for address, instruction in reached_code(image, self._function).items()
            if instruction.target is not None
            and not instruction.is_jump
            and not set(_DELAYS).isdisjoint(image.symbols.names_at(instruction.target))
        }
        if not calls:
            raise DerivationError("it has no delay between two looks")
        yield from calls.items()

    def _goes_on(self, end: End) -> str:
        if end.kind is EndKind.RETURNED:
            return f"{_SHUT_DOWN}() gives up waiting for the other CPUs"
        what = self._emulated.emulator.told(end)
        return f"{_SHUT_DOWN}() does not wait for the other CPUs: {what}"

    def _changed(self, looks: Sequence[_Look]) -> Iterator[tuple[str | int, list[tuple[int, int]]]]:
        """Registers and addresses of words, and what each was and became from look to look."""
        for name in looks[-1].registers:
            values = [look.registers.get(name, 0) for look in looks[_FIRST_LOOKS:]]
            if len(set(values)) > 1:
                yield name, list(pairwise(values))
        words: dict[int, list[tuple[int, int]]] = {}
        for before, after in pairwise(looks[_FIRST_LOOKS:]):
            for address, was, became in self._emulated.memory.changes(before.memory, after.memory):
                if not self._name_of(address).startswith(_COUNTERS):
                    both = int.from_bytes(was, "little"), int.from_bytes(became, "little")
                    words.setdefault(address, []).append(both)
        yield from words.items()

    def _counting(self) -> Iterator[Counter]:
        """What counts the first wait; several where a copy goes with it.

        Raises:
            DerivationError: Something else changes from look to look.
        """
        first: Counter | None = None
        for place, changes in self._changed(self._looks.first):
            counter = _counter(place, changes)
            if counter is None or len(changes) < _LOOKS - _FIRST_LOOKS - 1:
                what = f"{self._called(place)} changes"
                raise DerivationError(f"what counts its looks is not known: {what}")
            first = first or counter
            yield replace(counter, distance=counter.value - first.value)

    def _called(self, place: str | int) -> str:
        """What changes, for reports."""
        return place if isinstance(place, str) else self._name_of(place)

    def _name_of(self, address: int) -> str:
        memory = self._emulated.memory
        physical = memory.physical(address)
        if physical is None:
            return f"the local APIC at {address - APIC.start:#x}"
        return self._emulated.places.line(address, physical).removeprefix("per-CPU ")

    def _told(self, sent: KeptMemory) -> Mapping[int, bytes]:
        """What has changed since the first interrupt, for a CPU that gets an NMI now."""
        # Single bytes: what lies beside them may be another on another machine.
        changes = self._emulated.memory.changes(sent, self._looks.later[-1].memory)
        return {
            address + at: became[at : at + 1]
            for address, was, became in changes
            for at in range(len(was))
            if was[at] != became[at]
        }

    def _left_out(self) -> str | None:
        """A CPU that is not waited for."""
        self._interrupted()
        waiting = self._jumping.going_on_as(self._jumping, {})
        return EveryCpu(self._emulated, self._calls, self._counters).left_out(waiting)

    def _decided(self) -> str | None:
        """What else than the others the wait looks at, on its way from the first interrupt."""
        asked = [f"{question}" for question in self._looks.asked]
        driver = self._apic_driver()
        names = {
            name
            for address, size in self._looks.reads.items()
            if address not in driver
            and (name := self._emulated.places.variable(address)) is not None
            and not _is_known(name)
            and self._emulated.memory.read_int(address, min(size, _WORD)) < KERNEL_HALF.start
        }
        if not asked and not names:
            return None
        what = ", ".join(sorted(names) + asked)
        return f"whether {_SHUT_DOWN}() waits for the other CPUs may depend on {what}"

    def _apic_driver(self) -> range:
        """Of the local APIC; where few data have names, it goes by that of the one before."""
        pointer = self._emulated.image.symbols.only_address(_DRIVER)
        if pointer is None:
            return range(0)
        start = self._emulated.memory.read_int(pointer, _WORD)
        return range(start, start + _DRIVER_SIZE)


def _is_known(name: str) -> bool:
    variable = name.removeprefix("per-CPU ").split("+")[0].split(".")[0]
    return variable in _LOOKED_AT or variable.startswith(_LOOKED_AT_BY_PREFIX)


def _counter(place: str | int, changes: Sequence[tuple[int, int]]) -> Counter | None:
    """What goes down by one each time; None if it does not."""
    if isinstance(place, str):
        down = place in _GENERAL and all((after - before) == _DOWN for before, after in changes)
        return Counter(place, _WORD, changes[-1][1]) if down else None
    for size, shift in ((4, 0), (4, 32), (_WORD, 0)):
        mask = (1 << 8 * size) - 1
        parts = [tuple(value >> shift & mask for value in change) for change in changes]
        rest = all((before ^ after) & ~(mask << shift) == 0 for before, after in changes)
        if rest and all(after - before == _DOWN for before, after in parts):
            return Counter(place + shift // 8, size, parts[-1][1])
    return None
