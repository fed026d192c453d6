# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of libvirt's CPU data files (``virsh cpu-baseline`` test data, ``cpu-gather.py``).

::

    <cpudata arch='x86'>
      <cpuid eax_in='0x8000001f' ecx_in='0x00' eax='0x0001000f' ebx=… ecx=… edx=…/>
      <msr index='0x10a' edx='0x00000000' eax='0x0000000b'/>
    </cpudata>
"""

from __future__ import annotations

from staleline.evidence.cpuid.dump import CpuidDump
from staleline.evidence.snapshot import Snapshot
from staleline.evidence.tools.xml_document import Elements, read_elements
from staleline.pattern import Pattern

__all__ = ["parse"]

_NUMBER = Pattern(r"0x[0-9a-fA-F]{1,8}|[0-9]{1,10}")
_GATHER = "gather the CPU data again with libvirt's cpu-gather.py"


def parse(text: str, where: str) -> Snapshot:
    """Return the one CPU that `text` describes.

    Raises:
        EvidenceError: The text is not well-formed XML, not libvirt CPU data of x86, or incomplete.
    """
    reader = _Reader(where)
    read_elements(text, where, _GATHER, reader)
    return reader.dump.snapshot()


class _Reader(Elements):
    def __init__(self, where: str) -> None:
        self.dump = CpuidDump(where)
        self._in_cpudata = False

    def start(self, name: str, attributes: dict[str, str], line: int) -> None:
        if not self._in_cpudata:
            self._start_root(name, attributes, line)
        elif name == "cpuid":
            self._cpuid(attributes, line)
        elif name == "msr":
            self._msr(attributes, line)

    def _start_root(self, name: str, attributes: dict[str, str], line: int) -> None:
        if name != "cpudata":
            raise self.dump.error(line, f"is XML of <{name}>, not libvirt's <cpudata>", _GATHER)
        if attributes.get("arch") != "x86":
            raise self.dump.error(
                line, f"field arch is {attributes.get('arch')!r}, not 'x86'", _GATHER
            )
        self._in_cpudata = True

    def _cpuid(self, attributes: dict[str, str], line: int) -> None:
        leaf = self._number(attributes, "eax_in", line)
        subleaf = self._number(attributes, "ecx_in", line) if "ecx_in" in attributes else 0
        eax, ebx, ecx, edx = (
            self._number(attributes, register, line) for register in ("eax", "ebx", "ecx", "edx")
        )
        self.dump.add(line, leaf, subleaf, (eax, ebx, ecx, edx))

    def _msr(self, attributes: dict[str, str], line: int) -> None:
        number, high, low = (self._number(attributes, f, line) for f in ("index", "edx", "eax"))
        self.dump.add_msr(line, number, high << 32 | low)

    def _number(self, attributes: dict[str, str], field: str, line: int) -> int:
        text = attributes.get(field)
        value = -1 if text is None or not _NUMBER.fullmatch(text) else _integer(text)
        if not 0 <= value < 1 << 32:
            raise self.dump.error(
                line, f"field {field} is {text!r}, not an unsigned 32-bit number", _GATHER
            )
        return value


def _integer(text: str) -> int:
    return int(text, 16) if text.startswith("0x") else int(text, 10)
