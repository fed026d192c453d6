# SPDX-License-Identifier: GPL-2.0-or-later
"""A function that is called where a variable is set, and that is not set in the image, is named.

So is one that a running kernel may replace: of a variable, or of a static call. Real kernels with a
call planted on each way.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.after_the_stop import waking_jumps
from staleline.kernel.influence.at_sites import search_sites
from staleline.kernel.influence.dependencies import dependencies
from staleline.kernel.influence.first_way import FirstWay
from staleline.kernel.influence.on_the_way import way_dependencies
from staleline.kernel.influence.rows import machines
from staleline.kernel.influence.second_ways import second_ways_aside
from staleline.kernel.rerun.fixedinputs import open_static_call
from staleline.vocabulary import Site
from tests.kernel.eras import ERAS
from tests.kernel.mutate import patched
from tests.kernel.places import address_of
from tests.kernel.plant import Bytes, global_variable, on_condition, planted_call, relative

#: Zero in the image, and 0 in memory behind it: kernel/reboot.c, kernel/panic.c.
HOOK, FLAG = "pm_power_off", "panic_timeout"
#: Has room behind its text for a pointer: kernel/module/kmod.c, kernel/kmod.c.
TABLE, ROOM = "modprobe_path", 0x80
RETURNS = "__x86_return_thunk"
#: Is called by native_machine_shutdown() when the others have stopped: arch/x86/kernel/reboot.c.
BETWEEN = "lapic_shutdown"
SITES = {
    Site.STOP_THIS_CPU: "stop_this_cpu",
    Site.RELOCATE_KERNEL: "machine_kexec",
    Site.CRASH_NMI_CALLBACK: "crash_nmi_callback",
}


@pytest.fixture(scope="module", params=ERAS)
def image(request: pytest.FixtureRequest, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


@pytest.fixture(scope="module")
def newest(real_kernels) -> KernelImage:
    return real_kernels["7"].image


# -- forms ------------------------------------------------------------------------------------


def from_register(image: KernelImage) -> Bytes:
    """mov hook, %rax; test %rax, %rax; je over; call *%rax."""
    hook = address_of(image, HOOK)
    return lambda at: b"\x48\x8b\x05" + relative(at + 7, hook) + bytes.fromhex("4885c0 7402 ffd0")


def from_memory(image: KernelImage) -> Bytes:
    """cmpq $0, hook; je over; call *hook."""
    hook = address_of(image, HOOK)
    asks = bytes.fromhex("48833d"), bytes.fromhex("00 7406 ff15")
    return lambda at: (
        asks[0] + relative(at + 8, hook) + asks[1] + relative(at + 16, hook)
    )  # fmt: skip


def of_a_structure(image: KernelImage) -> Bytes:
    """mov hook, %rax; test %rax, %rax; je over; call *8(%rax)."""
    hook = address_of(image, HOOK)
    return lambda at: b"\x48\x8b\x05" + relative(at + 7, hook) + bytes.fromhex("4885c0 7403 ff5008")


def or_another(image: KernelImage) -> Bytes:
    """lea returns, %rcx; mov hook, %rax; test %rax, %rax; cmove %rcx, %rax; call *%rax."""
    hook, returns = address_of(image, HOOK), address_of(image, RETURNS)
    return lambda at: (
        b"\x48\x8d\x0d" + relative(at + 7, returns)
        + b"\x48\x8b\x05" + relative(at + 14, hook)
        + bytes.fromhex("4885c0 480f44c1 ffd0")
    )  # fmt: skip


def by_a_mask(image: KernelImage) -> Bytes:
    """The same without a condition: neg, sbb, and, or."""
    hook, returns = address_of(image, HOOK), address_of(image, RETURNS)
    mask = bytes.fromhex("4889c1 48f7d9 4819d2")  # mov %rax, %rcx; neg %rcx; sbb %rdx, %rdx
    # and %rdx, %rax; not %rdx; and %rdx, %rcx; or %rcx, %rax; call *%rax
    chosen = bytes.fromhex("4821d0 48f7d2 4821d1 4809c8 ffd0")
    return lambda at: (
        b"\x48\x8b\x05" + relative(at + 7, hook) + mask
        + b"\x48\x8d\x0d" + relative(at + 7 + len(mask) + 7, returns)
        + chosen
    )  # fmt: skip


def by_a_flag(image: KernelImage) -> Bytes:
    """cmpl $0, flag; je over; call *hook: whoever sets the flag has set the hook before."""
    flag, hook = address_of(image, FLAG), address_of(image, HOOK)
    return lambda at: (
        b"\x83\x3d" + relative(at + 7, flag)
        + bytes.fromhex("00 7406 ff15") + relative(at + 15, hook)
    )  # fmt: skip


def keeping(code: Bytes) -> Bytes:
    """With the registers kept that a call may change."""
    before, behind = bytes.fromhex("50 51 52 53 56 57"), bytes.fromhex("5f 5e 5b 5a 59 58")
    return lambda at: before + code(at + len(before)) + behind


FORMS: dict[str, Callable[[KernelImage], Bytes]] = {
    "from a register": from_register,
    "from memory": from_memory,
    "of a structure": of_a_structure,
    "or another": or_another,
    "by a mask": by_a_mask,
}


def planted_hook(image: KernelImage, function: str, form: str) -> KernelImage:
    return planted_call(image, function, keeping(FORMS[form](image)))


def named(image: KernelImage, site: Site) -> set[str]:
    """What a site depends on, beside the listed facts."""
    reruns = FirstWay(image)
    with reruns.series():
        (search,) = search_sites(
            reruns, list(machines(image)), sites=(site,), is_telling=lambda *_: False
        ).values()
    return {one.name for one in search.influences.values() if not one.explained}


# -- at the sites -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_hook_on_the_way_to_a_flush(newest, form):
    assert named(planted_hook(newest, "stop_this_cpu", form), Site.STOP_THIS_CPU) == {HOOK}


@pytest.mark.parametrize("site", SITES)
def test_a_hook_at_each_site(image, site):
    mutant = planted_hook(image, SITES[site], "from a register")
    assert named(mutant, site) == {HOOK}


def test_a_hook_that_a_flag_stands_for(newest):
    mutant = planted_call(newest, "stop_this_cpu", keeping(by_a_flag(newest)))
    assert named(mutant, Site.STOP_THIS_CPU) == {HOOK, FLAG}


def test_a_hook_where_a_cpu_is_told_by_an_nmi(newest):
    mutant = planted_hook(newest, "smp_stop_nmi_callback", "from a register")
    (reason,) = second_ways_aside(mutant)({})[Site.STOP_THIS_CPU]
    assert reason.startswith(f"stop_this_cpu also depends on {HOOK} (8 bytes, 0x0 in the image)")


def test_a_static_call_that_returns_at_once(newest):
    """DEFINE_STATIC_CALL_NULL(), which perf fills when a driver is there: events/core.c."""
    target = address_of(newest, "__SCT__x86_pmu_handle_irq")
    mutant = planted_call(
        newest, "stop_this_cpu", keeping(lambda at: b"\xe8" + relative(at + 5, target))
    )
    assert named(mutant, Site.STOP_THIS_CPU) == {"static call x86_pmu_handle_irq"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("__SCT__x86_idle",), "static call x86_idle"),
        (("something", "__SCT__x86_idle"), "static call x86_idle"),
        (("__SCT__apic_call_eoi",), None),
        (("__SCK__x86_idle",), None),
        ((), None),
    ],
)
def test_which_static_calls_may_lead_elsewhere(names, expected):
    assert open_static_call(names) == expected


@pytest.mark.parametrize("form", ["from a register", "by a flag"])
def test_a_hook_in_the_boot(newest, form):
    """early_init_amd() derives what both sites go by: arch/x86/kernel/cpu/amd.c, 7.3.4."""
    code = by_a_flag(newest) if form == "by a flag" else FORMS[form](newest)
    found = dependencies(planted_call(newest, "early_init_amd", keeping(code)))
    name = FLAG if form == "by a flag" else HOOK
    for site, reasons in found.unlisted.items():
        told = f"{site} also depends on {name} when the kernel starts, which no fact sets"
        assert reasons == (told,)
    assert name not in found.not_varied


# -- before the others are interrupted --------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_hook_before_the_others_are_interrupted(newest, form):
    (reason,) = way_dependencies(planted_hook(newest, "native_stop_other_cpus", form))
    assert reason.startswith(f"stop_this_cpu also depends on {HOOK}, which no fact sets")


def test_a_flag_that_stands_for_a_hook_there(image):
    mutant = planted_call(image, "native_stop_other_cpus", keeping(by_a_flag(image)))
    (reason,) = way_dependencies(mutant)
    assert reason.startswith(f"stop_this_cpu also depends on {FLAG}, which no fact sets")


# -- and when they have stopped ---------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_hook_when_the_others_have_stopped(newest, form):
    reason, *_ = waking_jumps(planted_hook(newest, BETWEEN, form))
    assert reason.startswith(f"relocate_kernel also depends on {HOOK}, which no fact sets")


def test_a_flag_that_stands_for_a_hook_then(image):
    mutant = planted_call(image, BETWEEN, keeping(by_a_flag(image)))
    (reason,) = waking_jumps(mutant)
    assert reason.startswith("relocate_kernel also depends on what is asked at ")


def test_a_hook_that_is_asked_for_behind_a_flag_then(image):
    asks = global_variable(address_of(image, FLAG))
    mutant = planted_call(image, BETWEEN, on_condition(asks, keeping(from_memory(image))))
    (reason,) = waking_jumps(mutant)
    assert reason.startswith("relocate_kernel also depends on what is asked at ")


# -- a pointer that is set, as another may be --------------------------------------------------


def through_a_table(image: KernelImage, function: str) -> KernelImage:
    """call *table: to something that returns, as the image has it."""
    slot = address_of(image, TABLE) + ROOM
    mutant = planted_call(image, function, keeping(lambda at: b"\xff\x15" + relative(at + 6, slot)))
    return patched(mutant, slot, address_of(image, RETURNS).to_bytes(8, "little"))


def test_what_is_called_before_the_others_are_interrupted(image):
    (reason,) = way_dependencies(through_a_table(image, "native_stop_other_cpus"))
    assert reason.startswith(f"stop_this_cpu also depends on {TABLE}+{ROOM:#x}, which no fact sets")


def test_what_is_called_when_they_have_stopped(image):
    (reason,) = waking_jumps(through_a_table(image, BETWEEN))
    assert reason.startswith(f"relocate_kernel also depends on {TABLE}+{ROOM:#x}, which no fact")


@pytest.mark.parametrize("look", [way_dependencies, waking_jumps])
def test_a_static_call_there(newest, look):
    target = address_of(newest, "__SCT__x86_pmu_handle_irq")
    function = BETWEEN if look is waking_jumps else "native_stop_other_cpus"
    mutant = planted_call(newest, function, keeping(lambda at: b"\xe8" + relative(at + 5, target)))
    (reason,) = look(mutant)
    assert "also depends on static call x86_pmu_handle_irq, which no fact sets" in reason
