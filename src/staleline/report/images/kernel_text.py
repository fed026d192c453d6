# SPDX-License-Identifier: GPL-2.0-or-later
"""What images carry, as text: one image in full, many as a table and the rules they share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from staleline.kernel.boot.decision import Fate
from staleline.kernel.reading.offlinedocument import offline_way_of
from staleline.printable import printable
from staleline.report.images.kernel_json import unknowns
from staleline.report.words.console import markup_escape
from staleline.report.words.handovertable import Column, HandoverTable
from staleline.report.words.tables import Table
from staleline.report.words.words import left_words
from staleline.verdict.handover.offline import left_offline
from staleline.vocabulary import ReportOrder, Site

if TYPE_CHECKING:
    from staleline.kernel.reading.document import (
        ImageDocument,
        InventoryDocument,
        OfflineWayDocument,
        PlaceDocument,
        RuleDocument,
    )
    from staleline.kernel.reading.imagereport import ImageReport

__all__ = ["print_image", "print_images"]

_ROLES = {
    Site.STOP_THIS_CPU: "secondaries",
    Site.RELOCATE_KERNEL: "jumping CPU",
    Site.CRASH_NMI_CALLBACK: "secondaries, crash",
}
_ORDERS = {
    ReportOrder.AFTER_FLUSH: "a secondary flushes, then reports itself stopped",
    ReportOrder.BEFORE_FLUSH: (
        "a secondary reports itself stopped, then flushes: the jumping CPU may go on while a"
        " WBINVD is still to come (race; commit 1f5e7eb7868e, Linux 6.5, turned it round)"
    ),
}
#: Phases of functions that flush on the way to the next kernel, or whose flush may spare one.
_PHASES = {"kexec": "on a kexec", "crash": "in a crash", "offline": "when a CPU goes offline"}
_WARNING = "bold yellow"
#: So much of a build ID tells images apart; all of it is in the other formats.
_SHORT_ID = 8


def print_image(
    console: Console, report: ImageReport, *, full: bool = False, all_sites: bool = False
) -> None:
    """One image; `full` adds which inputs could not be varied, `all_sites` every WBINVD."""
    document = report.document
    if document is None:
        return
    console.print(f"[bold]{markup_escape(report.image)}[/]")
    grid = _grid()
    for label, text in (*_identity(document), *_rule(document, inputs=True)):
        grid.add_row(label, text)
    inventory = _inventory(document["inventory"], all_sites=all_sites)
    grid.add_row("WBINVD in code", Text("\n").join(inventory))
    grid.add_row("CPUs offline", _offline(document["offline"]))
    if full and document["not_varied"]:
        grid.add_row("not varied", _not_varied(document["not_varied"]))
    grid.add_row("unknown", _unknown_text(report))
    console.print(grid)
    _print_machine(console, [report])


def print_images(console: Console, reports: Sequence[ImageReport]) -> None:
    """A line for each, then each rule that occurs, once."""
    table = HandoverTable(
        (
            Column("kernel", whole=True),
            Column("rule", whole=True),
            Column("version"),
            Column("build ID"),
            Column("reported"),
            Column("attention"),
        )
    )
    for report in reports:
        table.add(*_line(report))
    console.print(table)
    for carriers in _by_rule(reports):
        console.print()
        grid = _grid()
        for label, text in _rule(carriers[0]):
            grid.add_row(label, text)
        names = dict.fromkeys(one["release"] or "an image without release" for one in carriers)
        grid.add_row("kernels", Text(", ".join(names)))
        console.print(grid)
    _print_unknown(console, reports)
    _print_machine(console, reports)


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2), pad_edge=True)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _identity(document: ImageDocument) -> Iterator[tuple[str, str | Text]]:
    yield "release", markup_escape(document["release"] or "not named")
    if document["package"] is not None:
        yield "package", markup_escape(document["package"])
    if document["version"] is not None:
        yield "version", markup_escape(document["version"])
    if document["member"] is not None:
        yield "in the package", markup_escape(document["member"])
    yield "build ID", document["build_id"] or "none"


def _rule(document: ImageDocument, *, inputs: bool = False) -> Iterator[tuple[str, str | Text]]:
    """What the kernel does: the rule's name, every site, the order, known bugs.

    Builds of the same rule read their inputs at other offsets.
    """
    yield "rule", _rule_name(document)
    for site in Site:
        rule = document["sites"].get(site)
        if rule is not None:
            read = document["inputs"].get(site, []) if inputs else []
            yield _ROLES[site], _when("WBINVD", rule, read)
            yield from _after_flush(site, document)
    if (rule := document["crash_relocate_kernel"]) is not None:
        yield "jumping CPU, crash", _when("WBINVD", rule)
    order = document["reported_stopped"]
    if order is not None:
        order = ReportOrder(order)
        style = _WARNING if order is ReportOrder.BEFORE_FLUSH else ""
        yield "order", Text(_ORDERS[order], style=style)
    yield "encrypts memory", _when("", document["encrypts"])
    yield from (("known bug", Text(bug)) for bug in document["bugs"])


def _after_flush(site: Site, document: ImageDocument) -> Iterator[tuple[str, Text]]:
    """What the site leaves behind dirty; what it stores besides is in the JSON document."""
    after_flush = document["after_flush"].get(site)
    if after_flush is None or after_flush["leaves_behind"] == "false":
        return
    when = after_flush["leaves_behind"]
    condition = {None: "it is unknown when", "true": "always"}.get(when, f"if {when}")
    left = [store for store in after_flush["stores"] if store["fate"] == Fate.LEFT_BEHIND]
    lines = [left_words(site, one["line"], one["code"], one["through"]) for one in left]
    yield "leaves behind", Text("\n".join([f"dirty, {condition}:", *lines]), style=_WARNING)


def _offline(by_vendor: Mapping[str, Sequence[OfflineWayDocument]]) -> Text:
    """Ways in which a CPU may leave something dirty, each once with the vendors."""
    vendors: dict[str, list[str]] = {}
    for vendor, ways in by_vendor.items():
        for way in ways:
            left = left_offline(offline_way_of(way))
            if left is not None:
                vendors.setdefault(left, []).append(vendor)
    if not vendors:
        return Text("each flushes, and sleeps with clean caches")
    lines = (f"{left} ({', '.join(names)})" for left, names in vendors.items())
    return Text("\n".join(("may leave a dirty line:", *lines)), style=_WARNING)


def _rule_name(document: ImageDocument) -> Text:
    name, nearest = document["policy"], document["nearest"]
    if name is not None:
        others = [other for other in document["equals"] if other != name]
        alike = f" (decides alike: {', '.join(others)})" if others else ""
        return Text.assemble((name, "bold"), f": {document['title']}", alike)
    if nearest is None:
        return Text("not in the catalogue", style=_WARNING)
    return Text.assemble(
        ("not in the catalogue", _WARNING),
        f"; nearest is {nearest['policy']}, which differs at {_listed(nearest['other'])}",
    )


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(
        part.replace("_", " ") if part == "reported_stopped" else part for part in parts
    )


def _when(what: str, rule: RuleDocument, inputs: Sequence[str] = ()) -> Text:
    """Always, never, or on a condition; below, what it depends on and where it reads that."""
    condition = rule["condition"]
    if condition is None:
        return Text(f"{what} unknown".strip(), style=_WARNING)
    if condition in {"true", "false"}:
        return Text(f"{'always' if condition == 'true' else 'never'} {what}".strip())
    below = f"\ndepends on {', '.join(rule['reads'])}"
    if inputs:
        below += f"; reads {', '.join(inputs)}"
    return Text.assemble(f"{what} if ".lstrip(), (condition, "bold"), (below, "dim"))


def _inventory(inventory: InventoryDocument, *, all_sites: bool) -> Iterator[Text]:
    """Functions on the way to the next kernel by name, the others by number; all if wanted."""
    places = inventory["places"]
    functions = {place["function"]: place["phase"] for place in places}
    for phase, words in _PHASES.items():
        names = sorted(name for name, found in functions.items() if found == phase)
        if names:
            yield Text(f"{words}: {', '.join(names)}")
    elsewhere = [name for name, phase in functions.items() if phase and phase not in _PHASES]
    yield Text(f"at other times: {_counted(len(elsewhere), 'function')}", style="dim")
    unlisted = sorted(name for name, phase in functions.items() if phase is None)
    if unlisted:
        yield Text(f"in no list, so nobody looked when: {', '.join(unlisted)}", style=_WARNING)
    if inventory["undecided"]:
        where = ", ".join(inventory["undecided"])
        yield Text(f"bytes that may or may not be one: {where}", style=_WARNING)
    if all_sites:
        yield from map(_place, places)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _place(place: PlaceDocument) -> Text:
    callee = "" if place["callee"] is None else f" of {place['callee']}"
    what = "WBNOINVD" if place["keeps_lines"] else "WBINVD"
    role = "in no list" if place["role"] is None else f"{place['role']}, if {place['when']}"
    return Text.assemble(
        (place["function"], "bold"),
        f" {place['address']}: {what} {place['reach']}{callee}; {role}",
    )


def _not_varied(inputs: Mapping[str, str]) -> Text:
    return Text("\n".join(f"{name}: {why}" for name, why in inputs.items()))


def _unknown_text(report: ImageReport) -> Text:
    reasons = unknowns(report)
    return Text("\n".join(reasons), style=_WARNING) if reasons else Text("nothing")


def _line(report: ImageReport) -> tuple[str | Text, ...]:
    document = report.document
    if document is None:
        return (
            printable(report.image),
            Text("not read", style="bold red"),
            "",
            "",
            "",
            "error, see below",
        )
    name = document["policy"]
    order = (document["reported_stopped"] or "").replace("-", " ")
    return (
        document["release"] or printable(report.image),
        name if name is not None else Text("not in catalogue", style=_WARNING),
        " ".join(filter(None, (document["package"], document["version"]))),
        (document["build_id"] or "none")[:_SHORT_ID],
        Text(order, style=_WARNING if order == "before flush" else ""),
        Text(", ".join(_attention(report, document))),
    )


def _attention(report: ImageReport, document: ImageDocument) -> Iterator[str]:
    if document["reported_stopped"] == ReportOrder.BEFORE_FLUSH:
        yield "race"
    if any(one["leaves_behind"] != "false" for one in document["after_flush"].values()):
        yield "leaves lines behind"
    if document["bugs"]:
        yield _counted(len(document["bugs"]), "known bug")
    if any(place["role"] is None for place in document["inventory"]["places"]):
        yield "WBINVD in no list"
    if unknowns(report):
        yield f"{len(unknowns(report))} unknown"


def _by_rule(reports: Sequence[ImageReport]) -> Iterable[list[ImageDocument]]:
    """Images of which `_rule` says the same, together."""
    alike: dict[str, list[ImageDocument]] = {}
    for report in reports:
        if report.document is not None:
            # Compared is what is printed, so that no field of a rule can be forgotten here.
            said = " ".join(str(text) for _, text in _rule(report.document))
            alike.setdefault(said, []).append(report.document)
    return alike.values()


def _print_unknown(console: Console, reports: Sequence[ImageReport]) -> None:
    for report in reports:
        for reason in unknowns(report):
            console.print(f"[{_WARNING}]unknown[/] {markup_escape(f'{report.image}: {reason}')}")


def _print_machine(console: Console, reports: Sequence[ImageReport]) -> None:
    """One row per image and per machine that fits the evidence."""
    rows = [
        (report, possibility)
        for report in reports
        if report.on_machine is not None
        for possibility in report.on_machine["possibilities"]
    ]
    if not rows:
        return
    headings = ("if", "encrypts", "secondaries", "jumping CPU", "in a crash", "reported")
    table = HandoverTable((Column("on this machine", whole=True), *map(Column, headings)))
    for report, row in rows:
        release = report.document and report.document["release"]
        table.add(
            printable(release or report.image),
            _assumption(row["assumed"], what_if=bool((report.on_machine or {})["what_if"])),
            _word(row["sme_active"], "yes", "no"),
            *(_word(row[site], "WBINVD", "no WBINVD") for site in Site),
            (row["reported_stopped"] or "").replace("-", " "),
        )
    console.print()
    console.print(table)


def _assumption(assumed: dict[str, bool], *, what_if: bool) -> str:
    words = [name if value else f"not {name}" for name, value in assumed.items()]
    if what_if:
        words.append("it ran there")
    return ", ".join(words) or "as observed"


def _word(value: bool | None, yes: str, no: str) -> str:
    return "unknown" if value is None else yes if value else no
