# SPDX-License-Identifier: GPL-2.0-or-later
"""What is put in place of what a machine or an image has when it is run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from staleline.kernel.rerun.inputs import Flips, nothing

__all__ = [
    "AS_GIVEN",
    "Cell",
    "Variation",
]


#: Address and size in bytes of something that was read at once.
Cell = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Variation:
    """What differs from the machine and the image as given.

    Attributes:
        flips: Bits of CPUID and MSRs turned over.
        memory: Address -> bytes that are there before anything runs.
    """

    flips: Flips = nothing
    memory: Mapping[int, bytes] = field(default_factory=dict)


#: No change at all.
AS_GIVEN: Final = Variation()
