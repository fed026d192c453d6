# SPDX-License-Identifier: GPL-2.0-or-later
"""The two ways behind a condition, up to where they meet again, and what they leave otherwise.

``if (a) n++; if (b) n++; if (n == 2)``: no input flows into the last condition, and neither of the
first two changes anything by itself. What the condition is decided by is which way was gone before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from staleline.hardware import GENERAL_REGISTERS, RSP
from staleline.kernel.influence.inflow import Arms
from staleline.kernel.rerun.instructionform import decoded, form_of
from staleline.kernel.rerun.registerparts import CARRY, FLAGS, parts_of

if TYPE_CHECKING:
    from staleline.kernel.rerun.registerparts import Part
    from staleline.kernel.rerun.trace import ExecutedInstruction

__all__ = ["arms_of"]

#: Bytes below the stack pointer in which what a function left there is lost.
_STACK: Final = 0x4000
#: Behind RIP, which is behind the general registers.
_FLAGS: Final = len(GENERAL_REGISTERS) + 1
_CONDITIONS: Final = frozenset((FLAGS, CARRY))

_Place = tuple[int, int, tuple[int, ...]]


def arms_of(
    steps: Sequence[ExecutedInstruction], index: int, others: Sequence[ExecutedInstruction]
) -> Arms | None:
    """What a way and the other one leave otherwise; None where they do not meet again.

    Args:
        steps: A trace.
        index: A step of it at which there are two ways.
        others: The trace of a run that goes the other one there, and the same up to there.
    """
    if index >= len(others) or others[index].address != steps[index].address:
        return None
    begin = steps[index]
    # A way may come back to where it began: then it was one more round of a loop.
    first: dict[_Place, int] = {(begin.address, begin.registers[RSP], ()): index}
    for at, place in _places(steps, index):
        first.setdefault(place, at)
    meets = next(
        ((first[place], at) for at, place in _places(others, index) if place in first), None
    )
    if meets is None:
        return None
    way, other = steps[index + 1 : meets[0]], others[index + 1 : meets[1]]
    here, there = steps[meets[0]], others[meets[1]]
    both = (*way, *other)
    dead = range(here.registers[RSP] - _STACK, here.registers[RSP])
    stored = (at for one in both for at in _stores(one) if at not in dead)
    return Arms(
        max(meets[0], index + 1),
        frozenset((*_different(here, there), *_written(both))),
        frozenset(stored),
        frozenset(number for one in both for number in _msrs(one)),
    )


def _places(steps: Sequence[ExecutedInstruction], index: int) -> Iterator[tuple[int, _Place]]:
    """Each step behind one, and where it is: also by whom that was called since.

    Functions are called from anywhere, so that two ways come by the same one is no end of either.
    """
    calls: tuple[int, ...] = ()
    for at, step in enumerate(islice(steps, index + 1, None), index + 1):
        if step.begins:
            return  # what another CPU does, or this one later, is no part of it
        yield at, (step.address, step.registers[RSP], calls)
        name, _ = decoded(step.code)
        if name == "call":
            calls = (*calls, step.address)
        elif name.startswith("ret"):
            # What returns further than it began is told from others by the stack pointer.
            calls = calls[:-1]


def _different(here: ExecutedInstruction, there: ExecutedInstruction) -> Iterator[Part]:
    """The registers that do not hold the same."""
    for name, held, other in zip(GENERAL_REGISTERS, here.registers, there.registers, strict=False):
        if held != other:
            yield from parts_of(name)
    if here.registers[_FLAGS] != there.registers[_FLAGS]:
        yield from _CONDITIONS


def _written(steps: Sequence[ExecutedInstruction]) -> Iterator[Part]:
    """Those of other registers that are written, whatever they hold then."""
    for step in steps:
        form = form_of(step.code)
        for part in () if form is None else form.writes:
            if part.register not in GENERAL_REGISTERS and part not in _CONDITIONS:
                yield part


def _stores(step: ExecutedInstruction) -> Iterator[int]:
    for access in step.accesses:
        if access.value is None:
            yield from range(access.address, access.address + access.size)


def _msrs(step: ExecutedInstruction) -> Iterator[int]:
    form = form_of(step.code)
    if form is not None and form.asks == "WRMSR":
        yield step.asked[1]
