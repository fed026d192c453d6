# SPDX-License-Identifier: GPL-2.0-or-later
"""A rule written as JSON is the same rule when read back."""

from __future__ import annotations

import json

import pytest

from staleline.errors import PolicyError
from staleline.kernel.reading.rule_json import from_document, to_document
from staleline.kernel.rule.imagepolicy import ImagePolicy, image_policy
from staleline.vocabulary import Site
from tests.kernel.tables import combinations, table


def supported(facts):
    return facts.leaf and facts.sme


def open_on_hygon(facts):
    return None if facts.vendor == "HygonGenuine" else supported(facts)


def encrypting(facts):
    return facts.encrypts


POLICIES = {
    "known": image_policy(table(supported, encrypting), release="6.12"),
    "partly unknown": image_policy(table(open_on_hygon, encrypting)),
    "without a site": image_policy(table(supported, encrypting, None)),
    "lacking": image_policy(
        table(supported, encrypting, rows=combinations()), lacks=("seamcalled", "snp_host")
    ),
}


@pytest.mark.parametrize("name", POLICIES)
def test_reading_back_gives_the_same(name: str) -> None:
    policy = POLICIES[name]
    assert from_document(json.loads(json.dumps(to_document(policy)))) == policy


def test_the_document_says_what_was_found() -> None:
    document = to_document(POLICIES["known"])
    assert document["policy"] == "linux-6.5"
    assert document["sites"]["stop_this_cpu"] == {
        "reads": ["max_extended_leaf", "sme_supported"],
        "condition": "sme_supported",
        "equals": ["linux-6.5"],
        "unknown": [],
    }
    row = document["truth_table"][0]
    assert set(row) == {"facts", *Site, "sme_active", "reported_stopped"}


def test_an_unknown_row_keeps_its_reason() -> None:
    document = to_document(POLICIES["partly unknown"])
    assert document["policy"] is None
    rows = [row for row in document["truth_table"] if row["stop_this_cpu"] is None]
    assert {row["unknown"]["stop_this_cpu"] for row in rows} == {"the run stopped at f+0x10"}


def changed(key: str, value: object) -> dict[str, object]:
    return {**to_document(POLICIES["known"]), key: value}


@pytest.mark.parametrize(
    "document",
    [
        {},
        changed("sites", {"stop_that_cpu": {}}),
        changed("truth_table", [{"facts": {"vendor": "AuthenticAMD"}}]),
        changed("reported_stopped", "later"),
        changed(
            "encrypts", {"condition": "sme_suported", "reads": [], "unknown": [], "equals": []}
        ),
    ],
)
def test_anything_else_is_refused(document: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, PolicyError)):
        from_document(document)


def test_policies_are_compared_by_value() -> None:
    assert isinstance(POLICIES["known"], ImagePolicy)
    assert POLICIES["known"] != POLICIES["lacking"]
