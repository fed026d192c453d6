# SPDX-License-Identifier: GPL-2.0-or-later
"""Contradictions in evidence: two observations that cannot both be of one machine.

Each has a stable id (contradictions.toml) and names both fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields

from staleline.evidence.commandline import (
    decompressor_sees_on,
    efi_stub_choice,
    encoded,
    startup_choice,
)
from staleline.evidence.contradiction import Contradiction, raise_if_any
from staleline.evidence.log import kernel_log
from staleline.evidence.log.log_consistency import (
    log_clashes,
    shown_by_log,
    shown_features,
    shown_identity,
)
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import (
    CpuEvidence,
    CpuinfoEvidence,
    KernelEvidence,
    Snapshot,
    StateEvidence,
    Statement,
)
from staleline.evidence.statements import shown_otherwise
from staleline.hardware import AMD_AND_HYGON
from staleline.pattern import Pattern

__all__ = [
    "contradictions",
    "contradictions_between",
    "require_consistent",
]

_SME_LEAF = 0x8000_001F
_EXTENDED_BASE = 0x8000_0000
_SYSCFG = 0xC001_0010
_KEYID_PARTITIONING = 0x87
_TME_ACTIVATE = 0x982
_SEV_STATUS = 0xC001_0131
_REGISTERS = ("EAX", "EBX", "ECX", "EDX")
_HYPERVISOR = 1 << 31
_REPEATS_VENDOR = frozenset({"AuthenticAMD", "HygonGenuine"})
#: /proc/cpuinfo flag -> leaf, register and bit that Linux copies it from and never sets
#: without (arch/x86/include/asm/cpufeatures.h words 0, 4, 13, 16, 18 and 19).
_COPIED_FLAGS = {
    "hypervisor": (1, 2, 31),
    "movdir64b": (7, 2, 28),
    "pconfig": (7, 3, 18),
    "sev": (_SME_LEAF, 0, 1),
    "sev_es": (_SME_LEAF, 0, 3),
    "sev_snp": (_SME_LEAF, 0, 4),
    "sme": (_SME_LEAF, 0, 0),
    "ss": (1, 3, 27),
    "tme": (7, 2, 13),
    "wbnoinvd": (0x8000_0008, 1, 9),
}
#: Bits that a verdict asks for and that all CPUs of a machine share: leaf, register, bit.
#: Others differ on real machines: EDX of leaf 0x8000001F (the lowest ASID without SEV-ES), EBX of
#: leaf 1 and topology leaves by design, and steppings may be mixed.
_ALIKE = {
    "SEV": (_SME_LEAF, 0, 1),
    "SNP": (_SME_LEAF, 0, 4),
    "eviction not needed": (_SME_LEAF, 1, 31),
    "hypervisor": (1, 2, 31),
    "MONITOR": (1, 2, 3),
    "TME": (7, 2, 13),
}
_ALIKE_REGISTERS = {
    _SYSCFG: "SYSCFG",
    _SEV_STATUS: "SEV_STATUS",
    _KEYID_PARTITIONING: "KeyIDs",
    _TME_ACTIVATE: "TME_ACTIVATE",
}
_INTEL = frozenset({"GenuineIntel"})
#: (MSR, bits, vendors that define them, CPUID bits of which one has to be there).
_NEEDS_FEATURE = (
    (_SYSCFG, 1 << 23, _REPEATS_VENDOR, ((_SME_LEAF, 0, 0), (_SME_LEAF, 0, 1))),
    # SecureNestedPagingEn (linux 6.12.117 arch/x86/kernel/cpu/amd.c:354).
    (_SYSCFG, 1 << 24, _REPEATS_VENDOR, ((_SME_LEAF, 0, 4),)),
    (_KEYID_PARTITIONING, (1 << 64) - 1, _INTEL, ((7, 2, 13),)),
    (_TME_ACTIVATE, (1 << 64) - 1, _INTEL, ((7, 2, 13),)),
)
#: MSR, vendors, and features of which one says that it is there.
_ALWAYS_THERE = (
    (_SYSCFG, _REPEATS_VENDOR, ((_SME_LEAF, 0, 0), (_SME_LEAF, 0, 1))),
    (_TME_ACTIVATE, _INTEL, ((7, 2, 13),)),
)
_FLAGS_OF_VENDORS = (
    (frozenset({"sme", "sev", "sev_es", "sev_snp"}), _REPEATS_VENDOR),
    (frozenset({"tme", "pconfig", "tdx_host_platform", "tdx_guest"}), _INTEL),
)


def require_consistent(snapshot: Snapshot, where: str | None) -> None:
    """Check `snapshot`, read from `where`; None if the user has added to it.

    Raises:
        ContradictionError: Two fields contradict each other; both are named.
    """
    raise_if_any(contradictions(snapshot), where, snapshot.host)


def contradictions(snapshot: Snapshot) -> tuple[Contradiction, ...]:
    """The contradictions inside `snapshot`, once for all CPUs that show the same one."""
    return _once(found for check in _CHECKS for found in check(snapshot))


def contradictions_between(first: Snapshot, second: Snapshot) -> tuple[Contradiction, ...]:
    """The contradictions between two sources that are to be of one machine, likewise."""
    return _once(_between(first, second))


def _once(found: Iterable[Contradiction]) -> tuple[Contradiction, ...]:
    kept: dict[tuple[str, ...], Contradiction] = {}
    for one in found:
        kept.setdefault((one.id, *(_CPU.sub("", field) for field in one.fields)), one)
    return tuple(kept.values())


_CPU = Pattern(r"^cpus\[[0-9]+\]")
_Found = Iterator[Contradiction]


def _clash(kind: str, first: tuple[str, str], second: tuple[str, str]) -> Contradiction:
    """Two fields that cannot both be as they are, each with what it says."""
    what = " and ".join(f"{field} {says}" for field, says in (first, second))
    return Contradiction(kind, what, (first[0], second[0]))


def _cpus_agree(snapshot: Snapshot) -> _Found:
    observed: tuple[tuple[str, str, str, Callable[[CpuidTable], object]], ...] = (
        ("two-vendors", "0x00000000:0", "vendor", lambda cpuid: cpuid.vendor),
        (
            "cpus-differ-in-sme",
            "0x8000001f:0 EAX[0]",
            "SME",
            lambda cpuid: _bit(cpuid, _SME_LEAF, 0, 0),
        ),
        (
            "cpus-differ-in-coherency",
            "0x8000001f:0 EAX[10]",
            "coherency enforced",
            lambda cpuid: _bit(cpuid, _SME_LEAF, 0, 10),
        ),
        (
            "cpus-differ-in-cbit-position",
            "0x8000001f:0 EBX[5:0]",
            "C-bit position",
            _cbit_position,
        ),
        *(
            ("cpus-differ", f"{leaf:#010x}:0 {_REGISTERS[register]}[{bit}]", name, _asks(*at))
            for name, at in _ALIKE.items()
            for leaf, register, bit in (at,)
        ),
        *(
            ("cpus-differ", f"{base:#010x}:0", "highest leaf", _asks_maximum(base))
            for base in (0, _EXTENDED_BASE)
        ),
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
            yield _clash(kind, first, second)


def _asks(leaf: int, register: int, bit: int) -> Callable[[CpuidTable], object]:
    return lambda cpuid: _bit(cpuid, leaf, register, bit)


def _asks_maximum(base: int) -> Callable[[CpuidTable], object]:
    return lambda cpuid: cpuid.max_extended_leaf if base else cpuid.max_basic_leaf


def _registers_agree(snapshot: Snapshot) -> _Found:
    """Firmware sets these alike on every CPU; a kernel takes the first CPU's for all."""
    for number, name in _ALIKE_REGISTERS.items():
        read = [(i, cpu.msr[number]) for i, cpu in enumerate(snapshot.cpus) if number in cpu.msr]
        other = next(((i, value) for i, value in read if value != read[0][1]), None)
        if other is not None:
            first, second = (
                (f"cpus[{i}].msr.{number:#x}", f"({name}) is {value:#x}")
                for i, value in (read[0], other)
            )
            yield _clash("cpus-differ", first, second)


def _registers_have_features(snapshot: Snapshot) -> _Found:
    """Bits that are reserved on a CPU without the feature; under a hypervisor CPUID hides it."""
    for i, cpu in enumerate(snapshot.cpus):
        if not _on_bare_metal(cpu.cpuid):
            continue
        for number, mask, vendors, features in _NEEDS_FEATURE:
            # What a dump does not tell is not lacking.
            lacks = all(_bit(cpu.cpuid, *feature) is False for feature in features)
            if cpu.cpuid.vendor in vendors and cpu.msr.get(number, 0) & mask and lacks:
                leaf = features[0][0]
                yield _clash(
                    "register-without-feature",
                    (f"cpus[{i}].msr.{number:#x}", f"is {cpu.msr[number]:#x}"),
                    (f"cpus[{i}].cpuid.{leaf:#010x}:0", "says that the CPU lacks the feature"),
                )
        status = cpu.msr.get(_SEV_STATUS, 0)
        # SEV, SEV-ES and SNP, as a guest has them (AMD APM volume 2, 15.34.10).
        if cpu.cpuid.vendor in _REPEATS_VENDOR and status & 7:
            yield _clash(
                "register-without-feature",
                (f"cpus[{i}].msr.{_SEV_STATUS:#x}", f"is {status:#x}, as in a SEV guest"),
                (f"cpus[{i}].cpuid.0x00000001:0 ECX[31]", "says that this is no guest"),
            )


def _features_have_registers(snapshot: Snapshot) -> _Found:
    """Registers that Linux reads unguarded where CPUID shows their feature.

    Linux 6.12.118 arch/x86/kernel/cpu/amd.c early_detect_mem_encrypt(), intel.c:195
    detect_tme_early(). That a tool could not read one, under lockdown for instance, is no fault.
    """
    for i, cpu in enumerate(snapshot.cpus):
        if not _on_bare_metal(cpu.cpuid):
            continue
        for number, vendors, features in _ALWAYS_THERE:
            feature = next((at for at in features if _bit(cpu.cpuid, *at)), None)
            if cpu.cpuid.vendor in vendors and number in cpu.msr_faults and feature is not None:
                leaf, register, bit = feature
                yield _clash(
                    "feature-without-register",
                    (f"cpus[{i}].msr.{number:#x}", "does not exist"),
                    (f"cpus[{i}].cpuid.{leaf:#010x}:0 {_REGISTERS[register]}[{bit}]", "is set"),
                )


def _flags_have_vendor(snapshot: Snapshot) -> _Found:
    cpuinfo = snapshot.cpuinfo or CpuinfoEvidence()
    for flags, vendors in _FLAGS_OF_VENDORS:
        for flag in sorted(flags & cpuinfo.flags):
            if cpuinfo.vendor is not None and cpuinfo.vendor not in vendors:
                said = ("cpuinfo.vendor", f"is {cpuinfo.vendor!r}")
                yield _clash("flag-of-another-vendor", ("cpuinfo.flags", f"holds {flag!r}"), said)


def _state_fits(snapshot: Snapshot) -> _Found:
    state = snapshot.state
    by_peak = kernel_log.by_peak(state.guest_ids_peak)
    if None not in (by_peak, state.sev_guests_run) and by_peak != state.sev_guests_run:
        said = ("state.sev_guests_run", f"is {state.sev_guests_run}")
        yield _clash("state-against-peak", said, ("state.guest_ids_peak", f"says {by_peak}"))
    cpuinfo = snapshot.cpuinfo or CpuinfoEvidence()
    vendors = {cpuinfo.vendor, *(cpu.cpuid.vendor for cpu in snapshot.cpus)} - {None}
    if state.tsme and vendors and not vendors & _REPEATS_VENDOR:
        yield _clash(
            "tsme-without-amd",
            ("state.tsme", "is true"),
            ("vendor", f"is {sorted(map(str, vendors))[0]!r}"),
        )


def _vendor_is_repeated(snapshot: Snapshot) -> _Found:
    for i, cpu in enumerate(snapshot.cpus):
        repeated = cpu.cpuid.recorded(_EXTENDED_BASE)
        again = None if repeated is None else CpuidTable({(0, 0): repeated}).vendor
        vendor = cpu.cpuid.vendor
        # Intel's CPUs keep these registers reserved (SDM, CPUID 80000000H).
        if vendor is not None and again in _REPEATS_VENDOR and again != vendor:
            yield _clash(
                "two-vendors",
                (f"cpus[{i}].cpuid.0x00000000:0", f"(vendor) is {vendor!r}"),
                (f"cpus[{i}].cpuid.0x80000000:0", f"(vendor) is {again!r}"),
            )


def _beyond_maximum_follows_vendor(snapshot: Snapshot) -> _Found:
    """Data in leaf 0x8000001F beyond the maximum that the vendor's rule excludes.

    Only leaf 0x8000001F: AMD CPUs are known to answer at other leaves beyond their
    maximum (0x8FFFFFFF). Hypervisors make rules of their own. Zeros are let pass, as
    dump tools fill in zeros.
    """
    for i, cpu in enumerate(snapshot.cpus):
        maximum = cpu.cpuid.max_extended_leaf
        recorded = cpu.cpuid.recorded(_SME_LEAF)
        expected = cpu.cpuid.read(_SME_LEAF)
        if maximum is None or maximum >= _SME_LEAF or recorded is None or expected is None:
            continue
        if any(recorded) and recorded[0] != expected[0] and _on_bare_metal(cpu.cpuid):
            answers = f"where {cpu.cpuid.vendor} answers EAX={expected[0]:#010x}"
            yield _clash(
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
    return leaf is not None and not leaf[2] & _HYPERVISOR


def _cpuinfo_agrees(snapshot: Snapshot) -> _Found:
    if snapshot.cpuinfo is None or not snapshot.cpus:
        return
    cpuid, cpuinfo = snapshot.cpus[0].cpuid, snapshot.cpuinfo
    if None not in (cpuid.vendor, cpuinfo.vendor) and cpuid.vendor != cpuinfo.vendor:
        yield _clash(
            "two-cpu-models",
            ("cpuinfo.vendor", f"is {cpuinfo.vendor!r}"),
            ("cpus[0].cpuid.0x00000000:0", f"says {cpuid.vendor!r}"),
        )
    # Mixed steppings: cpuinfo is of the first CPU, as cpus[0] is.
    if cpuid.family_model_stepping is None:
        return
    named = zip(("family", "model", "stepping"), cpuid.family_model_stepping, strict=True)
    for name, of_cpuid in named:
        of_cpuinfo = getattr(cpuinfo, name)
        if of_cpuinfo is not None and of_cpuinfo != of_cpuid:
            yield _clash(
                "two-cpu-models",
                (f"cpuinfo.{name}", f"is {of_cpuinfo}"),
                ("cpus[0].cpuid.0x00000001:0", f"says {name} {of_cpuid}"),
            )


def _flags_have_hardware(snapshot: Snapshot) -> _Found:
    cpuinfo = snapshot.cpuinfo or CpuinfoEvidence()
    # It sets flags that hardware has not (7.3.4 arch/x86/kernel/cpu/common.c:1776).
    forced = "setcpuid=" in (snapshot.kernel.cmdline or "")
    for i, cpu in () if forced else enumerate(snapshot.cpus):
        for flag, (leaf, register, bit) in _COPIED_FLAGS.items():
            if flag in cpuinfo.flags and _bit(cpu.cpuid, leaf, register, bit) is False:
                name = f"{_REGISTERS[register]}[{bit}]"
                yield _clash(
                    "flag-without-hardware",
                    ("cpuinfo.flags", f"holds {flag!r}"),
                    (f"cpus[{i}].cpuid.{leaf:#010x}:0 {name}", "is clear"),
                )


def _sme_active_is_possible(snapshot: Snapshot) -> _Found:
    if not snapshot.state.sme_active:
        return
    said = ("state.sme_active", "is true")
    if (snapshot.kernel.config or {}).get("CONFIG_AMD_MEM_ENCRYPT") == "n":
        option = ("kernel.config.CONFIG_AMD_MEM_ENCRYPT", "is 'n'")
        yield _clash("sme-active-without-support", said, option)
    for i, cpu in enumerate(snapshot.cpus):
        # Either bit is enough for sme_enable() (6.12.118 arch/x86/mm/mem_encrypt_identity.c).
        if all(_bit(cpu.cpuid, _SME_LEAF, 0, bit) is False for bit in (0, 1)):
            leaf = (f"cpus[{i}].cpuid.0x8000001f:0 EAX[0]", "says no SME, nor EAX[1] SEV")
            yield _clash("sme-active-without-sme", said, leaf)
        syscfg = cpu.msr.get(_SYSCFG)
        # On bare metal sme_enable() ends there (6.12.117 arch/x86/mm/mem_encrypt_identity.c:560).
        if syscfg is not None and not syscfg >> 23 & 1:
            register = (f"cpus[{i}].msr.0xc0010010", "bit 23 is clear")
            yield _clash("sme-active-without-syscfg", said, register)


def _log_agrees(snapshot: Snapshot) -> _Found:
    for kind, first, second in log_clashes(snapshot):
        yield _clash(kind, first, second)


def _guests_are_possible(snapshot: Snapshot) -> _Found:
    for i, cpu in enumerate(snapshot.cpus):
        if snapshot.state.sev_guests_run and _bit(cpu.cpuid, _SME_LEAF, 0, 1) is False:
            yield _clash(
                "sev-guests-without-sev",
                ("state.sev_guests_run", "is true"),
                (f"cpus[{i}].cpuid.0x8000001f:0 EAX[1]", "says no SEV"),
            )


def _tdx_is_possible(snapshot: Snapshot) -> _Found:
    state = snapshot.state
    if state.seamcalled_cpus and state.tdx_module in kernel_log.WITHOUT_SEAMCALLS:
        yield _clash(
            "seamcalls-without-tdx",
            ("state.seamcalled_cpus", f"holds {state.seamcalled_cpus[0]}"),
            ("state.tdx_module", f"is {state.tdx_module!r}"),
        )
    if snapshot.state.tdx_module != "initialized":
        return
    said = ("state.tdx_module", "is 'initialized'")
    for i, cpu in enumerate(snapshot.cpus):
        if cpu.cpuid.vendor not in (None, "GenuineIntel"):
            vendor = (f"cpus[{i}].cpuid.0x00000000:0", f"says {cpu.cpuid.vendor!r}")
            yield _clash("tdx-without-intel", said, vendor)
        partitioning = cpu.msr.get(_KEYID_PARTITIONING)
        # One is the module's own (6.12.117 arch/x86/virt/vmx/tdx/tdx.c:1455).
        if partitioning is not None and partitioning >> 32 < 2:
            keys = (f"cpus[{i}].msr.0x87", f"gives TDX {partitioning >> 32} KeyIDs")
            yield _clash("tdx-without-keys", said, keys)


_UNTOLD = ("", None)
#: What no other CPU has (`staleline.verdict.machines.exclusions`).
_OF_AMD = frozenset({"sme", "sev", "sev_es", "sev_snp", "sme_enabled", "snp_enabled"})


def _statements_agree(snapshot: Snapshot) -> _Found:
    said: dict[str, Statement] = {}
    for statement in snapshot.statements:
        first = said.setdefault(statement.name, statement)
        if first.value != statement.value:
            yield _clash("told-otherwise", *(_said(one) for one in (first, statement)))
    if "several_cpus" in said and not said["several_cpus"].value:
        for field, count in shown_otherwise(snapshot, "cpus", 1):
            yield _clash("told-otherwise", _said(said["several_cpus"]), (field, f"shows {count}"))
    identity = shown_identity(snapshot)
    vendor_field, vendor = identity.get("vendor", ("", None))
    shown = {**shown_by_log(snapshot, vendor), **identity, **shown_features(snapshot)}
    # What CPUs tell otherwise than each other is a contradiction by itself: any that tells will do.
    for number, cpu in enumerate(snapshot.cpus):
        told = _told_by_registers(number, cpu)
        shown |= {name: one for name, one in told.items() if shown.get(name, _UNTOLD)[1] is None}
    of_cpus = (
        (f"cpus[{i}].cpuid.0x00000000:0", cpu.cpuid.vendor) for i, cpu in enumerate(snapshot.cpus)
    )
    named = next((told for told in ((vendor_field, vendor), *of_cpus) if told[1]), ("", None))
    yield from _of_another_vendor(said, named, tsme=snapshot.state.tsme)
    for name, (field, value) in shown.items():
        if value is not None and name in said and said[name].value != value:
            yield _clash("told-otherwise", _said(said[name]), (field, f"says {value!r}"))


def _of_another_vendor(
    said: Mapping[str, Statement], shown: tuple[str, object], *, tsme: bool | None
) -> _Found:
    field, vendor = shown
    by = (field, f"says {vendor!r}")
    # What was said counts first: that it is not what is shown is told for itself.
    if "vendor" in said:
        vendor, by = said["vendor"].value, _said(said["vendor"])
    if vendor is None or vendor in AMD_AND_HYGON:
        return
    for name in sorted(_OF_AMD & said.keys()):
        if said[name].value is True:
            yield _clash("told-otherwise", _said(said[name]), by)
    if tsme and "vendor" in said:
        yield _clash("told-otherwise", ("state.tsme", "is true"), by)


def _said(statement: Statement) -> tuple[str, str]:
    return f"statements.{statement.name}", f"is {statement.value!r} by {statement.source}"


def _told_by_registers(number: int, cpu: CpuEvidence) -> dict[str, tuple[str, object]]:
    bits = {"sme": 0, "sev": 1, "sev_es": 3, "sev_snp": 4}
    syscfg = cpu.msr.get(_SYSCFG)
    return {
        **{
            name: (
                f"cpus[{number}].cpuid.0x8000001f:0 EAX[{bit}]",
                _bit(cpu.cpuid, _SME_LEAF, 0, bit),
            )
            for name, bit in bits.items()
        },
        **{
            name: (
                f"cpus[{number}].msr.0xc0010010 bit {bit}",
                None if syscfg is None else bool(syscfg >> bit & 1),
            )
            for name, bit in (("sme_enabled", 23), ("snp_enabled", 24))
        },
    }


def _cpus_are_online(snapshot: Snapshot) -> _Found:
    online, read = snapshot.state.online_cpus, len(snapshot.cpus)
    if online is not None and read > online:
        yield _clash(
            "more-cpus-than-online",
            ("cpus", f"holds {read} CPUs"),
            ("state.online_cpus", f"is {online}"),
        )


_CHECKS: tuple[Callable[[Snapshot], _Found], ...] = (
    _cpus_agree,
    _cpus_are_online,
    _vendor_is_repeated,
    _beyond_maximum_follows_vendor,
    _cpuinfo_agrees,
    _flags_have_hardware,
    _sme_active_is_possible,
    _guests_are_possible,
    _tdx_is_possible,
    _registers_have_features,
    _features_have_registers,
    _flags_have_vendor,
    _state_fits,
    _statements_agree,
    _log_agrees,
)


def _between(first: Snapshot, second: Snapshot) -> _Found:
    if first.cpus and second.cpus:
        pair = [machine.cpus[0].cpuid for machine in (first, second)]
        names = [(cpuid.vendor, cpuid.family_model_stepping) for cpuid in pair]
        # What one of them does not tell is no contradiction.
        if any(None not in two and two[0] != two[1] for two in zip(*names, strict=True)):
            what = f"CPUID says {names[0]} and {names[1]}"
            leaves = ("cpus[0].cpuid.0x00000000:0", "cpus[0].cpuid.0x00000001:0")
            yield Contradiction("two-cpu-models", what, leaves)
    for name in ("vendor", "family", "model", "stepping"):
        yield from _differ("two-cpu-models", "cpuinfo", name, first.cpuinfo, second.cpuinfo)
    for name in ("release", "build_id"):
        yield from _differ("two-kernels", "kernel", name, first.kernel, second.kernel)
    yield from _command_lines_differ(first.kernel, second.kernel)
    yield from _differ("two-hosts", "", "host", first, second)
    for field in fields(StateEvidence):
        yield from _differ("two-hosts", "state", field.name, first.state, second.state)


def _differ(kind: str, table: str, name: str, first: object, second: object) -> _Found:
    values = [getattr(source, name, None) for source in (first, second)]
    if None not in values and values[0] != values[1]:
        path = f"{table}.{name}" if table else name
        yield Contradiction(kind, f"{path} is {values[0]!r} and {values[1]!r}", (path,))


def _command_lines_differ(first: KernelEvidence, second: KernelEvidence) -> _Found:
    """Lines in which no reader finds the same mem_encrypt=.

    A log may show the loader's line, which is the end of /proc/cmdline.
    """
    if first.cmdline is None or second.cmdline is None:
        return
    lines = [encoded(kernel.cmdline or "").strip() for kernel in (first, second)]
    if lines[0].endswith(lines[1]) or lines[1].endswith(lines[0]):
        return
    asked = [
        (startup_choice(line), decompressor_sees_on(line), efi_stub_choice(line)) for line in lines
    ]
    if all(one != other for one, other in zip(*asked, strict=True)):
        what = f"kernel.cmdline is {first.cmdline!r} and {second.cmdline!r}: mem_encrypt= differs"
        yield Contradiction("two-kernels", what, ("kernel.cmdline",))


def _bit(cpuid: CpuidTable, leaf: int, register: int, bit: int) -> bool | None:
    """A bit of sub-leaf 0; false beyond the maximum, None where the dump does not tell."""
    maximum = cpuid.max_extended_leaf if leaf >= _EXTENDED_BASE else cpuid.max_basic_leaf
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
    leaf = cpuid.recorded(_SME_LEAF)
    if maximum is None or maximum < _SME_LEAF or leaf is None:
        return None
    return leaf[1] & 0x3F
