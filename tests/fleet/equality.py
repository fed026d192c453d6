# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts judged one by one by `audit`, and as a fleet: is every column the same?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from random import Random

from staleline.errors import UsageError
from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.evidence.registers import CpuidTable, Registers
from staleline.evidence.snapshot import KernelEvidence, Snapshot, StateEvidence
from staleline.fleet.intake.adding import AddOptions, add_to_fleet
from staleline.fleet.judging import ClassVerdict, FleetQuestion, class_verdict
from staleline.fleet.ownimages import Images
from staleline.fleet.result import AuditOptions, asked_fleet
from staleline.kernel.boot.decision import Decision, OfflineWay, RawMachine
from staleline.kernel.reading.decided import image_opener
from staleline.verdict.audit.agreement import audit_of
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.audit.old_kernel import choose_kernels
from staleline.verdict.audit.subject import Subject, subject_of, subject_with
from staleline.verdict.handover.kernels import Image, Kernel
from staleline.vocabulary import Path as Way
from staleline.vocabulary import Site
from tests.properties.corpus import RELEASES, Truth, some_truth
from tests.properties.messages import SYSCFG

__all__ = ["COMPARED", "RARE", "audited_alone", "differences", "fleet_of", "some_hosts"]

#: What has to be the same; the evidence of the kernel is said in other words.
COMPARED = (
    *("rule", "verdict", "kexec", "crash", "broken", "missing", "contradictions"),
    *("unneeded", "faults"),
)
_WITH_SNP_RULE = ("6.19.3", "7.3.4+deb13-amd64")
#: Kinds of hosts that no rule's table has a row for.
RARE = ("an SNP guest under 6.19", "a vendor outside the table", "SYSCFG[23] without SME and SEV")
#: Who else names itself in leaf 0: Zhaoxin, Transmeta and DM&P (linux 7.3
#: arch/x86/kernel/cpu/zhaoxin.c, transmeta.c, vortex.c, c_ident).
_OTHER_VENDORS = ("  Shanghai  ", "GenuineTMx86", "Vortex86 SoC")
_SME_LEAF, _SYSCFG_ENABLES = 0x8000_001F, 0x740000 | 1 << 23


def some_hosts(number: int, seed: int, *, machines: int | None = None) -> dict[str, str]:
    """Hosts by name: corpus by firmware by command lines by state, and some that tell less.

    Args:
        number: How many.
        seed: Of what is drawn.
        machines: So many are drawn, and each host is one of them that tells more or less under
            some release; None for a machine each. To run an image on each takes far longest.
    """
    random = Random(seed)
    drawn = [_drawn(random) for _ in range(machines or 0)]
    hosts: dict[str, str] = {}
    while len(hosts) < number:
        name = f"node{len(hosts)}"
        machine = _varied(random, random.choice(drawn)) if drawn else _drawn(random)
        snapshot = _thinned(random, machine)
        text = snapshot_text(replace(snapshot, host=name))
        try:
            parse_snapshot(text, name)
        except ContradictionError:  # refused as a file, which the tests of faults are about
            continue
        hosts[name] = text
    return hosts


def _drawn(random: Random) -> Snapshot:
    """Three of ten are of a rare kind."""
    match random.choice((*RARE, *[None] * 7)):
        case "an SNP guest under 6.19":
            snapshot = _truth(random, lambda truth: truth.guest == "snp").snapshot()
            kernel = replace(snapshot.kernel, release=random.choice(_WITH_SNP_RULE))
            return replace(_varied(random, snapshot), kernel=kernel)
        case "a vendor outside the table":
            name = random.choice(_OTHER_VENDORS).encode()
            ebx, edx, ecx = (int.from_bytes(name[at : at + 4], "little") for at in (0, 4, 8))
            told = _truth(random, lambda truth: truth.cpuid.vendor == "GenuineIntel").snapshot()
            first = told.cpus[0].cpuid.leaves[0, 0]
            return _varied(random, _with_leaf(told, 0, (first[0], ebx, ecx, edx)))
        case "SYSCFG[23] without SME and SEV":
            told = _truth(random, lambda truth: truth.cpuid.vendor == "AuthenticAMD").snapshot()
            bare = _with_leaf(told, _SME_LEAF, (0, 0, 0, 0))
            cpus = tuple(replace(one, msr={SYSCFG: _SYSCFG_ENABLES}) for one in bare.cpus)
            return _varied(random, replace(bare, cpus=cpus))
        case _:
            return _varied(random, some_truth(random).snapshot())


def _truth(random: Random, wanted: Callable[[Truth], bool]) -> Truth:
    return next(truth for truth in iter(lambda: some_truth(random), None) if wanted(truth))


def _with_leaf(snapshot: Snapshot, leaf: int, registers: Registers) -> Snapshot:
    """With another CPUID, and without what other sources told of the one that was there."""
    cpus = tuple(
        replace(one, cpuid=CpuidTable({**one.cpuid.leaves, (leaf, 0): registers}))
        for one in snapshot.cpus
    )
    state = replace(snapshot.state, sme_active=None, tdx_module=None, sev_guests_run=None)
    return replace(snapshot, cpus=cpus, cpuinfo=None, log=None, modules={}, state=state)


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
        return subject_of(observed, None, open_image=_opened)
    return subject_with(observed, _chosen(wanted), wanted)


@cache
def _chosen(wanted: str) -> Sequence[Kernel]:
    return choose_kernels(Snapshot(cpus=()), wanted, open_image=_opened)


@dataclass(frozen=True, eq=False)
class _RunOnce:
    """An image whose code is run at most once on each machine, whoever asks.

    What it does on a machine is a function of both (tests/kernel), and no part of what is compared
    here. Unlike a file of readings it keeps what is unknown, and is written nowhere.
    """

    image: Image
    path: str
    _decisions: dict[str, Decision] = field(default_factory=dict)
    _ways: dict[str, tuple[OfflineWay, ...]] = field(default_factory=dict)

    @property
    def release(self) -> str | None:
        return self.image.release

    @property
    def build_id(self) -> str | None:
        return self.image.build_id

    @cached_property
    def seamcalls(self) -> bool:
        return self.image.seamcalls

    @cached_property
    def doubts(self) -> Mapping[Site, tuple[str, ...]]:
        return self.image.doubts

    def decide(self, machine: RawMachine) -> Decision:
        key = repr(machine)
        if key not in self._decisions:
            self._decisions[key] = self.image.decide(machine)
        return self._decisions[key]

    def offline_ways(self, machine: RawMachine) -> tuple[OfflineWay, ...]:
        key = repr(machine)
        if key not in self._ways:
            self._ways[key] = self.image.offline_ways(machine)
        return self._ways[key]


@lru_cache(1)
def _opened(path: str) -> Image:
    return _RunOnce(image_opener(use_cache=False)(path), path)


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
        options = AuditOptions(FleetQuestion(kernel=kernel, images=Images(open_image=_opened)))
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
