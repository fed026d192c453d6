# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kit measured, as text: what it comes to, beside what CPUID says, then every test."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from rich.console import Console
from rich.padding import Padding

from staleline.litmus.results import AskedTest, FlushDurations, LitmusResult, MeasuredAliases
from staleline.report.words.console import markup_escape
from staleline.report.words.tables import Table

__all__ = ["aliases_words", "print_aliases", "print_litmus"]

_STYLE = {
    MeasuredAliases.INCOHERENT: "bold red",
    MeasuredAliases.NOT_OBSERVED: "bold yellow",
    MeasuredAliases.REFUSED: "bold yellow",
    MeasuredAliases.NOT_MEASURED: "bold yellow",
}
_CPUID = {
    True: "CPUID says that they are kept coherent",
    False: "CPUID does not say that they are kept coherent",
    None: "CPUID was not asked",
}


def aliases_words(result: LitmusResult) -> str:
    """What was measured, in one sentence."""
    match result.aliases:
        case MeasuredAliases.INCOHERENT:
            return (
                f"{result.starred:,} of {result.asked:,} lines showed what coherent aliases cannot "
                f"give, {result.destroyed:,} lost what was stored last"
            )
        case MeasuredAliases.NOT_OBSERVED:
            return (
                f"none of {result.asked:,} lines showed what coherent aliases cannot give, which "
                "proves nothing: incoherence stays unknown"
            )
        case MeasuredAliases.REFUSED:
            return f"the module refused: {result.machine.refused}"
        case _:
            return str(result.why_not_measured)


def print_aliases(console: Console, result: LitmusResult) -> None:
    """What it comes to, under a heading, as part of an audit."""
    console.print()
    console.print("[bold]Measured on this machine[/]")
    for line in (f"aliases {result.aliases}: {aliases_words(result)}", _cpuid(result)):
        console.print(Padding(markup_escape(line), (0, 0, 0, 2), expand=False))


def print_litmus(console: Console, result: LitmusResult) -> None:
    """All of it."""
    style = _STYLE[result.aliases]
    console.print(
        f"[{style}]ALIASES {result.aliases.upper()}[/]: {markup_escape(aliases_words(result))}"
    )
    console.print(f"  {markup_escape(_cpuid(result))}")
    if result.contradicts_cpuid:
        console.print(
            "  [bold red]What was measured and CPUID exclude each other[/]: "
            "staleline explain measured-against-cpuid"
        )
    console.print(f"  {markup_escape(_machine(result))}")
    if result.tests:
        console.print()
        console.print(_tests(result))
    lines = [*(f"{name}: {why}" for name, why in result.skipped.items()), *_flushes(result)]
    if lines:
        console.print()
    for line in lines:
        console.print(Padding(markup_escape(line), (0, 0, 0, 2), expand=False))


def _cpuid(result: LitmusResult) -> str:
    leaf = result.machine.sme_leaf[0]
    register = f" (0x8000001f EAX {leaf:#010x})" if leaf else ""
    return f"{_CPUID[result.machine.says_coherent]}{register}"


def _machine(result: LitmusResult) -> str:
    machine = result.machine
    encrypts = "uses the C-bit" if machine.kernel_encrypts else "does not use the C-bit"
    return (
        f"{machine.vendor} family {machine.family} model {machine.model} stepping "
        f"{machine.stepping}, microcode {machine.microcode}, {machine.cpus} CPUs, SYSCFG "
        f"{machine.syscfg:#x}; {machine.release}, which {encrypts}"
    )


def _tests(result: LitmusResult) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("test", "CPUs", "a", "lines: outcomes (* coherent aliases cannot)", "lost"):
        table.add_column(heading)
    for test in result.tests:
        cpus = f"{test.x}, {test.y} {test.relation}"
        table.add_row(
            *map(markup_escape, (test.name, cpus, test.a or "", _outcomes(test))),
            str(test.destroyed or ""),
        )
    return table


def _outcomes(test: AskedTest) -> str:
    return ", ".join(
        f"{outcome.count:,} {'*' * outcome.starred}{outcome.name}"
        for outcome in test.outcomes
        if outcome.count
    )


def _flushes(result: LitmusResult) -> Iterator[str]:
    for one in result.durations:
        if one.nanoseconds:
            middle = median(one.nanoseconds) / 1000
            yield f"WBINVD {_where(one)}: {middle:,.1f} µs, the median of {len(one.nanoseconds)}"


def _where(durations: FlushDurations) -> str:
    if durations.cpu is None:
        return "on all CPUs at once"
    dirty = (
        f"after stores to {durations.dirty_kb:,} KB"
        if durations.dirty_kb
        else "again, with clean caches"
    )
    return f"on CPU {durations.cpu} {dirty}"
