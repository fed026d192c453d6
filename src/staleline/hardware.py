# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers and names by which hardware is asked, so that each is written once."""

from __future__ import annotations

from typing import Final

__all__ = [
    "AMD_AND_HYGON",
    "CPUID_REGISTERS",
    "ENCRYPTION_LEAF",
    "EXTENDED_LEAVES",
    "GENERAL_REGISTERS",
    "HYPERVISORS",
    "HYPERVISOR_LEAF",
    "HYPERVISOR_PRESENT",
    "INTEL",
    "MASK_32",
    "MASK_64",
    "MEM_ENCRYPT_ENABLED",
    "RAX",
    "RCX",
    "RDI",
    "RDX",
    "RSI",
    "RSP",
    "SEV_STATUS",
    "SYSCFG",
    "TDX_GUEST_LEAF",
    "TDX_KEYIDS",
    "TME_ACTIVATE",
]

#: Whose CPUs encrypt memory by SME and SEV; Hygon's are built on AMD's family 17h.
AMD_AND_HYGON: Final = frozenset({"AuthenticAMD", "HygonGenuine"})

INTEL: Final = frozenset({"GenuineIntel"})

#: What a register and its lower half hold: sums of addresses wrap around there.
MASK_32: Final = (1 << 32) - 1
MASK_64: Final = (1 << 64) - 1

# Leaves of CPUID, and where they answer.
CPUID_REGISTERS: Final = ("EAX", "EBX", "ECX", "EDX")
#: The first of those that AMD began, which says in EAX which is the last (APM volume 3, E.4.1).
EXTENDED_LEAVES: Final = 0x8000_0000
#: "AMD encrypted memory capabilities" (linux 7.3.4 arch/x86/include/asm/cpuid/leaf_types.h:1931).
ENCRYPTION_LEAF: Final = 0x8000_001F
#: TDX_CPUID_LEAF_ID, by which a guest of TDX knows itself (linux 7.3.4
#: arch/x86/include/asm/shared/tdx.h:11).
TDX_GUEST_LEAF: Final = 0x21
#: Where hypervisors name themselves; no CPU has the leaf.
HYPERVISOR_LEAF: Final = 0x4000_0000
#: A bit that no CPU sets, of ECX of leaf 1: X86_FEATURE_HYPERVISOR (asm/cpufeatures.h).
HYPERVISOR_PRESENT: Final = 1 << 31
#: Its EBX, ECX, EDX -> name. Linux 7.3 arch/x86/kernel/cpu/{hypervisor,mshyperv,vmware,acrn,
#: bhyve}.c, arch/x86/kernel/{kvm,jailhouse}.c, asm/xen/cpuid.h.
HYPERVISORS: Final = {
    b"KVMKVMKVM\0\0\0": "KVM",
    b"TCGTCGTCGTCG": "QEMU",
    b"VMwareVMware": "VMware",
    b"VBoxVBoxVBox": "VirtualBox",
    b"bhyve bhyve ": "bhyve",
    b"ACRNACRNACRN": "ACRN",
    b"Microsoft Hv": "Hyper-V",
    b"XenVMMXenVMM": "Xen",
    b"Jailhouse\0\0\0": "Jailhouse",
}

# MSRs, linux 7.3.4 arch/x86/include/asm/msr-index.h.
SYSCFG: Final = 0xC001_0010  # MSR_AMD64_SYSCFG
MEM_ENCRYPT_ENABLED: Final = 1 << 23  # MSR_AMD64_SYSCFG_MEM_ENCRYPT
SEV_STATUS: Final = 0xC001_0131  # MSR_AMD64_SEV
TDX_KEYIDS: Final = 0x87  # MSR_IA32_MKTME_KEYID_PARTITIONING
TME_ACTIVATE: Final = 0x982  # MSR_IA32_TME_ACTIVATE

#: General registers in the order x86 numbers them.
GENERAL_REGISTERS: Final = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
)
RAX, RCX, RDX, RSP, RSI, RDI = 0, 1, 2, 4, 6, 7
