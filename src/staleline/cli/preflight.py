# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline preflight``: is it safe to load this kernel here, and to start it?"""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from staleline.verdict.preflight import Preflight

__all__ = ["command"]

_STATUS = {"safe": 0, "at-risk": 2, "unknown": 3}


@click.command("preflight")
@click.option(
    "--next", "following", metavar="IMAGE", required=True, help="The image that will be loaded."
)
@click.option(
    "--append",
    metavar="CMDLINE",
    help="Its command line, as given to kexec; default: any.",
)
@click.option(
    "--reuse-cmdline", is_flag=True, help="The running kernel's command line, and --append."
)
@click.option("--crash", is_flag=True, help="It is loaded for a crash (kexec -p).")
@click.option(
    "--snapshot",
    "snapshot_file",
    metavar="FILE",
    help="A snapshot or CPUID dump; default: this host.",
)
@click.option(
    "--kernel",
    metavar="WHAT",
    help="The running kernel: an image, a release or a policy; default: the snapshot's.",
)
@click.option(
    "--msr", multiple=True, metavar="NUMBER=VALUE", help="An MSR that the snapshot lacks."
)
@click.option("--cmdline", metavar="TEXT", help="The running kernel's command line.")
@click.option(
    "--state",
    multiple=True,
    metavar="NAME=VALUE",
    help="sme_active, sev_guests_run or tdx_module, if the snapshot lacks it.",
)
@click.option("--explain", is_flag=True, help="Print the handovers and what was looked at too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(  # noqa: PLR0913 - one parameter per option
    *,
    following: str,
    append: str | None,
    reuse_cmdline: bool,
    crash: bool,
    snapshot_file: str | None,
    kernel: str | None,
    msr: tuple[str, ...],
    cmdline: str | None,
    state: tuple[str, ...],
    explain: bool,
    as_json: bool,
) -> int:
    """Is it safe to load this kernel with kexec, here and now, and to start it?

    For use before `kexec -l`, `kexec -p` and `systemctl kexec`. Prints one line.

    Exit status: 0 safe, 1 error, 2 at risk, 3 unknown.
    """
    from staleline.cli.following import next_image
    from staleline.evidence.detect import read_snapshot
    from staleline.evidence.given import with_given
    from staleline.evidence.live import collect
    from staleline.verdict.choice import choose_kernels
    from staleline.verdict.preflight import preflight
    from staleline.vocabulary import Path

    observed = collect() if snapshot_file is None else read_snapshot(FilePath(snapshot_file))
    snapshot = with_given(observed, msr=msr, cmdline=cmdline, state=state)
    image = next_image(following, snapshot, append=append, reuse=reuse_cmdline, crash=crash)
    kernels = choose_kernels(snapshot, kernel)
    found = preflight(snapshot, kernels, image, Path.CRASH if crash else Path.KEXEC)
    _print(found, machine=snapshot_file or "this host", explain=explain, as_json=as_json)
    return _STATUS[found.verdict]


def _print(found: Preflight, *, machine: str, explain: bool, as_json: bool) -> None:
    from staleline.report.console import print_json, text_console
    from staleline.report.preflight import one_line, preflight_document, print_preflight

    if as_json:
        print_json(preflight_document(found))
        return
    console = text_console()
    console.print(one_line(found), soft_wrap=True, markup=False)
    if explain:
        print_preflight(console, found, machine=machine)
