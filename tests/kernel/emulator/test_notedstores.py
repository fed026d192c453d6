# SPDX-License-Identifier: GPL-2.0-or-later
"""What a CPU stores behind its WBINVD: kept in order, or told that it was not."""

from __future__ import annotations

import capstone  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.kernel.emulator.notedstores import (
    MOST_NOTES,
    NotedAccess,
    NotedStores,
    flushes_a_line,
)

CODE, LINE = 0x1000, 0x2000
DISASSEMBLER = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)


def test_what_one_instruction_stores_by_and_by_is_one_store() -> None:
    notes = NotedStores()
    for step in range(4):  # rep stosq
        notes.note(CODE, LINE + 8 * step, 8, is_write=True)
    assert notes.accesses == [NotedAccess(CODE, LINE, 32, True)]


@pytest.mark.parametrize(
    "second",
    [
        NotedAccess(CODE + 4, LINE + 8, 8, True),  # another instruction
        NotedAccess(CODE, LINE + 16, 8, True),  # a gap
        NotedAccess(CODE, LINE + 8, 8, False),  # a read
    ],
)
def test_anything_else_is_a_note_of_its_own(second: NotedAccess) -> None:
    notes = NotedStores()
    notes.note(CODE, LINE, 8, is_write=True)
    notes.note(second.code, second.address, second.size, is_write=second.is_write)
    assert notes.accesses == [NotedAccess(CODE, LINE, 8, True), second]


def test_the_same_place_again_is_told_once() -> None:
    """A repeated instruction is told again of what it did last, once it was stopped in between."""
    notes = NotedStores()
    for _ in range(2):
        notes.note(CODE, LINE, 8, is_write=True)
    assert notes.accesses == [NotedAccess(CODE, LINE, 8, True)]


def test_more_than_is_kept_is_told_and_not_dropped_in_silence() -> None:
    notes = NotedStores()
    for number in range(MOST_NOTES):
        notes.note(CODE, LINE + 64 * number, 8, is_write=True)
    before = notes.too_many
    notes.note(CODE, 0, 8, is_write=True)
    assert (before, notes.too_many) == (False, True)
    assert len(notes.accesses) == MOST_NOTES


def test_a_line_that_is_flushed_matters_behind_a_store_only() -> None:
    notes = NotedStores()
    notes.flush_line()
    before = notes.flushed_lines
    notes.note(CODE, LINE, 8, is_write=True)
    notes.flush_line()
    assert (before, notes.flushed_lines) == (False, True)


def test_a_wbinvd_begins_anew() -> None:
    notes = NotedStores()
    notes.note(CODE, LINE, 8, is_write=True)
    notes.flush_line()
    notes.clear()
    assert (notes.accesses, notes.flushed_lines, notes.too_many) == ([], False, False)


@pytest.mark.parametrize(
    ("code", "flushes"),
    [
        ("0fae3f", True),  # clflush [rdi]
        ("660fae3f", True),  # clflushopt [rdi]
        ("660fae37", True),  # clwb [rdi]
        ("410fae38", True),  # clflush [r8]
        ("66410fae38", True),  # clflushopt [r8]
        # .byte 0x3e; clflush [rdi]: linux 6.12.117 arch/x86/include/asm/special_insns.h:185
        ("3e0fae3f", True),
        ("2e660fae37", True),  # cs clwb [rdi]
        ("f30fae37", False),  # umonitor or clrssbsy
        ("0faef8", False),  # sfence
        ("0faef0", False),  # mfence
        ("0fae37", False),  # xsaveopt [rdi]
        ("0f09", False),
        ("0fae", False),
        ("", False),
    ],
)
def test_which_instructions_flush_a_line(code: str, flushes: bool) -> None:
    assert flushes_a_line(bytes.fromhex(code)) is flushes


@given(
    st.sampled_from((b"", b"\x66", b"\x3e", b"\x66\x3e", b"\x3e\x66", b"\x67")),
    st.sampled_from((b"", *(bytes([rex]) for rex in range(0x40, 0x50)))),
    st.integers(0, 255),
)
def test_a_disassembler_agrees(prefix: bytes, rex: bytes, modrm: int) -> None:
    code = prefix + rex + b"\x0f\xae" + bytes([modrm]) + bytes(8)
    read = next(DISASSEMBLER.disasm(code, 0, 1), None)
    named = {"clflush", "clflushopt", "clwb"}
    assert flushes_a_line(code) is (read is not None and read.mnemonic in named)
