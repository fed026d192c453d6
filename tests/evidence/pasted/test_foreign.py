# SPDX-License-Identifier: GPL-2.0-or-later
"""Outputs of tools that tell nothing that decides: one line says so, and what to give."""

from __future__ import annotations

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.snapshot import Snapshot

#: First lines of what each prints: dmidecode 3.4, inxi 3.3.26 and older, lshw 02.19, hwinfo 21.82,
#: x86info 1.31pre, Xen 4.17, libvirt 9.0, FreeBSD 14, macOS, Windows, CPU-Z 2.
FOREIGN = {
    "dmidecode": "# dmidecode 3.4\nHandle 0x0004, DMI type 4, 48 bytes\n\tFamily: Zen\n",
    "inxi": "System:\n  Kernel: 6.1.0-9-amd64 arch: x86_64 bits: 64 Desktop: N/A\n",
    "inxi ": "CPU:       Info: 8-Core model: AMD Ryzen 7 2700 bits: 64 type: MT MCP\n",
    "lshw": "  *-cpu:0\n       product: AMD EPYC 7742 64-Core Processor\n       physical id: 4\n",
    "hwinfo": "01: None 00.0: 10103 CPU\n  [Created at cpu.465]\n  Vendor: AuthenticAMD\n",
    "x86info without -r": "x86info v1.31pre\nFound 2 identical CPUs\n",
    "xen-cpuid without -p": "nr_features: 22\nKEY: 1d  1c\nRaw                178bfbff:fffa3203\n",
    "virsh nodeinfo": "CPU model:           x86_64\nCPU(s):              256\n",
    "sysctl": "hw.model: AMD EPYC 7502P 32-Core Processor\nhw.ncpu: 64\n",
    "sysctl ": "machdep.cpu.brand_string: Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz\n",
    "systeminfo": "Host Name:                 NODE17\nOS Name:      Windows Server 2022\n",
    "CPU-Z": "Socket 1\t\t\tID = 0\n\tNumber of cores\t\t8 (max 8)\n\tCodename\t\tMatisse\n",
    "virt-host-validate": "  QEMU: Checking for hardware virtualization         : PASS\n\n",
    "QEMU": "x86 EPYC-Rome             AMD EPYC-Rome Processor\nx86 host\n",
    "Coreinfo": "Coreinfo v3.52 - Dump information on system CPU and memory topology\nx\n",
    "cpuid without its headings": "      SME: secure memory encryption support    = true\n\n",
    "VMware": "vcpu-0| guestCPUID level 00000000, 0: 0x0000000d 0x68747541 0x444d4163 0x69\n\n",
    "two logs differ in": "+[    0.100000] Memory Encryption Features active: AMD SME\n",
}


def message_of(text: str) -> str:
    with pytest.raises(EvidenceError) as caught:
        parse_snapshot(text, "file")
    return str(caught.value)


@pytest.mark.parametrize("tool", FOREIGN)
def test_a_foreign_output_is_named_and_what_to_give_instead(tool: str) -> None:
    for before, line in (("", 1), ("Hello,\n\n", 3)):
        message = message_of(before + FOREIGN[tool])
        assert tool.strip() in message
        assert message.startswith((f"file:{line}: is ", f"file:{line + 1}: is ")), message
        assert "\n" not in message
        assert any(word in message for word in ("; give ", "; run ", "; save "))


@pytest.mark.parametrize("tool", FOREIGN)
def test_beside_a_format_that_is_read_it_is_no_matter(tool: str) -> None:
    log = "[    0.100000] Memory Encryption Features active: AMD SME\n"
    assert parse_snapshot(f"{FOREIGN[tool]}\n{log}", "file").state.sme_active is True


def test_freebsds_line_of_the_cpu() -> None:
    """As FreeBSD 14 prints it of an EPYC 7502P."""
    text = (
        "CPU: AMD EPYC 7502P 32-Core Processor                (2495.45-MHz K8-class CPU)\n"
        '  Origin="AuthenticAMD"  Id=0x830f10  Family=0x17  Model=0x31  Stepping=0\n'
        "  Features=0x178bfbff<FPU,VME,DE,PSE>\n"
    )
    machine: Snapshot = parse_snapshot(text, "file")
    assert {one.name: one.value for one in machine.statements} == {
        "vendor": "AuthenticAMD",
        "family": 23,
        "model": 49,
        "stepping": 0,
    }
    cut = text[: text.index("Stepping=0") + len("Stepping=0")]
    assert parse_snapshot(cut, "file").statements == ()
    assert message_of(text.partition("\n")[0] + "\n").startswith("file:1: is dmesg of FreeBSD,")


def test_the_source_of_a_web_page() -> None:
    assert message_of("{\\rtf1\\ansi [    0.000000] Linux version 6.1.9 (x) #1\\par\n") == (
        "file: is the source of a document in RTF; save the text that it shows"
    )
    page = "<!DOCTYPE html>\n<html><body><p>[ 0.000000] x</p></body></html>\n"
    assert message_of(page).startswith("file: is the source of a web page with no block of lines")
