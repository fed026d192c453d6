# SPDX-License-Identifier: GPL-2.0-or-later
"""What the user says of a machine instead of observing it: MSRs, command line, state.

A dump rarely carries MSRs or the command line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, TypeVar

from staleline.errors import UsageError
from staleline.evidence.commandline import (
    XLF_MEM_ENCRYPTION,
    arguments,
    decompressor_sees_on,
    efi_stub_choice,
    encoded,
)
from staleline.evidence.consistency import contradictions
from staleline.evidence.contradiction import (
    Contradiction,
    ContradictionError,
    against_observed,
    raise_if_any,
)
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import (
    GIVEN,
    TDX_MODULE_STATES,
    CpuEvidence,
    Note,
    Snapshot,
    StateEvidence,
    given_by_user,
    with_flags_of_hardware,
)
from staleline.evidence.staleline_collect import cpu_list, cpu_list_text
from staleline.evidence.statements import is_of, said_by_user, shown_otherwise
from staleline.hardware import HYPERVISORS
from staleline.pattern import Pattern

__all__ = ["STATES", "Given", "with_given"]

_Name = TypeVar("_Name")
_Value = TypeVar("_Value")

#: What a state may be given as: as sysfs prints it, or in words.
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

#: Hexadecimal, or one digit, which is the same number in any notation.
_NUMBER = Pattern(r"(-?)(?:0[xX]([0-9a-fA-F]+)|([0-9]))")
_BARE = Pattern(r"(?!0[bB])[0-9a-fA-F]+")  # 0b1000 may be binary
_EXAMPLE = "0xc0010010=0x800000"
#: The value of an MSR that the CPU does not have: RDMSR was executed and faulted.
_FAULTS = "none"

#: More CPUs than a number of so many digits can count no machine has.
_DIGITS: Final = 5

#: None for an MSR that does not exist.
_Registers = Mapping[int, int | None]


@dataclass(frozen=True, slots=True)
class Given:
    """What the user adds to a snapshot.

    Attributes:
        msr: ``NUMBER=VALUE`` each; hexadecimal, or ``none`` if the CPU does not have it.
        cmdline: The old kernel's command line.
        state: ``NAME=VALUE`` each, for the names of `STATES`.
    """

    msr: tuple[str, ...] = ()
    cmdline: str | None = None
    state: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what makes no sense before anything is read.

        Raises:
            UsageError: Not of that form, or not a name that can be given.
        """
        _each_once("--msr", self.msr, _msr)
        _each_once("--state", self.state, _state)

    @property
    def anything(self) -> bool:
        """Was something given?"""
        return bool(self.msr or self.cmdline is not None or self.state)

    @property
    def of_machine(self) -> Given:
        """What of it holds whatever kernel runs."""
        return Given(self.msr, state=tuple(item for item in self.state if _name(item) in _MACHINE))

    def added_to(self, snapshot: Snapshot, *, another_kernel: bool = False) -> Snapshot:
        """As `with_given`."""
        return with_given(
            snapshot,
            msr=self.msr,
            cmdline=self.cmdline,
            state=self.state,
            another_kernel=another_kernel,
        )


def with_given(
    snapshot: Snapshot,
    *,
    msr: Sequence[str] = (),
    cmdline: str | None = None,
    state: Sequence[str] = (),
    another_kernel: bool = False,
) -> Snapshot:
    """The snapshot with what the user gave.

    Args:
        snapshot: What was observed.
        msr: As of `Given`.
        cmdline: As of `Given`.
        state: As of `Given`.
        another_kernel: What is given is of a kernel that does not run there, so that the
            command line observed is not this kernel's.

    Raises:
        UsageError: Not of that form, or not a name that can be given.
        ContradictionError: It cannot be true of what was observed.
    """
    registers = _each_once("--msr", msr, _msr)
    values = _each_once("--state", state, _state)
    given = [
        *(f"msr {number:#x}" for number in registers),
        *(f"state.{name}" for name in values),
        *(["kernel.cmdline"] if cmdline is not None else []),
    ]
    earlier = frozenset(given_by_user(snapshot))
    told = None if another_kernel else cmdline
    # It never takes the place of something observed: where the two differ, that is a contradiction,
    # and both are named.
    raise_if_any(tuple(_against_observed(snapshot, earlier, registers, told, values)), None)
    machine = _added(snapshot, registers, cmdline, values, another_kernel=another_kernel)
    # So that a report never shows it as observed.
    notes = (*machine.notes, *(Note(name, GIVEN) for name in given if name not in earlier))
    machine = replace(machine, notes=notes)
    _require_consistent(machine, given_by_user(machine), values)
    return machine


def _added(
    snapshot: Snapshot,
    registers: _Registers,
    cmdline: str | None,
    values: Mapping[str, object],
    *,
    another_kernel: bool,
) -> Snapshot:
    # Without CPUID (e.g. /proc/cpuinfo alone) what is given still needs a CPU to belong to.
    cpus = snapshot.cpus or ((CpuEvidence(CpuidTable({})),) if registers else ())
    known = {field.name: getattr(snapshot.state, field.name) for field in fields(StateEvidence)}
    fielded = {name: value for name, value in values.items() if name in known}
    said = tuple(
        statement
        for name in sorted(values.keys() - known.keys())
        for statement in said_by_user(name, values[name])
    )
    if cmdline is not None and cmdline.split() != (snapshot.kernel.cmdline or "").split():
        kernel = replace(snapshot.kernel, cmdline=cmdline)
        # What was observed of another line tells nothing of this one; of the line that was not
        # observed itself, it goes before what is given.
        if another_kernel:
            kernel = replace(kernel, loader_cmdline=None, bootconfig=None, xloadflags=None)
        # Flags that the line that is replaced may have set by hand prove nothing under another one.
        if snapshot.kernel.cmdline is not None or another_kernel:
            snapshot = with_flags_of_hardware(snapshot)
        snapshot = replace(snapshot, kernel=kernel)
    elif cmdline is not None:
        snapshot = replace(snapshot, kernel=replace(snapshot.kernel, cmdline=cmdline))
    return replace(
        snapshot,
        cpus=tuple(_with_msr(cpu, registers) for cpu in cpus),
        state=StateEvidence(**{**known, **fielded}),
        statements=(*(one for one in snapshot.statements if not is_of(one, said)), *said),
    )


def _with_msr(cpu: CpuEvidence, registers: _Registers) -> CpuEvidence:
    present = {number: value for number, value in registers.items() if value is not None}
    observed = {number: value for number, value in cpu.msr.items() if number not in registers}
    faults = frozenset(cpu.msr_faults) - present.keys() | registers.keys() - present.keys()
    return replace(cpu, msr={**observed, **present}, msr_faults=faults)


# ---- against what was observed ------------------------------------------------------------


def _against_observed(
    snapshot: Snapshot,
    earlier: frozenset[str],
    registers: _Registers,
    cmdline: str | None,
    values: Mapping[str, object],
) -> Iterator[Contradiction]:
    """Where what is given now is not what was observed; `earlier` is what was given before."""
    for number, value in registers.items():
        if f"msr {number:#x}" not in earlier:
            yield from _other_registers(snapshot.cpus, number, value)
    observed = snapshot.kernel.cmdline
    if (
        None not in (cmdline, observed)
        and "kernel.cmdline" not in earlier
        and str(cmdline).split() != str(observed).split()
    ):
        yield against_observed("--cmdline", repr(cmdline), "kernel.cmdline", repr(observed))
    if cmdline is not None and "kernel.cmdline" not in earlier:
        yield from _without_bootconfig(cmdline, snapshot.kernel.bootconfig or ())
        yield from _without_encryption(cmdline, snapshot.kernel.xloadflags or 0)
    for name, state in values.items():
        if f"state.{name}" in earlier:
            continue
        for field, shown in shown_otherwise(snapshot, name, state):
            yield against_observed(f"--state {name}", _word(state), field, shown)
            break
        seen = getattr(snapshot.state, name, None)
        if seen is not None and seen != state:
            yield against_observed(f"--state {name}", _word(state), f"state.{name}", _word(seen))


def _without_bootconfig(cmdline: str, keys: Sequence[str]) -> Iterator[Contradiction]:
    """/proc/cmdline holds bootconfig's words (linux 7.3.4 init/main.c setup_command_line())."""
    names = {name for name, _ in arguments(encoded(cmdline))}
    for key in keys:
        word = key.removeprefix("kernel.")
        if key != word and encoded(word) not in names:
            yield against_observed("--cmdline", f"no {word}", "kernel.bootconfig", key)
            return


def _without_encryption(cmdline: str, xloadflags: int) -> Iterator[Contradiction]:
    """Whoever reads mem_encrypt= sets the flag where it says on, and startup code goes by it.

    linux 6.12.118 arch/x86/boot/compressed/misc.c:379 and x86-stub.c:978; up to 6.8 nobody sets it.
    """
    line = encoded(cmdline)
    if xloadflags & XLF_MEM_ENCRYPTION and not (
        decompressor_sees_on(line) or efi_stub_choice(line)
    ):
        flag = f"{xloadflags:#x}, with XLF_MEM_ENCRYPTION"
        yield against_observed("--cmdline", "no mem_encrypt=on", "kernel.xloadflags", flag)


def _other_registers(
    cpus: Sequence[CpuEvidence], number: int, value: int | None
) -> Iterator[Contradiction]:
    for index, cpu in enumerate(cpus):
        faults = number in cpu.msr_faults
        if (number in cpu.msr or faults) and cpu.msr.get(number) != value:
            field = f"cpus[{index}].msr.{number:#x}"
            seen = _FAULTS if faults else f"{cpu.msr[number]:#x}"
            given = _FAULTS if value is None else f"{value:#x}"
            yield against_observed(f"--msr {number:#x}", given, field, seen)
            return


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return cpu_list_text(value) or "none" if isinstance(value, tuple) else str(value)


def _against_each_other(machine: Snapshot, values: Mapping[str, object]) -> Iterator[Contradiction]:
    """Where what is given is not what else was given, as nothing that was observed denies it."""
    for name, state in values.items():
        for field, shown in shown_otherwise(machine, name, state):
            what = f"state.{name} is {_word(state)} and {field} shows {shown}"
            yield Contradiction("told-otherwise", what, (f"state.{name}", field))


def _require_consistent(
    machine: Snapshot, given: Iterable[str], values: Mapping[str, object]
) -> None:
    """The checks of all evidence; a contradiction says what of it was given.

    Raises:
        ContradictionError: Two fields contradict each other.
    """
    clashes = (*contradictions(machine), *_against_each_other(machine, values))
    try:
        raise_if_any(clashes, None)
    except ContradictionError as error:
        told = [name for name in given if any(map(_is_about(name), clashes[0].fields))]
        if not told:
            raise
        what = f"{error.what}, of which {' and '.join(told)} was given and not observed"
        raise ContradictionError(
            what, where=None, do=str(error.do), contradictions=clashes
        ) from None


def _is_about(given: str) -> Callable[[str], bool]:
    """Is a field of the evidence the one that was given under this name?"""
    part = re.escape(given.replace("msr ", "msr."))
    return lambda field: re.search(rf"(?:^|\.){part}\b", field) is not None


# ---- the options --------------------------------------------------------------------------


def _each_once(
    option: str, items: Sequence[str], parse: Callable[[str], tuple[_Name, _Value]]
) -> dict[_Name, _Value]:
    parsed: dict[_Name, _Value] = {}
    for item in items:
        name, value = parse(item)
        if parsed.setdefault(name, value) != value:
            shown = item.partition("=")[0]
            raise UsageError(f"{option} gives {shown} two values", do="give it once")
    return parsed


def _msr(item: str) -> tuple[int, int | None]:
    """``NUMBER=VALUE``; the value may be all that ``rdmsr -a -c`` prints, one per CPU."""
    number, equals, values = item.partition("=")
    if not equals or not values.strip():
        raise UsageError(
            f"--msr {item!r} has no value",
            do=f"write e.g. --msr {_EXAMPLE}, or =none if the CPU does not have it",
        )
    values_given = {_value(item, value) for value in values.split()}
    if len(values_given) > 1:
        raise UsageError(
            f"--msr {number} differs between CPUs",
            do="give a snapshot made by `staleline collect`, which holds each CPU's",
        )
    return _number(item, number, 32), values_given.pop()


def _value(item: str, text: str) -> int | None:
    return None if text == _FAULTS else _number(item, text, 64)


def _number(item: str, text: str, bits: int) -> int:
    match = _NUMBER.fullmatch(text)
    if match is None:
        # rdmsr without -c prints hexadecimal without 0x: what looks decimal is not.
        spelt = _spelt(item)
        # rdmsr -d and -u print decimal, which hexadecimal digits cannot be told from.
        is_value = text.isdecimal() and item.endswith(f"={text}")
        also = f", or {int(text):#x} for the value if it is decimal" if is_value else ""
        raise UsageError(
            f"--msr {item!r}: {text!r} is not hexadecimal with 0x, as `rdmsr -c` prints it",
            do=f"write e.g. --msr {_EXAMPLE}" if spelt is None else f"write --msr {spelt}{also}",
        )
    number = int(match[2] or match[3], 16)
    if match[1] or number >= 1 << bits:
        raise UsageError(f"--msr {item!r} is out of range", do="numbers have 32 bits, values 64")
    return number


def _spelt(item: str) -> str | None:
    """The same with 0x on either side, if only that was missing and nothing else may be meant."""
    sides = item.split("=")
    spelt = [f"0x{side}" if _BARE.fullmatch(side) else side for side in sides]
    return "=".join(spelt) if len(sides) == 2 and all(map(_NUMBER.fullmatch, spelt)) else None


def _truth(text: str) -> bool | None:
    return _TRUTH.get(text.lower())


def _flag(text: str) -> int | None:
    truth = _truth(text)
    return None if truth is None else int(truth)


def _module(text: str) -> str | None:
    return text if text in TDX_MODULE_STATES else None


def _cpus(text: str) -> tuple[int, ...] | None:
    try:
        return () if text == "none" else tuple(cpu_list(text))
    except ValueError:
        return None


def _count(text: str) -> int | tuple[int, ...] | None:
    """A number, or the list that sysfs prints, in which CPU 0 is always."""
    if text.isascii() and text.isdecimal() and len(text) <= _DIGITS and int(text):
        return int(text)
    cpus = _cpus(text)
    return tuple(sorted(set(cpus))) if cpus and 0 in cpus else None


def _hypervisor(text: str) -> str | None:
    return {name.lower(): name for name in ("none", *HYPERVISORS.values())}.get(text.lower())


#: State that can be given -> how it is written, and what reads that.
STATES: Mapping[str, tuple[str, Callable[[str], object | None]]] = {
    "sme_active": ("yes|no", _truth),
    "sev_guests_run": ("yes|no", _truth),
    "tdx_module": ("|".join(TDX_MODULE_STATES), _module),
    "seamcalled_cpus": ("none or a list such as 0-3,8", _cpus),
    "reboot_force": ("yes|no", _truth),
    "tsme": ("yes|no", _truth),
    "offline_cpus": ("none or a list such as 64-127", _cpus),
    "kexec_loaded": ("yes|no", _flag),
    "kexec_crash_loaded": ("yes|no", _flag),
    "cpus": ("a number, or a list such as 0-3", _count),
    "hypervisor": ("|".join(("none", *map(str.lower, HYPERVISORS.values()))), _hypervisor),
}
#: Of those, what is the machine's under any kernel.
_MACHINE = frozenset({"cpus", "hypervisor", "tsme"})


def _name(item: str) -> str:
    return item.partition("=")[0]


def _state(item: str) -> tuple[str, object]:
    name, _, text = item.partition("=")
    if name not in STATES:
        raise UsageError(f"--state {item!r}", do=f"write NAME=VALUE for {', '.join(STATES)}")
    form, read = STATES[name]
    value = read(text.strip())
    if value is None or not text.strip():
        raise UsageError(f"--state {item!r}", do=f"write {name}={form}")
    return name, value
