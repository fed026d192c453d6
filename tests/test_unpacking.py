# SPDX-License-Identifier: GPL-2.0-or-later
"""Compressed data: all of it or an error, and never more than its bounds allow."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from functools import partial

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from staleline.errors import EvidenceError
from staleline.unpacking import Bounds, Complaint, UnpackedStream

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": partial(lzma.compress, format=lzma.FORMAT_ALONE),
    "zstd": zstandard.ZstdCompressor().compress,
    "zstd with checksum": zstandard.ZstdCompressor(write_checksum=True).compress,
}
FREE = 1 << 20


def stream(
    data: bytes, *, step: int = 1 << 17, most: int = 64 << 20, alone: bool = False
) -> UnpackedStream:
    complaint = Complaint(EvidenceError, "it", "copy it again")
    read = partial(io.BytesIO(data).read, step)
    return UnpackedStream(read, Bounds(most=most, free=FREE, alone=alone), complaint)


def unpacked(data: bytes, step: int = 1 << 17) -> bytes:
    return stream(data, step=step).read(1 << 30)


@pytest.mark.parametrize("method", COMPRESS)
@given(st.binary(max_size=3000), st.integers(1, 300))
def test_what_was_packed_comes_out_whatever_the_pieces(method: str, data: bytes, step: int) -> None:
    assert unpacked(COMPRESS[method](data), step=step) == data


@pytest.mark.parametrize("method", ["gzip", "bzip2", "xz", "zstd"])
def test_streams_one_after_the_other_are_one(method: str) -> None:
    """As bgzip, pbzip2, pixz and pzstd write them."""
    pack = COMPRESS[method]
    assert unpacked(pack(b"first ") + pack(b"") + pack(b"second")) == b"first second"


@pytest.mark.parametrize("method", ["gzip", "bzip2", "xz", "lzma", "zstd"])
@pytest.mark.parametrize(
    "behind", [b"x", b"plain text\n", gzip.compress(b"")[:5], bz2.compress(b"")]
)
def test_what_is_behind_the_end_is_not_left_out_unseen(method: str, behind: bytes) -> None:
    """Of evidence; behind a kernel's stream stands its size (arch/x86/boot/compressed/Makefile)."""
    if method == "bzip2" and behind.startswith(b"BZh"):
        return
    data = COMPRESS[method](b"first")
    with pytest.raises(EvidenceError, match=r"it: damaged"):
        stream(data + behind, alone=True).read(100)
    if method != "zstd":
        assert unpacked(data + b"x") == b"first"
        assert stream(data + bytes(100), alone=True).read(100) == b"first"


def test_a_frame_to_skip_is_skipped() -> None:
    """As pzstd puts before each frame (RFC 8878, 3.1.2)."""
    skipped = bytes.fromhex("502a4d1804000000") + b"what"
    assert unpacked(skipped + COMPRESS["zstd"](b"text") + skipped) == b"text"


@pytest.mark.parametrize("method", COMPRESS)
@given(st.data())
def test_data_that_is_cut_short_is_never_taken_for_whole(method: str, data: st.DataObject) -> None:
    packed = COMPRESS[method](bytes(range(256)) * 9)
    kept = data.draw(st.integers(6, len(packed) - 1))
    with pytest.raises(EvidenceError, match=r"^it: damaged .* data: .*; copy it again$"):
        unpacked(packed[:kept])


@pytest.mark.parametrize("method", ["gzip", "bzip2", "xz", "zstd"])
def test_a_bomb_stops_soon_after_its_bounds(method: str) -> None:
    bomb = stream(COMPRESS[method](bytes(32 << 20)))
    with pytest.raises(EvidenceError, match="it: unpacks to more than "):
        bomb.skip_to_end()
    assert bomb.position <= 16 * FREE


def test_plain_data_is_bounded_too() -> None:
    with pytest.raises(EvidenceError, match="unpacks to more than"):
        stream(b"x" * 5000, most=4000).read(1 << 30)


def test_what_was_peeked_at_is_read_again() -> None:
    it = stream(COMPRESS["xz"](b"abcdef"))
    assert (it.peek(3), it.position, it.read(2), it.peek(9)) == (b"abc", 0, b"ab", b"cdef")
    assert (it.read(9), it.read(1), it.position) == (b"cdef", b"", 6)
