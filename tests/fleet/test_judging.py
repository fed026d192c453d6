# SPDX-License-Identifier: GPL-2.0-or-later
"""What was judged before counts for what it was judged of, and for nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from staleline.evidence.detect import read_snapshot
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import KernelEvidence, StateEvidence
from staleline.fleet.asked import registers_kind
from staleline.fleet.images import no_images
from staleline.fleet.intake.adding import AddOptions, add_to_fleet
from staleline.fleet.judging import FleetQuestion
from staleline.fleet.result import AuditOptions, asked_fleet
from staleline.kernel.reading import cache
from staleline.kernel.reading.decided import image_opener
from staleline.verdict.audit.agreement import audit_of
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.audit.subject import subject_of
from staleline.vocabulary import Path as HandoverPath

ROME = "amd-epyc-7742-64-core-processor-dual.test.xz"
DUMP = Path(__file__).parents[1] / "data" / "cpuid" / "full" / ROME
NEVER_FLUSHES = """\
name = "never"
title = "No WBINVD anywhere"
source = ["this test"]

[releases]
upstream = ["6.1..6.17"]

[sites]
stop_this_cpu = "false"
relocate_kernel = "false"
crash_nmi_callback = "false"

[protocol]
reported_stopped = "after-flush"
"""


def judged(fleet: Path, question: FleetQuestion) -> tuple[list[str], int]:
    """The rules of its hosts, and how many classes were not known before."""
    with asked_fleet(fleet, AuditOptions(question)) as asked:
        return [row["rule"] for row in asked.rows()], asked.judge.judged


def test_an_image_that_is_replaced_by_another_of_its_name(real_kernels, tmp_path):
    fleet, image = tmp_path / "fleet", tmp_path / "vmlinuz"
    add_to_fleet(fleet, [str(DUMP)], AddOptions(jobs=1))
    question = FleetQuestion(kernel=str(image), images=no_images())
    for kernel in (real_kernels["5.10"], real_kernels["7"]):
        shutil.copy(kernel.path, image)
        assert judged(fleet, question) == ([kernel.release], 1)
    assert judged(fleet, question) == ([real_kernels["7"].release], 0)


def test_a_next_image_that_is_replaced_by_another_of_its_name(real_kernels, tmp_path):
    fleet, image = tmp_path / "fleet", tmp_path / "vmlinuz"
    add_to_fleet(fleet, [str(DUMP)], AddOptions(jobs=1))
    question = FleetQuestion(kernel="linux-6.18", following=str(image))
    for kernel in (real_kernels["5.10"], real_kernels["7"]):
        shutil.copy(kernel.path, image)
        assert judged(fleet, question) == (["linux-6.18"], 1)


def test_a_kernel_in_a_folder_that_is_built_again(real_kernels, tmp_path):
    folder = tmp_path / "linux" / "arch" / "x86" / "boot"
    folder.mkdir(parents=True)
    numbers = set()
    for kernel in (real_kernels["5.10"], real_kernels["7"]):
        shutil.copy(kernel.path, folder / "bzImage")
        numbers.add(FleetQuestion(kernel=str(tmp_path / "linux")).number)
    assert len(numbers) == 2


def test_what_one_host_reads_of_its_command_line_is_not_anothers(tmp_path):
    """From 6.9 on a line without mem_encrypt= is off, before it is the build's choice.

    Linux commit 29956748339a removed CONFIG_AMD_MEM_ENCRYPT_ACTIVE_BY_DEFAULT. A policy may be the
    running kernel's, so that each host's release counts.
    """
    dump = read_snapshot(DUMP)
    cpus = (replace(dump.cpus[0], msr={0xC0010010: 0x800000}),)
    state = StateEvidence(sev_guests_run=False, offline_cpus=(), reboot_force=False)
    sources = []
    for release in ("6.12.117-amd64", *(f"6.1.0-{build}-amd64" for build in range(1, 6))):
        kernel = KernelEvidence(release=release, cmdline="quiet")
        host = replace(dump, cpus=cpus, host=release, kernel=kernel, state=state)
        file = tmp_path / f"{release}.json"
        file.write_text(snapshot_text(host), "utf-8")
        sources.append(str(file))
    fleet, rule = tmp_path / "fleet", tmp_path / "never.toml"
    add_to_fleet(fleet, sources, AddOptions(jobs=1))
    rule.write_text(NEVER_FLUSHES, "utf-8")
    question = FleetQuestion(kernel=str(rule), following="off")
    with asked_fleet(fleet, AuditOptions(question)) as asked:
        found = {row["release"]: row["kexec"] for row in asked.rows()}
    alone = {}
    for source in sources:
        subject = subject_of(read_snapshot(source), str(rule), open_image=image_opener())
        judged_alone = audit_of(subject, following=Next.OFF, paths=(HandoverPath.KEXEC,))
        alone[subject.snapshot.kernel.release] = judged_alone.verdict.value
    assert found == alone
    assert set(alone.values()) == {"safe", "unknown"}


def test_what_another_emulator_read_is_another_question(monkeypatch: pytest.MonkeyPatch) -> None:
    before = FleetQuestion().number
    monkeypatch.setattr(cache, "_installed", lambda library: f"another {library}".encode())
    cache.edition.cache_clear()
    try:
        assert FleetQuestion().number != before
    finally:
        cache.edition.cache_clear()


def test_an_image_is_run_on_a_host_of_each_model():
    """Models that agree in every fact may have another part of an image's code run."""
    cpu = read_snapshot(DUMP).cpus[0]
    kinds = set()
    for signature in (0x830F10, 0x830F11, 0xA00F11):
        leaf = (signature, *cpu.cpuid.leaves[1, 0][1:])
        table = CpuidTable({**cpu.cpuid.leaves, (1, 0): leaf})
        kinds.add(registers_kind(replace(read_snapshot(DUMP), cpus=(replace(cpu, cpuid=table),))))
    assert len(kinds) == 3
