# SPDX-License-Identifier: GPL-2.0-or-later
"""What one image decides on machines, run at most once for each."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from staleline.errors import KernelImageError
from staleline.evidence.registers import CpuidTable
from staleline.kernel.boot.decision import Decision, OfflineWay, RawMachine, SiteDecision
from staleline.kernel.file.buildtree import built_image
from staleline.kernel.file.source import file_digest
from staleline.kernel.reading.cache import DocumentCache, default_directory
from staleline.kernel.reading.document import OfflineWayDocument
from staleline.kernel.reading.offlinedocument import offline_way_document, offline_way_of
from staleline.kernel.reading.storedocument import store_document, store_of
from staleline.vocabulary import ReportOrder, Site

if TYPE_CHECKING:
    from staleline.kernel.reading.running import RunningImage

__all__ = ["DecidedDocument", "RememberedImage", "image_opener", "remembered_image"]


class DecidedDocument(TypedDict):
    """What is kept of an image: what it is, and its decisions by `_key` of the machine."""

    sha256: str
    release: str | None
    build_id: str | None
    seamcalls: bool
    decisions: dict[str, dict[str, Any]]
    offline: dict[str, list[OfflineWayDocument]]
    doubts: dict[str, list[str]] | None


def _directory() -> Path:
    """Where decisions are kept: beside the readings."""
    return default_directory().parent / "decisions"


@dataclass(frozen=True, eq=False)
class RememberedImage:
    """An image that is loaded when something new is asked of it.

    Attributes:
        path: The file.
        cache: Where its decisions are kept.
    """

    path: str
    cache: DocumentCache[DecidedDocument]
    _document: DecidedDocument = field(repr=False)
    _loaded: RunningImage | None = field(default=None, repr=False)

    @property
    def release(self) -> str | None:
        """What ``uname -r`` says when it runs."""
        return self._document["release"]

    @property
    def build_id(self) -> str | None:
        """GNU build ID in hexadecimal."""
        return self._document["build_id"]

    @property
    def seamcalls(self) -> bool:
        """It has the code to use TDX as a host."""
        return self._document["seamcalls"]

    def decide(self, machine: RawMachine) -> Decision:
        """What its code does on a machine; what it read there is left out."""
        key = _key(machine)
        # So the audit of a host that did not change takes a fraction of a second.
        known = self._document["decisions"].get(key)
        if known is not None:
            return _decision(known)
        decision = self._running.decide(machine)
        # What is unknown may be known next time, as in a reading.
        is_whole = all(site.flushes is not None for site in _sites(decision))
        # Who is not stopped is not kept, so only those are that stop everybody.
        if is_whole and decision.stops and decision.crash_stops:
            self._document["decisions"][key] = _plain(decision)
            self.cache.put(self._document)
        return decision

    def offline_ways(self, machine: RawMachine) -> tuple[OfflineWay, ...]:
        """The ways in which its code takes CPUs of a machine offline."""
        key = _key(machine)
        known = self._document["offline"].get(key)
        if known is not None:
            return tuple(map(offline_way_of, known))
        ways = self._running.offline_ways(machine)
        if all(one.flushes is not None for way in ways for one in (way.asleep, way.woken) if one):
            self._document["offline"][key] = list(map(offline_way_document, ways))
            self.cache.put(self._document)
        return ways

    @cached_property
    def doubts(self) -> Mapping[Site, tuple[str, ...]]:
        """What its sites depend on beside the listed facts, found out once."""
        known = self._document["doubts"]
        if known is None:
            doubts = self._running.doubts
            known = {site: list(reasons) for site, reasons in doubts.items()}
            # As with decisions: what could not be tried may be tried again.
            if not known:
                self._document["doubts"] = known
                self.cache.put(self._document)
        return {Site(site): tuple(reasons) for site, reasons in known.items()}

    @cached_property
    def _running(self) -> RunningImage:
        if self._loaded is not None:
            return self._loaded
        image, digest = _load(self.path)
        # Decisions would be kept under the digest of another file.
        if digest != self._document["sha256"]:
            raise KernelImageError("changed while it was read", where=self.path, do="read it again")
        return image


def image_opener(*, use_cache: bool = True) -> Callable[[str], RememberedImage | RunningImage]:
    """Opens image files, with what was decided before; or without, and nothing is kept."""
    cache: DocumentCache[DecidedDocument] | None = None
    if use_cache:
        cache = DocumentCache(_directory())
    return partial(remembered_image, cache=cache)


def remembered_image(
    path: str, cache: DocumentCache[DecidedDocument] | None
) -> RememberedImage | RunningImage:
    """The image in a file, with what was decided before; without a cache, with nothing of that.

    Raises:
        KernelImageError: It cannot be read, or is no image.
    """
    file = built_image(path) if os.path.isdir(path) else path
    # A pipe can be read only once, and has no digest before.
    if cache is None or not os.path.isfile(file):
        return _load_once(file)
    try:
        known = cache.get(file_digest(file))
    except OSError:
        return _load_once(file)
    return _new(file, cache) if known is None else RememberedImage(file, cache, known)


def _new(file: str, cache: DocumentCache[DecidedDocument]) -> RememberedImage:
    """An image of which nothing was decided."""
    image, digest = _load(file)
    document = DecidedDocument(
        sha256=digest,
        release=image.release,
        build_id=image.build_id,
        seamcalls=image.seamcalls,
        decisions={},
        offline={},
        doubts=None,
    )
    # What it is called is kept before anything is asked of it: of a folder of images most are of no
    # host, and were unpacked again by each run.
    cache.put(document)
    return RememberedImage(file, cache, document, image)


def _load(file: str) -> tuple[RunningImage, str]:
    # Not needed for what is remembered, and 0.2 s to import.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy starts threads on import
    from staleline.kernel.image.loading import load_and_hash  # noqa: PLC0415
    from staleline.kernel.reading.running import RunningImage  # noqa: PLC0415

    image, digest = load_and_hash(file)
    return RunningImage(image), digest


def _load_once(file: str) -> RunningImage:
    """Of what is not kept, or cannot be hashed, which loading it will refuse, and say why."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # likewise
    from staleline.kernel.reading.running import RunningImage  # noqa: PLC0415

    return RunningImage.load(file)


def _key(machine: RawMachine) -> str:
    """Tells machines apart by all that code can ask of them."""
    plain = {one.name: _comparable(getattr(machine, one.name)) for one in fields(machine)}
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def _comparable(value: object) -> object:
    """The same for equal values, as something that JSON has."""
    if isinstance(value, CpuidTable):
        return sorted(value.leaves.items())
    return sorted(value.items()) if isinstance(value, Mapping) else value


def _sites(decision: Decision) -> tuple[SiteDecision, SiteDecision, SiteDecision, SiteDecision]:
    return (
        decision.stop_this_cpu,
        decision.relocate_kernel,
        decision.crash_nmi_callback,
        decision.crash_relocate_kernel,
    )


def _plain(decision: Decision) -> dict[str, Any]:
    return {
        "flushes": [site.flushes for site in _sites(decision)],
        "stores": [[store_document(one) for one in site.stores] for site in _sites(decision)],
        "reported_stopped": decision.reported_stopped,
        "sme_active": decision.sme_active,
    }


def _decision(plain: Mapping[str, Any]) -> Decision:
    order = plain["reported_stopped"]
    stop, jump, crash, crash_jump = (
        SiteDecision(flushes, stores=tuple(map(store_of, stores)))
        for flushes, stores in zip(plain["flushes"], plain["stores"], strict=True)
    )
    return Decision(
        stop_this_cpu=stop,
        relocate_kernel=jump,
        crash_nmi_callback=crash,
        crash_relocate_kernel=crash_jump,
        reported_stopped=None if order is None else ReportOrder(order),
        sme_active=plain["sme_active"],
    )
