# SPDX-License-Identifier: GPL-2.0-or-later
"""What the user says of a machine instead of observing it: MSRs, command line, state.

A dump rarely carries MSRs or the command line. What is given here is added to the
snapshot with a note, so that a report never shows it as observed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from staleline.errors import UsageError
from staleline.evidence.consistency import require_consistent
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import CpuEvidence, Note, Snapshot, StateEvidence

__all__ = ["given_by_user", "with_given"]

_WHY = "given by the user, not observed"

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_TEXT_STATE = {"tdx_module": frozenset({"initialized", "failed", "not-initialized", "absent"})}
_YES_NO_STATE = frozenset({"sme_active", "sev_guests_run", "reboot_force"})


def with_given(
    snapshot: Snapshot,
    *,
    msr: Sequence[str] = (),
    cmdline: str | None = None,
    state: Sequence[str] = (),
) -> Snapshot:
    """The snapshot with what the user gave.

    Args:
        snapshot: What was observed.
        msr: ``NUMBER=VALUE`` each, in any of Python's integer notations.
        cmdline: The old kernel's command line.
        state: ``NAME=VALUE`` each, for sme_active, sev_guests_run and tdx_module.

    Raises:
        UsageError: Not of that form, or not a name that can be given.
        ContradictionError: It cannot be true of what was observed.
    """
    registers = dict(_msr(item) for item in msr)
    values = dict(_state(item) for item in state)
    notes = [
        *(Note(f"msr {number:#x}", _WHY) for number in registers),
        *(Note(f"state.{name}", _WHY) for name in values),
    ]
    if cmdline is not None:
        notes.append(Note("kernel.cmdline", _WHY))
        # What was observed of another line tells nothing of this one.
        kernel = replace(
            snapshot.kernel, cmdline=cmdline, loader_cmdline=None, bootconfig=None, xloadflags=None
        )
        snapshot = replace(snapshot, kernel=kernel)
    # Without CPUID (e.g. /proc/cpuinfo alone) what is given still needs a CPU to belong to.
    cpus = snapshot.cpus or ((CpuEvidence(CpuidTable({})),) if registers else ())
    known = {field.name: getattr(snapshot.state, field.name) for field in fields(StateEvidence)}
    machine = replace(
        snapshot,
        cpus=tuple(_with_msr(cpu, registers) for cpu in cpus),
        state=StateEvidence(**{**known, **values}),
        notes=(*snapshot.notes, *notes),
    )
    require_consistent(machine, None)
    return machine


def _with_msr(cpu: CpuEvidence, registers: Mapping[int, int]) -> CpuEvidence:
    faults = frozenset(cpu.msr_faults) - registers.keys()
    return replace(cpu, msr={**cpu.msr, **registers}, msr_faults=faults)


def _msr(item: str) -> tuple[int, int]:
    number, _, value = item.partition("=")
    try:
        pair = int(number, 0), int(value, 0)
    except ValueError:
        raise UsageError(f"--msr {item!r}", do="write e.g. --msr 0xc0010010=0x800000") from None
    if not (0 <= pair[0] < 2**32 and 0 <= pair[1] < 2**64):
        raise UsageError(f"--msr {item!r} is out of range", do="numbers have 32 bits, values 64")
    return pair


def _state(item: str) -> tuple[str, bool | str]:
    name, _, value = item.partition("=")
    if value in _TEXT_STATE.get(name, ()):
        return name, value
    if name in _YES_NO_STATE and value.lower() in _TRUTH:
        return name, _TRUTH[value.lower()]
    raise UsageError(
        f"--state {item!r}",
        do="write sme_active=yes|no, sev_guests_run=yes|no, reboot_force=yes|no or "
        "tdx_module=initialized|failed|not-initialized|absent",
    )


def given_by_user(snapshot: Snapshot) -> tuple[str, ...]:
    """What in this snapshot the user gave."""
    return tuple(note.what for note in snapshot.notes if note.why == _WHY)
