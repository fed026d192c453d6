# SPDX-License-Identifier: GPL-2.0-or-later
"""Writers are found of each of several pointers, whether these lie beside each other or far apart.

Forms of stores are planted into real kernels by tests/kernel/sites/test_planted_writers.py.
"""

from __future__ import annotations

from itertools import combinations

import pytest

from staleline.kernel.inventory.pointers import Pointers
from staleline.kernel.inventory.tablewrites import TableWrite, table_writes
from tests.kernel.inventory.test_inventory import TEXT, kernel

#: 64 MiB lie between the last two.
POINTERS = {
    "first": TEXT + 0x20_0000,
    "beside": TEXT + 0x20_0008,
    "near": TEXT + 0x40_0000,
    "far": TEXT + 0x440_0000,
}


def store(address: int) -> str:
    """``mov [address], rax``, behind eight bytes that no prefix reaches over."""
    return "90" * 8 + "48890425" + (address & 0xFFFF_FFFF).to_bytes(4, "little").hex() + "c3"


@pytest.mark.parametrize(
    "names", [some for count in range(1, 5) for some in combinations(POINTERS, count)]
)
def test_each_is_written_by_the_function_that_stores_there(names):
    functions = {f"writes_{name}": store(address) for name, address in POINTERS.items()}
    image = kernel(**functions, following="c3")
    tables = [Pointers(POINTERS[name], (POINTERS[name],)) for name in reversed(names)]
    writes = {TableWrite(f"writes_{name}", POINTERS[name]) for name in names}
    assert set(table_writes(image, tables)) == writes
