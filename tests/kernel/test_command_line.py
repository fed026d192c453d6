# SPDX-License-Identifier: GPL-2.0-or-later
"""What startup code makes of a command line: real images, and the decompressor's rule."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.kernel.boot import _decompressor_sees_on
from staleline.kernel.image import load_image
from staleline.kernel.rawfacts import RawFacts
from staleline.kernel.rawmachine import raw_machine
from staleline.kernel.reader import KernelReader
from tests.conftest import RealKernel

ROME = RawFacts(
    vendor="AuthenticAMD",
    leaf=True,
    sme=True,
    sev=True,
    hypervisor=False,
    sme_enabled=True,
    sev_status=False,
    mem_encrypt=False,
)
WORDS = ("mem_encrypt=on", "mem_encrypt=off", "mem_encrypt=", "mem_encrypt=on,", "xmem_encrypt=on")
#: The last mem_encrypt= counts up to 6.8 (linux 5.10.262, 6.1.192 sme_enable()).
LAST_COUNTS = frozenset({"5.10", "6.1"})


@given(st.lists(st.sampled_from((*WORDS, "quiet", "\t", "\x7f", "ü")), max_size=8))
def test_on_counts_where_it_first_stands_behind_the_first_off(words: list[str]) -> None:
    # parse_mem_encrypt(), linux 6.12.117 and 7.3.4 arch/x86/boot/compressed/misc.c: positions of
    # the first whole word of each, 0 for none; a word ends at any character up to the space.
    text = " ".join(words).encode()
    on, off = (_first(word, text) for word in (b"mem_encrypt=on", b"mem_encrypt=off"))
    assert _decompressor_sees_on(text) is (on > off)


def _first(word: bytes, text: bytes) -> int:
    match = re.search(rb"(?<![^\x01-\x20])%s(?![^\x01-\x20])" % word, text)
    return 0 if match is None else match.start() + 1


@pytest.mark.parametrize(
    ("command_line", "last", "first"),
    [
        ("mem_encrypt=on", True, True),
        ("mem_encrypt=off", False, False),
        ("", False, False),
        ("mem_encrypt=on mem_encrypt=off mem_encrypt=on", True, False),
        ("mem_encrypt=off mem_encrypt=on", True, True),
        ("mem_encrypt=on mem_encrypt=maybe", False, True),
        ("x" * 2000 + " mem_encrypt=on", True, True),
        ("\u00fc=\u00e9 mem_encrypt=on", True, True),
    ],
)
def test_every_image_reads_the_command_line_as_its_time_does(
    readers: dict[str, KernelReader], command_line: str, last: bool, first: bool
) -> None:
    machine = raw_machine(ROME)
    for series, reader in readers.items():
        expected = last if series in LAST_COUNTS else first
        assert reader.encrypts(machine, command_line) is expected, series


@pytest.fixture(scope="module")
def readers(real_kernels: dict[str, RealKernel]) -> dict[str, KernelReader]:
    wanted = ("5.10", "6.1", "6.12", "7")
    return {series: KernelReader(load_image(real_kernels[series].path)) for series in wanted}


def test_the_answer_does_not_depend_on_what_was_asked_before(
    readers: dict[str, KernelReader],
) -> None:
    machine = raw_machine(ROME)
    for reader in readers.values():
        asked = [
            reader.encrypts(machine, text) for text in ("mem_encrypt=on", "", "mem_encrypt=on")
        ]
        assert asked == [True, False, True]
