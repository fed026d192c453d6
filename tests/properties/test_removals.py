# SPDX-License-Identifier: GPL-2.0-or-later
"""Every piece of a snapshot can be taken away, and what is left is a snapshot with less in it."""

from __future__ import annotations

from contextlib import suppress
from random import Random

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import (
    CpuEvidence,
    CpuinfoEvidence,
    KernelEvidence,
    LogEvidence,
    Snapshot,
    StateEvidence,
)
from tests.properties.corpus import some_truth
from tests.properties.random_snapshots import some_snapshot
from tests.properties.removals import described, pieces, without

_CPU = CpuEvidence(CpuidTable({(0, 0): (1, 0, 0, 0)}), {0xC0010010: 0})
_MACHINE = Snapshot(
    cpus=(_CPU,),
    cpuinfo=CpuinfoEvidence("AuthenticAMD", flags=frozenset({"sme"})),
    kernel=KernelEvidence("6.12", "ro mem_encrypt=on"),
    state=StateEvidence(offline_cpus=(3, 4), sme_active=True),
    log=LogEvidence(("a line", "another"), complete=True),
)


def test_each_kind_of_evidence_is_a_piece() -> None:
    found = {described(piece) for piece in pieces(_MACHINE)}
    assert found >= {
        "cpus[0x0]",
        "cpus[0x0].cpuid.leaves[0x0:0]",
        "cpus[0x0].msr[0xc0010010]",
        "cpuinfo",
        "cpuinfo.flags.sme",
        "kernel",
        "kernel.release",
        "kernel.cmdline",
        "kernel.cmdline.ro",
        "log",
        "log.lines[0x0]",
        "state.offline_cpus",
        "state.sme_active",
    }


def test_a_list_that_is_one_statement_is_no_list_of_pieces() -> None:
    paths = {piece[:2] for piece in pieces(_MACHINE) if len(piece) > 2}
    assert ("state", "offline_cpus") not in paths


def test_a_word_that_means_something_stays_on_the_command_line() -> None:
    assert without(_MACHINE, ("kernel", "cmdline", "ro")).kernel.cmdline == "mem_encrypt=on"
    assert ("kernel", "cmdline", "mem_encrypt=on") not in pieces(_MACHINE)


def test_a_log_without_one_of_its_lines_is_not_whole() -> None:
    assert without(_MACHINE, ("log", "lines", 0)).log == LogEvidence(("another",), complete=False)


def test_taking_every_piece_leaves_nothing() -> None:
    machine = _MACHINE
    while left := pieces(machine):
        machine = without(machine, left[0])
    assert machine == Snapshot(cpus=())


def test_every_piece_of_any_snapshot_leaves_another_one_that_can_be_written() -> None:
    for seed in range(30):
        random = Random(seed)
        for machine in (some_snapshot(random), some_truth(random).snapshot()):
            for piece in random.sample(found := pieces(machine), min(len(found), 10)):
                less = without(machine, piece)
                assert less != machine, described(piece)
                assert len(pieces(less)) <= len(found)
                with suppress(EvidenceError):
                    parse_snapshot(snapshot_text(less), "snapshot")
