# SPDX-License-Identifier: GPL-2.0-or-later
"""A fact, and all facts of one machine by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

__all__ = ["Fact", "Layer", "MachineFacts", "Value"]

#: None means that the evidence does not tell.
Value = bool | int | str | tuple[int, ...] | None


class Layer(StrEnum):
    """What a fact is about; layers are never merged."""

    IDENTITY = "identity"
    HARDWARE = "hardware"
    FIRMWARE = "firmware"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True)
class Fact:
    """One named fact.

    Attributes:
        name: Its name.
        layer: What it is about.
        text: What it says, for people.
        value: The value, or None where the evidence does not tell.
        source: The evidence for a value, such as ``CPUID 0x8000001f EAX[0]``.
        missing: For None: what is missing and how to get it.
    """

    name: str
    layer: Layer
    text: str
    value: Value
    source: str | None = None
    missing: str | None = None

    def __post_init__(self) -> None:
        assert (self.value is None) == (self.source is None) == (self.missing is not None)


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What is known of one machine; every fact is present, unknown ones with value None."""

    facts: Mapping[str, Fact]

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", MappingProxyType(dict(self.facts)))

    @classmethod
    def of(cls, facts: Iterable[Fact]) -> MachineFacts:
        """The given facts, in their order."""
        return cls({fact.name: fact for fact in facts})

    def __getitem__(self, name: str) -> Fact:
        return self.facts[name]

    def __iter__(self) -> Iterator[Fact]:
        return iter(self.facts.values())

    def layer(self, layer: str) -> Iterator[Fact]:
        """The facts of one layer, in table order."""
        return (fact for fact in self if fact.layer == layer)

    def boolean(self, name: str) -> bool | None:
        """The value of a yes-or-no fact."""
        value = self.facts[name].value
        assert value is None or isinstance(value, bool), name
        return value

    def integer(self, name: str) -> int | None:
        """The value of a number."""
        value = self.facts[name].value
        assert value is None or (isinstance(value, int) and not isinstance(value, bool)), name
        return value

    def text(self, name: str) -> str | None:
        """The value of a text."""
        value = self.facts[name].value
        assert value is None or isinstance(value, str), name
        return value
