# SPDX-License-Identifier: GPL-2.0-or-later
"""The flushes that were worked out beforehand are those that the model gives.

That required.toml is what `required_flushes` says is tested with everything else that is made
from the code (tests/tools/test_generate_docs.py).
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.check.requirements import required_flushes
from staleline.model.scenario import Flush, Offline, Scenario, Stop
from staleline.policy.catalogue import find
from staleline.verdict.handover import required
from staleline.verdict.handover.kernels import PolicyKernel
from staleline.verdict.handover.required import requirements
from staleline.verdict.policies.platforms import handovers_of, platforms
from staleline.vocabulary import Path, Site

KEXEC = Scenario(
    path=Path.KEXEC,
    old_encrypts=True,
    next_encrypts=False,
    incoherent=True,
    flush_secondary=Flush.ALWAYS,
    flush_jumping=Flush.NEVER,
)


@pytest.fixture
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def searched(scenario: Scenario) -> None:
        pytest.fail(f"not in the table: {scenario}")

    monkeypatch.setattr(required, "required_flushes", searched)
    required.requirements.cache_clear()


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("policy", ["linux-4.14", "linux-6.18", "unconditional"])
def test_no_handover_of_a_platform_is_searched_for_its_requirements(policy: str) -> None:
    for _, case in handovers_of(PolicyKernel(find(policy), "the policy")):
        for scenario in case.scenarios():
            requirements(scenario)
    assert len(platforms()) == 11


@pytest.mark.usefixtures("no_search")
def test_with_reboot_force_no_flush_helps() -> None:
    # linux 7.3.4 arch/x86/kernel/smp.c:155: native_stop_other_cpus() returns at once.
    assert not requirements(replace(KEXEC, stop=Stop.SKIPPED)).attainable


def test_what_the_kernel_at_hand_flushes_is_not_looked_at() -> None:
    assert requirements(KEXEC) == requirements(replace(KEXEC, flush_jumping=Flush.ALWAYS))
    assert requirements(KEXEC).needed == {Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL}
    assert requirements(KEXEC) == required_flushes(KEXEC)


@pytest.mark.parametrize(
    "other", [replace(KEXEC, offline=Offline.WOKEN), replace(KEXEC, secondaries=1)]
)
def test_other_handovers_are_searched(other: Scenario) -> None:
    assert requirements(other) == required_flushes(other)
