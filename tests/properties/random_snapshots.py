# SPDX-License-Identifier: GPL-2.0-or-later
"""Any snapshot that the schema allows, sensible or silly, drawn by the types of its fields.

A field that is new to the snapshot is drawn like any other of its type, unless `_POOLS` knows
better values for its name.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from random import Random
from typing import Any

from staleline.evidence import snapshot as snapshot_module
from staleline.evidence.registers import CpuidTable, Registers
from staleline.evidence.snapshot import CpuEvidence, Snapshot, Statement
from tests.properties.corpus import RELEASES

__all__ = ["some_snapshot"]

_LEAF_POOL = (
    *(0, 1, 4, 7, 0xB, 0x21, 0x4000_0000, 0x4000_0003, 0x4000_0010),
    *(0x8000_0000, 0x8000_0001, 0x8000_0008, 0x8000_001D, 0x8000_001F, 0x8000_0023),
)
#: EBX, ECX, EDX of leaf 0: vendors that encrypt, that do not, and that nobody knows.
_VENDORS = tuple(
    (name[0:4], name[8:12], name[4:8])
    for name in (
        *(b"AuthenticAMD", b"AuthenticAMD", b"HygonGenuine", b"GenuineIntel", b"GenuineIntel"),
        *(b"CentaurHauls", b"  Shanghai  ", b"GenuineTMx86", b"\0" * 12, b"WhoKnowsThis"),
    )
)
#: Signatures of hypervisors and of TDX guests, likewise.
_HYPERVISORS = tuple(
    (name[0:4], name[4:8], name[8:12])
    for name in (
        *(b"KVMKVMKVM\0\0\0", b"XenVMMXenVMM", b"Microsoft Hv", b"VMwareVMware"),
        *(b"Jailhouse\0\0\0", b"TCGTCGTCGTCG", b"\0" * 12),
    )
)
_TDX = tuple(int.from_bytes(part, "little") for part in (b"Inte", b"    ", b"lTDX"))
_BITS = (0, 1 << 0, 1 << 1, 1 << 3, 1 << 4, 1 << 10, 1 << 13, 1 << 23, 1 << 31, 0xFFFF_FFFF)
_MSR_POOL = (0x87, 0x982, 0xC000_0080, 0xC001_0010, 0xC001_0015, 0xC001_0131, 0x10A, 0xFE)
_MSR_VALUES = (
    *(0, 1, 3, 5, 7, 15, 1 << 23, 1 << 24, 3 << 23, 0x740000, 0xF40000, 0x1F40000),
    *(1 << 32, 2 << 32, 32 << 32 | 31, 5 << 36 | 6 << 32 | 3, 2**64 - 1),
)
_WORDS = (
    *("mem_encrypt=on", "mem_encrypt=off", "mem_encrypt=", "mem_encrypt=maybe", "mem_encrypt"),
    *("reboot=force", "reboot=f", "reboot=warm,cold", '"reboot=force', "reboot=panic_force", "--"),
    *("setcpuid=sme", "clearcpuid=514", "nosmt", "maxcpus=1", "quiet", "kvm_amd.sev=0", "\t"),
)
LOG_LINES = (
    "Linux version 6.12.117+deb13-amd64 (x) #1 SMP",
    "Command line: BOOT_IMAGE=/vmlinuz mem_encrypt=on",
    "AMD Secure Memory Encryption (SME) active",
    "AMD Memory Encryption Features active: SME",
    "Memory Encryption Features active: AMD SME",
    "Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP",
    "Memory Encryption Features active: Intel TDX",
    "virt/tdx: BIOS enabled: private KeyID range [64, 128)",
    "virt/tdx: module initialized",
    "virt/tdx: TDX-Module initialized",
    "virt/tdx: module initialization failed (-19)",
    "virt/tdx: initialization failed: Hibernation support is enabled",
    "tdx: Guest detected",
    "SEV-SNP: RMP table physical range [0x0000000032a00000 - 0x0000000062afffff]",
    "kvm_amd: SEV enabled (ASIDs 100 - 509)",
    "kvm_amd: SEV-ES enabled (ASIDs 1 - 99)",
    "SEV supported: 410 ASIDs",
    "x86/tme: enabled by BIOS",
    "x86/mktme: disabled by BIOS",
    "Hypervisor detected: KVM",
    "Hypervisor detected: Xen PV",
    "Booting paravirtualized kernel on bare hardware",
    "smpboot: CPU0: AMD EPYC 7742 64-Core Processor (family: 0x17, model: 0x31, stepping: 0x0)",
    "smpboot: CPU0: Intel(R) Xeon(R) Platinum 8480+ (family: 0x6, model: 0x8f, stepping: 0x8)",
    "Freeing unused kernel image (initmem) memory: 4096K",
    "Run /init as init process",
    "kexec_core: Starting new kernel",
)
_POOLS: Mapping[str, tuple[object, ...]] = {
    "vendor": ("AuthenticAMD", "HygonGenuine", "GenuineIntel", "CentaurHauls", "", "x"),
    "flags": ("sme", "sev", "sev_es", "sev_snp", "tme", "hypervisor", "ss", "fpu", "tdx_guest"),
    "bugs": ("spectre_v1", "tdx_pw_mce"),
    "release": (*RELEASES, "", "nonsense", "/etc", "99.0"),
    "config": ("y", "n", "m", ""),
    "build_id": ("00" * 20, "", "zz"),
    "lines": LOG_LINES,
    "tdx_module": ("initialized", "failed", "not-initialized", "absent", "", "odd"),
    "type": ("Unified", "Data", "Instruction", ""),
    "cpus": ("0", "0-7,64-71", "", "x"),
    "level": (0, 1, 2, 3, 9),
    "booted_by": ("efi", "kexec", "direct", "odd"),
    "loader_cmdline": ("", "quiet", "mem_encrypt=on", "mem_encrypt=off reboot=force"),
    "bootconfig": ("mem_encrypt", "kernel.mem_encrypt", "kernel.reboot"),
}
_STATEMENTS: tuple[tuple[str, bool | int | str], ...] = (
    *(("vendor", "AuthenticAMD"), ("vendor", "GenuineIntel"), ("hypervisor", True)),
    *(("sme", True), ("sme", False), ("sev", True), ("sme_enabled", True), ("snp_enabled", True)),
    *(("sme_enabled", False), ("sev_snp", False), ("tdx_keyids", 32), ("tdx_guest", True)),
)
_KEYS: Mapping[str, tuple[str, ...]] = {
    "config": (
        *("CONFIG_AMD_MEM_ENCRYPT", "CONFIG_AMD_MEM_ENCRYPT_ACTIVE_BY_DEFAULT"),
        *("CONFIG_INTEL_TDX_HOST", "CONFIG_KEXEC_CORE", "CONFIG_HOTPLUG_CPU"),
    ),
    "modules": ("kvm_amd", "kvm_intel"),
    "guest_ids_peak": ("sev", "sev_es", "tdx"),
}


def some_snapshot(random: Random) -> Snapshot:
    """One of all."""
    # Evidence of every field would contradict itself nearly always.
    drawing = _Drawing(random, rate=random.choice((0.1, 0.3, 0.6, 0.9)))
    machine: Snapshot = drawing.record(Snapshot)
    kernel = machine.kernel
    # Nobody takes a word out of the loader's line; now and then it contradicts all the same.
    if None in (kernel.cmdline, kernel.loader_cmdline) or random.random() < 0.1:
        return machine
    cmdline = f"{kernel.cmdline} {kernel.loader_cmdline}".strip()
    return replace(machine, kernel=replace(kernel, cmdline=cmdline))


class _Drawing:
    def __init__(self, random: Random, rate: float) -> None:
        self._random = random
        self._rate = rate

    def record(self, kind: type) -> Any:
        """A dataclass with each field drawn, or left at its default."""
        if kind is CpuEvidence:
            return self._cpu()
        hints = typing.get_type_hints(kind, vars(snapshot_module))
        # A doubt is no evidence: with less beside it, it may settle.
        names = [field.name for field in fields(kind) if field.name != "unread"]
        return kind(**{name: self._field(name, hints[name]) for name in names})

    def _field(self, name: str, hint: Any) -> Any:
        arguments = typing.get_args(hint)
        if types.NoneType in arguments and self._random.random() > self._rate:
            return None
        kinds = [kind for kind in arguments if kind is not types.NoneType]
        union = isinstance(hint, types.UnionType)
        return self._value(name, self._random.choice(kinds) if union else hint)

    def _value(self, name: str, hint: Any) -> Any:
        random, origin = self._random, typing.get_origin(hint)
        inner = typing.get_args(hint)
        if hint is Statement:
            told, value = random.choice(_STATEMENTS)
            return Statement(told, value, "a tool")
        if is_dataclass(hint) and isinstance(hint, type):
            return self.record(hint)
        if origin is tuple:
            return tuple(self._value(name, inner[0]) for _ in range(random.choice((0, 1, 2, 4))))
        if origin is frozenset:
            return frozenset(self._value(name, inner[0]) for _ in range(random.choice((0, 1, 3))))
        if isinstance(origin, type) and issubclass(origin, Mapping):
            keys = _KEYS.get(name, ("sev", "x"))
            return {
                key: self._field(name, inner[1]) for key in keys if random.random() < self._rate
            }
        return self._scalar(name, hint)

    def _scalar(self, name: str, hint: Any) -> Any:
        random = self._random
        if name == "cmdline":
            return " ".join(random.choices(_WORDS, k=random.choice((0, 1, 2, 3))))
        if name in _POOLS:
            return random.choice(_POOLS[name])
        drawn: Mapping[Any, Callable[[], Any]] = {
            bool: lambda: random.random() < 0.5,
            int: lambda: random.choice((0, 1, 2, 6, 23, 25, 49, 143)),
            str: lambda: random.choice(("", "node17", "given by the user, not observed", "sev")),
        }
        return drawn[hint]()

    def _cpu(self) -> CpuEvidence:
        random = self._random
        leaves = {
            (leaf, subleaf): self._registers(leaf)
            for leaf in _LEAF_POOL
            for subleaf in range(random.choice((1, 1, 2)))
            if random.random() < max(self._rate, 0.5)
        }
        msr = {n: random.choice(_MSR_VALUES) for n in _MSR_POOL if random.random() < self._rate}
        faults = {n for n in _MSR_POOL if n not in msr and random.random() < 0.1}
        number = random.choice((None, 0, 1))
        return CpuEvidence(CpuidTable(leaves), msr, frozenset(faults), number)

    def _registers(self, leaf: int) -> Registers:
        random = self._random
        eax, ebx, ecx, edx = (random.choice(_BITS) | random.choice(_BITS) for _ in range(4))
        if leaf == 0:
            vendor = (int.from_bytes(part, "little") for part in random.choice(_VENDORS))
            return (random.choice((0, 1, 0xD, 0x21, 0x2F)), *vendor)  # type: ignore[return-value]
        if leaf == 0x8000_0000:
            return (random.choice((0, 0x8000_0008, 0x8000_001F, 0x8000_0028)), ebx, ecx, edx)
        if leaf == 0x4000_0000:
            hypervisor = (int.from_bytes(part, "little") for part in random.choice(_HYPERVISORS))
            return (0x4000_0001, *hypervisor)  # type: ignore[return-value]
        if leaf == 0x21 and random.random() < 0.5:
            return (0, *_TDX)  # type: ignore[return-value]
        return eax, ebx, ecx, edx
