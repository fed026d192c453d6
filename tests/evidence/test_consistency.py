# SPDX-License-Identifier: GPL-2.0-or-later
"""Two observations that cannot be of one machine are refused with both fields named."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from staleline.evidence import consistency, contradiction
from staleline.evidence.consistency import (
    contradictions,
    contradictions_between,
    require_consistent,
)
from staleline.evidence.contradiction import Contradiction, ContradictionError, contradiction_kinds
from staleline.evidence.cpuid import cpuid_consistency
from staleline.evidence.detect import read_snapshot
from staleline.evidence.log import log_consistency
from staleline.evidence.registers import CpuidTable, Registers
from staleline.evidence.snapshot import (
    CpuEvidence,
    CpuinfoEvidence,
    KernelEvidence,
    LogEvidence,
    Snapshot,
    StateEvidence,
    Statement,
)
from staleline.facts.told.table import register_facts
from staleline.verdict.machines import possible

DATA = Path(__file__).parents[1] / "data" / "cpuid"


#: A kernel that has no setcpuid= (linux 6.12.117 arch/x86/kernel/cpu/common.c).
UNFORCED = KernelEvidence(release="6.12.117")
#: "VMwareVMware" in EBX, ECX and EDX.
_VMWARE = (0x61774D56, 0x4D566572, 0x65726177)


def dump(name: str) -> Snapshot:
    return read_snapshot(DATA / "libcpuid" / name)


MILAN = dump("amd-epyc-7763-64-core-processor-dual.test")
#: Its leaf 0x8000001F with EAX[10] clear.
INCOHERENT = (0x1F83F, 0x4173, 509, 1)
RAPIDS = read_snapshot(DATA / "full/intel-xeon-w9-3475x.test.xz")


def with_leaf(cpu: CpuEvidence, leaf: int, registers: Registers) -> CpuEvidence:
    return replace(cpu, cpuid=CpuidTable({**cpu.cpuid.leaves, (leaf, 0): registers}))


def contradiction_in(snapshot: Snapshot, *ids: str) -> str:
    """The message that refuses `snapshot`; its contradictions are exactly those of `ids`."""
    with pytest.raises(ContradictionError) as caught:
        require_consistent(snapshot, "file")
    assert caught.value.ids == ids
    message = str(caught.value)
    assert f"({ids[0]}" in message
    assert all(name in message for name in ids)
    assert message.endswith(contradiction_kinds()[ids[0]].do)
    return message


def test_two_vendors() -> None:
    ids = ("two-vendors", "cpus-differ-in-sme", "cpus-differ-in-coherency", "cpus-differ")
    message = contradiction_in(Snapshot(cpus=(MILAN.cpus[0], RAPIDS.cpus[0])), *ids)
    assert "cpus[0].cpuid.0x00000000:0 (vendor) is 'AuthenticAMD'" in message
    assert "cpus[1].cpuid.0x00000000:0 (vendor) is 'GenuineIntel'" in message


@pytest.mark.parametrize(
    ("registers", "field", "kind"),
    [
        ((0x0001FC3E, 0x4173, 0, 0), "EAX[0] (SME)", "sme"),
        ((0x0001F83F, 0x4173, 0, 0), "EAX[10] (coherency enforced)", "coherency"),
        ((0x0001FC3F, 0x416F, 0, 0), "EBX[5:0] (C-bit position)", "cbit-position"),
    ],
)
def test_cpus_that_differ_in_memory_encryption(registers: Registers, field: str, kind: str) -> None:
    first = MILAN.cpus[0]
    second = with_leaf(first, 0x8000001F, registers)
    message = contradiction_in(Snapshot(cpus=(first, first, second)), f"cpus-differ-in-{kind}")
    assert f"cpus[0].cpuid.0x8000001f:0 {field}" in message
    assert f"cpus[2].cpuid.0x8000001f:0 {field}" in message


def test_cpus_under_hypervisors_of_two_names() -> None:
    kvm, vmware = (0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D), (0x40000010, *_VMWARE)
    one, other = (with_leaf(MILAN.cpus[0], 0x40000000, leaf) for leaf in (kvm, vmware))
    message = contradiction_in(Snapshot(cpus=(one, other)), "cpus-differ")
    assert "(hypervisor) is 'KVM'" in message
    # A bare CPU of Intel's answers as at its highest basic leaf, which may number the CPU.
    bare = [with_leaf(RAPIDS.cpus[0], 0x40000000, (7, 2, 0x100, number)) for number in range(2)]
    require_consistent(Snapshot(cpus=tuple(bare)), "file")


def test_edx_of_0x8000001f_differs_between_the_cpus_of_one_machine() -> None:
    first = MILAN.cpus[0]
    leaf = first.cpuid.recorded(0x8000001F)
    assert leaf is not None
    second = with_leaf(first, 0x8000001F, (*leaf[:3], leaf[3] + 1))
    require_consistent(Snapshot(cpus=(first, second)), "file")


def test_data_beyond_the_maximum_that_amd_never_answers() -> None:
    old = dump("amd-athlon-xp.test").cpus[0]
    lying = Snapshot(cpus=(with_leaf(old, 0x8000001F, (1, 0x16F, 0, 0)),))
    message = contradiction_in(lying, "leaf-beyond-maximum")
    assert "cpus[0].cpuid.0x8000001f:0 has EAX=0x00000001" in message
    assert "cpus[0].cpuid.0x80000000:0 says the highest leaf is 0x80000008" in message


def test_of_a_hypervisors_data_beyond_the_maximum_the_bit_that_kernels_read_is_held() -> None:
    old = dump("amd-athlon-xp.test").cpus[0]
    leaf = old.cpuid.recorded(1)
    assert leaf is not None
    guest = with_leaf(old, 1, (*leaf[:2], leaf[2] | 1 << 31, leaf[3]))
    lying = Snapshot(cpus=(with_leaf(guest, 0x8000001F, (1, 0x16F, 0, 0)),))
    contradiction_in(lying, "leaf-beyond-maximum")
    other = Snapshot(cpus=(with_leaf(guest, 0x8000001F, (2, 0x16F, 0, 0)),))
    require_consistent(other, "file")


def test_phantom_data_beyond_the_maximum_is_what_intel_answers() -> None:
    machine = dump("intel-core-i7-cpu-920.test")
    assert machine.cpus[0].cpuid.recorded(0x8000001F) == (1, 2, 0x100, 3)
    require_consistent(machine, "file")


def test_cpuinfo_of_another_vendor() -> None:
    other = replace(MILAN, cpuinfo=CpuinfoEvidence(vendor="GenuineIntel"))
    message = contradiction_in(other, "two-cpu-models")
    assert "cpuinfo.vendor is 'GenuineIntel'" in message
    assert "cpus[0].cpuid.0x00000000:0 says 'AuthenticAMD'" in message


@pytest.mark.parametrize("name", ["family", "model", "stepping"])
def test_cpuinfo_of_another_cpu(name: str) -> None:
    numbers = {"family": 25, "model": 1, "stepping": 1, name: 99}
    cpuinfo = CpuinfoEvidence(
        family=numbers["family"], model=numbers["model"], stepping=numbers["stepping"]
    )
    message = contradiction_in(replace(MILAN, cpuinfo=cpuinfo), "two-cpu-models")
    assert f"cpuinfo.{name} is 99 and cpus[0].cpuid.0x00000001:0 says {name}" in message


def test_snp_is_enabled_only_where_the_cpu_has_it() -> None:
    """Linux 6.12.117 arch/x86/kernel/cpu/amd.c:354 asks CPUID before it takes a host for one."""
    rome = dump("amd-epyc-7742-64-core-processor-dual.test")
    for snapshot, ids in ((rome, ("register-without-feature",)), (MILAN, ())):
        cpu = replace(snapshot.cpus[0], msr={0xC001_0010: 3 << 23})
        host = replace(snapshot, cpus=(cpu,))
        if ids:
            assert "lacks the feature" in contradiction_in(host, *ids)
        else:
            require_consistent(host, "file")


def test_a_cpuinfo_flag_that_the_hardware_lacks() -> None:
    cpuinfo = CpuinfoEvidence(flags=frozenset({"sme"}))
    machine = replace(RAPIDS, cpuinfo=cpuinfo, kernel=UNFORCED)
    message = contradiction_in(machine, "flag-without-hardware")
    assert "cpuinfo.flags holds 'sme' and cpus[0].cpuid.0x8000001f:0 EAX[0] is clear" in message


def test_a_cpuinfo_flag_that_linux_cleared_is_no_contradiction() -> None:
    cpuinfo = CpuinfoEvidence(vendor="AuthenticAMD", family=25, model=1, stepping=1)
    require_consistent(replace(MILAN, cpuinfo=cpuinfo), "file")


@pytest.mark.parametrize(
    "machine",
    [
        Snapshot(
            (),
            cpuinfo=CpuinfoEvidence(vendor="GenuineIntel", flags=frozenset({"sme"})),
            kernel=UNFORCED,
        ),
        Snapshot(
            (),
            cpuinfo=CpuinfoEvidence(flags=frozenset({"sev_snp"})),
            kernel=UNFORCED,
            statements=(Statement("vendor", "GenuineIntel", "a tool"),),
        ),
    ],
    ids=["cpuinfo's", "a tool's"],
)
def test_a_flag_of_another_vendor_whoever_names_the_vendor(machine: Snapshot) -> None:
    contradiction_in(machine, "flag-of-another-vendor")
    forced = KernelEvidence(cmdline="setcpuid=sme,sev_snp")
    require_consistent(replace(machine, kernel=forced), "file")


def test_a_flag_that_the_user_forced_is_no_contradiction() -> None:
    cpuinfo = CpuinfoEvidence(flags=frozenset({"sme"}))
    forced = replace(RAPIDS, cpuinfo=cpuinfo, kernel=KernelEvidence(cmdline="setcpuid=sme"))
    assert contradictions(forced) == ()


def test_a_cpu_that_repeats_another_vendor() -> None:
    repeated = MILAN.cpus[0].cpuid.recorded(0x80000000)
    assert repeated is not None
    cpu = with_leaf(RAPIDS.cpus[0], 0x80000000, (0x80000008, *repeated[1:]))
    message = contradiction_in(Snapshot(cpus=(cpu,)), "two-vendors")
    assert "cpus[0].cpuid.0x80000000:0 (vendor) is 'AuthenticAMD'" in message


def test_sme_active_without_sme() -> None:
    active = replace(RAPIDS, state=StateEvidence(sme_active=True))
    message = contradiction_in(active, "sme-active-without-sme")
    assert "state.sme_active is true and cpus[0].cpuid.0x8000001f:0 EAX[0] says no SME" in message


def test_sme_active_although_firmware_left_it_disabled() -> None:
    cpu = replace(MILAN.cpus[0], msr={0xC0010010: 0x740000})
    active = Snapshot(cpus=(cpu,), state=StateEvidence(sme_active=True))
    message = contradiction_in(active, "sme-active-without-syscfg")
    assert "state.sme_active is true and cpus[0].msr.0xc0010010 bit 23 is clear" in message


def test_sme_active_in_a_kernel_that_has_no_support_for_it() -> None:
    kernel = KernelEvidence(config={"CONFIG_AMD_MEM_ENCRYPT": "n"})
    active = replace(MILAN, kernel=kernel, state=StateEvidence(sme_active=True))
    message = contradiction_in(active, "sme-active-without-support")
    assert "state.sme_active is true and kernel.config.CONFIG_AMD_MEM_ENCRYPT is 'n'" in message


def test_a_state_that_the_log_denies() -> None:
    log = LogEvidence(("Memory Encryption Features active: AMD SME",), complete=False)
    denied = replace(MILAN, log=log, state=StateEvidence(sme_active=False))
    message = contradiction_in(denied, "state-against-log")
    assert "state.sme_active is False and log says True" in message


def test_silence_of_a_log_that_is_not_complete_denies_nothing() -> None:
    log = LogEvidence((), complete=False)
    assert contradictions(replace(MILAN, log=log, state=StateEvidence(sme_active=True))) == ()


def test_sev_guests_on_a_cpu_without_sev() -> None:
    hosting = replace(RAPIDS, state=StateEvidence(sev_guests_run=True))
    message = contradiction_in(hosting, "sev-guests-without-sev")
    assert "cpus[0].cpuid.0x8000001f:0 EAX[1] says no SEV" in message


def test_a_tdx_module_on_amd() -> None:
    initialized = replace(MILAN, state=StateEvidence(tdx_module="initialized"))
    message = contradiction_in(initialized, "tdx-without-intel")
    assert "state.tdx_module is 'initialized' and cpus[0].cpuid.0x00000000:0" in message


def test_a_tdx_module_without_keys() -> None:
    cpu = replace(RAPIDS.cpus[0], msr={0x87: 63})
    initialized = Snapshot(cpus=(cpu,), state=StateEvidence(tdx_module="initialized"))
    message = contradiction_in(initialized, "tdx-without-keys")
    assert "cpus[0].msr.0x87 gives TDX 0 KeyIDs" in message


#: What a kernel has once in a boot. The first of two was taken, and the other not heard of.
OF_ONE_BOOT = [
    (
        KernelEvidence(config={"CONFIG_AMD_MEM_ENCRYPT": "y"}),
        KernelEvidence(config={"CONFIG_AMD_MEM_ENCRYPT": "n"}),
    ),
    (
        KernelEvidence(loader_cmdline="mem_encrypt=on"),
        KernelEvidence(loader_cmdline="mem_encrypt=off"),
    ),
    (KernelEvidence(bootconfig=()), KernelEvidence(bootconfig=("kernel.mem_encrypt",))),
    (KernelEvidence(booted_by="efi"), KernelEvidence(booted_by="kexec")),
    (KernelEvidence(xloadflags=0x3F), KernelEvidence(xloadflags=0x7F)),
]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (MILAN, RAPIDS, "two-cpu-models"),
        (
            Snapshot((), kernel=KernelEvidence(release="6.12.1")),
            Snapshot((), kernel=KernelEvidence(release="6.1.9")),
            "two-kernels",
        ),
        (
            Snapshot((), kernel=KernelEvidence(cmdline="ro mem_encrypt=on")),
            Snapshot((), kernel=KernelEvidence(cmdline="mem_encrypt=off")),
            "two-kernels",
        ),
        (
            Snapshot((), kernel=KernelEvidence(cmdline="mem_encrypt=on")),
            Snapshot((), kernel=KernelEvidence(cmdline="mem_encrypt=on mem_encrypt=off")),
            "two-kernels",
        ),
        *(
            (Snapshot((), kernel=one), Snapshot((), kernel=other), "two-kernels")
            for one, other in OF_ONE_BOOT
        ),
        (Snapshot((), host="a"), Snapshot((), host="b"), "two-hosts"),
        (
            Snapshot((), state=StateEvidence(offline_cpus=())),
            Snapshot((), state=StateEvidence(offline_cpus=(3,))),
            "two-hosts",
        ),
    ],
    ids=[
        *("cpu", "release", "command line", "last word"),
        *("config", "loader's line", "bootconfig", "way of booting", "xloadflags"),
        *("host", "state"),
    ],
)
def test_sources_of_two_machines(first: Snapshot, second: Snapshot, expected: str) -> None:
    (found,) = contradictions_between(first, second)
    assert found.id == expected
    assert found.kind.title
    assert contradictions_between(first, first) == ()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (replace(MILAN.cpus[0], msr={0xC0010010: 0x740000}), "cpus-differ"),
        (with_leaf(MILAN.cpus[0], 0x8000_001F, INCOHERENT), "cpus-differ-in-coherency"),
    ],
    ids=["SYSCFG", "coherency"],
)
def test_no_output_outweighs_another_of_the_same_registers(
    changed: CpuEvidence, expected: str
) -> None:
    """What the first of two outputs says was taken for the machine's: SME off, coherent aliases.

    Firmware sets SYSCFG alike on all CPUs (linux 6.12.117 arch/x86/kernel/cpu/amd.c:573 asks each).
    """
    enabled = Snapshot((replace(MILAN.cpus[0], msr={0xC0010010: 0xF40000}),))
    for pair in ((enabled, Snapshot((changed,))), (Snapshot((changed,)), enabled)):
        (found,) = contradictions_between(*pair)
        assert found.id == expected


#: Lines of two boots, of which one happens to end with the other; and what decides differently.
OF_TWO_BOOTS = [
    ("quiet", "BOOT_IMAGE=/vmlinuz mem_encrypt=on quiet", "mem_encrypt="),
    ("BOOT_IMAGE=/b quiet", "BOOT_IMAGE=/a mem_encrypt=on BOOT_IMAGE=/b quiet", "mem_encrypt="),
    ("console=ttyS0", "mem_encrypt=on console=ttyS0", "mem_encrypt="),
    ("n", "ro mem_encrypt=on", "mem_encrypt="),
    ("", "ro mem_encrypt=on", "mem_encrypt="),
    ("ro", "reboot=force ro", "reboot="),
    ("ro", "crashkernel=1G,cma ro", "crashkernel="),
    ("ro", "setcpuid=sme_coherent ro", "setcpuid="),
    ("ro quiet", "ro reboot=force", "reboot="),
]


@pytest.mark.parametrize(("short", "long", "parameter"), OF_TWO_BOOTS)
def test_a_line_that_ends_with_another_may_be_of_another_boot(
    short: str, long: str, parameter: str
) -> None:
    """The longer was taken for the whole line, and what it asks for was what the kernel did.

    Words come before the loader's from CONFIG_CMDLINE and bootconfig alone (linux 7.3.4 init/main.c
    setup_command_line(), arch/x86/kernel/setup.c:909-939).
    """
    kernels = [KernelEvidence(cmdline=line) for line in (short, long)]
    for pair in permutations(Snapshot((), kernel=kernel) for kernel in kernels):
        (found,) = contradictions_between(*pair)
        assert found.id == "two-kernels"
        assert found.what.endswith(f": {parameter} differs")


@pytest.mark.parametrize(
    "builds",
    [
        KernelEvidence(config={"CONFIG_CMDLINE_BOOL": "y"}),
        KernelEvidence(config={"CONFIG_BOOT_CONFIG_FORCE": "y"}),
        KernelEvidence(bootconfig=("kernel.mem_encrypt",)),
    ],
    ids=["CONFIG_CMDLINE", "forced bootconfig", "bootconfig"],
)
def test_words_that_the_kernel_put_before_the_loaders_are_of_the_same_boot(
    builds: KernelEvidence,
) -> None:
    whole = replace(builds, cmdline="mem_encrypt=on console=ttyS0")
    log = KernelEvidence(cmdline="console=ttyS0")
    for pair in permutations((Snapshot((), kernel=whole), Snapshot((), kernel=log))):
        assert contradictions_between(*pair) == ()


def test_a_domain_of_xens_may_read_the_bit_of_the_machine() -> None:
    """linux 7.3.4 arch/x86/xen/enlighten_pv.c xen_cpuid(): kernels ask Xen, programs the CPU."""
    (cpu,) = MILAN.cpus[:1]
    eax, ebx, ecx, edx = cpu.cpuid.leaves[1, 0]
    below = Snapshot((with_leaf(cpu, 1, (eax, ebx, ecx | 1 << 31, edx)),))
    told = Statement("hypervisor", True, "xl")
    assert [one.id for one in contradictions_between(MILAN, below)] == ["cpus-differ"]
    assert contradictions_between(replace(MILAN, statements=(told,)), below) == ()


def test_every_kind_says_what_it_means_and_what_to_do() -> None:
    for name, kind in contradiction_kinds().items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+", name)
        assert kind.id == name
        assert kind.means.endswith(".")
        assert not kind.do.endswith(".")
    assert Contradiction("two-hosts", "host is 'a' and 'b'").kind.title == "sources of two hosts"


def test_every_id_in_the_code_is_a_kind_and_every_kind_is_in_the_code() -> None:
    modules = (consistency, contradiction, cpuid_consistency, log_consistency)
    code = "".join(inspect.getsource(module) for module in modules)
    named = set(re.findall(r'"((?:[a-z]+-)+[a-z]+)"', code))
    named |= set(re.findall(r'Contradiction\("([a-z-]+)"', Path(possible.__file__).read_text()))
    assert named == set(contradiction_kinds())


def test_each_flag_is_told_and_a_difference_once_for_all_cpus() -> None:
    cpuinfo = CpuinfoEvidence(flags=frozenset({"sme", "sev"}))
    found = contradictions(replace(RAPIDS, cpuinfo=cpuinfo, kernel=UNFORCED))
    assert [one.fields[1] for one in found] == [
        "cpus[0].cpuid.0x8000001f:0 EAX[1]",
        "cpus[0].cpuid.0x8000001f:0 EAX[0]",
    ]
    active = Snapshot(cpus=RAPIDS.cpus[:1] * 3, state=StateEvidence(sme_active=True))
    (once,) = contradictions(active)
    assert once.fields == ("state.sme_active", "cpus[0].cpuid.0x8000001f:0 EAX[0]")


def test_a_register_is_there_where_cpuid_shows_its_feature() -> None:
    # linux 6.12.118 arch/x86/kernel/cpu/amd.c early_detect_mem_encrypt() reads it unguarded
    cpu = replace(MILAN.cpus[0], msr={}, msr_faults=frozenset({0xC0010010}))
    message = contradiction_in(Snapshot(cpus=(cpu,)), "feature-without-register")
    assert "cpus[0].msr.0xc0010010 does not exist" in message


def test_a_hypervisor_may_leave_it_out() -> None:
    eax, ebx, ecx, edx = MILAN.cpus[0].cpuid.leaves[1, 0]
    guest = with_leaf(MILAN.cpus[0], 1, (eax, ebx, ecx | 1 << 31, edx))
    cpu = replace(guest, msr={}, msr_faults=frozenset({0xC0010010}))
    assert contradictions(Snapshot(cpus=(cpu,))) == ()


@pytest.mark.parametrize("module", ["absent", "not-initialized"])
def test_no_cpu_enters_a_tdx_module_that_is_not_there(module: str) -> None:
    state = StateEvidence(tdx_module=module, seamcalled_cpus=(3,))
    message = contradiction_in(replace(RAPIDS, state=state), "seamcalls-without-tdx")
    assert "state.seamcalled_cpus holds 3" in message


def test_a_tool_and_the_log_that_exclude_each_other() -> None:
    log = LogEvidence(("AMD Secure Memory Encryption (SME) active",), complete=False)
    told = Statement("sme_enabled", value=False, source="snphost")
    contradiction_in(Snapshot(cpus=(), log=log, statements=(told,)), "told-otherwise")
    agreeing = replace(told, value=True)
    assert not contradictions(Snapshot(cpus=(), log=log, statements=(agreeing,)))


@pytest.mark.parametrize("name", ["sme", "sev", "snp_enabled"])
def test_a_feature_of_amd_that_a_tool_tells_of_on_a_cpu_of_another_vendor(name: str) -> None:
    """CPUID leaf 0x8000001F is AMD's (APM volume 3, E.4.17): Intel's answers are of another."""
    told = Statement(name, True, "a tool")
    intel = Statement("vendor", "GenuineIntel", "lscpu")
    assert f"statements.{name} is True" in contradiction_in(
        Snapshot(cpus=(), statements=(told, intel)), "told-otherwise"
    )
    registers = CpuEvidence(CpuidTable({(0, 0): (13, 0x756E6547, 0x6C65746E, 0x49656E69)}))
    assert "cpus[0].cpuid.0x00000000:0 says 'GenuineIntel'" in contradiction_in(
        Snapshot(cpus=(registers,), statements=(told,)), "told-otherwise"
    )


def _lines(cmdline: str, loaders: str, **config: str) -> Snapshot:
    kernel = KernelEvidence(None, cmdline, config or None, loader_cmdline=loaders)
    return Snapshot(cpus=(), kernel=kernel)


@pytest.mark.parametrize(
    ("cmdline", "loaders"),
    [
        ("quiet", "quiet mem_encrypt=on"),
        ("mem_encrypt=off quiet", "mem_encrypt=on quiet"),
        ("ro", "reboot=force"),
        # In this order the last one counts otherwise.
        ("mem_encrypt=off mem_encrypt=on", "mem_encrypt=on mem_encrypt=off"),
        ("ro -- single", "ro -- mem_encrypt=on"),
    ],
)
def test_a_word_of_the_loaders_that_the_kernel_lost(cmdline: str, loaders: str) -> None:
    (found,) = contradictions(_lines(cmdline, loaders))
    assert found.id == "loaders-word-lost"
    assert not contradictions(_lines(cmdline, loaders, CONFIG_CMDLINE_OVERRIDE="y"))
    assert contradictions(_lines(cmdline, loaders, CONFIG_CMDLINE_OVERRIDE="n"))


@pytest.mark.parametrize(
    ("cmdline", "loaders"),
    [
        # linux 7.3.4 init/main.c setup_command_line(): bootconfig in front, and behind --.
        ("mem_encrypt=on quiet bootconfig", "quiet bootconfig"),
        ("a reboot=force -- x single", "reboot=force -- single"),
        # CONFIG_CMDLINE (arch/x86/kernel/setup.c:917-921).
        ("console=ttyS0 mem_encrypt=off ro", "mem_encrypt=off ro"),
        # A word that nobody asks for may have been taken out of what was handed over.
        ("mem_encrypt=on", "mem_encrypt=on quiet splash"),
        # Cut, as boot_command_line has room for so many.
        ("x" * 2047, "mem_encrypt=on"),
        ("", ""),
    ],
)
def test_what_others_put_to_the_loaders_line(cmdline: str, loaders: str) -> None:
    assert not contradictions(_lines(cmdline, loaders))


def test_what_a_tool_denies_any_cpu_may_show() -> None:
    """Without the first CPU, which tells nothing, the second is the first."""
    shows = CpuEvidence(CpuidTable({(0x8000_001F, 0): (0xFFFF_FFFF, 1, 0xFFFF_FFFF, 0x11)}))
    said = (Statement("sme", False, "a tool"),)
    for cpus in ((shows,), (CpuEvidence(CpuidTable({})), shows)):
        (found,) = contradictions(Snapshot(cpus=cpus, statements=said))
        assert found.id == "told-otherwise"


def test_what_takes_what_a_cpu_has_not_is_told_by_nobody() -> None:
    """`requires` of facts/told/table.toml; a leaf beyond the maximum is not there."""
    old = dump("amd-athlon-xp.test")
    enabled = {fact.name: fact for fact in register_facts() if fact.requires}
    assert {"sme_enabled", "snp_enabled", "tme_enabled", "tdx_keyids"} < enabled.keys()
    for name, fact in enabled.items():
        absent = fact.absent or False
        said = Statement(name, True if fact.absent is False else 32, "a tool")
        with pytest.raises(ContradictionError, match="told-otherwise"):
            require_consistent(replace(old, statements=(said,)), "file")
        nothing = replace(said, value=absent)
        require_consistent(replace(old, statements=(nothing,)), "file")
