# SPDX-License-Identifier: GPL-2.0-or-later
"""Models nobody would write, for tests of whatever reads models."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from staleline.model.form import (
    TRUE,
    Action,
    Actor,
    All,
    Any,
    Assign,
    Expr,
    Model,
    Property,
    Ref,
    Variable,
    Whose,
)

__all__ = ["expressions", "guards_for_views", "models"]

VALUES = ("a", "b", "c")
SHARED = ("g", "h")
LOCAL = ("l", "m")


def _refs(*whose: Whose) -> st.SearchStrategy[Ref]:
    known = [
        Ref(kind, name) for kind in whose for name in (SHARED if kind is Whose.GLOBAL else LOCAL)
    ]
    return st.sampled_from(known)


def _members(*whose: Whose) -> st.SearchStrategy[Expr]:
    values = st.lists(st.sampled_from(VALUES), max_size=2)
    return st.builds(lambda ref, some: ref.one_of(*some), _refs(*whose), values)


def expressions(*whose: Whose) -> st.SearchStrategy[Expr]:
    """Expressions over variables of these kinds, quantified or not."""

    def grow(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
        return st.one_of(
            st.builds(lambda a, b: a & b, inner, inner),
            st.builds(lambda a, b: a | b, inner, inner),
            st.builds(lambda a: ~a, inner),
        )

    body = st.recursive(_members(*whose, Whose.EACH), grow, max_leaves=2)
    quantified = st.one_of(st.builds(All, body), st.builds(Any, body))
    plain = _members(*whose)
    return st.recursive(st.one_of(plain, plain, quantified), grow, max_leaves=3)


def guards_for_views(*whose: Whose) -> st.SearchStrategy[Expr]:
    """Guards that do not ask for some other secondary."""
    waits = st.builds(lambda a, b: a & All(~b), _members(*whose), _members(*whose, Whose.EACH))
    plain = st.builds(lambda a: ~a, _members(*whose))
    return st.one_of(plain, plain, waits)


Guards = Callable[..., st.SearchStrategy[Expr]]


@st.composite
def _actions(draw: st.DrawFn, name: str, guards: Guards) -> Action:
    actor = draw(st.sampled_from(Actor))
    own = (Whose.OWN,) if actor is Actor.SECONDARY else ()
    targets = draw(
        st.lists(_refs(Whose.GLOBAL, Whose.EACH, *own), min_size=1, max_size=3, unique=True)
    )
    return Action(
        name=name,
        actor=actor,
        guard=draw(guards(Whose.GLOBAL, *own)),
        assigns=tuple(Assign(target, draw(st.sampled_from(VALUES))) for target in targets),
        function="",
        source="",
        sentence="",
    )


@st.composite
def models(draw: st.DrawFn, guards: Guards = expressions) -> Model:
    """Models of a few variables and actions."""
    count = draw(st.integers(1, 4))
    return Model(
        title="random",
        globals=tuple(Variable(name, VALUES) for name in SHARED),
        locals=tuple(Variable(name, VALUES) for name in LOCAL),
        actions=tuple(draw(_actions(f"action{i}", guards)) for i in range(count)),
        properties=(Property("P", "", draw(expressions(Whose.GLOBAL))),),
        goal=TRUE,
        goal_name="G",
        goal_title="",
    )
