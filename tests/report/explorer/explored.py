# SPDX-License-Identifier: GPL-2.0-or-later
"""What the explorer's tests look at: two defects, each beside the rule that repairs it."""

from __future__ import annotations

from functools import cache
from pathlib import Path as FilePath

from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import with_given
from staleline.evidence.snapshot import given_by_user
from staleline.facts import from_snapshot
from staleline.kernel.reading.imagereport import ReadingOptions
from staleline.policy.catalogue import find
from staleline.report.explorer.cases import ExploredKernels, of_audits, of_rules
from staleline.verdict.audit.agreement import audit
from staleline.verdict.audit.audit import Audit
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.handover.kernels import PolicyKernel
from staleline.verdict.handover.namedrules import named_rules
from staleline.verdict.policies.platforms import Selection, check_kernel
from staleline.vocabulary import Path

#: Hygon with SME: linux 7.3.4 arch/x86/kernel/cpu/hygon.c never sets cache_state_incoherent,
#: which arch/x86/kernel/cpu/amd.c does.
HYGON = "hygon-sme-incoherent"
HYGON_CASE = f"{HYGON}.kexec.on-off"
#: Before commit 1f5e7eb7868e (6.5), stop_this_cpu() reports before its WBINVD.
RACE = "amd-sme-incoherent"
RACE_CASE = f"{RACE}.kexec.on-on"


_CPUID = FilePath(__file__).parents[2] / "data" / "cpuid"
_HYGON_DUMP = _CPUID / "registers" / "hygon-c86-3250.cpuid"


@cache
def explored(platform: str, *policies: str) -> ExploredKernels:
    """Policies side by side on one platform class."""
    selection = Selection(platforms=frozenset({platform}))
    rules = named_rules(policies, ReadingOptions())
    return of_rules(
        (rule.name, rule, tuple(check_kernel(rule.kernel, selection))) for rule in rules
    )


def hygon() -> ExploredKernels:
    """Linux 6.18, which flushes nothing on Hygon, beside the proposal."""
    return explored(HYGON, "linux-6.18", "host-mem-incoherent")


def race() -> ExploredKernels:
    """Linux 4.15, which reports before its flush, beside 6.5."""
    return explored(RACE, "linux-4.15", "linux-6.5")


def audits(kernels: int) -> list[Audit]:
    """A machine with SME enabled with the first of two kernels, or both."""
    observed = with_given(
        read_snapshot(_HYGON_DUMP), msr=("0xc0010010=0x800000",), cmdline="mem_encrypt=on", state=()
    )
    return [
        audit(
            from_snapshot(observed),
            [PolicyKernel(find(name), "named")],
            following=Next.ANY,
            paths=tuple(Path),
            given=given_by_user(observed),
        )
        for name in ("linux-6.18", "host-mem-incoherent")[:kernels]
    ]


def fleet(machines: int) -> ExploredKernels:
    """A machine with SME enabled many times over, each with two kernels."""
    names = [f"node{number:03}.example" for number in range(machines)]
    both = audits(2)
    return of_audits((name, one.kernel, one) for name in names for one in both)
