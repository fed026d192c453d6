# SPDX-License-Identifier: GPL-2.0-or-later
"""How an instruction that turns on something looks the other way round (Intel SDM, volume 2)."""

from __future__ import annotations

import capstone  # type: ignore[import-untyped]
import pytest

from staleline.kernel.influence.turns import turned
from staleline.kernel.rerun.trace import Access, ExecutedInstruction


def text(code: bytes) -> str:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    return "; ".join(f"{i.mnemonic} {i.op_str}".strip() for i in decoder.disasm(code, 0))


@pytest.mark.parametrize(
    ("code", "otherwise"),
    [
        ("7402", "jne 4"),
        ("0f8c00010000", "jge 0x106"),
        ("2e7402", "jne 5"),
        ("440f44c8", "cmovne r9d, eax"),
        ("66410f95c0", "sete r8b"),
    ],
)
def test_the_opposite_condition(code: str, otherwise: str) -> None:
    changed = turned(ExecutedInstruction(0, bytes.fromhex(code)), 0)
    assert changed is not None
    assert text(changed) == otherwise


@pytest.mark.parametrize(("following", "otherwise"), [(2, "jmp 0x12"), (0x12, "nop; nop")])
def test_a_jump_on_rcx_is_taken_or_not(following: int, otherwise: str) -> None:
    changed = turned(ExecutedInstruction(0, bytes.fromhex("e310")), following)
    assert changed is not None
    assert text(changed) == otherwise


def test_a_repeated_store_happens_not_at_all_or_once() -> None:
    happened = ExecutedInstruction(0, bytes.fromhex("f348ab"), [Access(0x1000, 8, None)])
    assert turned(happened, 0) == b"\x90\x90\x90"
    assert turned(ExecutedInstruction(0, bytes.fromhex("f348ab")), 3) == bytes.fromhex("9048ab")


@pytest.mark.parametrize("code", ["c3", "ffe0", "eb10", "0f09", "90", "48ab", "f390"])
def test_what_does_not_turn(code: str) -> None:
    assert turned(ExecutedInstruction(0, bytes.fromhex(code)), 0) is None
