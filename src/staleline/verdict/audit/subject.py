# SPDX-License-Identifier: GPL-2.0-or-later
"""What is judged: a machine, the kernel on it, and how the two belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from staleline.evidence.given import Given
from staleline.evidence.snapshot import Snapshot, given_by_user
from staleline.facts import MachineFacts
from staleline.verdict.audit.agreement import audit
from staleline.verdict.audit.audit import Audit
from staleline.verdict.audit.identity import Identity, facts_of, identity_of, with_given_for
from staleline.verdict.audit.next_kernel import Following
from staleline.verdict.audit.old_kernel import choose_kernels, judged_release
from staleline.verdict.handover.kernels import ImageKernel, Kernel, PolicyKernel
from staleline.vocabulary import Path

__all__ = ["Subject", "audit_of", "subject_of", "subject_with"]


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
    observed: Snapshot, wanted: str | None, given: Given | None = None, *, use_cache: bool = True
) -> Subject:
    """Choose the kernel, and keep of the evidence what holds for it.

    Args:
        observed: The machine.
        wanted: As of `choose_kernels`.
        given: What the user says instead of observing it.
        use_cache: As of `choose_kernels`.

    Raises:
        UsageError, KernelImageError, PolicyError: As `choose_kernels` and `with_given`.
        ContradictionError: What was given cannot be true of what was observed.
    """
    return subject_with(
        observed, choose_kernels(observed, wanted, use_cache=use_cache), wanted, given
    )


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


def audit_of(subject: Subject, *, following: Following, paths: Sequence[Path]) -> Audit:
    """As `audit`, of one machine with one kernel.

    Raises:
        ContradictionError: No machine fits the evidence.
    """
    judged = audit(
        subject.facts, subject.kernels, following=following, paths=paths, given=subject.given
    )
    return replace(judged, identity=subject.identity)
