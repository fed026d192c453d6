# SPDX-License-Identifier: GPL-2.0-or-later
"""How the matrix counts what its runs have shown."""

from __future__ import annotations

from typing import Any

import pytest
from tools.machine_matrix import ADVERSARIES, Boot, cells

from staleline.simulation.experiment import SimulatedCpus
from staleline.vocabulary import Site
from tools import machine_matrix

AT_RISK: dict[str, Any] = {
    "kernel": "7.3",
    "machine": "hygon",
    "cpus": 2,
    "old": True,
    "next": False,
    "path": "kexec",
    "adversary": "late",
    "without": None,
    "verdict": "at-risk",
    "broken": "P1",
    "role": "image",
    "outcome": "destroyed",
    "destroyed": 143291,
    "disagreement": None,
}
CLEAN = {**AT_RISK, "outcome": "clean", "destroyed": 0, "adversary": "restless"}


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([AT_RISK, CLEAN], "| at-risk (P1, image) | 2 | 1, 143,291 |  |"),
        ([AT_RISK, CLEAN], "2 of them observed; 0 contradict"),
        ([AT_RISK, CLEAN], "and 0 handovers at risk were not seen"),
        ([CLEAN], "and 1 handovers at risk were not seen to destroy anything"),
        ([{**AT_RISK, "disagreement": "safe is predicted"}], "1 contradict"),
        ([{**CLEAN, "outcome": "not observed"}], "0 of them observed"),
    ],
)
def test_table(records: list[dict[str, Any]], told: str) -> None:
    assert told in machine_matrix._table(records)


def test_nothing_is_taken_away_where_nothing_flushes() -> None:
    hygon, amd = (
        cells(Boot("7.3", cpus, encrypts=True, cpus=2))
        for cpus in (SimulatedCpus.HYGON, SimulatedCpus.AMD)
    )
    assert {cell.without for cell in hygon} == {None}
    assert {cell.without for cell in amd} == {None, Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL}
    assert {cell.adversary for cell in hygon} == set(ADVERSARIES)
    assert len({cell.name for cell in amd}) == len(amd)
