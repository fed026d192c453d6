# SPDX-License-Identifier: GPL-2.0-or-later
"""How images are to be read, and what a reading comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from staleline.cores import usable_cores
from staleline.errors import KernelImageError
from staleline.kernel.reading.document import ImageDocument

if TYPE_CHECKING:
    from staleline.kernel.guards.guard import Guard
    from staleline.kernel.image.image import KernelImage

__all__ = ["ImageReport", "OnMachine", "ReadingOptions", "Tracked"]

_Input = TypeVar("_Input")

#: What a loaded image does on a machine, by what it is known to depend on beside listed facts.
#: Other processes call it, so it has to be picklable.
OnMachine = Callable[["KernelImage", Mapping[str, Sequence[str]]], dict[str, Any]]


class Tracked(Protocol):
    """Shows how far the work is."""

    def __call__(self, items: Iterable[_Input], label: str, total: int, /) -> Iterator[_Input]:
        """The items, as they come."""


def _silently(items: Iterable[_Input], _label: str, _total: int, /) -> Iterator[_Input]:
    yield from items


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How images are read.

    Attributes:
        jobs: Processes at a time; None for one per core.
        seconds: How long one image may take.
        use_cache: Take what was read before, and keep what is read now.
        tracked: Shows how far it is.
    """

    jobs: int | None = None
    seconds: float = 120.0
    use_cache: bool = True
    tracked: Tracked = _silently

    @property
    def processes(self) -> int:
        """How many at a time."""
        return self.jobs or usable_cores()


@dataclass(frozen=True, slots=True)
class ImageReport:
    """One image, as far as it was read.

    Attributes:
        image: The file, as it was given.
        document: What was read of it.
        on_machine: What it does on the snapshot's machine, if one was given
            (`staleline.report.images.machine_json`).
        explanations: The guards of its sites, if wanted.
        error: Why it was not read.
    """

    image: str
    document: ImageDocument | None = None
    on_machine: dict[str, Any] | None = None
    explanations: tuple[Guard, ...] = ()
    error: str | None = None

    def required(self) -> ImageDocument:
        """What was read.

        Raises:
            KernelImageError: Nothing was.
        """
        if self.document is None:
            raise KernelImageError(str(self.error))
        return self.document
