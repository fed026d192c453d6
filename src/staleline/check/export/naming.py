# SPDX-License-Identifier: GPL-2.0-or-later
"""Names and comments of a model in languages of other checkers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

from staleline.model.form import Action, Actor, Model, Ref, Whose

__all__ = ["Domain", "Naming", "joined", "naming_of", "narrated", "place", "wrapped"]

_WIDTH = 96


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain that one or more variables have.

    Attributes:
        name: Identifier; the variable's own name, or the values' names joined.
        names: Value -> identifier that is unique in the model, in the domain's order.
    """

    name: str
    names: dict[str, str]


@dataclass(frozen=True, slots=True)
class Naming:
    """Identifiers of a model's domains and values.

    Attributes:
        domains: The different domains, in order of first use.
        of_globals: Name of a global variable -> its domain.
        of_locals: Name of a local variable -> its domain.
    """

    domains: tuple[Domain, ...]
    of_globals: dict[str, Domain]
    of_locals: dict[str, Domain]

    def domain(self, ref: Ref) -> Domain:
        """The domain of the variable that is referred to."""
        return (self.of_globals if ref.whose is Whose.GLOBAL else self.of_locals)[ref.name]

    def values(self, ref: Ref, values: frozenset[str]) -> tuple[str, ...]:
        """Identifiers of some of a variable's values, in the domain's order."""
        names = self.domain(ref).names
        return tuple(names[value] for value in names if value in values)


def naming_of(model: Model, reserved: frozenset[str]) -> Naming:
    """Choose identifiers.

    Args:
        model: The model.
        reserved: Words of the language that no value may be called.
    """
    variables = (*model.globals, *model.locals)
    users: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for variable in variables:
        users[variable.domain].append(variable.name)
    taken = reserved | {variable.name for variable in variables}
    # One scope holds the values of all enumerations, in Murphi and Promela, and the variables too.
    seen = Counter(value for values in users for value in values)
    domains = {
        values: _domain(
            values, names, {value for value in values if value in taken} | _shared(seen)
        )
        for values, names in users.items()
    }
    return Naming(
        domains=tuple(domains.values()),
        of_globals={variable.name: domains[variable.domain] for variable in model.globals},
        of_locals={variable.name: domains[variable.domain] for variable in model.locals},
    )


def _shared(seen: Counter[str]) -> set[str]:
    return {value for value, times in seen.items() if times > 1}


def _domain(values: tuple[str, ...], variables: list[str], ambiguous: set[str]) -> Domain:
    """A domain; if one of its values needs the domain's name before it, all have it."""
    name = variables[0] if len(variables) == 1 else "_".join(values)
    prefix = f"{name}_" if ambiguous.intersection(values) else ""
    return Domain(name, {value: f"{prefix}{value}" for value in values})


def narrated(action: Action) -> Iterator[str]:
    """What an action is, as lines of a comment: sentence, then function and source."""
    cpu = "the jumping CPU" if action.actor is Actor.JUMPING else "the secondary"
    sentence = action.sentence.format_map(_Unsaid({"cpu": cpu, "newest": "next kernel's"}))
    yield from wrap(sentence[:1].upper() + sentence[1:], _WIDTH)
    yield from wrap(f"[{', '.join(filter(None, (action.function, action.source)))}]", _WIDTH)


def wrapped(text: str) -> list[str]:
    """A paragraph as lines of a comment."""
    return wrap(text, _WIDTH)


class _Unsaid(dict[str, str]):
    """What a sentence names only when it tells of one run is called by its own name."""

    def __missing__(self, key: str) -> str:
        return key


def place(ref: Ref, own: str, other: str) -> str:
    """A variable, or its element of the acting secondary or of another one."""
    match ref.whose:
        case Whose.GLOBAL:
            return ref.name
        case Whose.OWN:
            return f"{ref.name}[{own}]"
        case Whose.EACH:
            return f"{ref.name}[{other}]"


def joined(operator: str, parts: Sequence[str], neutral: str) -> str:
    """The parts with an operator between them, in parentheses where there are several."""
    if not parts:
        return neutral
    return parts[0] if len(parts) == 1 else f"({operator.join(parts)})"
