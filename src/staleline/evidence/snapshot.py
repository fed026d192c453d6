# SPDX-License-Identifier: GPL-2.0-or-later
"""The snapshot: everything one machine was observed to say, and nothing concluded from it.

Every reader in this package produces a `Snapshot`; everything after it reads only that.
None and absence mean "not observed". The JSON form is ``staleline/snapshot/1``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from staleline.evidence.registers import CpuidTable

__all__ = ["CpuEvidence", "CpuinfoEvidence", "KernelEvidence", "Note", "Snapshot", "StateEvidence"]


@dataclass(frozen=True, slots=True)
class CpuEvidence:
    """One logical CPU.

    Attributes:
        cpuid: Its CPUID leaves.
        msr: The MSRs that could be read, number -> 64-bit value.
        msr_faults: The MSRs that do not exist on this CPU: RDMSR was executed and faulted.
    """

    cpuid: CpuidTable
    msr: Mapping[int, int] = field(default_factory=dict)
    msr_faults: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class CpuinfoEvidence:
    """The first processor of /proc/cpuinfo: what the *running kernel* shows of the CPU.

    A flag that is absent says nothing about the hardware: Linux clears ``sme`` when
    firmware left it disabled, and since 5.18 also when the kernel does not use it
    (Linux commit 08f253ec3767).
    """

    vendor: str | None = None
    family: int | None = None
    model: int | None = None
    stepping: int | None = None
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class KernelEvidence:
    """The running kernel as it names itself."""

    release: str | None = None
    cmdline: str | None = None
    config: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class StateEvidence:
    """Kernel state that no register tells."""

    sme_active: bool | None = None
    tdx_module: str | None = None
    seamcalled_cpus: tuple[int, ...] | None = None
    sev_guests_run: bool | None = None
    offline_cpus: tuple[int, ...] | None = None
    kexec_loaded: int | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that was not observed, or was given by the user instead, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One machine. ``cpus`` may hold one entry that stands for all."""

    cpus: tuple[CpuEvidence, ...]
    host: str | None = None
    collected: str | None = None
    cpuinfo: CpuinfoEvidence | None = None
    kernel: KernelEvidence = KernelEvidence()
    state: StateEvidence = StateEvidence()
    notes: tuple[Note, ...] = ()
