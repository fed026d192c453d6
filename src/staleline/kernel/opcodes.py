# SPDX-License-Identifier: GPL-2.0-or-later
"""Machine code that is looked for in kernels, or written into them (SDM volume 2)."""

from __future__ import annotations

from typing import Final

__all__ = ["HLT", "NOP", "RET", "RETURN_ZERO", "REX", "WBINVD"]

HLT: Final = b"\xf4"
NOP: Final = b"\x90"
RET: Final = b"\xc3"
#: ``xor %eax, %eax; ret``
RETURN_ZERO: Final = b"\x31\xc0" + RET
WBINVD: Final = b"\x0f\x09"
#: The prefixes of 64-bit code.
REX: Final = range(0x40, 0x50)
