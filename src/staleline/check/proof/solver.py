# SPDX-License-Identifier: GPL-2.0-or-later
"""SMT-LIB scripts answered by z3, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum

from staleline.errors import ModelError

__all__ = ["TIME_LIMIT", "Reply", "ask"]

#: Seconds that z3 may take unless told otherwise; a script made here takes a tenth of one.
TIME_LIMIT = 60.0

#: The child reads scripts and prints what z3 answers to them.
_CHILD = (
    "import sys, z3;"
    "answer = z3.Z3_eval_smtlib2_string(z3.main_ctx().ref(), sys.stdin.read());"
    "sys.stdout.write(answer)"
)
_CHECK = "(check-sat)"
#: Between two scripts: forget everything, and say so.
_NEXT = '(reset)\n(echo "next script")\n'


class Reply(StrEnum):
    """The answer to one ``check-sat``."""

    UNSAT = "unsat"
    SAT = "sat"
    UNKNOWN = "unknown"


def ask(scripts: Sequence[str], *, time_limit: float = TIME_LIMIT) -> tuple[tuple[Reply, ...], ...]:
    """Have z3 answer scripts, all in one process.

    Args:
        scripts: SMT-LIB 2.
        time_limit: Seconds after which z3 is ended.

    Returns:
        Per script, one reply for every ``check-sat``; all unknown when the time was up.

    Raises:
        ModelError: z3 refused a script.
    """
    if not scripts:
        return ()
    # z3 goes on after an error with the next command: only a whole set of answers belongs to the
    # queries.
    wanted = [script.count(_CHECK) for script in scripts]
    try:
        # One process for all, as importing z3 takes as long as a script.
        output = _run(_NEXT.join(scripts), time_limit)
    # Output that was cut off may end within a word; none of it is used.
    except subprocess.TimeoutExpired:
        return tuple((Reply.UNKNOWN,) * queries for queries in wanted)
    replies = tuple(_replies(output))
    if [len(one) for one in replies] != wanted:
        raise _refused(output)
    return replies


def _run(text: str, time_limit: float) -> str:
    # A process can be ended; z3's own time limit is not kept reliably.
    done = subprocess.run(  # noqa: S603 - this interpreter, with a program that is fixed
        [sys.executable, "-c", _CHILD],
        input=text,
        capture_output=True,
        text=True,
        timeout=time_limit,
        check=False,
    )
    if done.returncode != 0:
        raise _refused(done.stderr)
    return done.stdout


def _replies(output: str) -> Iterator[tuple[Reply, ...]]:
    for part in output.split("next script\n"):
        lines = part.split()
        yield tuple(Reply(line) for line in lines) if set(lines) <= set(Reply) else ()


def _refused(output: str) -> ModelError:
    lines = [line for line in output.splitlines() if line.strip() and line not in set(Reply)]
    return ModelError(
        f"z3 did not answer as expected: {lines[-1] if lines else 'no output'}",
        where="SMT-LIB script",
        do="check that z3-solver is installed, and try the exported script with another solver",
    )
