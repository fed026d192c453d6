# SPDX-License-Identifier: GPL-2.0-or-later
"""SEAMCALLs are made by a kernel's own wrapper, and caught by its own exception table."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from staleline.evidence.registers import CpuidTable
from staleline.kernel.addresses import KERNEL_MAP
from staleline.kernel.boot.decision import RawMachine, SiteDecision
from staleline.kernel.boot.seamcalls import can_seamcall, make_seamcalls
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.emulator import Emulator
from staleline.kernel.emulator.memory import MachineMemory
from staleline.kernel.emulator.traps import LogicalCpu
from staleline.kernel.image.exceptiontable import fault_fixups
from staleline.kernel.image.image import KernelImage, Section, Segment
from staleline.kernel.image.symbols import SymbolTable
from staleline.kernel.sites.runner import KernelReader
from tests.kernel.inventory.test_inventory import Names
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid
from tests.kernel.places import address_of

TEXT = KERNEL_MAP + 0x100_0000
FLAG = TEXT + 0x800
TABLE = TEXT + 0x400
MARK = "c605" + (0x800 - 7).to_bytes(4, "little").hex() + "01"  # mov byte [flag], 1
SEAMCALL = "660f01cf"


def entry(place: int, instruction: int, fixup: int, kind: int) -> bytes:
    """``struct exception_table_entry`` (asm/extable.h, linux 7.3.4)."""
    return struct.pack("<iii", instruction - place, fixup - (place + 4), kind)


def kernel(code: str, names: Mapping[str, int], *, table: bytes = b"") -> KernelImage:
    """`code` at `TEXT`, an exception table, and symbols."""
    text = bytearray(0x1000)
    text[: len(bytes.fromhex(code))] = bytes.fromhex(code)
    text[0x400 : 0x400 + len(table)] = table
    symbols = sorted({**names, "end": TEXT + 0x1000}.items(), key=lambda item: item[1])
    return KernelImage(
        "test", None, None, None,
        (Segment(TEXT, 0x100_0000, memoryview(bytes(text)), len(text), executable=True),),
        {"__ex_table": Section("__ex_table", TABLE, len(table))},
        SymbolTable(
            np.array([at for _, at in symbols], np.uint64), Names([name for name, _ in symbols])
        ),
    )  # fmt: skip


def call(image: KernelImage, *, seam: bool) -> tuple[LogicalCpu, int]:
    """A CPU after `make_seamcalls`, and the flag."""
    memory = MachineMemory(image)
    emulator = Emulator(memory, hex, set, lambda: fault_fixups(image))
    cpu = LogicalCpu(0, CpuidTable({}), {}, seam=seam)
    make_seamcalls(image, emulator, [cpu])
    return cpu, memory.read_int(FLAG, 1)


WRAPPER = {"__seamcall": TEXT + 0x100, "tdh_phymem_cache_wb": TEXT}


def test_the_kernel_s_wrapper_marks_the_cpu():
    cpu, flag = call(kernel(MARK + SEAMCALL + "c3", WRAPPER), seam=True)
    assert (cpu.seamcalls, flag) == (1, 1)


def test_none_without_a_tdx_module():
    cpu, flag = call(kernel(MARK + SEAMCALL + "c3", WRAPPER), seam=False)
    assert (cpu.seamcalls, flag) == (0, 0)


def test_none_by_a_kernel_that_cannot():
    image = kernel(MARK + SEAMCALL + "c3", {"tdh_phymem_cache_wb": TEXT})
    assert not can_seamcall(image)
    assert call(image, seam=True)[0].seamcalls == 0


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (kernel(MARK + "c3", WRAPPER), r"tdh_phymem_cache_wb\(\) on CPU 0 made no SEAMCALL"),
        (kernel("f4", WRAPPER), r"tdh_phymem_cache_wb\(\) on CPU 0 did not return: halted"),
        (kernel("c3", {"__seamcall": TEXT}), "the image has no symbol tdh_phymem_cache_wb"),
    ],
)
def test_what_does_not_get_there_is_said(image, reason):
    with pytest.raises(DerivationError, match=reason):
        call(image, seam=True)


def test_fixups_are_those_that_only_tell_the_exception():
    """EX_TYPE_FAULT is 2 in the low byte of the type (asm/extable_fixup_types.h, 7.3.4)."""
    table = b"".join(
        entry(TABLE + 12 * number, TEXT + 0x10 * number, TEXT + 0x200 + number, kind)
        for number, kind in enumerate((2, 1, 2 | 0x300, 3))
    )
    assert fault_fixups(kernel("c3", {}, table=table)) == {
        TEXT: TEXT + 0x200,
        TEXT + 0x20: TEXT + 0x202,
    }


def test_an_image_without_exception_table_has_no_fixups():
    bare = kernel("c3", {})
    image = KernelImage("test", None, None, None, bare.segments, {}, bare.symbols)
    assert fault_fixups(image) == {}


@pytest.mark.parametrize("name", ["Rome", "Sapphire Rapids"])
def test_it_makes_no_difference_to_debian_s_kernels(real_kernels, name):
    """They are built without CONFIG_INTEL_TDX_HOST (linux-config-7.3, 7.3.4)."""
    image = real_kernels["7"].image
    assert not can_seamcall(image)
    reader, table = KernelReader(image), cpuid(name)
    before, after = (
        reader.decide(RawMachine(table, table, {SYSCFG: MEM_ENCRYPT_ENABLED}, seamcalled=called))
        for called in (False, True)
    )
    assert before == after


class Without:
    """The names of a table but for one."""

    def __init__(self, table: SymbolTable, name: str) -> None:
        self._names, self._left_out = table._names, name

    def name(self, index: int) -> str:
        return self._names.name(index)

    def find(self, name: str) -> list[int]:
        return [] if name == self._left_out else list(self._names.find(name))


class TestATdxHostWithoutTheNameOfWhatMakesItOne:
    """Its set-up would be left out unseen, and the answer would be that of a kernel without TDX."""

    INTEL = RawMachine(cpuid("Sapphire Rapids"), cpuid("Sapphire Rapids"), {0x87: 32 << 32})

    def test_is_unknown_if_another_function_has_taken_it_in(self, real_kernels):
        image = real_kernels["7"].image
        table = image.symbols.with_added({"__seamcall": address_of(image, "panic")})
        decision = KernelReader(replace(image, symbols=table)).decide(self.INTEL)
        reason = "the image makes SEAMCALLs and has no symbol tdx_init"
        assert decision.stop_this_cpu == SiteDecision(None, reason)

    def test_is_unknown_if_it_may_be_set_to_hibernate(self, real_kernels):
        """hibernation_available(), kernel/power/hibernate.c:111 and tdx.c:1558 (7.3.4)."""
        image = real_kernels["7"].image
        panic = address_of(image, "panic")
        names = {"__seamcall": panic, "tdx_init": panic, "hibernate": panic}
        table = SymbolTable(image.symbols.sorted_addresses, Without(image.symbols, "nohibernate"))
        reader = KernelReader(replace(image, symbols=table.with_added(names)))
        decision = reader.decide(self.INTEL)
        assert decision.stop_this_cpu == SiteDecision(None, "the image has no symbol nohibernate")
