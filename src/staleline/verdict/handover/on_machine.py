# SPDX-License-Identifier: GPL-2.0-or-later
"""What an image does on a machine, for every way in which incomplete evidence may turn out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from staleline.facts import MachineFacts
from staleline.model.scenario import Flush
from staleline.verdict.handover.kernels import Behaviour, ImageKernel
from staleline.verdict.machines.machine import UNSEEN
from staleline.verdict.machines.possible import possible_machines
from staleline.vocabulary import Site

__all__ = ["Reading", "read_on_machine"]

#: What the code of an image that is run here cannot see.
_NO_REGISTER_TELLS = UNSEEN | {"offline", "coherency_sfw_no"}
#: What was assumed of a machine, and what the image does on it.
Row = tuple[Mapping[str, bool | str], Behaviour]
#: Rows that a reader can compare with each other.
_FEW = 32


@dataclass(frozen=True, slots=True)
class Reading:
    """One image on one machine.

    Attributes:
        rows: (facts assumed, behaviour) for each machine that fits the evidence; where that
            leaves many, for each behaviour, with what was assumed wherever it was seen.
    """

    rows: tuple[Row, ...]

    @property
    def decisions(self) -> Mapping[Site, bool | None]:
        """Per site, what all rows agree on; None where they differ or one stopped."""
        return {site: self._agreed(site) for site in Site}

    @property
    def unknown(self) -> tuple[str, ...]:
        """Reasons why a site was not read to its end."""
        return tuple(dict.fromkeys(reason for _, row in self.rows for reason in row.unknown))

    def _agreed(self, site: Site) -> bool | None:
        decisions = {executed(behaviour, site) for _, behaviour in self.rows}
        return decisions.pop() if len(decisions) == 1 else None


def executed(behaviour: Behaviour, site: Site) -> bool | None:
    """Is WBINVD executed at the site? None where the reading stopped."""
    flush = behaviour.flushes[site]
    return None if flush is None else flush is not Flush.NEVER


def read_on_machine(kernel: ImageKernel, facts: MachineFacts) -> Reading:
    """Run the image's code for every machine that fits the facts."""
    rows: dict[tuple[tuple[str, bool | str], ...], Row] = {}
    for possibility in possible_machines(facts):
        assumed = {
            name: value
            for name, value in possibility.assumed.items()
            if name not in _NO_REGISTER_TELLS
        }
        rows.setdefault(tuple(assumed.items()), (assumed, kernel.behaviour(possibility.machine)))
    different = tuple(rows.values())
    return Reading(different if len(different) <= _FEW else tuple(_alike(different)))


def _alike(rows: Sequence[Row]) -> Iterator[Row]:
    """One row per behaviour, with what was assumed wherever the image behaves so."""
    groups: list[tuple[dict[str, bool | str], Behaviour]] = []
    for assumed, behaviour in rows:
        # By equality, not by hash: a behaviour holds mappings, which have none.
        shared = next((known for known, other in groups if other == behaviour), None)
        if shared is None:
            groups.append((dict(assumed), behaviour))
        else:
            # What was assumed otherwise in one of them did not matter.
            for name in [name for name in shared if shared[name] != assumed.get(name)]:
                del shared[name]
    yield from groups
