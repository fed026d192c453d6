# SPDX-License-Identifier: GPL-2.0-or-later
"""Man pages from the commands' own help, one per command, in the man macros of groff."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tomllib import loads

import click

__all__ = ["examples", "man_pages"]

#: What groff sets as something else, or takes for its own: since 1.23 an apostrophe is a quotation
#: mark, and a tilde an accent (groff_char(7)); a double quote would end an argument of a macro.
_GLYPHS = {
    "\\": "\\e",
    "-": "\\-",
    "'": "\\(aq",
    "`": "\\(ga",
    "~": "\\(ti",
    "^": "\\(ha",
    '"': "\\(dq",
}
_EXIT_STATUS = "Exit status: "
_FILES = """\
Readings of kernel images are kept in $XDG_CACHE_HOME/staleline/readings, by default under
~/.cache."""


def man_pages(program: click.Group) -> Mapping[str, str]:
    """File name -> page, e.g. ``staleline-audit.1``.

    Args:
        program: The group with all commands.
    """
    context = click.Context(program, info_name=program.name)
    commands = {name: _command(program, context, name) for name in program.list_commands(context)}
    pages = {f"{program.name}.1": _page(context, tuple(commands))}
    pages |= {f"{program.name}-{name}.1": _page(one, ()) for name, one in commands.items()}
    return pages


@cache
def examples() -> Mapping[str, Mapping[str, str]]:
    """Command -> what for -> what to type."""
    return loads(Path(__file__).with_name("man_examples.toml").read_text(encoding="utf-8"))


def _command(program: click.Group, parent: click.Context, name: str) -> click.Context:
    command = program.get_command(parent, name)
    assert command is not None, name
    return click.Context(command, info_name=name, parent=parent)


def _page(context: click.Context, commands: tuple[str, ...]) -> str:
    return "".join(f"{line}\n" for line in _lines(context, commands))


def _lines(context: click.Context, commands: tuple[str, ...]) -> Iterator[str]:
    """A page's source; `commands` are those of the page of the whole program."""
    name = context.command_path.replace(" ", "-")
    description, status = _help(context.command)
    yield '.\\" SPDX-License-Identifier: GPL-2.0-or-later'
    yield ".\\\" Made by tools/generate_docs.py from the command's own help."
    yield f'.TH {_text(name.upper())} 1 "" "staleline {version("staleline")}" "User Commands"'
    # A hyphen of groff's would be part of whatever path or option is copied.
    yield ".nh"
    yield from (".SH NAME", f"{_text(name)} \\- {_text(_summary(description))}")
    yield from (".SH SYNOPSIS", *_synopsis(context))
    yield from (".SH DESCRIPTION", *_paragraphs(description))
    yield from _options(context, ".SH OPTIONS")
    yield from _commands(context, commands) if commands else _below(context)
    yield from _examples(str(context.info_name))
    if status:
        yield from (".SH EXIT STATUS", *_paragraphs(status))
    yield from (".SH FILES", *_paragraphs(_FILES))
    yield from (".SH SEE ALSO", *_see_also(context, commands))


def _help(command: click.Command) -> tuple[str, str]:
    """The help text, and what it says of the exit status."""
    paragraphs = [" ".join(part.split()) for part in (command.help or "").split("\n\n")]
    paragraphs += [command.epilog] if command.epilog else []
    status = [part for part in paragraphs if part.startswith(_EXIT_STATUS)]
    text = [part for part in paragraphs if part not in status]
    return "\n\n".join(text), "\n\n".join(part.removeprefix(_EXIT_STATUS) for part in status)


def _summary(description: str) -> str:
    """The first sentence, without its full stop, as `apropos` lists it."""
    first = re.split(r"(?<=[.?:])\s", description, maxsplit=1)[0]
    return first[:1].lower() + first[1:].rstrip(".:")


def _synopsis(context: click.Context) -> Iterator[str]:
    yield f".B {_text(context.command_path)}"
    yield from (_text(piece) for piece in context.command.collect_usage_pieces(context))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield from (".PP", _text(paragraph))


def _options(context: click.Context, heading: str = "") -> Iterator[str]:
    parameters = context.command.get_params(context)
    records = [record for one in parameters if (record := one.get_help_record(context))]
    if records and heading:
        yield heading
    # An argument that is told nothing of is in the synopsis.
    for names, text in (record for record in records if record[1]):
        yield from (".TP", f".B {_text(names)}", _text(text))


def _below(context: click.Context) -> Iterator[str]:
    """What stands below a command has no page of its own: all of it is here."""
    if not isinstance(context.command, click.Group):
        return
    yield ".SH COMMANDS"
    for name in context.command.list_commands(context):
        one = _command(context.command, context, name)
        description, status = _help(one.command)
        yield f".SS {_text(' '.join((name, *one.command.collect_usage_pieces(one))))}"
        yield from _paragraphs(
            "\n\n".join(filter(None, (description, status and _EXIT_STATUS + status)))
        )
        yield from _options(one)


def _commands(context: click.Context, commands: tuple[str, ...]) -> Iterator[str]:
    yield ".SH COMMANDS"
    for name in commands:
        assert isinstance(context.command, click.Group)
        command = _command(context.command, context, name).command
        summary = _summary(_help(command)[0])
        yield from (".TP", f".BR {_text(f'{context.info_name}-{name}')} (1)", _text(summary))


def _examples(command: str) -> Iterator[str]:
    shown = examples().get(command, {})
    if shown:
        yield ".SH EXAMPLES"
    for purpose, line in shown.items():
        yield from (".TP", _text(purpose), f".B {_text(line)}")


def _see_also(context: click.Context, commands: tuple[str, ...]) -> Iterator[str]:
    program = context.find_root().info_name
    others = [f"{program}-{name}" for name in commands] or [str(program), f"{program}-explain"]
    pages = [*others, "kexec"]
    for page in pages:
        section = "(8)" if page == "kexec" else "(1)"
        yield f".BR {_text(page)} {section}{'' if page is pages[-1] else ' ,'}"


def _text(text: str) -> str:
    """Text that means itself; hyphens that are typed stay what they are."""
    named = "".join(_GLYPHS.get(c) or _glyph(c) for c in " ".join(text.split()))
    return f"\\&{named}" if named.startswith(".") else named


def _glyph(character: str) -> str:
    return character if character.isascii() else f"\\[u{ord(character):04X}]"
