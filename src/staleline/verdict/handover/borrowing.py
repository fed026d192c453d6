# SPDX-License-Identifier: GPL-2.0-or-later
"""A running kernel whose crash kernel uses memory besides its reservation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from staleline.verdict.handover.kernels import Behaviour, Kernel
from staleline.verdict.machines.machine import Machine

__all__ = ["KernelWithBorrowedMemory"]


@dataclass(frozen=True, slots=True)
class KernelWithBorrowedMemory:
    """A kernel that was booted with ``crashkernel=size,cma``.

    Attributes:
        kernel: As it is without.
    """

    kernel: Kernel

    @property
    def name(self) -> str:
        """The kernel's."""
        return self.kernel.name

    @property
    def evidence(self) -> str:
        """The kernel's."""
        return self.kernel.evidence

    def behaviour(self, machine: Machine) -> Behaviour:
        """What it does is the same; what the kernel behind it uses is not."""
        return replace(self.kernel.behaviour(machine), crash_kernel_borrows=True)
