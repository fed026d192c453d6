# SPDX-License-Identifier: GPL-2.0-or-later
"""A loaded image, whose code can be run on machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from staleline.kernel.boot.seamcalls import can_seamcall
from staleline.kernel.image.assembly import load_image
from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.doubts import Doubts, doubts_aside
from staleline.kernel.sites.runner import KernelReader

if TYPE_CHECKING:
    from staleline.kernel.boot.decision import Decision, OfflineWay, RawMachine

__all__ = ["RunningImage"]


@dataclass(frozen=True)
class RunningImage:
    """An image, and what its code does.

    Attributes:
        image: The image.
    """

    image: KernelImage
    _known_doubts: Doubts | None = None
    _pending: list[Callable[[], Doubts]] = field(default_factory=list, repr=False)

    @classmethod
    def load(cls, path: str) -> Self:
        """The image in a file.

        Raises:
            KernelImageError: It cannot be read, or is no image.
        """
        return cls(load_image(Path(path)))

    @property
    def path(self) -> str:
        """The file."""
        return self.image.path

    @property
    def release(self) -> str | None:
        """What ``uname -r`` says when it runs."""
        return self.image.release

    @property
    def build_id(self) -> str | None:
        """GNU build ID in hexadecimal."""
        return self.image.build_id

    @property
    def seamcalls(self) -> bool:
        """It has the code to use TDX as a host."""
        return can_seamcall(self.image)

    def decide(self, machine: RawMachine) -> Decision:
        """Run its code."""
        self._begin_to_doubt()
        return self._reader.decide(machine)

    def offline_ways(self, machine: RawMachine) -> tuple[OfflineWay, ...]:
        """Run its code that takes CPUs offline."""
        self._begin_to_doubt()
        return self._reader.offline_ways(machine)

    @cached_property
    def doubts(self) -> Doubts:
        """What its sites depend on beside the listed facts."""
        self._begin_to_doubt()
        return self._pending[0]() if self._known_doubts is None else self._known_doubts

    def _begin_to_doubt(self) -> None:
        if self._known_doubts is None and not self._pending:
            # In a process beside this one, which meanwhile runs the sites.
            self._pending.append(doubts_aside(self.image))

    @cached_property
    def _reader(self) -> KernelReader:
        return KernelReader(self.image)
