# SPDX-License-Identifier: GPL-2.0-or-later
"""What other tools say of a machine: rdmsr, snphost, sevctl, cpuid in words, virsh."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.evidence.snapshot import Snapshot
from staleline.facts import from_snapshot
from tests.evidence.writers import as_tar


def read(text: str) -> Snapshot:
    return parse_snapshot(text, "file")


def known(machine: Snapshot) -> dict[str, object]:
    return {fact.name: fact.value for fact in from_snapshot(machine) if fact.value is not None}


def message_of(text: str) -> str:
    with pytest.raises(EvidenceError) as caught:
        read(text)
    return str(caught.value)


class TestRdmsr:
    """msr-tools rdmsr.c; the value is SYSCFG of a Ryzen 9700X (AMDESE/AMDSEV issue 292)."""

    @pytest.mark.parametrize(
        "text",
        [
            "# rdmsr -a 0xc0010010\n740000\n740000\n",
            "root@node:~# rdmsr -a 0xc0010010\n740000\n740000\nroot@node:~#\n",
            "$ sudo rdmsr --all -x -0 0xc0010010\n0000000000740000\n0000000000740000\n",
            "# rdmsr -c -a 0xc0010010\n0x740000\n0x740000\n",
            "# rdmsr -a -u 0xc0010010\n7602176\n7602176\n",
            "# rdmsr -p0 0xc0010010\n740000\n# rdmsr -p 1 3221291024\n740000\n",
            "0xc0010010: 740000\n0xc0010010: 740000\n",
            "0xc0010010 = 0x740000\n0xC0010010 = 0x740000\n",
        ],
    )
    def test_values_with_the_number_beside_them(self, text: str) -> None:
        assert [cpu.msr for cpu in read(text).cpus] == [{0xC0010010: 0x740000}] * 2

    def test_a_fault_is_an_observation(self) -> None:
        text = "# rdmsr -p 0 0xc0010131\nrdmsr: CPU 0 cannot read MSR 0xc0010131\n"
        assert read(text).cpus[0].msr_faults == {0xC0010131}

    @pytest.mark.parametrize("row", ["0xc0010131: {}", "{}"])
    def test_values_are_of_the_cpus_that_did_not_fault(self, row: str) -> None:
        """The second value was taken for that of CPU 1, and its fault was lost."""
        fault = "rdmsr: CPU 1 cannot read MSR 0xc0010131\n"
        rows = [f"{row.format(1)}\n"] * 2
        text = "# rdmsr -a 0xc0010131\n" + fault.join(rows)
        first, second, third = read(text).cpus
        assert (first.msr, second.msr, third.msr) == ({0xC0010131: 1}, {}, {0xC0010131: 1})
        assert second.msr_faults == {0xC0010131}
        assert "file:4: says that CPU 1 has no MSR 0xc0010131, of which a value stands" in (
            message_of("# rdmsr -a 0xc0010131\n" + "".join(rows) + fault)
        )

    def test_a_value_within_which_the_text_ends_is_left_out(self) -> None:
        (cpu,) = read("# rdmsr -a 0xc0010010\n740000\n74").cpus
        assert cpu.msr == {0xC0010010: 0x740000}

    def test_a_value_alone_is_refused_with_the_right_spelling(self) -> None:
        said = "write the MSR's number before each value, as in 0xc0010010: 740000"
        assert message_of("740000\n740000\n") == (
            f"file: holds values of an MSR that it does not name; {said}"
        )
        assert read(said.partition(" as in ")[2] + "\n").cpus[0].msr == {0xC0010010: 0x740000}

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("0xc0010010: 7400", "file:1: ends in the middle of a line"),
            ("# rdmsr -f 22:18 0xc0010010\n1\n", "file:1: asks rdmsr for bits 22:18 of 0xc0010010"),
            ("# rdmsr -f 23 0xc0010010\n1\n", "file:1: asks rdmsr for -f"),
            ("# rdmsr syscfg\n1\n", "file:1: asks rdmsr for 'syscfg', which is no number"),
            ("# rdmsr 0xc0010010\n1\n2\n", "file:3: is a second value of one MSR of one CPU"),
            ("0x87: 1\n5\n", "file:2: is a value of an MSR that nothing names"),
        ],
    )
    def test_what_is_not_certain_is_refused(self, text: str, what: str) -> None:
        assert message_of(text).startswith(what)

    @pytest.mark.parametrize(
        ("asked", "told"),
        [
            # As AMDESE/AMDSEV issue 292 has it: one bit, and the register whole.
            ("# rdmsr -f 23:23 0xC0010010\n0\n\n# rdmsr 0xC0010010\n740000\n", False),
            ("# rdmsr -f 23:23 0xc0010010\n1\n", True),
            ("$ sudo rdmsr -f23:23 0xc0010010\n1\n", True),
            ("# rdmsr -a --bitfield 23:23 0xc0010010\n1\n1\n", True),
            ("# rdmsr -a -f 23:23 0xc0010010\n1\n0\n", None),
        ],
    )
    def test_a_bit_that_has_a_name_is_read(self, asked: str, told: bool | None) -> None:
        """It was refused, with all that stood beside it."""
        assert known(read(f"vendor_id : AuthenticAMD\n\n{asked}")).get("sme_enabled") is told

    def test_a_bit_and_its_register_agree(self) -> None:
        text = "# rdmsr -f 23:23 0xc0010010\n1\n# rdmsr 0xc0010010\n740000\n"
        assert "sme_enabled is True by rdmsr -f 23:23" in message_of(text)

    def test_msrs_and_leaves_of_one_archive_are_of_the_same_cpus(self, tmp_path: Path) -> None:
        rows = (
            "0x00000000 0x00: eax=0x00000010 ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65\n"
            "0x80000000 0x00: eax=0x80000020 ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65\n"
            "0x8000001f 0x00: eax=0x0001000f ebx=0x0000016f ecx=0x000001fd edx=0x00000001\n"
        )
        path = tmp_path / "host.tar"
        for names in (("a", "b"), ("b", "a")):
            files = {names[0]: rows, names[1]: "0xc0010010: 800000\n"}
            path.write_bytes(as_tar(files))
            facts = known(read_snapshot(path))
            assert (facts["sme"], facts["sme_enabled"]) == (True, True)


#: github.com/virtee/snphost pull request 193, cut down.
SNPHOST = """\
[ PASS ] - AMD CPU
[ PASS ]   - Microcode support
[ PASS ]   - Secure Memory Encryption (SME)
[ PASS ]     - SME: Enabled in MSR
[ PASS ]   - Secure Encrypted Virtualization (SEV)
[ PASS ]     - Encrypted State (SEV-ES)
[ PASS ]     - SEV initialized: Initialized, no guests running
[ PASS ]     - Secure Nested Paging (SEV-SNP)
[ FAIL ]       - SNP: Disabled in MSR
[ PASS ]     - Physical address bit reduction: 6
[ PASS ]     - C-bit location: 51
[ PASS ]     - Number of encrypted guests supported simultaneously: 1006
[ PASS ]   - Page flush MSR: DISABLED
"""
SNPHOST_SAYS = {
    "vendor": "AuthenticAMD",
    "sme": True,
    "sme_enabled": True,
    "sev": True,
    "sev_es": True,
    "sev_snp": True,
    "snp_enabled": False,
    "phys_addr_reduction": 6,
    "cbit_position": 51,
    "sev_guests_max": 1006,
}


class TestSnphost:
    def test_its_tests_are_statements_of_facts(self) -> None:
        machine = read(SNPHOST)
        assert {one.name: one.value for one in machine.statements} == SNPHOST_SAYS
        assert machine.cpus == ()
        assert known(machine).items() >= SNPHOST_SAYS.items()
        fact = from_snapshot(machine)["sme_enabled"]
        assert fact.source == "snphost ok, SME: Enabled in MSR"

    def test_colours_and_the_longer_output_do_not_matter(self) -> None:
        coloured = SNPHOST.replace("PASS", "\x1b[32mPASS\x1b[0m")
        assert read(coloured) == read(SNPHOST)
        verbose = "=== CPU Support ===\n" + SNPHOST.replace("- ", "")
        assert read(verbose) == read(SNPHOST)

    def test_json(self) -> None:
        tests = [
            {"name": name, "status": status.lower(), **({"message": message} if message else {})}
            for line in SNPHOST.splitlines()
            for status in [line[2:6]]
            for name, _, message in [line.partition("- ")[2].partition(": ")]
        ]
        assert read(json.dumps({"summary": {"total": 13}, "tests": tests})) == read(SNPHOST)
        assert "is not whole JSON" in message_of('{"tests": [')

    def test_a_test_that_was_skipped_or_could_not_read_says_nothing(self) -> None:
        text = (
            "[ FAIL ] - AMD CPU\n[ SKIP ]   - Secure Memory Encryption (SME)\n"
            "[ FAIL ]   - SME: MSR read failed: Permission denied\n"
        )
        assert read(text).statements == ()

    def test_a_guest_that_runs_now_has_run(self) -> None:
        for says, runs in (
            ("SEV initialized: Initialized, currently running a guest", True),
            ("SEV INIT: SEV is INIT, but not currently running a guest", None),
            ("SEV initialized: Initialized, no guests running", None),
        ):
            assert read(f"[ PASS ] - {says}\n").state.sev_guests_run is runs

    def test_a_number_cut_short_is_not_read(self) -> None:
        assert read(SNPHOST + "[ PASS ]  - C-bit location: 5") == read(SNPHOST)

    def test_statements_survive_a_snapshot(self) -> None:
        machine = read(SNPHOST)
        assert read(snapshot_text(machine)) == machine

    def test_registers_that_say_otherwise_are_a_contradiction(self, tmp_path: Path) -> None:
        path = tmp_path / "host.tar"
        path.write_bytes(as_tar({"msr": "0xc0010010: 740000\n", "snphost": SNPHOST}))
        with pytest.raises(ContradictionError, match="told-otherwise") as caught:
            read_snapshot(path)
        assert caught.value.ids == ("told-otherwise",)


#: cpuid -1 of a Ryzen 5 1600X (bugzilla.kernel.org, cut down) and -l 0x8000001f of a Milan.
CPUID = """\
CPU 0:
   vendor_id = "AuthenticAMD"
   version information (1/eax):
      stepping id     = 0x1 (1)
      (family synth)  = 0x17 (23)
      (model synth)   = 0x1 (1)
   feature information (1/ecx):
      hypervisor guest status                 = false
   AMD Secure Encryption (0x8000001f):
      SME: secure memory encryption support    = true
      SEV: secure encrypted virtualize support = true
      VM page flush MSR support                = true
      SEV-ES: SEV encrypted state support      = false
      encryption bit position in PTE           = 0x2f (47)
      physical address space width reduction   = 0x5 (5)
      number of SEV-enabled guests supported   = 0xf (15)
"""
CPUID_SAYS = {
    "vendor": "AuthenticAMD",
    "stepping": 1,
    "family": 23,
    "model": 1,
    "hypervisor": False,
    "sme": True,
    "sev": True,
    "sev_es": False,
    "cbit_position": 47,
    "phys_addr_reduction": 5,
    "sev_guests_max": 15,
}


class TestCpuidInWords:
    def test_words_that_tell_register_bits(self) -> None:
        machine = read(CPUID)
        assert {one.name: one.value for one in machine.statements} == CPUID_SAYS
        assert known(machine).items() >= CPUID_SAYS.items()

    def test_one_leaf_alone_may_be_another_leaf(self) -> None:
        """`cpuid -l` asks for any leaf, and names what Intel's CPUs answer there by it.

        cpuid 20230120 prints "SME: secure memory encryption support = true" under the heading
        "AMD Secure Encryption (0x8000001f):" for a GenuineIntel CPU whose highest leaf is smaller.
        """
        text = "CPU:\n" + CPUID[CPUID.index("   AMD Secure") :]
        machine = read(text)
        assert not machine.statements
        assert any("without vendor_id" in note.why for note in machine.notes)

    def test_one_leaf_behind_the_vendors(self) -> None:
        leaf = CPUID[CPUID.index("   AMD Secure") :]
        facts = known(read(f'CPU:\n   vendor_id = "AuthenticAMD"\nCPU:\n{leaf}'))
        assert facts["sme"] is True
        facts = known(read(f'CPU:\n   vendor_id = "GenuineIntel"\nCPU:\n{leaf}'))
        assert facts["sme"] is False

    def test_words_count_only_below_their_leaf(self) -> None:
        text = CPUID.replace("   AMD Secure Encryption (0x8000001f):\n", "   other (0x8000001e):\n")
        assert "sme" not in known(read(text))

    def test_cpus_that_differ_have_no_one_value(self) -> None:
        other = CPUID.replace("stepping id     = 0x1 (1)", "stepping id     = 0x2 (2)")
        facts = known(read(CPUID + other))
        assert "stepping" not in facts
        assert facts["model"] == 1

    def test_cut_anywhere_it_tells_less(self) -> None:
        for end in range(len(CPUID)):
            try:
                said = read(CPUID[:end]).statements
            except EvidenceError:
                continue
            assert {one.name: one.value for one in said}.items() <= CPUID_SAYS.items()


class TestVirsh:
    def test_capabilities_name_the_hosts_vendor(self) -> None:
        text = (
            "<capabilities>\n <host>\n <cpu><arch>x86_64</arch><model>EPYC-Rome</model>"
            "<vendor>AMD</vendor><feature name='hypervisor'/></cpu></host>\n"
            "<guest><arch name='aarch64'/></guest></capabilities>"
        )
        assert [(one.name, one.value) for one in read(text).statements] == [
            ("vendor", "AuthenticAMD")
        ]

    def test_domcapabilities_prove_sev_and_its_bit_and_not_what_qemu_emulates(self) -> None:
        text = (
            "<domainCapabilities><domain>kvm</domain><arch>x86_64</arch><cpu>"
            "<mode name='host-model' supported='yes'><vendor>AMD</vendor>"
            "<feature policy='require' name='wbnoinvd'/></mode></cpu><features>"
            "<sev supported='yes'><cbitpos>51</cbitpos><reducedPhysBits>1</reducedPhysBits></sev>"
            "</features></domainCapabilities>"
        )
        said = {one.name: one.value for one in read(text).statements}
        assert said == {"sev": True, "cbit_position": 51}
        assert read(text.replace("'yes'><cbit", "'no'><cbit")).statements == ()

    def test_a_host_of_another_architecture(self) -> None:
        text = "<capabilities><host><cpu><arch>s390x</arch></cpu></host></capabilities>"
        assert message_of(text) == "file: is of an s390x machine; staleline knows x86-64"

    def test_cut_short(self) -> None:
        assert "is not well-formed XML" in message_of("<capabilities><host>")


def test_every_statement_that_a_tool_makes_is_of_a_fact() -> None:
    names = {fact.name for fact in from_snapshot(Snapshot(cpus=()))}
    for text in (SNPHOST, CPUID):
        assert {one.name for one in read(text).statements} <= names


def test_flags_of_any_cpu_are_the_machine_s() -> None:
    """A row that lost a word denies nothing that another CPU's row shows."""
    rows = ("processor\t: {}", "vendor_id\t: AuthenticAMD", "cpu family\t: 23", "model\t\t: 1")
    cpu = "\n".join((*rows, "flags\t\t: {}", "", ""))
    text = cpu.format(0, "fpu sev") + cpu.format(1, "fpu sev sme")
    evidence = parse_snapshot(text, "cpuinfo").cpuinfo
    assert evidence is not None
    assert evidence.flags == {"fpu", "sev", "sme"}
