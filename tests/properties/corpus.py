# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole machines: a dump of the corpus and all that else such a host or guest would tell.

What is added follows from one drawn truth (what firmware enabled, what the kernel was told,
which guest this is), so that nothing in it contradicts anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from staleline.evidence.detect import read_snapshot
from staleline.evidence.registers import CpuidTable, Registers
from staleline.evidence.snapshot import (
    CacheEvidence,
    CpuEvidence,
    CpuinfoEvidence,
    KernelEvidence,
    LogEvidence,
    Note,
    Snapshot,
    StateEvidence,
)
from staleline.evidence.staleline_collect import is_relevant
from tests.properties.messages import KEYIDS, SEV_STATUS, SYSCFG, TME_ACTIVATE, messages

__all__ = [
    "DUMPS",
    "RELEASES",
    "Truth",
    "some_truth",
]

DATA = Path(__file__).parents[1] / "data" / "cpuid"
DUMPS = sorted(
    str(path.relative_to(DATA))
    for folder in ("libcpuid", "full", "registers")
    for path in (DATA / folder).iterdir()
)
#: One or two of each era of the catalogue's rules.
RELEASES = (
    *("4.14.336", "4.19.0-27-amd64", "5.4.0-216-generic", "5.10.0-46-amd64", "5.15.0"),
    *("6.1.0-57-amd64", "6.5.13", "6.8.0-60-generic", "6.12.117+deb13-amd64"),
    *("6.17.13+deb13-amd64", "6.18.15", "7.3.4+deb13-amd64"),
)
_SME_LEAF = 0x8000_001F
_EFER, _HWCR = 0xC000_0080, 0xC001_0015
_AMD = frozenset({"AuthenticAMD", "HygonGenuine"})
#: EFER as Linux leaves it (SCE, LME, LMA, NXE), and SVME where KVM has used it.
_EFER_VALUE = 0xD01
#: /proc/cpuinfo flag -> leaf, register, bit (Linux 7.3 arch/x86/include/asm/cpufeatures.h).
_FLAGS = {
    "ss": (1, 3, 27),
    "hypervisor": (1, 2, 31),
    "tme": (7, 2, 13),
    "movdir64b": (7, 2, 28),
    "pconfig": (7, 3, 18),
    "wbnoinvd": (0x8000_0008, 1, 9),
    "sme": (_SME_LEAF, 0, 0),
    "sev": (_SME_LEAF, 0, 1),
    "sev_es": (_SME_LEAF, 0, 3),
}
#: What firmware or hypervisor make of SEV_STATUS.
_GUESTS = {"plain": 0, "sev": 1, "sev-es": 3, "snp": 7}
#: Signature in leaf 0x40000000 by what Linux calls the hypervisor (6.12 arch/x86/kernel/cpu/).
_HYPERVISORS = {
    "KVM": b"KVMKVMKVM\0\0\0",
    "Xen HVM": b"XenVMMXenVMM",
    "Microsoft Hyper-V": b"Microsoft Hv",
    "VMware": b"VMwareVMware",
}
_TDX_GUEST = (0x21, 0)
_TDX_SIGNATURE: Registers = (0, 0x65746E49, 0x20202020, 0x5844546C)


@dataclass(frozen=True)
class Truth:
    """One machine with its kernel, everything known.

    Attributes:
        dump: Where its CPUID is from.
        cpuid: Of each of its CPUs.
        msr: Of each of its CPUs.
        faults: MSRs that its CPUs do not have.
        guest: ``""`` for a host, else plain, sev, sev-es or snp.
        release: Its kernel.
        cmdline: The kernel's command line.
        sme_active: The kernel encrypts its memory as a host.
        tdx_module: As in the snapshot's state.
        sev_guests_run: Encrypted guests have run.
        cpus: CPUs that are online.
        offline: CPUs that are not.
        reboot_force: What sysfs says; the command line's choice, or somebody wrote a 1 there.
        hypervisor: By which name the kernel knows it; empty on a host.
        log_complete: The log has been kept from its first message on.
    """

    dump: str
    cpuid: CpuidTable
    msr: dict[int, int]
    faults: frozenset[int]
    guest: str
    release: str
    cmdline: str
    sme_active: bool
    tdx_module: str
    sev_guests_run: bool
    cpus: int
    offline: tuple[int, ...]
    reboot_force: bool
    hypervisor: str
    log_complete: bool

    @property
    def shown(self) -> CpuinfoEvidence | None:
        """/proc/cpuinfo; None for a CPU that names no vendor or family."""
        cpuid = self.cpuid
        if cpuid.vendor is None or cpuid.family_model_stepping is None:
            return None
        flags = {"fpu"} | {flag for flag, place in _FLAGS.items() if bit(cpuid, *place)}
        # arch/x86/kernel/cpu/amd.c early_detect_mem_encrypt(), 5.10 to 7.3; hygon.c has none.
        if cpuid.vendor == "AuthenticAMD" and not self.msr.get(SYSCFG, 0) >> 23 & 1:
            flags -= {"sme", "sev", "sev_es"}
        return CpuinfoEvidence(cpuid.vendor, *cpuid.family_model_stepping, frozenset(flags))

    @property
    def log(self) -> tuple[str, ...]:
        """What the collector keeps of the kernel log."""
        return tuple(filter(is_relevant, messages(self)))

    def snapshot(self) -> Snapshot:
        """All of it, as the collector would write it."""
        state = StateEvidence(
            sme_active=self.sme_active,
            tdx_module=self.tdx_module if self.cpuid.vendor == "GenuineIntel" else None,
            sev_guests_run=self.sev_guests_run,
            offline_cpus=self.offline,
            kexec_loaded=1,
            kexec_crash_loaded=0,
            kexec_crash_size=0,
            reboot_force=self.reboot_force,
            tsme=False if self.cpuid.vendor in _AMD and not self.guest else None,
            guest_ids_peak=None,
            online_cpus=self.cpus,
        )
        return Snapshot(
            cpus=tuple(
                CpuEvidence(self.cpuid, self.msr, self.faults, number)
                for number in range(self.cpus)
            ),
            host="node17",
            collected="2026-11-30T06:00:00Z",
            cpuinfo=self.shown,
            kernel=KernelEvidence(
                self.release,
                self.cmdline,
                {
                    "CONFIG_AMD_MEM_ENCRYPT": "y",
                    "CONFIG_AMD_MEM_ENCRYPT_ACTIVE_BY_DEFAULT": "n",
                    "CONFIG_KEXEC_CORE": "y",
                },
            ),
            state=state,
            notes=(Note("kernel build ID", "/sys/kernel/notes is missing or may not be read"),),
            caches=(CacheEvidence(2, "Unified", 512 << 10, ("0", "1")),),
            modules={"kvm_amd": {"sev": "Y"}} if self.sev_guests_run else {},
            log=LogEvidence(self.log, complete=self.log_complete),
        )


def bit(cpuid: CpuidTable, leaf: int, register: int, number: int) -> bool:
    """A bit of a leaf that the CPU has and the dump records; else false."""
    maximum = cpuid.max_extended_leaf if leaf >> 31 else cpuid.max_basic_leaf
    registers = cpuid.recorded(leaf)
    if maximum is None or leaf > maximum or registers is None:
        return False
    return bool(registers[register] >> number & 1)


def some_truth(random: Random) -> Truth:
    """A machine: any dump of the corpus, with CPUs that encrypt drawn three times of four."""
    dump = random.choice(_encrypting() if random.random() < 0.75 else DUMPS)
    guest = random.choice(("", "", "", "", *_GUESTS, "tdx"))
    hypervisor = random.choice(("KVM", "KVM", *_HYPERVISORS)) if guest else ""
    cpuid = _for_guest(dump_of(dump), guest, hypervisor)
    amd = cpuid.vendor in _AMD
    if guest in ("sev", "sev-es", "snp") and not bit(cpuid, _SME_LEAF, 0, 1):
        guest = "plain"
    if guest == "tdx" and _TDX_GUEST not in cpuid.leaves:
        guest = "plain"
    if not bit(cpuid, 1, 2, 31):
        guest = hypervisor = ""
    msr, faults = _amd_msrs(random, cpuid, guest) if amd else _intel_msrs(random, cpuid, guest)
    asked = random.choice(("mem_encrypt=on", "mem_encrypt=off", ""))
    usable = bit(cpuid, _SME_LEAF, 0, 0) and bool(msr.get(SYSCFG, 0) >> 23 & 1)
    keys = msr.get(KEYIDS, 0) >> 32
    guests = amd and not guest and usable and bit(cpuid, _SME_LEAF, 0, 1)
    words = ("BOOT_IMAGE=/vmlinuz", "ro", asked, "quiet", random.choice(("", "", "reboot=force")))
    return Truth(
        dump=dump,
        cpuid=cpuid,
        msr=msr,
        faults=faults,
        guest=guest,
        release=(release := random.choice(RELEASES)),
        cmdline=" ".join(word for word in words if word),
        sme_active=usable and asked == "mem_encrypt=on" and not guest,
        tdx_module=random.choice(("initialized", "failed", "not-initialized"))
        if keys >= 2
        else "not-initialized",
        sev_guests_run=guests and random.random() < 0.5,
        cpus=random.choice((1, 2, 3)),
        offline=random.choice(((), (), (7,))),
        # Only sysfs changes it after boot, which has it since 5.11 (linux kernel/reboot.c). Nobody
        # is drawn who took it back: the one exception that docs/properties.md has.
        reboot_force="reboot=force" in words
        or (random.random() < 0.05 and not release.startswith(("4.", "5.4", "5.10"))),
        hypervisor=hypervisor,
        log_complete=random.random() < 0.5,
    )


@cache
def dump_of(name: str) -> CpuidTable:
    """CPUID of the first CPU of a dump."""
    return read_snapshot(DATA / name).cpus[0].cpuid


@cache
def _encrypting() -> tuple[str, ...]:
    """Dumps of CPUs with SME, SEV or TME."""
    places = ((_SME_LEAF, 0, 0), (_SME_LEAF, 0, 1), (7, 2, 13))
    return tuple(name for name in DUMPS if any(bit(dump_of(name), *place) for place in places))


def _for_guest(cpuid: CpuidTable, guest: str, hypervisor: str) -> CpuidTable:
    """The CPU as a guest of this kind sees it: the hypervisor bit, and who the hypervisor is."""
    leaf = cpuid.recorded(1)
    if not guest or leaf is None:
        return cpuid
    name = _HYPERVISORS[hypervisor]
    ebx, ecx, edx = (int.from_bytes(name[i : i + 4], "little") for i in (0, 4, 8))
    leaves = {
        **cpuid.leaves,
        (1, 0): (leaf[0], leaf[1], leaf[2] | 1 << 31, leaf[3]),
        (0x4000_0000, 0): (0x4000_0001, ebx, ecx, edx),
    }
    if guest == "tdx" and cpuid.vendor == "GenuineIntel":
        first = leaves[0, 0]
        leaves[0, 0] = (max(first[0], _TDX_GUEST[0]), *first[1:])
        leaves[_TDX_GUEST] = _TDX_SIGNATURE
    return CpuidTable(leaves)


def _amd_msrs(
    random: Random, cpuid: CpuidTable, guest: str
) -> tuple[dict[int, int], frozenset[int]]:
    sev, snp = bit(cpuid, _SME_LEAF, 0, 1), bit(cpuid, _SME_LEAF, 0, 4)
    sme = bit(cpuid, _SME_LEAF, 0, 0)
    values = {_EFER: _EFER_VALUE, _HWCR: 0x9000010}
    if guest:
        values[SYSCFG] = 0
    else:
        enabled = (sme or sev) and random.random() < 0.8
        with_snp = enabled and snp and random.random() < 0.4
        values[SYSCFG] = 0x740000 | enabled << 23 | with_snp << 24
    faults: frozenset[int] = frozenset()
    if sev:
        values[SEV_STATUS] = _GUESTS.get(guest, 0)
    else:
        faults = frozenset({SEV_STATUS})
    return values, faults


def _intel_msrs(
    random: Random, cpuid: CpuidTable, guest: str
) -> tuple[dict[int, int], frozenset[int]]:
    if cpuid.vendor != "GenuineIntel":
        return {}, frozenset()
    if guest or not bit(cpuid, 7, 2, 13):
        return {}, frozenset({TME_ACTIVATE, KEYIDS})
    if random.random() < 0.3:
        return {TME_ACTIVATE: 0b11, KEYIDS: 0}, frozenset()
    return {TME_ACTIVATE: 5 << 36 | 6 << 32 | 0b11, KEYIDS: 32 << 32 | 31}, frozenset()
