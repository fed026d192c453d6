# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue, as tables or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from staleline.policy.atoms import Atom
from staleline.policy.policy import Policy
from staleline.report.words.console import markup_escape, print_json, text_console
from staleline.report.words.tables import Table
from staleline.vocabulary import Site

__all__ = ["print_atoms", "print_policies"]


def print_atoms(atoms: Sequence[Atom], *, as_json: bool) -> None:
    """What predicates may ask, layer by layer."""
    if as_json:
        print_json(
            {
                "schema": "staleline/atoms/1",
                "atoms": [
                    {"name": a.name, "type": a.type, "layer": a.layer, "meaning": a.meaning}
                    for a in atoms
                ],
            }
        )
        return
    table = Table("atom", "type", "layer", "meaning", box=None, header_style="bold")
    for atom in atoms:
        table.add_row(atom.name, atom.type, atom.layer, markup_escape(atom.meaning))
    text_console().print(table)


def print_policies(policies: Sequence[Policy], *, as_json: bool, full: bool = False) -> None:
    """Policies with their predicates; `full` adds sources and known bugs."""
    if as_json:
        print_json({"schema": "staleline/policies/1", "policies": [_document(p) for p in policies]})
        return
    console = text_console()
    for policy in policies:
        console.print(f"[bold]{markup_escape(policy.name)}[/]  {markup_escape(policy.title)}")
        grid = Table.grid(padding=(0, 2))
        for label, text in _rows(policy, full=full):
            grid.add_row(f"  [dim]{label}[/]", markup_escape(text))
        console.print(grid)
        console.print()


def _rows(policy: Policy, *, full: bool) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = [(site, str(policy.condition(site))) for site in Site]
    rows.append(("reported stopped", policy.reported.replace("-", " ")))
    rows.append(("kernels", _releases(policy)))
    if full:
        rows.extend(("source", source) for source in policy.sources)
        rows.extend(("known bug", bug) for bug in policy.bugs)
    return rows


def _releases(policy: Policy) -> str:
    upstream = [str(r) for r in policy.releases if not r.backported]
    stable = [str(r) for r in policy.releases if r.backported]
    text = ", ".join(upstream) or f"proposed {policy.proposed or 'by you'}, never merged"
    return f"{text}; also in stable trees of {', '.join(stable)}" if stable else text


def _document(policy: Policy) -> dict[str, Any]:
    return {
        "name": policy.name,
        "title": policy.title,
        "source": list(policy.sources),
        "proposed": policy.proposed,
        "releases": [{"series": str(r), "backported": r.backported} for r in policy.releases],
        "bugs": list(policy.bugs),
        "sites": {site: str(policy.predicates[site]) for site in Site},
        "conditions": {site: str(policy.condition(site)) for site in Site},
        "reported_stopped": policy.reported,
    }
