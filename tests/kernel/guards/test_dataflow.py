# SPDX-License-Identifier: GPL-2.0-or-later
"""What led to a step: through registers, parts of registers, flags and memory.

Instruction effects follow the Intel SDM, volume 1 section 3.4.1.1 (partial registers) and
volume 2 (flags).
"""

from __future__ import annotations

import pytest

from staleline.kernel.guards.dataflow import disassembled, what_led_to
from staleline.kernel.rerun.trace import Access, ExecutedInstruction, conditional_outcomes

CODE = 0xFFFF_FFFF_8100_0000
SLOT = 0xFFFF_8880_0003_0000


def steps(*codes: str) -> list[ExecutedInstruction]:
    """Instructions by hexadecimal bytes, one after another; ``>8`` writes 8 bytes at SLOT."""
    found, address = [], CODE
    for text in codes:
        code, *accesses = text.split()
        step = ExecutedInstruction(address, bytes.fromhex(code))
        for access in accesses:
            value = None if access[0] == ">" else 0
            offset, _, size = access[1:].rpartition("+")
            step.accesses.append(Access(SLOT + int(offset or 0), int(size), value))
        found.append(step)
        address += len(step.code)
    return found


@pytest.mark.parametrize(
    ("codes", "led"),
    [
        # mov eax, edi; mov ebx, esi; test al, al; je
        (["89f8", "89f3", "84c0", "7402"], {0, 2, 3}),
        # mov al, 1 keeps the rest of rax; mov eax, 1 does not; cmp rax, rbx; je
        (["89f8", "b001", "4839d8", "7402"], {0, 1, 2, 3}),
        (["89f8", "b801000000", "4839d8", "7402"], {1, 2, 3}),
        # xor eax, eax does not read eax; sub ecx, eax does
        (["89f8", "31c0", "85c0", "7402"], {1, 2, 3}),
        (["89f8", "29c1", "7402"], {0, 1, 2}),
        # mov [rdi], eax; mov ebx, [rdi]; test ebx, ebx; je: through memory
        (["89f8", "8907 >4", "8b1f <4", "85db", "7402"], {0, 1, 2, 3, 4}),
        # the other half of what was written has nothing to do with it
        (["8907 >4", "8b5f04 <4+4", "85db", "7402"], {1, 2, 3}),
        # rdi says where, not what: mov edi, 5; mov ebx, [rdi]; test ebx, ebx; je
        (["bf05000000", "8b1f <4", "85db", "7402"], {1, 2, 3}),
        # but of an address that is itself the value, it does: lea rbx, [rdi + 1]
        (["bf05000000", "488d5f01", "4885db", "7402"], {0, 1, 2, 3}),
        # cpuid: out of eax and ecx, into eax to edx
        (["b81f000080", "31c9", "ba01000000", "0fa2", "a801", "7402"], {0, 1, 3, 4, 5}),
        # mov eax, edi; test [rdi], eax; je: of memory too
        (["89f8", "8507 <4", "7402"], {0, 1, 2}),
        # mov eax, edi; test eax, 1 << 8; test eax, 1 << 9; je: what is in eax stays
        (["89f8", "a900010000", "a900020000", "7402"], {0, 2, 3}),
        # mov eax, edi; rmpadjust, which the decoder does not know; test ebx, ebx; je
        (["89f8", "f30f01fe", "85db", "7402"], {0, 1, 2, 3}),
        # flags of an instruction in between are those that count
        (["84c0", "84db", "7402"], {1, 2}),
        # r8 by each of its names: mov r8d, eax; test r8, r8; je
        (["89f8", "4189c0", "4d85c0", "7402"], {0, 1, 2, 3}),
    ],
)
def test_what_led_to_the_last_step(codes: list[str], led: set[int]) -> None:
    trace = steps(*codes)
    assert what_led_to(trace, [len(trace) - 1]) == led


def test_where_conditional_jumps_went() -> None:
    trace = [
        ExecutedInstruction(CODE, bytes.fromhex("7402")),  # je CODE+4
        ExecutedInstruction(CODE + 4, bytes.fromhex("0f8510000000")),  # jne, six bytes
        ExecutedInstruction(CODE + 10, bytes.fromhex("eb00")),  # jmp: not conditional
        ExecutedInstruction(CODE, bytes.fromhex("7402")),
        ExecutedInstruction(CODE + 2, bytes.fromhex("f4")),
    ]
    assert conditional_outcomes(trace) == {
        CODE: frozenset({CODE + 4, CODE + 2}),
        CODE + 4: frozenset({CODE + 10}),
    }


def test_disassembly_names_where_jumps_go() -> None:
    def name(address: int) -> str:
        return f"function+{address - CODE:#x}"

    jump, flush, junk = steps("7402", "0f09", "06")
    assert disassembled(jump, name) == "je function+0x4"
    assert disassembled(flush, name) == "wbinvd"
    assert disassembled(junk, name) == "(bytes 06)"


def test_atts_syntax_has_the_source_first() -> None:
    # Opcode 89 /r: mov %ebx, %eax in AT&T's syntax, mov eax, ebx in Intel's (SDM vol. 2).
    (move,) = steps("89d8")
    assert disassembled(move, str) == "mov eax, ebx"
    assert disassembled(move, str, att=True) == "movl %ebx, %eax"
