# SPDX-License-Identifier: GPL-2.0-or-later
"""Several lines in one model: a cross-check of looking at each line on its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from staleline.errors import ModelError
from staleline.model.form import (
    Action,
    All,
    And,
    Any,
    Assign,
    Constant,
    Expr,
    Model,
    Not,
    OneOf,
    Or,
    Property,
    Ref,
    Variable,
    all_of,
    any_of,
    in_order,
)
from staleline.model.state.cpus import CPUS, SEAMCALLED
from staleline.model.state.lines import Line

__all__ = ["combined"]

#: Where each CPU is, and what it is known to have done; the rest each line has for itself.
_PLACES = frozenset(cpu.ref("pc").name for cpu in CPUS)
_OF_CPUS = _PLACES | {cpu.ref(SEAMCALLED).name for cpu in CPUS}


def combined(lines: Sequence[tuple[Line, Model]]) -> Model:
    """The model of several lines of one scenario at once.

    Args:
        lines: Lines of different roles with their models, as `world` gives them.

    Raises:
        ModelError: There is no line, or two have the same role.
    """
    roles = [line.role for line, _ in lines]
    if not roles or len(set(roles)) < len(roles):
        raise ModelError(
            "needs lines of different roles",
            where=", ".join(roles) or "no line",
            do="give each role once",
        )
    # One line keeps its names, so that the states are those that `check` tells of.
    if len(lines) == 1:
        return lines[0][1]
    # Identifiers of Murphi and Promela have no hyphens.
    parts = [_Part(line.role.replace("-", "_"), model) for line, model in lines]
    first = parts[0].model
    return Model(
        # Behind the last comma a line's model has its role.
        title=f"{first.title.rpartition(', ')[0]}, {' + '.join(roles)}",
        globals=_variables(parts, [part.model.globals for part in parts]),
        locals=_variables(parts, [part.model.locals for part in parts]),
        # A step that moves a CPU happens for all lines at once; what happens to a line between such
        # steps happens to that line alone.
        actions=(*_steps_of_cpus(parts), *_steps_of_lines(parts)),
        properties=tuple(_properties(parts)),
        goal=all_of(*(part.expr(part.model.goal) for part in parts)),
        goal_name=first.goal_name,
        goal_title=first.goal_title,
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """One line's model, and the prefix that its own variables get."""

    prefix: str
    model: Model

    def name(self, name: str) -> str:
        return name if name in _OF_CPUS else f"{self.prefix}_{name}"

    def ref(self, ref: Ref) -> Ref:
        return Ref(ref.whose, self.name(ref.name))

    def assigns(self, action: Action) -> tuple[Assign, ...]:
        return tuple(Assign(self.ref(one.target), one.value) for one in action.assigns)

    def expr(self, expr: Expr) -> Expr:
        match expr:
            case Constant():
                return expr
            case OneOf(ref, values):
                return OneOf(self.ref(ref), values)
            # `~` moves negations down to here, so there are no others.
            case Not(OneOf(ref, values)):
                return Not(OneOf(self.ref(ref), values))
            case And(operands):
                return all_of(*map(self.expr, operands))
            case Or(operands):
                return any_of(*map(self.expr, operands))
            case All(body):
                return All(self.expr(body))
            case Any(body):
                return Any(self.expr(body))
        raise TypeError(f"not an expression of the form: {expr!r}")


def _variables(
    parts: Sequence[_Part], variables: Sequence[tuple[Variable, ...]]
) -> tuple[Variable, ...]:
    """Every variable once, those about CPUs first; each line's may have values of its own."""
    domains: dict[str, dict[str, None]] = {}
    for part, group in zip(parts, variables, strict=True):
        for variable in group:
            domain = domains.setdefault(part.name(variable.name), {})
            domain.update(dict.fromkeys(variable.domain))
    # `CompiledModel` files actions under the first variables, which have to be the places.
    ordered = sorted(domains, key=lambda name: name not in _OF_CPUS)
    return tuple(Variable(name, tuple(domains[name])) for name in ordered)


def _moves_a_cpu(action: Action) -> bool:
    return any(assign.target.name in _PLACES for assign in action.assigns)


def _steps_of_cpus(parts: Sequence[_Part]) -> Iterator[Action]:
    """Each as one step of all lines; one that any line forbids does not happen.

    Raises:
        ModelError: CPUs take other steps in one model than in another.
    """
    by_name = [
        {action.name: action for action in part.model.actions if _moves_a_cpu(action)}
        for part in parts
    ]
    if any(actions.keys() != by_name[0].keys() for actions in by_name):
        raise ModelError(
            "CPUs take other steps in one of these models than in another",
            where=", ".join(part.prefix for part in parts),
            do="check these lines one by one",
        )
    for name, action in by_name[0].items():
        same = [(part, actions[name]) for part, actions in zip(parts, by_name, strict=True)]
        guard = all_of(*(part.expr(one.guard) for part, one in same))
        assigns = in_order(*(part.assigns(one) for part, one in same))
        yield _renamed(action, name, guard, assigns)


def _steps_of_lines(parts: Sequence[_Part]) -> Iterator[Action]:
    for part in parts:
        for action in part.model.actions:
            if not _moves_a_cpu(action):
                name = f"{part.prefix}_{action.name}"
                yield _renamed(action, name, part.expr(action.guard), part.assigns(action))


def _renamed(action: Action, name: str, guard: Expr, assigns: tuple[Assign, ...]) -> Action:
    return Action(
        name=name,
        actor=action.actor,
        guard=guard,
        assigns=assigns,
        function=action.function,
        source=action.source,
        sentence=action.sentence,
    )


def _properties(parts: Sequence[_Part]) -> Iterator[Property]:
    """A property is broken if it is for one of the lines."""
    for item in parts[0].model.properties:
        same = [
            part.expr(property_.violated)
            for part in parts
            for property_ in part.model.properties
            if property_.name == item.name
        ]
        yield Property(item.name, item.title, any_of(*same))
