# SPDX-License-Identifier: GPL-2.0-or-later
"""Real images on the simulated machines' own CPUID."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.simulation.execution import CpuModel, Ending
from staleline.simulation.judged import machine_evidence, predicted
from staleline.simulation.observation import SeenRun
from staleline.simulation.prediction import Prediction, disagreement
from staleline.verdict.audit.next_kernel import Next
from staleline.vocabulary import Path, Site, Verdict
from tests.conftest import RealKernel
from tests.simulation.cpus import cpuid_of

SITES = {Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL}
CLEAN = SeenRun(
    ending=Ending.POWERED_OFF,
    reason="",
    up=("1",),
    loaded="",
    left=True,
    worked=True,
    fault="",
    handovers=(),
    flushes=(),
    races=(),
    chains=(),
    counts={"destroyed": {"plain": 0, "C-bit": 0}},
    told_destroyed=0,
    cpuid="",
    last_lines=(),
    seconds=1.0,
)


def prediction(
    kernel: RealKernel,
    model: CpuModel,
    following: Next = Next.OFF,
    *,
    coherent: bool = False,
    without: Site | None = None,
) -> Prediction:
    evidence = machine_evidence(
        cpuid_of(model),
        cpus=2,
        mem_encrypt=True,
        command_line="mem_encrypt=on",
        coherent=coherent,
    )
    return predicted(evidence, str(kernel.path), following, Path.KEXEC, without)


def test_the_newest_kernel_flushes_on_amd_alone(real_kernels: dict[str, RealKernel]) -> None:
    amd, hygon = (prediction(real_kernels["7"], model) for model in (CpuModel.ROME, CpuModel.HYGON))
    assert (amd.verdict, amd.flushes) == (Verdict.SAFE, dict.fromkeys(SITES, True))
    assert (hygon.verdict, hygon.flushes) == (Verdict.AT_RISK, dict.fromkeys(SITES, False))
    assert hygon.broken == "P1"


def test_coherent_aliases_need_no_flush(real_kernels: dict[str, RealKernel]) -> None:
    judged = prediction(real_kernels["7"], CpuModel.HYGON, coherent=True)
    assert judged.verdict is Verdict.SAFE
    assert judged.flushes == dict.fromkeys(SITES, False)


@pytest.mark.parametrize("site", sorted(SITES))
def test_a_flush_that_is_taken_away_is_missed(
    real_kernels: dict[str, RealKernel], site: Site
) -> None:
    judged = prediction(real_kernels["6.12"], CpuModel.ROME, without=site)
    assert judged.flushes == {one: one is not site for one in SITES}
    assert judged.verdict is Verdict.AT_RISK


SAFE = Prediction(Verdict.SAFE, "", None, None, {}, ())
AT_RISK = replace(SAFE, verdict=Verdict.AT_RISK)
DESTROYED = replace(CLEAN, counts={"destroyed": {"plain": 0, "C-bit": 2}})
RACE = replace(CLEAN, races=(1,))


@pytest.mark.parametrize(
    ("predicts", "seen", "contradicts"),
    [
        (SAFE, CLEAN, False),
        (SAFE, DESTROYED, True),
        (SAFE, RACE, True),
        (AT_RISK, CLEAN, False),
        (AT_RISK, DESTROYED, False),
        (replace(SAFE, verdict=Verdict.UNKNOWN), DESTROYED, False),
    ],
)
def test_only_safe_is_contradicted_by_one_run(
    predicts: Prediction, seen: SeenRun, *, contradicts: bool
) -> None:
    assert (disagreement(predicts, seen) is not None) is contradicts
