# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine that a user means: a snapshot, and what is added to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from staleline.vocabulary import Site

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from staleline.evidence.given import Given
    from staleline.evidence.snapshot import Snapshot
    from staleline.kernel.image.image import KernelImage

__all__ = ["GivenMachine", "on_machine"]


@dataclass(frozen=True, slots=True)
class GivenMachine:
    """A snapshot file, and what the user adds to it."""

    file: str
    msr: tuple[str, ...] = ()
    cmdline: str | None = None

    def observed(self) -> Snapshot:
        """Read it without what the user adds.

        Raises:
            EvidenceError: It cannot be read as a snapshot or dump.
        """
        from staleline.evidence.detect import read_snapshot

        return read_snapshot(Path(self.file))

    @property
    def given(self) -> Given:
        """What the user adds."""
        from staleline.evidence.given import Given

        return Given(self.msr, self.cmdline)

    def checked(self) -> GivenMachine:
        """The same, if it can be read; what is wrong is said once, not by each image.

        Raises:
            EvidenceError, UsageError: As by `observed`, or what was given makes no sense.
        """
        # Whether a command line contradicts the one observed depends on the image.
        replace(self.given, cmdline=None).added_to(self.observed())
        return self


def on_machine(
    machine: GivenMachine, image: KernelImage, unlisted: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What a loaded image does on it, as a part of ``staleline/kernel/1``."""
    from staleline.kernel.reading.running import RunningImage
    from staleline.report.images.machine_json import machine_document
    from staleline.verdict.audit.identity import facts_of, identity_of, with_given_for
    from staleline.verdict.handover.kernels import ImageKernel
    from staleline.verdict.handover.on_machine import read_on_machine

    doubts = {Site(site): tuple(reasons) for site, reasons in unlisted.items() if reasons}
    running, observed = RunningImage(image, doubts), machine.observed()
    identity = identity_of(observed.kernel, (ImageKernel(running, observed),), image.path)
    kernel = ImageKernel(running, with_given_for(observed, identity, machine.given))
    reading = read_on_machine(kernel, facts_of(observed, identity, machine.given, image.release))
    return {**machine_document(reading), "what_if": identity.what_if}
