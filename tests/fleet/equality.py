# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts judged one by one by `audit`, and as a fleet: is every column the same?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from random import Random

from staleline.errors import UsageError
from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.evidence.snapshot import KernelEvidence, Snapshot, StateEvidence
from staleline.fleet.images import no_images
from staleline.fleet.intake.adding import AddOptions, add_to_fleet
from staleline.fleet.judging import ClassVerdict, FleetQuestion, class_verdict
from staleline.fleet.result import AuditOptions, asked_fleet
from staleline.kernel.reading.decided import image_opener
from staleline.verdict.audit.agreement import audit_of
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.audit.old_kernel import choose_kernels
from staleline.verdict.audit.subject import Subject, subject_of, subject_with
from staleline.verdict.handover.kernels import Kernel
from staleline.vocabulary import Path as Way
from tests.properties.corpus import RELEASES, some_truth

__all__ = ["COMPARED", "audited_alone", "differences", "fleet_of", "some_hosts"]

#: What has to be the same; the evidence of the kernel is said in other words.
COMPARED = (
    *("rule", "verdict", "kexec", "crash", "broken", "missing", "contradictions"),
    *("unneeded", "faults"),
)
_WITH_SNP_RULE = ("6.19.3", "7.3.4+deb13-amd64")


def some_hosts(number: int, seed: int) -> dict[str, str]:
    """Hosts by name: corpus by firmware by command lines by state, and some that tell less."""
    random = Random(seed)
    hosts: dict[str, str] = {}
    while len(hosts) < number:
        name = f"node{len(hosts)}"
        snapshot = _thinned(random, _varied(random, some_truth(random).snapshot()))
        text = snapshot_text(replace(snapshot, host=name))
        try:
            parse_snapshot(text, name)
        except ContradictionError:  # refused as a file, which the tests of faults are about
            continue
        hosts[name] = text
    return hosts


def _varied(random: Random, snapshot: Snapshot) -> Snapshot:
    """With a command line of a real host around what counts, a build ID, and later releases."""
    kernel = snapshot.kernel
    words = [*(kernel.cmdline or "").split(), f"root=UUID={random.getrandbits(64):x}"]
    release = random.choice((kernel.release, random.choice((*RELEASES, *_WITH_SNP_RULE))))
    return replace(
        snapshot,
        kernel=replace(
            kernel,
            cmdline=" ".join(words),
            release=release,
            build_id=random.choice((None, f"{random.getrandbits(160):040x}")),
        ),
    )


def _thinned(random: Random, snapshot: Snapshot) -> Snapshot:
    """Without some of what could be known."""
    kinds = random.sample(("msr", "cmdline", "state", "log", "cpuinfo", "release", "cpus"), 2)
    for kind in kinds if random.random() < 0.7 else ():
        match kind:
            case "msr":
                cpus = tuple(replace(one, msr={}, msr_faults=frozenset()) for one in snapshot.cpus)
                snapshot = replace(snapshot, cpus=cpus)
            case "cmdline":
                kernel = replace(snapshot.kernel, cmdline=None, loader_cmdline=None)
                snapshot = replace(snapshot, kernel=kernel)
            case "state":
                snapshot = replace(snapshot, state=StateEvidence(tsme=snapshot.state.tsme))
            case "log":
                snapshot = replace(snapshot, log=None)
            case "cpuinfo":
                snapshot = replace(snapshot, cpuinfo=None)
            case "release" if random.random() < 0.1:
                snapshot = replace(snapshot, kernel=KernelEvidence())
            case "cpus" if random.random() < 0.3:
                snapshot = replace(snapshot, cpus=())
    return snapshot


def fleet_of(hosts: Mapping[str, str], directory: Path) -> Path:
    """A fleet of these hosts."""
    lines = directory / "hosts"
    lines.mkdir()
    for name, text in hosts.items():
        (lines / f"{name}.json").write_text(text)
    add_to_fleet(directory / "fleet", [str(lines)], AddOptions(jobs=1))
    return directory / "fleet"


def audited_alone(observed: Snapshot, wanted: str | None) -> ClassVerdict | None:
    """The audit of one host's snapshot; None if it names no kernel that is known."""
    try:
        subject = _subject(observed, wanted)
        return class_verdict(audit_of(subject, following=Next.ANY, paths=tuple(Way)), "")
    except ContradictionError as error:
        ids = ",".join(sorted(error.ids))
        return ClassVerdict(None, "", "unknown", "unknown", "unknown", contradictions=ids)
    except UsageError:
        return None


def _subject(observed: Snapshot, wanted: str | None) -> Subject:
    if wanted is None:
        return subject_of(observed, None, open_image=image_opener())
    return subject_with(observed, _chosen(wanted), wanted)


@cache
def _chosen(wanted: str) -> Sequence[Kernel]:
    """An image is found in the cache of readings once, and not for each host."""
    return choose_kernels(Snapshot(cpus=()), wanted, open_image=image_opener())


@lru_cache(4096)
def _read(text: str) -> Snapshot:
    """Read once for all rules."""
    return parse_snapshot(text, "the host")


def differences(
    hosts: Mapping[str, str], fleet: Path, wanted: Sequence[str | None]
) -> Iterator[str]:
    """Each column of each host in which the fleet's answer is another than `audit`'s."""
    observed = {name: _read(text) for name, text in hosts.items()}
    for kernel in wanted:
        options = AuditOptions(FleetQuestion(kernel=kernel, images=no_images()))
        with asked_fleet(fleet, options) as asked:
            rows = {row["host"]: row for row in asked.rows()}
        if rows.keys() != hosts.keys():
            yield f"{kernel}: {len(rows)} rows of {len(hosts)} hosts"
        for name, snapshot in observed.items():
            alone = audited_alone(snapshot, kernel)
            if alone is None:
                if rows[name]["verdict"] != "unknown" or rows[name]["rule"] is not None:
                    yield f"{kernel} {name}: judged, though nothing names its kernel"
                continue
            for column in COMPARED:
                if rows[name][column] != getattr(alone, column):
                    yield (
                        f"{kernel} {name} {column}: {rows[name][column]!r} in the fleet, "
                        f"{getattr(alone, column)!r} alone"
                    )
