# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel built with CONFIG_INTEL_TDX_HOST: SEAMCALLs mark CPUs, and so does every crash.

Not run by default, as the kernel takes minutes to build: ``tools/build_kernels.py tdx-host``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.cli.main import main
from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import with_given
from staleline.facts import from_snapshot
from staleline.kernel.boot.decision import Decision, RawMachine, SiteDecision
from staleline.kernel.boot.machine import EmulatedMachine, two_cpus
from staleline.kernel.boot.startup import boot
from staleline.kernel.emulator.execution.end import EndKind
from staleline.kernel.emulator.traps import LogicalCpu
from staleline.kernel.image.assembly import load_image
from staleline.kernel.image.image import KernelImage
from staleline.kernel.inventory.inventory import wbinvd_inventory
from staleline.kernel.inventory.roles import Phase
from staleline.kernel.reading.running import RunningImage
from staleline.kernel.sites.runner import KernelReader
from staleline.model.scenario import Flush
from staleline.policy.catalogue import catalogue
from staleline.verdict.handover.kernels import ImageKernel, PolicyKernel
from staleline.verdict.machines.possible import possible_machines
from staleline.vocabulary import Site
from tests.conftest import RealKernel
from tests.findings import FINDINGS, quotations, quoted_in_order
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid, with_leaf
from tests.kernel.mutate import patched
from tests.kernel.places import address_of
from tools import fetch_kernels

PAGE = tuple(quotations(FINDINGS / "tdx-sys-disable-marks-any-vendor.md"))
CPUID = Path(__file__).parents[1] / "data" / "cpuid"
BUILT = fetch_kernels.default_cache() / "built" / "tdx-host"
WITHOUT_SME = ("K8", "Nehalem", "Sapphire Rapids", "Hygon C86 7185")
FLUSHES, DOES_NOT = True, False


@pytest.fixture(scope="module", params=["bzImage", "vmlinux"])
def image(request: pytest.FixtureRequest) -> KernelImage:
    return load_image(BUILT / request.param)


@pytest.fixture(scope="module")
def reader(image: KernelImage) -> KernelReader:
    return KernelReader(image)


def decide(reader: KernelReader, name: str, *, seamcalled: bool = False) -> Decision:
    table = cpuid(name)
    return reader.decide(RawMachine(table, table, {}, seamcalled=seamcalled))


def answer(site: SiteDecision) -> bool | None:
    """Was WBINVD executed? Nothing may be left behind it."""
    assert not site.left_behind
    return site.flushes


def flushes_at_tdx_shutdown(image: KernelImage, *, seamcalled: bool) -> bool:
    """Does the secondary execute WBINVD when ``tdx_shutdown()`` asks it to?"""
    table, emulated = cpuid("Sapphire Rapids"), EmulatedMachine(image)
    cpus = two_cpus(RawMachine(table, table, {}, seamcalled=seamcalled), LogicalCpu)
    emulated.start_over()
    boot(emulated, cpus, mem_encrypt=False)
    # It counts who uses VMX, which nobody does here (arch/x86/virt/hw.c, 7.3.4).
    emulated.memory.write(address_of(image, "x86_virt_put_ref"), b"\xc3")
    before = len(cpus[1].flushes)
    end = emulated.emulator.run(address_of(image, "tdx_shutdown_cpu"), (0,), cpu=cpus[1])
    assert end.kind is EndKind.RETURNED
    return len(cpus[1].flushes) > before


def sites(decision: Decision) -> tuple[bool | None, ...]:
    found = decision.stop_this_cpu, decision.relocate_kernel, decision.crash_nmi_callback
    return tuple(map(answer, found))


@pytest.mark.parametrize("name", WITHOUT_SME)
def test_a_kexec_flushes_only_cpus_that_made_a_seamcall(reader: KernelReader, name: str) -> None:
    """arch/x86/virt/vmx/tdx/seamcall_internal.h:40 (7.3.4)."""
    assert sites(decide(reader, name)) == (DOES_NOT, DOES_NOT, DOES_NOT)
    assert sites(decide(reader, name, seamcalled=True)) == (FLUSHES, FLUSHES, DOES_NOT)


@pytest.mark.parametrize("name", WITHOUT_SME)
def test_a_crash_flushes_the_crashing_cpu_of_any_vendor(reader: KernelReader, name: str) -> None:
    """arch/x86/kernel/crash.c:116 (7.3.4) asks for no vendor and no TDX."""
    assert answer(decide(reader, name).crash_relocate_kernel) is FLUSHES


@pytest.mark.parametrize("encryption", [0, 0b10, 0b1010])
def test_a_crash_flushes_in_guests_too(reader: KernelReader, encryption: int) -> None:
    """What KVM shows a guest: no SME; SEV and SEV-ES if it is such a guest (kvm/cpuid.c, 7.3)."""
    _, ebx, ecx, edx = cpuid("Rome guest").leaves[0x8000_001F, 0]
    table = with_leaf(cpuid("Rome guest"), 0x8000_001F, (encryption, ebx, ecx, edx))
    decision = reader.decide(RawMachine(table, table))
    assert sites(decision) == (DOES_NOT, DOES_NOT, DOES_NOT)
    assert answer(decision.crash_relocate_kernel) is FLUSHES


def test_it_is_tdx_sys_disable_that_marks_the_crashing_cpu(image: KernelImage) -> None:
    """Made to return at once, it leaves the crash as a kexec is."""
    silent = patched(image, address_of(image, "tdx_sys_disable"), b"\xc3")
    assert answer(decide(KernelReader(silent), "K8").crash_relocate_kernel) is DOES_NOT


def test_tdx_flushes_before_a_kexec_what_seamcalls_marked(image: KernelImage) -> None:
    """tdx_cpu_flush_cache(), arch/x86/virt/vmx/tdx/tdx.c:156 (7.3.4)."""
    assert flushes_at_tdx_shutdown(image, seamcalled=False) is DOES_NOT
    assert flushes_at_tdx_shutdown(image, seamcalled=True) is FLUSHES


def test_amd_is_as_without_tdx(reader: KernelReader) -> None:
    table = cpuid("Rome")
    decision = reader.decide(RawMachine(table, table, {SYSCFG: MEM_ENCRYPT_ENABLED}))
    assert sites(decision) == (FLUSHES, FLUSHES, DOES_NOT)


def test_every_place_is_listed_with_those_of_tdx_and_kvm(image: KernelImage) -> None:
    inventory = wbinvd_inventory(image)
    phases = {
        place.function.split(".")[0]: place.role and place.role.phase for place in inventory.places
    }
    assert phases["tdx_shutdown_cpu"] is Phase.KEXEC
    assert phases["tdx_offline_cpu"] is Phase.OFFLINE
    assert phases["sev_guest_memory_reclaimed"] is Phase.RUNNING
    assert inventory.undecided == ()


def test_a_host_that_used_tdx_flushes_as_the_policy_says(image: KernelImage) -> None:
    """At both sites of a kexec after a SEAMCALL; in a crash the jumping CPU always does."""
    dump = read_snapshot(CPUID / "libcpuid/intel-xeon-w9-3475x.test")
    seen = with_given(dump, msr=["0x87=0x4000000020"], state=["tdx_module=initialized"])
    machines = {possible.machine for possible in possible_machines(from_snapshot(seen))}
    assert machines
    kernel = ImageKernel(RunningImage(image), seen)
    for machine in machines:  # which differ in what the dump does not tell
        assert machine.tdx_used
        behaviour = kernel.behaviour(machine)
        policy = PolicyKernel(catalogue()["linux-7.2"], "").behaviour(machine)
        assert behaviour.flushes == policy.flushes
        assert behaviour.flushes[Site.STOP_THIS_CPU] is Flush.AFTER_SEAMCALL
        assert behaviour.crash_flushes == {Site.RELOCATE_KERNEL: Flush.ALWAYS}
        assert behaviour.unknown == ()


@pytest.mark.parametrize("number", range(len(PAGE)))
def test_the_page_quotes_what_is_printed(
    number: int, real_kernels: dict[str, RealKernel], capsys: pytest.CaptureFixture[str]
) -> None:
    images: dict[str, Path] = {
        "built/tdx-host/bzImage": BUILT / "bzImage",
        "vmlinuz-7.3.4+deb13-cloud-amd64": real_kernels["7"].path,
    }
    main(PAGE[number].command(images))
    output = capsys.readouterr().out
    assert quoted_in_order(PAGE[number], output), output
