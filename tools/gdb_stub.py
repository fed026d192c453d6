# SPDX-License-Identifier: GPL-2.0-or-later
"""Answer instructions of an emulated machine in QEMU's place, over its gdb stub.

The remote serial protocol of gdb, as far as it takes to stop at addresses, read and write the
general registers of the virtual CPU that stopped, and go on.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["Cpu", "GdbStub", "StubError"]

_LEGACY = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp")
_REGISTERS = (*_LEGACY, *(f"r{number}" for number in range(8, 16)))
_RIP = len(_REGISTERS)
_WIDTH = 16  # hexadecimal digits of a register


class StubError(Exception):
    """The stub answered something else than the protocol says."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """A virtual CPU that stopped at an instruction.

    Attributes:
        thread: Its name in the protocol.
        rip: Where it stopped.
        registers: Its general registers by name.
    """

    thread: str
    rip: int
    registers: dict[str, int]


class GdbStub:
    """A connection; the machine stands still from connecting to `run`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""
        self._ask("?")
        # QEMU lets nobody set registers who has not asked what registers there are.
        self._ask("qXfer:features:read:target.xml:0,ffb")

    def break_at(self, addresses: Iterable[int]) -> None:
        """Stop before the instructions at these virtual addresses."""
        for address in addresses:
            if self._ask(f"Z0,{address:x},1") != "OK":
                raise StubError(f"no breakpoint at {address:#x}")

    def clear(self, addresses: Iterable[int]) -> None:
        """Do not stop at these addresses any more."""
        for address in addresses:
            self._ask(f"z0,{address:x},1")

    def memory(self, address: int, size: int) -> bytes:
        """What the CPU that stopped has there; b"" if nothing."""
        text = self._ask(f"m{address:x},{size:x}")
        return b"" if text.startswith("E") else bytes.fromhex(text)

    def run(self, answer: Callable[[Cpu], dict[str, int] | None]) -> None:
        """Let the machine run until it ends.

        Args:
            answer: Called for each stop: registers to set, ``rip`` among them if the instruction
                is answered, or None to let QEMU execute it.
        """
        stop = self._ask("vCont;c")
        while stop.startswith("T"):
            cpu = self._cpu(stop)
            registers = answer(cpu)
            if registers is None:
                # Stepping passes over the breakpoint that the CPU stands at.
                stop = self._ask(f"vCont;s:{cpu.thread}")
                if not stop.startswith("T"):
                    return
            else:
                self._set(registers)
            stop = self._ask("vCont;c")

    def _cpu(self, stop: str) -> Cpu:
        fields = dict(item.split(":", 1) for item in stop[3:].split(";") if ":" in item)
        thread = fields["thread"]
        self._ask(f"Hg{thread}")
        text = self._ask("g")
        values = [
            int.from_bytes(bytes.fromhex(text[at : at + _WIDTH]), "little")
            for at in range(0, _WIDTH * (_RIP + 1), _WIDTH)
        ]
        return Cpu(thread, values[_RIP], dict(zip(_REGISTERS, values, strict=False)))

    def _set(self, registers: dict[str, int]) -> None:
        for name, value in registers.items():
            number = _RIP if name == "rip" else _REGISTERS.index(name)
            if self._ask(f"P{number:x}={value.to_bytes(8, 'little').hex()}") != "OK":
                raise StubError(f"{name} cannot be set")

    def _ask(self, text: str) -> str:
        """Send a packet and return the answer; "" if the machine has gone."""
        try:
            checksum = sum(text.encode()) % 256
            self._connection.sendall(f"${text}#{checksum:02x}".encode())
            return self._packet()
        except OSError:
            return ""

    def _packet(self) -> str:
        while True:
            start = self._received.find(b"$")
            end = self._received.find(b"#", start)
            if start >= 0 and 0 <= end <= len(self._received) - 3:
                packet = self._received[start + 1 : end]
                self._received = self._received[end + 3 :]
                self._connection.sendall(b"+")
                return packet.decode("ascii", "replace")
            more = self._connection.recv(4096)
            if not more:
                return ""
            self._received += more
