# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline facts``: what dumps say of a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import click

from staleline.cli.console import streams
from staleline.cli.console.once import Once
from staleline.cli.console.provenance import with_provenance
from staleline.errors import EvidenceError
from staleline.evidence.contradiction import ContradictionError

if TYPE_CHECKING:
    from staleline.evidence.contradiction import Contradiction
    from staleline.facts import MachineFacts

    Machines: TypeAlias = list[tuple[str, MachineFacts]]
    Contradictory: TypeAlias = list[tuple[str, tuple[Contradiction, ...]]]

__all__ = ["command"]


@click.command("facts", cls=Once)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print a staleline/facts/1 document.")
def command(*, files: tuple[str, ...], as_json: bool) -> int:
    """Tell what FILEs say of their machines, and what they leave unknown.

    Reads CPUID dumps of many tools, libvirt CPU data, lscpu, dmesg and journalctl output,
    /proc/cpuinfo, snapshots, sosreports and other copies of /proc and /sys; as files,
    directories or tar archives, also compressed; also as quoted in a mail, or several behind a
    shell's prompts. The format is recognised by content.

    Of evidence that contradicts itself, the contradictions are told and nothing else. A file that
    cannot be read does not keep the others from being read.
    Exit status: 0 facts, 1 an error or contradiction in one of the files.
    """
    from staleline.evidence.detect import read_snapshot
    from staleline.facts import from_snapshot

    machines: list[tuple[str, MachineFacts]] = []
    refused: list[tuple[str, EvidenceError]] = []
    for file in files:
        try:
            machines.append((file, from_snapshot(read_snapshot(file))))
        except EvidenceError as error:
            refused.append((file, error))
    contradictory = [
        (f, error.contradictions) for f, error in refused if isinstance(error, ContradictionError)
    ]
    if as_json:
        unreadable = [(f, str(e)) for f, e in refused if not isinstance(e, ContradictionError)]
        _print_json(machines, contradictory, unreadable)
    else:
        _print_text(machines, contradictory)
    for _, why in refused:
        streams.complain(why)
    return 1 if refused else 0


def _print_json(
    machines: Machines, contradictory: Contradictory, unreadable: list[tuple[str, str]]
) -> None:
    from staleline.report.machines.facts_json import facts_document
    from staleline.report.words.console import print_json

    print_json(with_provenance(facts_document(machines, contradictory, unreadable)))


def _print_text(machines: Machines, contradictory: Contradictory) -> None:
    from staleline.report.machines.facts import print_contradictions, print_facts
    from staleline.report.words.console import text_console

    console = text_console()
    for index, (file, facts) in enumerate(machines):
        if index:
            console.rule(style="dim")
        print_facts(console, file, facts)
    for index, (file, contradictions) in enumerate(contradictory):
        if index or machines:
            console.rule(style="dim")
        print_contradictions(console, file, contradictions)
