# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a kexec waits for the CPUs that it told to stop.

``native_stop_other_cpus(1)`` looks for a second whether the others have stopped, sends an NMI to
those that have not, and looks again without an end (arch/x86/kernel/smp.c, linux 5.10.262 to
7.3.4). Between two of them lies a delay; there is noted what the waiting function keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.emulator import End, EndKind
from staleline.kernel.emulator.layout import APIC, CONTROL_PAGES, REGISTERS
from staleline.kernel.emulator.memory import MachineMemory
from staleline.kernel.image.symbols import AmbiguousNameError, required_address
from staleline.kernel.inventory.functioncode import reached_code
from staleline.kernel.sites.stoppath import NMI_CALLBACK, forked, sends, take_nmi

if TYPE_CHECKING:
    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.emulator.traps import Answer, LogicalCpu, Question

__all__ = ["gives_up"]

_SHUT_DOWN: Final = "machine_shutdown"
_OPERATIONS: Final = "smp_ops"
_STOP_OTHERS: Final = 0x18  # struct smp_ops, asm/smp.h, 5.10 to 7.3
#: Who is waited for since 6.5 and its backports, one bit each, and how many bits there are.
_MASK: Final = "cpus_stop_mask"
_NUMBERS: Final = "nr_cpu_ids"
_DELAYS: Final = frozenset(("__const_udelay", "__udelay", "__ndelay"))
#: What a delay calls in the end (arch/x86/lib/delay.c, 5.10 to 7.3).
_DELAYING: Final = "delay_fn"
_PRINTS: Final = ("_printk", "printk")
_RETURN_ZERO: Final = b"\x31\xc0\xc3"
_HLT: Final = b"\xf4"
#: Is not run here, within reach of all code, and long enough for all notes' code.
_CAVE: Final = "start_kernel"
#: A delay notes the place that it was called from, registers that a function keeps for its caller
#: (System V ABI, AMD64, 3.2.1), and so many words of the stack.
_REGISTERS: Final = ("rbx", "rbp", "rsp", "r12", "r13", "r14", "r15")
_STACK_WORDS: Final = 16
_WORD: Final = 8
_NOTE_SIZE: Final = 0x100
_NOTES: Final = 0x40
#: Delays that are run to see what changes from one to the next, and in all.
_FIRST_DELAYS: Final = 4
_ALL_DELAYS: Final = 12
#: Of the second, which counts down by one.
_DOWN: Final = (1 << 64) - 1
_MASK_64: Final = (1 << 64) - 1
_MASK_32: Final = (1 << 32) - 1
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
#: The driver of the local APIC, and counters of instrumentation.
_LOOKED_AT_BY_PREFIX: Final = ("apic_", "x2apic_", "__gcov")
#: Points to a struct apic, which is no larger (asm/apic.h, 5.10 to 7.3).
_DRIVER: Final = "apic"
_DRIVER_SIZE: Final = 0x180
_KERNEL_HALF: Final = 0xFFFF_8000_0000_0000

#: ``mov %reg, disp8(%rcx)`` for each of the registers.
_SAVES: Final = bytes.fromhex("48895908 48896910 48896118 4c896120 4c896928 4c897130 4c897938")
#: ``mov $1, %reg``, but for the immediate.
_SETS: Final = {
    "rbx": "48c7c3",
    "rbp": "48c7c5",
    "r12": "49c7c4",
    "r13": "49c7c5",
    "r14": "49c7c6",
    "r15": "49c7c7",
}

_Note = tuple[int, ...]
_KNOWN: WeakKeyDictionary[MachineMemory, dict[int, str | None]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class _Expiry:
    """A value that counts a wait, and where it is set to its end.

    Attributes:
        index: Which word of a note.
        delay: Before which delay.
    """

    index: int
    delay: int

    @property
    def code(self) -> bytes:
        """``cmp $delay, %rax; jne over; mov $1, value``."""
        at = self.index - 1
        if at < len(_REGISTERS):
            sets = bytes.fromhex(_SETS[_REGISTERS[at]])
        else:
            word = _WORD * (at - len(_REGISTERS) + 1)
            sets = b"\x48\xc7\x84\x24" + word.to_bytes(4, "little")
        sets += (1).to_bytes(4, "little")
        return b"\x48\x83\xf8" + bytes([self.delay]) + b"\x75" + bytes([len(sets)]) + sets


def gives_up(emulated: EmulatedMachine, cpus: tuple[LogicalCpu, LogicalCpu]) -> str | None:
    """Why a kexec may go on before all others have stopped; None if it waits for them.

    Memory and CPUs are left as they are. What does not depend on the machine is found out once for
    an image.
    """
    known = _KNOWN.setdefault(emulated.memory, {})
    waiting = emulated.memory.read_int(
        required_address(emulated.image.symbols, _OPERATIONS) + _STOP_OTHERS, _WORD
    )
    if waiting not in known:
        known[waiting] = _Wait(emulated, cpus, waiting).reason()
    return known[waiting]


class _Wait:
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
        self._written: list[tuple[int, int]] = []
        self._delays: list[tuple[int, int]] = []
        self._halts = range(0)
        self._returns = 0
        self._reads: dict[int, int] = {}
        self._asked: dict[Question, Answer] = {}
        self._expiry: _Expiry | None = None

    def reason(self) -> str | None:
        """Why it may go on early."""
        try:
            self._delays = self._calls()
            return self._found()
        # As it is: it tells of the names that the image has, and not of the wait.
        except AmbiguousNameError:
            raise
        except DerivationError as error:
            return f"how long {self._name}() waits is not known: {error}"
        finally:
            self._emulated.memory.put_back(self._began)
            self._forget()

    def _found(self) -> str | None:
        end = self._run(_FIRST_DELAYS)
        if not self._delays_again(end):
            return self._goes_on(end)
        # A second is a million looks, so they are not all run: the one value that goes down by one
        # is set to its end. Without one it waits without an end, and sends no NMI: a wait in which
        # nothing changes ends only by what it looks at.
        counter = _counted(self._notes(_FIRST_DELAYS))
        self._expiry = None if counter is None else _Expiry(counter, _FIRST_DELAYS // 2)
        end = self._run(_ALL_DELAYS, self._expiry)
        if not self._delays_again(end):
            return self._goes_on(end)
        # Behind the NMI none may count: that wait would have an end.
        if _counted(self._notes(_ALL_DELAYS)[-_FIRST_DELAYS:]) is not None:
            return f"{_SHUT_DOWN}() gives up waiting for the other CPUs after some time"
        return self._decided() or self._astray()

    # -- runs -------------------------------------------------------------------------------

    def _run(self, delays: int, expiry: _Expiry | None = None) -> End:
        """Shut down, and wait for so many delays, or less."""
        emulated, memory = self._emulated, self._emulated.memory
        memory.put_back(self._began)
        self._forget()
        jumping, secondary = forked(self._cpus)
        if sends(emulated, (jumping, secondary)) is None:
            raise DerivationError("it interrupts nobody")
        memory.write(self._kept, bytes(_NOTES + _NOTE_SIZE * (_ALL_DELAYS + 1)))
        # "Shutting down cpus with NMI": consoles are not emulated (linux 7.3.4
        # arch/x86/kernel/smp.c:218).
        for name in _PRINTS:
            for address in emulated.image.symbols.addresses(name):
                self._write(address, _RETURN_ZERO)
        self._divert(delays, expiry)
        # How long one takes is up to the hardware: MWAITX, the time stamp.
        memory.write_int(required_address(emulated.image.symbols, _DELAYING), self._returns, _WORD)
        if expiry is None:
            self._leave_the_last()
        self._reads, self._asked = {}, {}
        waiting = jumping.going_on_as(jumping, self._asked)
        if expiry is None:
            return emulated.emulator.go_on(waiting)
        # The first run only looks for what counts.
        with emulated.emulator.watched(self._note):
            return emulated.emulator.go_on(waiting)

    def _note(self, address: int, size: int, is_write: bool) -> None:
        memory = self._emulated.memory
        if not is_write and not memory.is_ram(address) and address not in APIC:
            self._reads.setdefault(address, size)

    def _leave_the_last(self) -> None:
        """Of all CPUs the last one is waited for, where a mask says so, and no count."""
        memory, symbols = self._emulated.memory, self._emulated.image.symbols
        mask, count = symbols.only_address(_MASK), symbols.only_address(_NUMBERS)
        if mask is None or count is None:
            return
        last = memory.read_int(count, 4) - 1
        memory.write(mask, bytes(last // 8) + bytes([1 << last % 8]))

    def _divert(self, delays: int, expiry: _Expiry | None) -> None:
        """Have each delay noted first."""
        self._returns = cave = required_address(self._emulated.image.symbols, _CAVE)
        self._write(cave, _RETURN_ZERO)
        cave += 16
        for call, target in self._delays:
            code = self._noting(delays, expiry)
            back = (target - cave - len(code) - 5) & _MASK_32
            self._write(cave, code + b"\xe9" + back.to_bytes(4, "little"))
            self._write(call, b"\xe8" + (cave - call - 5 & _MASK_32).to_bytes(4, "little"))
            cave += len(code) + 16
        self._halts = range(required_address(self._emulated.image.symbols, _CAVE), cave)

    def _noting(self, delays: int, expiry: _Expiry | None) -> bytes:
        """Halts when there were so many. RAX, RCX, RDX, RSI and R8 are not kept: a call is here."""
        return (
            b"\x48\xba" + self._kept.to_bytes(8, "little")  # mov $notes, %rdx
            + bytes.fromhex("488b02 48ff02")  # mov (%rdx), %rax; incq (%rdx)
            + b"\x48\x3d" + delays.to_bytes(4, "little")  # cmp $delays, %rax
            + b"\x72\x01" + _HLT  # jb over; hlt
            + bytes.fromhex("4889c1 48c1e108")  # mov %rax, %rcx; shl $8, %rcx
            + bytes.fromhex("488d4c0a40 488b1424 488911")  # lea 64(%rdx,%rcx), %rcx; (%rsp) there
            + _SAVES
            + bytes.fromhex("4989f8 488d742408 488d7940")  # mov %rdi, %r8; lea 8(%rsp), %rsi; ...
            + b"\xb9" + _STACK_WORDS.to_bytes(4, "little") + bytes.fromhex("f348a5 4c89c7")
            + (b"" if expiry is None else expiry.code)
        )  # fmt: skip

    def _write(self, address: int, code: bytes) -> None:
        self._emulated.memory.write(address, code)
        self._emulated.emulator.forget_code(address, len(code))
        self._written.append((address, len(code)))

    def _forget(self) -> None:
        """What is translated of code that was written, and is not there any more."""
        while self._written:
            self._emulated.emulator.forget_code(*self._written.pop())

    @property
    def _kept(self) -> int:
        return self._emulated.memory.direct(CONTROL_PAGES.start)

    def _notes(self, count: int) -> list[_Note]:
        words = 1 + len(_REGISTERS) + _STACK_WORDS
        starts = (self._kept + _NOTES + _NOTE_SIZE * at for at in range(count))
        return [
            tuple(self._emulated.memory.read_int(at + _WORD * n, _WORD) for n in range(words))
            for at in starts
        ]

    # -- what came of one -------------------------------------------------------------------

    def _calls(self) -> list[tuple[int, int]]:
        """Where the function delays, and by what.

        Raises:
            DerivationError: It does not, as far as its code tells.
        """
        image = self._emulated.image
        calls = [
            (address, instruction.target)
            for address, instruction in reached_code(image, self._function).items()
            if instruction.target is not None
            and not instruction.is_jump
            and not _DELAYS.isdisjoint(image.symbols.names_at(instruction.target))
        ]
        if not calls:
            raise DerivationError("it has no delay between two looks")
        return calls

    def _delays_again(self, end: End) -> bool:
        return end.kind is EndKind.HALTED and end.address in self._halts

    def _goes_on(self, end: End) -> str:
        if end.kind is EndKind.RETURNED:
            return f"{_SHUT_DOWN}() gives up waiting for the other CPUs"
        what = end.detail or f"{end.kind} at {self._emulated.emulator.describe(end.address)}"
        return f"{_SHUT_DOWN}() does not wait for the other CPUs: {what}"

    def _astray(self) -> str | None:
        """Where an NMI leads that is sent meanwhile, if that is not the callback's start."""
        emulated = self._emulated
        callback = emulated.image.symbols.address(NMI_CALLBACK)
        if callback is None or self._expiry is None:
            return None
        # Halted at its start, the callback tells that the NMI has come to it.
        self._write(callback, _HLT)
        _, secondary = forked(self._cpus)
        end = take_nmi(emulated, secondary, emulated.memory.direct(REGISTERS.start))
        if end.kind is EndKind.HALTED and end.address == callback:
            return None
        where = emulated.emulator.describe(end.address)
        returned = end.kind is EndKind.RETURNED
        what = end.detail or ("its handler returned" if returned else f"{end.kind} at {where}")
        return f"an NMI does not lead to {NMI_CALLBACK}(): {what}"

    def _decided(self) -> str | None:
        """What else than the others the wait looks at, on its way from the first interrupt."""
        asked = [f"{question}" for question in self._asked]
        driver = self._apic_driver()
        names = {
            name
            for address, size in self._reads.items()
            if address not in driver
            and (name := self._emulated.places.variable(address)) is not None
            and not _is_known(name)
            and self._emulated.memory.read_int(address, min(size, _WORD)) < _KERNEL_HALF
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


def _counted(notes: Sequence[_Note]) -> int | None:
    """Which word of the notes counts the delays between them; None if none changes.

    Raises:
        DerivationError: Another changes, or they are not of one wait.
    """
    changes = {
        index: {(after[index] - before[index]) & _MASK_64 for before, after in pairwise(notes)}
        for index in range(len(notes[0]))
        if len({note[index] for note in notes}) > 1
    }
    if not changes:
        return None
    if len(changes) > 1 or 0 in changes or next(iter(changes.values())) != {_DOWN}:
        raise DerivationError("what counts its looks is not known")
    return next(iter(changes))
