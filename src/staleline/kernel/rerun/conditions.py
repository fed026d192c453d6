# SPDX-License-Identifier: GPL-2.0-or-later
"""How instructions hold the condition on which they do something."""

from __future__ import annotations

from typing import Final

__all__ = ["JUMPS_NEAR", "JUMPS_SHORT", "inverted"]

#: Jcc with a displacement of one byte, and the second byte of those with four (SDM vol. 2, opcode
#: maps).
JUMPS_SHORT: Final = range(0x70, 0x80)
JUMPS_NEAR: Final = range(0x80, 0x90)


def inverted(code: bytes, at: int) -> bytes:
    """An instruction on the opposite condition.

    Args:
        code: The instruction.
        at: Which of its bytes has the condition.
    """
    # The lowest bit negates a condition (SDM vol. 2, appendix B, tttn).
    return code[:at] + bytes([code[at] ^ 1]) + code[at + 1 :]
