# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether CPUID and MSRs agree with each other, and the CPUs of a machine among themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from staleline.evidence.contradiction import Contradiction, clash
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import Snapshot
from staleline.hardware import (
    AMD_AND_HYGON,
    CPUID_REGISTERS,
    ENCRYPTION_LEAF,
    EXTENDED_LEAVES,
    HYPERVISOR_PRESENT,
    HYPERVISORS,
    INTEL,
    MASK_64,
    MEM_ENCRYPT_ENABLED,
    SEV_STATUS,
    SYSCFG,
    TDX_KEYIDS,
    TME_ACTIVATE,
)

__all__ = [
    "beyond_maximum_follows_vendor",
    "cpuid_bit",
    "cpus_agree",
    "features_have_registers",
    "registers_have_features",
    "vendor_is_repeated",
]

#: Bits that a verdict asks for and that all CPUs of a machine share: leaf, register, bit.
#: Others differ on real machines: EDX of leaf 0x8000001F (the lowest ASID without SEV-ES), EBX of
#: leaf 1 and topology leaves by design, and steppings may be mixed.
_ALIKE = {
    "SEV": (ENCRYPTION_LEAF, 0, 1),
    "SNP": (ENCRYPTION_LEAF, 0, 4),
    "eviction not needed": (ENCRYPTION_LEAF, 1, 31),
    "hypervisor": (1, 2, 31),
    "MONITOR": (1, 2, 3),
    "TME": (7, 2, 13),
}
_ALIKE_REGISTERS = {
    SYSCFG: "SYSCFG",
    SEV_STATUS: "SEV_STATUS",
    TDX_KEYIDS: "KeyIDs",
    TME_ACTIVATE: "TME_ACTIVATE",
}
#: (MSR, bits, vendors that define them, CPUID bits of which one has to be there).
_NEEDS_FEATURE = (
    (
        SYSCFG,
        MEM_ENCRYPT_ENABLED,
        AMD_AND_HYGON,
        ((ENCRYPTION_LEAF, 0, 0), (ENCRYPTION_LEAF, 0, 1)),
    ),
    # SecureNestedPagingEn (linux 6.12.117 arch/x86/kernel/cpu/amd.c:354).
    (SYSCFG, 1 << 24, AMD_AND_HYGON, ((ENCRYPTION_LEAF, 0, 4),)),
    (TDX_KEYIDS, MASK_64, INTEL, ((7, 2, 13),)),
    (TME_ACTIVATE, MASK_64, INTEL, ((7, 2, 13),)),
)
#: MSR, vendors, and features of which one says that it is there.
_ALWAYS_THERE = (
    (SYSCFG, AMD_AND_HYGON, ((ENCRYPTION_LEAF, 0, 0), (ENCRYPTION_LEAF, 0, 1))),
    (TME_ACTIVATE, INTEL, ((7, 2, 13),)),
)


def cpus_agree(snapshot: Snapshot) -> Iterator[Contradiction]:
    """What a verdict asks for is the same on all CPUs of a machine, where their dumps tell it."""
    observed: tuple[tuple[str, str, str, Callable[[CpuidTable], object]], ...] = (
        ("two-vendors", "0x00000000:0", "vendor", lambda cpuid: cpuid.vendor),
        (
            "cpus-differ-in-sme",
            "0x8000001f:0 EAX[0]",
            "SME",
            lambda cpuid: cpuid_bit(cpuid, ENCRYPTION_LEAF, 0, 0),
        ),
        (
            "cpus-differ-in-coherency",
            "0x8000001f:0 EAX[10]",
            "coherency enforced",
            lambda cpuid: cpuid_bit(cpuid, ENCRYPTION_LEAF, 0, 10),
        ),
        (
            "cpus-differ-in-cbit-position",
            "0x8000001f:0 EBX[5:0]",
            "C-bit position",
            _cbit_position,
        ),
        *(
            ("cpus-differ", f"{leaf:#010x}:0 {CPUID_REGISTERS[register]}[{bit}]", name, _asks(*at))
            for name, at in _ALIKE.items()
            for leaf, register, bit in (at,)
        ),
        *(
            ("cpus-differ", f"{base:#010x}:0", "highest leaf", _asks_maximum(base))
            for base in (0, EXTENDED_LEAVES)
        ),
        ("cpus-differ", "0x40000000:0", "hypervisor", _named_hypervisor),
    )
    yield from _registers_agree(snapshot)
    for kind, field, name, observe in observed:
        values = [(i, observe(cpu.cpuid)) for i, cpu in enumerate(snapshot.cpus)]
        known = [(i, value) for i, value in values if value is not None]
        other = next(((i, value) for i, value in known if value != known[0][1]), None)
        if other is not None:
            first, second = (
                (f"cpus[{i}].cpuid.{field}", f"({name}) is {value!r}")
                for i, value in (known[0], other)
            )
            yield clash(kind, first, second)


def _named_hypervisor(cpuid: CpuidTable) -> str | None:
    """Of a name that is known: a bare CPU of Intel's answers there as at its highest basic leaf."""
    return HYPERVISORS.get(cpuid.hypervisor_signature or b"")


def _asks(leaf: int, register: int, bit: int) -> Callable[[CpuidTable], object]:
    return lambda cpuid: cpuid_bit(cpuid, leaf, register, bit)


def _asks_maximum(base: int) -> Callable[[CpuidTable], object]:
    return lambda cpuid: cpuid.max_extended_leaf if base else cpuid.max_basic_leaf


def _registers_agree(snapshot: Snapshot) -> Iterator[Contradiction]:
    """Firmware sets these alike on every CPU; a kernel takes the first CPU's for all."""
    for number, name in _ALIKE_REGISTERS.items():
        read = [(i, cpu.msr[number]) for i, cpu in enumerate(snapshot.cpus) if number in cpu.msr]
        other = next(((i, value) for i, value in read if value != read[0][1]), None)
        if other is not None:
            first, second = (
                (f"cpus[{i}].msr.{number:#x}", f"({name}) is {value:#x}")
                for i, value in (read[0], other)
            )
            yield clash("cpus-differ", first, second)


def registers_have_features(snapshot: Snapshot) -> Iterator[Contradiction]:
    """Bits that are reserved on a CPU without the feature; under a hypervisor CPUID hides it."""
    for i, cpu in enumerate(snapshot.cpus):
        if not _on_bare_metal(cpu.cpuid):
            continue
        for number, mask, vendors, features in _NEEDS_FEATURE:
            # What a dump does not tell is not lacking.
            lacks = all(cpuid_bit(cpu.cpuid, *feature) is False for feature in features)
            if cpu.cpuid.vendor in vendors and cpu.msr.get(number, 0) & mask and lacks:
                leaf = features[0][0]
                yield clash(
                    "register-without-feature",
                    (f"cpus[{i}].msr.{number:#x}", f"is {cpu.msr[number]:#x}"),
                    (f"cpus[{i}].cpuid.{leaf:#010x}:0", "says that the CPU lacks the feature"),
                )
        status = cpu.msr.get(SEV_STATUS, 0)
        # SEV, SEV-ES and SNP, as a guest has them (AMD APM volume 2, 15.34.10).
        if cpu.cpuid.vendor in AMD_AND_HYGON and status & 7:
            yield clash(
                "register-without-feature",
                (f"cpus[{i}].msr.{SEV_STATUS:#x}", f"is {status:#x}, as in a SEV guest"),
                (f"cpus[{i}].cpuid.0x00000001:0 ECX[31]", "says that this is no guest"),
            )


def features_have_registers(snapshot: Snapshot) -> Iterator[Contradiction]:
    """Registers that Linux reads unguarded where CPUID shows their feature."""
    # Linux 6.12.118 arch/x86/kernel/cpu/amd.c early_detect_mem_encrypt(), intel.c:195
    # detect_tme_early().
    for i, cpu in enumerate(snapshot.cpus):
        if not _on_bare_metal(cpu.cpuid):
            continue
        for number, vendors, features in _ALWAYS_THERE:
            feature = next((at for at in features if cpuid_bit(cpu.cpuid, *at)), None)
            # That a tool could not read one, under lockdown for instance, is no fault.
            if cpu.cpuid.vendor in vendors and number in cpu.msr_faults and feature is not None:
                leaf, register, bit = feature
                yield clash(
                    "feature-without-register",
                    (f"cpus[{i}].msr.{number:#x}", "does not exist"),
                    (
                        f"cpus[{i}].cpuid.{leaf:#010x}:0 {CPUID_REGISTERS[register]}[{bit}]",
                        "is set",
                    ),
                )


def vendor_is_repeated(snapshot: Snapshot) -> Iterator[Contradiction]:
    """AMD's CPUs say it a second time, in leaf 0x80000000."""
    for i, cpu in enumerate(snapshot.cpus):
        repeated = cpu.cpuid.recorded(EXTENDED_LEAVES)
        again = None if repeated is None else CpuidTable({(0, 0): repeated}).vendor
        vendor = cpu.cpuid.vendor
        # Intel's CPUs keep these registers reserved (SDM, CPUID 80000000H).
        if vendor is not None and again in AMD_AND_HYGON and again != vendor:
            yield clash(
                "two-vendors",
                (f"cpus[{i}].cpuid.0x00000000:0", f"(vendor) is {vendor!r}"),
                (f"cpus[{i}].cpuid.0x80000000:0", f"(vendor) is {again!r}"),
            )


def beyond_maximum_follows_vendor(snapshot: Snapshot) -> Iterator[Contradiction]:
    """Data in leaf 0x8000001F beyond the maximum that the vendor's rule excludes."""
    for i, cpu in enumerate(snapshot.cpus):
        maximum = cpu.cpuid.max_extended_leaf
        recorded = cpu.cpuid.recorded(ENCRYPTION_LEAF)
        expected = cpu.cpuid.read(ENCRYPTION_LEAF)
        if maximum is None or maximum >= ENCRYPTION_LEAF or recorded is None or expected is None:
            continue
        # Only leaf 0x8000001F: AMD CPUs are known to answer at other leaves beyond their maximum
        # (0x8FFFFFFF). Hypervisors make rules of their own, of which only the bit that kernels read
        # is held against the vendor's: no rule has a row for it. Zeros are let pass, as dump tools
        # fill in zeros.
        asked = (1 << 32) - 1 if _on_bare_metal(cpu.cpuid) else 1
        if any(recorded) and (recorded[0] ^ expected[0]) & asked:
            answers = f"where {cpu.cpuid.vendor} answers EAX={expected[0]:#010x}"
            yield clash(
                "leaf-beyond-maximum",
                (f"cpus[{i}].cpuid.0x8000001f:0", f"has EAX={recorded[0]:#010x}"),
                (
                    f"cpus[{i}].cpuid.0x80000000:0",
                    f"says the highest leaf is {maximum:#010x}, {answers}",
                ),
            )
            return


def _on_bare_metal(cpuid: CpuidTable) -> bool:
    leaf = cpuid.recorded(1)
    return leaf is not None and not leaf[2] & HYPERVISOR_PRESENT


def cpuid_bit(cpuid: CpuidTable, leaf: int, register: int, bit: int) -> bool | None:
    """A bit of sub-leaf 0; false beyond the maximum, None where the dump does not tell."""
    maximum = cpuid.max_extended_leaf if leaf >= EXTENDED_LEAVES else cpuid.max_basic_leaf
    if maximum is None and leaf == 1:  # every CPU that has CPUID has this leaf
        maximum = leaf
    if maximum is None:
        return None
    if maximum < leaf:
        return False
    registers = cpuid.recorded(leaf)
    return None if registers is None else bool(registers[register] >> bit & 1)


def _cbit_position(cpuid: CpuidTable) -> int | None:
    maximum = cpuid.max_extended_leaf
    leaf = cpuid.recorded(ENCRYPTION_LEAF)
    if maximum is None or maximum < ENCRYPTION_LEAF or leaf is None:
        return None
    return leaf[1] & 0x3F
