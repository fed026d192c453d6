# SPDX-License-Identifier: GPL-2.0-or-later
"""Which flushes a handover needs, worked out beforehand for those that verdicts ask about."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from itertools import product

from staleline.check.requirements import Requirements, required_flushes
from staleline.model.scenario import Flush, ForeignLines, LeftBehind, Scenario, Stop
from staleline.model.state.lines import Role
from staleline.verdict.handover.case import SECONDARIES
from staleline.vocabulary import Path, ReportOrder, Site

__all__ = ["is_known_safe", "required_toml", "requirements"]

_HEAD = """\
# SPDX-License-Identifier: GPL-2.0-or-later
# The sets of flushing sites with which a handover is safe, made by tools/generate_docs.py.
# S is the secondaries' site of the path, J the jumping CPU's; "" is no flush at all.
"""
_LETTERS = ("S", "J")


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
    """Whether a handover is safe, by the table; None where it does not tell and a search would.

    The table is of flushes that are executed or not, before the report, with nothing left behind.
    """
    flushes = (scenario.flush_secondary, scenario.flush_jumping)
    sites = zip(_sites(scenario.path), flushes, strict=True)
    flushing = frozenset(site for site, flush in sites if flush is Flush.ALWAYS)
    asked = _without_flushes(scenario)
    # Who does not flush, or is not stopped at all, has nothing to report too early.
    unordered = scenario.flush_secondary is Flush.NEVER or scenario.stop is Stop.SKIPPED
    as_asked = replace(
        asked,
        flush_secondary=scenario.flush_secondary,
        flush_jumping=scenario.flush_jumping,
        report=scenario.report if unordered else asked.report,
    )
    either = set(flushes) <= {Flush.NEVER, Flush.ALWAYS}
    if roles is not None or not either or as_asked != scenario:
        return None
    known = _known().get(asked)
    return None if known is None else flushing in known.safe


def required_toml() -> str:
    """The table, worked out anew."""
    rows = (f'"{_name(scenario)}" = {json.dumps(_row(scenario))}\n' for scenario in _handovers())
    return _HEAD + "".join(rows)


@cache
def _known() -> Mapping[Scenario, Requirements]:
    table = tomllib.loads(files(__package__).joinpath("required.toml").read_text("utf-8"))
    return {
        scenario: Requirements.of(_sites(scenario.path), _sets(table[name], scenario.path))
        for scenario in _handovers()
        if (name := _name(scenario)) in table
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
    old, following = (
        "on" if on else "off" for on in (scenario.old_encrypts, scenario.next_encrypts)
    )
    coherency = "incoherent" if scenario.incoherent else "coherent"
    lines = "guest" if scenario.guest else scenario.foreign
    stop = scenario.stop if scenario.secondaries else "one CPU"
    return f"{scenario.path} {old}→{following}, {coherency}, {lines}, {stop}"


def _sites(path: Path) -> tuple[Site, Site]:
    return (path.secondaries_site, Site.RELOCATE_KERNEL)


def _row(scenario: Scenario) -> list[str]:
    named = list(zip(_sites(scenario.path), _LETTERS, strict=True))
    safe = required_flushes(scenario).safe
    return ["".join(letter for site, letter in named if site in flushing) for flushing in safe]


def _sets(row: list[str], path: Path) -> tuple[frozenset[Site], ...]:
    letters = dict(zip(_LETTERS, _sites(path), strict=True))
    return tuple(frozenset(letters[letter] for letter in flushing) for flushing in row)
