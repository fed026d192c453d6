# SPDX-License-Identifier: GPL-2.0-or-later
"""The rule an image carries: what `staleline.kernel` finds out about it, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from staleline.kernel.truthtable import TruthTable
from staleline.policy.expression import Expression
from staleline.vocabulary import ReportOrder, Site

__all__ = ["ImagePolicy", "SiteRule"]


@dataclass(frozen=True, slots=True)
class SiteRule:
    """One site of an image.

    Attributes:
        condition: When it executes WBINVD, minimised over the policies' atoms; None if any
            combination of facts that a machine can have is unknown.
        reads: Names of the atoms that the condition depends on.
        unknown: One sentence per thing that could not be established.
    """

    condition: Expression | None
    reads: tuple[str, ...]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """The whole rule of an image.

    Attributes:
        rules: Per site.
        encrypts: When the kernel encrypts its own memory as a host.
        reported: Order of the stop protocol; None if it never flushes or is unknown.
        equals: Catalogue policies that decide alike on every machine that can exist, most
            fitting first; empty if there is none.
        table: The evidence.
    """

    rules: Mapping[Site, SiteRule]
    encrypts: SiteRule
    reported: ReportOrder | None
    equals: tuple[str, ...]
    table: TruthTable

    @property
    def unknown(self) -> tuple[str, ...]:
        """All reasons, each once."""
        rules = (*self.rules.values(), self.encrypts)
        return tuple(dict.fromkeys(reason for rule in rules for reason in rule.unknown))
