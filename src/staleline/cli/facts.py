# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline facts``: what dumps say of a machine."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("facts")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print a staleline/facts/1 document.")
def command(*, files: tuple[str, ...], as_json: bool) -> None:
    """Tell what FILEs say of their machines, and what they leave unknown.

    Reads cpuid -r output, AIDA64 and libcpuid dumps, libvirt CPU data, lscpu and dmesg output,
    /proc/cpuinfo, snapshots, sosreports and other copies of /proc and /sys; as files,
    directories or tar archives, also compressed. The format is recognised by content.
    """
    from staleline.evidence.detect import read_snapshot
    from staleline.facts import from_snapshot

    machines = [(file, from_snapshot(read_snapshot(file))) for file in files]
    if as_json:
        from staleline.report.console import print_json
        from staleline.report.facts_json import facts_document

        print_json(facts_document(machines))
        return
    from staleline.report.console import text_console
    from staleline.report.facts import print_facts

    console = text_console()
    for index, (file, facts) in enumerate(machines):
        if index:
            console.rule(style="dim")
        print_facts(console, file, facts)
