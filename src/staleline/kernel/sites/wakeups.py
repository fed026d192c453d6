# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether an image wakes CPUs that are offline before it jumps.

``native_stop_other_cpus()`` kicks CPUs out of MWAIT; each of them stores that it woke and halts,
without a flush (linux 7.3.4 arch/x86/kernel/smp.c:165, smpboot.c:1459).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage

__all__ = ["wakes_offline"]

_KICK = "smp_kick_mwait_play_dead"
#: Up to 6.12 ``mwait_play_dead()`` returns at once on CPUs of AMD and Hygon (linux 6.12.118
#: arch/x86/kernel/smpboot.c); kernels with this function take the hint from ACPI instead, on
#: every vendor's CPUs (linux 7.3.4 arch/x86/kernel/acpi/cstate.c:209). Only where lines have two
#: aliases does a wake-up matter, and of Intel's CPUs only KeyIDs have, which it leaves alone.
_ON_EVERY_VENDOR = "acpi_processor_ffh_play_dead"


def wakes_offline(image: KernelImage) -> bool:
    """Do CPUs of AMD and Hygon that are offline wait in MWAIT, and are they kicked out of it?"""
    return all(image.symbols.addresses(name) for name in (_KICK, _ON_EVERY_VENDOR))
