# SPDX-License-Identifier: GPL-2.0-or-later
"""Waivers: the option that names them, those given, and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from staleline.cli.console import streams

if TYPE_CHECKING:
    from staleline.cli.console.output import Output
    from staleline.report.formats.waivers import Waivers

__all__ = ["given_waivers", "tell_waivers", "waivers_option"]

waivers_option = click.option(
    "--waivers", metavar="FILE", help="Findings to put up with, each with a reason and an end."
)


def given_waivers(file: str | None) -> Waivers | None:
    """Those of a file, if one is given: few have any, and what reads it is slow to import."""
    if file is None:
        return None
    from staleline.report.formats.waivers import read_waivers

    return read_waivers(file)


def tell_waivers(waivers: Waivers, output: Output) -> None:
    """What is wrong with them, and what they took away from the exit status.

    The latter where the report does not say it: text and JSON tell of each handover what it comes
    to, and a status of 0 beside "at risk" would seem to be a fault.
    """
    for complaint in waivers.complaints():
        streams.complain(complaint)
    for told in () if output.of_findings else waivers.met():
        streams.complain(told)
