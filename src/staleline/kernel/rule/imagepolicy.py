# SPDX-License-Identifier: GPL-2.0-or-later
"""The rule an image carries: what `staleline.kernel` finds out about it, as plain values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from staleline.kernel.boot.decision import SiteDecision, Store
from staleline.kernel.rule.condition import SiteRule, site_rule
from staleline.kernel.rule.grid import Grid, grid_of
from staleline.kernel.rule.recognition import Recognition
from staleline.kernel.rule.truthrows import TruthRow, TruthTable
from staleline.policy.expression import Expression, TruthValue
from staleline.vocabulary import ReportOrder, Site

__all__ = ["ImagePolicy", "SiteRule", "image_policy"]


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """The whole rule of an image.

    Attributes:
        rules: Per site that was read.
        encrypts: When the kernel encrypts its own memory as a host.
        reported: Order of the stop protocol; None if it never flushes or is unknown.
        equals: Catalogue policies that decide alike on every machine that can exist, most
            fitting first; empty if there is none. A site that was not read is left out.
        lacks: Atoms that cannot come about under it; `equals` is said without them.
        table: The evidence.
        leaves_behind: Per site at which a line stays dirty after the flush, when it does.
    """

    rules: Mapping[Site, SiteRule]
    encrypts: SiteRule
    reported: ReportOrder | None
    equals: tuple[str, ...]
    lacks: tuple[str, ...]
    table: TruthTable
    leaves_behind: Mapping[Site, SiteRule] = field(default_factory=dict)

    @property
    def stores(self) -> Mapping[Site, tuple[Store, ...]]:
        """Per site, what is stored after its flush on some machine, each once."""
        return {
            site: tuple(sorted({store for row in self.table.rows for store in row.stores(site)}))
            for site in self.rules
        }

    @property
    def unread(self) -> tuple[Site, ...]:
        """Sites of which the table says nothing."""
        return tuple(site for site in Site if site not in self.rules)

    @property
    def unknown(self) -> tuple[str, ...]:
        """All reasons, each once."""
        reasons = [
            f"{name}: {reason}"
            for name, rule in (*self.rules.items(), ("encryption", self.encrypts))
            for reason in rule.unknown
        ]
        return (*dict.fromkeys(reasons), *(f"{site}: not read" for site in self.unread))


def image_policy(
    table: TruthTable, *, lacks: Collection[str] = (), release: str | None = None
) -> ImagePolicy:
    """Find the rule that a truth table shows.

    Args:
        table: Every combination that the kernel can tell apart.
        lacks: Atoms that cannot come about under this kernel, as far as established:
            ``seamcalled`` if it makes no SEAMCALL, ``snp_host`` if it runs no SNP guests.
            Rows with these facts may then be left out; otherwise their absence is unknown.
        release: Kernel release of the image, e.g. ``6.12.107+deb13-amd64``; it orders the
            policies that the image equals, and decides nothing.
    """
    facts = [row.facts for row in table.rows]
    grid = grid_of(facts, lacks)
    encrypts = site_rule(grid, facts, _encryption(table), sme_active=False)
    rules = {
        site: site_rule(
            grid,
            facts,
            [row.sites.get(site, _NOT_RUN) for row in table.rows],
            sme_active=_as_formula(grid, encrypts.condition),
        )
        for site in Site
        if any(site in row.sites for row in table.rows)
    }
    recognition = Recognition(
        grid=grid, encrypts=encrypts.condition, lacks=tuple(sorted(lacks)), release=release
    )
    leaves = {
        site: site_rule(grid, facts, _left_behind(table, site), sme_active=False)
        for site in rules
        if any(row.left_behind(site) for row in table.rows)
    }
    return _recognised(_doubted(rules, leaves), leaves, encrypts, table, recognition)


_NOT_RUN = SiteDecision(None, "the site was not run with these facts")


def _left_behind(table: TruthTable, site: Site) -> list[SiteDecision]:
    """Per row, whether the site leaves a dirty line behind its flush."""
    return [
        SiteDecision(None, decision.unknown)
        if (decision := row.sites.get(site, _NOT_RUN)).flushes is None
        else SiteDecision(bool(decision.left_behind))
        for row in table.rows
    ]


def _doubted(
    rules: Mapping[Site, SiteRule], leaves: Mapping[Site, SiteRule]
) -> Mapping[Site, SiteRule]:
    """A site of which it is unknown when it leaves lines behind has an unknown rule."""
    return {
        site: replace(rule, condition=None, unknown=(*rule.unknown, *leaves[site].unknown))
        if site in leaves and leaves[site].condition is None
        else rule
        for site, rule in rules.items()
    }


def _encryption(table: TruthTable) -> list[SiteDecision]:
    return [
        SiteDecision(row.encrypts, "sme_me_mask was not derived" if row.encrypts is None else None)
        for row in table.rows
    ]


def _as_formula(grid: Grid, encrypts: Expression | None) -> bool:
    """Does the kernel encrypt exactly where `RawFacts.encrypts` says?"""
    if encrypts is None:
        return False
    differs = grid.where(encrypts) != grid.atoms["sme_active"]
    return not (differs & grid.possible).any()


def _recognised(
    rules: Mapping[Site, SiteRule],
    leaves: Mapping[Site, SiteRule],
    encrypts: SiteRule,
    table: TruthTable,
    recognition: Recognition,
) -> ImagePolicy:
    reported, unknown = _order(table.rows, recognition.grid)
    # No policy of the catalogue stores anything that its flush would have had to reach.
    named = {
        site: rule
        if site in leaves
        else replace(rule, equals=recognition.at_site(site, rule.condition))
        for site, rule in rules.items()
    }
    stop = named.get(Site.STOP_THIS_CPU)
    if stop is not None and unknown is not None:
        named[Site.STOP_THIS_CPU] = replace(stop, unknown=(*stop.unknown, unknown))
    # What never flushes has no order in which to flush and report, and equals rules of either.
    flushes = stop is not None and stop.condition != TruthValue(False)
    alike = {site: rule.equals for site, rule in named.items()}
    equals = recognition.whole(alike, reported, flushes=flushes)
    return ImagePolicy(named, encrypts, reported, equals, recognition.lacks, table, leaves)


def _order(rows: tuple[TruthRow, ...], grid: Grid) -> tuple[ReportOrder | None, str | None]:
    """The order in which every possible machine reports and flushes, or why it is unknown."""
    orders = {
        row.reported
        for row, possible in zip(rows, grid.possible[grid.places], strict=True)
        # Rows of machines that cannot exist may show another: nobody meets them.
        if possible and _flushes(row)
    }
    if len(orders) > 1:
        return None, "the order of report and flush is not the same on every machine"
    order = next(iter(orders), None)
    if orders and order is None:
        return None, "the order of report and flush was not established"
    return order, None


def _flushes(row: TruthRow) -> bool:
    decision = row.sites.get(Site.STOP_THIS_CPU)
    return decision is not None and decision.flushes is True
