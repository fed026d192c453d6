# SPDX-License-Identifier: GPL-2.0-or-later
"""Predicted against observed, over kernels, machines, transitions, paths and adversaries.

Every kernel is booted on every machine and goes on from there in many ways, each to a probe in the
next kernel's place (machine/guest/probe.S). What was seen of each is kept, so that an interrupted
matrix goes on where it was. Prints the table of docs/machine.md.

Exit status: 0 nothing contradicts what was predicted, 2 something does, 1 bad input.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path as FilePath
from typing import Any, Final

from tools.fetch_kernels import default_cache

from staleline.errors import StalelineError
from staleline.kernel.image.assembly import load_image
from staleline.simulation.emulator import BuiltMachine, built_machine, machine_cache
from staleline.simulation.execution import RunBounds, ended_in
from staleline.simulation.experiment import COMMAND_LINE, Experiment, SimulatedCpus, run_experiments
from staleline.simulation.judged import machine_evidence, predicted
from staleline.simulation.medium import BootImage, Probe, boot_image
from staleline.simulation.observation import RunOutcome, SeenRun, seen_run
from staleline.simulation.prediction import NOTHING_PREDICTED, Prediction, disagreement
from staleline.simulation.skipping import skipped_flush
from staleline.verdict.audit.next_kernel import Next
from staleline.vocabulary import Path, Site

__all__ = ["ADVERSARIES", "Boot", "Cell", "cells"]

_MEGABYTES: Final = {"tdx-host": 96}
_MEGABYTES_OF_DEBIAN: Final = 160
#: And 1 MB of bounce buffers in place of 64, which are decrypted, cleared and never used.
_OPTIONS: Final = "crashkernel=32M swiotlb=512"
_BOUNDS: Final = RunBounds(seconds=7200)
#: Nothing is evicted, and a WBINVD takes time: a dirty line lives as long as hardware may let it.
_PATIENT: Final[Mapping[str, str | int]] = {"size": 0, "wbinvd_lines": 8}
_STORED: Final = 24_000_000  # ticks, in which the probe has stored to all of its memory
_WAIT: Final = 30_000_000

#: How lines leave, and how long the probe waits for that. `early`: everything dirty is written
#: back at the jump; `late`: when the next kernel has used all memory; what is stale goes last.
ADVERSARIES: Final[Mapping[str, tuple[Mapping[str, str | int], int]]] = {
    "early": ({"release": "handover", "release_order": "stale-last"}, 1),
    "late": (
        {"release": "handover", "release_order": "stale-last", "release_delay": _STORED},
        _WAIT,
    ),
    "restless": ({"restless": 20}, 1),
}
_WITHOUT_FLUSHES_ON_HYGON: Final = ("6.18", "7.3", "tdx-host")  # nothing to be taken away
_KERNELS: Final = {
    "tdx-host": "built/tdx-host/bzImage",
    "7.3": "vmlinuz-7.3.4+deb13-cloud-amd64",
    "6.12": "vmlinuz-6.12.117+deb13-cloud-amd64",
    "5.10": "vmlinuz-5.10.0-32-amd64",
    "6.18": "vmlinuz-6.18.15+deb13-cloud-amd64",
    "6.1": "vmlinuz-6.1.0-50-cloud-amd64",
}


@dataclass(frozen=True, slots=True)
class Boot:
    """What is booted once."""

    kernel: str
    machine: SimulatedCpus
    encrypts: bool
    cpus: int

    @property
    def name(self) -> str:
        """As files are called."""
        return f"{self.kernel}-{self.machine}-{_word(self.encrypts)}-{self.cpus}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One way on from a boot."""

    boot: Boot
    next_encrypts: bool
    path: Path
    adversary: str
    without: Site | None

    @property
    def name(self) -> str:
        """As files are called."""
        without = f"-without-{self.without}" if self.without else ""
        way = f"{_word(self.next_encrypts)}-{self.path}-{self.adversary}{without}"
        return f"{self.boot.name}-{way}"


def _word(encrypts: bool) -> str:
    return "on" if encrypts else "off"


def boots(kernels: Iterable[str]) -> Iterator[Boot]:
    """In the order in which they say most."""
    for cpus, kernel in product((2, 4), kernels):
        for machine, encrypts in (
            (SimulatedCpus.HYGON, True),
            (SimulatedCpus.AMD, True),
            (SimulatedCpus.AMD_COHERENT, True),
            (SimulatedCpus.HYGON, False),
            (SimulatedCpus.AMD, False),
            (SimulatedCpus.AMD_COHERENT, False),
        ):
            yield Boot(kernel, machine, encrypts, cpus)


def cells(boot: Boot) -> list[Cell]:
    """All ways on from a boot."""
    every = [
        Cell(boot, encrypts, path, adversary, None)
        for encrypts, path, adversary in product((False, True), Path, ADVERSARIES)
    ]
    if boot.machine is not SimulatedCpus.HYGON or boot.kernel not in _WITHOUT_FLUSHES_ON_HYGON:
        every += [
            Cell(boot, encrypts, Path.KEXEC, "late" if boot.encrypts != encrypts else "early", site)
            for encrypts, site in product((False, True), (Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL))
        ]
    return every


def main(arguments: list[str] | None = None) -> int:
    """Run what was not run yet."""
    options = _options(arguments)
    try:
        if not options.table:
            _run(options)
        records = list(_records(options.results))
    except (StalelineError, OSError) as error:
        sys.stderr.write(f"machine_matrix: {error}\n")
        return 1
    sys.stdout.write(_table(records))
    return 2 if any(record["disagreement"] for record in records) else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--kernels", nargs="*", default=list(_KERNELS), choices=list(_KERNELS))
    parser.add_argument(
        "--machines",
        nargs="*",
        type=SimulatedCpus,
        default=list(SimulatedCpus),
        help="amd, amd-coherent, hygon (default: all)",
    )
    parser.add_argument(
        "--results", type=FilePath, default=machine_cache() / "matrix", help="default: %(default)s"
    )
    parser.add_argument("--table", action="store_true", help="run nothing, tell what was seen")
    parser.add_argument("--at-most", type=int, help="boots, of those that are left")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> None:
    emulator = built_machine()
    folder = options.results / emulator.key
    folder.mkdir(parents=True, exist_ok=True)
    left = options.at_most
    for boot in boots(options.kernels):
        file = default_cache() / _KERNELS[boot.kernel]
        if left == 0 or not file.exists() or boot.machine not in options.machines:
            continue
        _keep_finished(boot, file, folder)
        missing = [cell for cell in cells(boot) if not (folder / f"{cell.name}.json").exists()]
        if missing:
            left = None if left is None else left - 1
            sys.stderr.write(f"{boot.name}: {len(missing)} ways\n")
            _observe(boot, missing, file, emulator, folder)


def _observe(
    boot: Boot, missing: list[Cell], file: FilePath, emulator: BuiltMachine, folder: FilePath
) -> None:
    image, program = _boot_image(file), emulator.guest("probe")
    experiments = [_experiment(cell, image, file, program) for cell in missing]
    first = replace(experiments[0], caches=dict(_PATIENT))
    work = _work(boot, folder)
    work.mkdir()
    (work / "cells").write_text("\n".join(cell.name for cell in missing) + "\n")
    run_experiments(first, experiments, emulator, work, _BOUNDS)
    _keep_finished(boot, file, folder, whole=True)


def _work(boot: Boot, folder: FilePath) -> FilePath:
    """Where a boot's machines leave their files, until all of them have ended."""
    return folder / f"{boot.name}.work"


def _keep_finished(boot: Boot, file: FilePath, folder: FilePath, *, whole: bool = False) -> None:
    """Records of a boot's ways; of one that was interrupted, of those that came to their end."""
    work = _work(boot, folder)
    if not (work / "cells").exists():
        return
    by_name = {cell.name: cell for cell in cells(boot)}
    for number, name in enumerate((work / "cells").read_text().split()):
        seen = seen_run(ended_in(work / str(number)))
        if name in by_name and (seen.counts or whole):
            record = _judged(by_name[name], file, seen)
            (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
            sys.stderr.write(f"  {name}: {record['verdict']}, {record['outcome']}\n")
    shutil.rmtree(work)


def _judged(cell: Cell, file: FilePath, seen: SeenRun) -> dict[str, Any]:
    if not seen.tells_cpuid:
        return _record(cell, NOTHING_PREDICTED, seen)
    evidence = machine_evidence(
        seen.cpuid,
        cpus=cell.boot.cpus,
        mem_encrypt=True,
        command_line=f"{COMMAND_LINE} {_command_line(cell.boot)}",
    )
    following = Next.ON if cell.next_encrypts else Next.OFF
    return _record(cell, predicted(evidence, str(file), following, cell.path, cell.without), seen)


def _command_line(boot: Boot) -> str:
    return f"mem_encrypt={_word(boot.encrypts)} {_OPTIONS}"


@cache
def _boot_image(file: FilePath) -> BootImage:
    return boot_image(file)


def _experiment(cell: Cell, image: BootImage, file: FilePath, program: bytes) -> Experiment:
    options, wait = ADVERSARIES[cell.adversary]
    skip = {"skip_wbinvd": _place(file, cell.without)} if cell.without else {}
    return Experiment(
        kernel=image,
        following=Probe(program, cell.next_encrypts, wait),
        command_line=_command_line(cell.boot),
        path=cell.path,
        machine=cell.boot.machine,
        cpus=cell.boot.cpus,
        megabytes=_MEGABYTES.get(cell.boot.kernel, _MEGABYTES_OF_DEBIAN),
        caches={**_PATIENT, **options, **skip},
    )


@cache
def _place(file: FilePath, site: Site) -> str:
    return skipped_flush(load_image(file), site)


def _record(cell: Cell, prediction: Prediction, seen: SeenRun) -> dict[str, Any]:
    handover = seen.handover
    return {
        "kernel": cell.boot.kernel,
        "machine": str(cell.boot.machine),
        "cpus": cell.boot.cpus,
        "old": cell.boot.encrypts,
        "next": cell.next_encrypts,
        "path": str(cell.path),
        "adversary": cell.adversary,
        "without": None if cell.without is None else str(cell.without),
        "verdict": str(prediction.verdict),
        "broken": prediction.broken,
        "role": prediction.role,
        "unknown": list(prediction.unknown),
        "outcome": str(seen.outcome),
        "why": seen.not_observed_because if seen.outcome is RunOutcome.NOT_OBSERVED else "",
        "destroyed": seen.destroyed,
        "destroyed_by_alias": dict(seen.counts.get("destroyed", {})),
        "loads": seen.counts.get("destroyed_loads", 0),
        "races": list(seen.races),
        "dirty": [dict(each.dirty) for each in handover.caches] if handover else [],
        "flushes": [
            (flush.instruction, flush.at.cpu, f"{flush.at.rip:#x}", flush.dirty)
            for flush in seen.flushes
        ],
        "fault": seen.fault,
        "chains": [asdict(chain) for chain in seen.chains[:3]],
        "disagreement": disagreement(prediction, seen),
        "last_lines": list(seen.last_lines[-4:]),
        "seconds": round(seen.seconds, 1),
    }


def _records(results: FilePath) -> Iterator[dict[str, Any]]:
    for file in sorted(results.glob("*/*.json")):
        yield json.loads(file.read_text())


def _table(records: list[dict[str, Any]]) -> str:
    """For docs/machine.md: what was predicted of each handover, and what its runs have shown."""
    rows = [
        "| kernel | CPUs | handover | predicted | runs | destroyed in, at most | other |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = sorted({_handover(record) for record in records})
    for key in keys:
        several = [record for record in records if _handover(record) == key]
        rows.append(f"| {' | '.join((*key, *_seen(several)))} |")
    observed = [record for record in records if record["outcome"] != RunOutcome.NOT_OBSERVED]
    contradicting = [record for record in observed if record["disagreement"]]
    missed = [key for key in keys if _is_missed([r for r in records if _handover(r) == key])]
    rows.append("")
    rows.append(
        f"{len(records)} runs, {len(observed)} of them observed; {len(contradicting)} contradict "
        f"what is predicted, and {len(missed)} handovers at risk were not seen to destroy anything."
    )
    rows += [f"- {_cell_words(record)}: {record['disagreement']}" for record in contradicting]
    rows += [f"- nothing seen: {', '.join(key)}" for key in missed]
    return "\n".join(rows) + "\n"


def _handover(record: Mapping[str, Any]) -> tuple[str, str, str]:
    transition = f"{_word(record['old'])}→{_word(record['next'])} {record['path']}"
    without = f", without {record['without']}" if record["without"] else ""
    return record["kernel"], f"{record['cpus']} {record['machine']}", f"{transition}{without}"


def _seen(several: Sequence[Mapping[str, Any]]) -> tuple[str, str, str, str]:
    first = several[0]
    broken = f" ({first['broken']}, {first['role']})" if first["broken"] else ""
    counts = [record["destroyed"] for record in several if record["destroyed"]]
    destroyed = f"{len(counts)}, {max(counts):,}" if counts else "0"
    others = Counter(
        record["outcome"]
        for record in several
        if record["outcome"] not in (RunOutcome.CLEAN, RunOutcome.DESTROYED)
    )
    other = ", ".join(f"{count} {outcome}" for outcome, count in sorted(others.items()))
    return f"{first['verdict']}{broken}", str(len(several)), destroyed, other


def _is_missed(several: Sequence[Mapping[str, Any]]) -> bool:
    """At risk is predicted, and no run has shown it, though each adversary was tried."""
    at_risk = several[0]["verdict"] == "at-risk"
    bad = (RunOutcome.DESTROYED, RunOutcome.RACE)
    return at_risk and not any(record["outcome"] in bad for record in several)


def _cell_words(record: Mapping[str, Any]) -> str:
    return f"{', '.join(_handover(record))}, {record['adversary']}"


if __name__ == "__main__":
    sys.exit(main())
