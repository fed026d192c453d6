# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline policies``: the catalogue."""

from __future__ import annotations

import click

from staleline.cli.console.once import Once

__all__ = ["command"]


@click.command("policies", cls=Once)
@click.argument("name", required=False)
@click.option("--atoms", "show_atoms", is_flag=True, help="List what predicates may ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(name: str | None, show_atoms: bool, as_json: bool) -> None:
    """List the catalogue of rules, or show one (a name, or a .toml file)."""
    from staleline.policy.atoms import atoms
    from staleline.policy.catalogue import catalogue, find
    from staleline.report.policies import catalogue as render

    if show_atoms:
        render.print_atoms(tuple(atoms().values()), as_json=as_json)
    elif name is None:
        render.print_policies(tuple(catalogue().values()), as_json=as_json)
    else:
        render.print_policies((find(name),), as_json=as_json, full=True)
