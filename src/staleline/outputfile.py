# SPDX-License-Identifier: GPL-2.0-or-later
"""Places that users name to be written to: what cannot be written says where, and what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from staleline.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["STANDARD_OUTPUT", "replace_file", "unwritable", "writing"]

STANDARD_OUTPUT = "standard output"

_ELSEWHERE = "name another place"
_DO = {
    errno.ENOENT: f"make the directory, or {_ELSEWHERE}",
    errno.EISDIR: "name a file in it",
    errno.EACCES: f"{_ELSEWHERE}, or run as a user who may write there",
    errno.ENOSPC: f"make room, or {_ELSEWHERE}",
    errno.EDQUOT: f"make room, or {_ELSEWHERE}",
    errno.EBADF: "do not close it",
}

#: Collectors of metrics run as another user.
_READABLE = 0o644


def unwritable(error: OSError, where: str | os.PathLike[str]) -> UsageError:
    """What the system said of a place that cannot be written, as an error that says what to do."""
    reason = error.strerror or "the system does not say why"
    do = _DO.get(error.errno or 0, _ELSEWHERE)
    return UsageError(f"cannot be written: {reason}", where=where, do=do)


@contextmanager
def writing(where: str | os.PathLike[str]) -> Iterator[None]:
    """Inside, a place is written to.

    Raises:
        BrokenPipeError: What read it went away.
        UsageError: It cannot be written, or is not a path.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(error, where) from error
    except UnicodeError:
        raise
    except ValueError as error:  # a NUL in the path
        raise UsageError(f"is not a path ({error})", where=where, do=_ELSEWHERE) from error


def replace_file(path: Path, text: str) -> None:
    """Readers see the old file or the new one, never a part: what collectors of metrics need.

    Raises:
        UsageError: It cannot be written.
    """
    # Imports what costs as much as all else that `staleline --help` imports.
    from staleline.files import replace_whole  # noqa: PLC0415

    content = text.encode("utf-8", errors="backslashreplace")
    with writing(path):
        if path.exists() and not path.is_file():  # a pipe, or /dev/stdout
            _write_into(path, content)
        else:
            replace_whole(path.resolve(), content, _READABLE)


def _write_into(path: Path, content: bytes) -> None:
    # O_NONBLOCK: a FIFO that nobody reads is an error, and nothing to wait for.
    with open(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC), "wb") as file:
        os.set_blocking(file.fileno(), True)
        file.write(content)
