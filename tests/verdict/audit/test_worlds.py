# SPDX-License-Identifier: GPL-2.0-or-later
"""Worlds: one for each way in which what is unknown may turn out, and what they agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

import pytest

from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import with_given
from staleline.evidence.snapshot import KernelEvidence, Snapshot
from staleline.facts import MachineFacts, from_snapshot
from staleline.model.scenario import Flush
from staleline.policy.catalogue import find
from staleline.verdict.audit.agreement import audit
from staleline.verdict.audit.missing import missing
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.audit.worlds import NEXT_ENCRYPTS, JudgedHandovers, World, worlds
from staleline.verdict.handover.borrowing import KernelWithBorrowedMemory
from staleline.verdict.handover.changed import ChangedKernel
from staleline.verdict.handover.kernels import Behaviour, FixedKernel, Kernel, PolicyKernel
from staleline.verdict.machines.machine import Machine
from staleline.verdict.policies.platforms import platforms
from staleline.vocabulary import Path, ReportOrder, Site, Verdict

ROME = (
    FilePath(__file__).parents[2] / "data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"
)
ALL = FixedKernel(dict.fromkeys(Site, True))
NONE = FixedKernel({})


def rome(**state: object) -> MachineFacts:
    """All that an ordinary host tells; SEV guests have run unless it says otherwise."""
    given = with_given(
        read_snapshot(ROME),
        msr=["0xc0010010=0x800000", "0xc0010131=0x0"],
        state=["sev_guests_run=no"],
    )
    # An observed command line, since one that is given describes the machine as a whole.
    kernel = KernelEvidence(release="6.12.118", cmdline="mem_encrypt=on")
    complete = {"offline_cpus": (), "reboot_force": False, **state}
    seen: Snapshot = replace(given, kernel=kernel, state=replace(given.state, **complete))  # type: ignore[arg-type]
    return from_snapshot(seen)


@dataclass(frozen=True)
class Either:
    """A kernel of which it is not known whether it encrypts."""

    name: str = "either"
    evidence: str = "made up"
    flushes: Mapping[Site, Flush] = field(default_factory=lambda: dict.fromkeys(Site, Flush.ALWAYS))

    def behaviour(self, machine: Machine) -> Behaviour:
        return Behaviour(self.flushes, ReportOrder.AFTER_FLUSH, sme_active=None, seamcalls=False)


@dataclass(frozen=True)
class Untold:
    """A next kernel that does one thing or the other."""

    def choices(self, machine: Machine, old: bool) -> tuple[tuple[bool, ...], ...]:
        return ((False,), (True,))


def test_one_machine_with_one_kernel_is_one_world() -> None:
    (world,) = worlds(rome(), (ALL,), Next.OFF, (Path.KEXEC,))
    assert world.assumed == {}
    assert list(world.judgements) == [(True, False, Path.KEXEC)]


def test_each_rule_that_a_release_may_carry_is_a_world() -> None:
    seen = worlds(rome(), (ALL, NONE), Next.OFF, (Path.KEXEC,))
    assert [(world.kernel, world.verdict) for world in seen] == [
        (ALL.name, Verdict.SAFE),
        (NONE.name, Verdict.AT_RISK),
    ]


def test_any_next_kernel_is_asked_about_in_one_world_and_one_that_is_not_told_in_two() -> None:
    (world,) = worlds(rome(), (ALL,), Next.ANY, (Path.KEXEC,))
    assert [key[1] for key in world.judgements] == [False, True]
    untold = list(worlds(rome(), (ALL,), Untold(), (Path.KEXEC,)))
    assert [world.assumed for world in untold] == [{NEXT_ENCRYPTS: False}, {NEXT_ENCRYPTS: True}]


def test_a_kernel_that_may_encrypt_or_not_is_both_until_it_was_seen() -> None:
    kernel: Kernel = Either()
    both = {key[0] for world in worlds(rome(), (kernel,), Next.OFF, (Path.KEXEC,))
            for key in world.judgements}  # fmt: skip
    assert both == {False, True}
    seen = worlds(rome(sme_active=True), (kernel,), Next.OFF, (Path.KEXEC,))
    assert {key[0] for world in seen for key in world.judgements} == {True}


def test_a_rule_that_does_otherwise_than_was_seen_is_a_contradiction() -> None:
    with pytest.raises(ContradictionError, match="sme-active-against-kernel"):
        audit(rome(sme_active=False), (ALL,), following=Next.OFF, paths=(Path.KEXEC,))


def test_the_verdict_is_the_worst_of_each_world_if_worlds_agree() -> None:
    kexec_only = FixedKernel({Site.STOP_THIS_CPU: True, Site.RELOCATE_KERNEL: True})
    judged = audit(rome(), (kexec_only,), following=Next.OFF, paths=tuple(Path))
    assert judged.by_path[Path.KEXEC] is Verdict.SAFE
    order = (Verdict.AT_RISK, Verdict.UNKNOWN, Verdict.SAFE)
    assert judged.verdict is min(judged.by_path.values(), key=order.index)


def test_worlds_that_do_not_agree_are_unknown_and_name_what_would_settle_it() -> None:
    judged = audit(rome(reboot_force=None), (ALL,), following=Next.OFF, paths=(Path.KEXEC,))
    assert judged.verdict is Verdict.UNKNOWN
    # With reboot=force nobody is stopped, so that no flush helps (linux 7.3.4
    # arch/x86/kernel/smp.c:155).
    assert [reason.id for reason in judged.unknown] == ["unknown-reboot-force"]
    rules = audit(rome(), (ALL, NONE), following=Next.OFF, paths=(Path.KEXEC,))
    assert [reason.id for reason in rules.unknown] == ["unknown-rule"]


def test_what_is_unknown_and_makes_no_difference_is_not_named() -> None:
    # Whoever flushes nothing at all is at risk with and without reboot=force.
    judged = audit(rome(reboot_force=None), (NONE,), following=Next.OFF, paths=(Path.KEXEC,))
    assert judged.verdict is Verdict.AT_RISK
    (row,) = judged.handovers
    assert all("in which of several ways" in reason for reason in row.unknown)


#: Assumed of a world -> what comes out in it.
Outcomes = Mapping[tuple[tuple[str, bool | str], ...], int]


def world(**assumed: bool | str) -> tuple[tuple[str, bool | str], ...]:
    return tuple(assumed.items())


@pytest.mark.parametrize(
    ("outcomes", "ids"),
    [
        ({world(tdx_used=True): 1, world(tdx_used=False): 1}, []),
        ({world(tdx_used=True): 1, world(tdx_used=False): 2}, ["unknown-tdx-use"]),
        # Two facts that decide together: each splits worlds that agree in the other.
        (
            {
                world(sme_enabled=True, mem_encrypt=True): 1,
                world(sme_enabled=True, mem_encrypt=False): 2,
                world(sme_enabled=False, mem_encrypt=True): 2,
                world(sme_enabled=False, mem_encrypt=False): 2,
            },
            ["unknown-syscfg", "unknown-command-line"],
        ),
        # A fact that is assumed in some worlds only, because it cannot matter in the other.
        (
            {
                world(sme_enabled=False): 1,
                world(sme_enabled=True, sev_guests_run=False): 1,
                world(sme_enabled=True, sev_guests_run=True): 2,
            },
            ["unknown-syscfg", "unknown-sev-guests"],
        ),
        # What is known with another makes no difference of its own.
        (
            {
                world(reboot_force=True, offline=True): 1,
                world(reboot_force=True, offline=False): 1,
                world(reboot_force=False, offline=True): 2,
                world(reboot_force=False, offline=False): 2,
            },
            ["unknown-reboot-force"],
        ),
        # mem_encrypt of an Intel host: what decides is assumed in some worlds only.
        (
            {
                world(tdx_host_enabled=False, mem_encrypt=False): 1,
                world(tdx_host_enabled=False, mem_encrypt=True): 1,
                world(tdx_host_enabled=True, mem_encrypt=False, tdx_used=False): 1,
                world(tdx_host_enabled=True, mem_encrypt=False, tdx_used=True): 2,
                world(tdx_host_enabled=True, mem_encrypt=True, tdx_used=False): 1,
                world(tdx_host_enabled=True, mem_encrypt=True, tdx_used=True): 2,
            },
            ["unknown-tdx-keyids", "unknown-tdx-use"],
        ),
    ],
    ids=["agree", "one-fact", "two-facts", "only-where-it-matters", "one-of-two", "beside"],
)
def test_what_is_missing_is_what_splits_worlds_that_agree_in_all_else(
    outcomes: Outcomes, ids: list[str]
) -> None:
    seen = [World("the rule", dict(assumed), JudgedHandovers({})) for assumed in outcomes]
    told = missing(rome(), seen, lambda each: outcomes[tuple(each.assumed.items())])
    assert [reason.id for reason in told] == ids


@pytest.mark.parametrize(
    ("platform", "encrypted", "choices"),
    [
        # No kernel can use what is not there, whatever is asked for.
        ("amd-no-sme", False, dict.fromkeys(Next, ((False,),))),
        ("intel-tdx", False, dict.fromkeys(Next, ((False,),))),
        # A SEV guest's hypervisor has chosen.
        ("guest-sev", True, dict.fromkeys(Next, ((True,),))),
        (
            "amd-sme-incoherent",
            True,
            {
                Next.ON: ((True,),),
                Next.OFF: ((False,),),
                Next.SAME: ((True,),),
                Next.ANY: ((False, True),),
            },
        ),
    ],
)
def test_which_next_kernels_a_word_means(
    platform: str, encrypted: bool, choices: Mapping[Next, tuple[tuple[bool, ...], ...]]
) -> None:
    machine = platforms()[platform].machine
    assert {word: word.choices(machine, encrypted) for word in Next} == choices


def test_a_rule_is_judged_once_whatever_each_machine_puts_round_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A fleet's machines without a command line have their kernels wrapped anew, one by one.
    asked = 0
    behaviour = PolicyKernel.behaviour

    def counted(kernel: PolicyKernel, machine: Machine) -> Behaviour:
        nonlocal asked
        asked += 1
        return behaviour(kernel, machine)

    monkeypatch.setattr(PolicyKernel, "behaviour", counted)
    rule, facts = PolicyKernel(find("linux-6.18"), "a test's"), rome()
    for wrap in (
        lambda: rule,
        lambda: KernelWithBorrowedMemory(rule),
        lambda: KernelWithBorrowedMemory(rule, "it was not read"),
        lambda: ChangedKernel(rule, "a live patch"),
    ):
        before = asked
        first = list(worlds(facts, (wrap(),), Next.ANY, (Path.CRASH,)))
        once = asked - before
        assert once > 0
        assert list(worlds(facts, (wrap(),), Next.ANY, (Path.CRASH,))) == first
        assert asked - before == once
