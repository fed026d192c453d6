# SPDX-License-Identifier: GPL-2.0-or-later
"""What an operator should know before a load, by stable ids; the texts are in remarks.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

__all__ = ["Remark", "RemarkKind", "remark_kinds"]


@dataclass(frozen=True, slots=True)
class RemarkKind:
    """What remarks of one id say; the columns of remarks.toml."""

    id: str
    title: str
    text: str
    means: str
    do: str
    source: str


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing to know before the load.

    Attributes:
        id: Of remarks.toml.
        text: A sentence or two, about this host.
        source: Where the kernel does it, or where it was read.
    """

    id: str
    text: str
    source: str


@cache
def remark_kinds() -> Mapping[str, RemarkKind]:
    """Every kind by id."""
    table = tomllib.loads(files(__package__).joinpath("remarks.toml").read_text("utf-8"))
    return MappingProxyType({name: RemarkKind(name, **row) for name, row in table.items()})
