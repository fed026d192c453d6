# SPDX-License-Identifier: GPL-2.0-or-later
"""Find and read the kernel's own symbol table in its read-only data.

``scripts/kallsyms.c`` writes these tables, none of which carries a mark or a length:

- names: per symbol a length (one byte, from 6.1 two if above 127) and that many token
  numbers; the expanded text begins with the symbol's type letter as in nm(1);
- markers: u32 offset into names of every 256th symbol;
- token_table: 256 NUL-terminated texts; token_index: u16 offset of each in it;
- offsets: i32 per symbol in ascending order of address, in one of three encodings;
- seqs_of_names (not in 5.10): order by name; not needed here.

Order in 5.10 and 6.1: offsets, relative_base, num_syms, names, markers, [seqs], tokens.
In 6.12 and later: num_syms, names, markers, tokens, offsets, [relative_base], seqs.

They are found from the inside out, and each step is checked exactly: a token table must
agree with its index in all 256 entries, and walking the names from every marker must
arrive at the next marker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

__all__ = ["Area", "CompressedNames", "Kallsyms", "find_kallsyms"]

_TOKENS = 256
_CHUNK = 256  # symbols per marker
_DIGITS = b"\0".join(b"%d" % digit for digit in range(10)) + b"\0"
_MAX_TOKEN_TABLE = 1 << 16  # token_index is u16
_MARKER_SEARCH = 8 << 20  # bytes before the token table: markers, and 3 bytes per symbol
_NAMES_SEARCH = 16 << 20
_WINDOW = 1 << 20  # bytes searched at once
# Bounds on what a hostile file can take; real ones need the first or second try.
_DIGITS_CANDIDATES = 1 << 12
_TABLE_CANDIDATES = 4
_MARKER_CANDIDATES = 8
_NAMES_CANDIDATES = 1 << 9
_WALKS = 32
_MAX_SYMBOLS = 1 << 21  # distribution kernels have 200 000
_LONGEST_TEXT = 2048  # KSYM_NAME_LEN is 512
_RUN_ON = 16  # words behind the markers that ascend by chance: 1 in 16! for random ones
_MAX_PERCPU = 1 << 20  # PERCPU_STATIC sections have about 0x36000 bytes
_MAX_NAME = 0x3FFF  # two-byte ULEB128, scripts/kallsyms.c

_Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Area:
    """Bytes to search and the address of the first one."""

    address: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class Kallsyms:
    """A table found and verified.

    Attributes:
        addresses: Link address per symbol (uint64), ascending.
        names: Names by the same index.
    """

    addresses: NDArray[np.uint64]
    names: CompressedNames


class CompressedNames:
    """Names as the kernel keeps them; only those asked for are expanded.

    To find a name without expanding all, each symbol gets a 32-bit signature: the sum of
    one random weight per character, which does not depend on how the text was cut into
    tokens. Equal signatures are then compared as text.
    """

    def __init__(
        self, names: bytes, starts: _Indices, ends: _Indices, tokens: Sequence[bytes]
    ) -> None:
        self._names = names
        self._starts = starts
        self._ends = ends
        self._tokens = tokens
        # Random, so that names of the same letters in another order are few; seeded, so that the
        # same image takes the same time.
        self._weights = np.random.default_rng(0).integers(0, 1 << 32, 256, dtype=np.uint32)
        self._signatures: NDArray[np.uint32] | None = None

    def __len__(self) -> int:
        return len(self._starts)

    def name(self, index: int) -> str:
        """Name of one symbol, without its type letter."""
        return self._text(index)[1:].decode("utf-8", "replace")

    def kind(self, index: int) -> str:
        """Type letter of one symbol, as in nm(1): upper case is global."""
        return self._text(index)[:1].decode("utf-8", "replace")

    def find(self, name: str) -> Sequence[int]:
        """Indices of all symbols of that name, ascending."""
        if self._signatures is None:
            self._signatures = self._sign_all()
        wanted = self._sign(name.encode())
        candidates = np.flatnonzero(self._signatures == wanted)
        same: dict[bytes, bool] = {}  # thousands may share a name, and then its codes
        bearers = []
        for index in candidates.tolist():
            codes = self._codes(index)
            if codes not in same:
                same[codes] = self.name(index) == name
            if same[codes]:
                bearers.append(index)
        return bearers

    def _codes(self, index: int) -> bytes:
        return self._names[self._starts[index] : self._ends[index]]

    def _text(self, index: int) -> bytes:
        """What the kernel would print; it too cuts longer texts."""
        text = bytearray()
        for code in self._codes(index):
            text += self._tokens[code]
            if len(text) > _LONGEST_TEXT:
                break
        return bytes(text[:_LONGEST_TEXT])

    def _sign(self, text: bytes) -> np.uint32:
        letters = np.frombuffer(text, np.uint8)
        return np.uint32(self._weights[letters].sum(dtype=np.uint32))

    def _sign_all(self) -> NDArray[np.uint32]:
        per_token = np.array([self._sign(token) for token in self._tokens], np.uint32)
        codes = np.frombuffer(self._names, np.uint8)
        # Slices alternate between a name and the length bytes up to the next one.
        edges = np.column_stack((self._starts, self._ends)).ravel()
        sums = np.add.reduceat(per_token[codes], edges, dtype=np.uint32)
        letter = np.array([self._sign(token[:1]) for token in self._tokens], np.uint32)
        return np.asarray(sums[::2] - letter[codes[self._starts]], np.uint32)


@dataclass(frozen=True, slots=True)
class _TokenTable:
    """Where the token table starts, where its index ends, and the 256 texts."""

    start: int
    end: int
    tokens: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Names:
    """A verified names table; offsets in the area."""

    num_syms_at: int
    start: int
    starts: _Indices
    ends: _Indices


def find_kallsyms(area: Area, image: range) -> Kallsyms | None:
    """Search one area for the tables; None if it does not hold them.

    Args:
        area: Usually ``.rodata``.
        image: Link addresses the kernel may use, the first being ``_text``. Every symbol
            must be among them, or low as in a zero-based per-CPU section. They exceed the
            segments: ``.modinfo`` (7.1) is linked behind the image and stripped from it.
    """
    for table, names in islice(_tables_and_names(area.data), _WALKS):
        if names is None or _begin_with_nothing(area.data, table, names):
            continue
        addresses = _addresses(area.address, area.data, table, names, image)
        if addresses is not None:
            # One byte more than the last name, so that its end is still an index.
            packed = bytes(area.data[names.start : names.start + int(names.ends[-1]) + 1])
            return Kallsyms(
                addresses, CompressedNames(packed, names.starts, names.ends, table.tokens)
            )
    return None


def _tables_and_names(rodata: memoryview) -> Iterator[tuple[_TokenTable, _Names | None]]:
    """Every walk of the names that could be tried, and what came of it."""
    for table in islice(_token_tables(rodata), _TABLE_CANDIDATES):
        # Markers lie before the tokens, names before the markers, the count before the names.
        for markers_at, run in _marker_runs(rodata, table.start):
            markers = np.frombuffer(rodata, "<u4", run, markers_at).astype(np.int64)
            starts = _names_starts(rodata, markers_at, markers)
            for start, num_syms_at in islice(starts, _NAMES_CANDIDATES):
                if _first_chunk_fits(rodata[start : start + int(markers[1])]):
                    yield table, _walk(rodata, start, num_syms_at, markers, markers_at)


def _token_tables(rodata: memoryview) -> Iterator[_TokenTable]:
    """Every digit occurs in some name, so tokens 0x30 to 0x39 are always the digits."""
    for digits in islice(_occurrences(rodata, _DIGITS), _DIGITS_CANDIDATES):
        table = _token_table(rodata, digits)
        if table is not None:
            yield table


def _occurrences(rodata: memoryview, pattern: bytes) -> Iterator[int]:
    """Where the pattern occurs; searched in parts, so that nothing large is copied."""
    for start in range(0, len(rodata), _WINDOW):
        window = bytes(rodata[start : start + _WINDOW + len(pattern) - 1])
        at = window.find(pattern)
        while at >= 0:
            yield start + at
            at = window.find(pattern, at + 1)


def _token_table(rodata: memoryview, digits: int) -> _TokenTable | None:
    """The table around the digit tokens, if the index behind it agrees in all entries."""
    tail = bytes(rodata[digits : digits + _MAX_TOKEN_TABLE]).split(b"\0", _TOKENS - ord("0"))
    if len(tail) <= _TOKENS - ord("0"):
        return None
    lengths = np.array([len(token) + 1 for token in tail[:-1]])
    offsets = np.concatenate(([0], np.cumsum(lengths)))  # of tokens 0x30.. from the digits
    end = digits + int(offsets[-1])
    # Labels of the table are aligned to 4 or 8 bytes, so that padding may stand before the index.
    for at in range(end, end + 8):
        packed = bytes(rodata[at : at + 2 * _TOKENS])
        index = np.frombuffer(packed.ljust(2 * _TOKENS, b"\0"), "<u2")
        start = digits - int(index[ord("0")])
        if index[0] == 0 and start >= 0 and np.array_equal(index[48:], offsets[:-1] + index[48]):
            tokens = bytes(rodata[start:end]).split(b"\0")[:-1]
            starts = np.cumsum([0] + [len(token) + 1 for token in tokens])[:-1]
            if np.array_equal(starts, index):
                return _TokenTable(start, at + 2 * _TOKENS, tuple(tokens))
    return None


def _marker_runs(rodata: memoryview, end: int) -> Iterator[tuple[int, int]]:
    """Offset and length of ascending u32 runs that begin with 0, longest first.

    The area begins aligned, and so do the markers in it.
    """
    first = max(0, end - _MARKER_SEARCH) & ~3
    words = np.frombuffer(rodata, "<u4", (end - first) // 4, first)
    if len(words) < 2:
        return
    starts = np.concatenate(([0], np.flatnonzero(words[1:] <= words[:-1]) + 1))
    lengths = np.diff(starts, append=len(words))
    usable = np.flatnonzero((lengths >= 2) & (words[starts] == 0))
    longest = usable[np.argsort(-lengths[usable], kind="stable")][:_MARKER_CANDIDATES]
    for index in longest.tolist():
        yield first + 4 * int(starts[index]), int(lengths[index])


def _names_starts(
    rodata: memoryview, markers_at: int, markers: _Indices
) -> Iterator[tuple[int, int]]:
    """Offsets where names may start, each with that of the symbol count before it.

    That must ask for about as many markers as the run has; where the run is longer, the bytes
    behind the markers happened to go on ascending.
    """
    first = max(0, markers_at - _NAMES_SEARCH) & ~3
    counts = np.frombuffer(rodata, "<u4", (markers_at - first) // 4, first)
    fewest = max(2, len(markers) - _RUN_ON)
    most = min(len(markers) * _CHUNK, _MAX_SYMBOLS)
    plausible = np.flatnonzero((counts > (fewest - 1) * _CHUNK) & (counts <= most))
    needed = (counts[plausible].astype(np.int64) + _CHUNK - 1) // _CHUNK
    # The count is so far before the names where labels are aligned to 8, else 4 (some 7.1 and 7.3
    # builds).
    for gap in (8, 4):
        at = first + 4 * plausible
        start = at + gap
        last = markers[needed - 1]
        room = markers_at - start - last  # for the symbols of the last chunk
        fits = (room >= 2) & (room <= _CHUNK * (_MAX_NAME + 2) + 8)
        for index in np.flatnonzero(fits).tolist():
            yield int(start[index]), int(at[index])


def _walk(
    rodata: memoryview, start: int, num_syms_at: int, markers: _Indices, end: int
) -> _Names | None:
    """Step through all chunks of names at once; every step must end on the next marker."""
    count = int.from_bytes(rodata[num_syms_at : num_syms_at + 4], "little")
    chunks = -(-count // _CHUNK)
    names = np.frombuffer(rodata, np.uint8, end - start, start)
    starts, ends = np.zeros((2, _CHUNK, chunks), np.int64)
    position = markers[:chunks].copy()
    in_last = count - _CHUNK * (chunks - 1)
    for step in range(_CHUNK):
        live = position[: chunks if step < in_last else chunks - 1]
        if live.max() + 1 >= len(names):
            return None
        length, width = _lengths(names, live)
        starts[step, : len(live)] = live + width
        live += width + length
        ends[step, : len(live)] = live
    padding = len(names) - int(position[-1])
    if not (np.array_equal(position[:-1], markers[1:chunks]) and 0 <= padding < 8):
        return None
    flat = _Names(num_syms_at, start, starts.T.ravel()[:count], ends.T.ravel()[:count])
    return flat if np.all(flat.starts < flat.ends) else None


def _lengths(names: NDArray[np.uint8], at: _Indices) -> tuple[_Indices, _Indices | int]:
    """Length in tokens of the names at these offsets, and of the length field in bytes."""
    length = names[at].astype(np.int64)
    wide = length > 0x7F
    if not wide.any():
        return length, 1
    high = names[at + 1].astype(np.int64) << 7
    return np.where(wide, (length & 0x7F) | high, length), 1 + wide.astype(np.int64)


def _first_chunk_fits(chunk: memoryview) -> bool:
    """Cheap test of one chunk, before all are walked."""
    position = 0
    for _ in range(_CHUNK):
        if position + 1 >= len(chunk):
            return False
        length, width = chunk[position], 1
        if length > 0x7F:
            length, width = (length & 0x7F) | chunk[position + 1] << 7, 2
        position += length + width
    return position == len(chunk)


def _begin_with_nothing(rodata: memoryview, table: _TokenTable, names: _Names) -> bool:
    """Some name begins with a token that is not in use; it would have no type letter."""
    empty = np.array([not token for token in table.tokens])
    first = np.frombuffer(rodata, np.uint8)[names.start + names.starts]
    return bool(empty[first].any())


def _addresses(
    area: int, rodata: memoryview, table: _TokenTable, names: _Names, image: range
) -> NDArray[np.uint64] | None:
    """Addresses in whichever known layout gives an ascending list inside the image."""
    count = len(names.starts)
    for start, base in _offset_tables(rodata, table, names):
        if start < 0 or start + 4 * count > len(rodata):
            continue
        offsets = np.frombuffer(rodata, "<i4", count, start).astype(np.int64)
        addresses = _decode(offsets, base, area + start).view(np.uint64)
        # Three tests that hold for every kernel, and for a wrong layout by chance only.
        inside = (addresses >= np.uint64(image.start)) & (addresses < np.uint64(image.stop))
        zero_based_percpu = addresses < np.uint64(_MAX_PERCPU)
        ascending = np.all(addresses[1:] >= addresses[:-1])
        if ascending and np.all(inside | zero_based_percpu) and image.start in addresses:
            return addresses
    return None


def _offset_tables(
    rodata: memoryview, table: _TokenTable, names: _Names
) -> Iterator[tuple[int, bytes | None]]:
    """Where offsets may start, and the relative_base to use; None for PC-relative ones."""
    size = 4 * len(names.starts)
    base = names.num_syms_at - 8  # 5.10, 6.1
    yield base - _align8(size), bytes(rodata[base : base + 8])
    base = _align8(table.end + size)  # 6.12 to 6.19
    yield table.end, bytes(rodata[base : base + 8])
    yield table.end, None  # from 7.0


def _decode(offsets: _Indices, base: bytes | None, at: int) -> _Indices:
    """Offsets to addresses, as ``kallsyms_sym_address()`` does (kernel/kallsyms.c)."""
    if base is None:  # relative to the entry's own address
        own = np.array([at], np.uint64).view(np.int64) + 4 * np.arange(len(offsets))
        return own + offsets
    relative_base = np.frombuffer(base.ljust(8, b"\0"), "<i8")
    if np.any(offsets < 0):  # CONFIG_KALLSYMS_ABSOLUTE_PERCPU, 5.10 to 6.12
        return np.where(offsets >= 0, offsets, relative_base - 1 - offsets)
    return relative_base + offsets


def _align8(size: int) -> int:
    return (size + 7) & ~7
