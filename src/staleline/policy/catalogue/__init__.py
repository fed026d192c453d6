# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue: every rule that a kernel era carried or that was proposed, one file each."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from staleline.errors import PolicyError
from staleline.policy.policy import Policy, load_policy, parse_policy

__all__ = ["candidates", "catalogue", "find", "series_of"]


@cache
def catalogue() -> Mapping[str, Policy]:
    """All policies by name, oldest era first, proposals last."""
    texts = {
        entry.name: entry.read_text("utf-8")
        for entry in files(__package__).iterdir()
        if entry.name.endswith(".toml")
    }
    policies = [parse_policy(text, where=name) for name, text in texts.items()]
    policies.sort(key=_in_time)
    return MappingProxyType({policy.name: policy for policy in policies})


def _in_time(policy: Policy) -> tuple[bool, tuple[int, int], str]:
    upstream = [releases.first for releases in policy.releases if not releases.backported]
    # Proposals have no series, and go by the day of their mail.
    return (not upstream, min(upstream, default=(0, 0)), f"{policy.proposed} {policy.name}")


def find(name: str) -> Policy:
    """A policy by catalogue name, or from a ``.toml`` file.

    Raises:
        PolicyError: Neither; the message names the nearest catalogue entry.
    """
    if name.endswith(".toml"):
        return load_policy(Path(name))
    policy = catalogue().get(name)
    if policy is None:
        near = difflib.get_close_matches(name, catalogue(), n=1)
        hint = f"did you mean {near[0]}?" if near else "see `staleline policies`"
        raise PolicyError(f"no policy named {name!r}", do=hint)
    return policy


def series_of(release: str) -> tuple[int, int] | None:
    """(major, minor) of a kernel release string, or None.

    >>> series_of("6.12.107+deb13-amd64")
    (6, 12)
    """
    # No digit may follow: of "6.123" there is no 6.12.
    match = re.match(r"(\d{1,3})\.(\d{1,3})(?!\d)", release)
    return None if match is None else (int(match[1]), int(match[2]))


def candidates(release: str) -> tuple[Policy, ...]:
    """The policies that a kernel of this release may carry, by its number alone."""
    series = series_of(release)
    if series is None:
        return ()
    # More than one where stable trees took a backport; and a distribution may have moved a rule
    # either way, so this is weaker evidence than reading the image.
    return tuple(policy for policy in catalogue().values() if policy.carried_by(series))
