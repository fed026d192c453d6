# SPDX-License-Identifier: GPL-2.0-or-later
"""A report in a directory: one page, and its counterexamples as ITF files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from staleline.check.runs.itf import itf_document
from staleline.errors import UsageError
from staleline.outputfile import replace_file, writing
from staleline.report.explorer.cases import ExploredKernels
from staleline.report.explorer.data import ExplorerData, explorer_data
from staleline.report.explorer.page import explorer_page
from staleline.report.pictures.svg import svg

__all__ = ["PAGE", "report_files", "write_report"]

PAGE = "index.html"
_TRACES = "traces"
_TRACE_SUFFIX, _PICTURE_SUFFIX = ".itf.json", ".svg"


def write_report(explored: ExploredKernels, directory: Path) -> Path:
    """Write the page and its traces; an older report there is replaced.

    Returns:
        The page's path.

    Raises:
        UsageError: The directory holds something else, or cannot be written.
    """
    data = explorer_data(explored)
    page = explorer_page(explored, data.document)
    with writing(directory):
        _clear(directory)
        _write_traces(directory / _TRACES, data)
    # Last, so that no page names traces that are not there yet.
    replace_file(directory / PAGE, page)
    return directory / PAGE


def report_files(directory: Path) -> Iterator[tuple[str, Path]]:
    """The files of a report, as (relative name, path); symbolic links are none of them.

    Raises:
        UsageError: There is no report, or it cannot be read.
    """
    page = directory / PAGE
    # A link could show any file of this host to whoever reads the report.
    if not page.is_file() or page.is_symlink():
        raise UsageError(
            f"no {PAGE} of a report", where=directory, do="write one: staleline report -o DIR"
        )
    yield PAGE, page
    for path in _traces(directory):
        yield f"{_TRACES}/{path.name}", path


def _traces(directory: Path) -> list[Path]:
    traces = directory / _TRACES
    if traces.is_symlink() or not traces.is_dir():
        return []
    return sorted(
        path
        for path in traces.iterdir()
        if path.name.endswith((_TRACE_SUFFIX, _PICTURE_SUFFIX))
        and path.is_file()
        and not path.is_symlink()
    )


def _clear(directory: Path) -> None:
    """Make the directory, and take an older report's traces away."""
    directory.mkdir(parents=True, exist_ok=True)
    found = {entry.name for entry in os.scandir(directory)}
    if found and PAGE not in found:
        raise UsageError(
            "the directory holds files, and none is a report", where=directory, do="name another"
        )
    # Only what a report has: what else lies there is somebody's.
    for path in _traces(directory):
        path.unlink()


def _write_traces(traces: Path, data: ExplorerData) -> None:
    if data.traces:
        traces.mkdir(exist_ok=True)
    for name, counterexample in data.traces.items():
        document = json.dumps(itf_document(counterexample), indent=1)
        (traces / name).write_text(document, "utf-8")
        stem = name.removesuffix(_TRACE_SUFFIX)
        picture = svg(counterexample, data.titles[name])
        (traces / f"{stem}{_PICTURE_SUFFIX}").write_text(picture, "utf-8")
