# SPDX-License-Identifier: GPL-2.0-or-later
"""Contradictions in evidence: two observations that cannot both be of one machine.

Each has a stable id (contradictions.toml) and names both fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, replace

from staleline.evidence.commandline import (
    asked_otherwise,
    lost_word,
    may_be_put_in_front_of,
    words_in_front,
)
from staleline.evidence.contradiction import Contradiction, clash, raise_if_any
from staleline.evidence.cpuid.cpuid_consistency import (
    beyond_maximum_follows_vendor,
    cpuid_bit,
    cpus_agree,
    features_have_registers,
    registers_have_features,
    vendor_is_repeated,
)
from staleline.evidence.log import kernel_log
from staleline.evidence.log.log_consistency import (
    log_clashes,
    shown_by_log,
    shown_features,
    shown_identity,
)
from staleline.evidence.snapshot import (
    CpuEvidence,
    CpuinfoEvidence,
    KernelEvidence,
    Snapshot,
    StateEvidence,
    Statement,
)
from staleline.evidence.statements import shown_otherwise
from staleline.hardware import AMD_AND_HYGON, ENCRYPTION_LEAF, SYSCFG, TDX_KEYIDS
from staleline.pattern import Pattern

__all__ = ["contradictions", "contradictions_between", "require_consistent"]

_REGISTERS = ("EAX", "EBX", "ECX", "EDX")
#: /proc/cpuinfo flag -> leaf, register and bit that Linux copies it from and never sets
#: without (arch/x86/include/asm/cpufeatures.h words 0, 4, 13, 16, 18 and 19).
_COPIED_FLAGS = {
    "hypervisor": (1, 2, 31),
    "movdir64b": (7, 2, 28),
    "pconfig": (7, 3, 18),
    "sev": (ENCRYPTION_LEAF, 0, 1),
    "sev_es": (ENCRYPTION_LEAF, 0, 3),
    "sev_snp": (ENCRYPTION_LEAF, 0, 4),
    "sme": (ENCRYPTION_LEAF, 0, 0),
    "ss": (1, 3, 27),
    "tme": (7, 2, 13),
    "wbnoinvd": (0x8000_0008, 1, 9),
}
_INTEL = frozenset({"GenuineIntel"})
_FLAGS_OF_VENDORS = (
    (frozenset({"sme", "sev", "sev_es", "sev_snp"}), AMD_AND_HYGON),
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


def _flags_have_vendor(snapshot: Snapshot) -> _Found:
    cpuinfo = snapshot.cpuinfo or CpuinfoEvidence()
    told = () if snapshot.may_have_forced_flags else tuple(_told_vendors(snapshot))
    for flags, vendors in _FLAGS_OF_VENDORS:
        for flag in sorted(flags & cpuinfo.flags):
            # That registers deny the flag says more than whose CPU they name.
            denied = any(_denies(cpu, flag) for cpu in snapshot.cpus)
            for said, vendor in told:
                if vendor not in vendors and not (denied and said[0].startswith("cpus[")):
                    held = ("cpuinfo.flags", f"holds {flag!r}")
                    yield clash("flag-of-another-vendor", held, said)


def _told_vendors(snapshot: Snapshot) -> Iterator[tuple[tuple[str, str], object]]:
    """Each field that tells the CPU's vendor with what it says, and the vendor."""
    shown = shown_identity(snapshot).get("vendor")
    if shown is not None:
        yield (shown[0], f"is {shown[1]!r}"), shown[1]
    for statement in snapshot.statements:
        if statement.name == "vendor":
            yield _said(statement), statement.value


def _denies(cpu: CpuEvidence, flag: str) -> bool:
    """Is the bit that `flag` is copied from clear?"""
    return flag in _COPIED_FLAGS and cpuid_bit(cpu.cpuid, *_COPIED_FLAGS[flag]) is False


def _state_fits(snapshot: Snapshot) -> _Found:
    state = snapshot.state
    by_peak = kernel_log.by_peak(state.guest_ids_peak)
    if None not in (by_peak, state.sev_guests_run) and by_peak != state.sev_guests_run:
        said = ("state.sev_guests_run", f"is {state.sev_guests_run}")
        yield clash("state-against-peak", said, ("state.guest_ids_peak", f"says {by_peak}"))
    cpuinfo = snapshot.cpuinfo or CpuinfoEvidence()
    vendors = {cpuinfo.vendor, *(cpu.cpuid.vendor for cpu in snapshot.cpus)} - {None}
    if state.tsme and vendors and not vendors & AMD_AND_HYGON:
        yield clash(
            "tsme-without-amd",
            ("state.tsme", "is true"),
            ("vendor", f"is {sorted(map(str, vendors))[0]!r}"),
        )


def _cpuinfo_agrees(snapshot: Snapshot) -> _Found:
    if snapshot.cpuinfo is None or not snapshot.cpus:
        return
    cpuid, cpuinfo = snapshot.cpus[0].cpuid, snapshot.cpuinfo
    if None not in (cpuid.vendor, cpuinfo.vendor) and cpuid.vendor != cpuinfo.vendor:
        yield clash(
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
            yield clash(
                "two-cpu-models",
                (f"cpuinfo.{name}", f"is {of_cpuinfo}"),
                ("cpus[0].cpuid.0x00000001:0", f"says {name} {of_cpuid}"),
            )


def _flags_have_hardware(snapshot: Snapshot) -> _Found:
    cpuinfo = snapshot.cpuinfo or CpuinfoEvidence()
    for i, cpu in () if snapshot.may_have_forced_flags else enumerate(snapshot.cpus):
        for flag, (leaf, register, bit) in _COPIED_FLAGS.items():
            if flag in cpuinfo.flags and _denies(cpu, flag):
                name = f"{_REGISTERS[register]}[{bit}]"
                yield clash(
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
        yield clash("sme-active-without-support", said, option)
    for i, cpu in enumerate(snapshot.cpus):
        # Either bit is enough for sme_enable() (6.12.118 arch/x86/mm/mem_encrypt_identity.c).
        if all(cpuid_bit(cpu.cpuid, ENCRYPTION_LEAF, 0, bit) is False for bit in (0, 1)):
            leaf = (f"cpus[{i}].cpuid.0x8000001f:0 EAX[0]", "says no SME, nor EAX[1] SEV")
            yield clash("sme-active-without-sme", said, leaf)
        syscfg = cpu.msr.get(SYSCFG)
        # On bare metal sme_enable() ends there (6.12.117 arch/x86/mm/mem_encrypt_identity.c:560).
        if syscfg is not None and not syscfg >> 23 & 1:
            register = (f"cpus[{i}].msr.0xc0010010", "bit 23 is clear")
            yield clash("sme-active-without-syscfg", said, register)


def _log_agrees(snapshot: Snapshot) -> _Found:
    for kind, first, second in log_clashes(snapshot):
        yield clash(kind, first, second)


def _guests_are_possible(snapshot: Snapshot) -> _Found:
    for i, cpu in enumerate(snapshot.cpus):
        if snapshot.state.sev_guests_run and cpuid_bit(cpu.cpuid, ENCRYPTION_LEAF, 0, 1) is False:
            yield clash(
                "sev-guests-without-sev",
                ("state.sev_guests_run", "is true"),
                (f"cpus[{i}].cpuid.0x8000001f:0 EAX[1]", "says no SEV"),
            )


def _tdx_is_possible(snapshot: Snapshot) -> _Found:
    state = snapshot.state
    if state.seamcalled_cpus and state.tdx_module in kernel_log.WITHOUT_SEAMCALLS:
        yield clash(
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
            yield clash("tdx-without-intel", said, vendor)
        partitioning = cpu.msr.get(TDX_KEYIDS)
        # One is the module's own (6.12.117 arch/x86/virt/vmx/tdx/tdx.c:1455).
        if partitioning is not None and partitioning >> 32 < 2:
            keys = (f"cpus[{i}].msr.0x87", f"gives TDX {partitioning >> 32} KeyIDs")
            yield clash("tdx-without-keys", said, keys)


_UNTOLD = ("", None)
#: What no other CPU has (`staleline.verdict.machines.exclusions`).
_OF_AMD = frozenset({"sme", "sev", "sev_es", "sev_snp", "sme_enabled", "snp_enabled"})


_TME, _SEV = (7, 2, 13), (ENCRYPTION_LEAF, 0, 1)
#: What a tool may tell -> leaf, register and bit of what it takes, of any one that is there.
_TAKES = {
    "sme_enabled": ((ENCRYPTION_LEAF, 0, 0), _SEV),
    "snp_enabled": ((ENCRYPTION_LEAF, 0, 4),),
    **dict.fromkeys(("sev_guest", "sev_es_guest", "snp_guest", "vtom_guest"), (_SEV,)),
    **dict.fromkeys(("tme_enabled", "tme_keyid_bits", "tdx_keyid_bits"), (_TME,)),
    **dict.fromkeys(("mktme_keyids", "tdx_keyids"), (_TME,)),
}


def _told_is_possible(snapshot: Snapshot) -> _Found:
    """Nothing is enabled that a CPU has not."""
    for statement in snapshot.statements:
        takes = _TAKES.get(statement.name, ())
        for i, cpu in enumerate(snapshot.cpus) if takes and statement.value else ():
            if all(cpuid_bit(cpu.cpuid, *bit) is False for bit in takes):
                leaf, register, bit = takes[0]
                field = f"cpus[{i}].cpuid.{leaf:#010x}:0 {_REGISTERS[register]}[{bit}]"
                yield clash("told-otherwise", _said(statement), (field, "is clear"))


def _loaders_line_is_kept(snapshot: Snapshot) -> _Found:
    """Unless the build overrides it, which one without a configuration is taken not to do."""
    kernel = snapshot.kernel
    overridden = (kernel.config or {}).get("CONFIG_CMDLINE_OVERRIDE") == "y"
    if overridden or kernel.cmdline is None or kernel.loader_cmdline is None:
        return
    if (word := lost_word(kernel.cmdline, kernel.loader_cmdline)) is not None:
        yield clash(
            "loaders-word-lost",
            ("kernel.loader_cmdline", f"holds {word!r}"),
            ("kernel.cmdline", f"is {kernel.cmdline!r}"),
        )


def _statements_agree(snapshot: Snapshot) -> _Found:
    said: dict[str, Statement] = {}
    for statement in snapshot.statements:
        first = said.setdefault(statement.name, statement)
        if first.value != statement.value:
            yield clash("told-otherwise", *(_said(one) for one in (first, statement)))
    if "several_cpus" in said and not said["several_cpus"].value:
        for field, count in shown_otherwise(snapshot, "cpus", 1):
            yield clash("told-otherwise", _said(said["several_cpus"]), (field, f"shows {count}"))
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
            yield clash("told-otherwise", _said(said[name]), (field, f"says {value!r}"))


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
            yield clash("told-otherwise", _said(said[name]), by)
    if tsme and "vendor" in said:
        yield clash("told-otherwise", ("state.tsme", "is true"), by)


def _said(statement: Statement) -> tuple[str, str]:
    return f"statements.{statement.name}", f"is {statement.value!r} by {statement.source}"


def _told_by_registers(number: int, cpu: CpuEvidence) -> dict[str, tuple[str, object]]:
    bits = {"sme": 0, "sev": 1, "sev_es": 3, "sev_snp": 4}
    syscfg = cpu.msr.get(SYSCFG)
    return {
        **{
            name: (
                f"cpus[{number}].cpuid.0x8000001f:0 EAX[{bit}]",
                cpuid_bit(cpu.cpuid, ENCRYPTION_LEAF, 0, bit),
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
        yield clash(
            "more-cpus-than-online",
            ("cpus", f"holds {read} CPUs"),
            ("state.online_cpus", f"is {online}"),
        )


_CHECKS: tuple[Callable[[Snapshot], _Found], ...] = (
    cpus_agree,
    _cpus_are_online,
    vendor_is_repeated,
    beyond_maximum_follows_vendor,
    _cpuinfo_agrees,
    _flags_have_hardware,
    _sme_active_is_possible,
    _guests_are_possible,
    _tdx_is_possible,
    registers_have_features,
    features_have_registers,
    _flags_have_vendor,
    _state_fits,
    _statements_agree,
    _told_is_possible,
    _loaders_line_is_kept,
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
        else:
            yield from _registers_differ(first, second)
    for name in ("vendor", "family", "model", "stepping"):
        yield from _differ("two-cpu-models", "cpuinfo", name, first.cpuinfo, second.cpuinfo)
    for name in ("release", "build_id", "bootconfig", "booted_by", "xloadflags"):
        yield from _differ("two-kernels", "kernel", name, first.kernel, second.kernel)
    yield from _configurations_differ(first.kernel, second.kernel)
    yield from _command_lines_differ(first.kernel, second.kernel)
    yield from _differ("two-hosts", "", "host", first, second)
    for field in fields(StateEvidence):
        # Lists of modules are of different moments, and often excerpts.
        if field.name == "tainting_modules":
            continue
        yield from _differ("two-hosts", "state", field.name, first.state, second.state)


def _registers_differ(first: Snapshot, second: Snapshot) -> _Found:
    """What all CPUs of a machine share, its outputs share too: none of two outweighs the other."""
    # CPUs are counted through both.
    both = replace(first, cpus=(*first.cpus, *second.cpus))
    # Of a domain of Xen's, CPUID as the CPU answers it and as a guest reads it differ in that bit
    # (linux 7.3.4 arch/x86/xen/enlighten_pv.c xen_cpuid()); others tell of the hypervisor.
    statements = (*first.statements, *second.statements)
    told = any(one.name == "hypervisor" and one.value for one in statements)
    hypervisor = f"0x00000001:0 {_REGISTERS[2]}[31]"
    for contradiction in cpus_agree(both):
        if not (told and contradiction.fields[0].endswith(hypervisor)):
            yield contradiction


def _differ(kind: str, table: str, name: str, first: object, second: object) -> _Found:
    values = [getattr(source, name, None) for source in (first, second)]
    if None not in values and values[0] != values[1]:
        path = f"{table}.{name}" if table else name
        yield Contradiction(kind, f"{path} is {values[0]!r} and {values[1]!r}", (path,))


def _configurations_differ(first: KernelEvidence, second: KernelEvidence) -> _Found:
    """What only one of them tells is no contradiction: each may be an excerpt."""
    options, others = first.config or {}, second.config or {}
    for name in sorted(options.keys() & others.keys()):
        if options[name] != others[name]:
            path = f"kernel.config.{name}"
            what = f"{path} is {options[name]!r} and {others[name]!r}"
            yield Contradiction("two-kernels", what, (path,))


def _command_lines_differ(first: KernelEvidence, second: KernelEvidence) -> _Found:
    """Lines in which a reader finds another value of what decides."""
    for name in ("cmdline", "loader_cmdline"):
        lines = [getattr(kernel, name) for kernel in (first, second)]
        # A log may show the loader's line, which is the end of /proc/cmdline.
        if None in lines or (name == "cmdline" and _is_loaders_of_other(first, second)):
            continue
        if (parameter := asked_otherwise(*lines)) is not None:
            path = f"kernel.{name}"
            what = f"{path} is {lines[0]!r} and {lines[1]!r}: {parameter} differs"
            yield Contradiction("two-kernels", what, (path,))


def _is_loaders_of_other(first: KernelEvidence, second: KernelEvidence) -> bool:
    """Is one line the end of the other, and may a kernel have put words in front of it?"""
    line, loaders = sorted((first.cmdline or "", second.cmdline or ""), key=len, reverse=True)
    # Without a configuration a kernel is taken to have no CONFIG_CMDLINE: on x86 no distribution
    # sets it.
    puts = ("CONFIG_CMDLINE_BOOL", "CONFIG_BOOT_CONFIG_FORCE")
    return words_in_front(line, loaders) is not None and (
        may_be_put_in_front_of(loaders)
        or any(
            kernel.bootconfig or any((kernel.config or {}).get(name) == "y" for name in puts)
            for kernel in (first, second)
        )
    )
