# SPDX-License-Identifier: GPL-2.0-or-later
"""The snapshot of this host: collected, then read like any other snapshot.

There is one collector, staleline_collect.py, which also runs alone on hosts where this
package is not installed; what it writes is read here as if it had come from a file.
"""

from __future__ import annotations

import os
from importlib.resources import files

from staleline.evidence.detect import parse_snapshot
from staleline.evidence.snapshot import Snapshot
from staleline.evidence.staleline_collect import HostTree, ReadAt, document_text, redacted, slim
from staleline.evidence.staleline_collect import collect as collect_document

__all__ = ["collect", "collector_source", "snapshot_of_this_host"]


def collect(root: str | os.PathLike[str] = "/", *, read_at: ReadAt = os.pread) -> Snapshot:
    """Return the snapshot of this host, or of the file tree `root` that is laid out as one.

    Args:
        root: The directory that holds proc, sys, dev and boot.
        read_at: Reads the files of dev/cpu at an offset.

    Raises:
        EvidenceError: What was read contradicts itself.
    """
    document = collect_document(HostTree(os.fspath(root)), read_at)
    return parse_snapshot(document_text(document), os.fspath(root))


def snapshot_of_this_host(*, redact: bool = False, small: bool = False) -> str:
    """The text of this host's snapshot, as the collector writes it."""
    document = slim(collect_document()) if small else collect_document()
    return document_text(redacted(document) if redact else document)


def collector_source() -> str:
    """The collector as one file that needs only the standard library of Python 3.6."""
    return files(__package__).joinpath("staleline_collect.py").read_text("utf-8")
