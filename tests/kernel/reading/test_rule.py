# SPDX-License-Identifier: GPL-2.0-or-later
"""What is read of an image file, as a whole."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from staleline.errors import KernelImageError
from staleline.kernel.file.container import UnpackedKernel, unpack_kernel
from staleline.kernel.file.source import ByteSource
from staleline.kernel.image import loading
from staleline.kernel.image.loading import load_and_hash
from staleline.kernel.reading.document import with_surroundings
from staleline.kernel.reading.rule import read_rule
from staleline.kernel.reading.surroundings import read_surroundings
from tests.conftest import RealKernel
from tests.kernel.mutate import find_guard, patched


def test_the_digest_is_that_of_the_file_that_was_loaded(
    real_kernels: dict[str, RealKernel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = real_kernels["6.12"]
    image, digest = load_and_hash(str(kernel.path))
    assert (image.release, digest) == (kernel.release, kernel.sha256)

    def replaced_meanwhile(file: ByteSource) -> UnpackedKernel:
        unpacked = unpack_kernel(file)
        os.replace(other, copy)
        return unpacked

    copy, other = tmp_path / "vmlinuz", tmp_path / "other"
    shutil.copy(kernel.path, copy)
    other.write_bytes(b"another build")
    monkeypatch.setattr(loading, "unpack_kernel", replaced_meanwhile)
    with pytest.raises(KernelImageError, match="changed while it was read; read it again"):
        load_and_hash(str(copy))


def test_a_rule_that_no_release_had_is_nearest_to_that_it_was_made_of(
    real_kernels: dict[str, RealKernel],
) -> None:
    image = real_kernels["6.12"].image
    other = patched(image, *find_guard(image, "identity_mapped").always)
    document = with_surroundings(read_rule(other, ""), read_surroundings(other))
    assert document["policy"] is None
    assert document["unknown"] == []
    assert document["sites"]["relocate_kernel"]["condition"] == "true"
    assert document["nearest"] == {
        "policy": "linux-6.5",
        "same": ["stop_this_cpu", "crash_nmi_callback", "reported_stopped"],
        "other": ["relocate_kernel"],
    }


def test_texts_of_an_image_cannot_command_a_terminal(
    real_kernels: dict[str, RealKernel],
) -> None:
    image = real_kernels["6.12"].image
    document = read_rule(replace(image, release="6.12\x1b]0;title\x07", banner="a\nb"), "")
    assert document["release"] == "6.12\\x1b]0;title\\x07"
    assert document["banner"] == "a\\x0ab"


def test_a_site_that_depends_on_something_unlisted_has_no_rule(
    real_kernels: dict[str, RealKernel],
) -> None:
    image = real_kernels["6.12"].image
    rule, around = read_rule(image, ""), read_surroundings(image)
    known = with_surroundings(rule, around)
    assert (known["policy"], known["unknown"]) == ("linux-6.5", [])
    assert known["inputs"]["stop_this_cpu"] == ["CPUID 0x8000001f EAX[0]", "per-CPU cpu_info+0x24"]
    reason = "relocate_kernel also depends on some_option, which no fact sets"
    doubted = with_surroundings(rule, {**around, "unlisted": {"relocate_kernel": [reason]}})
    assert doubted["policy"] is None
    assert doubted["equals"] == []
    assert doubted["unknown"] == [reason]
    assert doubted["sites"]["relocate_kernel"]["condition"] is None
    assert doubted["sites"]["relocate_kernel"]["unknown"] == [reason]
    assert doubted["sites"]["stop_this_cpu"] == known["sites"]["stop_this_cpu"]
