# SPDX-License-Identifier: GPL-2.0-or-later
"""What ThinLTO renamed is found under the name it has in the source."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from staleline.kernel.image.assembly import load_image
from staleline.kernel.image.image import KernelImage
from tests.kernel.kernelwriter import (
    BANNER,
    TEXT,
    Kernel,
    Layout,
    Symbol,
    sized,
    some_symbols,
    write_bzimage,
)

CLANG = BANNER.replace("gcc 14", "Debian clang version 19.1.7, Debian LLD 19.1.7")
PROMOTED = (
    Symbol("identify_cpu.llvm.1234567890", TEXT + 0x9_0300, "t"),
    # of two files, and so is one of these
    Symbol("setup.llvm.1", TEXT + 0x9_0310, "t"),
    Symbol("setup.llvm.2", TEXT + 0x9_0320, "t"),
    Symbol("duplicate.llvm.3", TEXT + 0x9_0330, "t"),
)


def load(path: Path, banner: str) -> KernelImage:
    symbols = [*some_symbols(Layout.V7_0), *PROMOTED]
    elf = Kernel(symbols=symbols, banner=banner).elf()
    path.write_bytes(write_bzimage(sized(gzip.compress(elf, 1, mtime=0), len(elf))))
    return load_image(path)


@pytest.fixture
def image(tmp_path: Path) -> KernelImage:
    return load(tmp_path / "vmlinuz", CLANG)


def test_a_static_function_is_found_by_its_own_name(image: KernelImage) -> None:
    assert image.symbols.addresses("identify_cpu") == (PROMOTED[0].address,)
    assert image.symbols.enclosing(PROMOTED[0].address + 1) == ("identify_cpu", 1)


def test_its_whole_name_stays(image: KernelImage) -> None:
    assert image.symbols.address(PROMOTED[0].name) == PROMOTED[0].address


def test_a_name_that_may_mean_two_is_none(image: KernelImage) -> None:
    assert "setup" not in image.symbols
    assert PROMOTED[3].address not in image.symbols.addresses("duplicate")


def test_kernels_of_other_compilers_are_not_searched(tmp_path: Path) -> None:
    assert "identify_cpu" not in load(tmp_path / "vmlinuz", BANNER).symbols
