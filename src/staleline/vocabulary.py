# SPDX-License-Identifier: GPL-2.0-or-later
"""Words that several layers share, so that each is defined once."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

__all__ = [
    "WORST_FIRST",
    "Path",
    "ReportOrder",
    "Site",
    "Through",
    "Verdict",
    "state_word",
    "worst",
]


class Site(StrEnum):
    """A place in the kernel that may execute WBINVD on the way to the next kernel.

    Named after the kernel function: the secondaries' site on a kexec, the jumping CPU's
    site, and the secondaries' site in a crash.
    """

    STOP_THIS_CPU = "stop_this_cpu"
    RELOCATE_KERNEL = "relocate_kernel"
    CRASH_NMI_CALLBACK = "crash_nmi_callback"


class Path(StrEnum):
    """How the old kernel hands over."""

    KEXEC = "kexec"
    CRASH = "crash"

    @property
    def secondaries_site(self) -> Site:
        """Where secondaries may flush on this path."""
        return Site.STOP_THIS_CPU if self is Path.KEXEC else Site.CRASH_NMI_CALLBACK


class ReportOrder(StrEnum):
    """Is a secondary reported stopped before or after its flush (Linux commit 1f5e7eb7868e)?"""

    BEFORE_FLUSH = "before-flush"
    AFTER_FLUSH = "after-flush"


class Through(StrEnum):
    """The alias of a line that a store of the old kernel goes through."""

    # That of the old kernel's mapping, with the C-bit where it encrypts its memory.
    OWN = "own"
    # Without the C-bit in any case, as relocate_kernel maps memory and as decrypted pages are
    # mapped.
    PLAIN = "plain"


class Verdict(StrEnum):
    """The answer for a handover; faults and unneeded flushes stand beside it."""

    SAFE = "safe"
    AT_RISK = "at-risk"
    UNKNOWN = "unknown"

    @property
    def words(self) -> str:
        """As sentences and headings have it: ``at risk``."""
        return self.value.replace("-", " ")

    @property
    def status(self) -> int:
        """What a command ends with whose answer it is; 1 is an error's."""
        return {Verdict.SAFE: 0, Verdict.AT_RISK: 2, Verdict.UNKNOWN: 3}[self]


#: The order in which verdicts outweigh each other.
WORST_FIRST = (Verdict.AT_RISK, Verdict.UNKNOWN, Verdict.SAFE)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The one that outweighs the others; of nothing nothing is known."""
    given = frozenset(verdicts)
    return next((verdict for verdict in WORST_FIRST if verdict in given), Verdict.UNKNOWN)


def state_word(encrypts: bool) -> str:
    """``on`` or ``off``: does a kernel encrypt its memory?"""
    return "on" if encrypts else "off"
