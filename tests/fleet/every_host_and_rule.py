# SPDX-License-Identifier: GPL-2.0-or-later
"""`make fleet-equality`: thousands of hosts by every rule of the catalogue by images.

FLEET_HOSTS and FLEET_IMAGE_HOSTS say how many hosts are judged by rules, and by images.
"""

from __future__ import annotations

import os

import pytest

from staleline.policy.catalogue import catalogue
from tests.conftest import RealKernel
from tests.fleet.equality import differences, fleet_of, some_hosts

_HOSTS = int(os.environ.get("FLEET_HOSTS", "2000"))
_WITH_IMAGES = int(os.environ.get("FLEET_IMAGE_HOSTS", "2000"))
_IMAGES = ("5.10", "6.1", "6.12", "6.18", "7")


@pytest.fixture(scope="module")
def hosts() -> dict[str, str]:
    return some_hosts(_HOSTS, seed=2026)


@pytest.fixture(scope="module")
def fleet(hosts, tmp_path_factory):
    return fleet_of(hosts, tmp_path_factory.mktemp("fleet"))


@pytest.mark.parametrize("rule", [None, *sorted(catalogue())])
def test_every_host_comes_to_what_it_comes_to_alone(hosts, fleet, rule):
    assert not list(differences(hosts, fleet, [rule]))


@pytest.mark.parametrize("series", _IMAGES)
def test_so_it_does_with_an_image(series, tmp_path, real_kernels: dict[str, RealKernel]):
    hosts = some_hosts(_WITH_IMAGES, seed=2027)
    fleet = fleet_of(hosts, tmp_path)
    assert not list(differences(hosts, fleet, [str(real_kernels[series].path)]))
