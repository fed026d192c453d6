# SPDX-License-Identifier: GPL-2.0-or-later
"""What is told of why a site executes WBINVD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from staleline.kernel.boot.decision import Store
    from staleline.kernel.boot.rawfacts import RawFacts
    from staleline.vocabulary import Site

__all__ = ["Guard", "GuardLine", "Input"]


@dataclass(frozen=True, slots=True)
class Input:
    """Something an instruction read that was there before the site began.

    Attributes:
        what: A variable, or a register of CPUID's answer or an MSR.
        value: On the machine that flushes.
        others: Fact -> the value on the machine that differs in it, where it is another.
    """

    what: str
    value: int
    others: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class GuardLine:
    """One executed instruction that has a part in the decision.

    Attributes:
        place: Function and offset.
        text: Disassembly.
        inputs: What it read.
        decides: Facts; on a machine that differs in one of them this jump went another way.
        skipped: Instructions executed since the line before.
    """

    place: str
    text: str
    inputs: tuple[Input, ...]
    decides: tuple[str, ...]
    skipped: int


@dataclass(frozen=True, slots=True)
class Guard:
    """One way in which a site comes to execute WBINVD.

    Attributes:
        site: The site.
        facts: The machine.
        lines: In the order of execution; the last is the WBINVD.
        left_behind: What it stores behind that and leaves dirty, in the order of addresses.
    """

    site: Site
    facts: RawFacts
    lines: tuple[GuardLine, ...]
    left_behind: tuple[Store, ...] = ()
