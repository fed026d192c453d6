# SPDX-License-Identifier: GPL-2.0-or-later
"""Read many images side by side, each once: what was read before comes from the cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from staleline.errors import KernelImageError, UsageError
from staleline.kernel.buildtree import built_image
from staleline.kernel.cache import ReadingCache, default_directory, file_digest
from staleline.kernel.imagedocument import (
    DependenciesDocument,
    ImageDocument,
    with_dependencies,
)
from staleline.kernel.plaintext import printable

if TYPE_CHECKING:
    from staleline.evidence.snapshot import Snapshot
    from staleline.kernel.explain import Explanation
    from staleline.kernel.image import KernelImage
    from staleline.verdict.difference import RuledKernel
    from staleline.workers import Failure

__all__ = [
    "GivenMachine",
    "ImageReport",
    "ReadingOptions",
    "explained",
    "read_images",
    "ruled_kernels",
]

_Input = TypeVar("_Input")
_Result = TypeVar("_Result")

#: What a process that reads an image imports; none of it is needed for what is in the cache.
_PRELOAD = ("staleline.kernel.reading",)


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How images are read.

    Attributes:
        jobs: Processes at a time; None for one per core.
        seconds: How long one image may take.
        use_cache: Take what was read before, and keep what is read now.
    """

    jobs: int | None = None
    seconds: float = 120.0
    use_cache: bool = True

    @property
    def processes(self) -> int:
        """How many at a time."""
        return self.jobs or len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class GivenMachine:
    """A snapshot file, and what the user adds to it."""

    file: str
    msr: tuple[str, ...] = ()
    cmdline: str | None = None

    def snapshot(self) -> Snapshot:
        """Read it.

        Raises:
            EvidenceError: It cannot be read as a snapshot or dump.
            UsageError: What was added makes no sense.
        """
        from staleline.evidence.detect import read_snapshot
        from staleline.evidence.given import with_given

        return with_given(read_snapshot(Path(self.file)), msr=self.msr, cmdline=self.cmdline)

    def checked(self) -> GivenMachine:
        """The same, if images can be run on it; what is wrong is said once, not by each image.

        Raises:
            EvidenceError, UsageError: As by `snapshot`, or it does not tell its CPUID.
        """
        from staleline.verdict.kernels import has_cpuid

        if not has_cpuid(self.snapshot()):
            raise UsageError(
                "running an image's code needs the machine's CPUID, which this snapshot lacks",
                where=self.file,
                do="give a dump made with `cpuid -r`",
            )
        return self


@dataclass(frozen=True, slots=True)
class ImageReport:
    """One image, as far as it was read.

    Attributes:
        image: The file, as it was given.
        document: What was read of it.
        on_machine: What it does on the snapshot's machine, if one was given.
        explanations: The guards of its sites, if wanted.
        error: Why it was not read.
    """

    image: str
    document: ImageDocument | None = None
    on_machine: dict[str, Any] | None = None
    explanations: tuple[Explanation, ...] = ()
    error: str | None = None

    def required(self) -> ImageDocument:
        """What was read.

        Raises:
            KernelImageError: Nothing was.
        """
        if self.document is None:
            raise KernelImageError(str(self.error))
        return self.document


@dataclass(frozen=True, slots=True)
class _Work:
    """What one process is to find out of one image."""

    image: str
    rule: bool
    dependencies: bool
    machine: GivenMachine | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found out so far, by one process or several."""

    rule: ImageDocument | None = None
    dependencies: DependenciesDocument | None = None
    on_machine: dict[str, Any] | None = None

    def joined(self, other: _Found) -> _Found:
        """Both; each thing was found by one of them at most."""
        return _Found(
            self.rule or other.rule,
            self.dependencies or other.dependencies,
            self.on_machine or other.on_machine,
        )


def read_images(
    images: Sequence[str], options: ReadingOptions, machine: GivenMachine | None = None
) -> list[ImageReport]:
    """Read every image; those that cannot be read say why.

    Args:
        images: Files.
        options: How.
        machine: Of which is wanted what the images do on it.
    """
    cache = ReadingCache(default_directory()) if options.use_cache else None
    reports = [ImageReport(image, document=_kept(cache, image)) for image in images]
    parts: dict[int, _Found] = {}
    for index, found in _worked(_read, list(_work(reports, machine, options)), options):
        if isinstance(found, _Found):
            parts[index] = parts.get(index, _Found()).joined(found)
            reports[index] = _completed(reports[index], parts[index])
        else:
            error = _named(found.reason, images[index])
            reports[index] = ImageReport(images[index], error=error)
        _keep(cache, reports[index].document)
    return reports


def _work(
    reports: Sequence[ImageReport], machine: GivenMachine | None, options: ReadingOptions
) -> Iterator[tuple[int, _Work]]:
    """One process for each image that is not in the cache, or two if there are cores to spare."""
    unread = [index for index, report in enumerate(reports) if report.document is None]
    spare = 2 * len(unread) <= options.processes
    for index, report in enumerate(reports):
        if index not in unread:
            if machine is not None:
                yield index, _Work(report.image, False, False, machine)
        elif spare:
            yield index, _Work(report.image, True, False)
            yield index, _Work(report.image, False, True, machine)
        else:
            yield index, _Work(report.image, True, True, machine)


def ruled_kernels(names: Sequence[str], options: ReadingOptions) -> list[RuledKernel]:
    """Kernels by policy name, policy file or image.

    Raises:
        PolicyError: No policy and no file has this name, or the policy is not well formed.
        KernelImageError: An image cannot be read, or a part of its rule is unknown.
    """
    from staleline.policy.catalogue import catalogue, find
    from staleline.verdict.kernels import PolicyKernel
    from staleline.verdict.readkernel import read_kernel

    def is_image(name: str) -> bool:
        return name not in catalogue() and not name.endswith(".toml") and os.path.exists(name)

    images = [name for name in names if is_image(name)]
    read = {report.image: report for report in read_images(images, options)}
    return [
        read_kernel(read[name].required(), name)
        if name in read
        else PolicyKernel(find(name), "the policy")
        for name in names
    ]


def explained(reports: Sequence[ImageReport], options: ReadingOptions) -> list[ImageReport]:
    """Add to every image that was read why it executes its WBINVDs."""
    done = list(reports)
    work = [(index, report) for index, report in enumerate(reports) if report.document is not None]
    for index, found in _worked(_explain, work, options):
        report = done[index]
        if isinstance(found, tuple):
            done[index] = replace(report, explanations=found)
        else:
            done[index] = replace(report, error=_named(found.reason, report.image))
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
) -> Iterator[tuple[int, _Result | Failure]]:
    """Let processes do the work; yields the number it was given with."""
    if not work:
        return
    from staleline.workers import Limits, prepare, run_each

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy starts threads on import
    prepare(_PRELOAD)
    from staleline.report.progress import tracked

    results = run_each(
        function,
        [one for _, one in work],
        jobs=options.processes,
        limits=Limits(seconds=options.seconds),
        preload=_PRELOAD,
    )
    for position, found in tracked(results, "Reading kernels", len(work)):
        yield work[position][0], found


def _completed(report: ImageReport, found: _Found) -> ImageReport:
    """A report has a document once both parts of it are there, and never after an error."""
    if report.error is not None:
        return report
    document = report.document
    if found.rule is not None and found.dependencies is not None:
        document = with_dependencies(found.rule, found.dependencies)
    return replace(report, document=document, on_machine=found.on_machine)


def _named(reason: str, image: str) -> str:
    """Reasons that the readers give name the file already."""
    return printable(reason if reason.startswith(image) else f"{image}: {reason}")


def _read(work: _Work) -> _Found:
    """Done by another process, so that nothing of it is imported here."""
    from staleline.kernel.reading import load_and_hash, read_dependencies, read_rule

    image, digest = load_and_hash(work.image)
    return _Found(
        rule=read_rule(image, digest) if work.rule else None,
        dependencies=read_dependencies(image) if work.dependencies else None,
        on_machine=None if work.machine is None else _on_machine(image, work.machine),
    )


def _on_machine(image: KernelImage, machine: GivenMachine) -> dict[str, Any]:
    from staleline.facts import from_snapshot
    from staleline.kernel.running import RunningImage
    from staleline.report.machine_json import machine_document
    from staleline.verdict.kernels import ImageKernel
    from staleline.verdict.reading import read_on_machine

    snapshot = machine.snapshot()
    kernel = ImageKernel(RunningImage(image), snapshot)
    return machine_document(read_on_machine(kernel, from_snapshot(snapshot)))


def _explain(report: ImageReport) -> tuple[Explanation, ...]:
    """Likewise."""
    from staleline.kernel.explain import explain
    from staleline.kernel.imagepolicy_json import from_document
    from staleline.kernel.rawmachine import raw_machine
    from staleline.kernel.reading import load_and_hash

    image, _ = load_and_hash(report.image)
    return tuple(explain(image, from_document(report.required()).table, raw_machine))
