# SPDX-License-Identifier: GPL-2.0-or-later
"""A log that is given as numbers is never passed over, and a file of nothing else is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tools.debian_package import installed

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.pasted.encoded import texts_in_numbers
from staleline.facts import from_snapshot

ROME = (Path(__file__).parents[2] / "data" / "simulated" / "epyc_rome.txt").read_text()
LOG = (
    "[    0.000000] Linux version 6.12.117+deb13-amd64 (debian-kernel@lists.debian.org) #1 SMP\n"
    "[    0.000000] Command line: BOOT_IMAGE=/vmlinuz root=/dev/sda1 mem_encrypt=on\n"
    "[    0.100000] Memory Encryption Features active: AMD SME\n"
    "[    0.200000] smp: Brought up 2 nodes, 128 CPUs\n"
)
#: In every form that people give files in; bytes in words are in the CPU's order.
COMMANDS = (
    "hexdump",
    "hexdump -C",
    "xxd",
    "xxd -g 1",
    "xxd -e -g 4",
    "xxd -p",
    "od",
    "od -b",
    "od -c",
    "od -A x -t x1z -v",
    "od -t x2",
    "od -A x -t x4z",
    "base64",
)


PACKAGES = {"hexdump": "bsdextrautils", "xxd": "xxd", "od": "coreutils", "base64": "coreutils"}


def shown(command: str, content: str) -> str:
    tool, *options = command.split()
    program = installed(tool, PACKAGES[tool])
    done = subprocess.run(
        [program, *options], input=content.encode(), capture_output=True, check=True
    )
    return done.stdout.decode()


@pytest.mark.parametrize("command", COMMANDS)
def test_messages_in_numbers_are_known_to_be_unread(command: str) -> None:
    numbers = shown(command, LOG)
    machine = parse_snapshot(f"{ROME}\n$ {command} log.txt\n{numbers}", "rome.txt")
    messages = {one.message for one in machine.unread}
    assert "Memory Encryption Features active: AMD SME" in messages
    assert {one.where for one in machine.unread} <= {
        f"rome.txt:{ROME.count(chr(10)) + number}" for number in (2, 3)
    }
    # They make all unknown that they would change.
    assert from_snapshot(machine)["unread_messages"].value is True
    assert from_snapshot(machine)["sme_active"].value is None


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_of_numbers_alone_is_refused_by_what_it_is(command: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        parse_snapshot(shown(command, LOG), "log.hex")
    assert "log.hex:1: is a dump of a file in numbers, of which nothing is read" in str(
        caught.value
    )


@given(st.binary(max_size=200))
def test_rows_are_turned_back(content: bytes) -> None:
    rows = [content[at : at + 16] for at in range(0, len(content), 16)]
    text = "".join(f"{16 * n:08x}  {row.hex(' ')}  |........|\n" for n, row in enumerate(rows))
    assert {back.encode("latin-1") for _, back in texts_in_numbers(text)} <= {content}
    assert not rows or len(content) < 3 or list(texts_in_numbers(text))


@given(st.text(alphabet="0123456789abcdef \t\n:|*[]x", max_size=400))
def test_any_text_is_taken(text: str) -> None:
    for number, back in texts_in_numbers(text):
        assert 0 <= number <= text.count("\n")
        assert len(back) <= len(text)


def test_dumps_of_cpuid_are_no_dumps_of_files() -> None:
    assert not list(texts_in_numbers(ROME))
    assert not parse_snapshot(ROME, "rome.txt").unread
