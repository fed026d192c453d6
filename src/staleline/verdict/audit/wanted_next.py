# SPDX-License-Identifier: GPL-2.0-or-later
"""The next kernel as the user names it: by its use of encryption, or an image to be loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from staleline.errors import KernelImageError, UsageError
from staleline.hardware import ENCRYPTION_LEAF
from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.boot.rawmachine import raw_machine
from staleline.kernel.file.buildtree import built_image
from staleline.verdict.audit.next_kernel import Following, Next

if TYPE_CHECKING:
    from staleline.evidence.snapshot import Snapshot
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.sites.runner import KernelReader
    from staleline.verdict.machines.machine import Machine

__all__ = ["COMMAND_LINE_MAX", "NextImage", "next_image", "next_kernel", "require_next"]

#: COMMAND_LINE_SIZE - 1 (arch/x86/include/asm/setup.h, linux 5.10 to 7.3): what the setup
#: header of a bzImage says it takes, and kexec refuses to exceed.
COMMAND_LINE_MAX = 2047
#: Any vendor that `raw_machine` knows: startup code does not ask for it.
_VENDOR = "AuthenticAMD"
#: Either is there if CONFIG_AMD_MEM_ENCRYPT is set, whatever kallsyms lists.
_ENCRYPTION = ("sme_me_mask", "sme_enable", "__pi_sme_enable")
_EITHER = ("mem_encrypt=off", "mem_encrypt=on")

#: What kexec-tools leaves out of /proc/cmdline (2.0.25 to 2.0.32 kexec/kexec.c
#: get_command_line()); the latter for a crash kernel alone.
_NOT_REUSED = ("BOOT_IMAGE", "crashkernel")


@dataclass(frozen=True)
class NextImage:
    """An image, and the command line that it will be started with.

    Attributes:
        image: The image.
        command_line: None for any.
    """

    image: KernelImage
    command_line: str | None
    _known: dict[tuple[RawFacts, str], bool | None] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        text = self.command_line
        if text is not None and (size := len(text.encode(errors="replace"))) > COMMAND_LINE_MAX:
            raise UsageError(
                f"a command line of {size} bytes, of which a kernel takes {COMMAND_LINE_MAX}",
                do="shorten --append",
            )

    @property
    def name(self) -> str:
        """The image's release, or its file name."""
        return self.image.release or self.image.path

    @property
    def can_encrypt(self) -> bool:
        """The image carries AMD memory encryption (CONFIG_AMD_MEM_ENCRYPT)."""
        return any(name in self.image.symbols for name in _ENCRYPTION)

    def choices(self, machine: Machine, old: bool) -> tuple[tuple[bool, ...], ...]:  # noqa: ARG002
        """What its startup code makes of the machine and of the command line."""
        if (only := machine.only_use) is not None:
            return ((only,),)
        if self.command_line is not None:
            encrypts = self.encrypts(machine, self.command_line)
            return ((False,), (True,)) if encrypts is None else ((encrypts,),)
        # Any command line: what it does without the option, and what either word makes of it.
        either = {self.encrypts(machine, text) for text in ("", *_EITHER)}
        return ((False,), (True,)) if None in either else (tuple(sorted(map(bool, either))),)

    def encrypts(self, machine: Machine, command_line: str) -> bool | None:
        """Run its startup code; None where that could not be run to its end."""
        asked = (_raw_facts(machine), command_line)
        if asked not in self._known:
            self._known[asked] = self._reader.encrypts(raw_machine(asked[0]), command_line)
        return self._known[asked]

    @cached_property
    def _reader(self) -> KernelReader:
        # Most audits name no next image, and the emulator takes 0.2 s to import.
        from staleline.kernel.sites.runner import KernelReader  # noqa: PLC0415

        return KernelReader(self.image)


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


def _loaded(path: str) -> KernelImage:
    return _loaded_as(path, _written(path))


def _written(path: str) -> tuple[int, int, int, int] | None:
    """Tells a file from what was there under its name before; None where that tells nothing."""
    try:
        status = os.stat(built_image(path) if os.path.isdir(path) else path)
    except (OSError, ValueError, KernelImageError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


# Once for all machines that are asked about it: a few, as a process may go on for long.
@lru_cache(maxsize=8)
def _loaded_as(path: str, _written: object) -> KernelImage:
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
    """`line` as kexec-tools 2.0.32 kexec/kexec.c remove_parameter() leaves it."""
    # It knows no quotes, takes words that only begin so, and stops at a word that has the name
    # further on. Up to 2.0.29 it takes the first such word only.
    while (start := line.find(parameter)) >= 0 and (start == 0 or line[start - 1].isspace()):
        line = line[:start] + line[start:].partition(" ")[2]
    return line


def _raw_facts(machine: Machine) -> RawFacts:
    """All that startup code asks of a machine (linux 7.3.4 arch/x86/boot/startup/sme.c:490)."""
    return RawFacts(
        vendor=_VENDOR,
        leaf=machine.max_extended_leaf >= ENCRYPTION_LEAF,
        sme=machine.sme_supported,
        sev=machine.sev_supported,
        hypervisor=machine.hypervisor,
        sme_enabled=machine.sme_enabled,
        sev_status=machine.sev_guest,
        mem_encrypt=False,
    )
