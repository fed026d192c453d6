# SPDX-License-Identifier: GPL-2.0-or-later
"""A guard on the running task is named wherever it decides who is stopped: real kernels with one.

No code asks its task that (`fixedinputs`); which one runs a kexec, or meets a crash, is not known.
"""

from __future__ import annotations

import pytest

from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.at_sites import search_sites
from staleline.kernel.influence.first_way import FirstWay
from staleline.kernel.influence.on_the_way import way_dependencies
from staleline.kernel.influence.rows import machines
from staleline.vocabulary import Site
from tests.kernel.eras import ERAS
from tests.kernel.places import address_of
from tests.kernel.plant import Bytes, planted, relative, returns_at_once

#: The per-CPU variable that begins with the pointer: asm/current.h, up to 6.1 and since 6.15, and
#: struct pcpu_hot from 6.2 to 6.14.
CURRENT = ("current_task", "pcpu_hot")
#: In struct task_struct, the offset of something behind the two lowest words.
MEMBER = 0x2C
BIT = 2


@pytest.fixture(scope="module", params=ERAS)
def image(request: pytest.FixtureRequest, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


def task_bit(image: KernelImage) -> Bytes:
    """Is a bit of the running task's structure set?"""
    (current,) = (name for name in CURRENT if name in image.symbols)
    pointer = address_of(image, current)

    def asks(at: int) -> bytes:
        load = b"\x50\x65\x48\x8b\x05" + relative(at + 9, pointer)  # push %rax; mov %gs:..., %rax
        test = b"\xf6\x80" + MEMBER.to_bytes(4, "little") + bytes([1 << BIT])  # testb, (%rax)
        return load + test + b"\x58"

    return asks


@pytest.mark.parametrize("function", ["machine_shutdown", "native_stop_other_cpus"])
def test_it_is_named_on_the_way_of_a_kexec(image, function):
    mutant = planted(image, function, task_bit(image), returns_at_once)
    (reason,) = way_dependencies(mutant)
    assert reason.startswith(f"stop_this_cpu also depends on init_task+{MEMBER:#x}, which no fact")


@pytest.mark.parametrize(
    "function", ["native_machine_crash_shutdown", "nmi_shootdown_cpus", "crash_nmi_callback"]
)
def test_it_is_named_on_the_way_of_a_crash(image, function):
    """Where it returns nobody is shot down, or who is goes on with what it was about."""
    mutant = planted(image, function, task_bit(image), returns_at_once)
    reruns = FirstWay(mutant)
    machine = next(iter(machines(mutant)))
    with reruns.series():
        site = search_sites(reruns, [machine], sites=(Site.CRASH_NMI_CALLBACK,))
    influences = site[Site.CRASH_NMI_CALLBACK].influences.values()
    named = {one.name for one in influences if not one.explained}
    assert f"init_task+{MEMBER:#x}" in named
