# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel with a rule does on a machine; what it has no code for comes about nowhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.model.scenario import Flush
from staleline.policy.policy import parse_policy
from staleline.verdict.handover.kernels import PolicyKernel
from staleline.verdict.policies.platforms import platforms
from staleline.vocabulary import Path, Site

RULE = """
name = "mine"
title = "for this test"
[sites]
stop_this_cpu = "seamcalled"
relocate_kernel = "snp_host"
crash_nmi_callback = "snp_host"
[crash]
relocate_kernel = "sme_active or snp_host"
"""


def flushes(lacks: str, platform: str) -> tuple[Flush | None, ...]:
    rule = parse_policy(f"{RULE}[kernel]\nlacks = {lacks}\n", where="here")
    machine = platforms()[platform].machine
    # SNP is AMD's, and needs SYSCFG[23] (linux 6.12.118 arch/x86/kernel/cpu/amd.c:362).
    snp = machine.vendor == "AuthenticAMD"
    behaviour = PolicyKernel(rule, "for this test").behaviour(replace(machine, snp_host=snp))
    return (
        behaviour.flush(Site.STOP_THIS_CPU, Path.KEXEC),
        behaviour.flush(Site.RELOCATE_KERNEL, Path.KEXEC),
        behaviour.flush(Site.CRASH_NMI_CALLBACK, Path.CRASH),
        behaviour.flush(Site.RELOCATE_KERNEL, Path.CRASH),
    )


@pytest.mark.parametrize(
    ("lacks", "platform", "done"),
    [
        ("[]", "amd-sme-incoherent", (Flush.NEVER, *[Flush.ALWAYS] * 3)),
        ('["seamcalled"]', "amd-sme-incoherent", (Flush.NEVER, *[Flush.ALWAYS] * 3)),
        ('["snp_host"]', "amd-sme-incoherent", (Flush.NEVER,) * 4),
        ("[]", "intel-tdx", (Flush.AFTER_SEAMCALL, *[Flush.NEVER] * 3)),
        ('["snp_host"]', "intel-tdx", (Flush.AFTER_SEAMCALL, *[Flush.NEVER] * 3)),
        ('["seamcalled"]', "intel-tdx", (Flush.NEVER,) * 4),
    ],
)
def test_a_condition_that_a_kernel_has_no_code_for_holds_nowhere(
    lacks: str, platform: str, done: tuple[Flush, ...]
) -> None:
    assert flushes(lacks, platform) == done
