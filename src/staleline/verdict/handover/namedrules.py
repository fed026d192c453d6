# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules as a user names them where one is asked for: a policy, a policy file, or an image."""

from __future__ import annotations

import os
from collections.abc import Sequence

from staleline.errors import PolicyError
from staleline.kernel.reading.imagereport import ReadingOptions
from staleline.kernel.reading.many import read_images
from staleline.policy.catalogue import catalogue, find
from staleline.policy.policy import Policy
from staleline.verdict.handover.kernels import PolicyKernel
from staleline.verdict.handover.readkernel import NamedRule, ReadKernel, image_rule_of

__all__ = ["named_rules", "ruled_kernels"]


def named_rules(names: Sequence[str], options: ReadingOptions) -> list[NamedRule]:
    """Rules by policy name, policy file or image; of images also those that are partly unknown.

    Raises:
        PolicyError: No policy and no file has this name, or the policy is not well formed.
        KernelImageError: An image cannot be read.
    """
    images = [name for name in names if _is_image(name)]
    read = {report.image: report for report in read_images(images, options)}
    return [
        image_rule_of(read[name].required(), name)
        if name in read
        else NamedRule(name, PolicyKernel(_find(name), "the policy itself"))
        for name in names
    ]


def ruled_kernels(names: Sequence[str], options: ReadingOptions) -> list[ReadKernel | PolicyKernel]:
    """The same, of rules that are known as a whole.

    Raises:
        PolicyError: As by `named_rules`.
        KernelImageError: An image cannot be read, or a part of its rule is unknown.
    """
    return [rule.required() for rule in named_rules(names, options)]


def _find(name: str) -> Policy:
    try:
        return find(name)
    except PolicyError:
        # What looks like a path is a file that is not there, and no policy with a slip in its name.
        if name.endswith(".toml") or ("/" not in name and not name.startswith("vmlinu")):
            raise
        do = "give an image, a policy file or a name of `staleline policies`"
        raise PolicyError("no such file", where=name, do=do) from None


def _is_image(name: str) -> bool:
    return name not in catalogue() and not name.endswith(".toml") and os.path.exists(name)
