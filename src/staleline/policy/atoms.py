# SPDX-License-Identifier: GPL-2.0-or-later
"""The atoms a policy's predicates are made of; the list itself is data (atoms.toml)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from types import MappingProxyType

__all__ = ["VENDORS", "Atom", "AtomLayer", "AtomType", "AtomValue", "atoms"]

#: Vendors that rules may tell apart; the first stands for every one that no rule names.
VENDORS = ("CentaurHauls", "AuthenticAMD", "HygonGenuine", "GenuineIntel")

#: What an atom can be known to be; None where the evidence does not tell.
AtomValue = bool | int | str | None


class AtomType(StrEnum):
    """The type of an atom's values."""

    BOOL = "bool"
    INT = "int"
    STR = "str"


class AtomLayer(StrEnum):
    """Who answers: the hardware, the firmware's settings, or the kernel's doing."""

    HARDWARE = "hardware"
    FIRMWARE = "firmware"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True)
class Atom:
    """One thing a predicate may ask of a machine or kernel."""

    name: str
    type: AtomType
    layer: AtomLayer
    meaning: str


@cache
def atoms() -> Mapping[str, Atom]:
    """All atoms by name, in the order of the data file."""
    table = tomllib.loads(files(__package__).joinpath("atoms.toml").read_text("utf-8"))
    return MappingProxyType(
        {
            name: Atom(name, AtomType(row["type"]), AtomLayer(row["layer"]), row["meaning"])
            for name, row in table.items()
        }
    )
