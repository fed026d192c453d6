# SPDX-License-Identifier: GPL-2.0-or-later
"""The old kernel at work: it and its guests read and write until each CPU is stopped."""

from __future__ import annotations

from collections.abc import Iterator

from staleline.model.form import FALSE, Action, Assign, Expr, in_order
from staleline.model.scenario import Path, Scenario
from staleline.model.state.cpus import (
    ABSENT,
    CLEAN,
    CPUS,
    DIRTY,
    DRAM,
    JUMPING,
    NEWEST,
    SEAMCALLED,
    SECONDARY,
    Cpu,
    Data,
    JumpingAt,
    SecondaryAt,
    counts_seamcalls,
    first_write,
)
from staleline.model.state.lines import Alias, Line, Role
from staleline.model.state.texts import line_phrase, role_noun

__all__ = ["can_overwrite", "old_kernel"]

_SEAMCALL = "7.3 arch/x86/virt/vmx/tdx/seamcall_internal.h: flag set before the instruction"
_CONTROL = "7.3 kernel/kexec_core.c:457 kimage_alloc_crash_control_pages"
# A control page, but mapped once more, by vmap() with PAGE_KERNEL: through the kernel's own alias.
# The same in 5.10.223 and 6.1.176 kernel/kexec_core.c:522,523 and 6.12.117 kernel/crash_core.c:62.
_VMCOREINFO = (
    "7.3 kernel/crash_core.c:76 kimage_crash_copy_vmcoreinfo, :142 __crash_kexec; "
    "kernel/vmcore_info.c:79,109"
)
_STRAGGLER = "7.3 arch/x86/kernel/smp.c:155,229: CPUs that were not stopped go on"
_LOAD = "7.3 kernel/kexec_core.c:899-922 kimage_load_crash_segment"


def old_kernel(scenario: Scenario, line: Line) -> Iterator[Action]:
    """Everything that happens before, and beside, the way to the next kernel."""
    for cpu in CPUS:
        yield _write(scenario, line, cpu)
        yield _fill(scenario, line, cpu)
        if cpu is SECONDARY and can_overwrite(scenario):
            yield _overwrite(line)
        if line.role is Role.CRASH_SEGMENT:
            yield _load(scenario, line, cpu)


def can_overwrite(scenario: Scenario) -> bool:
    """Stragglers can write what the next kernel writes; the crash reservation they do not."""
    return scenario.leaves_stragglers and scenario.path is Path.KEXEC


def _running(line: Line, cpu: Cpu) -> Expr:
    """Its old user can still run on this CPU: guests only while the scheduler does."""
    # The jumping CPU is the old kernel itself while it waits.
    if cpu is JUMPING and not line.foreign:
        return cpu.at(JumpingAt.RUNNING, JumpingAt.WAITING)
    return cpu.at(JumpingAt.RUNNING) if cpu is JUMPING else cpu.at(SecondaryAt.RUNNING)


def _fetching(scenario: Scenario, line: Line, cpu: Cpu) -> Expr:
    """Code of the old user still executes here, so that speculation can fill entries."""
    if cpu is JUMPING or line.foreign:
        return _running(line, cpu)
    places = [
        SecondaryAt.RUNNING,
        SecondaryAt.STOPPING,
        SecondaryAt.REPORTED,
        SecondaryAt.FLUSHING,
    ]
    if scenario.late_nmi:
        places += [SecondaryAt.REENTERED, SecondaryAt.REFLUSHING]
    if scenario.plays_dead:
        places += [SecondaryAt.OFFLINING]
    return cpu.at(*places)


def _user(line: Line) -> str:
    if not line.foreign:
        return "old kernel"
    return "guest" if role_noun(line) == "guest" else "TDX module"


def _write(scenario: Scenario, line: Line, cpu: Cpu) -> Action:
    """A store through the old user's alias; it takes the line from all other caches."""
    seamcall = (cpu.ref(SEAMCALLED).becomes("yes"),) if counts_seamcalls(scenario, line) else ()
    function, source, says = _write_text(line)
    return Action(
        name=f"{cpu.actor}_old_write",
        actor=cpu.actor,
        guard=_writing(scenario, line, cpu) & cpu.entry(line.old).none_of(DIRTY),
        assigns=(cpu.entry(line.old).becomes(DIRTY), *cpu.invalidates_others(line.old), *seamcall),
        function=function,
        source=source,
        sentence=f"{says} {line_phrase(line)} through its {line.name_of(line.old)} alias on "
        "{cpu}.",
    )


def _writing(scenario: Scenario, line: Line, cpu: Cpu) -> Expr:
    """The old user can still write the line from this CPU."""
    running = _running(line, cpu)
    if cpu is SECONDARY and scenario.late_nmi and not line.foreign:
        # The NMI's frame and handler. That takes no time that counts; its WBINVD does.
        again = cpu.at(SecondaryAt.REENTERED) & JUMPING.at(JumpingAt.WAITING)
        return running | again
    if cpu is SECONDARY and can_overwrite(scenario):
        # A store through the alias of the newest data is `_overwrite`.
        return running & NEWEST.none_of(line.old)
    if line.role is Role.CRASH_SEGMENT:
        # Once it is loaded it is mapped read-only: 7.3 machine_kexec_64.c:634.
        return running & NEWEST.one_of("none")
    if line.role is Role.CRASH_CONTROL:
        # Written at load, and up to 6.12 once more by the CPU that crashes (machine_kexec).
        return running if cpu is JUMPING else running & JUMPING.at(JumpingAt.RUNNING)
    if line.role is Role.CRASH_VMCOREINFO:
        # Written at load, and once more by the CPU that crashes, which no time settles
        # (crash_save_vmcoreinfo, 7.3 kernel/crash_core.c:142).
        if cpu is JUMPING:
            return running
        return FALSE if scenario.load_settled else running & JUMPING.at(JumpingAt.RUNNING)
    return running


def _write_text(line: Line) -> tuple[str, str, str]:
    """Function, source and beginning of the sentence of a store."""
    if line.role is Role.CRASH_CONTROL:
        return "machine_kexec_prepare", _CONTROL, "Preparing for a crash, the old kernel writes"
    if line.role is Role.CRASH_VMCOREINFO:
        says = "Preparing for a crash, or in it, the old kernel writes"
        return "crash_update_vmcoreinfo_safecopy", _VMCOREINFO, says
    user = _user(line)
    return user, _SEAMCALL if user == "TDX module" else "", f"The {user} writes"


def _fill(scenario: Scenario, line: Line, cpu: Cpu) -> Action:
    user = _user(line)
    return Action(
        name=f"{cpu.actor}_old_fill",
        actor=cpu.actor,
        guard=_fetching(scenario, line, cpu) & cpu.entry(line.old).one_of(ABSENT),
        assigns=(cpu.entry(line.old).becomes(CLEAN),),
        function=user,
        source="",
        sentence=f"The {user} reads {line_phrase(line)}, or speculation fills it, through its "
        f"{line.name_of(line.old)} alias on {{cpu}}.",
    )


def _overwrite(line: Line) -> Action:
    """A store of a straggler through the alias of the next kernel's newest data."""
    return Action(
        name="secondary_old_overwrites",
        actor=SECONDARY.actor,
        guard=_running(line, SECONDARY) & NEWEST.one_of(line.old),
        assigns=(DRAM.becomes(Data.OVERWRITTEN),),
        function=_user(line),
        source=_STRAGGLER,
        sentence=f"The {_user(line)}, which nobody has stopped on {{cpu}}, writes "
        f"{line_phrase(line)} and overwrites what the next kernel wrote there.",
    )


def _load(scenario: Scenario, line: Line, cpu: Cpu) -> Action:
    """Loading the crash kernel: its data is in the reservation from here on."""
    # An encrypting kernel converts each page to decrypted, writes it, and converts it back. Both
    # conversions flush the page by CLFLUSH, which reaches every CPU's entries of the alias it goes
    # through. In between only clean entries can appear, so it is one step.
    converts = scenario.flush_at_load and scenario.old_encrypts
    written_out = converts or scenario.load_settled
    flushed = _gone_everywhere(cpu, line.old) if converts else ()
    running = cpu.at(JumpingAt.RUNNING if cpu is JUMPING else SecondaryAt.RUNNING)
    after = "these stores leave the caches" if written_out else "they stay dirty in its cache"
    return Action(
        name=f"{cpu.actor}_loads",
        actor=cpu.actor,
        guard=running & NEWEST.one_of("none"),
        assigns=in_order(flushed, _stores(cpu, line.early, written_out=written_out)),
        function="kimage_load_crash_segment",
        source=_LOAD,
        sentence=f"The old kernel loads the crash kernel on {{cpu}}: it writes "
        f"{line_phrase(line)} through the {line.name_of(line.early)} alias, and {after}.",
    )


def _stores(cpu: Cpu, alias: Alias, *, written_out: bool) -> tuple[Assign, ...]:
    """The crash kernel's data is stored, and stays dirty here unless it is written out."""
    if written_out:
        stored = _gone_everywhere(cpu, alias)
        return (NEWEST.becomes(alias), DRAM.becomes(Data.NEWEST), *stored)
    return first_write(cpu, alias)


def _gone_everywhere(cpu: Cpu, alias: Alias) -> tuple[Assign, ...]:
    return (cpu.entry(alias).becomes(ABSENT), *cpu.invalidates_others(alias))
