# SPDX-License-Identifier: GPL-2.0-or-later
"""The way by which a kexec comes to its sites, and a crash to its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from staleline.kernel.rerun.reruns import Reruns
from staleline.kernel.sites.crash import run_crash_nmi_callback
from staleline.kernel.sites.jump import run_relocate_kernel
from staleline.kernel.sites.sites import run_stop_this_cpu
from staleline.vocabulary import Site

if TYPE_CHECKING:
    from staleline.kernel.boot.decision import SiteDecision
    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.rerun.inputs import VariedCpu

__all__ = ["FirstWay"]


class FirstWay(Reruns):
    """One image, to be run many times on its first way to each site."""

    def at_site(
        self, site: Site, cpus: Sequence[VariedCpu], emulated: EmulatedMachine
    ) -> SiteDecision:
        """As the jumping CPU and the one that it stops or shoots down come to it."""
        first, second = cpus
        match site:
            case Site.STOP_THIS_CPU:
                return run_stop_this_cpu(emulated, second, jumping=first).decision
            case Site.RELOCATE_KERNEL:
                return run_relocate_kernel(emulated, first)
            case Site.CRASH_NMI_CALLBACK:
                return run_crash_nmi_callback(emulated, cpus)
