# SPDX-License-Identifier: GPL-2.0-or-later
"""The collector as one file: run alone, what it redacts, and how it writes CPUs down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.evidence import staleline_collect
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.live import collect, collector_source
from tests.evidence.writers import SME_ACTIVE


class TestTheFile:
    """The collector alone, given to a Python on its standard input."""

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-", *arguments],
            input=collector_source(),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stderr == ""
        return done.stdout

    def test_needs_nothing_but_the_standard_library(self) -> None:
        snapshot = parse_snapshot(self.run(), "this host")
        assert snapshot.kernel.release == os.uname().release
        assert snapshot.host == os.uname().nodename

    def test_is_of_python_3_6(self) -> None:
        vermin = Path(sys.executable).with_name("vermin")
        done = subprocess.run(
            [vermin, "--target=3.6-", "--eval-annotations", staleline_collect.__file__],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert "Minimum required versions: 3.6" in done.stdout

    def test_takes_under_two_seconds_of_this_hosts_time(self) -> None:
        started = os.times()
        self.run()
        ended = os.times()
        used = (ended.children_user + ended.children_system) - (
            started.children_user + started.children_system
        )
        assert used < 2

    def test_writes_what_live_reads(self) -> None:
        alone = parse_snapshot(self.run(), "this host")
        within = collect()
        assert alone.cpus == within.cpus
        assert alone.kernel == within.kernel
        assert alone.state == within.state
        assert alone.notes == within.notes

    def test_redacts_the_host_name(self) -> None:
        document = json.loads(self.run("--redact"))
        assert document["host"] is None
        assert document["notes"][-1]["what"] == "host"


UUID = "0a1b2c3d-1111-2222-3333-444455556666"
#: Words of a command line, with a place for a name or an address.
WORDS = (
    *(
        "quiet",
        "--",
        'foo="a',
        '@"',
        "ip=@::@",
        "mem_encrypt=on",
        "root=UUID=@",
        "@=1",
        "crashkernel=@",
    ),
    *("reboot=f,@", "x=/home/@/y", '"a b:@"', "netconsole=,@//eth0,@", "a.@", "-@-"),
)


class TestRedaction:
    def redacted(self, host: str, cmdline: str, *lines: str) -> tuple[str, list[str]]:
        document = staleline_collect.redacted(
            {
                "host": host,
                "kernel": {"cmdline": cmdline},
                "log": {"complete": True, "lines": list(lines)},
                "notes": [],
            }
        )
        assert document["host"] is None
        return document["kernel"]["cmdline"], document["log"]["lines"]

    def test_the_name_goes_from_command_line_and_log_with_and_without_domain(self) -> None:
        cmdline, lines = self.redacted(
            "node17.example.org",
            "root=UUID=1 ip=10.0.0.1::10.0.0.2:24:node17:eth0 quiet node17 mem_encrypt=on",
            "kexec: loaded by node17.example.org",
            "kexec: Node17-bmc is its neighbour, and xnode17 another",
        )
        assert cmdline == "root=REDACTED ip=REDACTED quiet REDACTED mem_encrypt=on"
        assert lines == [
            "kexec: loaded by REDACTED",
            "kexec: REDACTED-bmc is its neighbour, and xnode17 another",
        ]

    @pytest.mark.parametrize("host", ["sme", "amd", "Features", "on", "force", "mem_encrypt"])
    def test_a_name_that_is_a_word_of_the_evidence_changes_no_evidence(self, host: str) -> None:
        assert self.redacted(host, "mem_encrypt=on reboot=force", SME_ACTIVE) == (
            "mem_encrypt=on reboot=force",
            [SME_ACTIVE],
        )

    def test_what_is_no_parameter_is_replaced(self) -> None:
        assert self.redacted("h", "-- --addr 10.0.0.1:80 ro", "")[0] == (
            "-- REDACTED REDACTED REDACTED"
        )

    @pytest.mark.parametrize(
        ("cmdline", "redacted"),
        [
            ('foo="a b" ro', 'foo="REDACTED REDACTED" ro'),
            ('"foo=a b" ro', 'foo="REDACTED REDACTED" ro'),
            (
                'dyndbg="file x +p; mem_encrypt=on"',
                'dyndbg="REDACTED REDACTED REDACTED mem_encrypt=on"',
            ),
            ("quiet -- user=bob mem_encrypt=on", "quiet -- REDACTED mem_encrypt=on"),
            (
                "BOOT_IMAGE=/home/bob/vmlinuz crashkernel=256M",
                "BOOT_IMAGE=REDACTED crashkernel=256M",
            ),
            ("reboot=h17 kvm_amd.sev=1", "reboot=REDACTED kvm_amd.sev=1"),
        ],
    )
    def test_quotes_and_the_words_of_init(self, cmdline: str, redacted: str) -> None:
        assert self.redacted("h17", cmdline)[0] == redacted

    def test_messages_that_repeat_the_command_line(self) -> None:
        line = "Kernel command line: root=UUID=1 crashkernel=256M user=bob"
        unknown = 'Unknown kernel command line parameters "crashkernel_x user=bob", will be passed'
        assert self.redacted("h17", "", line, unknown)[1] == [
            "Kernel command line: root=REDACTED crashkernel=256M user=REDACTED",
            'Unknown kernel command line parameters "crashkernel_x user="REDACTED'
            + 3 * " REDACTED",
        ]

    def test_a_message_keeps_what_only_looks_like_an_address(self) -> None:
        lines = [
            "ccp 0000:22:00.1: SEV API:1.51 build:3",
            "virt/tdx: BIOS enabled: private KeyID range [64, 128)",
            "SEV-SNP: RMP table physical range [0x0000000035600000 - 0x0000000075bfffff]",
        ]
        assert self.redacted("h17", "", *lines)[1] == lines

    @given(
        st.from_regex(r"[a-z]{2,8}[0-9]{1,3}(-[a-z]{2,4})?(\.example\.org)?", fullmatch=True),
        st.sampled_from(
            [UUID, UUID.replace("-", ""), "10.11.12.13", "fe80::1:2ff", "02:11:22:aa:bb:cc"]
        ),
        st.lists(st.sampled_from(WORDS), max_size=5),
        st.lists(st.sampled_from(WORDS), max_size=5),
    )
    def test_a_name_or_address_survives_nowhere(
        self, host: str, address: str, before: list[str], after: list[str]
    ) -> None:
        for planted in (host, address):
            words = [word.replace("@", planted) for word in before + after]
            cmdline = " ".join([*words[: len(before)], planted, *words[len(before) :]])
            document = staleline_collect.redacted(
                {
                    "host": host,
                    "kernel": {"cmdline": cmdline, "release": f"6.12.0-{planted}"},
                    "log": {
                        "complete": True,
                        "lines": [f"kexec: {cmdline}", f"Kernel command line: {cmdline}"],
                    },
                    "notes": [{"what": "kernel config", "why": f"no /boot/config-6.12-{planted}"}],
                }
            )
            assert planted not in json.dumps(document)


class TestSharedEntries:
    def test_a_cpu_that_lacks_a_leaf_of_another_is_written_whole(self) -> None:
        first = {"cpu": 0, "cpuid": {"0x0:0": ["0x1"], "0x1:0": ["0x2"]}}
        second = {"cpu": 1, "cpuid": {"0x0:0": ["0x1"]}}
        assert staleline_collect.shared_entries([first, second]) == [first, second]

    def test_two_kinds_of_cpu_are_each_written_once(self) -> None:
        big = {"cpuid": {f"{leaf}:0": ["0x1"] for leaf in range(8)}, "msr": {"0x10": "0x1"}}
        little = {"cpuid": {f"{leaf}:0": ["0x2"] for leaf in range(8)}, "msr": {"0x10": "0x1"}}
        shared = staleline_collect.shared_entries([big, little, big, little])
        assert shared[:2] == [big, little]
        assert shared[2:] == [{"like": 0, "cpuid": {}}, {"like": 1, "cpuid": {}}]


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("", []), ("0", [0]), ("0-3,8", [0, 1, 2, 3, 8]), ("0-1,4-5\n", [0, 1, 4, 5])],
)
def test_cpu_lists(text: str, cpus: list[int]) -> None:
    assert staleline_collect.cpu_list(text) == cpus
    assert staleline_collect.cpu_list_text(cpus) == text.strip()


@pytest.mark.parametrize("text", ["3-1", "a", "0-99999999", "1,-2", "0-999999"])
def test_what_is_no_cpu_list(text: str) -> None:
    with pytest.raises(ValueError, match="is not a list of CPUs"):
        staleline_collect.cpu_list(text)


def test_an_option_that_a_configuration_does_not_name_is_not_told() -> None:
    """Its line may have been cut off; what is not set is named too (scripts/kconfig/confdata.c)."""
    whole = "# CONFIG_KEXEC_SIG is not set\nCONFIG_KEXEC=y\n" + 'CONFIG_CMDLINE="a \\"b\\""\n'
    assert staleline_collect.config_options(whole) == {
        "CONFIG_KEXEC_SIG": "n",
        "CONFIG_KEXEC": "y",
        "CONFIG_CMDLINE": 'a "b"',
    }
    for place in range(len(whole)):
        cut = staleline_collect.config_options(whole[place:])
        assert cut.items() <= staleline_collect.config_options(whole).items()
