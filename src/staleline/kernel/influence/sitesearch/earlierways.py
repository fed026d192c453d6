# SPDX-License-Identifier: GPL-2.0-or-later
"""What flows into conditions where the way that was gone before counts as well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from staleline.kernel.influence.inflow import Arms, Flow
    from staleline.kernel.influence.turns import Turn

__all__ = ["with_earlier_ways"]


def with_earlier_ways(
    flows: Sequence[Flow],
    turns: Iterable[Turn],
    is_open: Callable[[Turn, Sequence[Flow]], bool],
    arms_of: Callable[[Sequence[Turn]], Mapping[int, Sequence[Arms]]],
    follow: Callable[[Mapping[int, Sequence[Arms]]], Sequence[Flow]],
) -> Sequence[Flow]:
    """Per step of a trace, what decides what it does.

    Args:
        flows: The same as far as it is computed.
        turns: Conditional jumps, by which nothing was seen to matter.
        is_open: Does anything flow into a place that no listed fact sets?
        arms_of: Step -> what it and the other way leave otherwise.
        follow: What flows where with these.
    """
    earlier = list(turns)
    arms: dict[int, Sequence[Arms]] = {}
    # One way may decide which way is gone next, and that decide.
    while opened := [turn for turn in earlier if is_open(turn, flows)]:
        earlier = [turn for turn in earlier if turn not in opened]
        arms |= arms_of(opened)
        flows = follow(arms)
    return flows
