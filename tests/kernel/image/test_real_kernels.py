# SPDX-License-Identifier: GPL-2.0-or-later
"""The newest Debian kernel of each series in tests/data/kernels.toml, read from its vmlinuz.

``__ksymtab``, the table of exported symbols that modules link against, was made by the
linker and not by scripts/kallsyms.c: it says independently where some 5 000 to 13 000
symbols are.
"""

from __future__ import annotations

import hashlib
import re
import struct

import numpy as np
import pytest

from staleline.kernel.image.image import KernelImage

NEEDED = ["stop_this_cpu", "machine_kexec", "identity_mapped", "early_cpu_init", "boot_cpu_data"]


@pytest.fixture(scope="module")
def image(real_kernel) -> KernelImage:
    return real_kernel.image


def exported(image: KernelImage) -> dict[str, int]:
    """Name and address of exported symbols: ``struct kernel_symbol`` with PREL32.

    Each entry is three i32, each relative to its own place: value, name, namespace
    (include/linux/export.h, 5.10; include/linux/export-internal.h, 6.12).
    """
    found = {}
    for name in ("__ksymtab", "__ksymtab_gpl"):
        if name not in image.sections:
            continue  # 7.1 has a flag table instead of the second section
        table = np.frombuffer(image.section_bytes(name), "<i4").astype(np.int64).reshape(-1, 3)
        start = image.sections[name].virtual_address
        strings = image.sections["__ksymtab_strings"]
        text = image.section_bytes("__ksymtab_strings")
        for index, (value, label, _) in enumerate(table.tolist()):
            at = start + 12 * index
            offset = at + 4 + label - strings.virtual_address
            found[text[offset : text.index(b"\0", offset)].decode()] = (at + value) % (1 << 64)
    return found


def test_the_file_is_the_one_fetched(real_kernel):
    digest = hashlib.sha256(real_kernel.path.read_bytes()).hexdigest()
    assert digest == real_kernel.sha256


def test_release_is_the_package_s(image, real_kernel):
    assert image.release == real_kernel.release
    assert image.banner.startswith(f"Linux version {real_kernel.release} (debian-kernel@")
    assert re.fullmatch("[0-9a-f]{40}", image.build_id)


def test_banner_is_where_its_symbol_says(image):
    address = image.symbols.address("linux_banner")
    assert image.read(address, len(image.banner) + 2).decode() == image.banner + "\n\0"


@pytest.mark.parametrize("name", NEEDED)
def test_symbols_of_the_handover_are_there(image, name):
    assert name in image.symbols


def test_every_exported_symbol_is_where_the_linker_put_it(image):
    exports = exported(image)
    assert len(exports) > 4000
    wrong = {
        name: hex(address)
        for name, address in exports.items()
        if address not in image.symbols.addresses(name)
    }
    assert wrong == {}


def test_symbols_ascend_and_begin_with_the_text(image):
    addresses = image.symbols.sorted_addresses
    assert np.all(addresses[1:] >= addresses[:-1])
    (text,) = image.symbols.addresses("_text")
    assert text == min(s.virtual_address for s in image.segments if s.virtual_address)
    assert image.symbols.address("_end") > image.symbols.address("_etext") > text


def test_every_name_is_found_where_it_is(image):
    """A sample of names, expanded and looked up again: the signature search loses none."""
    symbols = image.symbols
    for address in np.unique(symbols.sorted_addresses)[::97].tolist():
        for name in symbols.names_at(address):
            assert address in symbols.addresses(name)


def test_functions_start_where_symbols_say(image):
    """Functions are aligned to 16 bytes (CONFIG_FUNCTION_ALIGNMENT, before 6.2 by -falign)."""
    for name in ("stop_this_cpu", "machine_kexec"):
        address = image.symbols.address(name)
        assert image.symbols.enclosing(address + 1) == (image.symbols.names_at(address)[0], 1)
        assert address % 16 == 0
        assert 0 < image.symbols.size_of(name) < 0x1000


def test_per_cpu_symbols_lie_in_their_section(image):
    section = image.sections[".data..percpu"]
    start, end = image.symbols.address("__per_cpu_start"), image.symbols.address("__per_cpu_end")
    assert start == section.virtual_address
    assert start < image.symbols.address("cpu_info") < end <= start + section.size
    assert len(image.read(start, end - start)) == end - start


def test_alternatives_are_readable_by_section(image):
    """Their first field is an i32 relative to itself, which must lead to code."""
    section = image.sections[".altinstructions"]
    (relative,) = struct.unpack_from("<i", image.section_bytes(".altinstructions"))
    text = image.symbols.address("_text")
    assert text <= section.virtual_address + relative < section.virtual_address
