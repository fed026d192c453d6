# SPDX-License-Identifier: GPL-2.0-or-later
"""What tools that look for a hypervisor say in a transcript, behind a prompt or in a row.

::

    $ systemd-detect-virt
    kvm
    # virt-what
    xen
    xen-dom0

They also look where CPUID does not show one: at DMI, /proc/xen and the device tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Final

from staleline.evidence.pasted.prompts import is_prompt
from staleline.evidence.snapshot import Snapshot, Statement
from staleline.evidence.statements import agreed
from staleline.pattern import Pattern

__all__ = ["detected"]

_COMMAND = Pattern(
    r".*[#$%>+]\s*(?:(?:sudo|doas)\s+)?(?:/\S{0,40}/)?"
    r"(?P<tool>systemd-detect-virt|virt-what)(?:\s+(?:-v|--vm|(?P<cvm>--cvm)))?\s*"
)
#: What systemd-detect-virt says beside, where it is asked to say how it knows.
_FOUND = Pattern(r"\s*Found VM virtualization (?P<word>[a-z]{2,20})\s*")
#: Of hostnamectl; lscpu's row of this name has a word in capitals.
_ROW = Pattern(r"\s*Virtualization: (?P<word>[a-z]{2,20})\s*")
_WORD = Pattern(r"\s*[a-z][a-zA-Z0-9_-]{1,30}\s*")
#: No row of these tools is longer, and what takes time is to try patterns on long lines.
_LONGEST: Final = 512
#: virt-what tells a word for each thing that it sees.
_WORDS_MAX: Final = 8
#: Word -> the hypervisor; None for one that is known by another name or by none. systemd 252
#: src/basic/virt.c virtualization_table; virt-what 1.25 virt-what.pod, FACTS.
_HYPERVISORS: Final[dict[str, str | None]] = {
    "acrn": "ACRN",
    "amazon": None,
    "bhyve": "bhyve",
    "bochs": None,
    "google": None,
    "hyperv": "Hyper-V",
    "kvm": "KVM",
    "microsoft": "Hyper-V",
    "oracle": "VirtualBox",
    "parallels": None,
    "qemu": "QEMU",
    "virtualbox": "VirtualBox",
    "vmware": "VMware",
    "xen": "Xen",
}
_DOM0: Final = "xen-dom0"
#: Word of --cvm -> what is so then. It asks AMD's CPUs for SEV_STATUS and Intel's for leaf 0x21,
#: and below Hyper-V for the isolation that it offers, which hides both: SNP and TDX tell less
#: (systemd 254 src/basic/confidential-virt.c).
_GUESTS: Final[dict[str, dict[str, str | bool]]] = {
    "sev": {"vendor": "AuthenticAMD", "hypervisor": True, "sev_guest": True},
    "sev-es": {
        "vendor": "AuthenticAMD",
        "hypervisor": True,
        "sev_guest": True,
        "sev_es_guest": True,
    },
    "sev-snp": {"vendor": "AuthenticAMD", "hypervisor": True},
    "tdx": {"vendor": "GenuineIntel", "hypervisor": True},
}


def detected(text: str) -> Snapshot | None:
    """The machine as far as such tools name its hypervisor; None where none does."""
    statements = agreed(_statements(text.split("\n")))
    return Snapshot(cpus=(), statements=statements) if statements else None


def _statements(lines: Sequence[str]) -> Iterator[Statement]:
    for number, line in enumerate(lines):
        if len(line) > _LONGEST:
            continue
        if row := _ROW.fullmatch(line):
            yield from _said((row["word"],), "hostnamectl, Virtualization")
        elif found := _FOUND.fullmatch(line):
            yield from _said((found["word"],), "systemd-detect-virt")
        elif (asked := _COMMAND.fullmatch(line)) and is_prompt(line):
            behind = lines[number + 1 :][:_WORDS_MAX]
            words = [told.strip() for told in takewhile(_WORD.fullmatch, behind)]
            # The last line of a text may be cut.
            words = words if len(words) < len(behind) else words[:-1]
            if asked["cvm"] is None:
                yield from _said(words, asked["tool"])
            else:
                yield from _said_of_guest(words[:1])


def _said_of_guest(words: Sequence[str]) -> Iterator[Statement]:
    for word in words:
        for name, value in _GUESTS.get(word, {}).items():
            yield Statement(name, value, f"systemd-detect-virt --cvm: {word}")


def _said(words: Sequence[str], tool: str) -> Iterator[Statement]:
    for word in words:
        source = f"{tool}: {word}"
        kind = "xen" if word.startswith("xen-") else word
        # "none" proves nothing, as systemd says so in Xen's dom0 too (systemd 252 src/basic/virt.c
        # detect_vm()), and within a container both name that.
        if kind in _HYPERVISORS:
            yield Statement("hypervisor", True, source)
            if (name := _HYPERVISORS[kind]) is not None:
                yield Statement("hypervisor_name", name, source)
        if word == _DOM0:
            yield Statement("jumped_by", "xen", source)
