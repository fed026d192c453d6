# SPDX-License-Identifier: GPL-2.0-or-later
"""A policy: one predicate per site, and the order of the stop protocol."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from staleline.errors import PolicyError
from staleline.inputfile import read_input
from staleline.policy.atoms import AtomValue
from staleline.policy.evaluate import evaluate
from staleline.policy.expression import (
    Expression,
    atoms_read,
    attributes_read,
    expand,
    parse,
)
from staleline.vocabulary import ReportOrder, Site

__all__ = ["Policy", "ReleaseRange", "load_policy", "parse_policy"]

_MAX_FILE = 64 * 1024
_KEYS = {
    "name",
    "title",
    "source",
    "proposed",
    "releases",
    "bugs",
    "attributes",
    "sites",
    "crash",
    "kernel",
    "protocol",
}
#: Of tables whose keys are no names of their own: what a key is misspelt for would else go without
#: saying.
_KEYS_OF = {
    "kernel": {"encrypts", "lacks"},
    "protocol": {"reported_stopped"},
    "releases": {"upstream", "backported"},
}
#: What comes about by code that not every kernel has.
_LACKED = ("seamcalled", "snp_host")


@dataclass(frozen=True, slots=True)
class ReleaseRange:
    """Upstream series, both ends included; ``backported`` marks stable or distro series."""

    first: tuple[int, int]
    last: tuple[int, int]
    backported: bool

    def __contains__(self, series: tuple[int, int]) -> bool:
        return self.first <= series <= self.last

    def __str__(self) -> str:
        first, last = (".".join(map(str, end)) for end in (self.first, self.last))
        return first if first == last else f"{first} to {last}"


@dataclass(frozen=True, slots=True)
class Policy:
    """One rule, as a kernel era carries it or as somebody proposed it.

    Attributes:
        name: Catalogue name, or the file's own.
        title: One line.
        sources: Commits, files with versions, mails.
        proposed: Day of the mail, for a proposal; else None.
        releases: Where it is found; empty for proposals.
        bugs: Known defects of the rule, each with its source.
        attributes: ``cc()`` attributes it defines.
        predicates: Per site, as written.
        reported: Order of the stop protocol.
        in_a_crash: Sites at which it decides otherwise in a crash, expanded.
        encrypts: When it encrypts its own memory as a host, expanded; None for the condition of
            ``sme_enable()``.
        lacks: Atoms that cannot come about under it, because it has no code for them.
    """

    name: str
    title: str
    sources: tuple[str, ...]
    proposed: str | None
    releases: tuple[ReleaseRange, ...]
    bugs: tuple[str, ...]
    attributes: Mapping[str, Expression]
    predicates: Mapping[Site, Expression]
    reported: ReportOrder
    in_a_crash: Mapping[Site, Expression] = field(default_factory=dict)
    encrypts: Expression | None = None
    lacks: tuple[str, ...] = ()

    def condition(self, site: Site) -> Expression:
        """The site's predicate with all attributes expanded."""
        return expand(self.predicates[site], self.attributes)

    def flushes(self, site: Site, values: Mapping[str, AtomValue]) -> bool | None:
        """Does this policy execute WBINVD at `site`? None where an unknown atom decides."""
        return evaluate(self.condition(site), values)

    def carried_by(self, series: tuple[int, int]) -> bool:
        """May a kernel of this series (major, minor) carry the policy?"""
        return any(series in releases for releases in self.releases)


def load_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        PolicyError: Unreadable, too large, or not a policy.
    """
    raw = read_input(path, PolicyError, limit=_MAX_FILE, do="give a policy file")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PolicyError("not UTF-8 text", where=f"{path}+{error.start:#x}") from None
    return parse_policy(text, where=str(path))


def parse_policy(text: str, *, where: str) -> Policy:
    """Read a policy from TOML text; `where` names it in errors."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyError(f"not TOML: {error}", where=where) from None
    except ValueError:  # of int(), which takes a few thousand digits
        what = "has a number of more digits than any that is used"
        raise PolicyError(what, where=where) from None
    reader = _TableReader(table, where)
    # First: a misspelt optional key would otherwise be taken for one that was left out.
    reader.refuse_unknown_keys()
    attributes = reader.attributes()
    return Policy(
        name=reader.text("name"),
        title=reader.text("title"),
        sources=reader.texts("source"),
        proposed=reader.text("proposed") if "proposed" in table else None,
        releases=reader.releases(),
        bugs=reader.texts("bugs"),
        attributes=attributes,
        predicates=reader.sites(attributes),
        reported=reader.reported(),
        in_a_crash=reader.in_a_crash(attributes),
        encrypts=reader.encrypts(attributes),
        lacks=reader.lacks(),
    )


@dataclass(frozen=True, slots=True)
class _TableReader:
    """Checked access to one policy's TOML table."""

    table: dict[str, Any]
    where: str

    def refuse_unknown_keys(self) -> None:
        unknown = sorted(set(self.table) - _KEYS)
        if unknown:
            raise self._error(f"unknown key {unknown[0]!r}", f"use {', '.join(sorted(_KEYS))}")

    def text(self, key: str) -> str:
        value = self.table.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self._error(f"{key} is missing or not text", f'write {key} = "…"')
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.table.get(key, [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
            raise self._error(f"{key} is neither text nor a list of texts")
        return tuple(values)

    def attributes(self) -> dict[str, Expression]:
        defined: dict[str, Expression] = {}
        # In the file's order: an attribute may name those above it, so none can name itself.
        for name, text in self._section("attributes").items():
            expression = self._expression(text, f"attributes.{name}")
            self._check_defined(expression, defined, f"attributes.{name}")
            defined[name] = expand(expression, defined)
        return defined

    def sites(self, attributes: Mapping[str, Expression]) -> dict[Site, Expression]:
        # Kernels that cannot be hosts of SNP have no flush there, so it may be left out.
        section = {"crash_nmi_callback": "false", **self._section("sites")}
        missing = [site for site in Site if site not in section]
        predicates = self._predicates(section, "sites", attributes)
        if missing:
            raise self._error(f"sites.{missing[0]} is missing", "give its predicate")
        return predicates

    def in_a_crash(self, attributes: Mapping[str, Expression]) -> dict[Site, Expression]:
        """Sites of which ``[crash]`` says something else."""
        section = self._section("crash")
        if Site.STOP_THIS_CPU in section:
            # Else whoever writes it would take crashes for flushed by it.
            raise self._error(
                f"crash.{Site.STOP_THIS_CPU}: no CPU passes this site in a crash",
                f"use {Site.CRASH_NMI_CALLBACK} or {Site.RELOCATE_KERNEL}",
            )
        predicates = self._predicates(section, "crash", attributes)
        return {site: expand(predicate, attributes) for site, predicate in predicates.items()}

    def encrypts(self, attributes: Mapping[str, Expression]) -> Expression | None:
        """``kernel.encrypts``, expanded."""
        text = self._section("kernel").get("encrypts")
        if text is None:
            return None
        expression = self._expression(text, "kernel.encrypts")
        self._check_defined(expression, attributes, "kernel.encrypts")
        expression = expand(expression, attributes)
        if "sme_active" in atoms_read(expression):
            raise self._error(
                "kernel.encrypts: sme_active is what it says", "say it by other atoms"
            )
        return expression

    def lacks(self) -> tuple[str, ...]:
        """``kernel.lacks``: names of atoms that a kernel needs code for."""
        names = self._section("kernel").get("lacks", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._error("kernel.lacks is no list of texts", 'write lacks = ["seamcalled"]')
        strange = [name for name in names if name not in _LACKED]
        if strange:
            # The others are of the machine, or are what `encrypts` says.
            raise self._error(
                f"kernel.lacks: {strange[0]!a} is nothing that a kernel has or lacks the code for",
                f"use {' or '.join(_LACKED)}",
            )
        return tuple(names)

    def _predicates(
        self, section: Mapping[str, Any], table: str, attributes: Mapping[str, Expression]
    ) -> dict[Site, Expression]:
        unknown = sorted(set(section) - set(Site))
        if unknown:
            raise self._error(f"{table}.{unknown[0]}: unknown site", f"use {', '.join(Site)}")
        predicates: dict[Site, Expression] = {}
        for site in Site:
            if site in section:
                predicates[site] = self._expression(section[site], f"{table}.{site}")
                self._check_defined(predicates[site], attributes, f"{table}.{site}")
        return predicates

    def reported(self) -> ReportOrder:
        # What upstream does since commit 1f5e7eb7868e (6.5) goes without saying.
        word = self._section("protocol").get("reported_stopped", ReportOrder.AFTER_FLUSH)
        if not isinstance(word, str) or word not in set(ReportOrder):
            raise self._error(
                f"protocol.reported_stopped: {word!r}", f"use {' or '.join(ReportOrder)}"
            )
        return ReportOrder(word)

    def releases(self) -> tuple[ReleaseRange, ...]:
        section = self._section("releases")
        return tuple(
            self._range(series, backported=key == "backported")
            for key in ("upstream", "backported")
            for series in section.get(key, [])
        )

    def _range(self, series: object, *, backported: bool) -> ReleaseRange:
        # A single series is a range whose ends are one.
        ends = series.split("..") if isinstance(series, str) else []
        try:
            first, last = map(_series, ends * 2 if len(ends) == 1 else ends)
        except ValueError:
            raise self._error(f"releases: {series!r}", 'write "6.5..6.17" or "6.1"') from None
        if last < first:
            raise self._error(f"releases: {series!r} has no release", "write the first one first")
        return ReleaseRange(first, last, backported)

    def _section(self, key: str) -> dict[str, Any]:
        value = self.table.get(key, {})
        if not isinstance(value, dict):
            raise self._error(f"{key} is not a table", f"write [{key}]")
        keys = _KEYS_OF.get(key, set(value))
        for unknown in sorted(set(value) - keys):
            raise self._error(f"{key}.{unknown}: unknown key", f"use {', '.join(sorted(keys))}")
        return value

    def _expression(self, text: object, key: str) -> Expression:
        if not isinstance(text, str):
            raise self._error(f"{key} is not text", "write the predicate in quotes")
        return parse(text, where=f"{self.where}: {key}")

    def _check_defined(
        self, expression: Expression, defined: Mapping[str, Expression], key: str
    ) -> None:
        missing = [name for name in attributes_read(expression) if name not in defined]
        if missing:
            raise self._error(
                f"{key}: cc({missing[0]}) is not defined", "define it above under [attributes]"
            )

    def _error(self, what: str, do: str | None = None) -> PolicyError:
        return PolicyError(what, where=self.where, do=do)


def _series(text: str) -> tuple[int, int]:
    major, minor = text.strip().split(".")
    return int(major), int(minor)
