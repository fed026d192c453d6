# SPDX-License-Identifier: GPL-2.0-or-later
"""What is made from the code is up to date, renders, and completes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tools.debian_package import installed
from tools.generate_docs import FILES, ROOT
from tools.man_pages import examples, man_pages

from staleline.cli.main import program

MAN = ROOT / "share" / "man" / "man1"
BASH = ROOT / "share" / "bash-completion" / "completions" / "staleline"


@pytest.mark.parametrize("name", FILES)
def test_files_are_what_the_code_says(name: str) -> None:
    assert (ROOT / name).read_text() == FILES[name](), "run `python -m tools.generate_docs`"


def test_no_page_is_left_of_a_command_that_is_gone() -> None:
    assert {f"share/man/man1/{name}" for name in os.listdir(MAN)} == {
        name for name in FILES if "/man1/" in name
    }


def rendered(page: str) -> str:
    """A page as groff sets it, without a warning of any kind."""
    done = subprocess.run(
        [installed("groff", "groff-base"), "-man", "-Tutf8", "-P-c", "-ww", "-rLL=120n"],
        input=page.encode("ascii"),
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    return re.sub(".\b", "", done.stdout.decode())


@pytest.mark.parametrize("name", sorted(man_pages(program)))
def test_pages_render_without_warnings(name: str) -> None:
    text = rendered((MAN / name).read_text())
    sections = re.findall(r"^[A-Z][A-Z ]+$", text, re.MULTILINE)
    assert sections[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert sections[-1] == "SEE ALSO"


def test_a_page_has_every_option_and_the_exit_status() -> None:
    text = rendered((MAN / "staleline-check.1").read_text())
    assert "staleline check [OPTIONS] RULE..." in text
    for option in ("--cpus N", "--format [text|json|", "-o, --output FILE"):
        assert option in text
    assert "EXIT STATUS" in text
    assert "2 at risk somewhere" in text


def commands_of(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """The command, and all that stand below it, by what is typed."""
    yield name, command
    if isinstance(command, click.Group):
        for below in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), below)
            assert found is not None
            yield from commands_of(found, f"{name} {below}")


@pytest.mark.parametrize("name", program.list_commands(click.Context(program)))
def test_a_page_has_every_option_of_its_command_and_of_those_below_it(name: str) -> None:
    command = program.get_command(click.Context(program), name)
    assert command is not None
    text = rendered((MAN / f"staleline-{name}.1").read_text())
    for typed, one in commands_of(command, name):
        # What stands below it has a part of the page.
        part = text.split(f"\n   {typed.split()[-1]} [OPTIONS]")[-1] if " " in typed else text
        for parameter in one.params:
            for option in parameter.opts if isinstance(parameter, click.Option) else ():
                assert re.search(rf"^ +(-\w, )?{option}\b", part, re.MULTILINE), (typed, option)


def test_what_is_to_be_typed_is_set_as_it_is_typed() -> None:
    """groff_char(7): as named glyphs; bare, they are set as quotation marks and accents."""
    source = man_pages(program)
    for page in source.values():
        text = "\n".join(line for line in page.splitlines() if not line.startswith((".TH", ".\\")))
        assert not re.search("['`~^]|(?<!\\()\"", text)
        assert "\n.nh\n" in page
    told = r"--msr \"0xc0010010=1\" 'a b' ~/.cache `x` 5^2"
    odd = click.Group("odd", help=f"It does.\n\n{told}", commands=[])
    assert told in rendered(man_pages(odd)["odd.1"])


def test_any_text_means_itself() -> None:
    told = ".SH 'a' \\n on→off: -x"
    odd = click.Group("odd", help=f"It does.\n\n{told}\n\n'b'", commands=[])
    assert f"{told}\n\n       'b'" in rendered(man_pages(odd)["odd.1"])


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["expl"], ["explain"]),
        (["audit", "--form"], ["--format"]),
        (["audit", "--format", "s"], ["sarif"]),
        (["explain", "two-"], ["two-cpu-models", "two-hosts", "two-kernels", "two-vendors"]),
    ],
)
def test_bash_completes(words: list[str], completed: list[str]) -> None:
    line = " ".join(("staleline", *words))
    script = (
        f"source {BASH}; COMP_WORDS=({line}); COMP_CWORD={len(words)};"
        '_staleline_completion staleline; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": path},
    )
    assert sorted(done.stdout.split()) == completed


def test_every_command_has_examples() -> None:
    assert set(examples()) == set(program.list_commands(click.Context(program)))


#: Names in the examples that have to exist before a line is taken.
NAMED = ("rome.txt", "dump.txt", "a.json", "b.json", "vmlinuz-6.12", "trace.itf.json")


@pytest.mark.parametrize("line", [line for lines in examples().values() for line in lines.values()])
def test_examples_are_lines_that_the_command_takes(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMED:
        (tmp_path / name).touch()
    (tmp_path / "report").mkdir()
    start, name, *arguments = shlex.split(line)
    assert start == "staleline"
    command = program.get_command(click.Context(program), name)
    while isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.get_command(click.Context(command), name)
    assert command is not None
    command.make_context(name, arguments)
    for option in (word for word in arguments if word.startswith("--")):
        assert any(option in parameter.opts for parameter in command.params), option
