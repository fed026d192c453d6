# SPDX-License-Identifier: GPL-2.0-or-later
"""`make fleet-equality`: thousands of hosts by every rule of the catalogue by images.

FLEET_HOSTS and FLEET_IMAGE_HOSTS say how many hosts are judged by rules, and by images; the latter
are of FLEET_MACHINES machines.
"""

from __future__ import annotations

import os

import pytest

from staleline.evidence.detect import parse_snapshot
from staleline.facts import from_snapshot
from staleline.policy.atoms import VENDORS
from staleline.policy.catalogue import catalogue
from tests.conftest import RealKernel
from tests.fleet.equality import differences, fleet_of, some_hosts

_HOSTS = int(os.environ.get("FLEET_HOSTS", "2000"))
_WITH_IMAGES = int(os.environ.get("FLEET_IMAGE_HOSTS", "2000"))
_MACHINES = int(os.environ.get("FLEET_MACHINES", "250"))
_IMAGES = ("5.10", "6.1", "6.12", "6.18", "7")


@pytest.fixture(scope="module")
def hosts() -> dict[str, str]:
    return some_hosts(_HOSTS, seed=2026)


def test_hosts_of_rare_kinds_are_among_them(hosts):
    """Those that no rule has a row for, each at least once in a hundred."""
    told = [parse_snapshot(text, name) for name, text in hosts.items()]
    of = [(one.kernel.release or "", from_snapshot(one)) for one in told]
    later = [facts for release, facts in of if release.startswith(("6.19", "7."))]
    unable = [facts for _, facts in of if facts.boolean("sme") is facts.boolean("sev") is False]
    rare = (
        [facts for facts in later if facts.boolean("snp_guest")],
        [facts for _, facts in of if facts.text("vendor") not in {None, *VENDORS}],
        [facts for facts in unable if facts.boolean("sme_enabled")],
    )
    assert min(map(len, rare)) >= len(hosts) / 100


@pytest.fixture(scope="module")
def fleet(hosts, tmp_path_factory):
    return fleet_of(hosts, tmp_path_factory.mktemp("fleet"))


@pytest.mark.parametrize("rule", [None, *sorted(catalogue())])
def test_every_host_comes_to_what_it_comes_to_alone(hosts, fleet, rule):
    assert not list(differences(hosts, fleet, [rule]))


@pytest.fixture(scope="module")
def hosts_of_few_machines() -> dict[str, str]:
    return some_hosts(_WITH_IMAGES, seed=2027, machines=_MACHINES)


@pytest.fixture(scope="module")
def fleet_of_few_machines(hosts_of_few_machines, tmp_path_factory):
    return fleet_of(hosts_of_few_machines, tmp_path_factory.mktemp("few"))


@pytest.mark.parametrize("series", _IMAGES)
def test_so_it_does_with_an_image(
    series, hosts_of_few_machines, fleet_of_few_machines, real_kernels: dict[str, RealKernel]
):
    image = str(real_kernels[series].path)
    assert not list(differences(hosts_of_few_machines, fleet_of_few_machines, [image]))
