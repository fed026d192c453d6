# SPDX-License-Identifier: GPL-2.0-or-later
"""The simulated machine as ``make machine`` left it: Bochs with patches, and programs of guests."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from staleline.errors import UsageError
from staleline.kernel.reading.cache import default_directory

__all__ = ["INTERFACE", "BuiltMachine", "built_machine", "machine_cache"]

#: What this program and an emulator have to agree about: options, events, programs of guests.
#: `machine/machine.toml` has it, too, and a build keeps it.
INTERFACE: Final = 2

_BUILD_IT: Final = "make machine (in a checkout of staleline; eight minutes on two cores)"
_GUESTS: Final = ("boot", "init", "probe")
_FILES: Final = ("bochs", "bios", "vgabios", *_GUESTS)


@dataclass(frozen=True, slots=True)
class BuiltMachine:
    """A built machine.

    Attributes:
        folder: Where its files are.
        key: What names the build: the same key, the same runs.
    """

    folder: Path
    key: str

    @property
    def program(self) -> Path:
        """The emulator."""
        return self.folder / "bochs"

    def guest(self, name: str) -> bytes:
        """A program of the guests: "boot", "init" or "probe"."""
        return (self.folder / name).read_bytes()


def machine_cache() -> Path:
    """Where the machine is kept: ``$XDG_CACHE_HOME/staleline/machine``."""
    return default_directory().parent / "machine"


def built_machine(cache: Path | None = None) -> BuiltMachine:
    """The machine that is built.

    Raises:
        UsageError: There is none that this program understands; it says how to get it.
    """
    folder = (cache or machine_cache()) / "built"
    try:
        record = json.loads((folder / "build.json").read_text())
        # The first builds did not name it.
        key, interface = str(record["key"]), record.get("interface", 1)
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError("the simulated machine is not built", do=_BUILD_IT) from None
    if interface != INTERFACE:
        raise UsageError(
            f"the simulated machine is of another version ({interface}, this needs {INTERFACE})",
            where=folder,
            do=_BUILD_IT,
        )
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            f"of the simulated machine {', '.join(missing)} is missing", where=folder, do=_BUILD_IT
        )
    # The key is of the emulator alone; the guests' programs change without it.
    return BuiltMachine(folder, f"{key}-{_digest_of_guests(folder)}")


def _digest_of_guests(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in _GUESTS:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:8]
