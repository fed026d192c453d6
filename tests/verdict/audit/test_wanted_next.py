# SPDX-License-Identifier: GPL-2.0-or-later
"""--reuse-cmdline: what kexec-tools makes of /proc/cmdline, word for word.

Expected lines are those of kexec/kexec.c get_command_line(), remove_parameter() and
concat_cmdline() of kexec-tools 2.0.32 (Debian 1:2.0.32-3), compiled and run.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from staleline.evidence.snapshot import KernelEvidence, Snapshot
from staleline.verdict.audit.wanted_next import NextImage, next_image
from tests.conftest import RealKernel

LINES = [
    ("BOOT_IMAGE=/v root=/dev/sda1 mem_encrypt=on", None, False, "root=/dev/sda1 mem_encrypt=on"),
    ("BOOT_IMAGE=/v quiet", "mem_encrypt=off", False, "quiet mem_encrypt=off"),
    ("BOOT_IMAGE=/v quiet", "", False, "quiet "),
    (
        "quiet crashkernel=512M,high crashkernel=72M,low ro",
        None,
        False,
        "quiet crashkernel=512M,high crashkernel=72M,low ro",
    ),
    ("quiet crashkernel=512M,high crashkernel=72M,low ro", None, True, "quiet ro"),
    ("ro crashkernel=256M", None, True, "ro "),
    ("crashkernel_verbose ro", None, True, "ro"),
    ("a.crashkernel=1 crashkernel=256M ro", None, True, "a.crashkernel=1 crashkernel=256M ro"),
    ("crashkernel=256M a.crashkernel=1 ro", None, True, "a.crashkernel=1 ro"),
    ("X_BOOT_IMAGE=1 BOOT_IMAGE=/v  ro", None, False, "X_BOOT_IMAGE=1 BOOT_IMAGE=/v  ro"),
    ('BOOT_IMAGE="/v mem_encrypt=on" ro', None, False, 'mem_encrypt=on" ro'),
    (
        "mem_encrypt=on  BOOT_IMAGE=(hd0)/v ro bootconfig",
        None,
        False,
        "mem_encrypt=on  ro bootconfig",
    ),
]


@pytest.mark.parametrize(("running", "append", "crash", "expected"), LINES)
def test_a_line_is_used_again_as_kexec_tools_does(
    real_kernels: dict[str, RealKernel],
    running: str,
    append: str | None,
    crash: bool,
    expected: str,
) -> None:
    snapshot = Snapshot(cpus=(), kernel=KernelEvidence(cmdline=running))
    path = str(real_kernels["6.12"].path)
    loaded = next_image(path, snapshot, append=append, reuse=True, crash=crash)
    assert loaded.command_line == expected


def test_an_image_that_is_replaced_is_loaded_anew(
    real_kernels: dict[str, RealKernel], tmp_path: Path
) -> None:
    file, nothing = tmp_path / "vmlinuz", Snapshot(cpus=())

    def loaded() -> NextImage:
        return next_image(str(file), nothing, append=None, reuse=False, crash=False)

    for kernel in (real_kernels["5.10"], real_kernels["7"]):
        shutil.copy(kernel.path, file)
        assert loaded().name == kernel.release
        assert loaded().image is loaded().image
