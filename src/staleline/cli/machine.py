# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine that a user means: ``--snapshot``, ``--msr``, ``--cmdline`` and ``--state``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from staleline.evidence.given import Given
    from staleline.evidence.snapshot import Snapshot
    from staleline.kernel.image.image import KernelImage

__all__ = ["GivenMachine", "machine_options", "observed", "on_machine"]

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class GivenMachine:
    """Snapshot files, and what the user adds to them.

    Attributes:
        files: None of them for this host.
        msr: As for `staleline.evidence.given.Given`.
        cmdline: Likewise.
        state: Likewise.
    """

    files: tuple[str, ...] = ()
    msr: tuple[str, ...] = ()
    cmdline: str | None = None
    state: tuple[str, ...] = ()

    @property
    def file(self) -> str | None:
        """The only one, of a command that takes one; None for this host."""
        return self.files[0] if self.files else None

    def observed(self) -> Snapshot:
        """Read it without what the user adds.

        Raises:
            EvidenceError: It cannot be read as a snapshot or dump.
        """
        return observed(self.file)

    @property
    def given(self) -> Given:
        """What the user adds.

        Raises:
            UsageError: It makes no sense.
        """
        from staleline.evidence.given import Given

        return Given(self.msr, self.cmdline, self.state)

    def checked(self) -> GivenMachine:
        """The same, if it can be read; what is wrong is said once, not by each image.

        Raises:
            EvidenceError, UsageError: As by `observed`, or what was given makes no sense.
        """
        # Whether a command line contradicts the one observed depends on the image.
        replace(self.given, cmdline=None).added_to(self.observed())
        return self


def observed(file: str | None) -> Snapshot:
    """Read a snapshot or dump, or this host."""
    if file is None:
        from staleline.evidence.live import collect

        return collect()
    from staleline.evidence.detect import read_snapshot

    return read_snapshot(Path(file))


def machine_options(
    *,
    snapshot: str,
    msr: str = "An MSR that the snapshot lacks.",
    cmdline: str,
    state: str | None = "State that the snapshot lacks, e.g. sev_guests_run=no or "
    "tdx_module=absent.",
    several: bool = False,
) -> Callable[[Callable[..., _Result]], Callable[..., _Result]]:
    """Give a command the four options, as its one parameter `machine`.

    Args:
        snapshot: What help says of it.
        msr: Likewise.
        cmdline: Likewise.
        state: Likewise; None for a command that has not this option.
        several: It takes any number of snapshots.
    """

    def decorate(function: Callable[..., _Result]) -> Callable[..., _Result]:
        @click.option("--snapshot", "snapshots", multiple=several, metavar="FILE", help=snapshot)
        @click.option("--msr", multiple=True, metavar="NUMBER=VALUE", help=msr)
        @click.option("--cmdline", metavar="TEXT", help=cmdline)
        @functools.wraps(function)
        def with_machine(
            *,
            snapshots: tuple[str, ...] | str | None,
            msr: tuple[str, ...],
            cmdline: str | None,
            state: tuple[str, ...] = (),
            **options: object,
        ) -> _Result:
            files = (snapshots,) if isinstance(snapshots, str) else snapshots or ()
            return function(machine=GivenMachine(files, msr, cmdline, state), **options)

        if state is None:
            return with_machine
        give_state = click.option("--state", multiple=True, metavar="NAME=VALUE", help=state)
        return give_state(with_machine)

    return decorate


def on_machine(
    machine: GivenMachine, image: KernelImage, unlisted: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What a loaded image does on it, as a part of ``staleline/kernel/1``."""
    from staleline.kernel.reading.running import RunningImage
    from staleline.report.images.machine_json import machine_document
    from staleline.verdict.audit.identity import facts_of, identity_of, with_given_for
    from staleline.verdict.handover.kernels import ImageKernel
    from staleline.verdict.handover.on_machine import read_on_machine
    from staleline.vocabulary import Site

    doubts = {Site(site): tuple(reasons) for site, reasons in unlisted.items() if reasons}
    running, snapshot = RunningImage(image, doubts), machine.observed()
    # Whether what is given describes the kernel that runs there depends on which one that is.
    identity = identity_of(snapshot.kernel, (ImageKernel(running, snapshot),), image.path)
    kernel = ImageKernel(running, with_given_for(snapshot, identity, machine.given))
    reading = read_on_machine(kernel, facts_of(snapshot, identity, machine.given, image.release))
    return {**machine_document(reading), "what_if": identity.what_if}
