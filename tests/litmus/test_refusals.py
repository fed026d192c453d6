# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the kit's module refuses: its own code decides, compiled with the facts of a machine.

A machine that is locked down, an SNP host and a guest cannot be had in every test run. What is
replaced here is what the kernel tells the module, and nothing of what the module makes of it.
"""

from __future__ import annotations

import subprocess
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from staleline.litmus.kit import kit_files

_FACTS = """
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
typedef uint32_t u32;
typedef uint64_t u64;
#define SYSCFG 0xc0010010
#define SYSCFG_SME (1ULL << 23)
#define SYSCFG_SNP (1ULL << 24)
#define SME_LEAF 0x8000001f
#define BIT_ULL(n) (1ULL << (n))
#define GENMASK_ULL(high, low) ((~0ULL >> (63 - (high))) & (~0ULL << (low)))
enum { X86_VENDOR_INTEL, X86_VENDOR_AMD = 2, X86_VENDOR_HYGON = 9 };
enum { X86_FEATURE_HYPERVISOR, CC_ATTR_GUEST_MEM_ENCRYPT, LOCKDOWN_DEV_MEM };
static struct { int x86_vendor; } boot_cpu_data;
static u64 cbit, syscfg, sme_me_mask, syscfg_of[2];
static u32 leaf[4], largest, eax, ebx;
enum { X86_HYPER_NATIVE, X86_HYPER_XEN_PV };
static int hypervisor, hypervisor_type, guest, locked, readable;
static bool boot_cpu_has(int feature) { return hypervisor; }
static bool hypervisor_is_type(int type) { return hypervisor_type == type; }
static bool cc_platform_has(int attribute) { return guest; }
static bool security_locked_down(int what) { return locked; }
static u32 cpuid_eax(u32 of) { return largest; }
static void cpuid(u32 of, u32 *a, u32 *b, u32 *c, u32 *d) { *a = eax; *b = ebx; }
static void cpus_read_lock(void) { }
static void cpus_read_unlock(void) { }
static int rdmsr_safe_regs_on_cpu(int cpu, u32 *regs)
{
	regs[0] = syscfg_of[cpu];
	return readable ? 0 : -5;
}
#define for_each_online_cpu(cpu) for (cpu = 0; cpu < 2; cpu++)
"""
_MAIN = """
int main(int count, char **given)
{
	boot_cpu_data.x86_vendor = atoi(given[1]);
	hypervisor = atoi(given[2]);
	guest = atoi(given[3]);
	locked = atoi(given[4]);
	largest = strtoul(given[5], 0, 0);
	eax = strtoul(given[6], 0, 0);
	ebx = strtoul(given[7], 0, 0);
	readable = atoi(given[8]);
	syscfg_of[0] = strtoul(given[9], 0, 0);
	syscfg_of[1] = strtoul(given[10], 0, 0);
	sme_me_mask = strtoull(given[11], 0, 0);
	hypervisor_type = atoi(given[12]);
	const char *why = refusal();
	puts(why ? why : "");
}
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What the kernel tells the module, in the order of the program's arguments."""

    vendor: int = 2
    hypervisor: int = 0
    guest: int = 0
    locked: int = 0
    largest_leaf: int = 0x8000001F
    eax: int = 1
    ebx: int = 47
    readable: int = 1
    syscfg: int = 1 << 23
    other_syscfg: int = 1 << 23
    mask: int = 0
    hypervisor_type: int = 0


@pytest.fixture(scope="module")
def decision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module's decision as a program."""
    module = kit_files()["staleline_litmus.c"]
    code = module[module.index("static const char *syscfg_refusal(void)") :]
    code = code[: code.index("static unsigned int evicting_kb")]
    folder = tmp_path_factory.mktemp("refusals")
    (folder / "decision.c").write_text(_FACTS + code + _MAIN)
    command = ["cc", "-w", "-o", str(folder / "decision"), str(folder / "decision.c")]
    subprocess.run(command, check=True)
    return folder / "decision"


def why(decision: Path, told: Told) -> str:
    arguments = [str(value) for value in asdict(told).values()]
    done = subprocess.run([str(decision), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "told",
    [Told(), Told(vendor=9), Told(mask=1 << 47), Told(largest_leaf=0x80000026)],
    ids=["AMD", "Hygon", "a kernel that encrypts", "more leaves"],
)
def test_a_host_with_sme_is_asked(decision: Path, told: Told) -> None:
    assert not why(decision, told)


@pytest.mark.parametrize(
    ("told", "word"),
    [
        (Told(vendor=0), "neither AMD nor Hygon"),
        (Told(hypervisor=1), "hypervisor"),
        (Told(hypervisor_type=1), "hypervisor"),
        (Told(guest=1), "encrypted guest"),
        (Told(locked=1), "locked down"),
        (Told(largest_leaf=0x8000001E), "no leaf"),
        (Told(eax=2), "without SME"),
        (Told(ebx=31), "no address"),
        (Told(ebx=52), "no address"),
        (Told(readable=0), "cannot be read"),
        (Told(syscfg=0), "SYSCFG[23]"),
        (Told(other_syscfg=0), "SYSCFG[23]"),
        (Told(syscfg=3 << 23), "SNP host"),
        (Told(other_syscfg=3 << 23), "SNP host"),
        (Told(mask=1 << 51), "not that of CPUID"),
    ],
)
def test_where_it_could_hurt_it_refuses(decision: Path, told: Told, word: str) -> None:
    assert word in why(decision, told)


@pytest.mark.parametrize("field", ["hypervisor", "hypervisor_type", "guest", "locked"])
@pytest.mark.parametrize("vendor", [0, 2, 9])
def test_nothing_takes_a_refusal_back(decision: Path, field: str, vendor: int) -> None:
    """Whatever else a machine tells, with one of these it is refused."""
    for told in (Told(vendor=vendor), Told(vendor=vendor, mask=1 << 47)):
        assert why(decision, replace(told, **{field: 1}))
