# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that Hyper-V isolates: what registers tell of them, and that no verdict rests on it.

Bits: linux 7.3.4 include/hyperv/hvgdk_mini.h:307 HV_ISOLATION, HV_CREATE_PARTITIONS. What Azure's
paravisor hides: leaf 0x8000001F EAX of SNP guests (virtee/sevctl issue 186, a DCads v5), leaf
0x21 of TDX guests (systemd pull request 33872).
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.hosts.merge import merged
from staleline.evidence.snapshot import Snapshot, Statement
from staleline.facts import MachineFacts
from staleline.facts.machine import from_snapshot
from staleline.verdict.machines.possible import possible_machines

_AMD = """CPU 0:
   0x00000000 0x00: eax=0x0000000d ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65
   0x00000001 0x00: eax=0x00a00f11 ebx=0x00020800 ecx=0xfed83203 edx=0x178bfbff
{hyperv}
   0x80000000 0x00: eax=0x8000001f ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65
   0x8000001f 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x00000000 edx=0x00000000
"""
_INTEL = """CPU 0:
   0x00000000 0x00: eax=0x0000001f ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69
   0x00000001 0x00: eax=0x000806f8 ebx=0x00020800 ecx=0xfeda3203 edx=0x1f8bfbff
   0x00000007 0x00: eax=0x00000001 ebx=0xf1bf07ab ecx=0x00405f46 edx=0xbc000400
{hyperv}
   0x80000000 0x00: eax=0x80000008 ebx=0x00000000 ecx=0x00000000 edx=0x00000000
"""
_HYPERV = """   0x40000000 0x00: eax=0x4000000c ebx=0x7263694d ecx=0x666f736f edx=0x76482074
   0x40000003 0x00: eax=0x00002e7f ebx={privileges:#010x} ecx=0x00000002 edx=0x00bed7b2"""
_ORDINARY, _ISOLATED = 0x003B_8030, 0x007B_8030


def _facts(cpu: str, privileges: int, *lines: str) -> MachineFacts:
    dump = parse_snapshot(cpu.format(hyperv=_HYPERV.format(privileges=privileges)), "dump")
    log = [parse_snapshot("".join(f"{line}\n" for line in lines), "log")] if lines else []
    return from_snapshot(merged([dump, *log], "both"))


def _isolated(facts: MachineFacts) -> set[bool]:
    return {possible.machine.isolated for possible in possible_machines(facts)}


@pytest.mark.parametrize("cpu", [_AMD, _INTEL])
def test_an_isolated_guest_is_told_from_an_ordinary_one(cpu: str) -> None:
    assert _isolated(_facts(cpu, _ORDINARY)) == {False}
    assert _isolated(_facts(cpu, _ISOLATED)) == {True}


@pytest.mark.parametrize("cpu", [_AMD, _INTEL])
def test_what_the_paravisor_hides_is_not_taken_for_absent(cpu: str) -> None:
    facts, ordinary = _facts(cpu, _ISOLATED), _facts(cpu, _ORDINARY)
    guests = ("sev_guest", "sev_es_guest", "snp_guest") if cpu is _AMD else ("tdx_guest",)
    for name in guests:
        assert facts[name].value is None
        assert ordinary[name].value is False


@pytest.mark.parametrize(
    ("cpu", "line"),
    [
        (_AMD, "[    0.1] Memory Encryption Features active: AMD SEV"),
        (_INTEL, "[    0.1] Memory Encryption Features active: Intel TDX"),
    ],
)
def test_its_log_may_name_what_its_registers_hide(cpu: str, line: str) -> None:
    assert _isolated(_facts(cpu, _ISOLATED, line)) == {True}


def test_an_isolated_guest_is_no_root_partition_whatever_it_may_create() -> None:
    # linux 7.3.4 drivers/hv/hv_common.c:754
    assert _facts(_AMD, _ISOLATED | 1)["jumped_by"].value == "kernel"
    assert _facts(_AMD, _ORDINARY | 1)["jumped_by"].value == "hyper-v"


def _lscpu(vendor: str, kind: str) -> MachineFacts:
    rows = ("Architecture: x86_64", "Vendor ID: AuthenticAMD", "CPU family: 23", "Model: 49")
    tail = (f"Hypervisor vendor: {vendor}", f"Virtualization type: {kind}")
    return from_snapshot(parse_snapshot("".join(f"{row}\n" for row in (*rows, *tail)), "lscpu"))


@pytest.mark.parametrize(
    ("vendor", "kind", "name", "jumped_by"),
    [
        ("KVM", "full", "KVM", "kernel"),
        ("VMware", "full", "VMware", "kernel"),
        ("Oracle", "full", "VirtualBox", "kernel"),
        ("Innotek GmbH", "full", "VirtualBox", "kernel"),
        # Guest or root partition: leaf 0x40000003 tells, and lscpu does not.
        ("Microsoft", "full", "Hyper-V", None),
        # A PVH dom0 is "full" where CPUID shows Xen; /proc/xen/capabilities is read otherwise.
        ("Xen", "full", "Xen", None),
        ("Xen", "para", "Xen", None),
        ("Xen", "none", "Xen", "xen"),
        ("Unisys s-Par", "full", None, None),
        # A container's maker: nothing is said of what is below.
        ("Windows Subsystem for Linux", "container", None, None),
    ],
)
def test_lscpu_names_the_hypervisor_and_dom0(
    vendor: str, kind: str, name: str | None, jumped_by: str | None
) -> None:
    """util-linux 2.38.1 sys-utils/lscpu.c hv_vendors, lscpu-virt.c:538-600."""
    facts = _lscpu(vendor, kind)
    assert facts["hypervisor"].value is (None if kind == "container" else True)
    assert (facts["hypervisor_name"].value, facts["jumped_by"].value) == (name, jumped_by)


def test_what_linux_took_its_hypervisor_for_goes_before_the_first_signature() -> None:
    # KVM with Hyper-V's enlightenments shows both: its own signature comes at 0x40000100.
    leaf = """   0x40000000 0x00: eax=0x40000001 ebx=0x7263694d ecx=0x666f736f edx=0x76482074"""
    dump = parse_snapshot(_AMD.format(hyperv=leaf), "dump")
    log = parse_snapshot("[    0.000000] Hypervisor detected: KVM\n", "log")
    assert from_snapshot(dump)["jumped_by"].value is None
    assert from_snapshot(merged([dump, log], "both"))["jumped_by"].value == "kernel"


@pytest.mark.parametrize(
    ("name", "value"), [("hypervisor", "yes"), ("sme", 1), ("vendor", True), ("family", "23")]
)
def test_a_statement_of_another_type_is_an_error_that_names_it(
    name: str, value: bool | int | str
) -> None:
    statement = Statement(name, value, "a tool")
    with pytest.raises(EvidenceError, match=f"a tool: the statement of {name} is {value!r}"):
        from_snapshot(Snapshot(cpus=(), statements=(statement,)))


@pytest.mark.parametrize(
    ("vendor", "kind", "jumped_by"),
    [("Xen", "none", "xen"), ("Xen", "para", None), ("KVM", "full", "kernel")],
)
def test_lscpu_sees_a_hypervisor_whose_bit_is_hidden(
    vendor: str, kind: str, jumped_by: str | None
) -> None:
    """A PV domain's CPUID is the machine's; `-cpu host,-hypervisor` hides KVM's bit alone."""
    cpuid = _AMD.format(hyperv="").replace("ecx=0xfed83203", "ecx=0x7ed83203")
    rows = ("Architecture: x86_64", "Vendor ID: AuthenticAMD")
    tail = (f"Hypervisor vendor: {vendor}", f"Virtualization type: {kind}")
    lscpu = parse_snapshot("".join(f"{row}\n" for row in (*rows, *tail)), "lscpu")
    alone = from_snapshot(parse_snapshot(cpuid, "dump"))
    facts = from_snapshot(merged([parse_snapshot(cpuid, "dump"), lscpu], "both"))
    assert (alone["hypervisor"].value, facts["hypervisor"].value) == (False, True)
    assert facts["jumped_by"].value == jumped_by


@pytest.mark.parametrize("cpu", [_AMD, _INTEL])
def test_a_hypervisor_that_hides_its_bit_and_names_itself_is_one(cpu: str) -> None:
    """VMware's hypervisor.cpuid.v0 = "FALSE" takes the bit away and leaves the leaf."""
    hidden = cpu.replace("ecx=0xfe", "ecx=0x7e")
    named = hidden.format(hyperv=_HYPERV.format(privileges=_ORDINARY))
    unnamed = hidden.format(hyperv="")
    guest, machine = (from_snapshot(parse_snapshot(text, "dump")) for text in (named, unnamed))
    assert (guest["hypervisor"].value, guest["hypervisor_name"].value) == (True, "Hyper-V")
    assert (machine["hypervisor"].value, machine["hypervisor_name"].value) == (False, "none")


def test_a_module_that_may_enable_jailhouse_leaves_open_who_jumps() -> None:
    cpuid = _AMD.format(hyperv="").replace("ecx=0xfed83203", "ecx=0x7ed83203")
    bare = parse_snapshot(cpuid, "dump")
    assert from_snapshot(bare)["jumped_by"].value == "kernel"
    loaded = from_snapshot(replace(bare, modules={"jailhouse": {}}))["jumped_by"]
    assert loaded.value is None
    assert "rmmod jailhouse" in str(loaded.missing)
