# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels built without CONFIG_KALLSYMS_ALL: real ones, with their tables written again.

What scripts/kallsyms.c ``symbol_valid()`` (5.10 to 7.3) would have dropped is dropped: all
that lies outside ``_stext`` to ``_etext`` and ``_sinittext`` to ``_einittext``, but for names
that begin with ``__start_`` or ``__stop_`` from 6.12 on.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from staleline.errors import KernelImageError
from staleline.kernel.boot.decision import Decision
from staleline.kernel.file.container import unpack_kernel
from staleline.kernel.file.elf import read_elf
from staleline.kernel.file.source import MemoryBytes
from staleline.kernel.image.assembly import load_image
from staleline.kernel.image.datasymbols import data_symbols
from staleline.kernel.image.exports import exported_symbols
from staleline.kernel.image.image import KernelImage
from staleline.kernel.image.kallsyms import _tables_and_names
from staleline.kernel.image.symbols import AmbiguousNameError, SymbolTable, no_symbols
from staleline.kernel.image.systemmap import find_system_map, parse_system_map
from staleline.kernel.influence.after_the_stop import waking_jumps
from staleline.kernel.sites.runner import KernelReader
from tests.kernel.kernelwriter import (
    PERCPU,
    PERCPU_SIZE,
    RELEASE,
    RODATA,
    TEXT,
    Kernel,
    Layout,
    Symbol,
    some_symbols,
    write_kallsyms,
)
from tests.kernel.machines import cpuid, every_setting
from tests.kernel.places import address_of

EXPORTS = (Symbol("boot_cpu_data", RODATA + 8), Symbol("function_3", TEXT + 64))


def listed(symbols: SymbolTable) -> list[tuple[str, int]]:
    found = []
    for address in np.unique(symbols.sorted_addresses).tolist():
        found += [(name, address) for name in symbols.names_at(address)]
    return found


def functions_of(image: KernelImage) -> list[Symbol]:
    """What symbol_valid() keeps; the end of a range belongs to it."""
    ends = [("_stext", "_etext"), ("_sinittext", "_einittext")]
    assert image.release is not None
    ranges = [(address_of(image, a), address_of(image, b)) for a, b in ends]
    return [
        Symbol(name, address, "t")
        for name, address in listed(image.symbols)
        if any(first <= address <= last for first, last in ranges)
        or (image.release[:4] not in ("5.10", "6.1.") and name.startswith(("__start_", "__stop_")))
    ]


LAYOUTS = {"5.10": Layout.V5_10, "6.12": Layout.V6_12, "7": Layout.V7_0}


def with_functions_only(path: Path, layout: Layout) -> bytes:
    """The ELF file of an image, its tables replaced where they lie."""
    image = load_image(path)
    source = unpack_kernel(MemoryBytes("", memoryview(path.read_bytes()))).elf
    elf, rodata = bytearray(source.read(0, source.size)), read_elf(source).section(".rodata")
    assert rodata is not None
    data = memoryview(elf)[rodata.offset : rodata.offset + rodata.size]
    table, names = next((t, n) for t, n in _tables_and_names(data) if n is not None)
    count = len(image.symbols)
    if layout is Layout.V5_10:
        start, room = names.num_syms_at - 8 - (4 * count + 7 & ~7), table.end
    else:
        start, room = names.num_syms_at & ~7, table.end + 4 * count + 3 * count
    room -= start
    tables = write_kallsyms(functions_of(image), layout, rodata.virtual_address + start)
    assert len(tables) <= room
    data[start : start + room] = tables.ljust(room, b"\0")
    return bytes(elf)


@pytest.fixture(scope="module", params=LAYOUTS)
def both(request, real_kernels, tmp_path_factory) -> tuple[KernelImage, KernelImage]:
    """A real kernel, and the same with functions only, read from a file of its own."""
    path = real_kernels[request.param].path
    functions = tmp_path_factory.mktemp("functions") / "vmlinux"
    functions.write_bytes(with_functions_only(path, LAYOUTS[request.param]))
    return load_image(path), load_image(functions)


def test_functions_stay_and_most_variables_go(both):
    whole, functions = both
    assert functions.symbols.addresses("stop_this_cpu") == whole.symbols.addresses("stop_this_cpu")
    assert "linux_banner" not in functions.symbols
    assert len(functions.symbols) < 0.8 * len(whole.symbols)


def test_every_variable_told_is_where_it_is(both):
    whole, functions = both
    told = data_symbols(functions)
    assert len(told) > 8000
    wrong = {name: at for name, at in told.items() if at not in whole.symbols.addresses(name)}
    assert wrong == {}


def test_the_reading_misses_nothing(both):
    """What kernel/boot/startup.py, percpu.py, sites.py and crash.py ask for."""
    whole, functions = both
    needed = ["__per_cpu_start", "__per_cpu_end", "__per_cpu_load", "__per_cpu_offset"]
    needed += ["boot_cpu_data", "sme_me_mask", "sev_status", "page_offset_base", "vmemmap_base"]
    needed += ["this_cpu_off", "cpu_number", "pcpu_hot", "cpus_stop_mask", "stop_cpus_count"]
    needed += ["__cpu_online_mask", "crash_notes", "kexec_va_control_page", "pv_ops"]
    needed += ["__relocate_kernel_start", "__relocate_kernel_end", "kexec_pa_swap_page"]
    needed += ["nohibernate"]
    found = {name: functions.symbols.address(name) for name in needed}
    assert found == {name: whole.symbols.address(name) for name in needed}


@pytest.mark.parametrize("name", ["Rome", "Hygon C86 7185", "Sapphire Rapids"])
def test_decisions_are_those_of_the_whole_table(both, name):
    whole, functions = map(KernelReader, both)
    for machine in every_setting(cpuid(name)):
        assert unnamed(functions.decide(machine)) == unnamed(whole.decide(machine))


def test_nothing_more_decides_whether_stopped_cpus_are_woken(both):
    """What is called through a table without a name is known by what is in it."""
    _, functions = both
    assert waking_jumps(functions) == ()


def unnamed(decision: Decision) -> Decision:
    """Without what only the names of local symbols tell."""
    sites = ("stop_this_cpu", "relocate_kernel", "crash_nmi_callback", "crash_relocate_kernel")
    stores = {name: getattr(decision, name) for name in sites}
    return replace(
        decision,
        **{
            name: replace(site, stores=tuple(replace(one, code="") for one in site.stores))
            for name, site in stores.items()
        },
    )


def small_kernel(**fields) -> Kernel:
    symbols = [s for s in some_symbols(Layout.V7_0) if s.address < RODATA]
    return Kernel(symbols=symbols, **fields)


def system_map(symbols: list[Symbol]) -> str:
    return "".join(f"{s.address:016x} {s.kind} {s.name}\n" for s in symbols)


MAP = [*some_symbols(Layout.V7_0), EXPORTS[0], Symbol("VDSO_CONSTANT", 0x1000, "A")]


@pytest.mark.parametrize(
    ("image", "beside"),
    [
        ("vmlinuz", f"System.map-{RELEASE}"),
        ("vmlinuz", "System.map"),
        ("arch/x86/boot/bzImage", "System.map"),
    ],
)
@pytest.mark.parametrize("kallsyms", [True, False])
def test_the_system_map_of_a_build_has_all_symbols(tmp_path, image, beside, kallsyms):
    path = tmp_path / image
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(small_kernel(exports=EXPORTS, kallsyms=kallsyms).elf())
    (tmp_path / beside).write_text(system_map(MAP))
    symbols = load_image(path).symbols
    assert symbols.address("cpu_info") == PERCPU + 0x40
    assert symbols.address("VDSO_CONSTANT") is None
    assert symbols.enclosing(TEXT + 33) == ("function_1", 1)


@pytest.mark.parametrize("wrong", [EXPORTS[1], Symbol("function_5", TEXT + 96)])
def test_the_map_of_another_build_is_not_used(tmp_path, wrong):
    """One export, or one function that kallsyms lists, is at another address."""
    path = tmp_path / "vmlinux"
    path.write_bytes(small_kernel(exports=EXPORTS).elf())
    moved = Symbol(wrong.name, wrong.address + 4)
    others = [moved if symbol.name == wrong.name else symbol for symbol in MAP]
    (tmp_path / "System.map").write_text(system_map(others))
    assert load_image(path).symbols.address("linux_banner") is None
    assert load_image(path).symbols.address("boot_cpu_data") == EXPORTS[0].address


def test_without_any_symbols_the_error_says_which_map(tmp_path):
    path = tmp_path / "vmlinux"
    path.write_bytes(small_kernel(kallsyms=False).elf())
    with pytest.raises(KernelImageError, match=f"put the System.map-{RELEASE} of this build"):
        load_image(path)
    (tmp_path / "System.map").write_text(system_map(MAP))
    with pytest.raises(KernelImageError, match=r", and \S+/System\.map does not agree with it"):
        load_image(path)  # without exports and sections nothing shows that it is this build's


@pytest.mark.parametrize("series", ["5.10", "6.12", "7-generic"])
def test_sections_show_which_map_is_this_build_s(series, real_kernels, tmp_path):
    """Of a kernel with neither kallsyms nor exports."""
    real = real_kernels[series].image
    image = replace(
        real,
        path=str(tmp_path / "vmlinuz"),
        release="6.99.1-is-installed-nowhere",
        symbols=no_symbols(),
        sections={name: one for name, one in real.sections.items() if "ksymtab" not in name},
    )
    lines = [f"{address:016x} t {name}\n" for name, address in real.symbols.listed()]
    path = tmp_path / "System.map"
    path.write_text("".join(lines))
    found = find_system_map(image)
    assert found is not None
    for name in ("stop_this_cpu", "machine_kexec", "cpu_info", "linux_banner"):
        assert found.addresses(name) == real.symbols.addresses(name)
    for name in ("__start___ex_table", "linux_banner"):
        address = real.symbols.address(name)
        assert address is not None
        moved = f"{address + 4096:016x} t {name}\n"
        path.write_text("".join(moved if f" {name}\n" in line else line for line in lines))
        assert find_system_map(image) is None


def test_zero_based_per_cpu_symbols_of_a_map():
    """Up to 6.15 they are linked at 0; beyond the section are values, not addresses."""
    lines = "0000000000000000 D __per_cpu_start\n0000000000000040 d cpu_info\n"
    lines += f"{PERCPU_SIZE:016x} D __per_cpu_end\n0000000000002000 A constant\nnonsense\n"
    table = parse_system_map(lines.encode(), PERCPU_SIZE)
    assert listed(table) == [
        ("__per_cpu_start", 0),
        ("cpu_info", 0x40),
        ("__per_cpu_end", PERCPU_SIZE),
    ]
    assert len(parse_system_map(lines.encode(), 0)) == 0


def test_added_symbols_are_found_by_name_and_by_place(tmp_path):
    path = tmp_path / "vmlinux"
    path.write_bytes(small_kernel(exports=EXPORTS).elf())
    symbols = load_image(path).symbols
    assert symbols.addresses("function_3") == (TEXT + 64,)
    assert symbols.enclosing(RODATA + 9) == ("boot_cpu_data", 1)
    assert symbols.address("__per_cpu_start") == PERCPU
    with pytest.raises(AmbiguousNameError, match="two symbols named duplicate"):
        symbols.address("duplicate")
    addresses = symbols.sorted_addresses
    assert np.all(addresses[1:] >= addresses[:-1])


LOCK_BTR, LOCK_DEC = "f0480fb31d", "f0ff0d"
LOCK_AND = "f0482105"
#: rmpadjust, which the disassembler does not know.
UNKNOWN = "f30f01fe"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("", {"__cpu_online_mask"}),
        (LOCK_BTR, {"__cpu_online_mask", "cpus_stop_mask"}),
        (LOCK_DEC, {"__cpu_online_mask", "stop_cpus_count"}),
        (LOCK_AND, set()),  # something else is changed, which may be the report
        (LOCK_BTR + "00000000" + LOCK_DEC, set()),
        # what is changed behind what cannot be read may be another report
        (UNKNOWN + LOCK_BTR, set()),
        (LOCK_BTR + "00000100" + UNKNOWN + LOCK_DEC, set()),
    ],
)
def test_where_a_cpu_reports_itself_stopped(tmp_path, code, told):
    """Each instruction changes a variable whose address is relative to its own end."""
    path = tmp_path / "vmlinux"
    text = bytes.fromhex(code and code + "00000100").ljust(0x200, b"\xc3")
    symbols = [s for s in some_symbols(Layout.V7_0) if s.address < RODATA and s.address > TEXT]
    symbols += [Symbol("_text", TEXT), Symbol("stop_this_cpu", TEXT)]
    symbols = [s for s in symbols if not TEXT < s.address < TEXT + 64]
    exports = (Symbol("__cpu_online_mask", RODATA + 16),)
    path.write_bytes(Kernel(symbols=symbols, exports=exports, text=text).elf())
    found = load_image(path).symbols
    names = ("__cpu_online_mask", "cpus_stop_mask", "stop_cpus_count")
    assert {name for name in names if name in found} == told


def test_exports_are_named_as_the_linker_placed_them(tmp_path):
    path = tmp_path / "vmlinux"
    path.write_bytes(Kernel(exports=EXPORTS).elf())
    image = load_image(path)
    assert exported_symbols(image) == {symbol.name: symbol.address for symbol in EXPORTS}
    assert exported_symbols(replace(image, sections={})) == {}
