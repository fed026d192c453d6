# SPDX-License-Identifier: GPL-2.0-or-later
"""Which flushes a handover needs, and what breaks without them, worked out beforehand.

That is for the handovers that verdicts ask about.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from itertools import product

from staleline.check.answer import check
from staleline.check.requirements import Requirements, required_flushes
from staleline.model.scenario import Flush, ForeignLines, LeftBehind, Scenario, Stop
from staleline.model.state.lines import Role
from staleline.verdict.handover.case import SECONDARIES
from staleline.vocabulary import Path, ReportOrder, Site, state_word

__all__ = ["is_known_safe", "known_property", "required_toml", "requirements"]

_HEAD = """\
# SPDX-License-Identifier: GPL-2.0-or-later
# What a handover breaks, or "safe", made by tools/generate_docs.py. One after the other: without
# a flush, with that of the jumping CPU's site, with that of the secondaries' site, with both.
"""
_SAFE = "safe"
_EITHER = (Flush.NEVER, Flush.ALWAYS)


@cache
def requirements(scenario: Scenario, roles: frozenset[Role] | None = None) -> Requirements:
    """The same as `required_flushes`, which says what is not looked at.

    Nor is what this kernel stores after its flushes, for which no set of flushes is to blame.

    Raises:
        ModelError: The state limit was reached.
    """
    # Requirements are what any kernel would have to do: what this one does is taken off, so that
    # all kernels ask about the same few handovers.
    asked = _without_flushes(scenario)
    # To search the model of every line role four times takes long, and the handovers that a `Case`
    # can give are few: a table has the answers for all of them, which a test works out again.
    known = None if roles is not None else _known().get(asked)
    return required_flushes(asked, roles) if known is None else known


def is_known_safe(scenario: Scenario, roles: frozenset[Role] | None = None) -> bool | None:
    """Whether a handover is safe, by the table; None where it does not tell and a search would."""
    outcome = _outcome(scenario, roles)
    return None if outcome is None else outcome == _SAFE


def known_property(scenario: Scenario, roles: frozenset[Role] | None = None) -> str | None:
    """What a shortest counterexample breaks, by the table; None where it tells of none."""
    outcome = _outcome(scenario, roles)
    return None if outcome == _SAFE else outcome


def _outcome(scenario: Scenario, roles: frozenset[Role] | None) -> str | None:
    """By the table, which is of flushes that are executed or not, before the report.

    And of handovers with nothing left behind.
    """
    flushes = (scenario.flush_secondary, scenario.flush_jumping)
    asked = _without_flushes(scenario)
    # Who does not flush, or is not stopped at all, has nothing to report too early.
    unordered = scenario.flush_secondary is Flush.NEVER or scenario.stop is Stop.SKIPPED
    as_asked = replace(
        asked,
        flush_secondary=scenario.flush_secondary,
        flush_jumping=scenario.flush_jumping,
        report=scenario.report if unordered else asked.report,
    )
    if roles is not None or not set(flushes) <= set(_EITHER) or as_asked != scenario:
        return None
    known = _outcomes().get(asked)
    return None if known is None else known[flushes]


def required_toml() -> str:
    """The table, worked out anew."""
    rows = (f'"{_name(scenario)}" = {json.dumps(_row(scenario))}\n' for scenario in _handovers())
    return _HEAD + "".join(rows)


@cache
def _outcomes() -> Mapping[Scenario, Mapping[tuple[Flush, Flush], str]]:
    """By handover and flushes: what it breaks, or that it is safe."""
    table = tomllib.loads(files(__package__).joinpath("required.toml").read_text("utf-8"))
    return {
        scenario: dict(zip(_flushes(), table[name], strict=True))
        for scenario in _handovers()
        if (name := _name(scenario)) in table
    }


@cache
def _known() -> Mapping[Scenario, Requirements]:
    return {
        scenario: Requirements.of(_sites(scenario.path), _safe(scenario.path, outcomes))
        for scenario, outcomes in _outcomes().items()
    }


def _handovers() -> Iterator[Scenario]:
    """All that a `Case` can give, but for the flushes and CPUs that wake up."""
    either, stops = (True, False), (Stop.COMPLETE, Stop.SKIPPED)
    for path, old, following, incoherent, foreign, stop, guest, secondaries in product(
        Path, either, either, either, ForeignLines, stops, either, (SECONDARIES, 0)
    ):
        # Lines of two KeyIDs are never coherent, as a `Case` has it.
        tdx_is_coherent = foreign is ForeignLines.TDX and not incoherent
        # Both kernels of an encrypted guest are encrypted, and it runs no guests of its own.
        no_guest = guest and not (old and following and foreign is ForeignLines.NONE)
        nobody_to_skip = stop is Stop.SKIPPED and (path is Path.CRASH or secondaries == 0)
        if not tdx_is_coherent and not no_guest and not nobody_to_skip:
            yield Scenario(
                path=path,
                old_encrypts=old,
                next_encrypts=following,
                incoherent=incoherent,
                foreign=foreign,
                flush_secondary=Flush.NEVER,
                flush_jumping=Flush.NEVER,
                guest=guest,
                stop=stop,
                secondaries=secondaries,
            )


def _without_flushes(scenario: Scenario) -> Scenario:
    return replace(
        scenario,
        flush_secondary=Flush.NEVER,
        flush_jumping=Flush.NEVER,
        report=ReportOrder.AFTER_FLUSH,
        left_by_secondary=LeftBehind.NONE,
        left_by_jumping=LeftBehind.NONE,
    )


def _name(scenario: Scenario) -> str:
    """For instance ``kexec on→off, incoherent, sev-guests, complete``."""
    old, following = map(state_word, (scenario.old_encrypts, scenario.next_encrypts))
    coherency = "incoherent" if scenario.incoherent else "coherent"
    lines = "guest" if scenario.guest else scenario.foreign
    stop = scenario.stop if scenario.secondaries else "one CPU"
    return f"{scenario.path} {old}→{following}, {coherency}, {lines}, {stop}"


def _sites(path: Path) -> tuple[Site, Site]:
    return (path.secondaries_site, Site.RELOCATE_KERNEL)


def _row(scenario: Scenario) -> list[str]:
    return [
        check(replace(scenario, flush_secondary=secondary, flush_jumping=jumping)).property or _SAFE
        for secondary, jumping in _flushes()
    ]


def _flushes() -> Iterator[tuple[Flush, Flush]]:
    """The secondaries' site's and the jumping CPU's, in the order of a row."""
    return product(_EITHER, _EITHER)


def _safe(path: Path, outcomes: Mapping[tuple[Flush, Flush], str]) -> tuple[frozenset[Site], ...]:
    """The sets of flushing sites with which it is safe."""
    return tuple(
        frozenset(
            site for site, flush in zip(_sites(path), flushes, strict=True) if flush is Flush.ALWAYS
        )
        for flushes, outcome in outcomes.items()
        if outcome == _SAFE
    )
