# SPDX-License-Identifier: GPL-2.0-or-later
"""Flags that a terminal wrapped, and what lscpu and /proc/cpuinfo of every kind prove."""

from __future__ import annotations

import textwrap
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.snapshot import (
    CpuinfoEvidence,
    KernelEvidence,
    Snapshot,
    StateEvidence,
    with_flags_of_hardware,
)
from staleline.evidence.tools.flagrow import flag_row
from staleline.facts import from_snapshot

#: Flags of a Rome server under Linux 5.10, in the order of /proc/cpuinfo, shortened.
ROME = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse "
    "sse2 ht syscall nx mmxext fxsr_opt pdpe1gb rdtscp lm constant_tsc rep_good nopl nonstop_tsc "
    "cpuid extd_apicid aperfmperf pni pclmulqdq monitor ssse3 fma cx16 sse4_1 sse4_2 x2apic movbe "
    "popcnt aes xsave avx f16c rdrand lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a smep "
    "bmi2 cqm rdt_a rdseed adx smap clwb sha_ni xsaveopt clzero wbnoinvd arat npt sme sev sev_es"
)
FLAGS = ROME.split()


def read(text: str) -> Snapshot:
    return parse_snapshot(text, "file")


def flags_in(machine: Snapshot) -> frozenset[str]:
    assert machine.cpuinfo is not None
    return machine.cpuinfo.flags


def message_of(text: str) -> str:
    with pytest.raises(EvidenceError) as caught:
        read(text)
    return str(caught.value)


def wrapped(text: str, width: int, indent: int, trimmed: bool) -> list[str]:
    """Cut at every `width` characters, in words too, as libsmartcols and terminals do."""
    pieces = [text[start : start + width] for start in range(0, len(text), width)]
    return [" " * indent * bool(i) + (p.strip() if trimmed else p) for i, p in enumerate(pieces)]


class TestWrapped:
    def test_a_word_that_the_break_cut_is_whole_where_no_other_reading_is(self) -> None:
        assert flag_row("fpu fxsr s", ["   se sse2 ht", ""]) == {"fpu", "fxsr", "sse", "sse2", "ht"}
        assert flag_row("fpu s", ["mep sev", ""]) == {"fpu", "smep", "sev"}

    def test_two_words_beside_the_break_are_two(self) -> None:
        assert flag_row("fpu sme", ["sev sev_es", ""]) == {"fpu", "sme", "sev", "sev_es"}

    @pytest.mark.parametrize(("before", "after"), [("new", "er"), ("sme", "new"), ("ne", "w_sme")])
    def test_what_is_not_certain_is_neither_whole_nor_halves(self, before: str, after: str) -> None:
        assert flag_row(f"fpu {before}", [f"{after} ht", ""]) == {"fpu", "ht"}

    def test_the_last_word_counts_only_if_something_follows(self) -> None:
        assert flag_row("fpu sme", []) == {"fpu"}  # the next line may begin with a p
        assert flag_row("fpu sme", ["Virtualization: AMD-V"]) == {"fpu", "sme"}
        assert "sev_es" in flag_row(" ".join(FLAGS * 3), [])  # no terminal is as wide

    @given(
        st.permutations(FLAGS),
        st.integers(12, 250),
        st.sampled_from((0, 2, 29)),
        st.booleans(),
        st.booleans(),
    )
    def test_no_wrapping_invents_a_flag(
        self, flags: list[str], width: int, indent: int, trimmed: bool, more: bool
    ) -> None:
        pieces = wrapped(" ".join(flags), width, indent, trimmed)
        found = flag_row(pieces[0], [*pieces[1:], *(["Caches:"] if more else [])])
        assert found <= set(flags)
        # At most two words are lost at each break, and the last.
        assert len(found) >= len(flags) - 2 * len(pieces)

    @given(st.integers(30, 200), st.data())
    def test_no_cut_invents_a_flag(self, width: int, data: st.DataObject) -> None:
        rows = wrapped(ROME, width, 4, trimmed=True)
        text = "Architecture: x86_64\nVendor ID: AuthenticAMD\nFlags: " + "\n".join(rows) + "\n"
        cut = text[: data.draw(st.integers(text.index("Flags"), len(text)))]
        assert flags_in(read(cut)) <= set(FLAGS)


class TestLscpu:
    HEAD = "Architecture:        x86_64\nCPU(s):              2\nOn-line CPU(s) list: 0,1\n"

    def test_virtualization_rows_name_a_hypervisor(self) -> None:
        # util-linux 2.37 on prints them below a heading of their own, 2.20 at the end.
        rows = "Hypervisor vendor:   KVM\nVirtualization type: full\n"
        for text in (rows, "Virtualization features:     \n" + rows.replace("H", "  H")):
            fact = from_snapshot(read(self.HEAD + text))["hypervisor"]
            assert fact.value is True
            assert fact.source == "lscpu, Hypervisor vendor: KVM (full)"

    def test_a_dom0_runs_under_xen_and_a_container_under_nothing_known(self) -> None:
        rows = "Hypervisor vendor: {}\nVirtualization type: {}\n"
        for vendor, kind, value in (("Xen", "none", True), ("OpenVZ", "container", None)):
            machine = read(self.HEAD + rows.format(vendor, kind))
            assert from_snapshot(machine)["hypervisor"].value is value

    def test_a_wrapped_list_of_cpus_is_one_list(self) -> None:
        text = self.HEAD.replace("0,1", "0,\n                     1")
        assert read(text).state.offline_cpus == ()

    def test_a_row_behind_the_flags_ends_them_whole_or_cut(self) -> None:
        rows = self.HEAD + "Flags:               fpu wbnoinvd\nL3 cache:            16 MiB"
        for text in (rows, rows + "\n", rows[:-12]):
            assert "wbnoinvd" in flags_in(read(text))
        assert "wbnoinvd" not in flags_in(read(rows[: rows.index("\nL3")]))

    def test_kinds_of_cores_that_differ_have_no_one_value(self) -> None:
        core = "Model name: {}\n  CPU family: 6\n  Model: {}\n  Stepping: 2\n"
        text = self.HEAD + "Vendor ID: GenuineIntel\n" + core.format("P", 151) + core.format("E", 9)
        assert read(text).cpuinfo == CpuinfoEvidence("GenuineIntel", 6, None, 2)

    @pytest.mark.parametrize(
        "text",
        [
            "Architektur:                     x86_64\nProzessorhersteller: AuthenticAMD\n",
            "Architecture\xa0:          x86_64\nProcesseur(s)\xa0: 2\n",
            "架构\N{FULLWIDTH COLON}   x86_64\nCPU:                             2\n",
        ],
    )
    def test_another_language_is_refused_with_the_right_command(self, text: str) -> None:
        assert "run LC_ALL=C lscpu on the host" in message_of(text)

    @pytest.mark.parametrize(
        "text",
        [
            "# The following is the parsable format, which can be fed to other\n0,0,0,0\n",
            "CPU NODE SOCKET CORE L1d:L1i:L2:L3 ONLINE\n  0    0      0    0 0:0:0:0 yes\n",
            "NAME ONE-SIZE ALL-SIZE WAYS TYPE        LEVEL SETS PHY-LINE COHERENCY-SIZE\n",
            '{"cpus": [ {"cpu": 0, "node": 0, "socket": 0}]}',
            '{"caches": [ {"name": "L1d", "one-size": "32K"}]}',
        ],
    )
    def test_its_tables_are_refused_with_the_right_command(self, text: str) -> None:
        message = message_of(text)
        assert "is the output of lscpu with an option (-p, -e or -C)" in message
        assert "run LC_ALL=C lscpu" in message

    def test_vulnerabilities_and_bios_rows_say_nothing(self) -> None:
        text = (
            self.HEAD + "Vendor ID: AuthenticAMD\nBIOS Vendor ID: Other, Inc.\n"
            "BIOS Model name: 7 CPU @ 2GHz\nVulnerabilities:\n  Spectre v2: Mitigation; sme\n"
        )
        assert read(text).cpuinfo == CpuinfoEvidence("AuthenticAMD")


class TestCpuinfo:
    @pytest.mark.parametrize(
        ("line", "machine"),
        [
            ("processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8", "an aarch64"),
            ("processor\t: 0\ncpu\t\t: POWER9, altivec supported", "a ppc64le"),
            ("vendor_id       : IBM/S390\n# processors    : 2", "an s390x"),
            ("processor\t: 0\nhart\t\t: 1\nisa\t\t: rv64imafdc", "a riscv64"),
        ],
    )
    def test_another_architecture_is_named(self, line: str, machine: str) -> None:
        assert message_of(line + "\n") == f"file: is of {machine} machine; staleline knows x86-64"

    def test_fields_that_were_left_out_are_unknown(self) -> None:
        assert read("model name\t: AMD EPYC\nvendor_id\t: AuthenticAMD\n").cpuinfo == (
            CpuinfoEvidence("AuthenticAMD")
        )
        assert flags_in(read("flags\t\t: fpu sme sev\nbugs\t\t:\n")) == {"fpu", "sme", "sev"}

    def test_wrapped_by_a_mail_program(self) -> None:
        lines = textwrap.wrap("flags\t\t: " + ROME, 72)
        text = "processor\t: 0\nvendor_id\t: AuthenticAMD\n" + "\n".join(lines) + "\nbugs\t\t:\n"
        assert flags_in(read(text)) <= set(FLAGS)


class TestFlagsProve:
    def facts(self, vendor: str | None, cmdline: str | None = "quiet") -> dict[str, object]:
        shown = CpuinfoEvidence(vendor, flags=frozenset({"sme", "sev"}))
        kernel = KernelEvidence(cmdline=cmdline)
        machine = Snapshot(cpus=(), cpuinfo=shown, kernel=kernel)
        return {fact.name: fact.value for fact in from_snapshot(machine)}

    def test_what_firmware_enabled_on_amds_cpus(self) -> None:
        # 6.12.118 arch/x86/kernel/cpu/amd.c:559 early_detect_mem_encrypt()
        assert self.facts("AuthenticAMD")["sme_enabled"] is True

    @pytest.mark.parametrize("vendor", ["HygonGenuine", None])
    def test_only_what_cpuid_has_elsewhere(self, vendor: str | None) -> None:
        # arch/x86/kernel/cpu/hygon.c of 5.10.262, 6.1.192, 6.12.118 and 7.3.4 clears neither.
        facts = self.facts(vendor)
        assert (facts["sme"], facts["sev"], facts["sme_enabled"]) == (True, True, None)

    def test_nothing_where_flags_were_set_by_hand(self) -> None:
        assert self.facts("AuthenticAMD", "quiet setcpuid=sme")["sme"] is None

    @pytest.mark.parametrize(
        ("kernel", "tainted", "proved"),
        [
            # Taken for granted where nothing tells: docs/model.md.
            (KernelEvidence(), None, True),
            (KernelEvidence(release="7.3.4"), None, True),
            (KernelEvidence(release="7.3.4", cmdline="ro quiet"), None, True),
            (KernelEvidence(release="7.3.4", cmdline="ro setcpuid=sme"), 0, None),
            # It sets TAINT_CPU_OUT_OF_SPEC, bit 2 (7.3.4 common.c:1776, include/linux/panic.h).
            (KernelEvidence(release="7.3.4"), 0, True),
            (KernelEvidence(), 0b1000_0001_0001, True),
            (KernelEvidence(), 0b100, None),
        ],
    )
    def test_nothing_where_a_line_or_a_taint_tells_of_flags_set_by_hand(
        self, kernel: KernelEvidence, tainted: int | None, proved: bool | None
    ) -> None:
        shown = CpuinfoEvidence("AuthenticAMD", flags=frozenset({"sme", "hypervisor"}))
        state = StateEvidence(tainted=tainted)
        facts = from_snapshot(Snapshot((), cpuinfo=shown, kernel=kernel, state=state))
        told = {name: facts[name].value for name in ("sme", "sme_enabled", "hypervisor")}
        assert set(told.values()) == {proved}

    def test_what_another_kernel_is_judged_by_stays_as_it_was_shown(self) -> None:
        """Flags that one kernel was told to show are not those of another that is judged there."""
        shown = CpuinfoEvidence("AuthenticAMD", flags=frozenset({"sme"}))
        for line, proved in (("ro setcpuid=sme", None), ("ro", True), (None, True)):
            machine = Snapshot((), cpuinfo=shown, kernel=KernelEvidence(cmdline=line))
            for judged in ("ro", "ro setcpuid=sme", None):
                settled = with_flags_of_hardware(machine)
                judging = replace(settled, kernel=KernelEvidence(cmdline=judged))
                assert from_snapshot(judging)["sme"].value is proved
