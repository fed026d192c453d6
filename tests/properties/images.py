# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian kernels in the cache as old kernels; loaded once in a process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from staleline.evidence.snapshot import Snapshot
from staleline.kernel.reading.decided import image_opener
from staleline.kernel.reading.running import RunningImage
from staleline.verdict.audit.old_kernel import choose_kernels
from staleline.verdict.handover.kernels import ImageKernel, Kernel
from staleline.verdict.machines.registers import has_cpuid
from tests.properties.answers import Question
from tools import fetch_kernels

__all__ = ["cached_images"]


def cached_images() -> Mapping[str, Question]:
    """A question for each image, by release."""
    directory = fetch_kernels.default_cache()
    images = fetch_kernels.read_index(directory).values()
    return {
        image.release: _question(image.release, str(directory / image.file)) for image in images
    }


def _question(release: str, path: str) -> Question:
    def kernel_of(machine: Snapshot) -> tuple[Kernel, ...]:
        if not has_cpuid(machine):
            # It is refused, and how is said there.
            return tuple(choose_kernels(machine, path, image_opener(use_cache=False)))
        return (ImageKernel(_loaded(path), machine),)

    return Question(release, kernel_of)


@cache
def _loaded(path: str) -> RunningImage:
    return RunningImage.load(path)
