# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of every finding, unknown and check, by its stable id."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from staleline.errors import UsageError
from staleline.evidence.contradiction import ContradictionKind, contradiction_kinds
from staleline.verdict.audit.remarks import RemarkKind, remark_kinds

__all__ = ["Explanation", "Kind", "bug_id", "explanation", "explanations"]


class Kind(StrEnum):
    """What an explanation is of."""

    VIOLATION = "violation"
    FAULT = "fault"
    UNNEEDED = "unneeded"
    UNKNOWN = "unknown"
    CONTRADICTION = "contradiction"
    BUG = "bug"
    KERNEL = "kernel"
    CHANGE = "change"
    LOAD = "load"
    CHECK = "check"
    PROPERTY = "property"
    ROLE = "role"


@dataclass(frozen=True, slots=True)
class Explanation:
    """One page; the columns of explanations.toml. Texts are single paragraphs.

    Where there are no sources, `means` names them.
    """

    id: str
    kind: Kind
    title: str
    means: str
    evidence: str
    do: str
    sources: tuple[str, ...]
    bugs: tuple[str, ...] = ()


@cache
def explanations() -> Mapping[str, Explanation]:
    """Every page by id, kind by kind."""
    table = tomllib.loads(files(__package__).joinpath("explanations.toml").read_text("utf-8"))
    pages = [_page(name, row) for name, row in table.items()]
    pages += [_of_contradiction(kind) for kind in contradiction_kinds().values()]
    pages += [_of_remark(kind) for kind in remark_kinds().values()]
    pages.sort(key=lambda page: list(Kind).index(page.kind))
    return MappingProxyType({page.id: page for page in pages})


def explanation(name: str) -> Explanation:
    """The page with an id; a property may be in capital letters, a role by its name alone.

    Raises:
        UsageError: There is none; the message names ids that come near.
    """
    # Ids as they are come first: another spelling never hides a page.
    spelt = (name, name.lower(), f"role-{name}")
    known = next((page for one in spelt if (page := explanations().get(one))), None)
    if known is None:
        near = difflib.get_close_matches(name, explanations(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "see `staleline explain`"
        raise UsageError(f"nothing is called {name!a}", do=hint)
    return known


def bug_id(sentence: str) -> str:
    """The id of a known bug, by its sentence in the policy catalogue."""
    # Policies of users may have bugs of their own.
    return _bug_ids().get(sentence, "known-bug")


@cache
def _bug_ids() -> Mapping[str, str]:
    return {bug: page.id for page in explanations().values() for bug in page.bugs}


def _page(name: str, row: Mapping[str, Any]) -> Explanation:
    return Explanation(
        id=name,
        kind=Kind(row["kind"]),
        **{column: _paragraph(row[column]) for column in ("title", "means", "evidence", "do")},
        sources=tuple(row["sources"]),
        bugs=tuple(row.get("bugs", ())),
    )


def _of_contradiction(kind: ContradictionKind) -> Explanation:
    return Explanation(
        id=kind.id,
        kind=Kind.CONTRADICTION,
        title=kind.title,
        means=_paragraph(kind.means),
        evidence="Both fields are named with their values. Neither is believed: no verdict.",
        do=_paragraph(f"{kind.do[:1].upper()}{kind.do[1:]}."),
        sources=(),
    )


def _of_remark(kind: RemarkKind) -> Explanation:
    return Explanation(
        id=kind.id,
        kind=Kind.LOAD,
        title=kind.title,
        means=kind.means,
        evidence="The snapshot, the images and the options; the remark says what it is about.",
        do=kind.do,
        sources=(kind.source,),
    )


def _paragraph(text: str) -> str:
    return " ".join(text.split())
