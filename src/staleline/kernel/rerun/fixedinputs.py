# SPDX-License-Identifier: GPL-2.0-or-later
"""What decisions are read for one value of, and why: data for `kernel.influence.dependencies`.

Every variable that is kept as it is, although a running kernel might find something else
there, stands here with its reason. A key is a variable, or a place in one (``name+0x8``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = [
    "FIXED_AT_SITES",
    "FIXED_CALLS",
    "FIXED_CALLS_ON_WAY",
    "FIXED_IN_CRASH",
    "FIXED_IN_DERIVATION",
    "FIXED_ON_WAY",
    "FIXED_WHERE_TAKEN",
    "Fixed",
    "fixed_bits",
    "is_fixed",
    "open_static_call",
]

_ALL: Final = -1
#: A bit for each of 8192 CPUs, CONFIG_NR_CPUS of distributions.
_LARGEST: Final = 0x400


@dataclass(frozen=True, slots=True)
class Fixed:
    """A variable that is taken as it is.

    Attributes:
        reason: Why.
        size: Bytes of those reads of it that this holds for; None for all.
        bits: Which bits it holds for.
        unless: Bits of the variable; where one of them is set, it does not hold.
        reach: No such variable is larger. Where few data have names, what has none lies behind
            one that has.
    """

    reason: str
    size: int | None = None
    bits: int = _ALL
    unless: int = 0
    reach: int = _LARGEST

    @property
    def is_whole(self) -> bool:
        """Does it hold for every bit?"""
        return self.bits == _ALL


#: struct apic, asm/apic.h; struct x86_platform_ops, asm/x86_init.h; asm/reboot.h and asm/smp.h:
#: 5.10 to 7.3.
_APIC: Final = Fixed("the driver of the local APIC", reach=0x180)
_CALLED: Final = Fixed("a function of a driver or module, whose code is not read", reach=0x100)
_CRASHING: Final = Fixed("zero until the first CPU crashes")
_FORCED: Final = Fixed("changed by clearcpuid= and setcpuid= alone")
_INDEX: Final = Fixed("an index or a pointer, not a condition")
_NUMBER: Final = Fixed("the number of the CPU")
_ONE_NMI: Final = Fixed("the CPU takes one NMI")
_OPTION: Final = Fixed("the text of the option mem_encrypt=on")
_POPULATION: Final = Fixed("which CPUs and nodes there are")
_REGISTERED: Final = Fixed("registered by the shutdown that is run")
_TABLE: Final = Fixed("who writes there is searched for", reach=0x80)
#: struct task_struct, include/linux/sched.h: some ten thousand bytes.
_TASK_SIZE: Final = 0x4000
_NUMBERS_SIZE: Final = 8192 * 4

#: Before anything has run.
FIXED_IN_DERIVATION: Final[Mapping[str, Fixed]] = {
    # arch/x86/kernel/cpu/common.c apply_forced_caps(), 5.10 to 7.3
    "cpu_caps_cleared": _FORCED,
    "cpu_caps_set": _FORCED,
    # arch/x86/mm/mem_encrypt_identity.c, 5.10 to 6.8
    "sme_cmdline_arg": _OPTION,
    "sme_cmdline_on": _OPTION,
    "sme_cmdline_off": _OPTION,
    # x86_vendor_id[12] of struct cpuinfo_x86, which nothing ever writes
    "boot_cpu_data": Fixed("the end of the vendor's name", size=1),
    "cpu_info": Fixed("empty until the CPU is identified"),
    "__cpu_possible_mask": _POPULATION,
    "__cpu_present_mask": _POPULATION,
    "node_states": _POPULATION,
    "nr_cpu_ids": _INDEX,
    "nr_pfn_mapped": _INDEX,
    "ppin_info": _INDEX,
    "x86_cpu_to_apicid_early_map": Fixed(_INDEX.reason, reach=_NUMBERS_SIZE),
    "x86_cpuinit": _CALLED,
}

#: When a site begins.
FIXED_AT_SITES: Final[Mapping[str, Fixed]] = {
    "smp_ops": _CALLED,
    "cpu_number": _NUMBER,
    "pcpu_hot+0xc": _NUMBER,  # struct pcpu_hot, 6.2 to 6.14
    "const_pcpu_hot+0xc": _NUMBER,
    # reboot.c or virt/hw.c, which disable virtualization before a CPU stops
    "cpu_emergency_virt_callback": _CALLED,
    "virt_ops": _CALLED,
    "init_task": Fixed(
        "the task that runs is not the idle one, and in no RCU read-side section", reach=_TASK_SIZE
    ),
    # SEV_STATUS: bits above 0 say which features a guest uses, which bit 0 says it is
    "sev_status": Fixed("a host has none of the features of guests", bits=~1, unless=1),
}

#: When a kexec begins, on the way of the jumping CPU to the interrupt that it sends.
FIXED_ON_WAY: Final[Mapping[str, Fixed]] = {
    # No code asks the task whether others are to be interrupted.
    **{name: one for name, one in FIXED_AT_SITES.items() if name != "init_task"},
    "reboot_force": Fixed("a fact: reboot=force"),
    # smp.c native_stop_other_cpus(), 5.10 to 7.3
    "stopping_cpu": Fixed("-1 until a CPU stops the others"),
    "__cpu_online_mask": _POPULATION,
    "__cpu_present_mask": _POPULATION,
    "__num_online_cpus": _POPULATION,
    "nr_cpu_ids": _POPULATION,
    # apic_flat_64.c, whose fields say how it addresses others and not whether
    "apic_flat": _APIC,
}

#: When a crash begins, as well.
FIXED_IN_CRASH: Final[Mapping[str, Fixed]] = {
    **FIXED_AT_SITES,
    # reboot.c nmi_shootdown_cpus(), crash.c kdump_sev_callback()
    "crash_ipi_issued": _CRASHING,
    "cpus_stopped": _CRASHING,
    "crash_vmclear_loaded_vmcss": _CALLED,
    "__num_online_cpus": _POPULATION,
    "nr_ioapics": _INDEX,
    # events/intel/pt.c, a running trace that a crash stops
    "pt_ctx": Fixed("no Intel PT trace runs"),
    # nmi.c exc_nmi(): an NMI meets no other, and none is ignored but while code is patched at boot
    "nmi_state": _ONE_NMI,
    "ignore_nmis": Fixed("set only while alternatives are patched"),
}

#: What decides whether a CPU takes an interrupt at all, or goes on with what that met.
FIXED_WHERE_TAKEN: Final[Mapping[str, Fixed]] = {
    # entry_64.S asm_exc_nmi, which looks for another NMI on the stack, 5.10 to 7.3
    "the stack of CPU 1": _ONE_NMI,
    # entry_64.S paranoid_entry, by its sign
    "MSR 0xc0000101": Fixed("kernel code has the kernel's per-CPU base"),
    # nmi.c exc_nmi() and its callbacks
    "nmi_state": _ONE_NMI,
    "ignore_nmis": Fixed("set only while alternatives are patched"),
    "__cpu_online_mask": Fixed("a CPU that is offline takes no interrupt"),
    "cpu_number": _NUMBER,
    "pcpu_hot+0xc": _NUMBER,  # struct pcpu_hot, 6.2 to 6.14
    "const_pcpu_hot+0xc": _NUMBER,
}


#: Which function is called through a pointer.
FIXED_CALLS: Final[Mapping[str, Fixed]] = {
    # paravirt.c, alternative.c: on bare metal calls of what the image has there
    "pv_ops": Fixed("made direct calls at boot"),
    # Which code writes there is searched for.
    "machine_ops": _TABLE,
    "smp_ops": _TABLE,
    **dict.fromkeys(("apic_flat", "apic_physflat", "apic", "apic_noop", "apic_default"), _APIC),
    # What the shutdown registers itself, nmi.c
    "crash_nmi_callback_na": _REGISTERED,
    "smp_stop_nmi_callback_na": _REGISTERED,
    # emerg_handler, set by nmi_shootdown_cpus() alone: nmi.c, reboot.c, 6.1.192, 6.12.117 to 7.3
    "nmi_desc": _CRASHING,
    "cpu_emergency_virt_callback": _CALLED,
    "virt_ops": _CALLED,
    "crash_vmclear_loaded_vmcss": _CALLED,
}

#: The same on the jumping CPU's way, beside the sites.
FIXED_CALLS_ON_WAY: Final[Mapping[str, Fixed]] = {
    **FIXED_CALLS,
    # reboot.c native_machine_shutdown(), crash.c: iommu_shutdown(), and since 6.11
    # enc_kexec_begin() and enc_kexec_finish(), which drivers of I/O MMUs and guests set
    "x86_platform": _CALLED,
    # io_apic.c restore_boot_irq_mode(), where interrupts are remapped, 5.10 to 7.3
    "x86_apic_ops": _CALLED,
    # lib/delay.c, which the time stamp decides or MWAITX, 5.10 to 7.3
    "delay_fn": Fixed("how to wait"),
    # smp.c native_stop_other_cpus(), since 6.5
    "cpus_stop_mask": Fixed("a mask of CPUs"),
}
_STATIC_CALL: Final = "__SCT__"
#: Static calls by how their names begin.
_FIXED_STATIC_CALLS: Final[Mapping[str, Fixed]] = {
    "apic_call_": _APIC,
    # paravirt.c: how a guest is told the time
    "pv_sched_clock": Fixed("how to tell the time"),
    "pv_steal_clock": Fixed("how to tell the time"),
    # kernel/sched/core.c, CONFIG_PREEMPT_DYNAMIC
    **dict.fromkeys(
        ("preempt_schedule", "cond_resched", "might_resched", "irqentry_exit_cond_resched"),
        Fixed("whether the task may be preempted, which does not happen here"),
    ),
}


def open_static_call(names: Iterable[str]) -> str | None:
    """The static call that has one of these names and is not taken as it is in the image.

    Some function puts another there when the kernel runs (include/linux/static_call.h).
    """
    calls = (name.removeprefix(_STATIC_CALL) for name in names if name.startswith(_STATIC_CALL))
    is_open = (call for call in calls if not call.startswith(tuple(_FIXED_STATIC_CALLS)))
    return next((f"static call {call}" for call in is_open), None)


def is_fixed(table: Mapping[str, Fixed], name: str, size: int) -> bool:
    """Is every bit of a read of so many bytes fixed? `name` may carry an offset."""
    fixed = _look_up(table, name)
    return fixed is not None and fixed.size in (None, size) and fixed.bits == _ALL


def fixed_bits(table: Mapping[str, Fixed], name: str, value: int) -> int:
    """The bits of a variable that are fixed where it has this value."""
    fixed = _look_up(table, name)
    return 0 if fixed is None or value & fixed.unless else fixed.bits


def _look_up(table: Mapping[str, Fixed], name: str) -> Fixed | None:
    """What a table says of a variable, whatever the compiler made of its name."""
    place = name.removeprefix("per-CPU ")
    # gcc calls a static one of a function ``cpus_stopped.1``, clang ``function.cpus_stopped``.
    variable, _, offset = place.partition("+")
    named = (place, *variable.split(".")[:2])
    fixed = next(filter(None, map(table.get, named)), None)
    return fixed if fixed is not None and int(offset or "0", 16) < fixed.reach else None
