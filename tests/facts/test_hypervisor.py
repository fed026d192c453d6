# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that Hyper-V isolates: what registers tell of them, and that no verdict rests on it.

Bits: linux 7.3.4 include/hyperv/hvgdk_mini.h:307 HV_ISOLATION, HV_CREATE_PARTITIONS. What Azure's
paravisor hides: leaf 0x8000001F EAX of SNP guests (virtee/sevctl issue 186, a DCads v5), leaf
0x21 of TDX guests (systemd pull request 33872).
"""

from __future__ import annotations

import pytest

from staleline.evidence.detect import parse_snapshot
from staleline.evidence.merge import merged
from staleline.facts import MachineFacts
from staleline.facts.machine import from_snapshot
from staleline.verdict.possible import possible_machines

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
