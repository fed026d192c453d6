# SPDX-License-Identifier: GPL-2.0-or-later
"""Outputs over which it is written that they are of two machines are not put together.

Each output tells nothing that the other denies: a dump of an EPYC 7763, and a command line.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.pasted.labels import of_two_machines
from tests.evidence.writers import as_tar

ROWS = (
    "CPU:\n"
    "   0x00000000 0x00: eax=0x00000010 ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65\n"
    "   0x00000001 0x00: eax=0x00a00f11 ebx=0x00800800 ecx=0x7efa320b edx=0x178bfbff\n"
)
LOG = "[    0.000000] Command line: root=/dev/sda1 ro mem_encrypt=off\n[    1.000000] x\n"

#: As bug reports have them: a host and its guest (archspec/archspec issue 63,
#: cloud-hypervisor/cloud-hypervisor issue 1769), machines with numbers, and what cat, head and more
#: put over files.
OF_TWO = [
    ("Host:", "Guest:"),
    ("Host", "Guest"),
    ("On the host:", "Inside VM:"),
    ("**Hypervisor**", "**In the guest**"),
    ("## Host system", "## VM 1"),
    ("dom0:", "domU:"),
    ("Bare metal:", "Virtual machine:"),
    ("L0 dmesg:", "L1 dmesg:"),
    ("### Server 1", "### Server 2"),
    ("Node-a:", "Node-b:"),
    ("VM1:", "VM2:"),
    ("Laptop A:", "Laptop B:"),
    ("### Working machine", "### Broken machine"),
    ("On the AMD server:", "On the Intel server:"),
    ("Hypervisor host:", "Guest VM dmesg:"),
    ("\u5bbf\u4e3b\u673a\uff1a", "\u865a\u62df\u673a\uff1a"),
    ("==> host1/cpuid.txt <==", "==> host2/dmesg.txt <=="),
    ("==> rome/out.txt <==", "==> milan/out.txt <=="),
    ("$ cat hostA.cpuid", "$ cat hostB.dmesg"),
    ("$ cat /tmp/a/cpuid.txt", "$ sudo cat /tmp/b/dmesg.txt"),
    ("::::::::::::::\nnode1.cpuid\n::::::::::::::", "::::::::::::::\nnode2.log\n::::::::::::::"),
    ("$ cat 10.0.0.5/cpuid", "$ cat 10.0.0.6/dmesg"),
]
OF_ONE = [
    ("Host:", "Host dmesg:"),
    ("In the VM:", "Guest kernel log:"),
    ("Server 1:", "Server 1 dmesg:"),
    ("==> host1/cpuid.txt <==", "==> host1/dmesg.txt <=="),
    ("==> cpuid.txt <==", "==> dmesg.1 <=="),
    ("$ cat cpuid.txt", "$ cat dmesg.log"),
    ("$ cat rome.cpuid", "$ cat rome-dmesg.txt"),
    ("$ cat /proc/cpuinfo", "$ cat /var/log/dmesg"),
    ("Server:", "Log:"),
    ("### Operating system", "### Affected system"),
    ("The broken machine:", "Broken machine dmesg:"),
]


@pytest.mark.parametrize(("first", "second"), OF_TWO)
@pytest.mark.parametrize("fence", ["", "```\n"])
def test_two_machines_are_refused(first: str, second: str, fence: str) -> None:
    """They were judged as one: safe in a crash by the other's mem_encrypt=off."""
    text = f"{first}\n{fence}{ROWS}{fence}\n{second}\n{fence}{LOG}{fence}"
    with pytest.raises(EvidenceError, match=r"file:\d+: is of .+, and line 1 of .+; give one file"):
        parse_snapshot(text, "file")


@pytest.mark.parametrize(("first", "second"), OF_ONE)
def test_one_machine_is_read(first: str, second: str) -> None:
    machine = parse_snapshot(f"{first}\n{ROWS}\n{second}\n{LOG}", "file")
    assert machine.cpus
    assert machine.kernel.cmdline == "root=/dev/sda1 ro mem_encrypt=off"


def test_a_label_over_nothing_that_is_read_is_prose() -> None:
    text = f"Host:\nUbuntu 24.04\n\nGuest:\n{ROWS}\n{LOG}"
    assert parse_snapshot(text, "file").cpus


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("a/cpuid.txt", "b/dmesg.txt"), True),
        (("x/node1/cpuid", "x/node2/log"), True),
        (("rome/cpuid.txt", "milan/cpuid.txt"), True),
        (("hostA.txt", "hostB.txt"), True),
        (("cpu/cpuid.txt", "log/dmesg.txt"), False),
        (("kern.log.1", "kern.log.2.gz"), False),
        (("dmesg-20261130.txt", "dmesg-20261201.txt"), False),
        (("cpu0.txt", "cpu1.txt"), False),
        (("report/rome.cpuid", "report/dmesg.txt"), False),
        (("a.txt", "b.txt"), False),
    ],
)
def test_names_of_files(names: tuple[str, str], told: bool) -> None:
    assert (of_two_machines(names) is not None) is told


def test_an_archive_of_two_hosts_of_one_model_is_refused(tmp_path: Path) -> None:
    """What neither denies of the other was put together."""
    archive = tmp_path / "two.tar"
    archive.write_bytes(as_tar({"a/cpuid.txt": ROWS.encode(), "b/dmesg.txt": LOG.encode()}))
    with pytest.raises(EvidenceError, match=r"holds .*a/cpuid.txt and .*b/dmesg.txt, as of two"):
        read_snapshot(archive)
