# SPDX-License-Identifier: GPL-2.0-or-later
"""Tar archives: what Python's tarfile writes is read, and nothing larger than its bounds."""

from __future__ import annotations

import gzip
import io
import tarfile
from contextlib import suppress
from functools import partial
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.errors import EvidenceError
from staleline.tar import TarMember, tar_members
from staleline.unpacking import Bounds, Complaint, UnpackedStream

NAMES = st.text(st.characters(exclude_characters="\0\n", codec="utf-8"), min_size=1, max_size=300)
FORMATS = st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


def stream(data: bytes) -> UnpackedStream:
    complaint = Complaint(EvidenceError, "it", "copy it again")
    return UnpackedStream(partial(io.BytesIO(data).read, 1 << 17), Bounds(1 << 30), complaint)


def members(data: bytes) -> list[TarMember]:
    return list(tar_members(stream(data)))


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@given(st.dictionaries(NAMES, st.binary(max_size=1500), max_size=5), FORMATS)
def test_what_tarfile_writes_is_read(files: dict[str, bytes], form: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    it = stream(buffer.getvalue())
    found = [(member.name.decode(), it.read(member.size)) for member in tar_members(it)]
    assert found == list(files.items())


@given(NAMES, FORMATS)
def test_links_lead_where_they_did(target: str, form: Literal[0, 1, 2]) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, target
    (member,) = members(link.tobuf(form) + bytes(1024))
    assert (member.kind, member.link.decode()) == (b"2", target)


def test_a_size_to_the_base_256() -> None:
    """GNU tar writes it from 8 GiB on (tar(5))."""
    member = next(tar_members(stream(header("large", 9 << 30))))
    assert member.size == 9 << 30


@pytest.mark.parametrize("kind", [b"L", b"K", b"x"])
def test_a_name_larger_than_names_are_is_not_read(kind: bytes) -> None:
    with pytest.raises(EvidenceError, match="damaged tar archive"):
        members(header("n", 400 << 20, kind) + bytes(4096))


def test_a_member_of_which_holes_are_left_out_is_no_regular_one() -> None:
    (member,) = members(header("holes", 0, b"S") + bytes(1024))
    assert member.sparse
    assert not member.regular


@given(st.integers(0, 511), st.integers(1, 255))
def test_a_header_that_was_changed_is_seen(at: int, change: int) -> None:
    data = bytearray(header("name", 0) + bytes(1024))
    data[at] ^= change
    if 148 <= at < 156:  # blanks and NULs around the checksum's digits mean the same
        with suppress(EvidenceError):
            assert [member.name for member in members(bytes(data))] == [b"name"]
    else:
        with pytest.raises(EvidenceError, match="damaged tar archive"):
            members(bytes(data))


def test_an_archive_without_end_is_cut_short() -> None:
    with pytest.raises(EvidenceError, match="damaged tar archive"):
        members(header("name", 0))


def test_twenty_thousand_names_in_little_data_are_read() -> None:
    packed = gzip.compress(header("n", 0) * 20_000 + bytes(1024))
    assert len(members(packed)) == 20_000
