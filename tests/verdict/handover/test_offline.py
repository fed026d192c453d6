# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUs that are offline count by every way in which the image may let them sleep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import with_given
from staleline.facts import from_snapshot
from staleline.kernel.boot.decision import OfflineWay, SiteDecision, Store
from staleline.kernel.reading.running import RunningImage
from staleline.model.scenario import Offline
from staleline.verdict.audit.agreement import audit
from staleline.verdict.audit.audit import Handover
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.handover.kernels import ImageKernel
from staleline.verdict.handover.offline import offline_ends, what_is_left
from staleline.vocabulary import Path as Way
from staleline.vocabulary import Through, Verdict
from tests.kernel.mutate import patched
from tests.kernel.places import address_of, size_of

ROME = Path(__file__).parents[2] / "data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"
STORE = Store(0x1000, 0x1000, 8, Through.OWN, "the stack of CPU 1", "acpi_idle_play_dead+0x38")
CLEAN = SiteDecision(flushes=True)
DIRTY = SiteDecision(flushes=True, stores=(STORE,))
PLAIN = SiteDecision(flushes=True, stores=(replace(STORE, through=Through.PLAIN),))
NEVER, UNREAD = SiteDecision(flushes=False), SiteDecision(None, "no such symbol")
HLT = OfflineWay("hlt", CLEAN)
MWAIT = OfflineWay("mwait", CLEAN, woken=DIRTY, by_mwait=True)
ANY = (Offline.NONE, Offline.WOKEN, Offline.STORES, Offline.UNFLUSHED)


@pytest.mark.parametrize(
    ("ways", "kexec", "crash"),
    [
        ([], (Offline.NONE,), (Offline.NONE,)),
        ([HLT], (Offline.NONE,), (Offline.NONE,)),
        ([HLT, MWAIT], (Offline.NONE, Offline.WOKEN), (Offline.NONE,)),
        ([MWAIT], (Offline.WOKEN,), (Offline.NONE,)),
        ([OfflineWay("acpi", DIRTY)], (Offline.STORES,), (Offline.NONE,)),
        ([HLT, OfflineWay("acpi", DIRTY)], (Offline.NONE, Offline.STORES), (Offline.NONE,)),
        ([OfflineWay("acpi", PLAIN)], ANY, (Offline.NONE,)),
        ([OfflineWay("hlt", NEVER)], (Offline.UNFLUSHED,), (Offline.UNFLUSHED,)),
        ([OfflineWay("hlt", UNREAD)], ANY, ANY),
        (
            [replace(MWAIT, asleep=NEVER)],
            (Offline.WOKEN, Offline.UNFLUSHED),
            (Offline.UNFLUSHED,),
        ),
    ],
)
def test_ends_of_ways(ways, kexec, crash):
    assert offline_ends(ways, Way.KEXEC, mwait=True, kicks=True) == kexec
    assert offline_ends(ways, Way.CRASH, mwait=True, kicks=False) == crash


def test_without_mwait_nobody_waits_in_it():
    ways = [HLT, MWAIT]
    assert offline_ends(ways, Way.KEXEC, mwait=False, kicks=True) == (Offline.NONE,)
    assert list(what_is_left(ways, mwait=False)) == []


def test_every_way_that_may_leave_something_is_told():
    ways = [HLT, MWAIT, OfflineWay("acpi", DIRTY), OfflineWay("x", NEVER), OfflineWay("y", UNREAD)]
    told = list(what_is_left(ways, mwait=True))
    for clause, words in zip(
        told,
        ("woken out of mwait", "behind its WBINVD", "no WBINVD", "no such symbol"),
        strict=True,
    ):
        assert words in clause


def handover(image: RunningImage, offline: str, path: Way = Way.KEXEC) -> Handover:
    """Of a kernel that encrypts, to one that does."""
    seen = with_given(
        read_snapshot(ROME),
        msr=["0xc0010010=0x800000"],
        cmdline="mem_encrypt=on",
        state=[f"offline_cpus={offline}"],
    )
    kernel = ImageKernel(image, seen)
    (row,) = audit(from_snapshot(seen), [kernel], following=Next.ON, paths=[path]).handovers
    return row


@pytest.mark.parametrize("series", ["6.12", "7"])
def test_a_cpu_that_is_offline_makes_a_kexec_unknown(real_kernels, series):
    """Debian's kernels have ACPI's idle driver, which stores behind its WBINVD."""
    image = real_kernels[series].running
    row = handover(image, "3")
    assert row.verdict is Verdict.UNKNOWN
    (reason,) = row.unknown
    assert reason.id == "offline-cpus-dirty"
    assert "acpi_idle_play_dead() by an I/O port it stores to the stack of CPU 1" in str(reason)
    assert handover(image, "none").verdict is Verdict.SAFE


def test_a_kernel_that_leaves_a_line_in_every_way_is_at_risk(real_kernels):
    """Without the WBINVD of ``hlt_play_dead()`` none of the ways of 7.3 is clean."""
    image = real_kernels["7"].image
    start = address_of(image, "hlt_play_dead")
    flush = start + image.read(start, size_of(image, "hlt_play_dead")).index(b"\x0f\x09")
    assert (
        handover(RunningImage(patched(image, flush, b"\x66\x90")), "3").verdict is Verdict.AT_RISK
    )
