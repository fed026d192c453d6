# SPDX-License-Identifier: GPL-2.0-or-later
"""Is each CPU waited for, whichever it is: a wait with every CPU as the only one that is left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from staleline.hardware import MASK_32
from staleline.kernel.emulator.execution.end import EndKind, RunLimits
from staleline.kernel.emulator.layout import CONTROL_PAGES
from staleline.kernel.image.symbols import required_address

if TYPE_CHECKING:
    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.emulator.traps import LogicalCpu

__all__ = ["CAVE", "Counter", "EveryCpu"]

_SHUT_DOWN: Final = "machine_shutdown"
_MASK: Final = "cpus_stop_mask"
_COUNT_SIZE: Final = 4
#: What counts those who are left, or all who are online with the one that waits.
_COUNTS: Final = ("stop_cpus_count", "__num_online_cpus")
_NUMBERS: Final = "nr_cpu_ids"
#: Is not run here, within reach of all code, and long enough.
CAVE: Final = "start_kernel"
#: CPUs that a mask may have, each of which is looked for in so many words.
_MOST: Final = 8192
_LIMITS: Final = RunLimits(instructions=20_000_000, seconds=20.0)
_NUMBERS_IN_CODE: Final = {
    name: number
    for number, name in enumerate(
        ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
    )
}


@dataclass(frozen=True, slots=True)
class Counter:
    """What counts the looks of a wait down.

    Attributes:
        place: A register, or an address.
        size: In bytes.
        value: What it held.
        distance: By how much it is more than the first of those that go together.
    """

    place: str | int
    size: int
    value: int
    distance: int = 0

    def behind(self, value: int) -> int:
        """What it holds where the first one holds that."""
        return (value + self.distance) & ((1 << 8 * self.size) - 1)


class EveryCpu:
    """A wait that is to be tried.

    Args:
        emulated: The machine, on which the others have been interrupted.
        calls: Where the wait goes on behind a delay -> where it calls it.
        counters: What counts its first wait, if anything does.
    """

    def __init__(
        self, emulated: EmulatedMachine, calls: Mapping[int, int], counters: Sequence[Counter]
    ) -> None:
        self._emulated = emulated
        self._calls = calls
        self._counters = counters
        symbols = emulated.image.symbols
        # What is looked at is a mask with a bit for each since 6.5 and its backports, a count
        # before (arch/x86/kernel/smp.c native_stop_other_cpus(), linux 5.10.262 to 7.3.4).
        self._mask = symbols.only_address(_MASK)
        counts = filter(None, map(symbols.only_address, _COUNTS))
        self._place = self._mask or next(counts, None) or required_address(symbols, _COUNTS[-1])
        self._state = emulated.memory.direct(CONTROL_PAGES.start)
        self._cave = required_address(symbols, CAVE)
        # A mask has no bit 0 of the CPU that waits, and a count of one leaves nobody.
        self._first = 1 if self._mask else 2

    def left_out(self, waiting: LogicalCpu) -> str | None:
        """Why some CPU is not waited for; None if each is. Memory is left changed."""
        emulated, memory = self._emulated, self._emulated.memory
        numbers = min(memory.read_int(required_address(emulated.image.symbols, _NUMBERS), 4), _MOST)
        waits = 2 if self._counters else 1
        memory.write(self._state, bytes(16))
        self._put(self._first)
        memory.write_int(self._state, self._first, 4)
        memory.write_int(self._state + 4, waits, 4)
        is_mask, cpus = self._mask is not None, range(self._first, numbers)
        # Between two looks lies a delay. Code is put in its place that leaves the next CPU in the
        # mask each time, and halts where there is none any more.
        code = _code(self._state, self._place, cpus, self._counters, is_mask=is_mask)
        written = [(self._cave, code)]
        for call in self._calls.values():
            away = (self._cave - call - 5) & MASK_32
            written.append((call, b"\xe8" + away.to_bytes(4, "little")))
        try:
            for address, changed in written:
                memory.write(address, changed)
                emulated.emulator.forget_code(address, len(changed))
            with emulated.emulator.within(_LIMITS):
                end = emulated.emulator.go_on(waiting)
            if end.kind is EndKind.HALTED and self._cave <= end.address < self._cave + len(code):
                return None
            left = memory.read_int(self._state, 4)
            who = f"CPU {left}" if self._mask else f"{left} of them"
            what = "" if end.kind is EndKind.RETURNED else f": {end.detail or end.kind}"
            return f"{_SHUT_DOWN}() gives up waiting for the other CPUs where {who} is left{what}"
        finally:
            for address, changed in written:
                emulated.emulator.forget_code(address, len(changed))

    def _put(self, cpu: int) -> None:
        """That CPU, or so many, are left."""
        memory = self._emulated.memory
        if self._mask is None:
            memory.write_int(self._place, cpu, _COUNT_SIZE)
        else:
            memory.write(self._place, bytes([1 << cpu]))


def _code(
    state: int, place: int, cpus: range, counters: Sequence[Counter], *, is_mask: bool
) -> bytes:
    """A function that leaves the next CPU.

    At the last one it lets the first wait expire, and halts at the end of the second.

    Args:
        state: Address of two numbers: which CPU is left, and how many waits are.
        place: Of the mask or the count.
        cpus: The CPUs, or how many there may be.
        counters: What counts the first wait.
        is_mask: There is a mask, and no count.
    """
    # btr %rax, (%rdx) takes the bit away, bts and mov put the next one.
    take, put = (b"\x48\x0f\xb3\x02", b"\x48\x0f\xab\x02") if is_mask else (b"", b"\x89\x02")
    keeps = _sets(counters, [one.value for one in counters])
    expires = _sets(counters, [one.behind(1) for one in counters])
    leaves = bytes.fromhex("5a 59 58")  # pop %rdx, %rcx, %rax
    # cmpl $2, 4(%rcx): only the first wait is counted.
    counted = bytes.fromhex("83790402")
    stays = put + counted + _over(b"\x75", leaves + keeps + b"\xc3") + leaves + b"\xc3"
    again = (
        bytes.fromhex("ff4904")  # decl 4(%rcx)
        + _over(b"\x75", b"\xf4")  # jne over; hlt
        + b"\xb8" + cpus.start.to_bytes(4, "little") + b"\x89\x01"  # mov $first, %eax; and back
        + put + leaves + expires + b"\xc3"
    )  # fmt: skip
    return (
        bytes.fromhex("50 51 52")  # push %rax, %rcx, %rdx
        + b"\x48\xb9" + state.to_bytes(8, "little")  # mov $state, %rcx
        + b"\x48\xba" + place.to_bytes(8, "little")  # mov $place, %rdx
        + b"\x8b\x01" + take + bytes.fromhex("ffc0 8901")  # mov (%rcx), %eax; incl %eax; back
        # cmp $end, %eax; jae over
        + b"\x3d" + cpus.stop.to_bytes(4, "little") + _over(b"\x73", stays)
        + again
    )  # fmt: skip


def _over(jump: bytes, code: bytes) -> bytes:
    """A jump over some code."""
    if len(code) < 1 << 7:
        return jump + bytes([len(code)]) + code
    return b"\x0f" + bytes([jump[0] + 0x10]) + len(code).to_bytes(4, "little") + code


def _sets(counters: Iterable[Counter], values: Sequence[int]) -> bytes:
    """Set what counts, once no register is needed any more."""
    code = b""
    for counter, value in zip(counters, values, strict=True):
        if isinstance(counter.place, str):
            number = _NUMBERS_IN_CODE[counter.place]
            # mov $value, register
            code += bytes([0x48 | number >> 3, 0xB8 | number & 7]) + value.to_bytes(8, "little")
        else:
            # push %rax; mov $address, %rax; movl $value, (%rax); pop %rax
            wide = b"\x48" if counter.size == 8 else b""
            code += b"\x50\x48\xb8" + counter.place.to_bytes(8, "little")
            code += wide + b"\xc7\x00" + (value & MASK_32).to_bytes(4, "little") + b"\x58"
    return code
