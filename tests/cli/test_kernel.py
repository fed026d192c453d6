# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline kernel`` and ``diff`` over real images: rules, changes, bad images, the cache."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from staleline.cli.main import main
from staleline.kernel.file.container import unpack_kernel
from staleline.kernel.file.source import MemoryBytes, file_digest
from staleline.kernel.image.assembly import load_image
from staleline.kernel.image.image import KernelImage
from tests.conftest import RealKernel
from tests.documents import document_of
from tests.kernel.patchedfile import patched_file
from tests.kernel.places import address_of
from tests.kernel.plant import fills_global, planted_before_halt

#: What the tests of this module take for ~/.cache, so that each image is read once.
Cache = Path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, real_kernels: object) -> Cache:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def documents(text: str) -> dict[str, Any]:
    return document_of(text, "kernel")


def words(text: str) -> str:
    return " ".join(text.split())


def vmlinux_with_breakpoint(image: Path, function: str) -> bytes:
    """The ELF file in an image, with INT3 as the first instruction of a function."""
    address = address_of(load_image(image), function)
    content = image.read_bytes()
    unpacked = unpack_kernel(MemoryBytes(str(image), memoryview(content))).elf
    elf = bytearray(unpacked.read(0, unpacked.size))
    (offset,) = ELFFile(io.BytesIO(elf)).address_offsets(address)
    elf[offset] = 0xCC
    return bytes(elf)


def test_one_image_tells_its_rule(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    # linux 5.10.262: process.c:753 clears the online bit, then asks for the flush.
    status, out, err = run(capsys, "kernel", real_kernels["5.10"].path)
    assert (status, err) == (0, "")
    text = words(out)
    assert real_kernels["5.10"].release in text
    assert "linux-4.15: Feature flag" in text
    assert 'WBINVD if sme_supported and (vendor == "HygonGenuine" or sme_enabled)' in text
    assert "reports itself stopped, then flushes" in text
    assert "race" in text
    assert "on a kexec: stop_this_cpu" in text.replace("identity_mapped, ", "")


def test_json_has_the_rule_the_table_and_the_inventory(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    kernel = real_kernels["6.12"]
    status, out, _ = run(capsys, "kernel", kernel.path, "--json")
    (image,) = documents(out)["images"]
    assert status == 0
    assert image["sha256"] == kernel.sha256
    assert image["release"] == kernel.release
    assert image["policy"] == "linux-6.5"
    # linux 6.12.117 arch/x86/kernel/process.c:839; machine_kexec_64.c: HOST_MEM_ENCRYPT
    assert image["sites"]["stop_this_cpu"]["condition"] == "sme_supported"
    assert image["sites"]["relocate_kernel"]["condition"] == "sme_active"
    assert image["reported_stopped"] == "after-flush"
    assert len(image["truth_table"]) > image["runs"] > 10
    assert "stop_this_cpu" in {place["function"] for place in image["inventory"]["places"]}


def test_many_images_are_a_line_each_and_each_rule_once(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    kernels = [real_kernels[series] for series in ("5.10", "6.1", "6.12", "7")]
    status, out, err = run(capsys, "kernel", *(kernel.path for kernel in kernels))
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in lines[1:5]] == [kernel.release for kernel in kernels]
    assert [line.split()[1] for line in lines[1:4]] == ["linux-4.15", "linux-6.5", "linux-6.5"]
    assert ["race" in line for line in lines[1:5]] == [True, False, False, False]
    assert words(out).count("Checked leaf: CPUID 0x8000001F EAX[0]") == 1


def test_a_bad_image_is_an_error_and_the_others_are_read(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], tmp_path: Path
) -> None:
    good = real_kernels["6.12"]
    cut = tmp_path / "cut"
    cut.write_bytes(good.path.read_bytes()[: 1 << 20])
    empty = tmp_path / "empty"
    empty.mkdir()
    bad = (cut, empty, tmp_path / "absent")
    status, out, err = run(capsys, "kernel", bad[0], good.path, bad[1], bad[2])
    assert status == 1
    assert good.release in out
    assert "linux-6.5" in out
    said = err.splitlines()
    assert len(said) == 3
    for path, line in zip(bad, said, strict=True):
        assert line.startswith(f"staleline: {path}")
    status, out, _ = run(capsys, "kernel", *bad, good.path, "--json")
    images = documents(out)["images"]
    assert status == 1
    assert [image["error"] is None for image in images] == [False, False, False, True]


def test_what_is_unknown_makes_status_3_and_is_not_kept(
    capsys: pytest.CaptureFixture[str],
    real_kernels: dict[str, RealKernel],
    tmp_path: Path,
    cache: Cache,
) -> None:
    broken = tmp_path / "vmlinux"
    broken.write_bytes(vmlinux_with_breakpoint(real_kernels["6.12"].path, "stop_this_cpu"))
    status, out, err = run(capsys, "kernel", broken, "--json")
    (image,) = documents(out)["images"]
    assert (status, err) == (3, "")
    assert image["policy"] is None
    assert image["sites"]["stop_this_cpu"]["condition"] is None
    assert image["sites"]["relocate_kernel"]["condition"] == "sme_active"
    assert any("int3 at stop_this_cpu" in reason for reason in image["unknown"])
    assert not list((cache / "staleline" / "readings").glob(f"{file_digest(broken)}-*"))
    status, out, _ = run(capsys, "kernel", broken)
    assert status == 3
    assert "not in the catalogue" in words(out)
    assert "int3 at stop_this_cpu" in words(out)


def test_an_image_that_takes_too_long_is_given_up(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    image = real_kernels["6.12"].path
    status, out, err = run(capsys, "kernel", image, "--no-cache", "--timeout", "0.1")
    assert (status, out) == (1, "")
    assert err == f"staleline: {image}: not done after 0.1 s: stopped\n"


def workers_of(process: int) -> list[int]:
    """Processes two generations down: the server forks one for each image."""
    return [pid for child in _children(process) for pid in _children(child)]


def _children(process: int) -> Iterator[int]:
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except FileNotFoundError:
        return
    yield from map(int, text.split())


def test_a_process_that_is_killed_fails_its_image_only(
    real_kernels: dict[str, RealKernel],
) -> None:
    first, second = (real_kernels[series].path for series in ("6.12", "6.1"))
    command = [sys.executable, "-m", "staleline", "kernel", "--no-cache", "--jobs", "1"]
    with subprocess.Popen(
        [*command, str(first), str(second), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not (found := workers_of(process.pid)):
            assert time.monotonic() < deadline, "no image is being read"
            time.sleep(0.005)
        os.kill(found[0], signal.SIGKILL)
        out, err = process.communicate(timeout=120)
    killed, read = documents(out)["images"]
    assert process.returncode == 1
    assert killed["error"] == f"{first}: the process that read it was ended by SIGKILL"
    assert err == f"staleline: {killed['error']}\n"
    assert read["policy"] == "linux-6.5"


def test_the_cache_answers_alike_without_what_reads_images(
    real_kernels: dict[str, RealKernel],
) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "staleline", "kernel"]
    command.append(str(real_kernels["6.12"].path))
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2)
    )
    assert first.stdout == second.stdout
    imported = {line.rpartition("|")[2].strip() for line in second.stderr.splitlines()}
    assert "staleline.kernel.reading.cache" in imported
    assert imported.isdisjoint({"numpy", "unicorn", "z3", "capstone", "multiprocessing.context"})


def test_a_damaged_entry_is_read_anew_and_mended(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], cache: Cache
) -> None:
    image = real_kernels["6.12"].path
    _, sound, _ = run(capsys, "kernel", image, "--json")
    (entry,) = (cache / "staleline" / "readings").glob(f"{file_digest(image)}-*.json")
    kept = entry.read_bytes()
    entry.write_bytes(kept.replace(b'"sme_supported"', b'"sme_activated"', 1))
    assert run(capsys, "kernel", image, "--json") == (0, sound, "")
    assert entry.read_bytes() == kept


def test_no_cache_keeps_nothing(
    capsys: pytest.CaptureFixture[str],
    real_kernels: dict[str, RealKernel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert run(capsys, "kernel", real_kernels["6.12"].path, "--no-cache")[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_since_names_what_the_new_rule_costs_and_whom_it_forgets(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    # LKML 2023-11-29, Dave Hansen: flushing on all SME hardware costs WBINVDs that kernels
    # which do not encrypt did not execute. Linux 6.18 does so, on AMD only.
    old, new = real_kernels["6.12"], real_kernels["6.18"]
    status, out, err = run(capsys, "kernel", new.path, "--since", old.path)
    assert (status, err) == (2, "")  # Hygon was safe
    text = words(out)
    assert f"{old.release} → {new.release}" in text
    assert "~ rule: linux-6.18, was linux-6.5" in text
    assert (
        '+ relocate_kernel: one more WBINVD where vendor == "AuthenticAMD" and sme_supported'
        " and not sme_active" in text
    )
    assert "+ known bug: only arch/x86/kernel/cpu/amd.c sets the flag: Hygon" in text
    status, out, _ = run(capsys, "kernel", new.path, "--since", old.path, "--json")
    (change,) = documents(out)["since"]
    cost = change["handovers"]["cost"]["relocate_kernel"]
    coherent = [
        row
        for row in change["handovers"]["handovers"]
        if row["platform"] == "amd-sme-coherent" and row["old"] == "off"
    ]
    assert cost["more"] > cost["unneeded"] >= len(coherent) > 0
    assert all(
        [flushes["relocate_kernel"] for flushes in row["flushes"]] == [False, True]
        for row in coherent
    )


def test_diff_takes_images_and_policies_alike(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    old, new = real_kernels["6.12"], real_kernels["6.18"]
    status, out, _ = run(capsys, "diff", old.path, new.path, "--json")
    found = document_of(out, "diff")
    assert status == 2  # Hygon is worse off
    assert (found["old"], found["new"]) == (old.release, new.release)
    worse = {row["platform"] for row in found["handovers"] if row["verdict"] == ["safe", "at-risk"]}
    assert worse == {"hygon-sme-incoherent"}
    # A kernel without code for TDX hosts never makes a SEAMCALL, so nothing is at stake there.
    assert "intel-tdx" not in {row["platform"] for row in found["handovers"]}
    status, out, _ = run(capsys, "diff", "linux-6.5", old.path)
    assert status == 0
    assert "stop_this_cpu: the same rule" in out


def test_requests_that_make_no_sense_are_refused_once(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], tmp_path: Path
) -> None:
    image = real_kernels["6.12"].path
    dump = tmp_path / "dump"
    dump.write_text("no dump at all\n")
    for arguments, says in (
        (("--snapshot", dump), str(dump)),
        (("--msr", "0x10=1"), "--snapshot"),
        (("--since", image, "--explain"), "do not go together"),
        (("--jobs", "0"), "jobs"),
        (("--timeout", "0"), "timeout"),
    ):
        status, out, err = run(capsys, "kernel", image, image, *arguments)
        assert (status, out) == (1, "")
        (line,) = err.splitlines()
        assert line.startswith("staleline: ")
        assert says in line


def test_a_machine_that_says_nothing_leaves_every_behaviour_open(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], tmp_path: Path
) -> None:
    silent = tmp_path / "silent.json"
    silent.write_text('{"schema": "staleline/snapshot/1", "cpus": []}')
    image = real_kernels["6.12"].path
    status, out, _ = run(capsys, "kernel", image, "--snapshot", silent, "--json")
    (document,) = json.loads(out)["images"]
    assert status == 3
    assert any("which this is was not read" in reason for reason in document["unknown"])
    # It never flushes in the NMI handler of a crash, on no machine.
    assert document["on_snapshot"] == {
        "stop_this_cpu": None,
        "relocate_kernel": None,
        "crash_nmi_callback": None,
    }
    behaviours = [{**row, "assumed": None} for row in document["possibilities"]]
    assert 1 < len(behaviours) <= 32
    assert all(behaviours.count(row) == 1 for row in behaviours)


def test_explain_shows_what_each_instruction_reads(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    image = real_kernels["6.12"].path
    status, out, err = run(capsys, "kernel", image, "--explain")
    text = words(out)
    assert (status, err) == (0, "")
    assert "extended_cpuid_level, CPUID 0x80000000 EAX" in text
    assert "reads CPUID 0x8000001f EAX = 0x1; 0x0 without CPUID 0x8000001f EAX[0]" in text
    assert "reads sme_me_mask (the C-bit's mask, 0 if memory is not encrypted)" in text
    status, out, _ = run(capsys, "kernel", image, "--explain", "--json")
    (several,) = documents(out)["explanations"]
    assert {one["site"] for one in several} == {"stop_this_cpu", "relocate_kernel"}
    assert all(one["lines"][-1]["instruction"] == "wbinvd" for one in several)


def test_explain_shows_what_is_left_dirty_behind_the_wbinvd(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], tmp_path: Path
) -> None:
    kernel = real_kernels["7"].path
    image = load_image(kernel)
    variable = image.symbols.address("panic_timeout")
    assert variable is not None
    spoilt = planted_before_halt(image, fills_global(variable, 4))
    file = tmp_path / "vmlinux"
    file.write_bytes(patched_file(kernel, dict(changed_code(image, spoilt))))
    status, out, err = run(capsys, "kernel", file, "--explain")
    assert (status, err) == (3, "")  # behind a static branch, on which the site now depends
    text = words(out)
    assert f"leaves panic_timeout dirty: stores 4 bytes at {variable:#x}" in text
    assert "through the old kernel's own alias" in text
    assert "ksys_unshare+0x" in text
    _, out, _ = run(capsys, "kernel", file, "--explain", "--json")
    (several,) = documents(out)["explanations"]
    left = {one["site"]: [store["line"] for store in one["left_behind"]] for one in several}
    assert left.pop("stop_this_cpu") == ["panic_timeout"]
    assert set(left) >= {"relocate_kernel"}
    assert not any(left.values())


def changed_code(before: KernelImage, after: KernelImage) -> Iterator[tuple[int, bytes]]:
    """Link address and byte of what differs."""
    for old, new in zip(before.segments, after.segments, strict=True):
        if old.data != new.data:
            for at in range(len(old.data)):
                if old.data[at] != new.data[at]:
                    yield old.virtual_address + at, bytes([new.data[at]])


def test_a_build_tree_is_read_by_its_vmlinux(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], tmp_path: Path
) -> None:
    (tmp_path / "vmlinuz").symlink_to(real_kernels["6.12"].path)
    status, out, _ = run(capsys, "kernel", tmp_path)
    assert status == 0
    assert real_kernels["6.12"].release in out
