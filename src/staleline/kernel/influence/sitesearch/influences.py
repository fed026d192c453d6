# SPDX-License-Identifier: GPL-2.0-or-later
"""What a site's decision was found to depend on."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

__all__ = ["Influence", "SiteSearch"]


@dataclass(frozen=True, slots=True)
class Influence:
    """Something that a site's decision depends on.

    Attributes:
        name: A variable, a bit of CPUID or an MSR, or a static key.
        explained: The listed facts set it, or it is one of them.
        initial: Content of a variable where it was found to matter, little-endian.
        bits: Those that matter by themselves, of a variable whose other bits the facts set.
    """

    name: str
    explained: bool
    initial: bytes | None = None
    bits: tuple[int, ...] = ()

    def __str__(self) -> str:
        """As sentences call it."""
        if self.bits:
            return f"{self.name}[{', '.join(map(str, self.bits))}]"
        if self.initial is None:
            return self.name
        value = int.from_bytes(self.initial, "little")
        return f"{self.name} ({len(self.initial)} bytes, {value:#x} in the image)"


@dataclass(slots=True)
class SiteSearch:
    """What was found of one site, on all rows.

    Attributes:
        influences: By name.
        lost: What made the site fail, and how.
        exhausted: There is more than can be told apart.
        met: What the site read and was answered, on rows that were looked at.
        endless: Turns that lead nowhere when they are taken the other way.
    """

    influences: dict[str, Influence] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    exhausted: bool = False
    met: set[Hashable] = field(default_factory=set)
    endless: set[Hashable] = field(default_factory=set)
