# SPDX-License-Identifier: GPL-2.0-or-later
"""From a snapshot to facts: what is told, by what, and what stays unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.registers import CpuidTable, Registers
from staleline.evidence.snapshot import (
    CpuEvidence,
    CpuinfoEvidence,
    KernelEvidence,
    Snapshot,
    StateEvidence,
)
from staleline.facts import MachineFacts, from_snapshot

DATA = Path(__file__).parents[1] / "data" / "cpuid"
AMD: Registers = (0x10, 0x68747541, 0x444D4163, 0x69746E65)
INTEL: Registers = (0x20, 0x756E6547, 0x6C65746E, 0x49656E69)


def dump(name: str) -> Snapshot:
    return read_snapshot(DATA / "libcpuid" / name)


def facts_of(name: str) -> MachineFacts:
    return from_snapshot(dump(name))


def with_msr(snapshot: Snapshot, msr: Mapping[int, int]) -> Snapshot:
    return replace(snapshot, cpus=tuple(replace(cpu, msr=msr) for cpu in snapshot.cpus))


def cpuid_only(leaves: Mapping[tuple[int, int], Registers]) -> MachineFacts:
    return from_snapshot(Snapshot(cpus=(CpuEvidence(CpuidTable(leaves)),)))


ROME = dump("amd-epyc-7742-64-core-processor-dual.test")
MILAN = dump("amd-epyc-7763-64-core-processor-dual.test")
RAPIDS = read_snapshot(DATA / "full/intel-xeon-w9-3475x.test.xz")


class TestUnknown:
    def test_no_evidence_at_all_leaves_every_fact_unknown_and_says_how_to_get_it(self) -> None:
        facts = from_snapshot(Snapshot(cpus=()))
        assert [fact.name for fact in facts if fact.value is not None] == ["unread_messages"]
        assert all(fact.missing for fact in facts if fact.name != "unread_messages")

    def test_without_the_highest_leaf_a_recorded_leaf_is_not_trusted(self) -> None:
        facts = cpuid_only({(0, 0): AMD, (0x8000001F, 0): (1, 47, 0, 0)})
        assert facts.boolean("sme") is None
        assert "leaf 0x80000000, the highest leaf, is not recorded" in str(facts["sme"].missing)

    def test_a_leaf_within_the_maximum_that_was_not_recorded(self) -> None:
        facts = cpuid_only({(0, 0): AMD, (0x80000000, 0): (0x80000020, 0, 0, 0)})
        assert facts.boolean("sme") is None
        assert str(facts["sme"].missing).startswith("CPUID leaf 0x8000001f is not recorded")

    def test_an_msr_that_was_not_read(self) -> None:
        fact = from_snapshot(ROME)["sme_enabled"]
        assert fact.value is None
        assert fact.missing == (
            "MSR 0xc0010010 was not read: as root, modprobe msr, and give what rdmsr prints: "
            '--msr "0xc0010010=$(rdmsr -a -c 0xc0010010)"'
        )

    def test_cpus_that_disagree(self) -> None:
        on, off = (replace(ROME.cpus[0], msr={0xC0010010: v}) for v in (0xF40000, 0x740000))
        fact = from_snapshot(Snapshot(cpus=(on, on, off)))["sme_enabled"]
        assert fact.value is None
        assert fact.missing == (
            "CPUs differ: cpus[0] MSR 0xc0010010[23] is True"
            " and cpus[2] MSR 0xc0010010[23] is False"
        )

    def test_one_cpu_whose_msrs_were_read_speaks_for_all(self) -> None:
        on = replace(ROME.cpus[0], msr={0xC0010010: 0xF40000})
        facts = from_snapshot(Snapshot(cpus=(ROME.cpus[0], on)))
        assert facts.boolean("sme_enabled") is True


class TestHardware:
    def test_a_leaf_beyond_the_maximum_means_the_hardware_lacks_it(self) -> None:
        fact = facts_of("intel-core-i7-cpu-920.test")["wbnoinvd"]
        assert fact.value is False
        old = facts_of("amd-athlon-xp.test")["coherency_enforced"]
        assert old.value is False
        assert old.source == "CPUID 0x80000000 EAX: leaf 0x8000001f is beyond 0x80000008"

    def test_sme_with_c_bit_position_0_is_shown_as_it_is(self) -> None:
        # Cezanne: 0x8000001F EAX = 0x0001780F, EBX = 0.
        facts = facts_of("amd-ryzen-7-5800h-with-radeon-graphics.test")
        assert facts.boolean("sme") is True
        assert facts.integer("cbit_position") == 0
        assert facts.integer("phys_addr_reduction") == 0

    def test_a_cpu_without_sme_has_no_c_bit_position(self) -> None:
        fact = from_snapshot(RAPIDS)["cbit_position"]
        assert fact.value is None
        assert str(fact.missing).startswith("there is none: ")

    def test_coherency_is_enforced_from_milan_on_and_not_on_rome_or_client_zen_5(self) -> None:
        parts = {
            "amd-epyc-7742-64-core-processor-dual.test": False,
            "amd-epyc-7763-64-core-processor-dual.test": True,
            "amd-epyc-9654-96-core-processor-dual.test": True,
            "amd-ryzen-7-9700x-8-core-processor.test": False,
        }
        assert {name: facts_of(name).boolean("coherency_enforced") for name in parts} == parts

    def test_host_multi_key(self) -> None:
        # 0x80000023: EAX[0] = 1 and EBX = 0x3F on Genoa; EAX = 0 on Milan.
        genoa = facts_of("amd-epyc-9654-96-core-processor-dual.test")
        assert (genoa.boolean("memhmk"), genoa.integer("memhmk_keyids")) == (True, 63)
        assert from_snapshot(MILAN).boolean("memhmk") is False

    def test_what_is_beyond_the_last_leaf_no_vendor_has(self) -> None:
        leaf = {(0x80000000, 0): (0x80000008, 0, 0, 0)}
        facts = cpuid_only(leaf)
        assert (facts.text("vendor"), facts.boolean("sme"), facts.boolean("sev")) == (
            None,
            False,
            False,
        )
        later = cpuid_only({(0x80000000, 0): (0x80000026, 0, 0, 0), (0x8000001F, 0): (1, 0, 0, 0)})
        assert later.boolean("sme") is None

    def test_the_phantom_sme_bit_of_a_dual_core_westmere_generation_xeon(self) -> None:
        # Highest basic leaf 0xB, EAX[0] = 1: what Linux 5.18 to 6.4 took for SME
        # (Linux commit 9b040453d444).
        facts = facts_of("intel-core-i7-cpu-x-980.test")
        assert facts.boolean("sme") is False
        assert facts.boolean("unchecked_sme_bit") is True

    def test_zeros_that_a_dump_records_where_the_cpu_answers_otherwise_are_not_believed(
        self,
    ) -> None:
        machine = dump("intel-core-i7-cpu-920.test")
        leaves = {**machine.cpus[0].cpuid.leaves, (0x8000001F, 0): (0, 0, 0, 0)}
        assert cpuid_only(leaves).boolean("unchecked_sme_bit") is None

    def test_wbinvd_reaches_all_sharers_of_the_l3_on_sapphire_rapids_but_not_on_rome(self) -> None:
        rome, rapids = from_snapshot(ROME), from_snapshot(RAPIDS)
        assert rome.boolean("wbinvd_guaranteed_l2") is True
        assert rome.boolean("wbinvd_guaranteed_l3") is False
        assert rapids.boolean("wbinvd_guaranteed_l3") is True
        assert (rome.integer("sharers_l3"), rapids.integer("sharers_l3")) == (8, 128)

    def test_a_cpu_that_does_not_describe_its_caches(self) -> None:
        fact = facts_of("amd-athlon-xp.test")["wbinvd_guaranteed_l2"]
        assert fact.value is None
        assert "no leaf that describes its caches" in str(fact.missing)

    def test_the_vendor_is_repeated_at_0x80000000_by_amd(self) -> None:
        facts = cpuid_only({(0x80000000, 0): (0x8000001F, *AMD[1:])})
        assert facts.text("vendor") == "AuthenticAMD"
        assert facts.boolean("tme") is False


class TestCpuinfo:
    def facts(self, *flags: str, vendor: str = "AuthenticAMD") -> MachineFacts:
        text = (
            f"processor: 0\nvendor_id: {vendor}\ncpu family: 25\nmodel: 1\nstepping: 1\n"
            f"flags: fpu {' '.join(flags)}\n"
        )
        machine = parse_snapshot(text, "cpuinfo")
        return from_snapshot(replace(machine, kernel=KernelEvidence(cmdline="quiet")))

    def test_a_flag_proves_the_hardware_has_it_and_firmware_enabled_it(self) -> None:
        facts = self.facts("sme", "sev")
        assert facts.boolean("sme") is True
        assert facts["sme"].source == "/proc/cpuinfo flag sme"
        assert facts.boolean("sme_enabled") is True

    def test_no_flag_says_nothing(self) -> None:
        facts = self.facts()
        for name in ("sme", "sev", "sme_enabled", "coherency_enforced", "hypervisor", "wbnoinvd"):
            assert facts.boolean(name) is None, name
            assert facts[name].missing

    def test_sev_without_sme_still_proves_that_firmware_enabled_encryption(self) -> None:
        # Since 5.18 Linux clears sme when it does not use it (commit 08f253ec3767); sev is
        # cleared with SYSCFG[23] only (arch/x86/kernel/cpu/amd.c early_detect_mem_encrypt()).
        facts = self.facts("sev")
        assert facts.boolean("sme") is None
        assert facts.boolean("sme_enabled") is True

    def test_identity_comes_from_cpuinfo_where_there_is_no_cpuid(self) -> None:
        facts = self.facts(vendor="GenuineIntel")
        assert facts.text("vendor") == "GenuineIntel"
        assert facts.integer("family") == 25
        assert facts.text("signature") is None
        assert facts.boolean("sme") is False


class TestFirmware:
    @pytest.mark.parametrize(
        ("syscfg", "sme", "snp"),
        [
            (0x740000, False, False),  # observed on a Ryzen 7 9700X with TSME on in the BIOS
            (0xF40000, True, False),
            (0x1F40000, True, True),
        ],
    )
    def test_syscfg(self, syscfg: int, sme: bool, snp: bool) -> None:
        facts = from_snapshot(with_msr(MILAN, {0xC0010010: syscfg}))
        assert facts.boolean("sme_enabled") is sme
        assert facts.boolean("snp_enabled") is snp
        assert facts["sme_enabled"].source == "MSR 0xc0010010[23]"

    def test_bare_metal_is_no_guest_even_where_sev_status_was_not_read(self) -> None:
        facts = from_snapshot(MILAN)
        for name in ("sev_guest", "sev_es_guest", "snp_guest", "tdx_guest"):
            assert facts.boolean(name) is False, name

    def test_a_sev_guest_tells_by_its_msr(self) -> None:
        leaves = dict(MILAN.cpus[0].cpuid.leaves)
        eax, ebx, ecx, edx = leaves[1, 0]
        leaves[1, 0] = (eax, ebx, ecx | 1 << 31, edx)
        guest = Snapshot(cpus=(CpuEvidence(CpuidTable(leaves), {0xC0010131: 0b0111}),))
        facts = from_snapshot(guest)
        names = ("sev_guest", "sev_es_guest", "snp_guest", "vtom_guest")
        assert [facts.boolean(name) for name in names] == [True, True, True, False]
        unread = from_snapshot(Snapshot(cpus=(CpuEvidence(CpuidTable(leaves)),)))
        assert [unread.boolean(name) for name in names] == [None] * 4

    def test_a_tdx_guest_tells_by_leaf_0x21(self) -> None:
        name = (0, 0x65746E49, 0x20202020, 0x5844546C)
        leaves: dict[tuple[int, int], Registers] = {(0, 0): (0x21, *INTEL[1:]), (0x21, 0): name}
        assert cpuid_only(leaves).boolean("tdx_guest") is True
        leaves[0x21, 0] = (0, 0, 0, 0)
        assert cpuid_only(leaves).boolean("tdx_guest") is False

    def test_keyids(self) -> None:
        # 32 MKTME KeyIDs and 32 for TDX: "private KeyID range [32, 64)" in the kernel log.
        activate = 1 << 36 | 6 << 32 | 0b11
        msr = {0x982: activate, 0x87: 32 << 32 | 31}
        facts = from_snapshot(with_msr(RAPIDS, msr))
        assert facts.boolean("tme_enabled") is True
        assert facts.integer("tme_keyid_bits") == 6
        assert facts.integer("tdx_keyid_bits") == 1
        assert facts.integer("tdx_keyids") == 32
        assert facts.integer("mktme_keyids") == 31

    def test_an_msr_that_faults_means_no_keyids(self) -> None:
        cpus = tuple(replace(cpu, msr_faults=frozenset({0x87})) for cpu in RAPIDS.cpus)
        fact = from_snapshot(Snapshot(cpus=cpus))["tdx_keyids"]
        assert fact.value == 0
        assert fact.source == "MSR 0x87: does not exist, RDMSR faults"

    def test_without_tme_there_are_no_keyids_to_read(self) -> None:
        facts = facts_of("intel-xeon-cpu-e5520.test")
        assert facts.boolean("tme") is False
        assert facts.integer("tdx_keyids") == 0


class TestKernel:
    @pytest.mark.parametrize(
        ("cmdline", "value"),
        [
            (None, None),
            ("quiet", None),
            ("mem_encrypt=on quiet", "on"),
            ("mem_encrypt=on mem_encrypt=off", "off"),
            ("mem_encrypt=off mem_encrypt=on", "on"),
            ("mem_encrypt=on mem_encrypt=maybe", None),
            ("mem_encrypt=off mem_encrypt=on mem_encrypt=off", None),
            ("xmem_encrypt=on", None),
        ],
    )
    def test_the_last_mem_encrypt_on_the_command_line(
        self, cmdline: str | None, value: str | None
    ) -> None:
        facts = from_snapshot(Snapshot(cpus=(), kernel=KernelEvidence(cmdline=cmdline)))
        assert facts.text("mem_encrypt") == value

    def test_sme_is_inactive_where_hardware_or_firmware_or_configuration_rules_it_out(self) -> None:
        config = KernelEvidence(config={"CONFIG_AMD_MEM_ENCRYPT": "n"})
        for snapshot in (
            RAPIDS,
            with_msr(ROME, {0xC0010010: 0x740000}),
            Snapshot(cpus=(), kernel=config),
        ):
            assert from_snapshot(snapshot).boolean("sme_active") is False

    def test_sme_is_not_taken_for_active_because_it_could_be(self) -> None:
        asked = replace(
            with_msr(ROME, {0xC0010010: 0xF40000}), kernel=KernelEvidence(cmdline="mem_encrypt=on")
        )
        assert from_snapshot(asked).boolean("sme_active") is None
        seen = replace(asked, state=StateEvidence(sme_active=True))
        assert from_snapshot(seen).boolean("sme_active") is True

    def test_reboot_force_is_what_sysfs_says_now(self) -> None:
        # Since linux 5.11 (kernel/reboot.c force_store()); before, the command line alone tells.
        told = KernelEvidence(cmdline="reboot=force")
        for now in (True, False):
            state = StateEvidence(reboot_force=now)
            facts = from_snapshot(Snapshot(cpus=(), kernel=told, state=state))
            assert facts.boolean("reboot_force") is now
        assert from_snapshot(Snapshot(cpus=(), kernel=told)).boolean("reboot_force") is True
        not_told = from_snapshot(Snapshot(cpus=(), kernel=KernelEvidence(cmdline="quiet")))
        assert "--state reboot_force=no" in str(not_told["reboot_force"].missing)
        older = from_snapshot(Snapshot(cpus=(), kernel=replace(told, release="5.10.262")))
        assert older.boolean("reboot_force") is True

    def test_tsme_is_amds_and_told_by_its_driver_alone(self) -> None:
        assert from_snapshot(ROME).boolean("tsme") is None
        assert from_snapshot(RAPIDS).boolean("tsme") is False
        seen = replace(ROME, state=StateEvidence(tsme=True))
        assert from_snapshot(seen).boolean("tsme") is True

    def test_state_is_passed_on(self) -> None:
        state = StateEvidence(
            tdx_module="initialized",
            seamcalled_cpus=(0, 3),
            sev_guests_run=True,
            offline_cpus=(),
            kexec_loaded=1,
        )
        facts = from_snapshot(Snapshot(cpus=(), state=state))
        assert facts.text("tdx_module") == "initialized"
        assert facts["seamcalled_cpus"].value == (0, 3)
        assert facts.boolean("sev_guests_run") is True
        assert facts["offline_cpus"].value == ()
        assert facts.boolean("kexec_loaded") is True

    def test_no_sev_guest_runs_without_sev(self) -> None:
        assert from_snapshot(RAPIDS).boolean("sev_guests_run") is False
        assert from_snapshot(ROME).boolean("sev_guests_run") is None


class TestCpuinfoNextToCpuid:
    def test_registers_come_before_flags(self) -> None:
        machine = replace(
            with_msr(ROME, {0xC0010010: 0x740000}),
            cpuinfo=CpuinfoEvidence(flags=frozenset({"sme"})),
        )
        assert from_snapshot(machine)["sme_enabled"].source == "MSR 0xc0010010[23]"
