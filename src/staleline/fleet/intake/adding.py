# SPDX-License-Identifier: GPL-2.0-or-later
"""Adding evidence to a fleet, in parallel, and so that it can go on wherever it was stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from staleline.cores import usable_cores
from staleline.errors import UsageError
from staleline.fleet.intake.ingest import Batch, BatchCount, add_batch, try_input
from staleline.fleet.intake.sources import LISTED, UNLISTED, FleetInput, listed
from staleline.fleet.store import Fleet, created
from staleline.fleet.tables import (
    keep_repeated,
    known_inputs,
    number_of_repeated,
    quarantined_files,
)
from staleline.printable import printable
from staleline.workers import Failure, ProcessLimits, run_each

__all__ = ["AddOptions", "Added", "Progress", "add_to_fleet"]

_PLAN = "staleline/fleet-adding/1"
#: A batch is what one process reads at a time, and what a kill costs.
_INPUTS_MAX = 4096
_BYTES_MAX = 64 << 20
_MEMORY = 8 << 30
#: Generous: they are there to end what never ends.
_SECONDS, _BYTES_A_SECOND = 300.0, 100_000
_MODULE = "staleline.fleet.intake.ingest"

#: Called with inputs done, inputs in all, hosts and quarantined so far.
Progress = Callable[[int, int, int, int], None]


@dataclass(frozen=True, slots=True)
class AddOptions:
    """How to add.

    Attributes:
        jobs: Processes at a time; None for one per core.
        progress: Called after each batch.
        inputs_at_most: Of one batch.
    """

    jobs: int | None = None
    progress: Progress = lambda *_: None
    inputs_at_most: int = _INPUTS_MAX


@dataclass(frozen=True, slots=True)
class Added:
    """What was added.

    Attributes:
        hosts: Records that are hosts.
        quarantined: Records that could not be read.
        inputs: Files.
        already: Files that had been added before and are the same.
        faults: A few of what was quarantined: file, place, reason.
        repeated: Hosts of the fleet that were told more than once.
    """

    hosts: int
    quarantined: int
    inputs: int
    already: int
    faults: tuple[tuple[str, str, str], ...]
    repeated: int


def add_to_fleet(directory: Path, sources: Sequence[str], options: AddOptions) -> Added:
    """Add every source to the fleet in a directory; first finish what was begun there.

    Raises:
        UsageError: A source is not there, or the directory is no fleet of this edition, or is
            being written to.
    """
    fleet = created(directory)
    with fleet.locked(writing_to_it=True):
        fleet.sweep()
        plan = fleet.plan
        # Whatever is missing is nothing that somebody was about to add.
        fleet.require_whole(fleet.number_of_parts if plan is None else plan["first"])
        counts = _finish(fleet, options) if plan is not None else []
        first = fleet.number_of_parts
        given = list(dict.fromkeys(listed(sources)))
        known = known_inputs(fleet)
        new = [one for one in given if _key(one) not in known]
        new += [one for one in _listed_again(known, sources) if _key(one) not in known]
        if new:
            batches = list(_batches(new, options.inputs_at_most))
            # What is to be added is written down first. Each batch becomes one part of every table,
            # by itself and always the same. So whoever goes on after a kill gets the bytes that
            # would be there without it; nothing that is there is ever written again.
            fleet.keep_plan(_plan(first, batches))
            counts += _finish(fleet, options)
        return Added(
            hosts=sum(count.hosts for count in counts),
            quarantined=sum(count.quarantined for count in counts),
            inputs=sum(count.inputs for count in counts),
            already=len(given) - len(new),
            faults=tuple(quarantined_files(fleet, since=first)),
            repeated=number_of_repeated(fleet),
        )


# As the table of inputs has it, where nothing but text can be.
def _key(input_: FleetInput) -> tuple[str, int, str]:
    return printable(input_.location), input_.bytes, input_.modified


def _listed_again(
    known: Iterable[tuple[str, int, str]], sources: Sequence[str]
) -> Iterator[FleetInput]:
    """Folders of the sources that could not be listed: of those that can be, it holds no more."""
    for path, _, modified in sorted(known):
        if modified.startswith(UNLISTED) and os.access(path, os.R_OK | os.X_OK):
            below = (os.path.join(source, "") for source in sources)
            if os.path.join(path, "").startswith(tuple(below)):
                yield FleetInput(path, modified=LISTED + modified.removeprefix(UNLISTED))


def _batches(inputs: Iterable[FleetInput], at_most: int) -> Iterator[list[FleetInput]]:
    batch: list[FleetInput] = []
    size = 0
    for input_ in inputs:
        own = input_.piece[1] - input_.piece[0] if input_.piece else input_.bytes
        if batch and (len(batch) == at_most or size + own > _BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(input_)
        size += own
    yield batch


def _plan(first: int, batches: Iterable[Iterable[FleetInput]]) -> dict[str, Any]:
    return {
        "schema": _PLAN,
        "first": first,
        "batches": [
            [[_written(one.location), one.bytes, one.modified, one.piece] for one in batch]
            for batch in batches
        ],
    }


def _written(location: str) -> str:
    """With the bytes of a name that is not UTF-8 as Python escapes them."""
    return os.fsencode(location).decode("latin-1")


def _planned(fleet: Fleet) -> list[Batch]:
    plan = fleet.plan or {}
    if plan.get("schema") != _PLAN:
        raise UsageError(
            f"was begun by another edition of staleline: {str(plan.get('schema'))[:80]!a}",
            where=fleet.directory / "adding.json",
            do="finish it with that edition, or add the sources to a new directory",
        )
    return [
        Batch(str(fleet.directory), plan["first"] + number, tuple(map(_read, batch)))
        for number, batch in enumerate(plan["batches"])
    ]


def _read(row: Sequence[Any]) -> FleetInput:
    location, size, modified, piece = row
    name = os.fsdecode(location.encode("latin-1"))
    return FleetInput(name, size, modified, tuple(piece) if piece else None)


def _finish(fleet: Fleet, options: AddOptions) -> list[BatchCount]:
    """Every batch of the plan that is not there yet."""
    batches = _planned(fleet)
    total = sum(len(batch.inputs) for batch in batches)
    there = [batch for batch in batches if fleet.has_part(batch.number)]
    missing = [batch for batch in batches if batch not in there]
    counts: list[BatchCount] = []
    inputs = sum(len(batch.inputs) for batch in there)
    for count in _run(missing, options.jobs or usable_cores()):
        counts.append(count)
        inputs += count.inputs
        hosts, faults = (sum(getattr(one, n) for one in counts) for n in ("hosts", "quarantined"))
        options.progress(inputs, total, hosts, faults)
    # Before the plan goes, as without it the fleet may be asked.
    keep_repeated(fleet)
    fleet.keep_number_of_parts()
    fleet.keep_plan(None)
    return counts


def _run(batches: Sequence[Batch], jobs: int) -> Iterator[BatchCount]:
    limits = _limits([one for batch in batches for one in batch.inputs])
    for index, count in run_each(add_batch, batches, jobs=jobs, limits=limits, preload=[_MODULE]):
        if isinstance(count, Failure):
            yield _one_by_one(batches[index], count, jobs)
        else:
            yield count


def _limits(inputs: Sequence[FleetInput]) -> ProcessLimits:
    size = sum(one.piece[1] - one.piece[0] if one.piece else one.bytes for one in inputs)
    return ProcessLimits(_SECONDS + len(inputs) + size / _BYTES_A_SECOND, _MEMORY)


def _one_by_one(batch: Batch, failure: Failure, jobs: int) -> BatchCount:
    """A batch of which some input ended the process: that one is told, the others are read."""
    limits = _limits(batch.inputs)
    tried = run_each(try_input, batch.inputs, jobs=jobs, limits=limits, preload=[_MODULE])
    refused = {index: one.reason for index, one in tried if isinstance(one, Failure)}
    if not refused:  # not one input's fault: no room left on the device, for instance
        raise UsageError(f"cannot be added: {failure.reason}", where=batch.directory)
    whole = Batch(batch.directory, batch.number, batch.inputs, tuple(sorted(refused.items())))
    ((_, count),) = run_each(add_batch, [whole], jobs=1, limits=limits, preload=[_MODULE])
    if isinstance(count, Failure):
        raise UsageError(f"cannot be added: {count.reason}", where=batch.directory)
    return count
