# SPDX-License-Identifier: GPL-2.0-or-later
"""Every way of taking one piece of evidence out of a snapshot, found by its types.

A piece is named by its path, such as ``("cpus", 0, "msr", 0xC0010010)``. What is a statement
as a whole is taken away as a whole only: a list of the CPUs that are offline, without one of
them, says something else, not less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from random import Random
from typing import Any

from staleline.evidence.snapshot import Snapshot

__all__ = ["TELLING_LEAVES", "Piece", "described", "pieces", "some_piece", "without"]

#: Field names, indexes and keys from the snapshot down; ALL empties a table or list.
Piece = tuple[object, ...]

ALL = "*"
#: Leaves that decide what others mean.
TELLING_LEAVES = frozenset(
    {0, 1, 4, 7, 0x21, 0x4000_0000, 0x4000_0003, 0x8000_0000, 0x8000_0008, 0x8000_001D, 0x8000_001F}
)
#: Words of a command line that no code asks for: without one, nothing else is said.
NEUTRAL_WORDS = frozenset({"quiet", "ro", "splash", "console=ttyS0", "audit=0", "panic=30"})
#: What tells that a message was not understood, or that the running kernel is not its image's any
#: more: a doubt, and no evidence. Without it the kernel is what it is for everybody else.
_DOUBTS = frozenset({"unread", "livepatches", "kprobes", "tainted"})
#: Lists that say of what they do not have that it is not there: what bootconfig adds to the command
#: line.
_STATEMENTS = frozenset({"bootconfig"})


def some_piece(snapshot: Snapshot, random: Random) -> Piece | None:
    """One piece: any kind as likely as any other, and telling leaves before the rest."""
    kinds: dict[Piece, list[Piece]] = {}
    for piece in pieces(snapshot):
        kinds.setdefault(_kind(piece), []).append(piece)
    if not kinds:
        return None
    return random.choice(kinds[random.choice(list(kinds))])


def _kind(piece: Piece) -> Piece:
    if piece[-2:-1] == ("leaves",) and isinstance(piece[-1], tuple):
        return ("leaves", piece[-1][0] in TELLING_LEAVES)
    return tuple(part for part in piece if isinstance(part, str))


def pieces(snapshot: Snapshot) -> list[Piece]:
    """Every piece that can be taken out."""
    return list(_of_record(snapshot, ()))


def without(snapshot: Snapshot, piece: Piece) -> Snapshot:
    """`snapshot` without one piece; the same if it has none at this path."""
    machine: Snapshot = _record_without(snapshot, piece)
    return machine


def described(piece: Piece) -> str:
    """For instance ``cpus[0].cpuid.leaves[0x8000001f:0]``."""
    text = ""
    for part in piece:
        if isinstance(part, tuple):
            text += f"[{part[0]:#x}:{part[1]}]"
        elif isinstance(part, int):
            text += f"[{part:#x}]"
        else:
            text += f".{part}"
    return text.lstrip(".")


def _of_record(record: Any, path: Piece) -> Iterator[Piece]:
    for name, default in _defaults(record):
        value = getattr(record, name)
        if name in _DOUBTS:
            continue
        here = (*path, name)
        told = value is not None and default is not MISSING and value != default
        if told and not _has_doubts(value):
            yield here
        yield from _inside(value, here)


def _has_doubts(value: Any) -> bool:
    """What forged flags is a doubt, too: without it they are hardware's (docs/model.md)."""
    line = value if isinstance(value, str) else getattr(value, "cmdline", None)
    forged = isinstance(line, str) and "setcpuid=" in line
    return forged or any(getattr(value, name, None) for name in _DOUBTS)


def _inside(value: Any, path: Piece) -> Iterator[Piece]:
    if is_dataclass(value):
        yield from _of_record(value, path)
    elif isinstance(value, Mapping):
        if value:
            yield (*path, ALL)
        for key, inner in value.items():
            yield (*path, key)
            yield from _inside(inner, (*path, key))
    elif isinstance(value, frozenset):
        yield from ((*path, element) for element in sorted(value))
    elif isinstance(value, tuple) and value and not _is_statement(path[-1], value):
        yield (*path, ALL)
        for index, inner in enumerate(value):
            yield (*path, index)
            yield from _inside(inner, (*path, index))
    elif path[-1] == "cmdline" and isinstance(value, str):
        yield from ((*path, word) for word in sorted(NEUTRAL_WORDS & set(value.split())))


def _is_statement(name: object, values: tuple[Any, ...]) -> bool:
    """CPUs that are offline too: with one of them less the list says another thing."""
    return isinstance(values[0], int) or name in _STATEMENTS


def _defaults(record: Any) -> tuple[tuple[str, object], ...]:
    """The fields of a record, and what each is without evidence."""
    kind: Any = type(record)
    return _fields(kind)


@cache
def _fields(record: type) -> tuple[tuple[str, object], ...]:
    return tuple((field.name, _default(field)) for field in fields(record))


def _default(field: Any) -> object:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _record_without(record: Any, path: Piece) -> Any:
    name, rest = str(path[0]), path[1:]
    value = getattr(record, name)
    if not rest:
        less = replace(record, **{name: dict(_defaults(record))[name]})
    else:
        less = replace(record, **{name: _without(value, rest)})
    # A log from which a line was taken is no longer whole.
    if name == "lines" and hasattr(record, "complete") and value != less.lines:
        less = replace(less, complete=False)
    return less


def _without(value: Any, path: Piece) -> Any:
    first, rest = path[0], path[1:]
    if is_dataclass(value):
        return _record_without(value, path)
    if isinstance(value, Mapping):
        return _mapping_without(value, first, rest)
    if isinstance(value, tuple):
        return _tuple_without(value, first, rest)
    if isinstance(value, frozenset):
        return value - {first}
    if isinstance(value, str):
        return " ".join(word for word in value.split(" ") if word != first)
    return value


def _mapping_without(value: Mapping[Any, Any], key: object, rest: Piece) -> Mapping[Any, Any]:
    if key == ALL:
        return {}
    if key not in value:
        return value
    if rest:
        return {**value, key: _without(value[key], rest)}
    return {other: inner for other, inner in value.items() if other != key}


def _tuple_without(value: tuple[Any, ...], index: object, rest: Piece) -> tuple[Any, ...]:
    if index == ALL:
        return ()
    if not isinstance(index, int) or index >= len(value):
        return value
    kept = (_without(value[index], rest),) if rest else ()
    return (*value[:index], *kept, *value[index + 1 :])
