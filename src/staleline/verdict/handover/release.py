# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels of which only the release is known, and the release that a kernel has."""

from __future__ import annotations

from collections.abc import Sequence

from staleline.errors import UsageError
from staleline.policy.catalogue import candidates, catalogue, series_of
from staleline.verdict.handover.kernels import ImageKernel, Kernel, PolicyKernel

__all__ = ["judged_release", "kernels_of_release"]


def judged_release(kernels: Sequence[Kernel], wanted: str | None) -> str | None:
    """The release whose code reads the command line, as far as it was named.

    Args:
        kernels: What `choose_kernels` made of it.
        wanted: What the user named. Of a policy the earliest series that carries it counts,
            because in later ones no more is left open.
    """
    if wanted is not None and wanted not in catalogue() and series_of(wanted) is not None:
        return wanted
    releases = {_release(kernel) for kernel in kernels}
    return releases.pop() if len(releases) == 1 else None


def _release(kernel: Kernel) -> str | None:
    if isinstance(kernel, ImageKernel):
        return kernel.image.release
    if isinstance(kernel, PolicyKernel) and kernel.policy.releases:
        major, minor = min(releases.first for releases in kernel.policy.releases)
        return f"{major}.{minor}"
    return None


def kernels_of_release(release: str) -> Sequence[Kernel]:
    """A kernel for each rule that a release of this number may carry.

    Raises:
        UsageError: None is known.
    """
    policies = candidates(release)
    if not policies:
        raise UsageError(
            f"no rule is known for kernel release {release!r}",
            do="give the image to --kernel, or a policy of `staleline policies`",
        )
    evidence = (
        f"guessed from the release number {release}: weaker evidence, "
        "because distributions backport; give the image to --kernel"
    )
    series = series_of(release)
    return tuple(PolicyKernel(policy, evidence, series, guessed=True) for policy in policies)
