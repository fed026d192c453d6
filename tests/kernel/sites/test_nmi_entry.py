# SPDX-License-Identifier: GPL-2.0-or-later
"""Guards between an interrupt's gate and the site, whether a run takes them or not."""

from __future__ import annotations

import capstone  # type: ignore[import-untyped]
import pytest

from staleline.kernel.image.assembly import load_image
from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.at_sites import search_sites
from staleline.kernel.influence.first_way import FirstWay
from staleline.kernel.influence.rows import machines
from staleline.kernel.influence.second_ways import StoppedByNmi
from staleline.kernel.rerun.reruns import Reruns
from staleline.vocabulary import Site
from tests.kernel.eras import ERAS
from tests.kernel.mutate import patched
from tests.kernel.places import address_of
from tests.kernel.plant import CAVE, Bytes, global_bit, on_condition, planted, relative

ENDBR64 = 4
#: Each test is a search of one site, most of a second.
SERIES = ERAS[1:]
QUESTION = "panic_timeout"


@pytest.fixture(scope="module", params=SERIES)
def image(request, real_kernels) -> KernelImage:
    return load_image(real_kernels[request.param].path)


def begun_by(image: KernelImage, function: str, does: Bytes) -> KernelImage:
    """A function of entry code, which calls no ``__fentry__``, does something first."""
    start, moved = address_of(image, function) + ENDBR64, b""
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    for one in decoder.disasm(image.read(start, 32), start):
        moved += bytes(one.bytes)
        if len(moved) >= 5:
            break
    cave = address_of(image, CAVE)
    code = does(cave) + moved
    code += b"\xe9" + relative(cave + len(code) + 5, start + len(moved))
    jump = b"\xe9" + relative(start + 5, cave)
    return patched(patched(image, cave, code), start, jump.ljust(len(moved), b"\x90"))


def asks(image: KernelImage, does: Bytes) -> Bytes:
    return on_condition(global_bit(address_of(image, QUESTION), 7), does)


def reports_and(image: KernelImage, end: bytes) -> Bytes:
    """``andl $~2, cpus_stop_mask``, and then without a flush."""
    mask = address_of(image, "cpus_stop_mask")
    return lambda at: b"\x83\x25" + relative(at + 7, mask) + b"\xfd" + end


HALTS = b"\xfa\xf4\xeb\xfd"
RETURNS_FROM_INTERRUPT = b"\x48\xcf"
#: From code that a function calls: it returns 1, NMI_HANDLED.
RETURNS_HANDLED = b"\x58\xb8\x01\0\0\0\xc3"


def unexplained(reruns: Reruns, site: Site) -> list[str]:
    machine, *_ = machines(reruns.image)
    with reruns.series():
        found = search_sites(reruns, [machine], sites=(site,))
    return [one.name for one in found[site].influences.values() if not one.explained]


@pytest.mark.parametrize("function", ["asm_exc_nmi", "exc_nmi"])
def test_an_nmi_that_reports_a_cpu_which_has_not_stopped(image, function):
    mutant = begun_by(image, function, asks(image, reports_and(image, HALTS)))
    assert QUESTION in unexplained(StoppedByNmi(mutant), Site.STOP_THIS_CPU)


def test_a_callback_that_reports_a_cpu_which_has_not_stopped(image):
    question = global_bit(address_of(image, QUESTION), 7)
    mutant = planted(image, "smp_stop_nmi_callback", question, reports_and(image, RETURNS_HANDLED))
    assert QUESTION in unexplained(StoppedByNmi(mutant), Site.STOP_THIS_CPU)


@pytest.mark.parametrize("end", [HALTS, RETURNS_FROM_INTERRUPT])
def test_an_interrupt_that_reports_a_cpu_which_has_not_stopped(image, end):
    mutant = begun_by(image, "asm_sysvec_reboot", asks(image, reports_and(image, end)))
    assert QUESTION in unexplained(FirstWay(mutant), Site.STOP_THIS_CPU)


def test_an_nmi_entry_that_returns_in_a_crash(image):
    """The crashing CPU waits for a second at most (reboot.c nmi_shootdown_cpus(), 5.10 to 7.3)."""
    mutant = begun_by(image, "asm_exc_nmi", asks(image, lambda _: RETURNS_FROM_INTERRUPT))
    assert QUESTION in unexplained(FirstWay(mutant), Site.CRASH_NMI_CALLBACK)


@pytest.mark.parametrize(
    ("function", "end"),
    [("crash_nmi_callback", RETURNS_HANDLED), ("nmi_shootdown_cpus", b"\x58\xc3")],
)
def test_a_crash_that_leaves_others_running(image, function, end):
    question = global_bit(address_of(image, QUESTION), 7)
    mutant = planted(image, function, question, lambda _: end)
    assert QUESTION in unexplained(FirstWay(mutant), Site.CRASH_NMI_CALLBACK)
