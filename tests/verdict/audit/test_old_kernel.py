# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel's image is told by its build ID, on this host and from a snapshot alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from staleline.evidence.detect import read_snapshot
from staleline.evidence.snapshot import KernelEvidence, Snapshot
from staleline.kernel.image.assembly import load_image
from staleline.kernel.reading.decided import image_opener
from staleline.verdict.audit import old_kernel as choice
from staleline.verdict.audit.old_kernel import choose_kernels
from staleline.verdict.handover.kernels import ImageKernel, PolicyKernel
from staleline.verdict.handover.release import judged_release
from tests.conftest import RealKernel

ROME = Path(__file__).parents[2] / ("data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test")


@pytest.fixture
def installed(
    real_kernels: dict[str, RealKernel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> KernelEvidence:
    """What a host says of its kernel whose image is where distributions install it."""
    path = real_kernels["6.12"].path
    image = load_image(path)
    assert image.release is not None
    (tmp_path / f"vmlinuz-{image.release}").symlink_to(path)
    monkeypatch.setattr(choice, "_IMAGE_PLACES", (f"{tmp_path}/vmlinuz-{{}}",))
    return KernelEvidence(release=image.release, build_id=image.build_id)


def machine(kernel: KernelEvidence) -> Snapshot:
    return replace(read_snapshot(ROME), kernel=kernel)


def test_the_installed_image_with_the_running_build_id_is_read(installed: KernelEvidence) -> None:
    (kernel,) = choose_kernels(machine(installed), None, image_opener())
    assert isinstance(kernel, ImageKernel)


@pytest.mark.parametrize("build_id", ["00", None])
def test_an_image_that_may_be_another_build_is_not(
    installed: KernelEvidence, build_id: str | None
) -> None:
    kernels = choose_kernels(machine(replace(installed, build_id=build_id)), None, image_opener())
    assert kernels
    assert all(isinstance(kernel, PolicyKernel) for kernel in kernels)


@pytest.mark.parametrize(
    ("wanted", "release"),
    [
        ("6.12.117", "6.12.117"),
        # The earliest series that carries the rule: 6.1 by backports.
        ("linux-6.5", "6.1"),
        ("linux-6.18", "6.18"),
        ("unconditional", None),
    ],
)
def test_the_release_whose_code_reads_the_command_line(wanted: str, release: str | None) -> None:
    kernels = choose_kernels(Snapshot(()), wanted, image_opener())
    assert judged_release(kernels, wanted) == release
