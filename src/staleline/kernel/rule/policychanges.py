# SPDX-License-Identifier: GPL-2.0-or-later
"""What changed from one image's rule to another's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from staleline.kernel.rule.condition import SiteRule
from staleline.kernel.rule.imagepolicy import ImagePolicy
from staleline.policy.expression import Expression
from staleline.policy.smt import condition_where
from staleline.vocabulary import ReportOrder, Site

__all__ = ["PolicyChanges", "RuleChange", "SetChange", "policy_changes", "set_change"]

_NOT_READ = SiteRule(None, (), ("not read",))


@dataclass(frozen=True, slots=True)
class RuleChange:
    """Where one rule holds and the other does not.

    Attributes:
        added: Where it holds now and did not before; None if nowhere, or unknown.
        dropped: Where it held before and does not now; likewise.
        unknown: Why the two could not be compared; empty if they were.
    """

    added: Expression | None
    dropped: Expression | None
    unknown: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Is there anything to say?"""
        return bool(self.unknown) or self.added is not None or self.dropped is not None


@dataclass(frozen=True, slots=True)
class SetChange:
    """Names that came and went: functions that execute WBINVD, their callers, and the like.

    Attributes:
        of: What the names are, e.g. ``functions with WBINVD``.
        added: In the new image only, sorted.
        removed: In the old image only, sorted.
    """

    of: str
    added: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        """Is there anything to say?"""
        return bool(self.added or self.removed)


@dataclass(frozen=True, slots=True)
class PolicyChanges:
    """Everything that changed between two images' rules.

    Attributes:
        sites: Per site, where a WBINVD came or went.
        encrypts: Where the kernel began or ceased to encrypt its own memory.
        reported: Order of the stop protocol, before and now; None where unknown or moot.
        equals: The catalogue policies that each equals, before and now.
        sets: Other differences, as they were given.
    """

    sites: Mapping[Site, RuleChange]
    encrypts: RuleChange
    reported: tuple[ReportOrder | None, ReportOrder | None]
    equals: tuple[tuple[str, ...], tuple[str, ...]]
    sets: tuple[SetChange, ...]

    def __bool__(self) -> bool:
        """Did anything change, or may it have?"""
        before, now = self.reported
        changes = (*self.sites.values(), self.encrypts, *self.sets)
        return any(changes) or before is not now


def policy_changes(
    old: ImagePolicy, new: ImagePolicy, sets: Iterable[SetChange] = ()
) -> PolicyChanges:
    """Compare two images on every machine that can exist.

    Args:
        old: The rule of the earlier image.
        new: The rule of the later one.
        sets: Other differences between the images; see `set_change`.
    """
    return PolicyChanges(
        sites={
            site: _change(old.rules.get(site, _NOT_READ), new.rules.get(site, _NOT_READ))
            for site in Site
        },
        encrypts=_change(old.encrypts, new.encrypts),
        reported=(old.reported, new.reported),
        equals=(old.equals, new.equals),
        sets=tuple(sets),
    )


def set_change(of: str, old: Iterable[str], new: Iterable[str]) -> SetChange:
    """Compare what two images have of something, by name."""
    before, now = set(old), set(new)
    return SetChange(of, tuple(sorted(now - before)), tuple(sorted(before - now)))


def _change(old: SiteRule, new: SiteRule) -> RuleChange:
    if old.condition is None or new.condition is None:
        sides = (("before", old), ("now", new))
        reasons = (f"{when}: {why}" for when, rule in sides for why in _open(rule))
        return RuleChange(None, None, tuple(reasons))
    return RuleChange(
        added=condition_where(new.condition, old.condition),
        dropped=condition_where(old.condition, new.condition),
    )


def _open(rule: SiteRule) -> tuple[str, ...]:
    return rule.unknown if rule.condition is None else ()
