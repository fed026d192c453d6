# SPDX-License-Identifier: GPL-2.0-or-later
"""A class with a kernel, judged once by the engine of `audit`, and kept."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, cached_property
from typing import Any

from staleline.errors import KernelImageError, UsageError
from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.snapshot import KernelEvidence, Snapshot
from staleline.facts import MachineFacts
from staleline.facts.capacity import CacheCapacity
from staleline.fleet.asked import (
    ClassValues,
    asked_values,
    machine_facts,
    number_of,
    registers_kind,
)
from staleline.fleet.ownimages import Images
from staleline.fleet.store import Fleet
from staleline.fleet.subjects import FleetSubject
from staleline.kernel.file.buildtree import built_image
from staleline.kernel.file.source import file_digest
from staleline.kernel.reading.cache import edition
from staleline.verdict.audit.agreement import audit
from staleline.verdict.audit.audit import Audit
from staleline.verdict.audit.cost import bandwidth_of, flush_times
from staleline.verdict.audit.identity import identity_of
from staleline.verdict.audit.next_kernel import Following
from staleline.verdict.audit.old_kernel import choose_kernels
from staleline.verdict.audit.subject import subject_with
from staleline.verdict.audit.wanted_next import next_kernel
from staleline.verdict.handover.kernels import ImageKernel, Kernel, PolicyKernel
from staleline.verdict.handover.release import kernels_of_release
from staleline.vocabulary import Path, Site, Verdict

__all__ = [
    "NO_KERNEL",
    "NO_RULE",
    "Asked",
    "ClassVerdict",
    "FleetQuestion",
    "Judge",
    "class_verdict",
    "flush_milliseconds",
    "keep_verdicts",
    "kept_verdicts",
    "with_kernel",
]

#: Ids of why nothing was judged; they have pages in `explain`.
NO_KERNEL, NO_RULE = "kernel-not-named", "no-rule-for-release"
_NOTHING_GIVEN = Snapshot(cpus=())


@dataclass(frozen=True, slots=True)
class FleetQuestion:
    """What is asked of every host.

    Attributes:
        kernel: Another kernel than its own: an image, a release or a policy.
        following: The next kernel: on, off, same, any, or an image.
        append: That image's command line; None for any.
        images: The owner's kernels, for hosts that run one of them.
    """

    kernel: str | None = None
    following: str = "any"
    append: str | None = None
    images: Images = field(default_factory=Images)

    @property
    def number(self) -> int:
        """The same for the same question about the same files, asked of the same program."""
        named = (self.kernel, self.following, self.append)
        return number_of(edition(whole=True), named, self.digests, self.images.digests)

    @property
    def digests(self) -> list[str]:
        """Of the files that it names, each of which may be replaced by another of its name."""
        files = (_file_of(name) for name in (self.kernel, self.following) if name is not None)
        return [file_digest(file) for file in files if file is not None]


def _file_of(name: str) -> str | None:
    try:
        file = built_image(name) if os.path.isdir(name) else name
    except KernelImageError:  # a folder that is called as a policy or a release is
        return None
    return file if os.path.isfile(file) else None


@dataclass(frozen=True, slots=True)
class ClassVerdict:
    """What all hosts of a class with a kernel come to; lists are joined by commas.

    Attributes:
        rule: The policy, or the image's release; several policies joined by "or".
        kernel_evidence: How the rule is known.
        broken: Properties that counterexamples break, as PATH:PROPERTY.
        missing: Ids of what is not known and decides.
        contradictions: Ids of what excludes each other.
        unneeded: Flushes that no stale line required, as PATH:SITE.
        faults: Flushes that trap, as PATH:SITE.
        pattern: Which flushes a kexec executes, for their cost.
        note: Why, where nothing was judged.
    """

    rule: str | None
    kernel_evidence: str
    verdict: str
    kexec: str
    crash: str
    broken: str = ""
    missing: str = ""
    contradictions: str = ""
    unneeded: str = ""
    faults: str = ""
    pattern: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A class with the kernels that it is judged with.

    Attributes:
        values: Its facts under these kernels.
        kernels: None if that is not known.
        evidence: How they are known.
        key: What of them decides.
        snapshot: One of its hosts, for an image to be run on.
        unjudged: Why it is not judged.
    """

    values: ClassValues
    kernels: Sequence[Kernel] = ()
    evidence: str = ""
    key: object = None
    snapshot: Callable[[], Snapshot] = lambda: _NOTHING_GIVEN
    unjudged: ClassVerdict | None = None


def _unjudged(evidence: str, missing: str, note: str, *, contradicted: str = "") -> ClassVerdict:
    unknown = Verdict.UNKNOWN.value
    return ClassVerdict(
        None, evidence, unknown, unknown, unknown, "", missing, contradicted, note=note
    )


def class_verdict(judged: Audit, evidence: str) -> ClassVerdict:
    """An audit as columns."""
    return ClassVerdict(
        rule=judged.kernel,
        kernel_evidence=evidence,
        verdict=judged.verdict.value,
        kexec=judged.by_path[Path.KEXEC].value,
        crash=judged.by_path[Path.CRASH].value,
        broken=_joined(f"{path}:{name}" for path in Path for name in judged.broken(path)),
        missing=_joined(reason.id for reason in judged.unknown),
        unneeded=_joined(f"{row.path}:{site}" for row in judged.handovers for site in row.unneeded),
        faults=_joined(f"{row.path}:{site}" for row in judged.handovers for site in row.faults),
        pattern=_pattern(judged),
    )


def _joined(words: Iterable[str]) -> str:
    return ",".join(sorted(set(words)))


def _pattern(judged: Audit) -> str:
    """Which flushes a kexec executes: yes, no or ? for the secondaries and the jumping CPU."""
    # For a guest's WBINVD KVM executes nothing, so that there are no times (docs/cost.md).
    if judged.facts.boolean("hypervisor"):
        return "guest"
    rows = [row for row in judged.handovers if row.path is Path.KEXEC]
    return "".join(
        _executed({row.flushes[site] for row in rows})
        for site in (Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL)
    )


def _executed(flushes: set[bool | None]) -> str:
    return {True: "y", False: "n", None: "?"}[flushes.pop() if len(flushes) == 1 else None]


#: Of its flushes: the secondaries', and the jumping CPU's.
_BOUNDED = ("yy", "yn", "ny", "nn")


def flush_milliseconds(hardware: Mapping[str, Any]) -> Mapping[str, float]:
    """What the flushes of a kexec likely take, by pattern; those that are not bounded are out.

    Args:
        hardware: A row of the table.
    """
    if hardware["socket"] is None:
        return {}
    capacity = CacheCapacity(
        socket=hardware["socket"],
        cluster=hardware["cluster"],
        jumping_cpu=hardware["jumping_cpu"],
        source="the fleet",
    )
    times = flush_times(capacity, bandwidth_of(_cpu(hardware)))
    likely = [times[what][1] or 0.0 for what in ("socket", "jumping_cpu")]
    return {
        pattern: 1000
        * sum((one for flushes, one in zip(pattern, likely, strict=True) if flushes == "y"), 0.0)
        for pattern in _BOUNDED
    }


def _cpu(hardware: Mapping[str, Any]) -> MachineFacts:
    names = ("vendor", "family", "model", "stepping")
    untold = _facts_of_nothing()
    return MachineFacts.of(
        untold[name]
        if hardware[name] is None
        else type(untold[name])(name, untold[name].layer, "", hardware[name], source="the fleet")
        for name in names
    )


@cache
def _facts_of_nothing() -> MachineFacts:
    from staleline.facts import from_snapshot

    return from_snapshot(_NOTHING_GIVEN)


class Judge:
    """Answers a question for each subject; subjects that are alike are judged once.

    Attributes:
        judged: How many were judged by the engine, and not known before.
        seconds: Of the CPU, that these took.
    """

    def __init__(
        self, question: FleetQuestion, known: Callable[[], dict[str, ClassVerdict]] = dict
    ) -> None:
        self.question = question
        self._known = known
        self.judged = 0
        self.seconds = 0.0
        self.following: Following = next_kernel(
            question.following, _NOTHING_GIVEN, append=question.append, reuse=False, crash=False
        )
        self._wanted = (
            None
            if question.kernel is None
            else choose_kernels(_NOTHING_GIVEN, question.kernel, question.images.open_image)
        )
        self._files = question.digests
        self._as_if: dict[tuple[Hashable, ...], tuple[ClassValues, str, Snapshot]] = {}

    @cached_property
    def verdicts(self) -> dict[str, ClassVerdict]:
        """What is known, by what decides it; not read where nothing is to be judged."""
        return self._known()

    def verdict(self, subject: FleetSubject) -> ClassVerdict:
        """What its hosts come to."""
        return self.verdict_of(self.asked(subject))

    def verdict_of(self, asked: Asked) -> ClassVerdict:
        """What a class comes to, be it one of the fleet's or one that is supposed."""
        if asked.unjudged is not None:
            return asked.unjudged
        following, append = self.question.following, self.question.append
        known = json.dumps([asked.values, asked.key, following, append, self._files])
        if known not in self.verdicts:
            start = time.process_time()
            self.verdicts[known] = self._judge(asked)
            self.judged += 1
            self.seconds += time.process_time() - start
        # How a kernel is known decides nothing: hosts of which it is known otherwise share the
        # verdict.
        return replace(self.verdicts[known], kernel_evidence=asked.evidence)

    def audit(self, asked: Asked) -> Audit:
        """What `audit` says of a class.

        Raises:
            ContradictionError: No machine fits.
        """
        on_this = [
            # Read only now: most classes have no image that is to be run on a profile.
            replace(kernel, snapshot=asked.snapshot())
            if isinstance(kernel, ImageKernel)
            else kernel
            for kernel in asked.kernels
        ]
        facts = machine_facts(asked.values)
        # There is no rule here: what a class comes to is what is said of a machine with its facts.
        return audit(facts, on_this, following=self.following, paths=tuple(Path))

    def _judge(self, asked: Asked) -> ClassVerdict:
        try:
            return class_verdict(self.audit(asked), asked.evidence)
        except ContradictionError as error:
            return _unjudged(asked.evidence, "", error.what, contradicted=_joined(error.ids))

    def asked(self, subject: FleetSubject) -> Asked:
        """Its facts and kernels under this question."""
        if self._wanted is not None and self.question.kernel is not None:
            return self._under_another(subject, self._wanted, self.question.kernel)
        image = self.question.images.of(subject.release, subject.build_id)
        if image is not None:
            kernels: Sequence[Kernel] = (ImageKernel(image.image, _NOTHING_GIVEN),)
            key = [image.digest, subject.registers]
            return Asked(
                subject.values, kernels, f"image, by {image.by}", key, lambda: subject.snapshot
            )
        if subject.release is None:
            note = "the evidence names no kernel; give --kernel, or collect again"
            return Asked(subject.values, unjudged=_unjudged("none", NO_KERNEL, note))
        try:
            kernels = _by_release(subject.release)
        except UsageError as error:
            return Asked(subject.values, unjudged=_unjudged("release", NO_RULE, str(error)))
        return Asked(subject.values, kernels, "release", _key_by_release(subject.release))

    def _under_another(
        self, subject: FleetSubject, kernels: Sequence[Kernel], wanted: str
    ) -> Asked:
        """Its facts as they are under another kernel: what its own did counts no more."""
        running = KernelEvidence(release=subject.release, build_id=subject.build_id)
        what_if = identity_of(running, kernels, wanted).what_if
        # Of a kernel that may be the running one, command line and log are read as of the host's
        # release; only of another one nothing depends on it (`verdict.audit.identity`).
        identity = (subject.profile, what_if, None if what_if else subject.release)
        if identity not in self._as_if:
            under = subject_with(subject.snapshot, kernels, wanted)
            values, registers = asked_values(under.facts), registers_kind(under.snapshot)
            self._as_if[identity] = values, registers, under.snapshot
        values, registers, snapshot = self._as_if[identity]
        return Asked(values, kernels, "named", _key(kernels, registers), lambda: snapshot)


_by_release = cache(kernels_of_release)


@cache
def _key_by_release(release: str) -> int:
    # A release stands for rules, which ask for no registers.
    return _key(_by_release(release), "")


def with_kernel(asked: Asked, kernel: Kernel, registers: str) -> Asked:
    """The same class with one of its kernels alone."""
    return replace(asked, kernels=(kernel,), key=_key((kernel,), registers))


def _key(kernels: Sequence[Kernel], registers: str) -> int:
    """What of kernels decides: rules and what their release does, or an image and its machine."""
    # As a number: the rules of a release are long, and stand beside each of thousands of classes.
    return number_of(
        *(
            [kernel.policy.name, _rule(kernel), kernel.release]
            if isinstance(kernel, PolicyKernel)
            else [getattr(getattr(kernel, "image", None), "path", kernel.name), registers]
            for kernel in kernels
        )
    )


def _rule(kernel: PolicyKernel) -> list[str]:
    policy = kernel.policy
    in_a_crash = [f"{site}: {rule}" for site, rule in sorted(policy.in_a_crash.items())]
    conditions = [str(policy.condition(site)) for site in Site]
    return [*conditions, *in_a_crash, str(policy.encrypts), *sorted(policy.lacks)]


# ---- what was judged before ----------------------------------------------------------------


def kept_verdicts(fleet: Fleet) -> dict[str, ClassVerdict]:
    """What this edition judged before for this fleet; nothing if that cannot be read."""
    try:
        document = json.loads(fleet.verdicts.read_bytes())
        if document["edition"] != edition(whole=True):
            return {}
        names = [one.name for one in fields(ClassVerdict)]
        return {
            key: ClassVerdict(**dict(zip(names, row, strict=True)))
            for key, row in document["verdicts"].items()
        }
    # Kept verdicts may be deleted at any time, so that whatever is wrong with them they are made
    # anew.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def keep_verdicts(fleet: Fleet, verdicts: Mapping[str, ClassVerdict]) -> None:
    """Keep them; a fleet that cannot be written to goes without."""
    document = {
        "edition": edition(whole=True),
        "verdicts": {key: list(asdict(one).values()) for key, one in sorted(verdicts.items())},
    }
    try:
        fleet.write(fleet.verdicts, json.dumps(document).encode())
    except UsageError:
        return
