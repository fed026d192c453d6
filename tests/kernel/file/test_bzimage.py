# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from staleline.errors import KernelImageError
from staleline.kernel.file.bzimage import has_setup_header, read_setup_header
from tests.kernel.kernelwriter import RELEASE, write_bzimage


def test_payload_lies_behind_the_setup_sectors():
    image = memoryview(write_bzimage(b"payload."))
    header = read_setup_header(image, "vmlinuz", len(image))
    assert (header.payload_offset, header.payload_length) == (5 * 512, 8)
    assert header.release == RELEASE


def test_setup_sects_zero_means_four():
    image = bytearray(write_bzimage(b"payload."))
    image[0x1F1] = 0
    assert read_setup_header(memoryview(image), "vmlinuz", len(image)).payload_offset == 5 * 512


def test_version_string_is_optional():
    image = bytearray(write_bzimage(b"payload."))
    image[0x20E:0x210] = b"\0\0"
    assert read_setup_header(memoryview(image), "vmlinuz", len(image)).release is None


@pytest.mark.parametrize("length", [0, 1, 0x202, 0x205])
def test_short_file_has_no_header(length):
    assert not has_setup_header(memoryview(write_bzimage(b"")[:length]))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (write_bzimage(b"x", protocol=0x207), "vmlinuz+0x206: boot protocol 2.07 has no payload"),
        (write_bzimage(b"x", xloadflags=0), "vmlinuz+0x236: a 32-bit x86 kernel"),
        (write_bzimage(b"x", length=0), "vmlinuz+0x24c: a bzImage without payload"),
        (write_bzimage(b"x", length=2), "vmlinuz+0x248: payload at 0xa00 of 2 bytes ends after"),
        (write_bzimage(b"x", length=0xFFFF_FFFF), "vmlinuz+0x248: payload at 0xa00"),
        (write_bzimage(b"x")[:0x240], "vmlinuz+0x240: setup header ends at 0x240"),
    ],
)
def test_bad_headers_say_where(image, message):
    with pytest.raises(KernelImageError) as error:
        read_setup_header(memoryview(image), "vmlinuz", len(image))
    assert str(error.value).startswith(message)
