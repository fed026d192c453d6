# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline fleet``: evidence of many hosts, and what is asked of it."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from staleline.cli.console import streams
from staleline.cli.console.once import Once
from staleline.cli.console.output import Output, output_options
from staleline.errors import UsageError

if TYPE_CHECKING:
    from staleline.fleet.intake.adding import Added
    from staleline.fleet.ownimages import Images
    from staleline.fleet.result import AuditOptions

__all__ = ["command"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_ROWS = (".parquet", ".csv")
_NO_FINDINGS = {
    "sarif": "a fleet is no list of findings: give -o FILE.csv for a row each host",
    "junit": "a fleet is no list of tests",
    "markdown": "a fleet's page is made by `staleline fleet page`",
}
_ONLY_TEXT = {**_NO_FINDINGS, "prometheus": "metrics are those of `staleline fleet audit`"}
_USES = ("on", "off", "same", "any")
#: Of a file's name, and a place in it.
_WHERE_MAX = 300
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class _Group(click.Group):
    """Commands on fleets, of which each option counts once."""

    command_class = Once


@click.group("fleet", cls=_Group)
def command() -> None:
    """Many hosts and kernels: add evidence, and ask what they come to.

    A fleet is a directory. Every host in it gets the verdict that `staleline audit` gives its
    snapshot; docs/fleet.md says how.
    """
    from staleline.fleet.store import require_libraries

    require_libraries()


@command.command("add")
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.option("--into", required=True, metavar="FLEET", help="The fleet's directory.")
@click.option("--inventory", metavar="FILE", help="Your own columns, by host: CSV, JSON, Parquet.")
@click.option(
    "--key", default="host", show_default=True, metavar="COLUMN", help="Its column of host names."
)
@click.option("--jobs", type=click.IntRange(1), help="Processes at a time; default: one per core.")
@click.option("--quiet", is_flag=True, help="Do not tell the progress.")
def fleet_add(  # noqa: PLR0913 - one parameter per option
    *,
    sources: tuple[str, ...],
    into: str,
    inventory: str | None,
    key: str,
    jobs: int | None,
    quiet: bool,
) -> int:
    """Add evidence to a fleet, or go on where adding was stopped.

    SOURCE is a file, a directory of files, a tar archive, lines of JSON, Parquet with a column
    `snapshot`, or an address for fsspec such as s3://bucket/snapshots.

    Exit status: 0 if all was read, 3 if something could not be, which is counted as unknown.
    """
    from staleline.fleet.intake.adding import AddOptions, add_to_fleet

    options = AddOptions(jobs, _silent if quiet else _Rate().tell)
    added = add_to_fleet(Path(into), sources, options)
    _tell_added(added, into)
    if inventory is not None:
        _add_inventory(Path(into), Path(inventory), key)
    return 3 if added.quarantined else 0


def _add_inventory(into: Path, inventory: Path, key: str) -> None:
    from staleline.fleet.intake.owners import keep_inventory
    from staleline.fleet.store import opened

    fleet = opened(into)
    with fleet.locked(writing_to_it=True):
        rows, lacking = keep_inventory(fleet, inventory, key)
    known, unknown = _several(rows, "host"), _several(lacking, "host")
    click.echo(f"inventory of {known}; {unknown} of the fleet are not in it")


def _silent(*_: int) -> None:
    """Tell nothing."""


class _Rate:
    """Progress with its rate, on standard error."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def tell(self, inputs: int, total: int, hosts: int, faults: int) -> None:
        """A line for each batch."""
        rate = hosts / max(time.monotonic() - self._start, 1e-3)
        streams.complain(
            f"{inputs:,} of {total:,} inputs: {hosts:,} hosts, {faults:,} not read, {rate:,.0f}/s"
        )


def _tell_added(added: Added, into: str) -> None:
    from staleline.printable import printable

    hosts, inputs = _several(added.hosts, "host"), _several(added.inputs, "input")
    again = f"; there already: {_several(added.already, 'input')}" if added.already else ""
    twice = f"; told more than once: {_several(added.repeated, 'host')}" if added.repeated else ""
    click.echo(f"{hosts} of {inputs} added{again}{twice}")
    for file, place, reason in added.faults:
        where = f"{file}:{place}".removesuffix(":")
        streams.complain(f"not read: {printable(where)[:_WHERE_MAX]}: {printable(reason)}")
    # Only a few are named.
    left = added.quarantined - len(added.faults)
    if left > 0:
        streams.complain(
            f"not read: {left:,} more, named by `staleline fleet audit {shlex.quote(into)} --json`"
        )


def _several(number: int, word: str) -> str:
    from staleline.report.fleets.overview import counted_as

    return counted_as(number, word)


def _asking(function: _Function) -> _Function:
    """The options of commands that ask which kernels hosts run."""
    options = (
        click.option("--kernels", metavar="DIR", help="Your kernel images, found by build ID."),
        click.option(
            "--kernel", metavar="WHAT", help="What if each ran this image, release or policy."
        ),
        click.option(
            "--next",
            "following",
            metavar="WHAT",
            default="any",
            show_default=True,
            help="The next kernel: on, off, same or any by its memory encryption, or its image.",
        ),
        click.option("--append", metavar="CMDLINE", help="The next image's command line."),
        click.option(
            "--max-age", metavar="AGE", help="Older evidence is unknown, e.g. 30d, 12h, 90m."
        ),
        click.option(
            "--by",
            "by",
            multiple=True,
            metavar="COLUMN",
            help="Count by a column of the inventory.",
        ),
        click.option(
            "--now", type=int, metavar="SECONDS", help="The time, since 1970; default: this one."
        ),
    )
    # Reversed, as the decorator that is applied last is the first in the help.
    for option in reversed(options):
        function = option(function)
    return function


def _options(given: dict[str, Any]) -> AuditOptions:
    from staleline.fleet.images import no_images
    from staleline.fleet.judging import FleetQuestion
    from staleline.fleet.result import AuditOptions
    from staleline.verdict.audit.wanted_next import require_next

    require_next(given["following"])
    if given["kernels"] is not None and given["kernel"] is not None:
        raise UsageError("--kernels and --kernel", do="ask for one of them")
    images = no_images() if given["kernels"] is None else _images(given["kernels"])
    question = FleetQuestion(given["kernel"], given["following"], given["append"], images)
    age = None if given["max_age"] is None else _seconds(given["max_age"])
    return AuditOptions(question, age, given["now"], tuple(dict.fromkeys(given["by"])))


def _images(folder: str) -> Images:
    from staleline.fleet.images import images_of

    if not Path(folder).exists():
        raise UsageError("is not there", where=folder, do="give the directory of your images")
    images = images_of(folder)
    for file, reason in images.unread.items():
        streams.complain(f"{file}: {reason}")
    return images


def _seconds(age: str) -> int:
    written = re.fullmatch(r"([0-9]{1,6})([smhdw])", age)
    if written is None:
        raise UsageError(f"--max-age {age!a} is no age", do="give one such as 30d, 12h or 90m")
    return int(written[1]) * _UNITS[written[2]]


@command.command("audit")
@click.argument("fleet", metavar="FLEET")
@_asking
@click.option(
    "--fail-on",
    type=click.Choice(["risk", "unknown", "nothing"]),
    default="unknown",
    show_default=True,
    help="The least verdict that makes the exit status non-zero.",
)
@output_options(_NO_FINDINGS)
def fleet_audit(*, fleet: str, fail_on: str, output: Output, **given: Any) -> int:
    """What does every host come to? The verdicts are those of `staleline audit`.

    -o FILE.parquet and -o FILE.csv write a row for each host.

    Exit status: 0 all safe, 2 any at risk, 3 any unknown, 1 if nothing could be judged.
    """
    from staleline.fleet.result import asked_fleet
    from staleline.report.fleets.overview import overview

    with asked_fleet(Path(fleet), _options(given)) as asked:
        rows = output.file is not None and Path(output.file).suffix in _ROWS
        if rows and output.format != "text":
            raise UsageError(
                f"-o {output.file} is a row for each host, and --format {output.format} is not",
                do="leave one of them out",
            )
        if rows and output.file is not None:
            written = asked.write_rows(Path(output.file))
            click.echo(f"{written:,} rows: {output.file}")
        else:
            _write(output, overview(asked, with_gains=True))
        return _status(asked.status, fail_on)


def _status(status: int, fail_on: str) -> int:
    if fail_on == "nothing" and status != 1:
        return 0
    return 0 if fail_on == "risk" and status == 3 else status


def _write(output: Output, overview: Any) -> None:
    if output.format == "json":
        from staleline.report.fleets.document import fleet_document

        output.write_json(fleet_document(overview))
    elif output.format == "prometheus":
        from staleline.report.fleets.fleet_metrics import fleet_metrics

        output.write(fleet_metrics(overview))
    else:
        from staleline.report.fleets.summary_text import print_fleet

        with output.console() as console:
            print_fleet(console, overview)


@command.command("page")
@click.argument("fleet", metavar="FLEET")
@_asking
@click.option("-o", "--output", "file", required=True, metavar="FILE.html", help="Where to.")
def fleet_write_page(*, fleet: str, file: str, **given: Any) -> int:
    """One HTML page to look at and to send: counts, classes at risk, hosts where they fit."""
    from staleline.fleet.result import asked_fleet
    from staleline.outputfile import replace_file
    from staleline.report.fleets.fleet_page import fleet_page
    from staleline.report.fleets.overview import overview

    with asked_fleet(Path(fleet), _options(given)) as asked:
        replace_file(Path(file), fleet_page(asked, overview(asked)))
        # The page tells the verdicts; the status says whether it was written.
        return _status(asked.status, "nothing")


@command.command("missing")
@click.argument("fleet", metavar="FLEET")
@_asking
@output_options(_ONLY_TEXT)
def fleet_missing(*, fleet: str, output: Output, **given: Any) -> int:
    """Which single thing that is missing settles how many hosts, and how to get it?"""
    from staleline.fleet.gains import gains
    from staleline.fleet.result import asked_fleet
    from staleline.report.fleets.document import gain_documents
    from staleline.report.fleets.summary_text import print_gains

    with asked_fleet(Path(fleet), _options(given)) as asked:
        gained = gains(asked.judge, asked.subjects.values(), asked.open_subjects)
    output.show(
        lambda: {"schema": "staleline/fleet-missing/1", "missing": gain_documents(gained)},
        lambda console: print_gains(console, gained),
    )
    return 0


@command.command("diff")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@output_options(_ONLY_TEXT)
def fleet_diff(*, old: str, new: str, output: Output) -> int:
    """What changed from one result (-o FILE.parquet) to another, and by which fact?

    Exit status: 0 if nothing is worse, else 2.
    """
    from staleline.fleet.changes import changes
    from staleline.report.fleets.document import changes_document
    from staleline.report.fleets.summary_text import print_changes

    changed = changes(Path(old), Path(new))
    output.show(lambda: changes_document(changed), lambda console: print_changes(console, changed))
    return 2 if changed.worse else 0


@command.command("pairs")
@click.argument("fleet", metavar="FLEET")
@click.option("--kernels", metavar="DIR", help="Your kernel images, found by build ID.")
@click.option(
    "--next",
    "several",
    metavar="WHAT",
    multiple=True,
    required=True,
    help="A next kernel, any number of times: on, off, same or any, or an image.",
)
@click.option("--append", metavar="CMDLINE", help="The next images' command line.")
@click.option("--max-age", metavar="AGE", help="Older evidence is unknown.")
@output_options(_ONLY_TEXT)
def fleet_pairs(  # noqa: PLR0913 - one parameter per option
    *,
    fleet: str,
    kernels: str | None,
    several: tuple[str, ...],
    append: str | None,
    max_age: str | None,
    output: Output,
) -> int:
    """What each old kernel of the fleet comes to with each of several next ones."""
    from staleline.fleet.result import asked_fleet
    from staleline.report.fleets.document import pairs_document
    from staleline.report.fleets.summary_text import print_pairs

    pairs = {}
    for following in dict.fromkeys(several):
        image = following not in _USES
        options = _options(
            {
                "kernels": kernels,
                "kernel": None,
                "following": following,
                # A state is no image, and has no command line to be told.
                "append": append if image else None,
                "max_age": max_age,
                "by": (),
                "now": None,
            }
        )
        with asked_fleet(Path(fleet), options) as asked:
            pairs[following] = asked.by("release", "rule")
    output.show(lambda: pairs_document(pairs), lambda console: print_pairs(console, pairs))
    return 0


@command.command("sql")
@click.argument("fleet", metavar="FLEET")
@click.option("--now", type=int, metavar="SECONDS", help="The time, since 1970.")
def fleet_sql(*, fleet: str, now: int | None) -> int:
    """Print the statements that `audit` runs, for the engine that holds your rows."""
    from staleline.fleet import statements
    from staleline.fleet.result import AuditOptions, asked_fleet

    with asked_fleet(Path(fleet), AuditOptions(now=now)) as asked:
        told = asked.told
    pieces = {"faults": statements.LATEST_FAULTS}
    if told.again:
        pieces["told_again"] = statements.told_again(told)
    pieces |= {"counted": statements.counted_table(told), "judged": statements.judged(told)}
    pieces["rows"] = statements.rows(told)
    click.echo("\n".join(f"-- {name}\n{text.strip()};\n" for name, text in pieces.items()))
    return 0
