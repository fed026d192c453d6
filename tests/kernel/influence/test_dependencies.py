# SPDX-License-Identifier: GPL-2.0-or-later
"""A guard that asks something which no fact tells is never answered as if it did not.

Each planted question is answered no on every machine of the truth table, so the table shows
nothing of it; only changing what is asked does.
"""

from __future__ import annotations

import pytest

from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.dependencies import Dependencies, dependencies
from staleline.kernel.rerun.fixedinputs import FIXED_AT_SITES, FIXED_IN_CRASH, is_fixed
from staleline.kernel.rule.enumeration import lacking
from staleline.kernel.rule.imagepolicy import image_policy
from staleline.kernel.rule.truthrows import TruthTable
from staleline.kernel.rule.truthtable import truth_table
from staleline.vocabulary import Site
from tests.kernel.eras import ERAS
from tests.kernel.mutate import find_guard, instructions, patched
from tests.kernel.places import address_of
from tests.kernel.plant import (
    cpuid_bit,
    executes_wbinvd,
    global_bit,
    global_variable,
    msr_bit,
    per_cpu_variable,
    planted,
    planted_static_branch,
    zeroes_global,
    zeroes_per_cpu_byte,
)
from tests.sampling import covering

KEXEC = (Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL)

#: What sites depend on, by source: boot_cpu_has(X86_FEATURE_SME), process.c:753, and
#: sme_active(), mem_encrypt.c:346 (5.10.262); the level and CPUID, process.c:839, and
#: CC_ATTR_HOST_MEM_ENCRYPT, coco/core.c:80 (6.12.117); the flag, process.c:841 and
#: machine_kexec_64.c:433 (7.3.4).
INFLUENCES = {
    "5.10": (("boot_cpu_data+0x68",), ("sev_enabled", "sme_me_mask")),
    "6.12": (
        ("CPUID 0x8000001f EAX[0]", "per-CPU cpu_info+0x24"),
        ("cc_vendor", "sev_status", "sme_me_mask"),
    ),
    "6.18": (("per-CPU cache_state_incoherent",), ("per-CPU cache_state_incoherent",)),
    "7": (("per-CPU cache_state_incoherent",), ("per-CPU cache_state_incoherent",)),
}


@pytest.fixture(scope="module", params=ERAS)
def series(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def image(series, real_kernels) -> KernelImage:
    return real_kernels[series].image


@pytest.fixture(scope="module")
def original(image) -> TruthTable:
    return truth_table(image)


def unlisted(image: KernelImage) -> dict[Site, tuple[str, ...]]:
    """Sites with a dependency that no fact accounts for."""
    return {site: found for site, found in dependencies(image).unlisted.items() if found}


def assert_names(found: dict[Site, tuple[str, ...]], site: Site, name: str) -> None:
    """This site alone is unknown, for this reason alone."""
    assert set(found) == {site}
    (reason,) = found[site]
    assert reason.startswith(f"{site} also depends on {name}")


def test_a_kernel_as_released(image, series):
    found = dependencies(image)
    assert isinstance(found, Dependencies)
    assert not any(found.unlisted.values())
    assert tuple(found.influences[site] for site in KEXEC) == INFLUENCES[series]


def questions(image: KernelImage):
    """Name -> code that asks, of one thing of each kind."""
    return {
        "panic_on_warn (4 bytes, 0x0 in the image)": global_variable(
            address_of(image, "panic_on_warn")
        ),
        "per-CPU printk_pending (4 bytes, 0x0 in the image)": per_cpu_variable(
            address_of(image, "printk_pending")
        ),
        "boot_command_line (4 bytes, 0x0 in the image)": global_variable(
            address_of(image, "boot_command_line")
        ),
        "CPUID 0x80000021 EAX[6]": cpuid_bit(0x8000_0021, "EAX", 6),
        "CPUID 0x8000001f EAX[3]": cpuid_bit(0x8000_001F, "EAX", 3),
        "MSR 0xc0011029[9]": msr_bit(0xC001_1029, 9),
        "MSR 0xc0010010[22]": msr_bit(0xC001_0010, 22),
    }


#: Which question is planted into which kernel; every_planted_question.py plants them all.
SAMPLE = {"5.10": (0, 3), "6.12": (1, 5), "6.18": (2, 4), "7": (2, 6)}


def questions_of(series: str, image: KernelImage):
    return [list(questions(image).items())[number] for number in SAMPLE[series]]


def test_one_more_reason_to_flush_at_stop_this_cpu(series, image):
    for name, asks in questions_of(series, image):
        mutant = planted(image, "stop_this_cpu", asks, executes_wbinvd)
        assert_names(unlisted(mutant), Site.STOP_THIS_CPU, name)


def test_one_more_reason_to_flush_in_machine_kexec(series, image):
    name, asks = questions_of(series, image)[0]
    mutant = planted(image, "machine_kexec", asks, executes_wbinvd)
    assert_names(unlisted(mutant), Site.RELOCATE_KERNEL, name)


def what_guards(image: KernelImage):
    """Code that makes the jumping CPU's guard forget that SME is active."""
    flag = image.symbols.address("cache_state_incoherent")
    if flag is None:
        return zeroes_global(address_of(image, "sme_me_mask"))
    return zeroes_per_cpu_byte(flag)


def test_one_more_reason_not_to_flush_in_machine_kexec(series, image):
    name, asks = questions_of(series, image)[-1]
    mutant = planted(image, "machine_kexec", asks, what_guards(image))
    assert_names(unlisted(mutant), Site.RELOCATE_KERNEL, name)


def test_one_more_reason_to_flush_in_some_guests(image):
    """SEV_STATUS bit 2, an SNP guest (linux 7.3.4 arch/x86/include/asm/msr-index.h:716).

    The facts set bits of this variable, but not this one.
    """
    asks = global_bit(address_of(image, "sev_status"), 2)
    found = unlisted(planted(image, "machine_kexec", asks, executes_wbinvd))
    assert set(found) == {Site.RELOCATE_KERNEL}
    reason, *others = found[Site.RELOCATE_KERNEL]
    assert reason == "relocate_kernel also depends on sev_status[2], which no fact sets"
    assert all("MSR 0xc0010131[2]" in other for other in others)


@pytest.mark.parametrize(
    ("series", "function"), covering(ERAS, ["stop_this_cpu", "machine_kexec"]), indirect=["series"]
)
def test_a_static_branch(image, function):
    site = Site.STOP_THIS_CPU if function == "stop_this_cpu" else Site.RELOCATE_KERNEL
    assert_names(unlisted(planted_static_branch(image, function)), site, "static key ")


def test_a_guard_that_tests_another_bit(series, image):
    """Bit 3 of CPUID 0x8000001f EAX (SEV-ES) instead of bit 0; another flag since 6.18.

    The table then shows that nothing is ever flushed, for the bit is clear in all its rows.
    """
    jump = find_guard(image, "stop_this_cpu").jump.address
    if series in {"6.18", "7"}:
        load = next(i for i in instructions(image, "stop_this_cpu") if "movzx" in i.mnemonic)
        end = load.address + len(load.code)
        other = (address_of(image, "nmi_state") - end) & 0xFFFF_FFFF
        mutant, name = patched(image, end - 4, other.to_bytes(4, "little")), "per-CPU nmi_state"
    elif series == "6.12":
        mutant, name = patched(image, jump - 1, b"\x08"), "CPUID 0x8000001f EAX[3]"
    else:
        mutant, name = patched(image, jump - 1, b"\x23"), "boot_cpu_data+0x68"
    found = unlisted(mutant)
    assert set(found) == {Site.STOP_THIS_CPU}
    assert any(f"also depends on {name}" in reason for reason in found[Site.STOP_THIS_CPU])


def test_a_guard_that_tests_a_listed_bit_instead(real_kernels):
    """SEV instead of SME: the table follows it, and nothing else is asked."""
    image = real_kernels["6.12"].image
    mutant = patched(image, find_guard(image, "stop_this_cpu").jump.address - 1, b"\x02")
    assert unlisted(mutant) == {}
    wrong = [
        row.facts
        for row in truth_table(mutant).rows
        if row.sites[Site.STOP_THIS_CPU].flushes is not (row.facts.leaf and row.facts.sev)
    ]
    assert wrong == []


@pytest.mark.parametrize(("number", "bit"), [(0x87, 3), (0xC001_0015, 0)])
def test_another_bit_of_an_msr_that_facts_set(real_kernels, number, bit):
    """KeyIDs of MKTME beside those of TDX, and SmmLock, which not only SNP hosts have.

    linux 7.3.4 arch/x86/virt/vmx/tdx/tdx.c:1437, arch/x86/kernel/cpu/amd.c
    early_detect_mem_encrypt().
    """
    image = real_kernels["6.12"].image
    mutant = planted(image, "stop_this_cpu", msr_bit(number, bit), executes_wbinvd)
    found = unlisted(mutant)
    assert set(found) == {Site.STOP_THIS_CPU}
    name = f"MSR {number:#x}[{bit}]"
    assert any(f"also depends on {name}," in reason for reason in found[Site.STOP_THIS_CPU])


def test_a_guard_that_asks_for_sev_es(real_kernels):
    """SEV_STATUS bit 1 is a fact (linux 6.12.117 arch/x86/include/asm/msr-index.h:665)."""
    image = real_kernels["6.12"].image
    asks = global_bit(address_of(image, "sev_status"), 1)
    mutant = planted(image, "machine_kexec", asks, executes_wbinvd)
    assert unlisted(mutant) == {}
    rule = image_policy(truth_table(mutant), lacks=lacking(mutant)).rules[Site.RELOCATE_KERNEL]
    assert str(rule.condition) == "sev_es_guest or sme_active"
    assert "sev_es_guest" in rule.reads


@pytest.mark.parametrize(
    ("series", "change"),
    covering(ERAS, ["never", "always", "inverted", "no_flush"]),
    indirect=["series"],
)
def test_a_changed_guard_on_the_whole_table(image, original, change):
    """The changed instruction decides alone; where it decides not is seen in the original."""
    mutant = patched(image, *getattr(find_guard(image, "identity_mapped"), change))
    for old, new in zip(original.rows, truth_table(mutant).rows, strict=True):
        was = old.sites[Site.RELOCATE_KERNEL].flushes
        want = {"never": False, "no_flush": False, "always": True, "inverted": not was}[change]
        expected = None if was is None else want
        assert new.sites[Site.RELOCATE_KERNEL].flushes is expected, new.facts
        assert new.sites[Site.STOP_THIS_CPU] == old.sites[Site.STOP_THIS_CPU]


@pytest.mark.parametrize("name", ["cpus_stopped.1", "crash_smp_send_stop.cpus_stopped"])
def test_a_static_variable_of_a_function_is_known_as_gcc_and_clang_call_it(name):
    """arch/x86/kernel/crash.c:79 (6.12.117), by gcc 12.2 and clang 19.1."""
    assert is_fixed(FIXED_IN_CRASH, name, 4)
    assert is_fixed(FIXED_IN_CRASH, f"{name}.2+0x1", 1)
    assert not is_fixed(FIXED_AT_SITES, name, 4)
