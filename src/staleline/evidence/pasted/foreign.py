# SPDX-License-Identifier: GPL-2.0-or-later
"""Texts that tell nothing that decides, or not for certain: what they are, and what to give.

They name the CPU for people to read. None has its registers, its flags as the kernel names
them, or what the kernel says.
"""

from __future__ import annotations

from staleline.errors import EvidenceError
from staleline.pattern import Pattern

__all__ = ["refused"]

_GIVE = "give cpuid -r output, /proc/cpuinfo, lscpu and dmesg output, or run staleline collect"

#: What a line of it looks like, what it is, and what to do where that is not `_GIVE`.
_KINDS = tuple(
    (Pattern(pattern), what, do)
    for pattern, what, do in (
        # dmidecode.c main(), SMBIOS: what firmware calls the CPU.
        (
            r"# dmidecode [0-9].*|Handle 0x[0-9A-F]{4}, DMI type [0-9]+.*",
            "the output of dmidecode",
            _GIVE,
        ),
        # inxi's CPU and System sections, one name for each.
        (
            r"CPU:\s+(?:Info|Topology|Model):? .*|(?:System:)?\s+(?:Host|Kernel): .* bits: .*",
            "the output of inxi",
            _GIVE,
        ),
        (r"\s*\*-(?:cpu|core|firmware)(?::[0-9]+)?(?: DISABLED)?", "the output of lshw", _GIVE),
        (
            r"[0-9]{2}: None [0-9]{2}\.[0-9]+: [0-9]{5} CPU|>> hal\.1: read hal data.*",
            "the output of hwinfo",
            _GIVE,
        ),
        (r"x86info v[0-9].*", "the output of x86info without -r", "run x86info -r, or cpuid -r"),
        (
            r"Xen reports there are maximum .*|nr_features: [0-9]+|KEY: .*|Static sets:",
            "the output of xen-cpuid without -p",
            "run xen-cpuid -p in dom0, and give its output whole",
        ),
        (
            r"xen_caps\s*: .*|virt_caps\s*: .*",
            "the output of xl info",
            "run xl dmesg and xen-cpuid -p in dom0",
        ),
        (
            r"CPU model:\s+x86_64\s*",
            "the output of virsh nodeinfo",
            "run virsh capabilities and virsh domcapabilities",
        ),
        (
            r"machdep\.cpu\..*: .*|hw\.(?:model|machine|ncpu): .*",
            "the output of sysctl of a BSD or macOS",
            _GIVE,
        ),
        (
            r"Host Name:\s+\S.*|Processor\(s\):\s+[0-9]+ Processor.*",
            "the output of systeminfo of Windows",
            _GIVE,
        ),
        (
            r"\s*(?:Number of cores|Max CPUID ext\. level)\s+\S.*",
            "a CPU-Z report without its dump",
            "save the report as text, with the dump of every thread, or give cpuid -r output",
        ),
        (
            r"CPU: .*\(.*-MHz .*-class CPU\)",
            "dmesg of FreeBSD",
            "run cpucontrol -i 0 and so on for every leaf, and give its output",
        ),
        (r"\s*(?:QEMU|LXC): Checking .*", "the output of virt-host-validate", _GIVE),
        (r"Available CPUs:|x86 [A-Za-z0-9_-]+\s{2,}.*", "a list of QEMU's CPU models", _GIVE),
        (
            r"\s*(?:Static hostname|Icon name|Operating System|Machine ID): .*",
            "the output of hostnamectl",
            _GIVE,
        ),
        (r"Coreinfo v[0-9].*|HYPERVISOR\s+[-*]\s.*", "the output of Coreinfo", _GIVE),
        (
            r"\s+(?:SME|SEV|SEV-ES|SEV-SNP|TME)\b.* = (?:true|false)",
            "the output of cpuid without its headings",
            "give the output of cpuid -1 whole, or of cpuid -r",
        ),
        (
            r".*\b(?:guestCPUID|guest level|CPUID\[[0-9]+\]) .*",
            "a guest's CPUID in a log of VMware",
            "give the lines of hostCPUID",
        ),
        (
            r"[-+*] ?\[ *[0-9]{1,10}\.[0-9]{6}\] .*",
            "a list of a log's lines, or of what two logs differ in",
            "give the output of dmesg as it was printed",
        ),
    )
)
#: Four registers or more, of which nothing says which they are.
_BARE_ROW = Pattern(
    r"\W{0,8}(?:(?:0x)?[0-9A-Fa-f]{8}h?[\s,:|;-]{1,8}){4,5}(?:0x)?[0-9A-Fa-f]{8}h?\W{0,8}"
)
_LONGEST = 300


def refused(text: str, where: str) -> EvidenceError | None:
    """The error about a text that no reader knows; None where it is not known here either."""
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _LONGEST:
            continue
        if _BARE_ROW.fullmatch(line):
            return EvidenceError(
                "has numbers of which nothing says which are leaf and registers",
                where=f"{where}:{number}",
                do="give the output of cpuid -r, or write a heading over the columns: "
                "leaf subleaf eax ebx ecx edx",
            )
        for pattern, what, do in _KINDS:
            if pattern.fullmatch(line):
                return EvidenceError(
                    f"is {what}, which does not tell what decides",
                    where=f"{where}:{number}",
                    do=do,
                )
    return None
