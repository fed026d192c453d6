# SPDX-License-Identifier: GPL-2.0-or-later
"""What an image does is what the policy of its release says, at all three sites."""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.given import with_given
from staleline.evidence.hosts.merge import merged
from staleline.evidence.snapshot import Snapshot
from staleline.facts import from_snapshot
from staleline.model.scenario import Flush
from staleline.policy.catalogue import catalogue
from staleline.verdict.handover.kernels import Behaviour, ImageKernel, PolicyKernel
from staleline.verdict.machines.possible import possible_machines
from staleline.vocabulary import Path as Handover
from staleline.vocabulary import Site
from tests.conftest import RealKernel

CPUID = Path(__file__).parents[2] / "data" / "cpuid" / "libcpuid"
DUMPS = {
    "Rome": "amd-epyc-7742-64-core-processor-dual.test",
    "Milan": "amd-epyc-7763-64-core-processor-dual.test",
    "Sapphire Rapids": "intel-xeon-w9-3475x.test",
    "K8": "amd-athlon-64-processor-3200+.test",
}
SME, SNP = 1 << 23, 1 << 24


def snapshot(name: str, syscfg: int) -> Snapshot:
    return with_given(read_snapshot(CPUID / DUMPS[name]), msr=[f"0xc0010010={syscfg:#x}"])


def behaviours(
    kernel: RealKernel, policy: str, seen: Snapshot
) -> list[tuple[Behaviour, Behaviour]]:
    """By the image and by the policy, for every machine that fits and has not used TDX."""
    image, rule = (
        ImageKernel(kernel.running, seen),
        PolicyKernel(catalogue()[policy], ""),
    )
    machines = [possible.machine for possible in possible_machines(from_snapshot(seen))]
    return [
        (image.behaviour(machine), rule.behaviour(machine))
        for machine in machines
        if not machine.tdx_used  # Debian's kernels cannot
    ]


@pytest.mark.parametrize(
    ("name", "syscfg"),
    [
        *(("Milan", syscfg) for syscfg in (0, SME, SME | SNP)),
        *(("Rome", syscfg) for syscfg in (0, SME)),
        ("Sapphire Rapids", 0),
        ("K8", 0),
    ],
)
def test_a_generic_kernel_is_its_policy_everywhere(
    real_kernels: dict[str, RealKernel], name: str, syscfg: int
) -> None:
    """Milan with SYSCFG[24] is an SNP host, which flushes secondaries in a crash."""
    both = behaviours(real_kernels["7-generic"], "linux-7.2", snapshot(name, syscfg))
    assert both
    for image, policy in both:
        assert image.flushes == policy.flushes
        assert image.unknown == ()
        crash = image.flush(Site.RELOCATE_KERNEL, Handover.CRASH)
        assert crash is policy.flush(Site.RELOCATE_KERNEL, Handover.CRASH)


def test_only_an_snp_host_flushes_secondaries_in_a_crash(
    real_kernels: dict[str, RealKernel],
) -> None:
    found = {
        (syscfg, image.flushes[Site.CRASH_NMI_CALLBACK])
        for syscfg in (SME, SME | SNP)
        for image, _ in behaviours(
            real_kernels["7-generic"], "linux-7.2", snapshot("Milan", syscfg)
        )
    }
    assert found == {(SME, Flush.NEVER), (SME | SNP, Flush.ALWAYS)}


def test_a_crash_may_differ_at_a_site() -> None:
    """As in a kernel with TDX host support (docs/findings/tdx-sys-disable-marks-any-vendor.md)."""
    behaviour = Behaviour(
        flushes=dict.fromkeys(Site, Flush.NEVER),
        report=None,
        sme_active=False,
        seamcalls=True,
        crash_flushes={Site.RELOCATE_KERNEL: Flush.ALWAYS},
    )
    assert behaviour.flush(Site.RELOCATE_KERNEL, Handover.KEXEC) is Flush.NEVER
    assert behaviour.flush(Site.RELOCATE_KERNEL, Handover.CRASH) is Flush.ALWAYS
    assert behaviour.flush(Site.CRASH_NMI_CALLBACK, Handover.CRASH) is Flush.NEVER


@pytest.mark.parametrize("message", ["Hypervisor detected: VMware", "Booting kernel on Xen PV"])
def test_code_runs_under_the_hypervisor_that_the_log_names_and_cpuid_hides(
    real_kernels: dict[str, RealKernel], message: str
) -> None:
    """linux 7.3.4 arch/x86/kernel/cpu/vmware.c:465, arch/x86/xen/enlighten_pv.c xen_cpuid()."""
    log = parse_snapshot(f"[    0.000000] {message}\n", "log")
    seen = with_given(merged([snapshot("Rome", SME), log], "both"), cmdline="mem_encrypt=on")
    both = behaviours(real_kernels["6.12"], "linux-6.5", seen)
    assert both
    for image, policy in both:
        assert image.sme_active is policy.sme_active is False
        # Xen's guests have Xen shut them down, which no image of Linux tells of, and an image with
        # code for PV domains does not tell which kind of domain it is in.
        assert all("Xen" in reason or ": xen_hvm_" in reason for reason in image.unknown)
        assert bool(image.unknown) is ("Xen" in message)
