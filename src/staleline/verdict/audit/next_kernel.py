# SPDX-License-Identifier: GPL-2.0-or-later
"""Which next kernels are asked about: by their use of memory encryption, or by an image.

What an image will do follows from its own startup code, run with the command line that it
will be started with on the machine in question.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from staleline.errors import UsageError
from staleline.hardware import ENCRYPTION_LEAF
from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.boot.rawmachine import raw_machine
from staleline.verdict.machines.machine import Machine

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.sites.runner import KernelReader

__all__ = ["COMMAND_LINE_MAX", "Following", "Next", "NextImage"]

#: COMMAND_LINE_SIZE - 1 (arch/x86/include/asm/setup.h, linux 5.10 to 7.3): what the setup
#: header of a bzImage says it takes, and kexec refuses to exceed.
COMMAND_LINE_MAX = 2047

#: Any vendor that `raw_machine` knows: startup code does not ask for it.
_VENDOR = "AuthenticAMD"
#: Either is there if CONFIG_AMD_MEM_ENCRYPT is set, whatever kallsyms lists.
_ENCRYPTION = ("sme_me_mask", "sme_enable", "__pi_sme_enable")
_EITHER = ("mem_encrypt=off", "mem_encrypt=on")


class Following(Protocol):
    """What is known of the next kernel."""

    def choices(self, machine: Machine, old: bool) -> tuple[tuple[bool, ...], ...]:
        """Its possible uses of the C-bit on a machine; several where that is not known.

        Args:
            machine: Where it starts.
            old: The old kernel uses the C-bit.

        Returns:
            One tuple per way in which what is unknown may turn out. Each lists the uses that
            are asked about.
        """


class Next(StrEnum):
    """Next kernels by their use of memory encryption."""

    ON = "on"
    OFF = "off"
    SAME = "same"
    ANY = "any"

    def choices(self, machine: Machine, old: bool) -> tuple[tuple[bool, ...], ...]:
        """What is asked for."""
        if (only := _only_use(machine)) is not None:
            return ((only,),)
        match self:
            case Next.SAME:
                return ((old,),)
            case Next.ANY:
                return ((False, True),)
            case _:
                return ((self is Next.ON,),)


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
        if (only := _only_use(machine)) is not None:
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


def _only_use(machine: Machine) -> bool | None:
    """Of the C-bit, where no kernel has a choice; None where it has one."""
    # In a guest the hypervisor encrypts; on a host no kernel can use what is not there.
    return True if machine.sev_guest else None if machine.can_encrypt else False


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
