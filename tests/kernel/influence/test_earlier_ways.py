# SPDX-License-Identifier: GPL-2.0-or-later
"""What depends on the way that was gone before, where no input flows into the condition itself."""

from __future__ import annotations

import pytest

from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.inflow import Arms, Loaded, inflows
from staleline.kernel.influence.sitesearch.arms import arms_of
from staleline.kernel.rerun.registerparts import CARRY, FLAGS, parts_of
from staleline.kernel.rerun.trace import Access, ExecutedInstruction
from staleline.vocabulary import Site
from tests.kernel.guards.test_dataflow import SLOT, steps
from tests.kernel.influence.plantedguards import named_by_the_site, planted_guards
from tests.kernel.influence.test_beyond import unlisted
from tests.kernel.places import address_of
from tests.kernel.plant import Bytes, executes_wbinvd, planted_call, relative

CODE = 0x1000
STACK = 0x8000
ECX = frozenset(parts_of("rcx"))


def trace(*executed: tuple[int, str], ecx: int = 0, rsp: int = STACK) -> list[ExecutedInstruction]:
    """Offsets and hexadecimal bytes; RCX holds `ecx` before the last of them."""
    found = [ExecutedInstruction(CODE + at, bytes.fromhex(code)) for at, code in executed]
    for step in found:
        step.registers = [0, 0, 0, 0, rsp, *[0] * 15]
    found[-1].registers = [0, ecx, 0, 0, rsp, *[0] * 15]
    return found


# je +2; inc ecx; cmp ecx, 2
TAKEN = trace((0, "7402"), (4, "83f902"))
ENTERED = trace((0, "7402"), (2, "ffc1"), (4, "83f902"), ecx=1)


def test_what_one_of_two_ways_leaves_otherwise() -> None:
    assert arms_of(TAKEN, 0, ENTERED) == Arms(1, ECX)
    assert arms_of(ENTERED, 0, TAKEN) == Arms(2, ECX)


def test_a_register_that_is_saved_and_put_back_is_none() -> None:
    pushed = trace((0, "7402"), (2, "51"), (3, "59"), (4, "83f902"))
    pushed[1].accesses.append(Access(STACK - 8, 8, None))
    assert arms_of(TAKEN, 0, pushed) == Arms(1)


def test_a_variable_is_one() -> None:
    stored = trace((0, "7402"), (2, "8807"), (4, "83f902"))
    stored[1].accesses.append(Access(SLOT, 1, None))
    assert arms_of(TAKEN, 0, stored) == Arms(1, places=frozenset({SLOT}))


def test_a_function_that_both_call_is_not_where_they_meet() -> None:
    """call +0x10 at two places, each behind one way."""
    one = trace((0, "7402"), (4, "e807000000"), (0x10, "90"), (0x11, "c3"), (9, "90"))
    other = trace((0, "7402"), (2, "e809000000"), (0x10, "90"), (0x11, "c3"), (7, "90"), (9, "90"))
    found = arms_of(one, 0, other)
    assert found is not None
    assert found.meets == 4


def test_ways_that_do_not_meet_leave_nothing() -> None:
    assert arms_of(TAKEN, 0, trace((0, "7402"), (2, "0f0b"))) is None


def test_one_more_round_of_a_loop_meets_where_it_began() -> None:
    again = trace((0, "7402"), (2, "ffc1"), (3, "ebfb"), (0, "7402"), ecx=1)
    assert arms_of(TAKEN, 0, again) == Arms(1, ECX)


def test_the_way_that_was_gone_flows_on() -> None:
    """cmp dword [slot], 3; je; xor ecx, ecx; test ecx, ecx; jne, where the other way has a 1."""
    several = steps("833d0000000003 <4", "7402", "31c9", "85c9", "7502")
    arms = {1: [Arms(3, frozenset((*ECX, FLAGS, CARRY)))]}
    assert inflows(several, lambda _: False)[-1] == frozenset()
    (inflow,) = inflows(several, lambda _: False, arms=arms)[-1]
    assert inflow.origin == Loaded(SLOT, bytes(4))


def test_what_may_have_been_stored_elsewhere_flows_on() -> None:
    """mov eax, [slot]; mov byte [rdi + rax], 1; cmp byte [rdi + 9], 1; je."""
    several = steps("8b0500000000 <4", "c6040701 >64+1", "807f0901 <73+1", "7402")
    assert Loaded(SLOT, bytes(4)) in {one.origin for one in inflows(several, lambda _: False)[-1]}


@pytest.fixture(scope="module", params=["5.10", "7"])
def image(request, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


ASKED = {"panic_on_warn": 42, "panic_timeout": 7}


def counted(image: KernelImage) -> Bytes:
    """``if (a == 42) n++; if (b == 7) n++; if (n == 2)`` a flush."""

    def code(at: int) -> bytes:
        found = b"\x9c\x51\x31\xc9"  # pushf; push rcx; xor ecx, ecx
        for name, number in ASKED.items():
            behind = at + len(found) + 7
            found += b"\x83\x3d" + relative(behind, address_of(image, name)) + bytes([number])
            found += b"\x75\x02\xff\xc1"  # jne +2; inc ecx
        found += b"\x83\xf9\x02\x75\x02"  # cmp ecx, 2; jne +2
        return found + executes_wbinvd(at) + b"\x59\x9d"

    return code


@pytest.mark.parametrize(
    ("function", "site"),
    [("stop_this_cpu", Site.STOP_THIS_CPU), ("machine_kexec", Site.RELOCATE_KERNEL)],
)
def test_conditions_that_are_counted_are_named(image, function, site) -> None:
    assert set(ASKED) <= unlisted(planted_call(image, function, counted(image)), site)


@pytest.mark.parametrize(
    "form",
    [
        "how often a loop shifts",
        "a constant that a loop shifts",
        "a count of conditions",
        "where it is stored",
        "which bit is set",
        "how far it is searched",
        "x87",
    ],
)
def test_a_value_that_decides_by_the_way_it_leads_is_named(image, form) -> None:
    (guard,) = (
        one
        for one in planted_guards(image)
        if (one.where, one.form) == ("a flush in stop_this_cpu", form)
        and one.asked.name == "panic_on_warn"
    )
    assert "panic_on_warn" in named_by_the_site(image, guard)
