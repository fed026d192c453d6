# SPDX-License-Identifier: GPL-2.0-or-later
"""What the model and an image's reading predict of what is run on a simulated machine."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from staleline.evidence.detect import parse_snapshot
from staleline.evidence.given import Given
from staleline.evidence.snapshot import Snapshot, StateEvidence
from staleline.hardware import MEM_ENCRYPT_ENABLED, SYSCFG
from staleline.kernel.reading.decided import image_opener
from staleline.model.scenario import Flush
from staleline.simulation.prediction import NOTHING_PREDICTED, Prediction
from staleline.verdict.audit.agreement import audit
from staleline.verdict.audit.audit import Handover
from staleline.verdict.audit.next_kernel import Following
from staleline.verdict.audit.subject import subject_of
from staleline.verdict.handover.kernels import AlteredKernel, Behaviour, Kernel
from staleline.verdict.machines.machine import Machine
from staleline.vocabulary import Path, Site, Verdict

__all__ = ["WithoutFlush", "machine_evidence", "predicted"]


_ENCRYPTION_LEAF: Final = re.compile(r"(0x8000001f 0x00: eax=0x)([0-9a-f]{8})")
_CPUID: Final = "the simulated machine's CPUID"


@dataclass(frozen=True, slots=True)
class WithoutFlush(AlteredKernel):
    """A kernel from which the flush of one site is taken away."""

    site: Site

    @property
    def evidence(self) -> str:
        """The kernel's, and what it lacks."""
        return f"{self.kernel.evidence}, without its WBINVD in {self.site}"

    def behaviour(self, machine: Machine) -> Behaviour:
        """As it is, but for that site."""
        before = self.kernel.behaviour(machine)
        crash = dict(before.crash_flushes)
        if self.site in crash:
            crash[self.site] = Flush.NEVER
        return replace(
            before, flushes={**before.flushes, self.site: Flush.NEVER}, crash_flushes=crash
        )


def machine_evidence(
    cpuid: str, *, cpus: int, mem_encrypt: bool, command_line: str, coherent: bool = False
) -> Snapshot:
    """A simulated machine as a snapshot of it would have it.

    Args:
        cpuid: As ``cpuid -1 -r`` prints it.
        cpus: How many are online.
        mem_encrypt: Firmware has set SYSCFG[23].
        command_line: Of the kernel that runs.
        coherent: Its caches keep aliases coherent, whatever CPUID says.
    """
    # By its own CPUID, as a dump from hardware would describe one, and judged as such.
    snapshot = parse_snapshot(_coherent(cpuid) if coherent else cpuid, _CPUID)
    given = Given(
        msr=(f"{SYSCFG:#x}={MEM_ENCRYPT_ENABLED if mem_encrypt else 0:#x}",), cmdline=command_line
    )
    # Known, since the experiment made it so: no guest ran, every CPU is online, nothing is patched.
    state = StateEvidence(
        sev_guests_run=False,
        offline_cpus=(),
        reboot_force=False,
        livepatches={},
        kprobes=(),
        online_cpus=cpus,
        tsme=False,
    )
    return given.added_to(replace(snapshot, state=state))


def _coherent(cpuid: str) -> str:
    """The same with CPUID 0x8000001F EAX[10], by which hardware tells that it does."""
    return _ENCRYPTION_LEAF.sub(lambda row: f"{row[1]}{int(row[2], 16) | 1 << 10:08x}", cpuid)


def predicted(
    evidence: Snapshot,
    kernel: str,
    following: Following,
    path: Path,
    without: Site | None = None,
) -> Prediction:
    """What is predicted of one handover.

    Args:
        evidence: The machine.
        kernel: The image that runs there.
        following: The next kernel.
        path: How it is reached.
        without: A site whose WBINVD is taken away.
    """
    subject = subject_of(evidence, kernel, open_image=image_opener())
    kernels: tuple[Kernel, ...] = tuple(subject.kernels)
    if without is not None:
        kernels = tuple(WithoutFlush(each, without) for each in kernels)
    judged = audit(subject.facts, kernels, following=following, paths=(path,), given=subject.given)
    return _of_row(judged.handovers) if judged.handovers else NOTHING_PREDICTED


def _of_row(rows: tuple[Handover, ...]) -> Prediction:
    row = next((each for each in rows if each.verdict is Verdict.AT_RISK), rows[0])
    broken = row.answer.counterexample if row.answer else None
    # Where rows differ, nothing told which of them this run is.
    verdicts = {each.verdict for each in rows}
    verdict = verdicts.pop() if len(verdicts) == 1 else Verdict.UNKNOWN
    return Prediction(
        verdict=verdict,
        because=broken.title if broken else row.because,
        broken=broken.property if broken else None,
        role=broken.line if broken else None,
        flushes=row.flushes,
        unknown=tuple(map(str, row.unknown)),
    )
