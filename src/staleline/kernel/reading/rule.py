# SPDX-License-Identifier: GPL-2.0-or-later
"""Read everything of one image that no machine is needed for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

from staleline.kernel.boot.decision import SiteDecision
from staleline.kernel.image.image import KernelImage
from staleline.kernel.reading.document import (
    ImageRuleDocument,
    NearestDocument,
    RuleDocument,
)
from staleline.kernel.reading.rule_json import rule_document, to_document
from staleline.kernel.rule.condition import site_rule
from staleline.kernel.rule.enumeration import lacking
from staleline.kernel.rule.grid import grid_of
from staleline.kernel.rule.imagepolicy import ImagePolicy, image_policy
from staleline.kernel.rule.truthtable import truth_table
from staleline.policy.catalogue import catalogue
from staleline.printable import printable, printable_values
from staleline.vocabulary import Site

__all__ = ["read_rule"]

_ORDER = "reported_stopped"
#: For instance #1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2026-11-12), 5.10 to 7.3.
_IN_BANNER = re.compile(r" Debian (\d\S*) \(\d{4}-")
#: Sites at which eras differ.
_TELLING = (Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL)


def read_rule(image: KernelImage, digest: str) -> ImageRuleDocument:
    """Run an image for every combination of facts, and find the rule it carries."""
    policy = image_policy(truth_table(image), lacks=lacking(image), release=image.release)
    return image_document(image, policy, digest)


def image_document(image: KernelImage, policy: ImagePolicy, digest: str) -> ImageRuleDocument:
    """What was found out of the rule, as plain values."""
    known = None if not policy.equals else catalogue()[policy.equals[0]]
    document: ImageRuleDocument = {
        "sha256": digest,
        "member": image.member,
        "package": image.package,
        "version": image.version or _version(image.banner),
        "release": image.release,
        "banner": None if image.banner is None else printable(image.banner),
        "build_id": image.build_id,
        "title": None if known is None else known.title,
        "bugs": [] if known is None else list(known.bugs),
        "nearest": None if known is not None else _nearest(policy),
        "crash_relocate_kernel": _in_a_crash(policy),
        **to_document(policy),  # type: ignore[typeddict-item]
    }
    return cast("ImageRuleDocument", printable_values(document))


def _version(banner: str | None) -> str | None:
    """Of the package that an image is from, as Debian's kernels have it in their banner."""
    version = None if banner is None else _IN_BANNER.search(banner)
    return None if version is None else version[1]


def _in_a_crash(policy: ImagePolicy) -> RuleDocument | None:
    """When the jumping CPU flushes in a crash, if that is not as on a kexec."""
    rows = policy.table.rows
    # Since 7.2 shutting TDX down makes SEAMCALLs on the way (linux 7.3.4 arch/x86/kernel/crash.c
    # native_machine_crash_shutdown()).
    kexec = [row.sites.get(Site.RELOCATE_KERNEL) for row in rows]
    crash = [row.crash_relocate_kernel or SiteDecision(None, "not run") for row in rows]
    # What it stores to after its flush is not the same, and lies elsewhere.
    if _answers(crash) == _answers(kexec):
        return None
    facts = [row.facts for row in rows]
    return rule_document(site_rule(grid_of(facts, policy.lacks), facts, crash, sme_active=False))


def _answers(decisions: Sequence[SiteDecision | None]) -> list[tuple[bool | None, str | None]]:
    return [(None, None) if one is None else (one.flushes, one.unknown) for one in decisions]


def _nearest(policy: ImagePolicy) -> NearestDocument | None:
    """Of the policies alike at a site of the kexec path, the one alike at most."""
    rules = [policy.rules[site] for site in _TELLING if site in policy.rules]
    alike = {name for rule in rules for name in rule.equals}
    if not alike:
        return None
    # In the order of the catalogue, so that of equals the oldest is named.
    parts = {name: _same_parts(policy, name) for name in catalogue() if name in alike}
    best = max(parts, key=lambda name: len(parts[name]))
    other = [part for part in (*Site, _ORDER) if part not in parts[best]]
    return {"policy": best, "same": list(parts[best]), "other": other}


def _same_parts(policy: ImagePolicy, name: str) -> Sequence[str]:
    sites = [site for site, rule in policy.rules.items() if name in rule.equals]
    same_order = policy.reported is catalogue()[name].reported
    return [*sites, _ORDER] if same_order else sites
