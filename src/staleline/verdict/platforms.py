# SPDX-License-Identifier: GPL-2.0-or-later
"""Platform classes, and every handover a policy can meet on them.

A class stands for all machines that the model cannot tell apart; the table of classes
is data (platforms.toml).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from staleline.policy.policy import Policy
from staleline.verdict.handover import Judgement, judge
from staleline.verdict.kernels import PolicyKernel
from staleline.verdict.machine import Guest, Machine
from staleline.vocabulary import Path

__all__ = ["Platform", "PlatformHandover", "check_policy", "platforms"]


@dataclass(frozen=True, slots=True)
class Platform:
    """A class of machines, by one representative."""

    name: str
    example: str
    machine: Machine


@dataclass(frozen=True, slots=True)
class PlatformHandover:
    """One handover of a policy on a platform class."""

    platform: str
    old: bool
    next: bool
    path: Path
    sev_guests_run: bool
    judgement: Judgement


@cache
def platforms() -> Mapping[str, Platform]:
    """All platform classes by name."""
    text = files(__package__).joinpath("platforms.toml").read_text("utf-8")
    rows = tomllib.loads(text)
    return MappingProxyType({name: _platform(name, row) for name, row in rows.items()})


def _platform(name: str, row: dict[str, str | int | bool]) -> Platform:
    example = str(row.pop("example"))
    defaults = {field.name: False for field in fields(Machine)}
    return Platform(name, example, Machine(**{**defaults, **row}))  # type: ignore[arg-type]


def check_policy(policy: Policy) -> Iterator[PlatformHandover]:
    """Judge the policy on every platform class, transition and path."""
    kernel = PolicyKernel(policy, "the policy itself")
    for platform in platforms().values():
        for machine in _variants(platform.machine):
            behaviour = kernel.behaviour(machine)
            for path in Path:
                for next_encrypts in _next_states(machine):
                    yield PlatformHandover(
                        platform=platform.name,
                        old=bool(behaviour.sme_active),
                        next=next_encrypts,
                        path=path,
                        sev_guests_run=machine.sev_guests_run,
                        judgement=judge(machine, behaviour, path=path, next_encrypts=next_encrypts),
                    )


def _variants(machine: Machine) -> Iterator[Machine]:
    """The machine with memory encryption off and on, and with SEV guests run or not."""
    if not machine.can_encrypt:
        yield machine
        return
    for mem_encrypt in (False, True):
        for sev_guests_run in (False, True) if machine.guest is Guest.NONE else (False,):
            yield replace(machine, mem_encrypt=mem_encrypt, sev_guests_run=sev_guests_run)


def _next_states(machine: Machine) -> tuple[bool, ...]:
    return (False, True) if machine.can_encrypt else (False,)
