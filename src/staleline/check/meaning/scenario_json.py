# SPDX-License-Identifier: GPL-2.0-or-later
"""A scenario as JSON values and from text, by the names of its fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any, get_type_hints

from staleline.errors import ModelError
from staleline.model.scenario import Scenario

__all__ = ["MAX_SECONDARIES", "parameter", "parameters", "scenario_document", "scenario_from"]

#: More secondaries than any exact search or printed model can use.
MAX_SECONDARIES = 1024

_WORDS = {"yes": True, "true": True, "no": False, "false": False}


def parameters() -> dict[str, type]:
    """Name of each parameter of a scenario -> its type: bool, int or an enumeration."""
    hints = get_type_hints(Scenario)
    return {field.name: hints[field.name] for field in fields(Scenario)}


def scenario_document(scenario: Scenario) -> dict[str, str | bool | int]:
    """A scenario as a JSON object, every parameter spelt out."""
    values = {name: getattr(scenario, name) for name in parameters()}
    return {
        name: str(value) if isinstance(value, StrEnum) else value for name, value in values.items()
    }


def scenario_from(document: Mapping[str, Any], where: str) -> Scenario:
    """The scenario of a JSON object; nothing in it is trusted.

    Args:
        document: Parameters by name; those that have a default may be absent.
        where: File and field, for errors.

    Raises:
        ModelError: A parameter is unknown, missing or has no such value, or the combination
            is one that no machine shows.
    """
    known = parameters()
    for name in document:
        if name not in known:
            raise ModelError(f"{name!a} is no parameter", where=where, do=_one_of(known))
    values = {name: _value(name, known[name], document[name], where) for name in document}
    try:
        return Scenario(**values)
    except TypeError as error:  # parameters without a default are missing
        # Python's own words name what is missing, behind the name of the function.
        raise ModelError(str(error).split("() ")[-1], where=where, do="give them") from None


def parameter(name: str, text: str, where: str) -> str | bool | int:
    """The JSON value of a parameter that is given as text, e.g. ``yes`` or ``never``.

    Raises:
        ModelError: There is no such parameter, or the text is not of its type.
    """
    known = parameters()
    if name not in known:
        raise ModelError(f"{name!a} is no parameter", where=where, do=_one_of(known))
    kind = known[name]
    if kind is bool and text in _WORDS:
        return _WORDS[text]
    # More digits than any number that is allowed has, and int() refuses thousands of them.
    if kind is int and text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    if issubclass(kind, StrEnum):
        return text
    raise ModelError(f"{name} cannot be {text!a}", where=where, do=_expected(kind))


def _value(name: str, kind: type, value: Any, where: str) -> Any:
    if issubclass(kind, StrEnum):
        if isinstance(value, str) and value in set(kind):
            return kind(value)
    # By its very type, as a bool is an int to Python.
    elif type(value) is kind and (kind is not int or 0 <= int(str(value)) <= MAX_SECONDARIES):
        return value
    raise ModelError(f"{name} cannot be {_shown(value)}", where=where, do=_expected(kind))


def _shown(value: object) -> str:
    text = ascii(value) if isinstance(value, str | bool | int | None) else "a list or object"
    return text if len(text) <= 40 else f"{text[:40]}..."


def _expected(kind: type) -> str:
    if kind is bool:
        return "give yes or no"
    if kind is int:
        return f"give a number from 0 to {MAX_SECONDARIES}"
    return _one_of([str(value) for value in kind]) if issubclass(kind, StrEnum) else "leave it out"


def _one_of(names: Mapping[str, object] | list[str]) -> str:
    return f"give one of {', '.join(names)}"
