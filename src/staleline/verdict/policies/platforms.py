# SPDX-License-Identifier: GPL-2.0-or-later
"""Platform classes, and every handover a policy can meet on them.

A class stands for all machines that the model cannot tell apart; the table of classes
is data (platforms.toml).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from importlib.resources import files
from itertools import product
from types import MappingProxyType

from staleline.errors import UsageError
from staleline.model.state.lines import Role
from staleline.verdict.handover.case import Case
from staleline.verdict.handover.judgement import Judgement, judge
from staleline.verdict.handover.kernels import Kernel
from staleline.verdict.machines.machine import Machine
from staleline.vocabulary import Path

__all__ = [
    "Platform",
    "PlatformHandover",
    "Selection",
    "check_kernel",
    "count_handovers",
    "handovers_of",
    "platforms",
]


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
    judgement: Judgement

    @property
    def old(self) -> bool:
        """The old kernel uses the C-bit."""
        return self.judgement.case.old_encrypts

    @property
    def next(self) -> bool:
        """The next kernel uses the C-bit."""
        return self.judgement.case.next_encrypts

    @property
    def path(self) -> Path:
        """How the old kernel hands over."""
        return self.judgement.case.path

    @property
    def sev_guests_run(self) -> bool:
        """SEV guests have run, so lines under their keys may be in the caches."""
        return self.judgement.case.machine.sev_guests_run


@cache
def platforms() -> Mapping[str, Platform]:
    """All platform classes by name."""
    text = files(__package__).joinpath("platforms.toml").read_text("utf-8")
    rows = tomllib.loads(text)
    return MappingProxyType({name: _platform(name, row) for name, row in rows.items()})


def _platform(name: str, row: dict[str, str | int | bool]) -> Platform:
    example = str(row.pop("example"))
    # What a row does not say of its class is not so.
    defaults = {field.name: False for field in fields(Machine) if field.default is MISSING}
    return Platform(name, example, Machine(**{**defaults, **row}))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Some of all handovers; None selects every value.

    Attributes:
        platforms: Names of platform classes.
        old: The old kernel uses the C-bit.
        next: The next kernel does.
        path: How the old kernel hands over.
        sev_guests: SEV guests have run.
        roles: Lines of these roles only; handovers without any are left out.
        load_settled: Accepted without evidence (docs/model.md): what was written when a crash
            kernel was loaded has left the caches.
    """

    platforms: frozenset[str] | None = None
    old: bool | None = None
    next: bool | None = None
    path: Path | None = None
    sev_guests: bool | None = None
    roles: frozenset[Role] | None = None
    load_settled: bool = False

    def __post_init__(self) -> None:
        """Refuse a class that there is not, as what is left would be judged in its place.

        Raises:
            UsageError: There is no such platform class.
        """
        for name in sorted((self.platforms or frozenset()) - platforms().keys()):
            do = f"give one of {', '.join(platforms())}"
            raise UsageError(f"no platform class {name!a}", do=do)


_EVERYTHING = Selection()


def count_handovers(kernel: Kernel, selection: Selection = _EVERYTHING) -> int:
    """How many handovers `check_kernel` judges."""
    return sum(1 for _ in handovers_of(kernel, selection))


def check_kernel(kernel: Kernel, selection: Selection = _EVERYTHING) -> Iterator[PlatformHandover]:
    """Judge a kernel on the selected handovers of all platform classes."""
    for platform, case in handovers_of(kernel, selection):
        yield PlatformHandover(platform, judge(case))


def handovers_of(kernel: Kernel, selection: Selection = _EVERYTHING) -> Iterator[tuple[str, Case]]:
    """The selected handovers of a kernel, each with the name of its platform class."""
    for platform in platforms().values():
        if _selected(platform.name, selection.platforms):
            for machine in _variants(platform.machine, selection.sev_guests):
                for case in _cases(kernel, machine, selection):
                    yield platform.name, case


def _cases(kernel: Kernel, machine: Machine, selection: Selection) -> Iterator[Case]:
    behaviour = kernel.behaviour(machine)
    for path, following in product(Path, _next_states(machine)):
        if selection.path in (None, path) and selection.next in (None, following):
            case = Case(
                machine=machine,
                behaviour=behaviour,
                path=path,
                next_encrypts=following,
                roles=selection.roles,
                load_settled=selection.load_settled,
            )
            # Whether the old kernel encrypts is not chosen but follows: selected afterwards.
            if selection.old in (None, case.old_encrypts) and case.has_lines:
                yield case


def _selected(name: str, names: frozenset[str] | None) -> bool:
    return names is None or name in names


def _variants(machine: Machine, sev_guests: bool | None) -> Iterator[Machine]:
    """The machine with memory encryption off and on, and with SEV guests run or not."""
    # KVM runs SEV guests only where the firmware's SYSCFG[23] is set (linux 6.12.118
    # arch/x86/kvm/svm/sev.c sev_hardware_setup()).
    if not machine.can_encrypt:
        # None have run: else another machine would be judged in place of the one asked for.
        if not sev_guests:
            yield machine
        return
    guests_run = (False, True) if sev_guests is None else (sev_guests,)
    for mem_encrypt, sev_guests_run in product((False, True), guests_run):
        yield replace(machine, mem_encrypt=mem_encrypt, sev_guests_run=sev_guests_run)


def _next_states(machine: Machine) -> tuple[bool, ...]:
    only = machine.only_use
    return (False, True) if only is None else (only,)
