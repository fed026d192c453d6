# SPDX-License-Identifier: GPL-2.0-or-later
"""An audit as text: every way in which a path goes wrong is named, and shown once."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest

from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import Given
from staleline.kernel.reading.decided import image_opener
from staleline.model.state.lines import Role
from staleline.report.machines.audit_text import meaning, print_audit
from staleline.report.words.console import text_console
from staleline.verdict.audit.agreement import audit_of
from staleline.verdict.audit.audit import Audit, Handover
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.audit.subject import subject_of
from staleline.vocabulary import Path as Way
from staleline.vocabulary import Verdict
from tests.findings import ROOT

ROME = ROOT / "tests/data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"
HYGON = ROOT / "tests/data/cpuid/registers/hygon-c86-3250.cpuid"


def hygon() -> Audit:
    # Both sites ask a flag that hygon.c does not set (linux 7.3.4 arch/x86/kernel/cpu/amd.c:572).
    given = Given(("0xc0010010=0x800000",), "mem_encrypt=on", ("offline_cpus=none",))
    subject = subject_of(read_snapshot(HYGON), "linux-6.18", given, open_image=image_opener())
    return audit_of(subject, following=Next.ANY, paths=(Way.KEXEC,))


def of_role(row: Handover, role: Role) -> Handover:
    """The same handover, with the run of another line."""
    assert row.answer is not None
    assert row.answer.counterexample is not None
    assert row.shown is not None
    run = replace(row.answer.counterexample, line=role)
    shown = replace(row.shown)
    vars(shown)["answer"] = replace(row.answer, counterexample=run)
    return replace(row, shown=shown)


def test_two_ways_to_break_one_property_are_both_told() -> None:
    one = hygon()
    first, second = one.handovers
    assert {first.verdict, second.verdict} == {Verdict.AT_RISK}
    both = replace(one, handovers=(first, of_role(second, Role.LEFT_IMAGE)))
    assert meaning(both, Way.KEXEC) == (
        "a dirty line of the old kernel can overwrite the next kernel's memory; "
        "a line that is dirty again when its CPU has flushed can overwrite the next kernel's memory"
    )
    out = StringIO()
    print_audit(text_console(out), both, machine="a machine")
    text = out.getvalue()
    assert "staleline explain stale-write-back\n  staleline explain left-behind\n" in text
    assert text.count("\nCounterexample, kexec ") == 2
    assert "\nLine role: left-behind-under-image. " in text


@pytest.mark.parametrize("kernel", ["linux-6.5", "linux-6.18", "unconditional"])
@pytest.mark.parametrize("ways", [(Way.KEXEC,), (Way.CRASH,), tuple(Way)])
def test_below_unknown_stands_what_settles_it(kernel: str, ways: tuple[Way, ...]) -> None:
    subject = subject_of(
        read_snapshot(ROME), kernel, Given((), None, ()), open_image=image_opener()
    )
    found = audit_of(subject, following=Next.ANY, paths=ways)
    assert Verdict.UNKNOWN in found.by_path.values()
    out = StringIO()
    print_audit(text_console(out), found, machine="a machine")
    heads, _, rest = out.getvalue().partition("\n\n")
    unknown = [way for way in ways if found.by_path[way] is Verdict.UNKNOWN]
    for way in unknown:
        assert f"UNKNOWN on {way}: the evidence does not settle it" in heads.splitlines()
    if len(unknown) == len(ways):
        assert len(heads.splitlines()) == len(ways)
    assert rest.startswith("Missing, and how to get it\n  • ")


def test_one_way_is_shown_once() -> None:
    out = StringIO()
    print_audit(text_console(out), hygon(), machine="a machine")
    assert out.getvalue().count("\nCounterexample, kexec ") == 1
