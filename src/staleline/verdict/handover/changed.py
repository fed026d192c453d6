# SPDX-License-Identifier: GPL-2.0-or-later
"""A running kernel whose code on the way into the next one is not its image's any more."""

from __future__ import annotations

from dataclasses import dataclass, replace

from staleline.verdict.handover.kernels import AlteredKernel, Behaviour
from staleline.verdict.handover.unknown import Unknown
from staleline.verdict.machines.machine import Machine
from staleline.vocabulary import Path, Site

__all__ = ["ChangedKernel"]


@dataclass(frozen=True, slots=True)
class ChangedKernel(AlteredKernel):
    """A kernel whose stop path a live patch or a kprobe has changed, or may have.

    Attributes:
        kernel: As it was before.
        change: What changed it.
    """

    change: str

    @property
    def evidence(self) -> str:
        """The kernel's, and that it holds no more."""
        return f"{self.kernel.evidence}; but {self.change}"

    def behaviour(self, machine: Machine) -> Behaviour:
        """Nothing is known of any site, nor of who is stopped: what runs there was not read."""
        before = self.kernel.behaviour(machine)
        reason = Unknown(f"what the changed code does: {self.change}", "stop-path-changed")
        return replace(
            before,
            flushes=dict.fromkeys(Site),
            crash_flushes={},
            report=None,
            # nmi_shootdown_cpus() and native_stop_other_cpus() are on this path as well
            # (linux 7.3.4 arch/x86/kernel/reboot.c, smp.c): a replacement may leave CPUs running.
            stops=dict.fromkeys(Path),
            unknown=(reason,),
        )
