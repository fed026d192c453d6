# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a site executes WBINVD on one machine and not on the next, instruction by instruction.

A machine on which the site flushes is compared with machines that differ from it in a single fact
and on which it does not. Everything shown was executed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from staleline.kernel.derivation import DerivationError
from staleline.kernel.guards.dataflow import disassembled, what_led_to
from staleline.kernel.guards.guard import Guard, GuardLine, Input
from staleline.kernel.guards.recording import RecordedSite, SiteRunner, Source
from staleline.kernel.rerun.trace import conditional_outcomes
from staleline.vocabulary import Site

if TYPE_CHECKING:
    from staleline.kernel.boot.decision import RawMachine, Store
    from staleline.kernel.boot.rawfacts import RawFacts
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.rerun.trace import ExecutedInstruction
    from staleline.kernel.rule.truthrows import TruthRow, TruthTable

__all__ = ["explain"]


def explain(
    image: KernelImage,
    table: TruthTable,
    machine: Callable[[RawFacts], RawMachine],
    *,
    att: bool = False,
) -> Iterator[Guard]:
    """Explain every WBINVD that the table shows, each way in which it comes about.

    And what is left dirty behind it, also where only machines do so on which nothing else tells.

    Args:
        image: The kernel.
        table: What it does, by facts.
        machine: A machine with these facts.
        att: Write instructions in AT&T's syntax, as the kernel's sources do.

    Raises:
        DerivationError: The kernel's code did not run as it did for the table.
    """
    runner = SiteRunner(image)
    for site in Site:
        left = {row.facts: row.left_behind(site) for row in table.rows}
        # What leaves nothing behind has nothing to tell of that.
        told = {_places(())}
        for facts, others in _telling(table.rows, site):
            flushing = runner.run(site, machine(facts))
            variables = [source for read in flushing.inputs.values() for source in read]
            # Of those that stay, what the flushing one read, though they may not have come to it.
            staying = {
                name: runner.run(site, machine(other), looking_at=variables)
                for name, other in others.items()
            }
            yield Guard(site, facts, tuple(_lines(flushing, staying, att)), left[facts])
            told.add(_places(left[facts]))
        for facts, stores in left.items():
            if _places(stores) not in told:
                told.add(_places(stores))
                alone = runner.run(site, machine(facts))
                yield Guard(site, facts, tuple(_lines(alone, {}, att)), stores)


def _places(stores: Iterable[Store]) -> frozenset[tuple[str, str, str]]:
    """What tells one trace of stores from another: instructions, lines and aliases."""
    return frozenset((store.code, store.line, store.through) for store in stores)


def _telling(
    rows: Sequence[TruthRow], site: Site
) -> Iterator[tuple[RawFacts, Mapping[str, RawFacts]]]:
    """Few machines that flush, each with its neighbours that do not, until all facts are told."""
    stays = {row.facts for row in rows if row.sites[site].flushes is False}
    around = [(row.facts, _neighbours(row.facts, stays)) for row in rows if row.sites[site].flushes]
    told: set[str] = set()
    while around:
        # Of machines that tell as much, one that has SME if it has the leaf, and only then.
        facts, others = max(
            around, key=lambda pair: (len(pair[1].keys() - told), pair[0].sme is pair[0].leaf)
        )
        # A second machine is shown only for what the first left untold.
        if told and not others.keys() - told:
            return
        yield facts, others
        told |= others.keys()
        if not others:
            return


def _neighbours(facts: RawFacts, candidates: Set[RawFacts]) -> dict[str, RawFacts]:
    """Fact -> a candidate that differs in this one only."""
    vendors = {candidate.vendor for candidate in candidates}
    neighbours = {}
    for name in (field.name for field in fields(facts)):
        values: list[Any] = sorted(vendors) if name == "vendor" else [not getattr(facts, name)]
        others = (replace(facts, **{name: value}) for value in values)
        other = next((other for other in others if other in candidates), None)
        if other is not None:
            neighbours[name] = other
    return neighbours


def _lines(
    flushing: RecordedSite, staying: Mapping[str, RecordedSite], att: bool
) -> Iterator[GuardLine]:
    """The jumps that went another way, what they depend on, and the WBINVD."""
    end = flushing.flush
    if end is None:
        raise DerivationError("the site did not execute WBINVD again when it was recorded")
    steps = flushing.steps[: end + 1]
    # The conditional jumps that went another way are where it was decided; what they depend on,
    # back to what was read from CPUID, an MSR or the kernel's variables, is the guard.
    turning = _turning_points(steps, staying)
    decisive = [index for index, step in enumerate(steps) if step.address in turning]
    shown = sorted(what_led_to(steps, decisive) | {end})
    # The WBINVD is the last line, whether anything was decided before it or not.
    for before, index in pairwise([-1, *shown]):
        step = steps[index]
        yield GuardLine(
            place=flushing.places.code(step.address),
            text=disassembled(step, flushing.places.code, att=att),
            inputs=tuple(_inputs(flushing.inputs.get(index, {}), staying)),
            decides=tuple(turning.get(step.address, ())),
            skipped=index - before - 1,
        )


def _turning_points(
    steps: Sequence[ExecutedInstruction], staying: Mapping[str, RecordedSite]
) -> Mapping[int, Sequence[str]]:
    """Conditional jumps -> the facts without which they go another way."""
    went = conditional_outcomes(steps)
    turning: dict[int, list[str]] = {}
    for name, run in staying.items():
        for address, targets in conditional_outcomes(run.steps).items():
            # A jump that the other machine alone came to lies behind the one that decided.
            if address in went and targets != went[address]:
                turning.setdefault(address, []).append(name)
    return turning


def _inputs(read: Mapping[Source, int], staying: Mapping[str, RecordedSite]) -> Iterator[Input]:
    """What a step read; of CPUID's registers those that differ, or the first."""
    inputs = [
        Input(source.name, value, dict(_differing(source, value, staying)))
        for source, value in read.items()
    ]
    telling = [entry for entry in inputs if entry.others]
    yield from telling or inputs[:1]


def _differing(
    source: Source, value: int, staying: Mapping[str, RecordedSite]
) -> Iterator[tuple[str, int]]:
    for name, run in staying.items():
        other = run.value(source)
        if other is not None and other != value:
            yield name, other
