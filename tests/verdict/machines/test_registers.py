# SPDX-License-Identifier: GPL-2.0-or-later
"""An image is run on the registers that the facts tell, whether CPUID was seen or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.given import with_given
from staleline.evidence.registers import CpuidTable, Registers
from staleline.evidence.snapshot import Snapshot
from staleline.facts import from_snapshot
from staleline.verdict.handover.kernels import ImageKernel
from staleline.verdict.machines.machine import Machine
from staleline.verdict.machines.possible import possible_machines
from staleline.verdict.machines.registers import has_cpuid, registers_of
from staleline.vocabulary import Site
from tests.conftest import RealKernel

CPUID = Path(__file__).parents[2] / "data/cpuid/libcpuid"
ROME = CPUID / "amd-epyc-7742-64-core-processor-dual.test"
DUMPS = {
    "Rome": ROME,
    "Milan": CPUID / "amd-epyc-7763-64-core-processor-dual.test",
    "Sapphire Rapids": CPUID / "intel-xeon-w9-3475x.test",
    "K8": CPUID / "amd-athlon-64-processor-3200+.test",
}
NOTHING = parse_snapshot('{"schema": "staleline/snapshot/1", "cpus": []}', "nothing")


def machines(snapshot: Snapshot) -> list[Machine]:
    return [possible.machine for possible in possible_machines(from_snapshot(snapshot))]


@pytest.mark.parametrize("release", ["6.12", "7"])
@pytest.mark.parametrize("dump", DUMPS)
def test_an_image_decides_alike_with_and_without_the_dump(
    real_kernels: dict[str, RealKernel], release: str, dump: str
) -> None:
    """Of a machine of which all listed facts are known, its other registers change nothing."""
    snapshot = read_snapshot(DUMPS[dump])
    image = real_kernels[release].running
    seen, made_up = ImageKernel(image, snapshot), ImageKernel(image, NOTHING)
    tried = machines(snapshot)[:24]
    assert tried
    for machine in tried:
        if not machine.hypervisor:
            assert seen.behaviour(machine) == made_up.behaviour(machine)


def test_a_guest_whose_hypervisor_is_not_known_is_read_under_each(
    real_kernels: dict[str, RealKernel],
) -> None:
    """Xen does not let its guests jump by themselves, others do."""
    image = real_kernels["6.12"].running
    guest = next(one for one in machines(NOTHING) if one.hypervisor and not one.tdx_guest)
    named = {
        name: ImageKernel(image, replace(NOTHING, log=parse_snapshot(line, "log").log))
        for name, line in (
            ("KVM", "[    0.000000] Hypervisor detected: KVM\n"),
            ("Xen", "[    0.000000] Hypervisor detected: Xen HVM\n"),
        )
    }
    jumping = {
        name: kernel.behaviour(guest).flushes[Site.RELOCATE_KERNEL]
        for name, kernel in named.items()
    }
    assert jumping["KVM"] is not None
    assert jumping["Xen"] is None
    unnamed = ImageKernel(image, NOTHING).behaviour(guest)
    assert unnamed.flushes[Site.RELOCATE_KERNEL] is None
    assert any("which this is was not read" in reason for reason in unnamed.unknown)


def answer(cpuid: CpuidTable, leaf: int) -> Registers:
    """What a leaf, which can be told, returns."""
    registers = cpuid.read(leaf)
    assert registers is not None
    return registers


def test_what_hides_from_cpuid_is_told_to_the_image() -> None:
    """As under Xen, from a PV domain that executes CPUID without asking Xen."""
    log = "[    0.000000] Hypervisor detected: Xen PV\n"
    hidden = replace(read_snapshot(ROME), log=parse_snapshot(log, "log").log)
    guests = [machine for machine in machines(hidden) if machine.hypervisor]
    assert guests
    for machine in guests:
        (registers,) = registers_of(machine, hidden, seamcalled=False)
        assert answer(registers.jumping, 1)[2] >> 31 == 1
        assert answer(registers.secondary, 0x4000_0000)[1:] == (0x566E6558, 0x65584D4D, 0x4D4D566E)


def test_a_register_keeps_what_no_fact_lists() -> None:
    snapshot = with_given(read_snapshot(ROME), msr=["0xc0010010=0xf60000"])
    for machine in machines(snapshot):
        if machine.hypervisor:
            continue
        (registers,) = registers_of(machine, snapshot, seamcalled=False)
        assert registers.msr[0xC001_0010] & ~(3 << 23) == 0xF6_0000 & ~(3 << 23)
        assert registers.jumping.leaves == snapshot.cpus[0].cpuid.leaves


@pytest.mark.parametrize("vendor", ["AuthenticAMD", "CentaurHauls"])
def test_a_machine_that_nobody_saw_answers_as_its_facts_say(vendor: str) -> None:
    assert not has_cpuid(NOTHING)
    tried = [machine for machine in machines(NOTHING) if machine.vendor == vendor]
    assert tried
    for machine in tried:
        several = registers_of(machine, NOTHING, seamcalled=False)
        assert len(several) == (6 if machine.hypervisor else 1)
        cpuid = several[0].jumping
        assert cpuid.vendor == vendor
        assert answer(cpuid, 1)[2] >> 31 == machine.hypervisor
        eax = answer(cpuid, 0x8000_001F)[0] if cpuid.max_extended_leaf else 0
        assert eax >> 1 & 1 == machine.sev_supported


def test_a_tdx_guest_knows_itself_for_one() -> None:
    guest = next(one for one in machines(NOTHING) if one.tdx_guest)
    registers = registers_of(guest, NOTHING, seamcalled=False)[0].jumping
    assert registers.max_basic_leaf == 0x21
    _, ebx, ecx, edx = answer(registers, 0x21)
    # linux 7.3.4 arch/x86/coco/tdx/tdx.c tdx_early_init(), asm/shared/tdx.h TDX_IDENT
    assert b"".join(word.to_bytes(4, "little") for word in (ebx, edx, ecx)) == b"IntelTDX    "
