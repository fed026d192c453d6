# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of CPUID rows of many tools: those that say which number is leaf and which register.

Registers named in the row, in any order::

    eax in: 0x00000001, eax = 000206c2 ebx = 00040800 ecx = 82982223 edx = 1fabfbff

(``x86info -r``; ``kcpuid -r``, Linux 7.3.4 tools/arch/x86/kcpuid/kcpuid.c leaf_print_raw()), or
named by a heading over columns::

      leaf     subleaf  -> eax      ebx      ecx      edx
      00000004:00000000 -> fc004121:02c0003f:0000003f:00000000

(``xen-cpuid -p``, Xen tools/misc/xen-cpuid.c print_policy(); ``cpuid`` of the years before 2006,
whose heading is "eax in eax ebx ecx edx"; CPU-Z), or as ``cpucontrol -i`` prints them (FreeBSD
usr.sbin/cpucontrol/cpucontrol.c do_cpuid(), do_cpuid_count()), or as the logs of VMware and
VirtualBox show the host's.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from staleline.evidence.cpuid.dump import INDEXED_LEAVES, CpuidDump
from staleline.evidence.log import xen
from staleline.evidence.registers import Registers
from staleline.evidence.snapshot import Note, Snapshot
from staleline.pattern import Pattern

__all__ = ["is_row", "parse"]

_REGISTERS = ("eax", "ebx", "ecx", "edx")
#: No row is longer; time to try a pattern grows with the length's square.
_ROW_MAX: Final = 200
#: Eight digits are hexadecimal whether or not they say so; fewer only with 0x or h.
_NUMBER = r"(?:0x[0-9a-f]{1,8}|[0-9a-f]{8}h?)"
#: A sub-leaf of one digit is the same number in any notation.
_SUBLEAF = rf"(?:{_NUMBER}|[0-9a-f]h|[0-9])"
_ONE_REGISTER = rf"\W{{1,8}}(?:e[abcd]x)\W{{1,6}}{_NUMBER}"
_NAMED = Pattern(
    r"\W{0,40}(?:(?:cpuid|leaf|function|level|eax in|eax|in)\W{0,4}){0,3}"
    rf"(?P<leaf>{_NUMBER})"
    rf"(?:\W{{1,4}}(?:(?:sub-?leaf|subfunction|ecx in|ecx|index|count)\W{{0,4}})?"
    rf"(?P<subleaf>{_SUBLEAF}))?"
    rf"(?P<registers>(?:{_ONE_REGISTER}){{4}})\W{{0,8}}",
    re.IGNORECASE,
)
_REGISTER = Pattern(rf"(e[abcd]x)\W{{1,6}}({_NUMBER})", re.IGNORECASE)
_CPUCONTROL = Pattern(
    r"cpuid level (?P<leaf>0x[0-9a-f]{1,8})(?:, level_type (?P<subleaf>0x[0-9a-f]{1,8}))?:"
    r"(?P<registers>(?: 0x[0-9a-f]{8}){4})\s*"
)
#: kcpuid heads the rows of a leaf with sub-leaves by a line of its own.
_SUBLEAFS = Pattern(r"(0x[0-9a-f]{8}): subleafs:\s*")
_OF_SUBLEAF = Pattern(rf" {{0,2}}([0-9]{{1,2}}):((?:\W{{1,2}}E[ABCD]X={_NUMBER}){{4}})\s*", re.I)
_FOUR = r"(?P<registers>(?:\s+(?:0x)?[0-9a-f]{8}){4})"
#: vmware.log; guests' rows have another word before "level".
_VMWARE = Pattern(
    r"(?:.{0,100}[|:] )?hostCPUID level (?P<leaf>[0-9a-f]{8}), (?P<subleaf>[0-9a-f]):"
    rf"{_FOUR}\s*"
)
#: VBox.log: what the guest is shown, with leaf and sub-leaf, and below it what the host has.
_VBOX_GUEST = Pattern(rf"\s*Gst: (?P<leaf>[0-9a-f]{{8}})/(?P<subleaf>[0-9a-f]{{4}}){_FOUR}.*")
_VBOX_HOST = Pattern(rf"\s*Hst:{_FOUR}\s*\*?\s*")
#: Begins like one of these rows.
_BEGINS = Pattern(
    r"\s*(?:eax in: ?|cpuid level 0x|[0-9]{1,2}: E[AB]|0x[0-9a-f]{8}: (?:E[AB]|sub))", re.IGNORECASE
)
_COLUMNS = {
    "leaf": Pattern(r"(?:leaf|function|level|cpuid|eax[ _]in|in)\b", re.IGNORECASE),
    "subleaf": Pattern(r"(?:sub-?leaf|subfunction|ecx[ _]in|count)\b", re.IGNORECASE),
    **{name: Pattern(rf"{name}\b", re.IGNORECASE) for name in _REGISTERS},
}
_BETWEEN = Pattern(r"[\s|,;:/>-]{0,40}")
_NUMBERS = Pattern(
    rf"[\s|]{{0,40}}({_NUMBER}(?:[\s|,;:/>-]{{1,20}}{_SUBLEAF}){{1,5}})[\s|]{{0,20}}", re.I
)
#: The digits of one number; of a register there are at most eight.
_DIGITS = Pattern(r"(?<![0-9a-z])(?:0x)?([0-9a-f]{1,8})h?(?![0-9a-z])", re.IGNORECASE)
_WHOLE: Final = 8
_CPU_Z_HEADING = Pattern(r"\s*CPUID\s*")
_CPU_Z_COLUMNS = ("leaf", *_REGISTERS)
_CPU_Z_ROW = Pattern(r"\s*0x[0-9A-F]{8}(?:\s+0x[0-9A-F]{8}){4}\s*")
_CPU = Pattern(r"\s*CPU(?: Thread| ?#)? ?([0-9]{1,6}):?\s*", re.IGNORECASE)
#: CPU-Z's, and cpucontrol -m's (cpucontrol.c do_msr()): the upper half first.
_MSR = Pattern(
    r"\s*MSR 0x([0-9a-f]{1,8})(?::|\s+edx =) 0x([0-9a-f]{8})\s+(?:eax = )?0x([0-9a-f]{8})\s*", re.I
)
_POLICY = Pattern(r"\s*(\S[\w ]{0,40}?) policy: [0-9]+ leaves, [0-9]+ MSRs\s*")
#: What Xen itself read; its other policies are what guests are shown.
_RAW = "Raw"
#: Xen's XEN_CPUID_NO_SUBLEAF.
_NO_SUBLEAF = 0xFFFF_FFFF
_SAY_WHICH = (
    "give the output of cpuid -r, or write leaf and sub-leaf before named registers, as in "
    "0x0000001f 0x00: eax=0x00000001 ebx=0x00000002 ecx=0x00000003 edx=0x00000004"
)


def is_row(line: str) -> bool:
    """Is this a line that says what CPUID answered, or heads columns of such lines?"""
    return len(line) <= _ROW_MAX and (
        _NAMED.fullmatch(line) is not None
        or _CPUCONTROL.fullmatch(line) is not None
        or _SUBLEAFS.fullmatch(line) is not None
        or _POLICY.fullmatch(line) is not None
        or _CPU_Z_ROW.fullmatch(line) is not None
        or _VMWARE.fullmatch(line) is not None
        or _VBOX_GUEST.fullmatch(line) is not None
        or _columns(line) is not None
    )


def parse(text: str, where: str) -> Snapshot:
    """Return the machine that `text` describes.

    Raises:
        EvidenceError: A row is malformed, leaves open what its numbers are, or is of a guest.
    """
    reader = _Reader(where)
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if len(line) <= _ROW_MAX:
            reader.read(line, number, ended=number < len(lines))
    return reader.snapshot()


class _Reader:
    def __init__(self, where: str) -> None:
        self._dump = CpuidDump(where)
        self._columns: tuple[str, ...] | None = None
        self._cpu: int | None = None
        self._leaf: int | None = None
        self._of_guest: re.Match[str] | None = None
        self._policy = _RAW
        self._other_policy: int | None = None
        self._of_xen = False
        self._open: set[int] = set()
        self._rows = 0

    def read(self, line: str, number: int, *, ended: bool) -> None:
        if self._by_virtualbox(line, number) or self._heading(line, number):
            return
        if msr := _MSR.fullmatch(line):
            self._dump.add_cpu_msr(self._cpu, int(msr[1], 16), int(msr[2] + msr[3], 16))
        elif _may_be_cut(line, ended=ended):
            raise self._dump.error(number, "may lack the end of its last number", _SAY_WHICH)
        elif not self._row(line, number) and _BEGINS.match(line):
            raise self._dump.error(number, "is not a whole row of CPUID", _SAY_WHICH)

    def _heading(self, line: str, number: int) -> bool:
        if policy := _POLICY.fullmatch(line):
            self._policy, self._of_xen = policy[1], True
            if policy[1] != _RAW and self._other_policy is None:
                self._other_policy = number
        elif columns := _columns(line):
            self._columns = columns
        elif _CPU_Z_HEADING.fullmatch(line):
            self._columns = _CPU_Z_COLUMNS
        elif cpu := _CPU.fullmatch(line):
            self._cpu = int(cpu[1])
            self._dump.start_cpu(self._cpu, number)
        elif heading := _SUBLEAFS.fullmatch(line):
            self._leaf = int(heading[1], 16)
        else:
            return False
        return True

    def snapshot(self) -> Snapshot:
        if not self._rows and self._other_policy is not None:
            raise self._dump.error(
                self._other_policy,
                "is what Xen shows to guests, not what the CPU answers",
                "give the output of xen-cpuid -p in dom0, in which Raw policy stands, whole",
            )
        machine = self._dump.snapshot()
        if self._of_xen:
            # The hypercall for it is dom0's (Xen xen/arch/x86/sysctl.c XEN_SYSCTL_get_cpu_policy).
            machine = replace(machine, statements=xen.statements("xen-cpuid -p"))
        if not self._open:
            return machine
        leaves = ", ".join(f"{leaf:#x}" for leaf in sorted(self._open))
        left_out = Note(
            f"CPUID leaf {leaves}",
            "rows do not name the sub-leaf; run cpuid -r, or staleline collect",
        )
        return replace(machine, notes=(*machine.notes, left_out))

    def _row(self, line: str, number: int) -> bool:
        named = _NAMED.fullmatch(line)
        if row := named or _CPUCONTROL.fullmatch(line) or _VMWARE.fullmatch(line):
            by_name = named is not None
            registers = _named(row["registers"]) if by_name else _in_order(row["registers"])
            # FreeBSD's driver puts zero into ECX (sys/dev/cpuctl/cpuctl.c cpuctl_do_cpuid()).
            subleaf = _number(row["subleaf"]) if row["subleaf"] or by_name else 0
            self._add(number, _whole_number(row["leaf"]), subleaf, registers)
        elif row := _OF_SUBLEAF.fullmatch(line):
            if self._leaf is None:
                raise self._dump.error(number, "is of a leaf that nothing names", _SAY_WHICH)
            self._add(number, self._leaf, int(row[1]), _named(row[2]))
        elif numbers := _NUMBERS.fullmatch(line):
            self._by_columns(re.findall(_SUBLEAF, numbers[1], re.IGNORECASE), number)
        else:
            return False
        return True

    def _by_virtualbox(self, line: str, number: int) -> bool:
        """Is this a row of VBox.log? The host's counts, with the leaf of the guest's above it."""
        above, self._of_guest = self._of_guest, _VBOX_GUEST.fullmatch(line)
        host = None if above is None else _VBOX_HOST.fullmatch(line)
        if above is not None and host is not None:
            leaf, subleaf = int(above["leaf"], 16), int(above["subleaf"], 16)
            self._add(number, leaf, subleaf, _in_order(host["registers"]))
        return host is not None or self._of_guest is not None

    def _by_columns(self, numbers: list[str], line: int) -> None:
        columns = self._columns
        if columns is None:
            if len(numbers) < 1 + len(_REGISTERS):
                return
            raise self._dump.error(
                line, "has numbers of which nothing says what they are", _SAY_WHICH
            )
        if len(numbers) != len(columns):
            if len(numbers) < len(_REGISTERS):
                return
            raise self._dump.error(
                line, f"has {len(numbers)} numbers below {len(columns)} headings", _SAY_WHICH
            )
        of = dict(zip(columns, numbers, strict=True))
        subleaf = _number(of.get("subleaf"))
        registers = _named(" ".join(f"{name}={of[name]}" for name in _REGISTERS))
        self._add(line, _whole_number(of["leaf"]), subleaf, registers)

    def _add(self, line: int, leaf: int, subleaf: int | None, registers: Registers | None) -> None:
        if self._policy != _RAW:
            return
        if registers is None:
            raise self._dump.error(line, "names a register twice", _SAY_WHICH)
        self._rows += 1
        if subleaf == _NO_SUBLEAF:
            subleaf = None
        # What a row leaves open is not guessed: where it names no sub-leaf, the tool may have had
        # anything in ECX.
        if subleaf is None and leaf in INDEXED_LEAVES:
            self._open.add(leaf)
        else:
            self._dump.add(line, leaf, subleaf or 0, registers)


def _may_be_cut(line: str, *, ended: bool) -> bool:
    """Is the last register short, where the others have eight digits or the text ends?"""
    if not any(row.fullmatch(line) for row in (_NAMED, _OF_SUBLEAF, _NUMBERS)):
        return False
    digits = [len(number) for number in _DIGITS.findall(line)][-len(_REGISTERS) :]
    return digits[-1] < _WHOLE and (not ended or all(few == _WHOLE for few in digits[:-1]))


def _columns(line: str) -> tuple[str, ...] | None:
    """The columns that `line` heads; None where it does not name leaf and all registers."""
    names: list[str] = []
    at = 0
    while at < len(line) <= _ROW_MAX:
        at = _BETWEEN.match(line, at).end()  # type: ignore[union-attr]
        name = next((name for name, word in _COLUMNS.items() if word.match(line, at)), None)
        if name is None:
            break
        names.append(name)
        at = _COLUMNS[name].match(line, at).end()  # type: ignore[union-attr]
    whole = at >= len(line.rstrip()) and len(set(names)) == len(names)
    return tuple(names) if whole and {"leaf", *_REGISTERS} <= set(names) else None


def _named(text: str) -> Registers | None:
    values = {row[1].lower(): _whole_number(row[2]) for row in _REGISTER.finditer(text)}
    if len(values) != len(_REGISTERS):
        return None
    return values["eax"], values["ebx"], values["ecx"], values["edx"]


def _in_order(text: str) -> Registers:
    eax, ebx, ecx, edx = (int(digits, 16) for digits in text.split())
    return eax, ebx, ecx, edx


def _number(digits: str | None) -> int | None:
    return _whole_number(digits) if digits else None


def _whole_number(digits: str) -> int:
    return int(digits.rstrip("hH"), 16)
