# SPDX-License-Identifier: GPL-2.0-or-later
"""Several outputs in one text, with shell prompts or headings between them."""

from __future__ import annotations

import re

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.pasted.prompts import host_of, is_prompt
from staleline.evidence.snapshot import CpuinfoEvidence, Snapshot
from tests.evidence.writers import as_cpuinfo, as_lscpu, as_lscpu_json

SHOWN = CpuinfoEvidence("AuthenticAMD", 23, 49, 0, frozenset({"fpu", "sme", "sev"}))
LOG = (
    "[    0.000000] Linux version 6.12.107+deb13-amd64 (x) #1 SMP\n"
    "[    0.000000] Command line: BOOT_IMAGE=/vmlinuz mem_encrypt=on\n"
    "[    0.100000] Memory Encryption Features active: AMD SME\n"
)
#: libvirt docs/formatcaps.rst and docs/formatdomaincaps.rst, the elements that are read.
CAPABILITIES = (
    "<capabilities>\n  <host>\n    <cpu>\n      <arch>x86_64</arch>\n"
    "      <vendor>AMD</vendor>\n    </cpu>\n  </host>\n</capabilities>\n"
)
DOMAIN = (
    "<domainCapabilities>\n  <arch>x86_64</arch>\n  <features>\n"
    "    <sev supported='yes'>\n      <cbitpos>47</cbitpos>\n    </sev>\n"
    "  </features>\n</domainCapabilities>\n"
)


def read(text: str) -> Snapshot:
    return parse_snapshot(text, "file")


def message_of(text: str) -> str:
    with pytest.raises(EvidenceError) as caught:
        read(text)
    return str(caught.value)


def stated(machine: Snapshot) -> dict[str, object]:
    return {statement.name: statement.value for statement in machine.statements}


class TestPrompts:
    @pytest.mark.parametrize(
        "line",
        [
            "root@node17:~# dmesg",
            "[root@node17 ~]# virsh capabilities",
            "jo@node17:/tmp$ sudo dmesg | grep -i -e sev -e tdx",
            "node17:~ # cat /proc/cpuinfo",
            "(venv) jo@node17 ~ % lscpu",
            "# rdmsr -a 0xc0010010",
            "$ LC_ALL=C lscpu",
            "sh-5.1# /usr/sbin/cpuid -r",
            "+ sudo journalctl -k -b -1",
            "root@node17:~# ",
        ],
    )
    def test_prompts(self, line: str) -> None:
        assert is_prompt(line)

    @pytest.mark.parametrize(
        "line",
        [
            "# mask e[abcd]x => e[abcd]x",
            "# CPU,Core,Socket,Node,,L1d,L1i,L2,L3",
            "[    0.000000] Command line: root=/dev/sda1 # dmesg",
            "> [    0.000000] Linux version 6.1",
            "# Processor and cache information",
            "",
        ],
    )
    def test_what_is_none(self, line: str) -> None:
        assert not is_prompt(line)

    def test_hosts(self) -> None:
        assert host_of("root@node17:~# dmesg") == "node17"
        assert host_of("root@node17:~# ") is None
        assert host_of("# dmesg") is None


class TestOutputs:
    @pytest.mark.parametrize("prompt", ["# ", "$ ", "root@node17:~# ", "[jo@node17 ~]$ "])
    def test_libvirts_documents_behind_prompts(self, prompt: str) -> None:
        machine = read(
            f"{prompt}virsh capabilities\n{CAPABILITIES}\n"
            f"{prompt}virsh domcapabilities\n<?xml version='1.0'?>\n{DOMAIN}{prompt}\n"
        )
        assert stated(machine) == {"vendor": "AuthenticAMD", "sev": True, "cbit_position": 47}

    def test_each_output_is_read_by_its_reader(self) -> None:
        machine = read(
            f"root@node17:~# dmesg | grep -i mem\n{LOG}root@node17:~# lscpu -J\n"
            f"{as_lscpu_json(SHOWN, 4)}\nroot@node17:~# rdmsr -p 0 0xc0010010\nf40000\n"
            f"root@node17:~# virsh domcapabilities\n{DOMAIN}"
        )
        assert machine.kernel.cmdline == "BOOT_IMAGE=/vmlinuz mem_encrypt=on"
        assert machine.state.sme_active is True
        assert machine.cpuinfo == SHOWN
        assert [cpu.msr for cpu in machine.cpus] == [{0xC0010010: 0xF40000}]
        assert stated(machine)["cbit_position"] == 47

    @pytest.mark.parametrize("between", ["\n", "\n== dmesg ==\n", "\n# dmesg:\n", "Kernel log:\n"])
    def test_outputs_below_headings(self, between: str) -> None:
        for other in (as_lscpu(SHOWN, 4), as_cpuinfo(SHOWN, 4)):
            machine = read(other + between + LOG)
            assert machine.cpuinfo == SHOWN
            assert machine.state.sme_active is True
            machine = read(LOG + between + other)
            assert machine.cpuinfo == SHOWN
            assert machine.state.sme_active is True

    def test_outputs_that_contradict_each_other(self) -> None:
        intel = CpuinfoEvidence("GenuineIntel", 6, 143, 8, frozenset({"fpu"}))
        with pytest.raises(ContradictionError):
            read(f"$ virsh capabilities\n{CAPABILITIES}$ lscpu\n{as_lscpu(intel)}")

    def test_commands_on_two_hosts(self) -> None:
        text = f"root@a:~# dmesg\n{LOG}root@b:~# lscpu\n{as_lscpu(SHOWN)}"
        assert message_of(text) == (
            "file:5: is of host b, and line 1 of a; give one file per machine"
        )

    @pytest.mark.parametrize(
        "headings",
        [
            ("$ ssh a dmesg", "$ ssh b lscpu"),
            ("jo@laptop:~$ ssh -p 22 root@a.example.org sudo dmesg", "jo@laptop:~$ ssh b lscpu"),
            ("root@a:~# dmesg", "root@a:~# ssh -i key b lscpu"),
            ("jo@a:~$ ssh 10.0.0.5 dmesg", "jo@a:~$ ssh 10.0.0.6 lscpu"),
            ("a | CHANGED | rc=0 >>", "b | CHANGED | rc=0 >>"),
            ("a.example.org | SUCCESS | rc=0 >>", "b | FAILED | rc=1 >>"),
            ("[1] 10:21:00 [SUCCESS] a", "[2] 10:21:01 [FAILURE] b Exited with error code 1"),
        ],
    )
    def test_outputs_of_two_hosts_behind_one_prompt_or_none(
        self, headings: tuple[str, str]
    ) -> None:
        """ssh's, and those of ansible and pssh, were put together as one machine's."""
        first, second = headings
        message = message_of(f"{first}\n{LOG}{second}\n{as_lscpu(SHOWN)}")
        assert re.match(r"file:5: is of host \S+, and line 1 of \S+; give one file", message)
        assert read(f"{first}\n{LOG}{first}\n{as_lscpu(SHOWN)}").cpuinfo is not None

    def test_more_outputs_than_a_session_has_are_refused(self) -> None:
        """Each is read with the lines before it: 4000 of them took minutes."""
        message = message_of("# dmesg\n[    0.1] x\n" * 600)
        assert "holds more outputs than a session does, line 1026 one too many; give" in message

    def test_whoever_only_goes_to_a_host_is_not_of_another(self) -> None:
        text = f"jo@laptop:~$ ssh root@a\nroot@a:~# dmesg\n{LOG}root@a:~# exit\nlogout\n"
        assert read(f"{text}jo@laptop:~$ exit\n").state.sme_active is True

    def test_an_error_names_the_line_of_the_whole_text(self) -> None:
        text = f"$ dmesg\n{LOG}\n$ virsh domcapabilities\n<domainCapabilities>\n<arch>x86_64\n"
        assert message_of(text).startswith("file:9: is not well-formed XML: no element found;")
        damaged = f"$ dmesg\n{LOG}$ cpuid -r\nCPU 0:\n   0x00000000 0x00: eax=0x00000010"
        row = " ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65\n"
        assert message_of(f"{damaged}{row}   0x00000001 0x00: eax=0x0\n").startswith(
            "file:8: is not a whole cpuid -r row"
        )

    def test_code_and_json_of_others_are_no_outputs(self) -> None:
        machine = read('int main()\n{\n  return 0;\n}\n\n{ "name": "x" }\n\n' + LOG)
        assert machine.state.sme_active is True


class TestACommandLineThatMayGoOn:
    """Mail programs and terminals wrap lines, pagers cut them; what is lost may be mem_encrypt."""

    START = "[    0.000000] Command line: BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro"
    NEXT = "[    0.000000] BIOS-provided physical RAM map:\n"

    @pytest.mark.parametrize(
        "behind",
        [
            "\nmem_encrypt=on quiet\n" + NEXT,
            "\nquiet\n",
            " quiet mem_e>\n" + NEXT,
            " quiet \N{HORIZONTAL ELLIPSIS} mem_encrypt=off\n" + NEXT,
            "",
        ],
    )
    def test_is_unknown(self, behind: str) -> None:
        text = "[    0.000000] Linux version 6.1.9 (x) #1\n" + self.START + behind
        assert read(text).kernel.cmdline is None
        assert read(text).kernel.release == "6.1.9"
        quoted = "".join(f"> {line}\n" for line in text.split("\n"))
        if behind:
            assert read(quoted).kernel.cmdline is None

    def test_a_mail_program_that_loses_the_mark_of_what_it_wraps(self) -> None:
        text = f"> {self.START}\nmem_encrypt=on\n> {self.NEXT}"
        assert read(text).kernel.cmdline is None

    @pytest.mark.parametrize(
        "behind",
        [
            "\n" + NEXT,
            "\n",
            "\n\nwhatever\n",
            "\n--\n" + NEXT,
            "\nroot@node17:~# \n",
            "\n<6>[    0.1] x\n",
            "\n[    0.1] systemd[1]: x\n",
        ],
    )
    def test_is_known_where_the_line_has_its_end(self, behind: str) -> None:
        assert read(self.START + behind).kernel.cmdline == ("BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro")

    def test_bare_lines_end_where_the_next_is_a_message(self) -> None:
        line = "Command line: BOOT_IMAGE=/vmlinuz quiet\n"
        assert read(line + "BIOS-provided physical RAM map:\n").kernel.cmdline is not None
        release = "Linux version 6.1.9 (x) #1\n"
        assert read(release + line + "mem_encrypt=on\n").kernel.cmdline is None
