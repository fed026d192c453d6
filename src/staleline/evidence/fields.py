# SPDX-License-Identifier: GPL-2.0-or-later
"""Typed access to the fields of a JSON object, with the field's path in every error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from staleline.errors import EvidenceError
from staleline.pattern import Pattern

__all__ = ["Fields"]

_HEX = Pattern(r"0x[0-9a-fA-F]{1,16}")
_DECIMAL = Pattern(r"[0-9]{1,20}")
_NATURAL_BITS = 31


@dataclass(slots=True)
class Fields:
    """One JSON object at `path` of the document in file `where`; null reads as absent."""

    document: dict[str, Any]
    where: str
    do: str
    path: str = ""
    _read: set[str] = field(default_factory=set)

    @classmethod
    def root(cls, document: Any, where: str, do: str) -> Fields:
        """The whole document.

        Raises:
            EvidenceError: It is not an object.
        """
        if not isinstance(document, dict):
            raise EvidenceError("is JSON, but not an object", where=where, do=do)
        return cls(document, where, do)

    def error(self, name: str, what: str) -> EvidenceError:
        """An error about field `name` of this object."""
        return EvidenceError(f"field {self._at(name)} {what}", where=self.where, do=self.do)

    def names(self) -> Iterator[str]:
        """Every field's name, for objects that are tables."""
        return iter(self.document)

    def require_no_more(self) -> None:
        """Refuse fields that were not read.

        Raises:
            EvidenceError: There is one.
        """
        for name in self.document:
            if name not in self._read:
                raise self.error(name, "is not known here")

    def text(self, name: str, *, required: bool = False) -> str | None:
        """A string that can be encoded, or None."""
        value = self._get(name, str, "a string", required=required)
        return None if value is None else self._encodable(name, value)

    def boolean(self, name: str) -> bool | None:
        """True, false, or None."""
        value: bool | None = self._get(name, bool, "true, false or null")
        return value

    def natural(
        self, name: str, *, bits: int = _NATURAL_BITS, required: bool = False
    ) -> int | None:
        """A number from 0 to 2^bits, or None."""
        value = self._get(name, int, "a number", required=required)
        return None if value is None else self._natural(name, value, bits)

    def naturals(self, name: str) -> tuple[int, ...] | None:
        """A list of numbers from 0 to 2^31, or None."""
        values = self._get(name, list, "a list of numbers")
        if values is None:
            return None
        return tuple(self._natural(f"{name}[{i}]", value) for i, value in enumerate(values))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; empty where absent."""
        values = self._get(name, list, "a list of strings") or []
        for i, value in enumerate(values):
            if not isinstance(value, str):
                raise self.error(f"{name}[{i}]", "is not a string")
            self._encodable(f"{name}[{i}]", value)
        return tuple(values)

    def number(self, name: str, bits: int) -> int | None:
        """A string such as ``"0x1f"`` of at most `bits` bits, or None."""
        value = self._get(name, str, 'a string such as "0x1f"')
        return None if value is None else self._hexadecimal(name, value, bits)

    def numbers(self, name: str, bits: int) -> tuple[int, ...]:
        """A list of strings such as ``"0x1f"``; empty where absent."""
        return tuple(
            self._hexadecimal(f"{name}[{i}]", value, bits)
            for i, value in enumerate(self.texts(name))
        )

    def key(self, name: str, part: str, bits: int) -> int:
        """The number that `part` of the field name `name` is."""
        if _DECIMAL.fullmatch(part) and int(part) < 1 << bits:
            return int(part)
        return self._hexadecimal(name, part, bits)

    def object(self, name: str) -> Fields | None:
        """An object, or None."""
        value = self._get(name, dict, "an object")
        return None if value is None else self._inner(name, value)

    def objects(self, name: str, *, required: bool = False) -> tuple[Fields, ...]:
        """A list of objects; empty where absent and not required."""
        values = self._get(name, list, "a list of objects", required=required) or []
        for i, value in enumerate(values):
            if not isinstance(value, dict):
                raise self.error(f"{name}[{i}]", "is not an object")
        return tuple(self._inner(f"{name}[{i}]", value) for i, value in enumerate(values))

    def _get(self, name: str, kind: type, expected: str, *, required: bool = False) -> Any:
        self._read.add(name)
        value = self.document.get(name)
        if value is None:
            if required:
                raise self.error(name, "is missing")
            return None
        # bool is a subclass of int; true is not a number here.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(name, f"is not {expected}")
        return value

    def _natural(self, name: str, value: Any, bits: int = _NATURAL_BITS) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1 << bits:
            raise self.error(name, f"is not a number from 0 to 2^{bits}")
        return value

    def _hexadecimal(self, name: str, text: str, bits: int) -> int:
        if not _HEX.fullmatch(text) or int(text, 16) >= 1 << bits:
            raise self.error(name, f"is not a hexadecimal number of at most {bits} bits")
        return int(text, 16)

    def _encodable(self, name: str, text: str) -> str:
        # JSON can spell half a surrogate pair, which no file or terminal can take.
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise self.error(name, "holds half a surrogate pair")
        return text

    def _inner(self, name: str, document: dict[str, Any]) -> Fields:
        return Fields(document, self.where, self.do, self._at(name))

    def _at(self, name: str) -> str:
        printable = name.encode("utf-8", "backslashreplace").decode()
        return f"{self.path}.{printable}" if self.path else printable
