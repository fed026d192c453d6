# SPDX-License-Identifier: GPL-2.0-or-later
"""A run on the simulated machine as text: observed beside predicted."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from staleline.report.words.console import VERDICT_STYLE, markup_escape
from staleline.report.words.tables import Table
from staleline.simulation.judgedrun import ControlledRun, JudgedRun
from staleline.simulation.observation import Chain, CpuCache, ExecutedFlush, RunOutcome, SeenRun
from staleline.simulation.places import NamedPlaces

__all__ = ["outcome_words", "print_comparison"]

_STYLE = {
    RunOutcome.CLEAN: "bold green",
    RunOutcome.DESTROYED: "bold red",
    RunOutcome.RACE: "bold red",
    RunOutcome.FAILED: "bold red",
    RunOutcome.NOT_OBSERVED: "bold yellow",
}
_CHAINS = 3
_FLUSHES = 12
_SHARED = -1


def outcome_words(seen: SeenRun) -> str:
    """What was observed, in one line."""
    match seen.outcome:
        case RunOutcome.CLEAN:
            return "nothing destroyed, and the next kernel worked"
        case RunOutcome.DESTROYED:
            worked = "worked all the same" if seen.worked else "did not work"
            least = "" if seen.counts else "at least "
            return f"{least}{seen.destroyed:,} lines destroyed, and the next kernel {worked}"
        case RunOutcome.RACE:
            cpus = ", ".join(str(cpu) for cpu in sorted(set(seen.races)))
            return f"handed over while CPU {cpus} still flushed"
        case RunOutcome.FAILED:
            return f"nothing destroyed, but the next kernel did not work ({seen.ending})"
        case _:
            return f"not observed: {seen.not_observed_because}"


def print_comparison(console: Console, controlled: ControlledRun) -> None:
    """The run, its details, and its controls."""
    experiment = controlled.question.experiment
    without = (
        f", without the WBINVD of {controlled.question.without}"
        if controlled.question.without
        else ""
    )
    console.print(
        f"[bold]{_release(controlled.run.places, 1)} → {_release(controlled.run.places, 2)}[/] by "
        f"{experiment.path} on a simulated machine: {experiment.machine}, {experiment.cpus} CPUs, "
        f"{experiment.megabytes} MB{without}"
    )
    console.print(
        f"  {markup_escape(experiment.command_line)} → "
        f"{markup_escape(experiment.next_command_line)}\n"
    )
    console.print(_table(controlled))
    # A clean run blames nobody, so that its controls say nothing.
    if controlled.controls and controlled.run.seen.outcome is not RunOutcome.CLEAN:
        blame = (
            "Every control is clean: what was observed is the kernel's doing."
            if controlled.to_blame
            else "[bold yellow]A control is not clean: this run does not tell who is to blame.[/]"
        )
        console.print(blame)
    for told in (controlled.run, *controlled.controls):
        if told.disagreement:
            console.print(
                f"[bold yellow]{told.name} disagrees with what is predicted:[/] "
                f"{markup_escape(told.disagreement)}"
            )
    _print_details(console, controlled.run)


def _table(controlled: ControlledRun) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "predicted", "observed"):
        table.add_column(heading)
    for told in (controlled.run, *controlled.controls):
        style = _STYLE[told.seen.outcome]
        observed = f"[{style}]{markup_escape(outcome_words(told.seen))}[/]"
        table.add_row(told.name, _predicted_words(told), observed)
    return table


def _predicted_words(told: JudgedRun) -> str:
    prediction = told.prediction
    if prediction is None:
        return "nothing: the machine did not tell its CPUID"
    word = f"[{VERDICT_STYLE[prediction.verdict]}]{prediction.verdict}[/]"
    if prediction.broken:
        return f"{word} ({prediction.broken}, {prediction.role})"
    return word


def _release(places: NamedPlaces, number: int) -> str:
    image = places.kernel if number == 1 else places.following
    return markup_escape((image.release or image.path) if image else "a probe")


def _print_details(console: Console, told: JudgedRun) -> None:
    seen, places = told.seen, told.places
    if places.slide:
        console.print(f"\nKASLR has moved the first kernel by {places.slide:#x}.")
    for handover in seen.handovers:
        where = "enters relocate_kernel()" if handover.moment == "relocation" else "jumps"
        console.print(f"\nDirty lines when CPU {handover.cpu} {where}:")
        for cache in handover.caches:
            console.print(f"  {_cache_words(cache)}")
    _print_flushes(console, seen, places)
    if seen.counts:
        counts = ("destroyed_loads", "destroyed_fetches", "stale_loads", "wrong_alias_loads")
        told_counts = (f"{seen.counts[name]:,} {name.replace('_', ' ')}" for name in counts)
        console.print(f"\nIn all: {', '.join(told_counts)}.")
    for chain in _first_of_each(seen):
        console.print("")
        for line in _chain_words(chain, places):
            console.print(f"  {markup_escape(line)}")
    if seen.outcome is not RunOutcome.CLEAN:
        if seen.fault:
            console.print(f"\nThe next kernel: {markup_escape(seen.fault)}")
        console.print("\nThe console's last lines:")
        for line in seen.last_lines:
            console.print(f"  | {markup_escape(line)}")
    console.print(f"\n[dim]{seen.ending}; {seen.seconds:.0f} s of CPU time.[/]")


def _cache_words(cache: CpuCache) -> str:
    who = "the shared cache" if cache.cpu == _SHARED else f"CPU {cache.cpu} ({cache.state})"
    flushing = ", which flushes" if cache.flushing else ""
    plain, cbit = cache.dirty.get("plain", 0), cache.dirty.get("C-bit", 0)
    overtaken = sum(cache.overtaken.values())
    more = f"; {overtaken:,} of them overtaken by the other alias" if overtaken else ""
    return f"{who}{flushing}: {plain:,} plain, {cbit:,} through the C-bit{more}"


def _print_flushes(console: Console, seen: SeenRun, places: NamedPlaces) -> None:
    """Those on the way into the next kernel, and the first ones after it."""
    start = next((each.tick for each in seen.handovers), None)
    if start is None:
        return
    console.print("\nWBINVDs from the stop of other CPUs on:")
    jump = seen.handover.tick if seen.handover else start
    shown = [flush for flush in seen.flushes if _is_on_the_way(flush, start, jump, places)]
    for flush in shown[:_FLUSHES]:
        early = flush.end <= jump
        destroyed = f", {flush.destroyed:,} lines destroyed by it" if flush.destroyed else ""
        word = "skipped" if flush.instruction == "skipped" else flush.instruction.upper()
        where = markup_escape(places(flush.at, before_handover=early))
        console.print(
            f"  {word} by CPU {flush.at.cpu} in {where} ({'before' if early else 'after'} the "
            f"jump): {flush.dirty:,} of {flush.held:,} lines dirty{destroyed}"
        )
    if not any(flush.end <= jump for flush in shown):
        console.print("  none before the jump")


def _is_on_the_way(flush: ExecutedFlush, start: int, jump: int, places: NamedPlaces) -> bool:
    if flush.end > start or flush.end > jump:
        return True
    # Secondaries flush before the jumping CPU enters relocate_kernel(), the first moment recorded.
    return flush.at.kernel == 1 and places(flush.at).startswith(("stop_this_cpu", "crash_nmi"))


def _first_of_each(seen: SeenRun) -> Iterator[Chain]:
    """A few of the chains, each of another kind of place."""
    told: set[tuple[str, int]] = set()
    shown = 0
    for chain in seen.chains:
        key = (chain.event, chain.by.rip)
        if chain.event == "wrong-alias-load" or key in told or shown == _CHAINS:
            continue
        told.add(key)
        shown += 1
        yield chain


def _chain_words(chain: Chain, places: NamedPlaces) -> Iterator[str]:
    what = {
        "destroyed": "was destroyed",
        "load-destroyed": "was loaded, destroyed",
        "fetch-destroyed": "was executed, destroyed",
        "stale-load": "was loaded from a stale entry",
    }[chain.event]
    yield f"line {chain.line:#x} {what} ({chain.times:,} such so far)"
    rows = []
    if chain.dirtied is not None:
        rows.append(("dirtied", chain.dirtied, chain.alias))
    rows.append(("stored again", chain.newest, chain.newest_alias))
    rows.append(
        (f"written back by {chain.cause}" if chain.cause else "loaded", chain.by, chain.alias)
    )
    for word, store, alias in rows:
        where = places(store)
        yield f"  {word}: CPU {store.cpu}, kernel {store.kernel}, {where}, {alias}"
