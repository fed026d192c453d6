# SPDX-License-Identifier: GPL-2.0-or-later
"""An image is run once for each machine; what is kept answers the same, or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from staleline.errors import KernelImageError
from staleline.evidence.detect import read_snapshot
from staleline.kernel.boot.decision import Decision, RawMachine, SiteDecision
from staleline.kernel.reading import decided
from staleline.kernel.reading.cache import DocumentCache
from staleline.kernel.reading.decided import DecidedDocument, RememberedImage, remembered_image
from staleline.kernel.reading.running import RunningImage
from staleline.kernel.sites.runner import KernelReader
from tests.conftest import RealKernel

DUMPS = Path(__file__).parents[2] / "data" / "cpuid" / "libcpuid"
SYSCFG = {0xC001_0010: 1 << 23}

Cache = DocumentCache[DecidedDocument]


def machine(dump: str = "amd-epyc-7742-64-core-processor-dual.test") -> RawMachine:
    cpuid = read_snapshot(DUMPS / dump).cpus[0].cpuid
    return RawMachine(cpuid, cpuid, SYSCFG, mem_encrypt=True)


def telling(decision: Decision) -> Decision:
    """Without what the kernel read on its way, which is not kept."""
    return replace(decision, traps=0, leaves_read=frozenset(), msrs_read=frozenset())


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return DocumentCache(tmp_path / "decisions")


@pytest.fixture
def image(real_kernels: dict[str, RealKernel]) -> Path:
    return real_kernels["6.12"].path


def opened(path: Path, cache: Cache) -> RememberedImage:
    found = remembered_image(str(path), cache)
    assert isinstance(found, RememberedImage)
    return found


def test_what_it_is_called_is_kept_though_nothing_was_asked(image: Path, cache: Cache, monkeypatch):
    # Most images of a folder are of no host, and each is unpacked once.
    named = opened(image, cache)
    monkeypatch.setattr(decided, "_load", lambda file: pytest.fail("was unpacked again"))
    again = opened(image, cache)
    assert (again.release, again.build_id) == (named.release, named.build_id)
    assert again.build_id is not None


def test_what_was_decided_is_not_run_again(
    image: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = RunningImage.load(str(image))
    first = opened(image, cache)
    decided = first.decide(machine())
    assert telling(running.decide(machine())) == telling(decided)
    assert decided.stop_this_cpu.flushes is True  # 6.12.117 arch/x86/kernel/process.c:839

    def run(reader: KernelReader, asked: RawMachine) -> Decision:
        pytest.fail("was run again")

    monkeypatch.setattr(KernelReader, "decide", run)
    again = opened(image, cache)
    assert again.decide(machine()) == telling(decided)
    assert (again.release, again.build_id) == (running.release, running.build_id)
    assert again.seamcalls == running.seamcalls


@pytest.mark.parametrize(
    "other",
    [
        replace(machine(), mem_encrypt=False),
        replace(machine(), msr={}),
        replace(machine(), snp_host=True),
        replace(machine(), seamcalled=True),
        replace(machine(), preserve_context=True),
        machine("intel-xeon-cpu-e5520.test"),
        replace(machine(), secondary=machine("intel-xeon-cpu-e5520.test").secondary),
    ],
    ids=["mem_encrypt", "msr", "snp", "seamcall", "jump", "both CPUs", "secondary"],
)
def test_every_other_machine_is_another_question(
    image: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch, other: RawMachine
) -> None:
    asked: list[RawMachine] = []
    no = SiteDecision(False)
    decision = Decision(no, no, no, no, reported_stopped=None, sme_active=False)

    def decide(_: KernelReader, raw: RawMachine) -> Decision:
        asked.append(raw)
        return decision

    monkeypatch.setattr(KernelReader, "decide", decide)
    for one in (machine(), other, machine(), other):
        opened(image, cache).decide(one)
    assert asked == [machine(), other]


def test_what_is_unknown_is_tried_again(
    image: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[RawMachine] = []
    yes = SiteDecision(True)
    decision = Decision(
        yes,
        yes,
        yes,
        SiteDecision(None, "ran out of time"),
        reported_stopped=None,
        sme_active=None,
    )

    def decide(_: KernelReader, raw: RawMachine) -> Decision:
        asked.append(raw)
        return decision

    monkeypatch.setattr(KernelReader, "decide", decide)
    for _ in range(2):
        assert opened(image, cache).decide(machine()) == decision
    assert len(asked) == 2


def test_an_image_that_changes_between_is_no_answer(
    image: Path, cache: Cache, tmp_path: Path, real_kernels: dict[str, RealKernel]
) -> None:
    copy = tmp_path / "vmlinuz"
    shutil.copy(image, copy)
    opened(copy, cache).decide(machine())
    seen = opened(copy, cache)
    shutil.copy(real_kernels["5.10"].path, copy)
    with pytest.raises(KernelImageError, match="changed while it was read"):
        seen.decide(replace(machine(), msr={}))


@pytest.mark.parametrize("name", ["none", ".", "pipe"])
def test_what_is_no_image_is_an_error_as_without_a_cache(
    cache: Cache, tmp_path: Path, name: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KernelImageError) as told:
        remembered_image(str(tmp_path / name), cache)
    with pytest.raises(KernelImageError) as loaded:
        RunningImage.load(str(tmp_path / name))
    assert str(told.value) == str(loaded.value)


def test_a_cache_that_cannot_be_written_is_none(image: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache: Cache = DocumentCache(tmp_path / "file" / "decisions")
    assert opened(image, cache).decide(machine()).stop_this_cpu.flushes is True


def test_an_audit_of_what_is_remembered_imports_nothing_that_reads_images(
    image: Path, tmp_path: Path
) -> None:
    dump = DUMPS / "amd-epyc-7742-64-core-processor-dual.test"
    code = (
        "import sys; from staleline.cli.main import main;"
        f"main(['audit', '--snapshot', {str(dump)!r}, '--kernel', {str(image)!r}, '--json']);"
        "print(sorted({'numpy', 'unicorn', 'z3'} & set(sys.modules)))"
    )
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        ).stdout
        for _ in range(2)
    )
    report, modules = first.rsplit("[", 1)
    assert "numpy" in modules
    assert "unicorn" in modules
    assert second == f"{report}[]\n"


def test_without_a_cache_nothing_is_kept(image: Path) -> None:
    assert isinstance(remembered_image(str(image), None), RunningImage)
