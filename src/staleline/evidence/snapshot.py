# SPDX-License-Identifier: GPL-2.0-or-later
"""The snapshot: everything one machine was observed to say, and nothing concluded from it.

Every reader in this package produces a `Snapshot`; everything after it reads only that.
None and absence mean "not observed". The JSON form is ``staleline/snapshot/1``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from staleline.evidence.registers import CpuidTable

__all__ = [
    "GIVEN",
    "TDX_MODULE_STATES",
    "CacheEvidence",
    "CpuEvidence",
    "CpuinfoEvidence",
    "KernelEvidence",
    "LogEvidence",
    "Note",
    "Snapshot",
    "StateEvidence",
    "Statement",
    "UnreadMessage",
    "given_by_user",
    "with_flags_of_hardware",
]

#: Why there is a note of a value that the user gave.
GIVEN = "given by the user, not observed"


@dataclass(frozen=True, slots=True)
class CpuEvidence:
    """One logical CPU.

    Attributes:
        cpuid: Its CPUID leaves.
        msr: The MSRs that could be read, number -> 64-bit value.
        msr_faults: The MSRs that do not exist on this CPU: RDMSR was executed and faulted.
        number: The kernel's number of it, where the evidence names it.
    """

    cpuid: CpuidTable
    msr: Mapping[int, int] = field(default_factory=dict)
    msr_faults: frozenset[int] = frozenset()
    number: int | None = None


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
    bugs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CacheEvidence:
    """The caches of one kind as the running kernel lists them in sysfs.

    Attributes:
        level: 1, 2, 3, ...
        type: ``Data``, ``Instruction`` or ``Unified``.
        bytes: The size of each.
        cpus: For each, the CPUs that share it, as a kernel CPU list such as ``0-7,64-71``.
    """

    level: int
    type: str
    bytes: int
    cpus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KernelEvidence:
    """The running kernel as it names itself, and how it was started.

    Attributes:
        release: As ``uname -r`` says.
        cmdline: /proc/cmdline: the words of bootconfig, then CONFIG_CMDLINE, then the loader's.
        config: Options of its build; ``n`` for one that is not set.
        build_id: In hexadecimal.
        loader_cmdline: The command line as the loader passed it, which is all that startup
            code sees.
        bootconfig: The keys of /proc/bootconfig, each as often as it has values; empty if the
            kernel took none.
        booted_by: ``efi``: its EFI stub was started by firmware or loader as a program;
            ``kexec``: by another kernel; ``direct``: by a loader that told nothing of EFI.
        xloadflags: Of the setup header in /sys/kernel/boot_params/data.
    """

    release: str | None = None
    cmdline: str | None = None
    config: Mapping[str, str] | None = None
    build_id: str | None = None
    loader_cmdline: str | None = None
    bootconfig: tuple[str, ...] | None = None
    booted_by: str | None = None
    xloadflags: int | None = None


@dataclass(frozen=True, slots=True)
class LogEvidence:
    """Messages of this boot's kernel log that tell of SME, SEV, SNP, TDX or kexec, oldest first.

    Attributes:
        lines: The messages, without level and time.
        complete: No message from boot to now is missing, so that silence means something.
    """

    lines: tuple[str, ...]
    complete: bool


#: What the TDX module may be: words of `StateEvidence.tdx_module`.
TDX_MODULE_STATES = ("initialized", "failed", "not-initialized", "absent")


@dataclass(frozen=True, slots=True)
class StateEvidence:
    """Kernel state that no register tells.

    Attributes:
        sme_active: Memory is mapped with the C-bit.
        tdx_module: ``initialized``, ``failed`` or ``not-initialized``.
        seamcalled_cpus: CPUs that entered the TDX module.
        sev_guests_run: SEV guests have run since boot.
        offline_cpus: CPUs that are present and not online.
        kexec_loaded: 1 if a kernel is loaded for kexec, else 0.
        kexec_crash_loaded: The same for the crash kernel.
        kexec_crash_size: Bytes reserved for the crash kernel.
        reboot_force: CPUs are not stopped before a kexec, whatever the command line said.
        tsme: Firmware encrypts all memory with one key (TSME), as the ccp driver tells.
        guest_ids_peak: Most guest keys of a kind (sev, sev_es, tdx) in use since boot.
        livepatches: Live patch -> functions that it replaces, as OBJECT:FUNCTION; None for one
            that does not tell them.
        kprobes: Where probes are that are not disabled, as SYMBOL+OFFSET.
        tainted: /proc/sys/kernel/tainted, a bit for each reason.
        tainting_modules: Loaded modules that taint, as NAME:FLAGS.
        online_cpus: How many CPUs are online, however many of them were read.
    """

    sme_active: bool | None = None
    tdx_module: str | None = None
    seamcalled_cpus: tuple[int, ...] | None = None
    sev_guests_run: bool | None = None
    offline_cpus: tuple[int, ...] | None = None
    kexec_loaded: int | None = None
    kexec_crash_loaded: int | None = None
    kexec_crash_size: int | None = None
    reboot_force: bool | None = None
    tsme: bool | None = None
    guest_ids_peak: Mapping[str, int] | None = None
    livepatches: Mapping[str, tuple[str, ...] | None] | None = None
    kprobes: tuple[str, ...] | None = None
    tainted: int | None = None
    tainting_modules: tuple[str, ...] | None = None
    online_cpus: int | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that was not observed, or was given by the user instead, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Statement:
    """What a tool that ran on the machine says of a fact, without the register it read.

    Registers and flags are better evidence and go first.

    Attributes:
        name: The fact's name.
        value: What the tool says.
        source: The tool and its words.
    """

    name: str
    value: bool | int | str
    source: str


@dataclass(frozen=True, slots=True)
class UnreadMessage:
    """What may be a message of this machine's kernel, in a line that is not known to be its own.

    Attributes:
        where: The file and the number of the line.
        message: The message.
    """

    where: str
    message: str


#: include/linux/panic.h, linux 6.12 and 7.3.4: the bit in /proc/sys/kernel/tainted.
_TAINT_CPU_OUT_OF_SPEC: Final = 2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One machine.

    ``cpus`` may hold one entry that stands for all. ``modules`` holds the parameters of
    kvm_amd and kvm_intel, and no entry for one that is not loaded. ``flags_settled``: none of
    the flags in ``cpuinfo`` was set by hand, by the kernel that showed them.
    """

    cpus: tuple[CpuEvidence, ...]
    host: str | None = None
    collected: str | None = None
    cpuinfo: CpuinfoEvidence | None = None
    kernel: KernelEvidence = KernelEvidence()
    state: StateEvidence = StateEvidence()
    notes: tuple[Note, ...] = ()
    caches: tuple[CacheEvidence, ...] = ()
    modules: Mapping[str, Mapping[str, str]] | None = None
    log: LogEvidence | None = None
    statements: tuple[Statement, ...] = ()
    unread: tuple[UnreadMessage, ...] = ()
    flags_settled: bool = False

    @property
    def may_have_forced_flags(self) -> bool:
        """Are there flags of /proc/cpuinfo that were set by hand, which prove nothing?

        The parameter setcpuid= does it, from Linux 6.15 on (commit 814165e9fd1f, and 7.3.4
        arch/x86/kernel/cpu/common.c:1776; 6.12.117 has none). It taints the kernel with the first
        flag that it sets (parse_set_clear_cpuid()), and taints stay. Where neither is known it is
        taken for granted that nobody did: "for TESTING ONLY", as the kernel says itself, and every
        lscpu without a command line would prove nothing (docs/model.md).
        """
        if self.cpuinfo is None or self.flags_settled:
            return False
        if self.kernel.cmdline is not None:
            return "setcpuid=" in self.kernel.cmdline
        return bool((self.state.tainted or 0) >> _TAINT_CPU_OUT_OF_SPEC & 1)


def with_flags_of_hardware(snapshot: Snapshot) -> Snapshot:
    """With the flags that are proved to be hardware's, whichever kernel is judged from here on."""
    if snapshot.cpuinfo is not None and snapshot.may_have_forced_flags:
        cpuinfo = replace(snapshot.cpuinfo, flags=frozenset())
        return replace(snapshot, cpuinfo=cpuinfo, flags_settled=True)
    return replace(snapshot, flags_settled=True)


def given_by_user(snapshot: Snapshot) -> tuple[str, ...]:
    """What in this snapshot the user gave."""
    return tuple(note.what for note in snapshot.notes if note.why == GIVEN)
