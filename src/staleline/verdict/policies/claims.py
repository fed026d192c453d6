# SPDX-License-Identifier: GPL-2.0-or-later
"""The claims of the mail threads, each proved, refuted, or true under a named condition.

The claims and their formal statements are data (claims.toml); what becomes of them is
computed here from the model and from z3, never written down.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

from staleline.check.runs.trace import Counterexample
from staleline.policy.catalogue import catalogue
from staleline.policy.expression import AllOf, Expression, Negation, TruthValue, parse
from staleline.policy.smt import condition_where, equivalent
from staleline.verdict.handover.kernels import FixedKernel, Kernel, PolicyKernel
from staleline.verdict.policies.platforms import PlatformHandover, Selection, check_kernel
from staleline.vocabulary import Path, Site, Verdict

__all__ = [
    "Claim",
    "ClaimResult",
    "Expect",
    "HandoverStatement",
    "RuleStatement",
    "StatementOutcome",
    "Status",
    "claims",
    "judge_claim",
]


class Status(StrEnum):
    """What became of a claim."""

    PROVED = "proved"
    CONDITIONAL = "true under a condition"
    REFUTED = "refuted"


class Expect(StrEnum):
    """What a statement expects of every handover it selects."""

    SAFE = "safe"
    AT_RISK = "at-risk"
    FAULTS = "faults"
    NO_FAULTS = "no-faults"


@dataclass(frozen=True, slots=True)
class HandoverStatement:
    """Every selected handover under a kernel is as expected."""

    kernel: Kernel
    selection: Selection
    expect: Expect


@dataclass(frozen=True, slots=True)
class RuleStatement:
    """Where a rule executes one WBINVD more or less than another, exactly."""

    old: str
    new: str
    site: Site
    adds: Expression
    drops: Expression
    assuming: Expression


Statement = HandoverStatement | RuleStatement


@dataclass(frozen=True, slots=True)
class Claim:
    """What somebody said, and what it means formally."""

    id: str
    who: str
    when: str
    source: str
    says: str
    condition: str | None
    statements: tuple[Statement, ...]
    under_condition: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class StatementOutcome:
    """What became of one statement.

    Attributes:
        holds: It holds as stated.
        cases: Handovers looked at (0 for a statement about rules).
        evidence: One line that says what was found.
        exception: The first handover that is not as expected, if any.
    """

    holds: bool
    cases: int
    evidence: str
    exception: PlatformHandover | None

    @property
    def counterexample(self) -> Counterexample | None:
        """The run that shows the exception, where the exception is a run."""
        return None if self.exception is None else self.exception.judgement.counterexample


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """A claim with what became of it."""

    claim: Claim
    status: Status
    outcomes: tuple[StatementOutcome, ...]
    under_condition: tuple[StatementOutcome, ...]


def judge_claim(claim: Claim) -> ClaimResult:
    """Decide a claim; its condition is looked at only if it does not hold as made."""
    outcomes = tuple(_decide(statement) for statement in claim.statements)
    if all(outcome.holds for outcome in outcomes):
        return ClaimResult(claim, Status.PROVED, outcomes, ())
    restricted = tuple(_decide(statement) for statement in claim.under_condition)
    holds = bool(restricted) and all(outcome.holds for outcome in restricted)
    return ClaimResult(claim, Status.CONDITIONAL if holds else Status.REFUTED, outcomes, restricted)


def _decide(statement: Statement) -> StatementOutcome:
    if isinstance(statement, RuleStatement):
        return _decide_rule(statement)
    rows = tuple(check_kernel(statement.kernel, statement.selection))
    # Of no handover every statement holds; one that selects none has a slip in its table.
    if not rows:
        raise ValueError("a statement of claims.toml selects no handover")
    exceptions = [row for row in rows if not _as_expected(row, statement.expect)]
    counted = f"{statement.expect} in {len(rows) - len(exceptions)} of {len(rows)} handovers"
    return StatementOutcome(
        holds=not exceptions,
        cases=len(rows),
        evidence=f"{statement.kernel.name}: {counted}",
        exception=exceptions[0] if exceptions else None,
    )


def _as_expected(row: PlatformHandover, expect: Expect) -> bool:
    match expect:
        case Expect.SAFE:
            return row.judgement.verdict is Verdict.SAFE
        case Expect.AT_RISK:
            return row.judgement.verdict is Verdict.AT_RISK
        case Expect.FAULTS:
            return bool(row.judgement.faults)
        case Expect.NO_FAULTS:
            return not row.judgement.faults


def _decide_rule(statement: RuleStatement) -> StatementOutcome:
    """Are the two rules' differences exactly the stated ones, on machines as assumed?"""
    before, after = (
        AllOf((catalogue()[name].condition(statement.site), statement.assuming))
        for name in (statement.old, statement.new)
    )
    added = AllOf((after, Negation(before)))
    dropped = AllOf((before, Negation(after)))
    expected = [AllOf((part, statement.assuming)) for part in (statement.adds, statement.drops)]
    holds = equivalent(added, expected[0]) and equivalent(dropped, expected[1])
    adds, drops = (
        "nowhere" if where is None else str(where)
        for where in (condition_where(after, before), condition_where(before, after))
    )
    return StatementOutcome(holds, 0, f"{statement.site}: adds {adds}; drops {drops}", None)


@cache
def claims() -> Mapping[str, Claim]:
    """All claims by id, in the order of the threads."""
    text = files(__package__).joinpath("claims.toml").read_text("utf-8")
    rows = tomllib.loads(text)["claim"]
    return {row["id"]: _claim(row) for row in rows}


def _claim(row: dict[str, Any]) -> Claim:
    return Claim(
        id=row["id"],
        who=row["who"],
        when=row["when"],
        source=row["source"],
        says=row["says"],
        condition=row.get("condition"),
        statements=tuple(map(_statement, row["statement"])),
        under_condition=tuple(map(_statement, row.get("under_condition", ()))),
    )


def _statement(row: dict[str, Any]) -> Statement:
    if "adds" in row:
        return RuleStatement(
            old=row["old"],
            new=row["new"],
            site=Site(row["site"]),
            adds=_condition(row["adds"]),
            drops=_condition(row["drops"]),
            assuming=parse(row["assuming"]) if "assuming" in row else TruthValue(True),
        )
    return HandoverStatement(_kernel(row), _selection(row), Expect(row["expect"]))


def _condition(text: str) -> Expression:
    return parse(text) if text else TruthValue(False)


def _kernel(row: dict[str, Any]) -> Kernel:
    if "policy" in row:
        return PolicyKernel(catalogue()[row["policy"]], "policy of the catalogue")
    return FixedKernel({Site(site): flush for site, flush in row["flushes"].items()})


def _selection(row: dict[str, Any]) -> Selection:
    states = {"on": True, "off": False}
    return Selection(
        platforms=frozenset(row["platforms"]) if "platforms" in row else None,
        old=states.get(row.get("old", "")),
        next=states.get(row.get("next", "")),
        path=Path(row["path"]) if "path" in row else None,
        sev_guests=row.get("sev_guests"),
    )
