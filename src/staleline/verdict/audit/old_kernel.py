# SPDX-License-Identifier: GPL-2.0-or-later
"""Which old kernel is meant: an image, a policy, or a release of which the rule is guessed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from staleline.errors import UsageError
from staleline.evidence.snapshot import Snapshot
from staleline.policy.catalogue import catalogue, find, series_of
from staleline.verdict.handover.kernels import Image, ImageKernel, Kernel, PolicyKernel
from staleline.verdict.handover.release import kernels_of_release
from staleline.verdict.machines.registers import has_cpuid

__all__ = ["choose_kernels", "image_files"]

_WITHOUT_CPUID = "read by running the image's own code on CPUs made up from the facts"
#: Where distributions keep the image of an installed release.
_IMAGE_PLACES = ("/boot/vmlinuz-{}", "/usr/lib/modules/{}/vmlinuz", "/lib/modules/{}/vmlinuz")


def choose_kernels(
    snapshot: Snapshot, wanted: str | None, open_image: Callable[[str], Image]
) -> Sequence[Kernel]:
    """The kernel, or several where only its release number is known.

    Args:
        snapshot: The machine it runs on.
        wanted: An image's path, a policy's name or file, or a release; None for the
            kernel that the snapshot names.
        open_image: Opens an image file.

    Raises:
        UsageError: Nothing fits; the message says what could be given.
        KernelImageError: An image was named or found but cannot be read.
        PolicyError: A policy file is not well formed.
    """
    if wanted is None:
        return _running(snapshot, open_image)
    # A policy's name first: `linux-6.5` is in every documentation, and a folder of sources may be
    # called so. A file comes before a release: who has both means the image.
    if wanted in catalogue() or wanted.endswith(".toml"):
        return (PolicyKernel(find(wanted), "policy named by the user; no image was read"),)
    if series_of(wanted) is not None and not Path(wanted).exists():
        return kernels_of_release(wanted)
    if "/" in wanted or Path(wanted).exists():
        return (_image(wanted, snapshot, open_image),)
    find(wanted)  # raises, and knows which names come near
    raise AssertionError(wanted)


def image_files(kernels: Sequence[Kernel]) -> list[str]:
    """The files of those kernels that were read from one."""
    return [kernel.image.path for kernel in kernels if isinstance(kernel, ImageKernel)]


def _running(snapshot: Snapshot, open_image: Callable[[str], Image]) -> Sequence[Kernel]:
    """The kernel that the snapshot names: its image, if it is installed here, else its rule."""
    release, build_id = snapshot.kernel.release, snapshot.kernel.build_id
    if release is None:
        raise UsageError(
            "the snapshot does not name a kernel",
            do="give --kernel IMAGE, RELEASE or POLICY",
        )
    # The snapshot may be anybody's: a release with a slash would name a file of its choice.
    if build_id is not None and has_cpuid(snapshot) and "/" not in release:
        for place in _IMAGE_PLACES:
            path = Path(place.format(release))
            # By the build ID: a release may have been built again, or be that of another host.
            if _readable(path) and (image := open_image(str(path))).build_id == build_id:
                return (ImageKernel(image, snapshot),)
    return kernels_of_release(release)


def _readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def _image(path: str, snapshot: Snapshot, open_image: Callable[[str], Image]) -> ImageKernel:
    image = open_image(path)
    if has_cpuid(snapshot):
        return ImageKernel(image, snapshot)
    return ImageKernel(image, snapshot, _WITHOUT_CPUID)
