# SPDX-License-Identifier: GPL-2.0-or-later
"""Every wording of the kernel's log: its source, its releases, and what its example proves."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.evidence import staleline_collect
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.log import kernel_log
from staleline.evidence.log.wordings import LogValue, Wording, silences, wordings, wordings_of
from staleline.evidence.snapshot import LogEvidence
from staleline.facts.machine import from_snapshot

Told = dict[str, LogValue]

#: What each example proves on its own, on a CPU whose vendor nothing else tells.
GUEST: Told = {"sme_active": False, "sev_guest": True, "hypervisor": True}
SME: Told = {
    "sme_active": True,
    "sme": True,
    "sme_enabled": True,
    "sev_guest": False,
}
INTEL: Told = {"vendor": "GenuineIntel"}
TME: Told = {**INTEL, "tme": True, "tme_enabled": True}
SNP: Told = {"vendor": "AuthenticAMD", "sev_snp": True, "sme_enabled": True}
HYPERV: Told = {"hypervisor": True, "hypervisor_name": "Hyper-V"}
PROVES: dict[str, Told] = {
    "linux-version": {},
    "command-line": {},
    "kernel-command-line": {},
    "sme-active": SME,
    "sev-active": GUEST,
    "features-sme-amd-first": SME,
    "features-sev-amd-first": GUEST,
    "features-sev-es-amd-first": {**GUEST, "sev_es_guest": True},
    "features-sme": {**SME, "hypervisor": False},
    "features-sev": GUEST,
    "features-sev-es": {**GUEST, "sev_es_guest": True},
    "features-sev-snp": {**GUEST, "sev_es_guest": True, "snp_guest": True},
    "sev-status": {**GUEST, "sev_es_guest": True, "snp_guest": True},
    "sev-status-es": {**GUEST, "sev_es_guest": True},
    "sev-status-snp": {**GUEST, "sev_es_guest": True, "snp_guest": True},
    "snp-cpuid-table": {**GUEST, "sev_es_guest": True, "snp_guest": True},
    "snp-vmpl": {**GUEST, "sev_es_guest": True, "snp_guest": True},
    "snp-guest-device": {**GUEST, "sev_es_guest": True, "snp_guest": True},
    "features-tdx": {**INTEL, "sme_active": False, "sev_guest": False, "hypervisor": True},
    "tdx-guest": {**INTEL, "tdx_guest": True, "hypervisor": True},
    "tdx-guest-attributes": {**INTEL, "tdx_guest": True, "hypervisor": True},
    "rmp-table": SNP,
    "snp-initialized": {**SNP, "snp_enabled": True},
    "kvm-snp-enabled": {**SNP, "snp_enabled": True},
    "kvm-snp-disabled": {"sev_snp": True},
    "kvm-sev": {"sev": True},
    "kvm-sev-es": {"sev_es": True},
    "psp-tsme": {"tsme": True, "sme_active": False},
    "psp-tsme-and-sme": {"tsme": True, "sme_active": True, "sme": True, "sme_enabled": True},
    "tme-enabled": TME,
    "tme-not-enabled": {**INTEL, "tme": True},
    "mktme-keyids": {**TME, "tme_keyid_bits": 6},
    "mktme-disabled": {**TME, "tme_keyid_bits": 0},
    "mktme-enabled": TME,
    "mktme-reduced": {**TME, "tme_keyid_bits": 6},
    "tdx-keyids": {**INTEL, "tdx_keyids": 64},
    "tdx-initialized": {**INTEL, "tdx_module": "initialized", "hypervisor": False},
    "tdx-pamt": {**INTEL, "tdx_module": "initialized", "hypervisor": False},
    "tdx-seamcall-failed": {},
    "tdx-initialization-failed": {**INTEL, "tdx_module": "failed"},
    "tdx-not-to-be-initialized": {**INTEL, "tdx_module": "not-initialized"},
    "tdx-no-platform": {"tdx_module": "not-initialized"},
    "kvm-tdx-no-platform": {"tdx_module": "not-initialized"},
    "hypervisor-kvm": {"hypervisor": True, "hypervisor_name": "KVM"},
    "hypervisor-hyper-v": {"hypervisor": True, "hypervisor_name": "Hyper-V"},
    "hypervisor-xen-hvm": {"hypervisor": True, "hypervisor_name": "Xen"},
    "hypervisor-acrn": {"hypervisor": True, "hypervisor_name": "ACRN"},
    "hypervisor-bhyve": {"hypervisor": True, "hypervisor_name": "bhyve"},
    "hypervisor-vmware": {"hypervisor": True, "hypervisor_name": "VMware"},
    "hypervisor-xen-pv": {"hypervisor": True, "hypervisor_name": "Xen", "jumped_by": "xen"},
    "hypervisor-jailhouse": {
        "hypervisor": True,
        "hypervisor_name": "Jailhouse",
        "jumped_by": "jailhouse",
    },
    "xen-dom0": {"hypervisor": True, "hypervisor_name": "Xen", "jumped_by": "xen"},
    "booting-on-kvm": {"hypervisor": True, "hypervisor_name": "KVM"},
    "booting-on-hyper-v": HYPERV,
    "booting-on-vmware": {"hypervisor": True, "hypervisor_name": "VMware"},
    "booting-on-xen-hvm": {"hypervisor": True, "hypervisor_name": "Xen"},
    "xen-version": {"hypervisor": True, "hypervisor_name": "Xen"},
    "hyper-v-features": HYPERV,
    "kvm-on-hyper-v": {"hypervisor": True},
    "kvm-on-hyper-v-intel": {**INTEL, "hypervisor": True},
    "hyper-v-guest-flags": {**HYPERV, "jumped_by": "kernel", "isolated": False},
    "hyper-v-root-flags": {**HYPERV, "jumped_by": "hyper-v", "isolated": False},
    "hyper-v-isolated-flags": {**HYPERV, "jumped_by": "kernel", "isolated": True},
    "hyper-v-isolation": {**HYPERV, "jumped_by": "kernel", "isolated": True},
    "hyper-v-l1vh": {**HYPERV, "jumped_by": "hyper-v"},
    "hyper-v-root": {"hypervisor": True, "hypervisor_name": "Hyper-V", "jumped_by": "hyper-v"},
    "cpu-line": {"vendor": "AuthenticAMD", "family": 23, "model": 49, "stepping": 0},
    "pmu-amd": {"vendor": "AuthenticAMD"},
    "pmu-hygon": {"vendor": "HygonGenuine"},
    "pmu-intel": INTEL,
    "microcode-amd": {"vendor": "AuthenticAMD"},
    "microcode-intel": INTEL,
    "possible-cpus": {"present_cpus": 128},
    "present-cpus": {"present_cpus": 128},
    "brought-up": {"cpus_brought_up": 128},
    "efi": {"efi": True},
    "kexec-handover": {"booted_by": "kexec"},
    "livepatch": {"livepatched": True},
    "livepatch-taint": {"livepatched": True},
    "livepatch-tainted": {"livepatched": True},
    "livepatch-tainted-in-words": {"livepatched": True},
}
ROWS = [pytest.param(row, id=row.id) for row in wordings()]
KEPT = [pytest.param(row, id=row.id) for row in wordings() if row.kept]

#: What people's tools put before a message.
DRESSES = [
    "{}",  # journalctl -o cat, a console with printk.time=0
    "[    0.000000] {}",
    "[    0.000000][    T0] {}",
    "[    0.000000] [      T0] {}",
    "[   12.345678][  C101] {}",
    "[    T0] {}",
    "[T0] {}",
    "<6>[    0.000000] {}",
    "<4>{}",
    "6,0,0,-;{}",
    "6,0,0,-,caller=T0;{}",
    "kern  :info  : [    0.000000] {}",
    "kern  :notice: [Fri Aug 15 07:33:43 2025] {}",
    "kern  :info  : {}",
    "[Fri Aug 15 07:33:43 2025] {}",
    "[Fr Aug 15 07:33:43 2025] {}",
    "[Aug15 07:33] {}",
    "[  +0.000012] {}",
    "[    0.000000 <    0.000000>] {}",
    "[Fri Aug 15 07:33:43 2025 <    0.000012>] {}",
    "[<    0.000000>] {}",
    "2025-08-15T07:33:43,123456+02:00 {}",
    "Aug 15 07:33:43 node17 kernel: {}",
    "Aug  5 07:33:43 node17 kernel: [    0.000000] {}",
    "Aug 15 07:33:43.123456 node17 kernel: {}",
    "Aug 15 07:33:43 kernel: {}",
    "Aug 15 07:33:43 node17 kern.info kernel: [    0.000000] {}",
    "2025-08-15T07:33:43+0200 node17 kernel: {}",
    "2025-08-15T07:33:43.123456+02:00 node17 kernel: {}",
    "2025-08-15T07:33:43.123456+02:00 node17 kernel: [    0.000000][    T0] {}",
    "Fri 2025-08-15 07:33:43 CEST node17 kernel: {}",
    "Fri 2025-08-15 07:33:43.123456 CEST node17 kernel: {}",
    "1755243223.123456 node17 kernel: {}",
    "[    0.000000] node17 kernel: {}",
    "[2025-08-15 07:33:43] [    0.000000] {}",
    "[    0.000000] {}\r",
    "\x1b[32m[    0.000000] \x1b[0m\x1b[33m{}\x1b[0m",
]


@pytest.mark.parametrize("row", ROWS)
def test_has_a_source_and_a_range_of_releases(row: Wording) -> None:
    assert row.first >= (4, 14)
    assert row.last is None or row.first <= row.last
    assert row.source
    for source in row.source:
        assert re.match(r"[4-7]\.[0-9]+(?:\.[0-9]+)? .*(?:\.[ch](?::[0-9]| \w)|\.rst)", source)


def test_ids_are_unique_and_every_row_is_tested() -> None:
    assert [row.id for row in wordings()] == list(PROVES)


@pytest.mark.parametrize("row", ROWS)
def test_an_example_proves_what_the_source_says(row: Wording) -> None:
    assert row.match(row.example)
    told = kernel_log.told(LogEvidence((row.example,), complete=False))
    assert {
        fact: said.value for fact, said in told.items() if fact not in ("release", "cmdline")
    } == PROVES[row.id]


@pytest.mark.parametrize("dress", DRESSES)
def test_is_read_in_every_dress(dress: str) -> None:
    for row in wordings():
        # A reader of another format must not take the line.
        machine = parse_snapshot(dress.format(row.example) + "\n", "file")
        told = kernel_log.told(machine.log)
        assert {fact: said.value for fact, said in told.items()} == PROVES[row.id]
        if row.id == "linux-version":
            assert machine.kernel.release == "6.12.117+deb13-amd64"
        if row.id in ("command-line", "kernel-command-line"):
            assert machine.kernel.cmdline == "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro mem_encrypt=on"


@pytest.mark.parametrize(
    "dress",
    [
        "Aug 15 07:33:43 node17 sshd[812]: {}",
        "2025-08-15T07:33:43+0200 node17 logger: {}",
        "user  :notice: [    0.000000] {}",
        "<30>[    0.000000] {}",
        "30,0,0,-;{}",
        "# {}",
        "why is there no '{}' in my log?",
    ],
)
def test_what_is_not_the_kernels_is_no_message(dress: str) -> None:
    text = "[    0.000000] Booting\n" + "".join(
        dress.format(row.example) + "\n" for row in wordings()
    )
    machine = parse_snapshot(text, "file")
    assert machine.kernel.release is machine.kernel.cmdline is None
    assert kernel_log.told(machine.log) == {}


@pytest.mark.parametrize("row", ROWS)
def test_a_line_that_is_cut_tells_nothing_else(row: Wording) -> None:
    whole = parse_snapshot(row.example + "\n", "file")
    told = kernel_log.told(whole.log)
    for end in range(len(row.example)):
        machine = parse_snapshot("[    0.000000] x\n[    0.000000] " + row.example[:end], "file")
        assert machine.kernel.release in (None, whole.kernel.release)
        assert machine.kernel.cmdline is None
        for fact, said in kernel_log.told(machine.log).items():
            assert said.value == told[fact].value


class TestCollector:
    @pytest.mark.parametrize("row", KEPT)
    def test_keeps_the_lines_that_a_wording_uses(self, row: Wording) -> None:
        assert staleline_collect.is_relevant(row.example)

    @pytest.mark.parametrize(
        "line",
        [
            *(row.example for row in wordings() if not row.kept),
            "DMI: Dell Inc. PowerEdge R6525/0GK70M, BIOS 2.8.4 06/23/2022",
            "systemd[1]: Hostname set to <node17>.",
            "usb 1-1: SerialNumber: 0123456789",
            "ACPI: DSDT 0x00000000 (v02 DELL   PE_SC3)",
            "EXT4-fs (sda1): mounted filesystem 6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "nfs: server storage.example.org not responding",
        ],
    )
    def test_keeps_no_line_that_names_host_or_device(self, line: str) -> None:
        assert not staleline_collect.is_relevant(line)

    @pytest.mark.parametrize("row", KEPT)
    def test_redaction_changes_nothing_that_a_line_proves(self, row: Wording) -> None:
        told = kernel_log.told(LogEvidence((row.example,), complete=False))
        for host in set(re.findall(r"(?<![\w-])[A-Za-z][\w-]*", row.example)):
            document = {"host": host, "log": {"complete": False, "lines": [row.example]}}
            lines = staleline_collect.redacted(document)["log"]["lines"]
            again = kernel_log.told(LogEvidence(tuple(lines), complete=False))
            assert {name: said.value for name, said in again.items()} == {
                name: said.value for name, said in told.items()
            }, host

    def test_redaction_takes_the_host_out_of_the_new_lines(self) -> None:
        document = {
            "host": "node17.example.org",
            "log": {"complete": False, "lines": ["efi: EFI v2.7 by node17"]},
        }
        assert staleline_collect.redacted(document)["log"]["lines"] == ["efi: EFI v2.7 by REDACTED"]


class TestSilences:
    @pytest.mark.parametrize("row", silences(), ids=lambda row: row.fact)
    def test_are_of_wordings_of_the_table_and_say_why(self, row: object) -> None:
        ids = {wording.id for wording in wordings()}
        for silence in silences():
            assert silence.of <= ids
            assert silence.why
            assert silence.first <= silence.last

    def test_list_every_wording_that_tells_the_opposite(self) -> None:
        for silence in silences():
            for row in wordings():
                value = row.proves.get(silence.fact, silence.value)
                assert value == silence.value or row.id in silence.of


class TestHyperVFlags:
    @given(high=st.integers(0, 0xFFFF_FFFF), padded=st.booleans(), ext=st.booleans())
    def test_the_log_tells_what_the_register_tells(
        self, high: int, padded: bool, ext: bool
    ) -> None:
        """CPUID leaf 0x40000003 EBX: up to 6.12 as 0x%x, in 7.3 as %#x, with ext."""
        shown = f"{high:#x}" if padded or high else "0"
        rest = "ext 0x2, hints 0x9e4e24, misc 0x1" if ext else "hints 0x9e4e24, misc 0x1"
        log = f"[    0.0] Hyper-V: privilege flags low 0x2e7f, high {shown}, {rest}\n"
        dump = (
            "CPU 0:\n"
            "   0x00000001 0x00: eax=0x00a00f11 ebx=0x00020800 ecx=0xfed83203 edx=0x178bfbff\n"
            "   0x40000000 0x00: eax=0x4000000c ebx=0x7263694d ecx=0x666f736f edx=0x76482074\n"
            f"   0x40000003 0x00: eax=0x00002e7f ebx={high:#010x} ecx=0x00000002 edx=0x00000001\n"
        )
        by_log, by_cpuid = (from_snapshot(parse_snapshot(text, "file")) for text in (log, dump))
        for name in ("hypervisor", "hypervisor_name", "jumped_by", "isolated"):
            assert by_log[name].value == by_cpuid[name].value is not None


def test_a_row_that_is_parsed_alone_is_what_it_is_in_the_whole_table() -> None:
    text = files("staleline.evidence.log").joinpath("wordings.toml").read_text("utf-8")
    table = tomllib.loads(text)
    assert [row["id"] for row in table["wording"]] == [row.id for row in wordings()]
    assert [row["pattern"] for row in table["wording"]] == [row.pattern for row in wordings()]
    assert [row["fact"] for row in table["silence"]] == [row.fact for row in silences()]
    for row in wordings():
        assert row in wordings_of(row.example)
