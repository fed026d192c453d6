# SPDX-License-Identifier: GPL-2.0-or-later
"""Which handovers of a rule are wanted: ``--platform``, ``--path``, ``--role``, ``--accept``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from staleline.verdict.policies.platforms import Selection

__all__ = ["ASSUMPTIONS", "Wanted", "selection_options"]

_Result = TypeVar("_Result")

#: What may be accepted without evidence, by its name in docs/model.md.
ASSUMPTIONS = ("load_settled",)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user selects.

    Attributes:
        platforms: Names of platform classes; none for all.
        path: ``kexec``, ``crash`` or ``all``.
        roles: Roles of lines; none for all.
        accepted: Some of `ASSUMPTIONS`.
    """

    platforms: tuple[str, ...] = ()
    path: str = "all"
    roles: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()

    @property
    def selection(self) -> Selection:
        """The same for `check_kernel`.

        Raises:
            UsageError: There is no such platform or role.
        """
        from staleline.model.state.lines import Role
        from staleline.verdict.policies.platforms import Selection, platforms
        from staleline.vocabulary import Path

        _require(self.platforms, platforms(), "--platform", "platform class")
        _require(self.roles, list(Role), "--role", "role of a line")
        return Selection(
            platforms=frozenset(self.platforms) or None,
            path=None if self.path == "all" else Path(self.path),
            roles=frozenset(map(Role, self.roles)) or None,
            load_settled="load_settled" in self.accepted,
        )


def selection_options(
    *, roles: bool = True
) -> Callable[[Callable[..., _Result]], Callable[..., _Result]]:
    """Give a command the options, as its one parameter `wanted`.

    Args:
        roles: It can look at some lines only.
    """

    def decorate(function: Callable[..., _Result]) -> Callable[..., _Result]:
        @click.option(
            "--platform",
            "platforms",
            multiple=True,
            metavar="CLASS",
            help="Only this platform class, e.g. intel-tdx; may be repeated.",
        )
        @click.option(
            "--path",
            type=click.Choice(["kexec", "crash", "all"]),
            default="all",
            show_default=True,
            help="Only this way into the next kernel.",
        )
        @click.option(
            "--accept",
            "accepted",
            multiple=True,
            type=click.Choice(ASSUMPTIONS),
            help="Take this for granted (docs/model.md); what is safe only for it is told.",
        )
        @functools.wraps(function)
        def with_selection(
            *,
            platforms: tuple[str, ...],
            path: str,
            accepted: tuple[str, ...],
            roles: tuple[str, ...] = (),
            **options: object,
        ) -> _Result:
            return function(wanted=Wanted(platforms, path, roles, accepted), **options)

        if not roles:
            return with_selection
        choose_role = click.option(
            "--role",
            "roles",
            multiple=True,
            metavar="ROLE",
            help="Only lines of this role, e.g. image (docs/model.md); may be repeated.",
        )
        return choose_role(with_selection)

    return decorate


def _require(names: tuple[str, ...], known: object, option: str, what: str) -> None:
    from collections.abc import Iterable

    from staleline.errors import UsageError

    assert isinstance(known, Iterable)
    choices = [str(one) for one in known]
    for name in names:
        if name not in choices:
            raise UsageError(
                f"no {what} {name!a}", where=option, do=f"give one of {', '.join(choices)}"
            )
