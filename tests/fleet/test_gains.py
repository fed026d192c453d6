# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said to settle a host does so whatever turns out."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from importlib.resources import files

import pytest

from staleline.evidence.snapshot import TDX_MODULE_STATES, Snapshot
from staleline.facts import Fact, MachineFacts, from_snapshot
from staleline.fleet.asked import ASKED, asked_values
from staleline.fleet.gains import _ANSWERS, _ways
from staleline.fleet.judging import Asked, FleetQuestion, Judge
from staleline.policy.catalogue import find
from staleline.verdict.handover.kernels import PolicyKernel
from staleline.verdict.machines.possible import possible_machines


def _said_of(fact: str) -> set[str]:
    """Every value that a message of the kernel log may give it."""
    text = files("staleline.evidence.log").joinpath("wordings.toml").read_text("utf-8")
    wordings = tomllib.loads(text)["wording"]
    return {one["proves"][fact] for one in wordings if fact in one.get("proves", {})}


@pytest.mark.parametrize(
    ("fact", "values"),
    [("jumped_by", _said_of("jumped_by") | {"kernel"}), ("tdx_module", {*TDX_MODULE_STATES})],
)
def test_each_kind_of_answer_is_tried(fact: str, values: set[str]) -> None:
    assert len(values) > 3
    assert values <= set(_ANSWERS[fact])


def _host(**known: bool | int | str) -> MachineFacts:
    """An Intel host on which TDX may have been used, all else known."""
    told: dict[str, bool | int | str] = {
        "vendor": "GenuineIntel", "max_extended_leaf": 0x8000_0008, "hypervisor": False,
        "tme": True, "tdx_keyids": 2, "several_cpus": True, "reboot_force": False,
        "mem_encrypt": "off", "jumped_by": "kernel", "mwait": True,
        "crash_kernel_borrows": False,
    }  # fmt: skip
    told |= known
    facts = from_snapshot(Snapshot(cpus=())).facts
    return MachineFacts.of(
        Fact(name, fact.layer, fact.text, (), source="told")
        if name in {"offline_cpus", "seamcalled_cpus"}
        else replace(fact, value=told[name], missing=None, source="told")
        if name in told
        else fact
        for name, fact in facts.items()
    )


def _missing_and_ways(facts: MachineFacts, name: str) -> tuple[set[str], list[str]]:
    judge = Judge(FleetQuestion())
    kernels = (PolicyKernel(find("linux-6.5"), "the policy"),)
    asked = Asked(asked_values(facts), kernels, "named", "6.5")
    ways = [judge.verdict_of(way).verdict for way in _ways(asked, "", name)]
    return set(judge.verdict_of(asked).missing.split(",")), ways


def test_a_tdx_module_may_turn_out_to_have_failed():
    """Nothing tells what it wrote before, so that to look at it settles nothing for certain."""
    facts = _host()
    missing, ways = _missing_and_ways(facts, "unknown-tdx-use")
    assert "unknown-tdx-use" in missing
    assert "unknown" in ways
    assert set(ways) != {"unknown"}


@pytest.mark.parametrize("jumper", ["xen", "hyper-v", "jailhouse"])
def test_who_jumps_instead_of_the_kernel_leaves_the_host_unknown(jumper: str) -> None:
    assert {one.machine.jumped_by_kernel for one in possible_machines(_host(jumped_by=jumper))} == {
        False
    }
    facts = _host(jumped_by=jumper, tdx_module="absent")
    judged = Judge(FleetQuestion()).verdict_of(
        Asked(asked_values(facts), (PolicyKernel(find("linux-6.18"), "it"),), "named", jumper)
    )
    assert judged.verdict == "unknown"
    assert set(ASKED) <= set(facts.facts)
