# SPDX-License-Identifier: GPL-2.0-or-later
"""A contradiction in evidence: its kind (contradictions.toml), what it says, and its error."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from staleline.errors import EvidenceError

__all__ = [
    "Contradiction",
    "ContradictionError",
    "ContradictionKind",
    "against_kernel",
    "against_observed",
    "clash",
    "contradiction_kinds",
    "measured_against_cpuid",
    "raise_if_any",
    "without_seamcalls",
]


@dataclass(frozen=True, slots=True)
class ContradictionKind:
    """What a contradiction of one kind is; the columns of contradictions.toml."""

    id: str
    title: str
    means: str
    do: str


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One contradiction.

    Attributes:
        id: Of its kind.
        what: The fields that cannot both be true, with their values.
        fields: Their names, as in a snapshot; one name if two sources give it two values.
    """

    id: str
    what: str
    fields: tuple[str, ...] = ()

    @property
    def kind(self) -> ContradictionKind:
        """What contradictions of this kind are."""
        return contradiction_kinds()[self.id]


@cache
def contradiction_kinds() -> Mapping[str, ContradictionKind]:
    """Every kind by id."""
    text = files(__package__).joinpath("contradictions.toml").read_text("utf-8")
    return MappingProxyType(
        {
            name: ContradictionKind(name, **{column: text.strip() for column, text in row.items()})
            for name, row in tomllib.loads(text).items()
        }
    )


class ContradictionError(EvidenceError):
    """Evidence that contradicts itself.

    Args:
        what: The first contradiction, and the ids of all.
        where: The file; None where only the whole of the evidence is at odds.
        do: What the user can do about it.
        contradictions: Every contradiction, the told one first.
        host: Of which host it is evidence, where that is told in what was being read.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None,
        do: str,
        contradictions: tuple[Contradiction, ...],
        host: str | None = None,
    ) -> None:
        super().__init__(what, where=where, do=do)
        self.contradictions = contradictions
        self.host = host

    @property
    def ids(self) -> tuple[str, ...]:
        """Of evidence/contradictions.toml, each once."""
        return tuple(dict.fromkeys(one.id for one in self.contradictions))


def raise_if_any(
    contradictions: tuple[Contradiction, ...], where: str | None, host: str | None = None
) -> None:
    """Refuse evidence with contradictions.

    Raises:
        ContradictionError: There is one; the first is told in full.
    """
    if contradictions:
        others = list(
            dict.fromkeys(one.id for one in contradictions if one.id != contradictions[0].id)
        )
        also = f"; also {', '.join(others)}" if others else ""
        what = f"{contradictions[0].what} ({contradictions[0].id}{also})"
        do = contradictions[0].kind.do
        raise ContradictionError(what, where=where, do=do, contradictions=contradictions, host=host)


def against_kernel(sme_active: bool | None) -> Contradiction:
    """A state of SME that the kernel's own code would not have brought about."""
    said = f"state.sme_active is {sme_active}"
    what = f"{said} and this kernel with these registers and command line would not have it so"
    return Contradiction("sme-active-against-kernel", what, ("state.sme_active",))


def against_observed(option: str, given: str, field: str, observed: str) -> Contradiction:
    """A value that the user gives for one that was observed as another."""
    what = f"{option} gives {given} and {field} was observed as {observed}"
    return Contradiction("given-against-observed", what, (field,))


def measured_against_cpuid(starred: int, asked: int) -> Contradiction:
    """Aliases that were seen to be incoherent, and that CPUID says are kept coherent."""
    what = (
        f"{starred} of {asked} lines showed what coherent aliases cannot give, and CPUID "
        "0x8000001f EAX[10] says that they are kept coherent"
    )
    return Contradiction("measured-against-cpuid", what, ("cpuid 0x8000001f",))


def without_seamcalls(tdx_module: str, image: str) -> Contradiction:
    """A state of the TDX module that only SEAMCALLs bring about, and an image without any."""
    what = f"state.tdx_module is {tdx_module!r} and {image} has no SEAMCALL code"
    return Contradiction("tdx-without-seamcalls", what, ("state.tdx_module",))


def clash(kind: str, first: tuple[str, str], second: tuple[str, str]) -> Contradiction:
    """Two fields that cannot both be as they are, each with what it says."""
    what = " and ".join(f"{field} {says}" for field, says in (first, second))
    return Contradiction(kind, what, (first[0], second[0]))
