# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands beside the verdict before a load, on machines of which one thing differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest

from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import with_given
from staleline.evidence.snapshot import (
    CpuinfoEvidence,
    KernelEvidence,
    LogEvidence,
    Snapshot,
    StateEvidence,
    UnreadMessage,
)
from staleline.facts import from_snapshot
from staleline.kernel.reading.decided import image_opener
from staleline.policy.catalogue import catalogue
from staleline.report.machines.preflight import one_line
from staleline.verdict.audit.identity import NOT_COMPARED
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.audit.preflight import LOAD_SETTLED, Preflight, preflight
from staleline.verdict.audit.subject import Subject, subject_of
from staleline.verdict.audit.wanted_next import NextImage
from staleline.verdict.handover.kernels import PolicyKernel
from staleline.verdict.policies.platforms import platforms
from staleline.vocabulary import Path, Verdict
from tests.conftest import RealKernel
from tests.kernel.sites.test_decisions_unknown import Without

LIBCPUID = FilePath(__file__).parents[2] / "data" / "cpuid" / "libcpuid"
ROME = LIBCPUID / "amd-epyc-7742-64-core-processor-dual.test"
EMERALD_RAPIDS = LIBCPUID / "intel-xeon-gold-5520+.test"
ICE_LAKE = LIBCPUID.parent / "full/intel-xeon-gold-6330-cpu.test.xz"
ERRATUM = "tdx_pw_mce"


@pytest.fixture(scope="module")
def image(real_kernels: dict[str, RealKernel]) -> NextImage:
    return NextImage(real_kernels["6.12"].image, "")


def rome(state: StateEvidence) -> Snapshot:
    return with_given(
        replace(read_snapshot(ROME), state=state),
        msr=["0xc0010010=0x800000"],
        cmdline="mem_encrypt=on",
        state=["sev_guests_run=no"],
    )


def intel(
    dump: FilePath, release: str, *, keyids: int = 64, bugs: frozenset[str] | None = None
) -> Snapshot:
    """A host whose firmware enabled TDX, unless it gave it too few KeyIDs."""
    snapshot = with_given(
        read_snapshot(dump), msr=[f"0x87={keyids << 32:#x}"], cmdline="quiet nohibernate"
    )
    cpuinfo = None if bugs is None else CpuinfoEvidence(vendor="GenuineIntel", bugs=bugs)
    return replace(snapshot, cpuinfo=cpuinfo, kernel=replace(snapshot.kernel, release=release))


def before(
    snapshot: Snapshot, image: NextImage, path: Path = Path.KEXEC, policy: str = "linux-6.18"
) -> Preflight:
    kernels = (PolicyKernel(catalogue()[policy], "for this test"),)
    subject = Subject(snapshot, from_snapshot(snapshot), kernels, NOT_COMPARED)
    return preflight(subject, image, path)


def ids(found: Preflight) -> set[str]:
    return {remark.id for remark in found.remarks}


@pytest.mark.parametrize(
    ("state", "path", "remark"),
    [
        (StateEvidence(kexec_loaded=1), Path.KEXEC, "already-loaded"),
        (StateEvidence(kexec_crash_loaded=1), Path.CRASH, "crash-already-loaded"),
        (StateEvidence(kexec_crash_size=0), Path.CRASH, "no-reservation"),
        (StateEvidence(offline_cpus=(3, 5)), Path.KEXEC, "offline"),
        (StateEvidence(reboot_force=True), Path.KEXEC, "reboot-force"),
        (StateEvidence(tsme=True), Path.KEXEC, "tsme"),
    ],
)
def test_the_state_of_the_host_is_remarked_upon(
    image: NextImage, state: StateEvidence, path: Path, remark: str
) -> None:
    assert remark in ids(before(rome(state), image, path))
    assert remark not in ids(before(rome(StateEvidence()), image, path))
    other = Path.CRASH if path is Path.KEXEC else Path.KEXEC
    on_both = remark in {"offline", "tsme"}
    assert (remark in ids(before(rome(state), image, other))) is on_both


def test_offline_cpus_are_named(image: NextImage) -> None:
    found = before(rome(StateEvidence(offline_cpus=(3, 5))), image)
    (text,) = (remark.text for remark in found.remarks if remark.id == "offline")
    assert text.startswith("CPUs 3, 5 are offline: each executed WBINVD")


def test_a_rule_by_itself_settles_nothing_of_offline_cpus(image: NextImage) -> None:
    """Linux 7.3.4 arch/x86/kernel/smp.c:165 wakes them, and each stores without a flush."""
    some = before(rome(StateEvidence(offline_cpus=(3, 5))), image)
    assert some.verdict is Verdict.UNKNOWN
    assert some.audit.kernel_evidence.endswith("; CPUs that are offline count as clean")
    assert any("offline" in objection.text for objection in some.objections)
    unknown = before(rome(StateEvidence()), image)
    assert unknown.verdict is Verdict.UNKNOWN
    (objection,) = unknown.objections
    assert "--state offline_cpus=" in objection.text
    none = before(rome(StateEvidence(offline_cpus=())), image)
    assert none.verdict is Verdict.SAFE
    assert none.audit.kernel_evidence == "for this test"


def test_reboot_force_of_sysfs_makes_the_load_at_risk(image: NextImage) -> None:
    # linux 7.3.4 arch/x86/kernel/smp.c:155: nobody is stopped. What sysfs says now counts, not
    # what the command line said at boot.
    forced = before(rome(StateEvidence(reboot_force=True)), image)
    assert forced.verdict is Verdict.AT_RISK
    told = with_given(
        rome(StateEvidence(reboot_force=False, offline_cpus=())),
        cmdline="mem_encrypt=on reboot=force",
    )
    assert before(told, image).verdict is Verdict.SAFE


@pytest.mark.parametrize(
    ("release", "bugs", "refused"),
    [
        # X86_BUG_TDX_PW_MCE refuses from b18651f70ce0 (6.18) to 5b25f249be32 (7.2).
        ("6.17.13-amd64", frozenset({ERRATUM}), False),
        ("6.18.15-amd64", frozenset({ERRATUM}), True),
        ("7.1.13-amd64", frozenset({ERRATUM}), True),
        ("7.2.13-amd64", frozenset({ERRATUM}), False),
        # The kernel itself says that it does not have it: built without TDX, or told so.
        ("6.18.15-amd64", frozenset({"spectre_v1"}), False),
        # Without /proc/cpuinfo nobody can tell whether TDX came up.
        ("6.18.15-amd64", None, None),
        ("7.2.13-amd64", None, False),
    ],
)
def test_the_tdx_erratum_refuses_loads_for_a_while(
    image: NextImage, release: str, bugs: frozenset[str] | None, refused: bool | None
) -> None:
    found = before(intel(EMERALD_RAPIDS, release, bugs=bugs), image)
    assert found.refused is refused
    expected = {True: {"load-refused"}, None: {"load-may-be-refused"}, False: set[str]()}[refused]
    assert {remark for remark in ids(found) if remark.startswith("load-")} == expected


@pytest.mark.parametrize(
    "snapshot",
    [
        intel(ICE_LAKE, "6.18.15-amd64"),
        intel(EMERALD_RAPIDS, "6.18.15-amd64", keyids=1),
        replace(
            intel(EMERALD_RAPIDS, "6.18.15-amd64"),
            kernel=KernelEvidence(release="6.18.15", config={"CONFIG_INTEL_TDX_HOST": "n"}),
        ),
    ],
    ids=["another model", "no KeyID for guests", "built without TDX"],
)
def test_the_erratum_needs_its_model_and_tdx(image: NextImage, snapshot: Snapshot) -> None:
    assert before(snapshot, image).refused is False


def test_a_cpu_that_is_not_known_may_have_the_erratum(image: NextImage) -> None:
    told = with_given(Snapshot(cpus=()), cmdline="quiet")
    unknown = replace(told, kernel=replace(told.kernel, release="6.18.15-amd64"))
    found = before(unknown, image)
    assert found.refused is None
    (remark,) = (one for one in found.remarks if one.id == "load-may-be-refused")
    assert "its model is not known" in remark.text
    amd = replace(unknown, cpuinfo=CpuinfoEvidence(vendor="AuthenticAMD"))
    assert before(amd, image).refused is False


def test_bugs_that_another_kernel_lists_are_not_this_kernels(image: NextImage) -> None:
    """6.1 does not know the bug (X86_BUG_TDX_PW_MCE came with TDX, linux 6.8)."""
    running = intel(EMERALD_RAPIDS, "6.1.0-50-amd64", bugs=frozenset({"spectre_v1"}))
    subject = subject_of(running, "6.18.15", open_image=image_opener())
    assert subject.identity.what_if
    assert preflight(subject, image, Path.KEXEC).refused is None


def test_an_initialised_module_settles_it(image: NextImage) -> None:
    used = with_given(intel(EMERALD_RAPIDS, "6.18.15-amd64"), state=["tdx_module=initialized"])
    found = before(used, image)
    assert found.refused is True
    assert "tdx-used" in ids(found)


@pytest.mark.parametrize(
    ("command_line", "verdict", "settles"),
    [("mem_encrypt=on", Verdict.AT_RISK, True), ("", Verdict.SAFE, False)],
)
def test_what_loading_leaves_in_the_caches_endangers_an_encrypting_crash_kernel(
    image: NextImage, command_line: str, verdict: Verdict, settles: bool
) -> None:
    # An old kernel that does not encrypt converts no page at load, so it flushes nothing
    # (linux 7.3.4 arch/x86/kernel/machine_kexec_64.c:686); the crash kernel encrypts in place.
    asked = replace(image, command_line=command_line)
    snapshot = with_given(rome(StateEvidence()), cmdline="mem_encrypt=off")
    found = before(snapshot, asked, Path.CRASH)
    assert found.verdict is verdict
    assert ("crash-safe-once-settled" in ids(found)) is settles
    assert ("safe once" in one_line(found)) is settles
    # An old kernel that does not encrypt has flushed nothing at load, so that is no reason.
    reasons = {one.id for row in found.audit.handovers for one in row.unneeded.values()}
    assert "unneeded-crash-kernel" not in reasons


def test_what_is_not_in_the_model_does_not_settle_by_itself(image: NextImage) -> None:
    """Xen jumps for its dom0, whatever has left the caches of what was written at load.

    linux 7.3.4 drivers/xen/xen-acpi-processor.c:463 is said by dom0 alone.
    """
    asked = replace(image, command_line="mem_encrypt=on")
    bare = with_given(rome(StateEvidence()), cmdline="mem_encrypt=off")
    said = "xen_acpi_processor: Uploading Xen processor PM info"
    for elsewhere in (
        replace(bare, log=LogEvidence((said,), complete=False)),
        replace(bare, unread=(UnreadMessage("dump.txt:7", said),)),
    ):
        kernels = (PolicyKernel(catalogue()["linux-6.18"], "for this test"),)
        subject = Subject(elsewhere, from_snapshot(elsewhere), kernels, NOT_COMPARED)
        found = preflight(subject, asked, Path.CRASH, accept=(LOAD_SETTLED,))
        assert found.verdict is Verdict.UNKNOWN
        assert not found.goes
        assert "crash-safe-once-settled" not in ids(found)


@pytest.mark.parametrize("name", ["amd-no-sme", "guest-plain", "intel-tdx"])
def test_nothing_is_run_where_no_kernel_can_encrypt(image: NextImage, name: str) -> None:
    machine = platforms()[name].machine
    assert image.choices(machine, old=False) == ((False,),) == Next.ON.choices(machine, old=False)


def without(image: NextImage, *names: str) -> NextImage:
    """The same image, told to encrypt, with symbols taken out."""
    symbols: Any = Without(image.image.symbols, *names)
    return NextImage(replace(image.image, symbols=symbols), "mem_encrypt=on")


def test_startup_code_that_cannot_be_run_leaves_both_open(image: NextImage) -> None:
    unreadable = without(image, "sme_enable")
    found = before(rome(StateEvidence(offline_cpus=())), unreadable)
    assert [row.transition for row in found.audit.handovers] == ["on→on", "on→off"]
    assert found.verdict is Verdict.SAFE
    # From a kernel that encrypts a crash is at risk either way.
    plain = with_given(rome(StateEvidence()), cmdline="mem_encrypt=off")
    crash = before(plain, unreadable, Path.CRASH)
    assert crash.verdict is Verdict.UNKNOWN
    assert any(reason.id == "unknown-next-kernel" for reason in crash.audit.unknown)


def test_an_image_without_memory_encryption_does_not_encrypt_whatever_it_is_told(
    image: NextImage,
) -> None:
    # CONFIG_AMD_MEM_ENCRYPT=n leaves out arch/x86/mm/mem_encrypt_identity.c (linux 6.12.117).
    bare = without(image, "sme_enable", "__pi_sme_enable", "sme_me_mask", "sev_status")
    found = before(rome(StateEvidence()), bare)
    assert [row.transition for row in found.audit.handovers] == ["on→off"]
    assert "no-encryption-in-image" in ids(found)
