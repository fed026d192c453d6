# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of ``virsh capabilities`` and ``virsh domcapabilities``: what is certain of the host.

What a domain may use proves less of the host: hypervisors emulate features.
"""

from __future__ import annotations

import re

from staleline.evidence.pasted import architecture
from staleline.evidence.snapshot import Note, Snapshot, Statement
from staleline.evidence.tools.xml_document import Elements, read_elements
from staleline.pattern import Pattern

__all__ = ["is_document", "parse"]

_ROOT = Pattern(
    r"\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--(?:[^-]|-(?!->))*-->\s*)*<(?:capabilities|domainCapabilities)\b"
)
_AGAIN = "run virsh capabilities or virsh domcapabilities again and copy its output whole"
_NOTE = Note("cpuid", "only libvirt's capabilities were given; run cpuid -r, or staleline collect")
#: libvirt's names of vendors (src/cpu_map/x86_vendors.xml).
_VENDORS = {"Intel": "GenuineIntel", "AMD": "AuthenticAMD", "Hygon": "HygonGenuine"}
_ARCH = ("capabilities", "host", "cpu", "arch")
_VENDOR = ("capabilities", "host", "cpu", "vendor")
_DOMAIN_ARCH = ("domainCapabilities", "arch")
_SEV = ("domainCapabilities", "features", "sev")


def is_document(text: str) -> bool:
    """Does `text` begin such a document?"""
    return _ROOT.match(text) is not None


def parse(text: str, where: str) -> Snapshot:
    """Return what `text` says of the host.

    Raises:
        EvidenceError: The text is not well-formed XML, or of a host that is not x86.
    """
    reader = _Reader(where)
    read_elements(text, where, _AGAIN, reader)
    return Snapshot(cpus=(), statements=tuple(reader.statements), notes=(_NOTE,))


class _Reader(Elements):
    def __init__(self, where: str) -> None:
        self.statements: list[Statement] = []
        self._where = where
        self._path: list[str] = []
        self._text = ""
        self._sev = False

    def start(self, name: str, attributes: dict[str, str], line: int) -> None:
        del line
        self._path.append(name)
        self._text = ""
        if tuple(self._path) == _SEV and attributes.get("supported") == "yes":
            self._sev = True
            self.statements.append(Statement("sev", True, "virsh domcapabilities, sev supported"))

    def text(self, data: str) -> None:
        # Names are shorter, and a document may have megabytes between two elements.
        self._text = (self._text + data)[:64]

    def end(self, name: str) -> None:
        del name
        path, text = tuple(self._path), self._text.strip()
        if path in (_ARCH, _DOMAIN_ARCH) and not architecture.is_x86(text):
            raise architecture.refused_architecture(text, self._where)
        # Of the CPU that libvirtd runs on.
        if path == _VENDOR and text in _VENDORS:
            said = f"virsh capabilities, vendor {text}"
            self.statements.append(Statement("vendor", _VENDORS[text], said))
        # CPUID leaf 0x8000001F EBX[5:0] of the host (QEMU target/i386/sev.c
        # sev_get_capabilities()); the reduction of the address space is a constant there and not
        # read.
        if path == (*_SEV, "cbitpos") and self._sev and re.fullmatch("[0-9]{1,2}", text):
            said = f"virsh domcapabilities, cbitpos {text}"
            self.statements.append(Statement("cbit_position", int(text), said))
        self._path.pop()
        self._text = ""
