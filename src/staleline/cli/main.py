# SPDX-License-Identifier: GPL-2.0-or-later
"""The ``staleline`` command: finds the subcommand, and turns errors into one line.

Subcommands are imported when they are used, so that ``staleline --help`` is quick.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence

import click

from staleline.cli.console import streams
from staleline.errors import StalelineError
from staleline.extras import missing_extra
from staleline.outputfile import STANDARD_OUTPUT, unwritable

__all__ = ["TRACEBACK", "main", "program"]

#: Subcommand -> one-line help; each lives in the module of its name with a `command`.
_COMMANDS = {
    "audit": "Audit this host, or a machine's dump, with its kernel (the default).",
    "preflight": "Is it safe to load this kernel with kexec, here and now?",
    "facts": "What dumps say of a machine, in layers.",
    "kernel": "Which rule kernel images carry, and what they do on a machine.",
    "fleet": "Many hosts and kernels: add evidence, and ask what they come to.",
    "check": "Model-check a policy on every platform and transition.",
    "prove": "Prove a policy for every number of CPUs, with a certificate, or refute it.",
    "diff": "What changes from one policy or image to another: rules and handovers.",
    "claims": "The claims of the mail threads, each proved, refuted or conditional.",
    "replay": "Execute a counterexample (.itf.json) again.",
    "report": "One HTML page with every verdict and counterexample, to step through and to send.",
    "run": "One kernel kexecs into another on a simulated machine with incoherent caches.",
    "litmus": "A kernel module that asks a machine for incoherent aliases, and its answers.",
    "serve": "Show a report on this host's loopback address.",
    "export": "A model for another checker: Murphi or Promela.",
    "policies": "The catalogue of rules, by era and proposal.",
    "schema": "The JSON Schema of a document that the program prints.",
    "explain": "What a finding, an unknown or a check means, by its id.",
    "collect": "Write a snapshot of this host.",
}

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130  # 128 and SIGINT, as shells have it
EXIT_PIPE = 141  # 128 and SIGPIPE

#: What write(2) says of a place that takes nothing; it names no file.
_OF_OUTPUT = {errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC}

TRACEBACK = "STALELINE_TRACEBACK"
"""The variable with which an internal error is raised, so that where it happened is seen."""


class _LazyGroup(click.Group):
    """A group whose commands are modules that are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(f"staleline.cli.{cmd_name}").command
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    "staleline",
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 safe, 1 error, 2 at risk, 3 unknown; "
    "130 after Ctrl-C, 141 if what reads the output went away.",
)
@click.version_option(package_name="staleline")
@click.pass_context
def program(context: click.Context) -> None:
    """Could this kexec leave incoherent cache lines behind, and are they written back first?

    Without a command: audit this host and the kernel it runs.
    """
    if context.invoked_subcommand is None:
        command = program.get_command(context, "audit")
        if command is not None:
            context.invoke(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the console script's entry point.

    Returns:
        The exit status: 0 safe or done, 1 error, 2 at risk, 3 unknown; as shells have it, 130
        after Ctrl-C, and 141 if what reads the output went away.
    """
    streams.prepare_streams()
    try:
        words = sys.argv[1:] if arguments is None else list(arguments)
        status = program.main(words, prog_name="staleline", standalone_mode=False, obj=words)
        streams.flush()
    except (BrokenPipeError, SystemExit):  # which click makes of EPIPE
        streams.drop_output()
        return EXIT_PIPE
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", EXIT_INTERRUPTED)
    except Exception as error:
        return _fail(_told(error), EXIT_ERROR)
    return status if isinstance(status, int) else 0


def _told(error: Exception) -> str:
    """What to say of an error: of bad input, of the system, or of a defect."""
    if isinstance(error, StalelineError):
        return str(error)
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno in _OF_OUTPUT and error.filename is None:
            return str(unwritable(error, STANDARD_OUTPUT))
        place = "the system" if error.filename is None else os.fsdecode(error.filename)
        return f"{place}: {os.strerror(error.errno)}"
    if isinstance(error, ModuleNotFoundError) and (missing := missing_extra(error)):
        return str(missing)
    if isinstance(error, MemoryError):
        return "there is not enough memory for this"
    if os.environ.get(TRACEBACK):
        raise error
    return (
        f"internal error, a defect of staleline: {type(error).__name__}: {error}; "
        f"report it with what {TRACEBACK}=1 shows and the files it happened with"
    )


def _fail(message: str, status: int) -> int:
    streams.drop_output()
    streams.complain(message)
    return status
