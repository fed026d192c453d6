# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of CPUID and MSR bits (table.toml), as types."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from staleline.facts.fact import Layer

__all__ = ["Bits", "CpuidField", "MsrField", "RegisterFact", "register_facts"]

_REGISTERS = {"eax": 0, "ebx": 1, "ecx": 2, "edx": 3}


@dataclass(frozen=True, slots=True)
class Bits:
    """Bits `high` to `low` of a register; one bit reads as true or false."""

    high: int
    low: int

    @property
    def kind(self) -> type[bool] | type[int]:
        """What they read as."""
        return bool if self.high == self.low else int

    def of(self, register: int) -> bool | int:
        """These bits of `register`."""
        if self.kind is bool:
            return bool(register >> self.low & 1)
        return register >> self.low & ((1 << self.high - self.low + 1) - 1)

    def __str__(self) -> str:
        return f"[{self.low}]" if self.high == self.low else f"[{self.high}:{self.low}]"


@dataclass(frozen=True, slots=True)
class CpuidField:
    """Bits of a register of a leaf, sub-leaf 0."""

    leaf: int
    register: str
    bits: Bits

    @property
    def index(self) -> int:
        """Index of the register in EAX, EBX, ECX, EDX."""
        return _REGISTERS[self.register]

    def __str__(self) -> str:
        return f"CPUID {self.leaf:#010x} {self.register.upper()}{self.bits}"


@dataclass(frozen=True, slots=True)
class MsrField:
    """Bits of an MSR."""

    number: int
    bits: Bits

    def __str__(self) -> str:
        return f"MSR {self.number:#x}{self.bits}"


@dataclass(frozen=True, slots=True)
class RegisterFact:
    """One row of the table; see the head of table.toml for the columns."""

    name: str
    layer: Layer
    text: str
    field: CpuidField | MsrField
    vendors: frozenset[str]
    absent: bool | int | None
    requires: tuple[tuple[str, ...], ...]
    flags: tuple[str, ...]
    flag_vendors: frozenset[str]
    hidden_if: str | None


@cache
def register_facts() -> tuple[RegisterFact, ...]:
    """Every row, in table order."""
    table = tomllib.loads(files(__package__).joinpath("table.toml").read_text("utf-8"))
    return tuple(_row(row) for row in table["fact"])


def _row(row: Mapping[str, Any]) -> RegisterFact:
    return RegisterFact(
        name=row["name"],
        layer=Layer(row["layer"]),
        text=row["text"],
        field=_field(row),
        vendors=frozenset(row.get("vendors", ())),
        absent=row.get("absent"),
        requires=tuple(tuple(names.split("|")) for names in row.get("requires", ())),
        flags=tuple(row.get("flags", ())),
        flag_vendors=frozenset(row.get("flag_vendors", ())),
        hidden_if=row.get("hidden_if"),
    )


def _field(row: Mapping[str, Any]) -> CpuidField | MsrField:
    if "cpuid" in row:
        cpuid = row["cpuid"]
        return CpuidField(cpuid["leaf"], cpuid["register"], Bits(*cpuid["bits"]))
    return MsrField(row["msr"]["number"], Bits(*row["msr"]["bits"]))
