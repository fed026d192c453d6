# SPDX-License-Identifier: GPL-2.0-or-later
"""What is judged: a machine, the kernel on it, and how the two belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from staleline.evidence.given import Given
from staleline.evidence.snapshot import Snapshot, given_by_user
from staleline.facts import MachineFacts
from staleline.verdict.audit.identity import Identity, facts_of, identity_of, with_given_for
from staleline.verdict.audit.old_kernel import choose_kernels
from staleline.verdict.handover.kernels import Image, ImageKernel, Kernel, PolicyKernel
from staleline.verdict.handover.release import judged_release

__all__ = ["Subject", "subject_of", "subject_with"]


@dataclass(frozen=True, slots=True)
class Subject:
    """One machine with one kernel.

    Attributes:
        snapshot: The evidence that holds for this kernel, with what the user gave.
        facts: What it tells.
        kernels: The kernel; several where only its release is known.
        identity: Whether it is the kernel that runs there.
    """

    snapshot: Snapshot
    facts: MachineFacts
    kernels: Sequence[Kernel]
    identity: Identity

    @property
    def given(self) -> tuple[str, ...]:
        """What of the evidence the user gave."""
        return given_by_user(self.snapshot)

    @property
    def guessed(self) -> bool:
        """Is the kernel's rule guessed from its release?"""
        return any(isinstance(kernel, PolicyKernel) and kernel.guessed for kernel in self.kernels)


def subject_of(
    observed: Snapshot,
    wanted: str | None,
    given: Given | None = None,
    *,
    open_image: Callable[[str], Image],
) -> Subject:
    """Choose the kernel, and keep of the evidence what holds for it.

    Args:
        observed: The machine.
        wanted: As of `choose_kernels`.
        given: What the user says instead of observing it.
        open_image: As of `choose_kernels`.

    Raises:
        UsageError, KernelImageError, PolicyError: As `choose_kernels` and `with_given`.
        ContradictionError: What was given cannot be true of what was observed.
    """
    return subject_with(observed, choose_kernels(observed, wanted, open_image), wanted, given)


def subject_with(
    observed: Snapshot, kernels: Sequence[Kernel], wanted: str | None, given: Given | None = None
) -> Subject:
    """As `subject_of`, with kernels that were chosen before.

    Raises:
        UsageError: As `with_given`.
        ContradictionError: What was given cannot be true of what was observed.
    """
    added = given or Given()
    identity = identity_of(observed.kernel, kernels, wanted)
    snapshot = with_given_for(observed, identity, added)
    return Subject(
        snapshot=snapshot,
        facts=facts_of(observed, identity, added, judged_release(kernels, wanted)),
        kernels=tuple(
            replace(kernel, snapshot=snapshot) if isinstance(kernel, ImageKernel) else kernel
            for kernel in kernels
        ),
        identity=identity,
    )
