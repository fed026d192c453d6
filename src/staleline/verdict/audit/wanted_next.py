# SPDX-License-Identifier: GPL-2.0-or-later
"""The next kernel as the user names it: by its use of encryption, or an image to be loaded."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from staleline.errors import UsageError
from staleline.verdict.audit.next_kernel import Following, Next, NextImage

if TYPE_CHECKING:
    from staleline.evidence.snapshot import Snapshot
    from staleline.kernel.image.image import KernelImage

__all__ = ["next_image", "next_kernel", "require_next"]

#: What kexec-tools leaves out of /proc/cmdline (2.0.25 to 2.0.32 kexec/kexec.c
#: get_command_line()); the latter for a crash kernel alone.
_NOT_REUSED = ("BOOT_IMAGE", "crashkernel")


def next_kernel(
    wanted: str, snapshot: Snapshot, *, append: str | None, reuse: bool, crash: bool
) -> Following:
    """``on``, ``off``, ``same``, ``any``, or the path of an image.

    Raises:
        UsageError: It is none of them, or a command line is given where no image is.
    """
    # A file that is called `on` has to be given as ./on.
    if wanted not in tuple(Next):
        return next_image(wanted, snapshot, append=append, reuse=reuse, crash=crash)
    if append is not None or reuse:
        raise UsageError(
            f"--next {wanted} is no image that a command line could be for",
            do="give --next the image that will be loaded",
        )
    return Next(wanted)


def require_next(wanted: str) -> None:
    """Refuse what no next kernel can be, before anything else is looked at.

    Raises:
        KernelImageError: It is no word for one, and no image either.
    """
    if wanted not in tuple(Next):
        _loaded(wanted)


def next_image(
    path: str, snapshot: Snapshot, *, append: str | None, reuse: bool, crash: bool
) -> NextImage:
    """The image and its command line, put together as kexec-tools does: what runs, then more.

    Raises:
        KernelImageError: The image cannot be read.
        UsageError: The running kernel's command line is to be used again, and is not known.
    """
    return NextImage(_loaded(path), _command_line(snapshot, append, reuse=reuse, crash=crash))


@cache
def _loaded(path: str) -> KernelImage:
    """Once for all machines that are asked about it."""
    # Most audits have no image to load, and what reads one takes long to import.
    from staleline.kernel.image.assembly import load_image  # noqa: PLC0415

    return load_image(path)


def _command_line(
    snapshot: Snapshot, append: str | None, *, reuse: bool, crash: bool
) -> str | None:
    if not reuse:
        return append
    running = snapshot.kernel.cmdline
    if running is None:
        raise UsageError(
            "the running kernel's command line is not known, so it cannot be used again",
            do="give all of it to --append, or a snapshot that holds it",
        )
    for parameter in _NOT_REUSED if crash else _NOT_REUSED[:1]:
        running = _without(running, parameter)
    return running if append is None else f"{running} {append}"


def _without(line: str, parameter: str) -> str:
    """`line` as kexec-tools 2.0.32 kexec/kexec.c remove_parameter() leaves it.

    It knows no quotes, takes words that only begin so, and stops at a word that has the name
    further on. Up to 2.0.29 it takes the first such word only.
    """
    while (start := line.find(parameter)) >= 0 and (start == 0 or line[start - 1].isspace()):
        line = line[:start] + line[start:].partition(" ")[2]
    return line
