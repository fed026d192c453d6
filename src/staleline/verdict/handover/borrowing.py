# SPDX-License-Identifier: GPL-2.0-or-later
"""A running kernel whose crash kernel uses memory besides its reservation, or may."""

from __future__ import annotations

from dataclasses import dataclass, replace

from staleline.verdict.handover.kernels import AlteredKernel, Behaviour
from staleline.verdict.handover.unknown import Unknown
from staleline.verdict.machines.machine import Machine

__all__ = ["KernelWithBorrowedMemory"]

_BORROWED = Unknown(
    "what the caches hold of the memory of crashkernel=,cma, which processes use until the crash "
    "kernel has it: no CPU that a crash stops writes it back. Boot without ,cma",
    "crash-kernel-borrows",
)


@dataclass(frozen=True, slots=True)
class KernelWithBorrowedMemory(AlteredKernel):
    """A kernel that was booted with ``crashkernel=size,cma``.

    Attributes:
        kernel: As it is without.
        missing: Where that is not known, what is missing and how to get it.
    """

    missing: str | None = None

    def behaviour(self, machine: Machine) -> Behaviour:
        """What it does is the same; what the kernel behind it uses is not."""
        reason = _BORROWED
        if self.missing is not None:
            reason = Unknown(
                f"whether crashkernel=,cma was asked for: {self.missing}", "crash-kernel-borrows"
            )
        return replace(self.kernel.behaviour(machine), crash_kernel_borrows=reason)
