# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines whose dom0 is looked at, of which the registers alone deny a hypervisor.

Layouts: Xen 4.17 tools/misc/xen-cpuid.c, tools/xl/xl_info.c output_xeninfo(),
xen/drivers/char/console.c; Linux 7.3.4 drivers/xen/sys-hypervisor.c, xenfs/super.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from staleline.evidence.cpuid.dump import INDEXED_LEAVES
from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.hosts.merge import merged
from staleline.evidence.hosts.trees import layout_of, read_tree
from staleline.evidence.snapshot import Snapshot
from staleline.evidence.staleline_collect import collect, document_text, redacted
from staleline.facts import from_snapshot
from tests.evidence import writers

ROME = Path(__file__).parents[2] / "data/cpuid/full/amd-epyc-7742-64-core-processor-dual.test.xz"

_CONSOLE = (
    "(XEN) Xen version 4.17.3 (Debian 4.17.3+10-g091466ba55-1) (pkg@host) debug=n\n"
    "(XEN) Command line: placeholder dom0_mem=4096M\n"
)
#: Xen 4.17 tools/xl/xl_info.c output_nodeinfo() and output_xeninfo(), cut down.
_INFO = (
    "host                   : a\nrelease                : 6.1.0-18-amd64\n"
    "machine                : x86_64\nnr_cpus                : 32\n"
    "hw_caps                : 178bf3ff:76f8320b:2e500800:244037ff:0000000f:219c91a9\n"
    "virt_caps              : pv hvm hvm_directio pv_directio hap\n"
    "xen_major              : 4\nxen_version            : 4.17.3\n"
    "xen_caps               : xen-3.0-x86_64 hvm-3.0-x86_64\n"
)


def _jumper(machine: Snapshot) -> tuple[object, object]:
    facts = from_snapshot(machine)
    return facts["hypervisor_name"].value, facts["jumped_by"].value


@pytest.fixture(scope="module")
def rome() -> Snapshot:
    return Snapshot(cpus=read_snapshot(ROME).cpus[:1])


def test_registers_alone_deny_it(rome: Snapshot) -> None:
    assert _jumper(parse_snapshot(writers.as_cpuid_tool(rome), "file")) == ("none", "kernel")


@pytest.mark.parametrize(
    "said",
    [
        _CONSOLE,
        _CONSOLE.replace("(XEN) ", "(XEN) [0000001fb8a8c] "),
        _CONSOLE + "[    0.000000] Linux version 6.1.0-18-amd64 (a@b) (gcc) #1 SMP\n",
        _INFO,
        f"# xl dmesg | head -2\n{_CONSOLE}",
        f"what Xen says\n{_CONSOLE}",
    ],
)
def test_xens_tools_and_console_tell(rome: Snapshot, said: str) -> None:
    dump = writers.as_cpuid_tool(rome)
    for text in (dump + said, said + "\n" + dump):
        assert _jumper(parse_snapshot(text, "file")) == ("Xen", "xen"), text[:200]


def test_only_dom0_gets_xens_policies(rome: Snapshot) -> None:
    policy = writers.as_xen_policy(rome, indexed=INDEXED_LEAVES)
    assert _jumper(parse_snapshot(policy, "file")) == ("Xen", "xen")


def test_a_guests_console_tells_of_no_dom0() -> None:
    text = "(d1) Linux version 6.1.0-18-amd64\n[    0.1] smp: Brought up 1 node, 2 CPUs\n"
    assert _jumper(parse_snapshot(text, "file")) == (None, None)


_TREE: Mapping[str, bytes] = {
    "proc/cpuinfo": b"processor\t: 0\nvendor_id\t: AuthenticAMD\n\n",
    "proc/cmdline": b"placeholder root=/dev/sda\n",
}


@pytest.mark.parametrize(
    ("files", "jumper"),
    [
        ({}, (None, None)),
        ({"sys/hypervisor/type": b"xen\n"}, ("Xen", None)),
        ({"proc/xen/capabilities": b""}, (None, None)),
        ({"sys/hypervisor/type": b"xen\n", "proc/xen/capabilities": b""}, ("Xen", None)),
        (
            {"sys/hypervisor/type": b"xen\n", "proc/xen/capabilities": b"control_d\n"},
            ("Xen", "xen"),
        ),
        ({"proc/xen/capabilities": b"control_d\n"}, ("Xen", "xen")),
        ({"sos_commands/xen/xl_info": _INFO.encode()}, ("Xen", "xen")),
        ({"sos_commands/xen/xl_dmesg": _CONSOLE.encode()}, ("Xen", "xen")),
        ({"sos_commands/xen/xl_dmesg": b"bash: xl: command not found\n"}, (None, None)),
    ],
)
def test_files_of_a_tree_tell(files: Mapping[str, bytes], jumper: tuple[object, object]) -> None:
    tree = layout_of({**_TREE, **files}, "tree")
    assert tree is not None
    assert _jumper(read_tree(tree, "tree")) == jumper


def test_the_collector_keeps_it_when_it_redacts() -> None:
    tree = layout_of({**_TREE, "proc/xen/capabilities": b"control_d\n"}, "tree")
    assert tree is not None
    document = redacted(collect(tree))
    assert _jumper(parse_snapshot(document_text(document), "file")) == ("Xen", "xen")


def test_it_is_no_contradiction_with_the_registers(rome: Snapshot) -> None:
    machine = merged([parse_snapshot(_INFO, "info"), rome], "both")
    assert from_snapshot(machine)["hypervisor"].value is True
