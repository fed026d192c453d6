# SPDX-License-Identifier: GPL-2.0-or-later
"""An audit as text for a terminal: the verdict, what would settle it, and what it rests on."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from staleline.check.answer import Answer
from staleline.facts import Fact, MachineFacts
from staleline.report.formats.findings import LEFT_BEHIND, violation_id
from staleline.report.words.console import VERDICT_STYLE, kept_whole, markup_escape
from staleline.report.words.handovertable import Column, HandoverTable
from staleline.report.words.identity import identity_words
from staleline.report.words.lanes import lanes
from staleline.report.words.tables import Table
from staleline.report.words.words import flush_words, left_words, required_words
from staleline.verdict.audit.audit import Audit, Handover
from staleline.verdict.handover.reasons import Unneeded, UnneededEither
from staleline.verdict.handover.unknown import asked_once
from staleline.vocabulary import Path, Site, Verdict

__all__ = ["because", "meaning", "print_audit"]

_HEADLINE = {
    Verdict.SAFE: "no dirty line of the old kernel can overwrite the next kernel's memory",
    Verdict.AT_RISK: "the handover can go wrong",
    Verdict.UNKNOWN: "the evidence does not settle it",
}

#: What was found, by its id. One property can be broken in several ways: P1 by a write-back, by a
#: read, and by a line that was clean once.
_BROKEN = {
    "stale-write-back": "a dirty line of the old kernel can overwrite the next kernel's memory",
    "stale-read": "a CPU can read an outdated line that it kept from the old kernel",
    LEFT_BEHIND: "a line that is dirty again when its CPU has flushed can overwrite the next "
    "kernel's memory",
    "reported-before-flush": "the jumping CPU can go on while another CPU still has its WBINVD "
    "ahead of it",
    "flush-faults": "WBINVD is executed where it traps",
    "hang": "the handover can wait forever",
    "late-store": "a CPU that was not stopped can overwrite the next kernel's memory",
}

_AMD = frozenset({"AuthenticAMD", "HygonGenuine"})
_INTEL = frozenset({"GenuineIntel"})
_ALL = _AMD | _INTEL
#: Facts worth a word on the first screen, per layer: (fact, its label, vendors it is for).
_SHOWN = {
    "hardware can": (
        ("sme", "SME", _AMD),
        ("sev", "SEV", _AMD),
        ("sev_snp", "SNP", _AMD),
        ("coherency_enforced", "keep aliases coherent", _AMD),
        ("tme", "TME", _INTEL),
        ("hypervisor", "is virtual", _ALL),
    ),
    "firmware enabled": (
        ("sme_enabled", "C-bit (SYSCFG[23])", _AMD),
        ("snp_enabled", "SNP (SYSCFG[24])", _AMD),
        ("tdx_keyids", "TDX KeyIDs", _INTEL),
    ),
    "kernel was told": (
        ("mem_encrypt", "mem_encrypt", _AMD),
        ("reboot_force", "reboot=force", _ALL),
    ),
    "kernel has run": (
        ("sev_guests_run", "SEV guests", _AMD),
        ("tdx_module", "TDX module", _INTEL),
    ),
}


def print_audit(console: Console, audit: Audit, *, machine: str) -> None:
    """Print the whole report.

    Args:
        console: Where to.
        audit: What was found.
        machine: What was audited: a file name, or "this host".
    """
    for path in audit.by_path:
        console.print(_headline(audit, path))
        for line in (*because(audit, path), *_explained(audit, path)):
            console.print(Padding(markup_escape(line), (0, 0, 0, 2), expand=False))
    for paragraph in _listed("Missing, and how to get it", _unknown_lines(audit)):
        console.print()
        console.print(paragraph)
    console.print()
    console.print(_subject(audit, machine))
    console.print()
    console.print(_handovers(audit))
    for paragraph in _remarks(audit):
        console.print()
        console.print(paragraph)
    for title, answer in _counterexamples(audit):
        console.print()
        console.print(f"[bold]{markup_escape(title)}[/]")
        if answer.counterexample is not None:
            console.print(lanes(answer.counterexample))


def _headline(audit: Audit, path: Path) -> Text:
    verdict = audit.by_path[path]
    return Text.assemble(
        (verdict.upper(), VERDICT_STYLE[verdict]),
        (f" on {path}", "bold"),
        f": {meaning(audit, path)}",
    )


def meaning(audit: Audit, path: Path) -> str:
    """What the verdict on a path means, as a clause."""
    broken = _violations(audit, path)
    if audit.by_path[path] is Verdict.AT_RISK and broken:
        return "; ".join(_BROKEN[name] for name in broken)
    return _HEADLINE[audit.by_path[path]]


def because(audit: Audit, path: Path) -> Iterator[str]:
    """Why, where it is safe: one line per reason with the transitions it holds for."""
    if audit.by_path[path] is not Verdict.SAFE:
        return
    reasons: dict[str, list[str]] = {}
    for row in audit.handovers:
        if row.path is path:
            reasons.setdefault(row.because, []).append(row.transition)
    for reason, transitions in reasons.items():
        where = f" ({', '.join(transitions)})" if len(reasons) > 1 else ""
        yield f"because {reason}{where}"


def _explained(audit: Audit, path: Path) -> Iterator[str]:
    """Where more is said of what was found; of what is unknown the run below it does."""
    if audit.by_path[path] is Verdict.UNKNOWN:
        return
    for name in _violations(audit, path):
        yield f"staleline explain {name}"


def _violations(audit: Audit, path: Path) -> list[str]:
    """Ids of what the counterexamples on a path show, in the order of `_BROKEN`."""
    answers = [row.answer for row in audit.handovers if row.path is path]
    runs = [answer.counterexample for answer in answers if answer is not None]
    names = {violation_id(run) for run in runs if run is not None}
    return [name for name in _BROKEN if name in names]


def _subject(audit: Audit, machine: str) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("machine", markup_escape(_cpu(audit.facts)))
    grid.add_row("", f"[dim]{markup_escape(machine)}[/]")
    for title, shown in _SHOWN.items():
        words = list(_fact_words(audit.facts, shown))
        if words:
            grid.add_row(title, markup_escape(", ".join(words)))
    if audit.given:
        grid.add_row("not observed", markup_escape(f"given by you: {', '.join(audit.given)}"))
    grid.add_row(
        "kernel", f"{markup_escape(audit.kernel)}  [dim]{markup_escape(audit.kernel_evidence)}[/]"
    )
    grid.add_row("", f"[dim]{markup_escape(identity_words(audit.identity))}[/]")
    grid.add_row("kernel does", _encrypts(audit.sme_active))
    return grid


def _encrypts(sme_active: bool | None) -> str:
    return {
        True: "use the C-bit for its own memory",
        False: "not use the C-bit for its own memory",
        None: "use the C-bit or not: both are shown",
    }[sme_active]


def _cpu(facts: MachineFacts) -> str:
    names = ("vendor", "family", "model", "stepping", "signature")
    vendor, family, model, stepping, signature = (_word(facts[name]) for name in names)
    return f"{vendor} family {family} model {model} stepping {stepping}, signature {signature}"


def _fact_words(
    facts: MachineFacts, shown: tuple[tuple[str, str, frozenset[str]], ...]
) -> Iterator[str]:
    # What only other vendors' CPUs have is absent by its nature, and no news.
    vendor = facts.text("vendor")
    for name, label, vendors in shown:
        if vendor in vendors:
            yield f"{label}: {_word(facts[name])}"


def _word(fact: Fact) -> str:
    if fact.value is None:
        return "unknown"
    if isinstance(fact.value, bool):
        return "yes" if fact.value else "no"
    return str(fact.value)


def _handovers(audit: Audit) -> HandoverTable:
    table = HandoverTable(
        (
            Column("path", whole=True),
            Column("old→next", whole=True),
            *(Column(name) for name in ("secondaries", "jumping CPU", "required")),
            Column("verdict", whole=True),
            Column("CPUs (states)", style="dim"),
        )
    )
    for row in audit.handovers:
        table.add(
            row.path,
            row.transition,
            flush_words(row, row.path.secondaries_site),
            flush_words(row, Site.RELOCATE_KERNEL),
            required_words(row.needed, row.path.secondaries_site, attainable=row.attainable),
            Text(row.verdict, style=VERDICT_STYLE[row.verdict]),
            _checked(row.answer),
        )
    return table


def _checked(answer: Answer | None) -> str:
    if answer is None:
        return ""
    scope = {"proved": "any number", "counterexample": str(answer.cpus)}
    return f"{scope.get(answer.kind, f'up to {answer.cpus}')} ({answer.states})"


def _remarks(audit: Audit) -> Iterator[RenderableType]:
    for title, lines in (
        ("Unneeded flushes", _unneeded_lines(audit)),
        ("Left behind dirty", _left_lines(audit)),
        ("Faults", _fault_lines(audit)),
    ):
        yield from _listed(title, lines)


def _listed(title: str, lines: _Lines) -> Iterator[RenderableType]:
    """A paragraph, if there is anything in it."""
    if lines:
        body = Group(*(_item(line, name) for line, name in lines))
        yield Group(Text(title, style="bold"), Padding(body, (0, 0, 0, 2), expand=False))


def _item(line: str, name: str) -> Text:
    return Text.assemble(("• ", "dim"), kept_whole(line), (f" [{name}]", "dim"))


#: A line, and the id of its explanation.
_Lines = list[tuple[str, str]]


def _unneeded_lines(audit: Audit) -> _Lines:
    rows: dict[tuple[Site, Unneeded | UnneededEither], list[str]] = {}
    for row in audit.handovers:
        for item in row.unneeded.items():
            rows.setdefault(item, []).append(_row_name(row))
    return [
        (f"WBINVD in {site}: {reason} ({', '.join(names)})", reason.id)
        for (site, reason), names in rows.items()
    ]


def _left_lines(audit: Audit) -> _Lines:
    """Where that makes a handover unsafe: each store once."""
    lines = (
        left_words(site, store.line, store.code, store.through)
        for row in audit.handovers
        if row.verdict is not Verdict.SAFE
        for site, stores in row.left_behind.items()
        for store in stores
    )
    return [(line, LEFT_BEHIND) for line in dict.fromkeys(lines)]


def _fault_lines(audit: Audit) -> _Lines:
    return [
        (f"{site} executes WBINVD, which traps in this guest ({_row_name(row)})", "flush-faults")
        for row in audit.handovers
        for site in row.faults
    ]


def _unknown_lines(audit: Audit) -> _Lines:
    of_rows = (reason for row in audit.handovers for reason in row.unknown)
    return [(reason, reason.id) for reason in asked_once((*audit.unknown, *of_rows))]


def _row_name(row: Handover) -> str:
    return f"{row.path} {row.transition}"


def _counterexamples(audit: Audit) -> Iterator[tuple[str, Answer]]:
    """One per path and way in which it goes wrong: more would tell the same story again."""
    seen: set[tuple[Path, str]] = set()
    for row in audit.handovers:
        answer = row.answer
        if answer is None or answer.counterexample is None:
            continue
        key = (row.path, violation_id(answer.counterexample))
        if key not in seen:
            seen.add(key)
            # Right below UNKNOWN stands what settles it, and nothing else.
            is_open = audit.by_path[row.path] is Verdict.UNKNOWN
            more = f" (staleline explain {key[1]})" if is_open else ""
            yield f"Counterexample, {_row_name(row)}{more}", answer
