# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands that use what they are given: an option given twice is refused, not replaced."""

from __future__ import annotations

import click

from staleline.errors import UsageError

__all__ = ["Once"]


class Once(click.Command):
    """A command of which each option counts once, unless it is made to be repeated.

    click itself lets the last one win, so that a verdict would be about something else than
    what stands on the command line.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, after a look at what is given how often."""
        # While a shell completes a word, the line is not whole.
        if not ctx.resilient_parsing:
            _refuse_repeated(self, ctx, args)
        return super().parse_args(ctx, args)


def _refuse_repeated(command: click.Command, context: click.Context, args: list[str]) -> None:
    """Refuse the first that is repeated.

    Raises:
        UsageError: There is one.
    """
    # Parsed once more, as click keeps only the last of each option.
    _, _, given = command.make_parser(context).parse_args(list(args))
    seen: set[str | None] = set()
    for parameter in given:
        once = isinstance(parameter, click.Option) and not (
            # Of what is eager, such as --help, the first ends the command.
            parameter.multiple or parameter.count or parameter.is_eager
        )
        if once and parameter.name in seen:
            raise UsageError(f"{parameter.opts[-1]} is given twice", do="give it once")
        seen.add(parameter.name)
