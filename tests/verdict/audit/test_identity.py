# SPDX-License-Identifier: GPL-2.0-or-later
"""What is against what if: another kernel than the running one did nothing of what that one did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import Given
from staleline.evidence.snapshot import (
    CpuinfoEvidence,
    KernelEvidence,
    LogEvidence,
    Snapshot,
    StateEvidence,
)
from staleline.kernel.reading.decided import image_opener
from staleline.policy.catalogue import catalogue
from staleline.verdict.audit.agreement import audit_of
from staleline.verdict.audit.identity import By, identity_of
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.audit.subject import Subject, subject_of
from staleline.verdict.handover.kernels import PolicyKernel
from staleline.vocabulary import Path as HandoverPath
from staleline.vocabulary import Verdict
from tests.conftest import RealKernel

CPUID = Path(__file__).parents[2] / "data" / "cpuid"
ROME = read_snapshot(CPUID / "libcpuid/amd-epyc-7742-64-core-processor-dual.test")
RAPIDS = read_snapshot(CPUID / "libcpuid/intel-xeon-gold-5520+.test")

#: A host on which the running kernel did all that a kernel can do.
BUSY = replace(
    ROME,
    cpuinfo=CpuinfoEvidence(vendor="AuthenticAMD", flags=frozenset({"sme"})),
    kernel=KernelEvidence(
        release="5.10.0-46-amd64",
        build_id="00" * 20,
        cmdline="mem_encrypt=on",
        config={"CONFIG_AMD_MEM_ENCRYPT": "y"},
    ),
    state=StateEvidence(
        sme_active=True,
        sev_guests_run=True,
        reboot_force=True,
        kprobes=("stop_this_cpu+0x0",),
        tainted=4096,
    ),
    log=LogEvidence(
        ("AMD Memory Encryption Features active: SME", "SEV supported: 509 ASIDs"), complete=True
    ),
)


def running(release: str | None, build_id: str | None) -> Snapshot:
    return replace(ROME, kernel=KernelEvidence(release=release, build_id=build_id))


def judged(snapshot: Snapshot, image: RealKernel, given: Given | None = None) -> Subject:
    return subject_of(snapshot, str(image.path), given, open_image=image_opener())


def test_a_build_id_tells_whatever_the_release_is(real_kernels: dict[str, RealKernel]) -> None:
    image = real_kernels["6.12"].image
    same = judged(running("custom", image.build_id), real_kernels["6.12"]).identity
    assert (same.what_if, same.by) == (False, By.BUILD_ID)
    rebuilt = judged(running(image.release, "00" * 20), real_kernels["6.12"]).identity
    assert (rebuilt.what_if, rebuilt.by) == (True, By.BUILD_ID)


@pytest.mark.parametrize(
    ("release", "what_if", "by"),
    [
        ("6.12.117+deb13-cloud-amd64", False, By.RELEASE),
        ("5.10.0-46-amd64", True, By.RELEASE),
        # All of a number, of which a build's name has more: it may be this one.
        ("6.12.117", None, By.NOTHING),
        ("6.12.11", True, By.RELEASE),
        (None, None, By.NOTHING),
    ],
)
def test_else_the_release_tells(
    real_kernels: dict[str, RealKernel], release: str | None, what_if: bool | None, by: By
) -> None:
    found = judged(running(release, None), real_kernels["6.12"]).identity
    assert (found.what_if, found.by) == (what_if, by)


def test_of_a_policy_nobody_asks_who_carries_it() -> None:
    identity = subject_of(
        running("5.10.0-46-amd64", "00"), "linux-6.5", open_image=image_opener()
    ).identity
    assert (identity.what_if, identity.by) == (None, By.NOTHING)


@pytest.mark.parametrize(
    ("wanted", "what_if"),
    [(None, False), ("6.5.0-10-amd64", False), ("6.5", None), ("6.12.0", True)],
)
def test_a_release_is_compared_with_the_running_one(
    wanted: str | None, what_if: bool | None
) -> None:
    subject = subject_of(running("6.5.0-10-amd64", None), wanted, open_image=image_opener())
    assert subject.guessed
    assert subject.identity.what_if is what_if


def test_a_kernel_that_does_not_run_there_has_done_nothing(
    real_kernels: dict[str, RealKernel],
) -> None:
    found = judged(BUSY, real_kernels["6.12"])
    assert found.identity.what_if
    for name in ("sme_active", "sev_guests_run", "tdx_module", "stop_path_changed", "tainted"):
        assert found.facts[name].value is None, name
    # What sysfs says of the running one is not this one's.
    assert found.facts["reboot_force"].value is None
    assert found.facts.text("release") == real_kernels["6.12"].image.release


@pytest.mark.parametrize("flags", [None, 0x3F, 0x3F | 1 << 7])
def test_it_reads_the_command_line_by_itself(
    real_kernels: dict[str, RealKernel], flags: int | None
) -> None:
    """XLF_MEM_ENCRYPTION is set by the running kernel's stub, and by none before 6.9.

    linux 6.12.117 drivers/firmware/efi/libstub/x86-stub.c:996; in 6.1.176 and 5.10.223 nothing
    sets it.
    """
    for line, choice in (("mem_encrypt=on", "on"), ("mem_encrypt=off", "off")):
        kernel = replace(BUSY.kernel, cmdline=line, booted_by="kexec", xloadflags=flags)
        found = judged(replace(BUSY, kernel=kernel, log=None), real_kernels["6.12"])
        assert found.facts.text("mem_encrypt") == choice
        assert found.facts["mem_encrypt"].source == "/proc/cmdline"


def test_hardware_and_firmware_stay_what_they_are(real_kernels: dict[str, RealKernel]) -> None:
    found = judged(BUSY, real_kernels["6.12"])
    assert (found.facts.boolean("sme"), found.facts.boolean("sme_enabled")) == (True, True)
    # The running kernel uses the C-bit, so firmware had enabled it (linux 6.12.118
    # arch/x86/mm/mem_encrypt_identity.c sme_enable()).
    silent = replace(BUSY, cpuinfo=None, log=None)
    without_flags = judged(silent, real_kernels["6.12"]).facts["sme_enabled"]
    assert without_flags.value is True
    assert "the running kernel uses the C-bit" in str(without_flags.source)


def test_what_it_would_be_told_and_do_can_be_given(real_kernels: dict[str, RealKernel]) -> None:
    given = Given(cmdline="mem_encrypt=off", state=("sev_guests_run=no",))
    found = judged(BUSY, real_kernels["6.12"], given)
    assert found.facts.text("mem_encrypt") == "off"
    assert found.facts.boolean("sev_guests_run") is False
    assert set(found.given) == {"kernel.cmdline", "state.sev_guests_run"}


def test_what_is_given_of_the_machine_is_held_against_what_was_seen(
    real_kernels: dict[str, RealKernel],
) -> None:
    cpu = replace(ROME.cpus[0], msr={0xC0010010: 0xF40000})
    with pytest.raises(ContradictionError, match="given-against-observed"):
        judged(replace(BUSY, cpus=(cpu,)), real_kernels["6.12"], Given(msr=("0xc0010010=0x0",)))


@pytest.mark.parametrize("state", ["initialized", "failed"])
def test_an_image_without_seamcalls_did_not_use_the_tdx_module(
    real_kernels: dict[str, RealKernel], state: str
) -> None:
    # Debian's kernels are built without CONFIG_INTEL_TDX_HOST (config-7.3.4+deb13-amd64).
    image = real_kernels["7"].image
    kernel = KernelEvidence(release=str(image.release).partition("+")[0], cmdline="quiet")
    used = replace(RAPIDS, kernel=kernel, state=StateEvidence(tdx_module=state))
    with pytest.raises(ContradictionError, match=f"'{state}' and .* no SEAMCALL code") as caught:
        audit_of(judged(used, real_kernels["7"]), following=Next.ANY, paths=tuple(HandoverPath))
    assert caught.value.ids == ("tdx-without-seamcalls",)


def test_in_a_what_if_another_kernel_used_it_and_this_one_cannot(
    real_kernels: dict[str, RealKernel],
) -> None:
    kernel = KernelEvidence(release="6.18.15-amd64", cmdline="quiet")
    used = replace(RAPIDS, kernel=kernel, state=StateEvidence(tdx_module="initialized"))
    given = Given(state=("reboot_force=no",))
    subject = judged(used, real_kernels["7"], given)
    found = audit_of(subject, following=Next.ANY, paths=tuple(HandoverPath))
    assert found.identity.what_if
    assert found.verdict is Verdict.SAFE


def test_a_machine_that_names_no_kernel_is_compared_with_nothing() -> None:
    kernel = PolicyKernel(catalogue()["linux-6.5"], "for this test")
    assert identity_of(KernelEvidence(), (kernel,), "linux-6.5").by is By.NOTHING


@pytest.mark.parametrize(
    "message",
    [
        "Booting kernel on Xen PV",
        "Hypervisor detected: Jailhouse",
        "xen_acpi_processor: Uploading Xen processor PM info",
    ],
)
@pytest.mark.parametrize("kernel", [None, "6.6.1", "7.2.1"])
def test_another_kernel_asks_the_same_hypervisor_to_jump(message: str, kernel: str | None) -> None:
    log = LogEvidence((message,), complete=False)
    observed = replace(ROME, kernel=KernelEvidence(release="6.12.1"), log=log)
    given = Given(
        msr=("0xc0010010=0x800000", "0xc0010131=0"),
        cmdline="mem_encrypt=off",
        state=("sev_guests_run=no",),
    )
    subject = subject_of(observed, kernel, given, open_image=image_opener())
    assert subject.facts["jumped_by"].value not in ("kernel", None)
    found = audit_of(subject, following=Next.ANY, paths=[HandoverPath.KEXEC])
    assert found.verdict is Verdict.UNKNOWN
    assert {row.verdict for row in found.handovers} == {Verdict.UNKNOWN}
