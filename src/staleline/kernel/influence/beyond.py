# SPDX-License-Identifier: GPL-2.0-or-later
"""What a conditional jump leads to when it is turned: more conditions, which no run came to.

``a && b`` is two jumps, and where ``a`` is false the second is not executed: turning the first one
alone leads to where ``b`` is false as well. So the jumps in the code there are turned with it, each
by itself, and as many as there are are not taken, up to where the code comes back to what was
executed anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from itertools import islice
from typing import Final

from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.refused import LONGEST_INSTRUCTION
from staleline.kernel.opcodes import NOP
from staleline.kernel.rerun.changes import Memory
from staleline.kernel.rerun.conditions import JUMPS_NEAR, JUMPS_SHORT, inverted
from staleline.kernel.rerun.instructionform import decoded

__all__ = ["turned_beyond"]

_TWO_BYTES: Final = 0x0F
#: Conditions in one statement, and instructions in which they are.
_MOST_JUMPS: Final = 8
_MOST_INSTRUCTIONS: Final = 32
_ENDS: Final = frozenset(("jmp", "ret", "hlt", "ud2", "int3", "iretq"))


def turned_beyond(
    read: Callable[[int, int], bytes], turned: Memory, other_way: int, executed: Container[int]
) -> Iterator[tuple[Memory, ...]]:
    """The turned jump with others behind it.

    Args:
        read: What is in memory.
        turned: A conditional jump the other way round.
        other_way: Where that leads when it is turned.
        executed: Addresses that a run came to.
    """
    untaken: tuple[Memory, ...] = (turned,)
    # All at once: what is tried in between changes memory.
    jumps = list(islice(_jumps(read, other_way, executed), _MOST_JUMPS))
    for count, (address, code, condition) in enumerate(jumps):
        yield turned, _code(address, inverted(code, condition))
        untaken = (*untaken, _code(address, NOP * len(code)))
        # Of a single jump, not to be taken is what it does already or what turning it does.
        if count:
            yield untaken


def _jumps(
    read: Callable[[int, int], bytes], address: int, executed: Container[int]
) -> Iterator[tuple[int, bytes, int]]:
    """Conditional jumps in what lies at an address, and is executed if none of them is taken.

    Yields:
        Address, bytes, and which of these has the condition.
    """
    for _ in range(_MOST_INSTRUCTIONS):
        try:
            name, code = decoded(read(address, LONGEST_INSTRUCTION))
        except DerivationError:
            return
        if not code or name in _ENDS or address in executed:
            return
        if (condition := _condition_at(code)) is not None:
            yield address, code, condition
        address += len(code)


def _condition_at(code: bytes) -> int | None:
    """Which byte of a conditional jump is the condition; None if it is none."""
    if code[0] in JUMPS_SHORT:
        return 0
    return 1 if code[0] == _TWO_BYTES and code[1] in JUMPS_NEAR else None


def _code(address: int, code: bytes) -> Memory:
    return Memory((address, len(code)), code, "", is_code=True)
