# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a machine's kernel log agrees with itself, its registers and its stated kernel state."""

from __future__ import annotations

from collections.abc import Iterator

from staleline.evidence.log import kernel_log
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import CpuEvidence, Snapshot
from staleline.hardware import ENCRYPTION_LEAF, SEV_STATUS, SYSCFG, TDX_KEYIDS, TME_ACTIVATE

__all__ = ["LogClash", "log_clashes", "shown_by_log", "shown_features", "shown_identity"]

#: Kind of contradiction, and two fields that cannot both be as they are, with what each says.
LogClash = tuple[str, tuple[str, str], tuple[str, str]]

#: Fact -> leaf, register and bit of it, sub-leaf 0.
_CPUID_BITS = {
    "hypervisor": (1, 2, 31),
    "tme": (7, 2, 13),
    "sme": (ENCRYPTION_LEAF, 0, 0),
    "sev": (ENCRYPTION_LEAF, 0, 1),
    "sev_es": (ENCRYPTION_LEAF, 0, 3),
    "sev_snp": (ENCRYPTION_LEAF, 0, 4),
}
#: Fact -> MSR, lowest bit and mask.
_MSR_BITS = {
    "sev_guest": (SEV_STATUS, 0, 1),
    "sev_es_guest": (SEV_STATUS, 1, 1),
    "snp_guest": (SEV_STATUS, 2, 1),
    "sme_enabled": (SYSCFG, 23, 1),
    "snp_enabled": (SYSCFG, 24, 1),
    "tme_enabled": (TME_ACTIVATE, 1, 1),
    "tme_keyid_bits": (TME_ACTIVATE, 32, 0xF),
    "tdx_keyids": (TDX_KEYIDS, 32, 0xFFFF_FFFF),
}
_STATED = ("sme_active", "tdx_module", "sev_guests_run", "tsme")
_SIGNATURE = ("family", "model", "stepping")


def log_clashes(snapshot: Snapshot) -> Iterator[LogClash]:
    """What the log of `snapshot` says that something else in it denies."""
    for fact, first, second in kernel_log.told_twice(snapshot.log):
        yield (
            "log-against-log",
            ("log", f"says {fact} is {first.value!r} ({first.line})"),
            ("log", f"says {fact} is {second.value!r} ({second.line})"),
        )
    registers = _registers(snapshot)
    # Some wordings prove what they prove on one vendor's CPUs only.
    vendor = str(registers["vendor"][1]) if "vendor" in registers else None
    told = kernel_log.told(snapshot.log, snapshot.kernel.release, vendor)
    for name in _STATED:
        stated = getattr(snapshot.state, name)
        if stated is not None and name in told and stated != told[name].value:
            yield (
                "state-against-log",
                (f"state.{name}", f"is {stated!r}"),
                ("log", f"says {told[name].value!r}"),
            )
    for name, (field, value) in registers.items():
        said = told.get(name)
        # Where the kernel knows better than CPUID as a process reads it, both may be right
        # (wordings.toml, `unlike`).
        if said is not None and not said.unlike_registers and said.value != value:
            yield (
                "log-against-registers",
                ("log", f"says {name} is {said.value!r} ({said.line})"),
                (field, f"says {value!r}"),
            )
    yield from _of_another_vendor(snapshot, registers)


def _of_another_vendor(
    snapshot: Snapshot, registers: dict[str, tuple[str, object]]
) -> Iterator[LogClash]:
    field, vendor = registers.get("vendor", ("", None))
    for wording, message in () if vendor is None else kernel_log.spoken(snapshot.log):
        if wording.vendors and vendor not in wording.vendors:
            only = " or ".join(sorted(wording.vendors))
            yield (
                "log-against-registers",
                ("log", f'holds "{message}", which needs a CPU of {only}'),
                (field, f"says {vendor!r}"),
            )


def _registers(snapshot: Snapshot) -> dict[str, tuple[str, object]]:
    """Fact -> the field that shows it, and its value: of the first CPU, as the log's are."""
    if not snapshot.cpus:
        return _cpuinfo(snapshot)
    cpu = snapshot.cpus[0]
    return {**_cpuinfo(snapshot), **dict(_of_cpuid(cpu.cpuid)), **dict(_of_msrs(cpu))}


def shown_identity(snapshot: Snapshot) -> dict[str, tuple[str, object]]:
    """Vendor, family, model and stepping as registers, /proc/cpuinfo or the log show them.

    Each with the field that shows it; what none shows is left out.
    """
    by_log = {
        name: ("log", said.value)
        for name, said in kernel_log.told(snapshot.log, snapshot.kernel.release).items()
    }
    shown = {**by_log, **_registers(snapshot)}
    return {name: shown[name] for name in ("vendor", *_SIGNATURE) if name in shown}


def shown_features(snapshot: Snapshot) -> dict[str, tuple[str, object]]:
    """What registers show of features and guests, of the first CPU that does, with the field."""
    shown = _registers(snapshot)
    for number, cpu in enumerate(snapshot.cpus[1:], 1):
        for name, (field, value) in (*_of_cpuid(cpu.cpuid), *_of_msrs(cpu)):
            if name not in ("vendor", *_SIGNATURE):
                shown.setdefault(name, (field.replace("cpus[0]", f"cpus[{number}]"), value))
    # A hypervisor is none of it: other things than its bit tell of one that hides the bit.
    return {name: at for name, at in shown.items() if name != "hypervisor"}


def shown_by_log(snapshot: Snapshot, vendor: object) -> dict[str, tuple[str, object]]:
    """What the log proves of the registers of a CPU of `vendor`, a hypervisor's bit left out."""
    known = vendor if isinstance(vendor, str) else None
    told = kernel_log.told(snapshot.log, snapshot.kernel.release, known)
    return {
        name: ("log", said.value)
        for name, said in told.items()
        if name != "hypervisor" and not said.unlike_registers
    }


def _cpuinfo(snapshot: Snapshot) -> dict[str, tuple[str, object]]:
    named = ("vendor", *_SIGNATURE)
    return {
        name: (f"cpuinfo.{name}", value)
        for name in named
        if (value := getattr(snapshot.cpuinfo, name, None)) is not None
    }


def _of_cpuid(cpuid: CpuidTable) -> Iterator[tuple[str, tuple[str, object]]]:
    if cpuid.vendor is not None:
        yield "vendor", ("cpus[0].cpuid.0x00000000:0", cpuid.vendor)
    if (decoded := cpuid.family_model_stepping) is not None:
        for name, value in zip(_SIGNATURE, decoded, strict=True):
            yield name, ("cpus[0].cpuid.0x00000001:0", value)
    if (is_tdx_guest := cpuid.is_tdx_guest) is not None:
        yield "tdx_guest", ("cpus[0].cpuid.0x00000021:0", is_tdx_guest)
    for name, (leaf, register, bit) in _CPUID_BITS.items():
        if (registers := cpuid.recorded(leaf)) is not None:
            field = f"cpus[0].cpuid.{leaf:#010x}:0 {('EAX', 'EBX', 'ECX', 'EDX')[register]}[{bit}]"
            yield name, (field, bool(registers[register] >> bit & 1))


def _of_msrs(cpu: CpuEvidence) -> Iterator[tuple[str, tuple[str, object]]]:
    for name, (number, low, mask) in _MSR_BITS.items():
        if (value := cpu.msr.get(number)) is not None:
            bits = value >> low & mask
            yield name, (f"cpus[0].msr.{number:#x}", bool(bits) if mask == 1 else bits)
