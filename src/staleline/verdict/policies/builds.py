# SPDX-License-Identifier: GPL-2.0-or-later
"""What changed between two builds of a kernel, by what was read of their images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from staleline.errors import KernelImageError
from staleline.kernel.boot.decision import Fate
from staleline.kernel.reading.document import ImageDocument
from staleline.kernel.reading.rule_json import from_document
from staleline.kernel.rule.policychanges import PolicyChanges, policy_changes, set_change
from staleline.verdict.handover.readkernel import read_kernel
from staleline.verdict.policies.difference import Difference, compare_kernels

__all__ = ["BuildChange", "build_change"]


@dataclass(frozen=True, slots=True)
class BuildChange:
    """From one build to another.

    Attributes:
        names: The releases, or the files where an image names none.
        rules: Rules, order, encryption, known bugs, functions with WBINVD.
        difference: Which handovers change; None if a part of either rule is unknown.
        unknown: Why there is no difference.
    """

    names: tuple[str, str]
    rules: PolicyChanges
    difference: Difference | None
    unknown: str | None


def build_change(
    old: ImageDocument, new: ImageDocument, *, old_image: str, new_image: str
) -> BuildChange:
    """Compare two readings; the images are named in reasons."""
    sets = (
        set_change("known bug", old["bugs"], new["bugs"]),
        set_change("WBINVD in", _functions(old), _functions(new)),
        set_change("left behind dirty", _left_behind(old), _left_behind(new)),
        set_change("in a crash, WBINVD on the jumping CPU", _in_a_crash(old), _in_a_crash(new)),
    )
    difference, unknown = None, None
    # What the images say of themselves is compared all the same where a rule is unknown.
    try:
        kernels = read_kernel(old, old_image), read_kernel(new, new_image)
        difference = compare_kernels(*kernels)
    except KernelImageError as error:
        unknown = str(error)
    return BuildChange(
        names=(old["release"] or old_image, new["release"] or new_image),
        rules=policy_changes(from_document(old), from_document(new), sets),
        difference=difference,
        unknown=unknown,
    )


def _functions(document: ImageDocument) -> Iterable[str]:
    return (place["function"] for place in document["inventory"]["places"])


def _left_behind(document: ImageDocument) -> Iterable[str]:
    """By what, since offsets are another build's."""
    for site, after_flush in document["after_flush"].items():
        for store in after_flush["stores"]:
            if store["fate"] == Fate.LEFT_BEHIND:
                line, code = store["line"].split("+")[0], store["code"].split("+")[0]
                yield f"{line}, by {code} after the WBINVD of {site}"


def _in_a_crash(document: ImageDocument) -> Iterable[str]:
    """The condition, if it is not that of a kexec."""
    rule = document["crash_relocate_kernel"]
    return () if rule is None else (f"if {rule['condition'] or 'unknown'}",)
