# SPDX-License-Identifier: GPL-2.0-or-later
"""What was judged before counts for what it was judged of, and for nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

from staleline.fleet.images import no_images
from staleline.fleet.intake.adding import AddOptions, add_to_fleet
from staleline.fleet.judging import FleetQuestion
from staleline.fleet.result import AuditOptions, asked_fleet

ROME = "amd-epyc-7742-64-core-processor-dual.test.xz"
DUMP = Path(__file__).parents[1] / "data" / "cpuid" / "full" / ROME


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
