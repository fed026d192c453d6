# SPDX-License-Identifier: GPL-2.0-or-later
"""The options ``--format``, ``--json`` and ``--output``, and where they make a report go."""

from __future__ import annotations

import functools
import io
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from staleline.errors import UsageError
from staleline.outputfile import replace_file

if TYPE_CHECKING:
    from rich.console import Console

    from staleline.report.formats.findings import Findings

__all__ = [
    "FINDING_FORMATS",
    "LINES",
    "MAIL",
    "PICTURES",
    "Output",
    "command_line",
    "output_options",
    "written",
]

_Result = TypeVar("_Result")

#: Formats of findings, which all commands that judge handovers share.
FINDING_FORMATS = ("sarif", "junit", "prometheus", "markdown")
_FORMATS = ("text", "json", *FINDING_FORMATS)
MAIL = "lkml"
"""The format for a mailing list, which not all commands have."""
PICTURES = ("svg", "mermaid", "plantuml")
"""A run as a picture, or the text of one."""
LINES = "jsonl"
"""A JSON document per line, likewise."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where a report goes, and in which format.

    Attributes:
        format: ``text``, ``json`` or one of `FINDING_FORMATS`.
        file: Where to; None for standard output.
        ascii: For a mailing list: without any character beyond ASCII.
    """

    format: str
    file: str | None = None
    ascii: bool = False

    @property
    def of_findings(self) -> bool:
        """Is it a format that is made of findings?"""
        return self.format in FINDING_FORMATS

    def write(self, text: str) -> None:
        """Write all of a report.

        Raises:
            UsageError: The file cannot be written.
        """
        if self.file is None:
            sys.stdout.write(text)
        else:
            replace_file(Path(self.file), text)

    def write_findings(self, several: Sequence[Findings], *, together: bool = False) -> None:
        """Write findings in the wanted format; `together` is for `sarif_document`."""
        self.write(written(self.format, several, together=together))

    def write_json(self, *documents: dict[str, Any], files: bool = True) -> None:
        """Write documents, one after the other; `files` is for `with_provenance`."""
        from staleline.cli.console.provenance import with_provenance
        from staleline.report.words.jsontext import json_text

        self.write("".join(json_text(with_provenance(one, files=files)) for one in documents))

    def write_json_lines(self, documents: Iterable[dict[str, Any]]) -> None:
        """Write documents, each on a line of its own."""
        from staleline.cli.console.provenance import with_provenance
        from staleline.report.words.jsontext import json_line

        # Each image has its own digest, and all of them on every line would be too much.
        self.write("".join(json_line(with_provenance(one, files=False)) for one in documents))

    @contextmanager
    def console(self) -> Iterator[Console]:
        """A console for text; what is printed on it is written at the end."""
        from staleline.report.words.console import text_console

        if self.file is None:
            yield text_console()
            return
        # Whole at the end: a command that fails half-way leaves the file as it was.
        buffer = io.StringIO()
        yield text_console(buffer)
        self.write(buffer.getvalue())

    def show(
        self, document: Callable[[], dict[str, Any]], print_text: Callable[[Console], object]
    ) -> None:
        """Write the JSON document where that is wanted, else what is printed on a console."""
        if self.format == "json":
            self.write_json(document())
        else:
            with self.console() as console:
                print_text(console)


# click has made it generic with 8.2; Debian 12 has 8.1.3.
if TYPE_CHECKING:
    _Choice = click.Choice[str]
else:
    _Choice = click.Choice


class _Format(_Choice):
    """A format; those that make no sense for a command are refused with the reason."""

    def __init__(self, refused: Mapping[str, str], extra: Sequence[str]) -> None:
        super().__init__([form for form in (*_FORMATS, *extra) if form not in refused])
        self._refused = refused

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in self._refused:
            do = f"give --format {', '.join(self.choices[:-1])} or {self.choices[-1]}"
            raise UsageError(f"no --format {value}: {self._refused[value]}", do=do)
        return super().convert(value, param, ctx)


def output_options(
    refused: Mapping[str, str] | None = None, *, extra: Sequence[str] = ()
) -> Callable[[Callable[..., _Result]], Callable[..., _Result]]:
    """Give a command the three options, as its one parameter `output`.

    Args:
        refused: Formats that it has not, and why.
        extra: Formats that it has and most have not; `MAIL` brings ``--ascii`` along.
    """

    def decorate(function: Callable[..., _Result]) -> Callable[..., _Result]:
        @click.option(
            "--format",
            "form",
            type=_Format(refused or {}, extra),
            help="What to write.  [default: text]",
        )
        @click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
        @click.option(
            "-o",
            "--output",
            "file",
            type=click.Path(),
            metavar="FILE",
            help="Write there, all at once, instead of to standard output.",
        )
        @functools.wraps(function)
        def with_output(
            *,
            form: str | None,
            as_json: bool,
            file: str | None,
            in_ascii: bool = False,
            **options: object,
        ) -> _Result:
            if as_json and form not in (None, "json"):
                raise UsageError(f"--json and --format {form}", do="ask for one of them")
            chosen = "json" if as_json else form or "text"
            if in_ascii and chosen != MAIL:
                raise UsageError("--ascii is for a mail", do=f"add --format {MAIL}")
            return function(output=Output(chosen, file, in_ascii), **options)

        if MAIL not in extra:
            return with_output
        return click.option(
            "--ascii", "in_ascii", is_flag=True, help=f"With --format {MAIL}: ASCII only."
        )(with_output)

    return decorate


def command_line() -> tuple[str, ...]:
    """Its words as they were typed, each quoted for a shell."""
    # `main` has put them there, as click keeps no line.
    arguments = click.get_current_context().find_root().obj
    return ("staleline", *(shlex.quote(str(one)) for one in arguments or ()))


def written(form: str, several: Sequence[Findings], *, together: bool = False) -> str:
    """Findings in one of `FINDING_FORMATS`."""
    match form:
        case "sarif":
            from staleline.report.formats.sarif import sarif_document
            from staleline.report.words.jsontext import json_text

            return json_text(sarif_document(several, together=together))
        case "junit":
            from staleline.report.formats.junit import junit_xml

            return junit_xml(several)
        case "prometheus":
            import time

            from staleline.report.formats.prometheus import prometheus_text

            return prometheus_text(several, now=time.time())
        case _:
            from staleline.report.formats.markdown import markdown_text

            return markdown_text(several)
