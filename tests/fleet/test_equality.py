# SPDX-License-Identifier: GPL-2.0-or-later
"""A fleet says of each host what `audit` says of it; `make fleet-equality` has far more of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.evidence.detect import parse_snapshot
from staleline.facts.fact import MachineFacts
from staleline.fleet.asked import ASKED
from staleline.verdict.audit import identity, subject
from tests.conftest import RealKernel
from tests.fleet.equality import audited_alone, differences, fleet_of, some_hosts


@pytest.fixture(scope="module")
def hosts() -> dict[str, str]:
    return some_hosts(40, seed=15)


@pytest.fixture(scope="module")
def fleet(hosts, tmp_path_factory) -> Path:
    return fleet_of(hosts, tmp_path_factory.mktemp("fleet"))


def test_every_host_comes_to_what_it_comes_to_alone(hosts, fleet):
    assert not list(differences(hosts, fleet, [None, "linux-6.18", "linux-5.18"]))


def test_so_it_does_with_an_image(hosts, fleet, real_kernels: dict[str, RealKernel]):
    image = str(real_kernels["7"].path)
    few = dict(list(hosts.items())[:12])
    found = list(differences(hosts=few, fleet=fleet, wanted=[image]))
    assert not [one for one in found if " rows of " not in one]


def test_no_verdict_asks_a_fact_that_is_not_of_the_class(hosts, monkeypatch):
    """Every read of a fact by name, while real hosts are judged by rules of every kind."""
    asked: set[str] = set()
    known = MachineFacts.__getitem__

    def recording(self: MachineFacts, name: str):
        asked.add(name)
        return known(self, name)

    def reading(kind: str):
        method = getattr(MachineFacts, kind)

        def recorded(self: MachineFacts, name: str):
            asked.add(name)
            return method(self, name)

        return recorded

    # Where facts are told, before they are judged, all are copied.
    facts_of = identity.facts_of
    monkeypatch.setattr(subject, "facts_of", lambda *given: _quietly(asked, facts_of, given))
    monkeypatch.setattr(MachineFacts, "__getitem__", recording)
    for kind in ("boolean", "integer", "text"):
        monkeypatch.setattr(MachineFacts, kind, reading(kind))
    for text in list(hosts.values())[:15]:
        audited_alone(parse_snapshot(text, "a host"), None)
    assert asked - set(ASKED) == set()
    assert len(asked) > 20


def _quietly(asked: set[str], function, given):
    before = set(asked)
    facts = function(*given)
    asked.clear()
    asked.update(before)
    return facts
