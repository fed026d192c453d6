# SPDX-License-Identifier: GPL-2.0-or-later
"""Decoding agrees with a disassembler on length and operation."""

from __future__ import annotations

import capstone  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.kernel.emulator.refused import (
    LONGEST_INSTRUCTION,
    Operation,
    RefusedInstruction,
    decode_refused,
)

DISASSEMBLER = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
MOVES = {
    Operation.MOV_FROM_CR: "mov",
    Operation.MOV_TO_CR: "mov",
    Operation.MOV_FROM_DR: "mov",
    Operation.MOV_TO_DR: "mov",
    Operation.MOV_TO_SS: "mov",
}
GENERAL = [
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *(f"r{n}" for n in range(8, 16)),
]


@pytest.mark.parametrize(
    ("code", "operation"),
    [
        ("0f09", Operation.WBINVD),
        ("f4", Operation.HLT),
        ("0f32", Operation.RDMSR),
        ("0f30", Operation.WRMSR),
        ("0f31", Operation.RDTSC),
        ("0f01f9", Operation.RDTSCP),
        ("0f06", Operation.CLTS),
        ("0f0b", Operation.UD2),
        ("67480fb93a", Operation.UD1),
        ("0f011c24", Operation.LIDT),
        ("0f011424", Operation.LGDT),
        ("0f013d00000000", Operation.INVLPG),
        ("0f01d1", Operation.XSETBV),
        ("0f01c8", Operation.MONITOR),
        ("0f01c9", Operation.MWAIT),
        ("0f01f8", Operation.SWAPGS),
        ("660f01cf", Operation.SEAMCALL),
        ("0f01ee", Operation.RDPKRU),
        ("0f01ef", Operation.WRPKRU),
        ("0f00d0", Operation.LLDT),
        ("0f00d8", Operation.LTR),
        ("8ed0", Operation.MOV_TO_SS),
    ],
)
def test_each_operation(code, operation):
    assert decode_refused(bytes.fromhex(code)) == RefusedInstruction(operation, len(code) // 2)


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("f30f09", "WBNOINVD does not invalidate"),
        ("0f08", "INVD does not write back"),
        ("0f33", "RDPMC is not modelled"),
        ("0f01cf", "ENCLS is not modelled; SEAMCALL is it with prefix 66"),
        ("660f01cc", "TDCALL is not modelled"),
        ("f30faec8", "RDGSBASE of 32 bits is not modelled"),
        ("8ec0", "ES may be loaded in ring 3"),
        ("90", "NOP is never refused"),
        ("", "no code at all"),
    ],
)
def test_what_is_left_alone(code, what):
    assert decode_refused(bytes.fromhex(code)) is None, what


@given(
    st.sampled_from([0x20, 0x21, 0x22, 0x23]),
    st.sampled_from([0, 2, 3, 4]),
    st.integers(0, 15),
)
def test_moves_name_their_registers(opcode, special, general):
    rex = bytes([0x41]) if general & 8 else b""
    code = rex + bytes([0x0F, opcode, 0xC0 | special << 3 | general & 7])
    found = decode_refused(code)
    (shown,) = DISASSEMBLER.disasm(code, 0)
    assert found is not None
    assert (found.special, found.general) == (special, general)
    assert GENERAL[general] in shown.op_str.split(", ")
    assert found.length == shown.size


@given(st.sampled_from(["rdfsbase", "rdgsbase", "wrfsbase", "wrgsbase"]), st.integers(0, 15))
def test_segment_bases_name_their_register(name, general):
    """F3 REX.W 0F AE /0 to /3 (APM volume 3, RDFSBASE and WRFSBASE)."""
    number = ["rdfsbase", "rdgsbase", "wrfsbase", "wrgsbase"].index(name)
    code = bytes([0xF3, 0x48 | general >> 3, 0x0F, 0xAE, 0xC0 | number << 3 | general & 7])
    (shown,) = DISASSEMBLER.disasm(code, 0)
    assert (shown.mnemonic, shown.op_str) == (name, GENERAL[general])
    assert decode_refused(code) == RefusedInstruction(Operation(name), shown.size, general=general)


OPENINGS = st.sampled_from([b"", b"\x0f", b"\x48\x0f", b"\x2e\x0f", b"\x66\x41\x0f", b"\xf3\x0f"])


@given(OPENINGS, st.binary(min_size=LONGEST_INSTRUCTION, max_size=LONGEST_INSTRUCTION))
def test_any_bytes(opening, rest):
    """Where both know the instruction, they agree; what we know, the disassembler knows."""
    code = opening + rest
    found = decode_refused(code)
    if found is None:
        return
    shown = next(DISASSEMBLER.disasm(code, 0), None)
    if shown is not None:
        if found.operation is not Operation.UD1:  # capstone 5 leaves out its ModRM byte
            assert found.length == shown.size
        assert shown.mnemonic == MOVES.get(found.operation, found.operation)


@given(
    st.sampled_from([(0x01, 2), (0x01, 3), (0x01, 7), (0x00, 2), (0x00, 3)]),
    st.integers(0, 2),
    st.integers(0, 7),
    st.binary(min_size=8, max_size=8),
)
def test_memory_operands_have_their_length(group, mode, base, rest):
    opcode, register = group
    code = bytes([0x0F, opcode, mode << 6 | register << 3 | base]) + rest
    shown = next(DISASSEMBLER.disasm(code, 0))
    found = decode_refused(code)
    assert found is not None
    assert found.length == shown.size
