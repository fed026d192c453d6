# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import bz2
import gzip
import lzma
import random
import re
import struct

import lz4.block
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from staleline.errors import KernelImageError
from staleline.kernel.file.decompress import decompress
from tests.kernel.kernelwriter import sized
from tests.kernel.packagewriter import write_lzop

CODE = bytes(range(256)) * 300 + b"\xe8\x10\x00\x00\x00" * 1000


def zstd(data: bytes) -> bytes:
    """Without content size, as from a pipe: scripts/Makefile.lib, cmd_zstd."""
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


def lz4_legacy(data: bytes, block: int = 8 << 20) -> bytes:
    stream = struct.pack("<I", 0x184C2102)
    for start in range(0, len(data), block):
        packed = lz4.block.compress(data[start : start + block], store_size=False)
        stream += struct.pack("<I", len(packed)) + packed
    return stream


def xz(data: bytes) -> bytes:
    """With the x86 branch filter: scripts/xz_wrap.sh."""
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "dict_size": 32 << 20}]
    return lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=filters)


def lzma_alone(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_ALONE)


STREAMS = {"zstd": zstd, "lz4": lz4_legacy, "xz": xz, "bzip2": bz2.compress}
STREAMS |= {"lzma": lzma_alone, "lzo": write_lzop}


def payload(method: str, data: bytes = CODE) -> bytes:
    """As the build makes it; gzip's own trailer is the size."""
    return (
        gzip.compress(data, mtime=0)
        if method == "gzip"
        else sized(STREAMS[method](data), len(data))
    )


METHODS = [*STREAMS, "gzip"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_the_kernel_build(method):
    assert bytes(decompress(memoryview(payload(method)), "vmlinuz+0x0")) == CODE


def test_lz4_in_several_blocks():
    data = CODE * 120  # more than one block of 8 MiB
    assert bytes(decompress(memoryview(payload("lz4", data)), "vmlinuz+0x0")) == data


def test_uncompressed_kernel_is_passed_on():
    assert bytes(decompress(memoryview(b"\x7fELF rest"), "vmlinuz+0x0")) == b"\x7fELF rest"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong", [-1, 1, -len(CODE) + 1])
def test_output_must_have_the_claimed_size(method, wrong):
    image = payload(method)[:-4] + struct.pack("<I", len(CODE) + wrong)
    with pytest.raises(KernelImageError, match=f"vmlinuz\\+0x0: damaged {method} payload"):
        decompress(memoryview(image), "vmlinuz+0x0")


@pytest.mark.parametrize("method", METHODS)
def test_a_bomb_stops_at_its_claim(method):
    bomb = payload(method, bytes(32 << 20))[:-4] + struct.pack("<I", 1 << 20)
    with pytest.raises(KernelImageError, match=f"damaged {method} payload"):
        decompress(memoryview(bomb), "vmlinuz+0x0")


@pytest.mark.parametrize("method", METHODS)
def test_a_claim_above_the_limit_is_refused_before_unpacking(method):
    with pytest.raises(KernelImageError, match="claims to unpack to 81800 bytes, the limit is 99"):
        decompress(memoryview(payload(method)), "vmlinuz+0x0", limit=99)


def test_zstd_frame_must_agree_with_the_trailer():
    stream = zstandard.ZstdCompressor().compress(CODE)
    with pytest.raises(KernelImageError, match="frame header claims 81800 bytes, the trailer 99"):
        decompress(memoryview(sized(stream, 99)), "vmlinuz+0x0")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("keep", [4, 7, 8, 20, 200])
def test_truncated_stream(method, keep):
    with pytest.raises(KernelImageError, match=r"^vmlinuz\+0x0: "):
        decompress(memoryview(sized(payload(method)[:keep], len(CODE))), "vmlinuz+0x0")


def test_unknown_compression_says_how_to_go_on():
    with pytest.raises(KernelImageError, match=r"unknown compression .0bad0bad.*extract-vmlinux"):
        decompress(memoryview(bytes.fromhex("0bad0bad") + bytes(64)), "vmlinuz+0x0")


@pytest.mark.parametrize("form", [{"name": b"vmlinux.bin"}, {"old": True}, {"block": 1000}])
def test_every_form_of_the_lzop_header(form):
    assert bytes(decompress(memoryview(sized(write_lzop(CODE, **form), len(CODE))), "")) == CODE


def test_lzo_blocks_that_did_not_compress_are_stored():
    data = random.Random(1).randbytes(600_000)
    assert bytes(decompress(memoryview(sized(write_lzop(data), len(data))), "")) == data


def test_lzo_blocks_larger_than_the_kernel_takes():
    """LZO_BLOCK_SIZE in lib/decompress_unlzo.c (6.12)."""
    image = sized(write_lzop(CODE * 9, block=512 << 10), 9 * len(CODE))
    with pytest.raises(KernelImageError, match=r"damaged lzo payload: block at .* cannot be"):
        decompress(memoryview(image), "vmlinuz+0x0")


@given(st.sampled_from(METHODS), st.data())
def test_a_damaged_stream_is_unpacked_or_gives_a_located_error(method, data):
    image = bytearray(payload(method, CODE[:3000]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(image) - 1))
        image[at] = data.draw(st.integers(0, 255))
    assert re.fullmatch("unpacked|vmlinuz[+]0x0: .+; .+", outcome(memoryview(bytes(image))))


def outcome(image: memoryview) -> str:
    try:
        decompress(image, "vmlinuz+0x0", limit=1 << 20)
    except KernelImageError as error:
        return str(error)
    return "unpacked"
