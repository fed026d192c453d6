# SPDX-License-Identifier: GPL-2.0-or-later
"""A kexec and a crash begin in the state that the kernel's own code sets."""

from __future__ import annotations

import pytest

from staleline.kernel.emulator.memory import MachineMemory
from staleline.kernel.image.image import KernelImage
from staleline.kernel.sites.kexecstate import begin_crash, begin_kexec
from tests.kernel.places import address_of

#: SYSTEM_RUNNING and SYSTEM_RESTART: include/linux/kernel.h:432 (5.10.223), :183 (6.12.117).
STATES = {"5.10": (2, 5), "6.12": (3, 6), "6.18": (3, 6), "7": (3, 6)}
SIZES = {"system_state": 4, "kexec_in_progress": 1, "__num_online_cpus": 4, "panic_cpu": 4}


@pytest.fixture(params=STATES)
def series(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def image(series, real_kernels) -> KernelImage:
    return real_kernels[series].image


def state(image: KernelImage, memory: MachineMemory) -> dict[str, int]:
    return {name: memory.read_int(address_of(image, name), size) for name, size in SIZES.items()}


def test_a_kexec(series, image):
    memory = MachineMemory(image)
    before = state(image, memory)
    begin_kexec(image, memory, online=2)
    _, restart = STATES[series]
    changed = {"system_state": restart, "kexec_in_progress": 1, "__num_online_cpus": 2}
    assert state(image, memory) == before | changed


def test_a_crash_in_a_kernel_that_runs(series, image):
    memory = MachineMemory(image)
    begin_kexec(image, memory, online=2)
    begin_crash(image, memory, crashing=0)
    running, _ = STATES[series]
    found = state(image, memory)
    assert (found["system_state"], found["kexec_in_progress"]) == (running, 0)
    assert found["panic_cpu"] == 0
