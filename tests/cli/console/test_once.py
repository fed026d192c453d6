# SPDX-License-Identifier: GPL-2.0-or-later
"""An option counts once or as often as it is given; none silently replaces another."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from staleline.cli.console.once import Once
from staleline.cli.main import main, program


def commands(group: click.Group = program) -> Iterator[tuple[str, click.Command]]:
    """What is typed for each command that does something, and the command."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        if isinstance(command, click.Group):
            yield from ((f"{name} {words}", inner) for words, inner in commands(command))
        else:
            yield name, command


def value_of(option: click.Option) -> list[str]:
    """Something that the option's type takes."""
    if option.is_flag or option.nargs == 0:
        return []
    if isinstance(option.type, click.Choice):
        return [str(option.type.choices[0])]
    return (
        ["2"] if isinstance(option.type, (click.types.IntRange, click.types.FloatRange)) else ["x"]
    )


SINGLE = [
    (words, option)
    for words, command in commands()
    for option in command.params
    if isinstance(option, click.Option) and not option.multiple
]


def test_there_are_commands_with_such_options() -> None:
    assert len(SINGLE) > 60
    assert all(isinstance(command, Once) for _, command in commands())


@pytest.mark.parametrize(
    ("name", "option"), SINGLE, ids=[f"{name} {option.opts[-1]}" for name, option in SINGLE]
)
def test_a_single_option_given_twice_is_refused(
    capsys: pytest.CaptureFixture[str], name: str, option: click.Option
) -> None:
    for first in {option.opts[0], option.opts[-1]}:
        twice = [first, *value_of(option), option.opts[-1], *value_of(option)]
        assert main([*name.split(), *twice]) == 1
        captured = capsys.readouterr()
        assert captured.err == f"staleline: {option.opts[-1]} is given twice; give it once\n"
        assert captured.out == ""


def test_an_option_and_its_opposite_are_one_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "linux-6.5", "--to", "murphi", "--symmetry", "--no-symmetry"]) == 1
    assert "--symmetry is given twice" in capsys.readouterr().err


def test_help_may_be_asked_for_twice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--help", "--help"]) == 0
    assert "Usage" in capsys.readouterr().out
