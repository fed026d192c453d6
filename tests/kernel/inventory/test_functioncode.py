# SPDX-License-Identifier: GPL-2.0-or-later
"""Of a function's code the rest is told as all of it is, and what is no code is seen anywhere."""

from __future__ import annotations

import pytest

from staleline.kernel.derivation import DerivationError
from staleline.kernel.inventory.functioncode import function_code
from tests.kernel.inventory.test_inventory import FUNCTION_SIZE, TEXT, kernel

#: nop; mov rbx, rax; seamcall, which capstone does not read; mov rax, [rip]; mov cr4, rax; invlpgb
_CODE = "90 4889c3 660f01cf 488b0500000000 0f22e0 0f01fe c3"
#: PUSH ES, which there is none of in 64-bit mode (SDM volume 2, PUSH).
_NO_CODE = "06"


def told(code: str, told_from: int = 0) -> list[tuple[int, int, str]]:
    image = kernel(function=code, following="c3")
    code_told = function_code(image, TEXT, told_from)
    return [(one.address, one.size, one.mnemonic) for one in code_told]


@pytest.mark.parametrize("distance", range(FUNCTION_SIZE + 1))
def test_what_ends_behind_an_address_is_told_from_there_on(distance):
    behind = [one for one in told(_CODE) if one[0] + one[1] > TEXT + distance]
    assert told(_CODE, TEXT + distance) == behind


@pytest.mark.parametrize("distance", range(12))
def test_what_is_no_code_is_seen_before_that_address_and_behind_it(distance):
    with pytest.raises(DerivationError, match="no instruction that is known here"):
        told(f"90 4889c3 {_NO_CODE} 4889c3 c3", TEXT + distance)
