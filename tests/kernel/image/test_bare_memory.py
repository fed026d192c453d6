# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's memory without headers: refused with what is missing, and read once that is there.

``objcopy -O binary vmlinux`` writes it, and so do debuggers and monitors of hypervisors.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.errors import KernelImageError
from staleline.kernel.boot.decision import RawMachine
from staleline.kernel.image.assembly import load_image
from staleline.kernel.image.image import KernelImage
from staleline.kernel.sites.runner import KernelReader
from tests.conftest import RealKernel
from tests.kernel.kernelwriter import TEXT, Part, Symbol, symbol_table, write_elf
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid

ROME = RawMachine(cpuid("Rome"), cpuid("Rome"), {SYSCFG: MEM_ENCRYPT_ENABLED}, mem_encrypt=True)
#: With the per-CPU areas linked at 0, and in place.
SERIES = ["6.12", "7"]


@pytest.fixture(scope="module", params=SERIES)
def image(request: pytest.FixtureRequest, real_kernels: dict[str, RealKernel]) -> KernelImage:
    return real_kernels[request.param].image


def memory_of(image: KernelImage) -> bytes:
    """As ``objcopy -O binary`` has it: by physical address, from the first byte on."""
    start = min(segment.physical_address for segment in image.segments)
    content = bytearray()
    for segment in sorted(image.segments, key=lambda segment: segment.physical_address):
        content = content.ljust(segment.physical_address - start, b"\0") + segment.data
    return bytes(content)


def linked_at(address: int, content: bytes) -> bytes:
    """As ``ld -b binary`` makes an ELF file of it, with symbols of its own."""
    symbols, names = symbol_table([Symbol("_binary_memory_start", address)])
    return write_elf(
        [
            Part(".data", content, address, flags=7, executable=True),
            Part(".symtab", symbols, kind=2, flags=0, link=3),
            Part(".strtab", names, kind=3, flags=0),
        ]
    )


def test_without_headers_it_is_refused_with_what_is_missing(
    image: KernelImage, tmp_path: Path
) -> None:
    path = tmp_path / "memory"
    path.write_bytes(memory_of(image))
    with pytest.raises(KernelImageError) as refused:
        load_image(path)
    assert f"memory of a kernel (Linux version {image.release}) without headers" in str(
        refused.value
    )


def test_linked_where_it_was_loaded_it_is_read_as_its_image(
    image: KernelImage, tmp_path: Path
) -> None:
    path = tmp_path / "memory.elf"
    path.write_bytes(linked_at(TEXT, memory_of(image)))
    decision, of_image = (KernelReader(one).decide(ROME) for one in (load_image(path), image))
    assert decision.stop_this_cpu.flushes
    assert decision.stop_this_cpu == of_image.stop_this_cpu
    assert decision.relocate_kernel == of_image.relocate_kernel
    assert decision.crash_nmi_callback == of_image.crash_nmi_callback


def test_linked_elsewhere_it_is_refused(image: KernelImage, tmp_path: Path) -> None:
    path = tmp_path / "memory.elf"
    path.write_bytes(linked_at(TEXT + 0x20_0000, memory_of(image)))
    with pytest.raises(KernelImageError, match=r"for other addresses|at another address"):
        load_image(path)


def test_memory_of_a_kernel_that_has_run_is_refused(image: KernelImage, tmp_path: Path) -> None:
    """arch/x86/kernel/smpboot.c do_boot_cpu() (6.12, 7.3) has set the variable."""
    variable, begins = map(image.symbols.only_address, ("initial_code", "start_secondary"))
    assert variable is not None
    assert begins is not None
    content = bytearray(memory_of(image))
    content[variable - TEXT : variable - TEXT + 8] = begins.to_bytes(8, "little")
    path = tmp_path / "memory.elf"
    path.write_bytes(linked_at(TEXT, bytes(content)))
    with pytest.raises(KernelImageError, match="the memory of a kernel that has run"):
        load_image(path)


def test_a_text_about_a_kernel_is_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("[    0.000000] Linux version 6.12.117 (someone@example.org) #1 SMP\n")
    with pytest.raises(KernelImageError, match="not a kernel image"):
        load_image(path)
