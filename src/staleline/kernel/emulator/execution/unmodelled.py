# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the instructions at which a run fails would have done something on a CPU."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from staleline.kernel.emulator.refused import Operation

if TYPE_CHECKING:
    from staleline.kernel.emulator.refused import RefusedInstruction

__all__ = ["is_unmodelled"]

_UNDEFINED = (Operation.UD1, Operation.UD2)


def is_unmodelled(code: bytes, refused: RefusedInstruction | None) -> bool:
    """Does it ask for what the machine does not have, and not merely fault?

    It faults at a BUG, and on an address that is none, where a changed pointer led it.
    """
    return refused.operation not in _UNDEFINED if refused else not _accesses_memory(code)


@lru_cache(maxsize=256)
def _accesses_memory(code: bytes) -> bool:
    # Most runs do not fail.
    import capstone  # type: ignore[import-untyped]  # noqa: PLC0415

    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    instruction = next(decoder.disasm(code, 0, 1), None)
    if instruction is None:
        return False
    goes = (capstone.CS_GRP_RET, capstone.CS_GRP_CALL, capstone.CS_GRP_JUMP)
    by_stack = instruction.mnemonic.startswith(("push", "pop", "leave", "enter"))
    operands = any(one.type == capstone.x86.X86_OP_MEM for one in instruction.operands)
    return operands or by_stack or any(map(instruction.group, goes))
