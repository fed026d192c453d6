# SPDX-License-Identifier: GPL-2.0-or-later
"""Read many images side by side, each once: what was read before comes from the cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from staleline.errors import KernelImageError
from staleline.kernel.file.buildtree import built_image
from staleline.kernel.file.source import file_digest
from staleline.kernel.reading.cache import ReadingCache, default_directory
from staleline.kernel.reading.document import (
    ImageDocument,
    SurroundingsDocument,
    with_surroundings,
)
from staleline.kernel.reading.imagereport import ImageReport, OnMachine, ReadingOptions
from staleline.printable import printable

if TYPE_CHECKING:
    from staleline.kernel.guards.guard import Guard
    from staleline.workers import Failure

__all__ = ["explained", "read_images"]

_Input = TypeVar("_Input")
_Result = TypeVar("_Result")

#: What processes that read images import; none of it is needed for what is in the cache.
_SURROUNDINGS = "staleline.kernel.reading.surroundings"
_PRELOAD = ("staleline.kernel.image.loading", _SURROUNDINGS, "staleline.kernel.reading.rule")
#: If each has cores to spare: only what unpacks an image, which imports the rest meanwhile.
_PRELOAD_WITH_SPARE_CORES = ("staleline.kernel.image.loading",)


@dataclass(frozen=True, slots=True)
class _Work:
    """What one process is to find out of one image.

    Attributes:
        image: The file.
        rule: What no machine is needed for.
        on_machine: What the image does on a machine, if that is wanted.
        spare: There are two cores for it.
    """

    image: str
    rule: bool
    on_machine: OnMachine | None
    spare: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found out."""

    document: ImageDocument | None
    on_machine: dict[str, Any] | None


def read_images(
    images: Sequence[str], options: ReadingOptions, on_machine: OnMachine | None = None
) -> list[ImageReport]:
    """Read every image; those that cannot be read say why.

    Args:
        images: Files.
        options: How.
        on_machine: What an image does on a machine, if that is wanted.
    """
    cache = ReadingCache(default_directory()) if options.use_cache else None
    reports = [ImageReport(image, document=_kept(cache, image)) for image in images]
    work = list(_work(reports, on_machine, options))
    spare = any(one.spare for _, one in work)
    preload = _PRELOAD_WITH_SPARE_CORES if spare else _PRELOAD
    for index, outcome in _worked(_read, work, options, preload):
        report = reports[index]
        if isinstance(outcome, _Found):
            document = report.document or outcome.document
            reports[index] = replace(report, document=document, on_machine=outcome.on_machine)
            _keep(cache, outcome.document)
        else:
            reports[index] = replace(
                report, document=None, error=_named(outcome.reason, report.image)
            )
    return reports


def _work(
    reports: Sequence[ImageReport], on_machine: OnMachine | None, options: ReadingOptions
) -> Iterator[tuple[int, _Work]]:
    """For each image that is not in the cache, or of which more is wanted than is there."""
    wanted = [
        (index, report.image, report.document is None)
        for index, report in enumerate(reports)
        if report.document is None or on_machine is not None
    ]
    # Two processes for each only where all can have two: else they would take turns
    # (docs/decisions.md).
    spare = 2 * len(wanted) <= options.processes
    for index, image, unread in wanted:
        yield index, _Work(image, unread, on_machine, spare and unread)


def explained(
    reports: Sequence[ImageReport], options: ReadingOptions, *, att: bool = False
) -> list[ImageReport]:
    """Add to every image that was read why it executes its WBINVDs.

    Args:
        reports: What was read.
        options: How.
        att: Write instructions in AT&T's syntax.
    """
    done = list(reports)
    work = [(index, report) for index, report in enumerate(reports) if report.document is not None]
    for index, outcome in _worked(partial(_explain, att=att), work, options):
        report = done[index]
        if isinstance(outcome, tuple):
            done[index] = replace(report, explanations=outcome)
        else:
            done[index] = replace(report, error=_named(outcome.reason, report.image))
    return done


def _kept(cache: ReadingCache | None, image: str) -> ImageDocument | None:
    """What the cache has of an image; None also if the file cannot be read."""
    if cache is None:
        return None
    try:
        file = built_image(image) if os.path.isdir(image) else image
        return cache.get(file_digest(file)) if os.path.isfile(file) else None
    except (OSError, KernelImageError):
        return None


def _keep(cache: ReadingCache | None, document: ImageDocument | None) -> None:
    """What is unknown may be known next time, with a System.map or on a machine less busy."""
    if cache is not None and document is not None and not document["unknown"]:
        cache.put(document)


def _worked(
    function: Callable[[_Input], _Result],
    work: Sequence[tuple[int, _Input]],
    options: ReadingOptions,
    preload: Sequence[str] = _PRELOAD,
) -> Iterator[tuple[int, _Result | Failure]]:
    """Let processes do the work; yields the number it was given with."""
    if not work:
        return
    from staleline.workers import ProcessLimits, preload_workers, run_each

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy starts threads on import
    preload_workers(preload)

    results = run_each(
        function,
        [one for _, one in work],
        jobs=options.processes,
        limits=ProcessLimits(seconds=options.seconds),
        preload=preload,
    )
    for position, read in options.tracked(results, "Reading kernels", len(work)):
        yield work[position][0], read


def _named(reason: str, image: str) -> str:
    """Reasons that the readers give name the file already."""
    return printable(reason if reason.startswith(image) else f"{image}: {reason}")


def _read(work: _Work) -> _Found:
    """Done by another process, so that nothing of it is imported here."""
    from staleline.kernel.image.loading import load_and_hash

    image, digest = load_and_hash(work.image, meanwhile=lambda: import_module(_SURROUNDINGS))
    from staleline.kernel.reading.surroundings import read_surroundings
    from staleline.workers import aside

    def besides() -> tuple[SurroundingsDocument | None, dict[str, Any] | None]:
        surroundings = read_surroundings(image) if work.rule else None
        # A document is kept only if nothing is unknown of it.
        unlisted = {} if surroundings is None else surroundings["unlisted"]
        return surroundings, None if work.on_machine is None else work.on_machine(image, unlisted)

    wait_for_rest = aside(besides) if work.spare else besides
    rule = None
    if work.rule:
        from staleline.kernel.reading.rule import read_rule

        rule = read_rule(image, digest)
    surroundings, on_machine = wait_for_rest()
    if rule is None or surroundings is None:
        return _Found(None, on_machine)
    return _Found(with_surroundings(rule, surroundings), on_machine)


def _explain(report: ImageReport, *, att: bool) -> tuple[Guard, ...]:
    """Likewise."""
    from staleline.kernel.boot.rawmachine import raw_machine
    from staleline.kernel.guards.explain import explain
    from staleline.kernel.image.loading import load_and_hash
    from staleline.kernel.reading.rule_json import from_document

    image, _ = load_and_hash(report.image)
    return tuple(explain(image, from_document(report.required()).table, raw_machine, att=att))
