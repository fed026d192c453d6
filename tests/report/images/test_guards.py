# SPDX-License-Identifier: GPL-2.0-or-later
"""How guards are told: of every value that may be read, and what none is known of."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.guards.guard import Guard, GuardLine, Input
from staleline.report.images.guards import print_explanations
from staleline.vocabulary import Site

MACHINE = RawFacts(
    vendor="AuthenticAMD",
    leaf=True,
    sme=True,
    sev=False,
    hypervisor=False,
    sme_enabled=True,
    sev_status=False,
    mem_encrypt=True,
)


@pytest.mark.parametrize(
    ("read", "told"),
    [
        (Input("boot_cpu_data+0x20", 1 << 32, {"sme": 0}), "bit 32 is X86_FEATURE_SME"),
        (Input("boot_cpu_data+0x8", 0x8000_001F, {"leaf": 0x8000_0008}), "extended_cpuid_level"),
        (Input("boot_cpu_data+0x8", 2, {"vendor": 9}), "reads boot_cpu_data+0x8 = 0x2"),
        (Input("boot_cpu_data+0x8", 2, {}), "reads boot_cpu_data+0x8 = 0x2"),
    ],
)
def test_every_member_of_cpuinfo_is_told_whatever_it_follows(read: Input, told: str) -> None:
    line = GuardLine("stop_this_cpu+0x10", "test eax, eax", (read,), ("sme",), 0)
    console = Console(file=io.StringIO(), width=100)
    print_explanations(console, "image", [Guard(Site.STOP_THIS_CPU, MACHINE, (line,), ())])
    assert told in console.file.getvalue()  # type: ignore[attr-defined]
