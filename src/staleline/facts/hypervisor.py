# SPDX-License-Identifier: GPL-2.0-or-later
"""Which hypervisor runs below, and who jumps in a kexec: the kernel, or a hypervisor for it.

A guest's kexec leaves its hypervisor where it is. The kernel that a hypervisor is built
around (Xen's dom0, Hyper-V's root partition, Jailhouse's root cell) asks it to jump instead, or
replaces it: what that hypervisor flushes is not in the kernel's image.
"""

from __future__ import annotations

from collections.abc import Iterator

from staleline.evidence.registers import CpuidTable, Registers
from staleline.evidence.snapshot import Snapshot
from staleline.facts.fact import Fact, Layer
from staleline.facts.observation import (
    DUMP_AGAIN,
    Observation,
    first_told,
    merged_observation,
    observed_as,
    untold,
)
from staleline.facts.told.log import of_log
from staleline.facts.told.stated import stated
from staleline.hardware import HYPERVISOR_LEAF, HYPERVISORS
from staleline.printable import printable

__all__ = [
    "HYPERVISOR_LEAF",
    "WHICH_HYPERVISOR",
    "hypervisor_facts",
    "hypervisor_name",
    "names_itself",
    "signatures",
]

#: Where nothing tells of one or of its name.
WHICH_HYPERVISOR = (
    f"which hypervisor this runs under was not read: {DUMP_AGAIN}, or give "
    "--state hypervisor=none, or its name such as --state hypervisor=kvm"
)
#: Those whose guests change machine_ops or smp_ops at boot (linux 7.3.4
#: arch/x86/kernel/{kvm,jailhouse}.c, kernel/cpu/{mshyperv,vmware}.c, xen/enlighten_hvm.c).
_OWN_WAYS = tuple(
    raw
    for raw, name in HYPERVISORS.items()
    if name in {"KVM", "VMware", "Hyper-V", "Xen", "Jailhouse"}
)
#: What no hypervisor calls itself.
_UNKNOWN = b"\0" * 12
#: Those below which every kernel is a guest: none of them is replaced by a kexec.
_BELOW = frozenset({"KVM", "QEMU", "VMware", "VirtualBox", "bhyve"})
#: Its driver enables it in a machine that runs, below the kernel, whose CPUID then has it
#: (jailhouse 0.12 driver/main.c jailhouse_cmd_enable()).
_JAILHOUSE = "jailhouse"
_MAY_BE_CELL = (
    "whether Jailhouse, of which the evidence tells, is enabled and jumps instead of the kernel: "
    "rmmod jailhouse, and look again"
)
_HYPERV_PRIVILEGES = HYPERVISOR_LEAF + 3
#: EBX of that leaf, Linux 7.3 include/hyperv/hvgdk_mini.h HV_CREATE_PARTITIONS and
#: HV_CPU_MANAGEMENT, which releases up to 6.12 take for the root's.
_ROOT = 1 << 0 | 1 << 12
#: The same, HV_ISOLATION (hvgdk_mini.h:307).
_ISOLATION = 1 << 22


def hypervisor_facts(snapshot: Snapshot, hypervisor: Observation) -> Iterator[Fact]:
    """Its name, and who jumps.

    Args:
        snapshot: The evidence.
        hypervisor: What is known of there being one.
    """
    name = _name(snapshot, hypervisor)
    yield name.fact("hypervisor_name", Layer.IDENTITY, "hypervisor that it runs under")
    yield _jumped_by(snapshot, hypervisor, name).fact(
        "jumped_by", Layer.KERNEL, "who jumps into the next kernel"
    )
    yield _isolated(snapshot, hypervisor, name).fact(
        "isolated", Layer.FIRMWARE, "Hyper-V keeps this guest's memory from the host"
    )


def _name(snapshot: Snapshot, hypervisor: Observation) -> Observation:
    if hypervisor.value is False:
        return observed_as("none", hypervisor.source or "")
    signature = merged_observation(
        (_signature(cpu.cpuid) for cpu in snapshot.cpus),
        WHICH_HYPERVISOR,
    )
    # Linux looks for more than the first signature: KVM and Xen may show Hyper-V's there as well
    # (7.3.4 arch/x86/include/asm/cpuid/api.h cpuid_base_hypervisor()).
    return first_told(
        (*of_log(snapshot, "hypervisor_name"), signature, *stated("hypervisor_name", snapshot, str))
    )


def hypervisor_name(snapshot: Snapshot) -> str | None:
    """Of a guest: its hypervisor, where log, CPUID or tools name one."""
    # Asked of machines that are taken for guests, so a bit that says otherwise is left aside.
    name = _name(snapshot, observed_as(True, "it is a guest")).value
    return name if isinstance(name, str) else None


def signatures(name: str | None) -> list[Registers]:
    """Leaf 0x40000000 of the hypervisor of this name."""
    if name is None:
        # All for which kernels have a way of their own into the next one, and one that none of them
        # knows.
        return [_signature_leaf(raw) for raw in (*_OWN_WAYS, _UNKNOWN)]
    known = [raw for raw, known in HYPERVISORS.items() if known == name]
    return [_signature_leaf(raw) for raw in known or [_UNKNOWN]]


def _signature_leaf(raw: bytes) -> Registers:
    ebx, ecx, edx = (int.from_bytes(raw[at : at + 4], "little") for at in (0, 4, 8))
    return HYPERVISOR_LEAF, ebx, ecx, edx


def names_itself(cpuid: CpuidTable) -> bool:
    """Does a known hypervisor answer, as it may although it hides its bit of leaf 1?"""
    # No CPU has the leaf: AMD's and Intel's answer with zeros or with their highest basic leaf.
    return _signature(cpuid).value is not None


def _signature(cpuid: CpuidTable) -> Observation:
    raw = cpuid.hypervisor_signature
    if raw is None:
        return untold(f"CPUID leaf {HYPERVISOR_LEAF:#010x}, the hypervisor's name: {DUMP_AGAIN}")
    name = HYPERVISORS.get(raw)
    if name is None:
        return untold(f"the hypervisor calls itself {_shown(raw)}, which is not known to staleline")
    return observed_as(name, f"CPUID {HYPERVISOR_LEAF:#010x}")


def _shown(raw: bytes) -> str:
    """A name as people write it; hypervisors fill up with zeros, and some leave it out."""
    name = raw.rstrip(b"\0")
    return f'"{printable(name.decode("latin-1"))}"' if name else "nothing at all"


def _jumped_by(snapshot: Snapshot, hypervisor: Observation, name: Observation) -> Observation:
    # Log and lscpu name dom0 and root partitions; CPUID may be that of the machine.
    said = (*of_log(snapshot, "jumped_by"), *stated("jumped_by", snapshot, str))
    if said:
        return said[0]
    if _JAILHOUSE in (snapshot.modules or {}) and name.value != "Jailhouse":
        return untold(_MAY_BE_CELL)
    if hypervisor.value is False:
        return observed_as("kernel", hypervisor.source or "")
    # Any other name may be that of one which the kernel is run from, as Xen's dom0 is.
    if name.value in _BELOW:
        return observed_as("kernel", f"{name.source}: {name.value} has guests only")
    if name.value == "Jailhouse":
        return observed_as("jailhouse", name.source or "")
    if name.value == "Hyper-V":
        return merged_observation((_root_partition(cpu.cpuid) for cpu in snapshot.cpus), DUMP_AGAIN)
    if name.value is None:
        return untold(name.missing or "")
    return untold(
        f"whether this is a guest of {name.value} or the kernel that {name.value} is run from: "
        "give the kernel log (dmesg)"
    )


def _root_partition(cpuid: CpuidTable) -> Observation:
    """As Linux tells it: 7.3 drivers/hv/hv_common.c:754, 6.12.117 kernel/cpu/mshyperv.c:468."""
    leaf = cpuid.recorded(_HYPERV_PRIVILEGES)
    if leaf is None:
        return untold(f"CPUID leaf {_HYPERV_PRIVILEGES:#010x} is not recorded: {DUMP_AGAIN}")
    # Either privilege: an isolated guest may be given both, and is no root all the same.
    root = leaf[1] & _ROOT and not leaf[1] & _ISOLATION
    source = f"CPUID {_HYPERV_PRIVILEGES:#010x} EBX[12] and EBX[0]"
    return observed_as("hyper-v" if root else "kernel", source)


def _isolated(snapshot: Snapshot, hypervisor: Observation, name: Observation) -> Observation:
    if hypervisor.value is False:
        return observed_as(False, hypervisor.source or "")
    if name.value is not None and name.value != "Hyper-V":
        return observed_as(False, name.source or "")
    # CPUID first, as the kernel asks it; the log's line may have been lost from its ring.
    by_cpuid = merged_observation((_isolation(cpu.cpuid) for cpu in snapshot.cpus), DUMP_AGAIN)
    return first_told((by_cpuid, *of_log(snapshot, "isolated")))


def _isolation(cpuid: CpuidTable) -> Observation:
    """As Linux 7.3.4 arch/x86/hyperv/ivm.c:904 hv_get_isolation_type() asks first."""
    leaf = cpuid.recorded(_HYPERV_PRIVILEGES)
    if leaf is None:
        return untold(f"CPUID leaf {_HYPERV_PRIVILEGES:#010x} is not recorded: {DUMP_AGAIN}")
    # What kind it is, leaf 0x4000000C tells; private and shared pages every kind has.
    return observed_as(bool(leaf[1] & _ISOLATION), f"CPUID {_HYPERV_PRIVILEGES:#010x} EBX[22]")
