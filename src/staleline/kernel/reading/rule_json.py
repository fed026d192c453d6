# SPDX-License-Identifier: GPL-2.0-or-later
"""An image's rule as plain values of JSON, and back; keys are those of ``staleline/kernel/1``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from staleline.kernel.boot.decision import SiteDecision, Store
from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.reading.document import AfterFlushDocument, RuleDocument
from staleline.kernel.reading.storedocument import store_document, store_of
from staleline.kernel.rule.imagepolicy import ImagePolicy, SiteRule
from staleline.kernel.rule.truthrows import TruthRow, TruthTable
from staleline.policy.expression import TruthValue, parse
from staleline.vocabulary import ReportOrder, Site

__all__ = ["from_document", "rule_document", "to_document"]

_FACTS = tuple(field.name for field in fields(RawFacts))


def to_document(policy: ImagePolicy) -> dict[str, Any]:
    """Conditions are written as expressions of the policy language.

    ``policy`` is the first of ``equals``, or null. A row's ``unknown`` has the reasons by
    site, and is left out where there are none.
    """
    stores = policy.stores
    return {
        "policy": policy.equals[0] if policy.equals else None,
        "equals": list(policy.equals),
        "reported_stopped": policy.reported,
        "lacks": list(policy.lacks),
        "sites": {site: rule_document(rule) for site, rule in policy.rules.items()},
        "after_flush": {
            site: _after_flush_document(policy, site, found) for site, found in stores.items()
        },
        "encrypts": rule_document(policy.encrypts),
        "unknown": list(policy.unknown),
        "runs": policy.table.runs,
        "truth_table": [_row_document(row, stores) for row in policy.table.rows],
    }


def rule_document(rule: SiteRule) -> RuleDocument:
    """One rule; the condition as an expression of the policy language."""
    return {
        "reads": list(rule.reads),
        "condition": None if rule.condition is None else str(rule.condition),
        "equals": list(rule.equals),
        "unknown": list(rule.unknown),
    }


def _after_flush_document(
    policy: ImagePolicy, site: Site, stores: Sequence[Store]
) -> AfterFlushDocument:
    rule = policy.leaves_behind.get(site)
    # A site without such a rule leaves nothing behind on any machine.
    condition = TruthValue(False) if rule is None else rule.condition
    return {
        "leaves_behind": None if condition is None else str(condition),
        "stores": [store_document(store) for store in stores],
    }


def _row_document(row: TruthRow, stores: Mapping[Site, Sequence[Store]]) -> dict[str, Any]:
    after = {
        # By number, as most rows have the same ones.
        site: [stores[site].index(one) for one in decision.stores]
        for site, decision in row.sites.items()
        if decision.stores
    }
    unknown = {site: one.unknown for site, one in row.sites.items() if one.unknown is not None}
    return {
        "facts": {name: getattr(row.facts, name) for name in _FACTS},
        **{site: one.flushes for site, one in row.sites.items()},
        "sme_active": row.encrypts,
        "reported_stopped": row.reported,
        **({"unknown": unknown} if unknown else {}),
        **({"after_flush": after} if after else {}),
    }


def from_document(document: Mapping[str, Any]) -> ImagePolicy:
    """The value that `to_document` wrote.

    Raises:
        KeyError, TypeError, ValueError: Not such a document.
        PolicyError: A condition is not an expression.
    """
    after = {Site(site): stored for site, stored in document["after_flush"].items()}
    stores = {site: tuple(map(store_of, stored["stores"])) for site, stored in after.items()}
    rows = tuple(_row(row, stores) for row in document["truth_table"])
    return ImagePolicy(
        rules={Site(site): _rule(rule) for site, rule in document["sites"].items()},
        encrypts=_rule(document["encrypts"]),
        reported=_order(document["reported_stopped"]),
        equals=tuple(document["equals"]),
        lacks=tuple(document["lacks"]),
        table=TruthTable(rows, document.get("runs", 0)),
        leaves_behind={
            site: SiteRule(None if condition is None else parse(condition), ())
            for site, after_flush in after.items()
            if (condition := after_flush["leaves_behind"]) != str(TruthValue(False))
        },
    )


def _rule(document: Mapping[str, Any]) -> SiteRule:
    condition = document["condition"]
    return SiteRule(
        condition=None if condition is None else parse(condition),
        reads=tuple(document["reads"]),
        unknown=tuple(document["unknown"]),
        equals=tuple(document["equals"]),
    )


def _row(document: Mapping[str, Any], stores: Mapping[Site, Sequence[Store]]) -> TruthRow:
    unknown, after = document.get("unknown", {}), document.get("after_flush", {})
    return TruthRow(
        facts=RawFacts(**document["facts"]),
        sites={
            site: SiteDecision(
                document[site],
                unknown.get(site),
                tuple(stores[site][index] for index in after.get(site, ())),
            )
            for site in Site
            if site in document
        },
        encrypts=document["sme_active"],
        reported=_order(document["reported_stopped"]),
    )


def _order(word: str | None) -> ReportOrder | None:
    return None if word is None else ReportOrder(word)
