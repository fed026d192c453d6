# SPDX-License-Identifier: GPL-2.0-or-later
"""What flows into the conditions on which a site turns, so far as no listed fact sets it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from staleline.kernel.influence.inflow import WHERE_IT_LIES, FollowedFlow, Loaded
from staleline.kernel.rerun.inputs import Register, listed_mask

if TYPE_CHECKING:
    from staleline.kernel.influence.inflow import Flow, Origin
    from staleline.kernel.rerun.trace import ExecutedInstruction

__all__ = ["FollowedTraces", "inputs_of", "name_of", "unlisted_bits"]

#: Steps that are kept at once: traces of one site part where a jump is turned.
_PIECE: Final = 32
#: Bits of an address that KASLR changes: it moves the kernel by multiples of 2 MiB within 1 GiB
#: (arch/x86/Kconfig PHYSICAL_ALIGN, RANDOMIZE_BASE, 5.10 to 7.3).
_MOVED: Final = (1 << 30) - (1 << 21)
_WHOLE: Final = ((1 << 32) - 1, (1 << 64) - 1)
#: As many bits are told one by one.
_TOLD_BITS: Final = 4


@dataclass(slots=True)
class _Piece:
    """Some steps of a trace behind others.

    Attributes:
        followed: What is where behind them.
        flows: Per step, what decides what it does.
        next: The pieces that came behind it, by all that they go by.
    """

    followed: FollowedFlow
    flows: Sequence[Flow] = ()
    next: dict[Hashable, _Piece] = field(default_factory=dict)


class FollowedTraces:
    """What flows through traces; what two execute and ask for alike from the start is one.

    Args:
        is_constant: Nothing ever changes what is at an address.
        text: Addresses of the kernel's code.
    """

    def __init__(self, is_constant: Callable[[int], bool], text: range = range(0)) -> None:
        self._root = _Piece(FollowedFlow(is_constant, text))

    def flows(self, steps: Sequence[ExecutedInstruction]) -> Sequence[Flow]:
        """Per step, what decides what it does."""
        piece = self._root
        flows: list[Flow] = []
        for start in range(0, len(steps), _PIECE):
            piece = _behind(piece, steps[start : start + _PIECE])
            flows += piece.flows
        return flows


def _behind(piece: _Piece, steps: Sequence[ExecutedInstruction]) -> _Piece:
    # The same places alone do not make the same trace: code is patched between two, pointers lead
    # elsewhere, and what is loaded says whether it is a pointer.
    path = tuple(map(_what_it_takes, steps))
    if path not in piece.next:
        followed = piece.followed.copy()
        piece.next[path] = _Piece(followed, [followed.take(step) for step in steps])
    return piece.next[path]


def _what_it_takes(step: ExecutedInstruction) -> Hashable:
    """All that `FollowedFlow` goes by."""
    return step.address, step.code, step.begins, step.asked, tuple(step.accesses)


def inputs_of(flows: Iterable[Flow]) -> Iterator[tuple[Origin, int]]:
    """Each input with all its bits that flow."""
    masks: dict[Origin, int] = {}
    for flow in flows:
        for inflow in flow:
            masks[inflow.origin] = masks.get(inflow.origin, 0) | inflow.mask
    yield from masks.items()


def unlisted_bits(origin: Origin, mask: int, *, varied: int, fixed: int) -> int:
    """Those of the bits that the listed facts do not set.

    Args:
        origin: An input.
        mask: Which bits flow.
        varied: Of a variable, the bits that the facts set.
        fixed: Of a variable, bits that are taken as they are.
    """
    if isinstance(origin, Register):
        return mask & ~listed_mask(origin)
    if isinstance(origin, Loaded):
        # As a whole it is a number that the facts set; whether its other bits matter by
        # themselves was tried.
        is_whole = mask == (1 << 8 * len(origin.content)) - 1
        return 0 if is_whole and varied else mask & ~(varied | fixed)
    if origin == WHERE_IT_LIES:
        # As a whole it is compared with another address, which is moved as far.
        return 0 if mask in _WHOLE else mask & _MOVED
    return mask


def name_of(origin: Origin, bits: int, line: Callable[[int], str]) -> str:
    """What to call an input in reports; `line` names what is at an address."""
    if isinstance(origin, Register) and bits.bit_count() <= _TOLD_BITS:
        numbers = (bit for bit in range(bits.bit_length()) if bits >> bit & 1)
        return f"{origin}[{', '.join(map(str, numbers))}]"
    return line(origin.address) if isinstance(origin, Loaded) else str(origin)
