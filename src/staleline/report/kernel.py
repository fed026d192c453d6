# SPDX-License-Identifier: GPL-2.0-or-later
"""What images do on a machine, as a table or ``staleline/kernel/1``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from staleline.verdict.kernels import Behaviour
from staleline.verdict.reading import Reading, executed
from staleline.vocabulary import Site

__all__ = ["kernel_document", "print_kernels"]

_SITES = (Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL)


def kernel_document(readings: Sequence[Reading]) -> dict[str, Any]:
    """The JSON document. ``policy`` is null: one machine does not tell a whole rule."""
    return {
        "schema": "staleline/kernel/1",
        "images": [_image_document(reading) for reading in readings],
    }


def _image_document(reading: Reading) -> dict[str, Any]:
    return {
        "image": reading.image,
        "release": reading.release,
        "build_id": reading.build_id,
        "policy": None,
        "sites": None,
        "on_snapshot": dict(reading.decisions),
        "truth_table": [_row_document(assumed, row) for assumed, row in reading.rows],
        "unknown": list(reading.unknown),
    }


def _row_document(assumed: Mapping[str, bool], behaviour: Behaviour) -> dict[str, Any]:
    return {
        "facts": dict(assumed),
        "sme_active": behaviour.sme_active,
        "reported_stopped": behaviour.report,
        **{site: executed(behaviour, site) for site in _SITES},
    }


def print_kernels(console: Console, readings: Sequence[Reading]) -> None:
    """One row per image and per machine that fits the evidence."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("image", no_wrap=True)
    for heading in ("if", "encrypts", "secondaries", "jumping CPU", "reported"):
        table.add_column(heading)
    for reading in readings:
        for assumed, behaviour in reading.rows:
            table.add_row(
                escape(reading.release or reading.image),
                escape(_assumption(assumed)),
                _word(behaviour.sme_active, "yes", "no"),
                *(_word(executed(behaviour, site), "WBINVD", "no WBINVD") for site in _SITES),
                (behaviour.report or "").replace("-", " "),
            )
    console.print(table)
    for reading in readings:
        for reason in reading.unknown:
            console.print(f"[bold yellow]unknown[/] {escape(f'{reading.image}: {reason}')}")


def _assumption(assumed: Mapping[str, bool]) -> str:
    words = [name if value else f"not {name}" for name, value in assumed.items()]
    return ", ".join(words) or "as observed"


def _word(value: bool | None, yes: str, no: str) -> str:
    return "unknown" if value is None else yes if value else no
