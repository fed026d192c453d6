# SPDX-License-Identifier: GPL-2.0-or-later
"""What the functions of a kernel that execute WBINVD are there for (flushroles.toml)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files

__all__ = ["FlushRole", "Phase", "role_of"]

_POSITION_INDEPENDENT = "__pi_"


class Phase(StrEnum):
    """When in the life of a kernel a function flushes."""

    KEXEC = "kexec"
    CRASH = "crash"
    OFFLINE = "offline"
    BOOT = "boot"
    RUNNING = "running"
    SLEEP = "sleep"
    WRAPPER = "wrapper"


@dataclass(frozen=True, slots=True)
class FlushRole:
    """Why a function flushes, and what that means for the next kernel.

    Attributes:
        name: What it belongs to.
        functions: Its functions, by any release.
        phase: When in the life of a kernel.
        source: Kernel file and line, with the release in which it was read.
        when: Under which condition WBINVD is executed there.
        kexec: What it means on the way to the next kernel.
        run: `staleline.kernel` runs this code; the rest is known from the source only.
        passes_on: It flushes for its callers.
    """

    name: str
    functions: tuple[str, ...]
    phase: Phase
    source: str
    when: str
    kexec: str
    run: bool
    passes_on: bool


def role_of(function: str) -> FlushRole | None:
    """The role of a function, or of a part that the compiler split off from it."""
    # Compilers add suffixes such as .cold and .isra.0 to a name.
    return _roles().get(function.removeprefix(_POSITION_INDEPENDENT).split(".")[0])


@cache
def _roles() -> dict[str, FlushRole]:
    """Function -> its role."""
    text = files(__package__).joinpath("flushroles.toml").read_text(encoding="utf-8")
    roles: dict[str, FlushRole] = {}
    for entry in tomllib.loads(text)["role"]:
        role = FlushRole(
            name=entry["name"],
            functions=tuple(entry["functions"]),
            phase=Phase(entry["phase"]),
            source=entry["source"],
            when=entry["when"],
            kexec=entry["kexec"],
            run=entry.get("run", False),
            passes_on=entry.get("passes_on", False),
        )
        roles |= dict.fromkeys(role.functions, role)
    return roles
