# SPDX-License-Identifier: GPL-2.0-or-later
"""The face for programs: what the commands answer, typed, with the same documents as ``--json``.

``import staleline`` gives all of it; docs/api.md has examples. Everything else may change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from staleline.vocabulary import Path, Verdict, worst

if TYPE_CHECKING:
    from staleline.evidence.snapshot import Snapshot

__all__ = [
    "CheckedRule",
    "ComparedRules",
    "Evidence",
    "JudgedMachine",
    "ProvedRule",
    "ReadImage",
    "check_rule",
    "compare_rules",
    "judge_machine",
    "prove_rule",
    "read_evidence",
    "read_images",
]

_PROVED = {"proved": True, "counterexample": False, "verified-up-to-N": None}

#: A document of ``--json``, by its JSON Schema.
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of one machine.

    Attributes:
        source: The file, or "this host".
    """

    source: str
    _snapshot: Snapshot = field(repr=False)

    @property
    def facts(self) -> Mapping[str, bool | int | str | tuple[int, ...] | None]:
        """Fact -> value; None where the evidence leaves it open."""
        from staleline.facts import from_snapshot

        return {fact.name: fact.value for fact in from_snapshot(self._snapshot)}

    @property
    def document(self) -> Document:
        """``staleline/facts/1``: each fact with its evidence, or how to get it."""
        from staleline.facts import from_snapshot
        from staleline.report.machines.facts_json import facts_document

        return facts_document([(self.source, from_snapshot(self._snapshot))], [], [])


@dataclass(frozen=True, slots=True)
class JudgedMachine:
    """One machine with one kernel.

    Attributes:
        verdict: The worst over all handovers.
        by_path: The same per path.
        unknown: What is missing, and how to get it; one sentence each.
        document: ``staleline/audit/1``.
    """

    verdict: Verdict
    by_path: Mapping[Path, Verdict]
    unknown: tuple[str, ...]
    document: Document = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReadImage:
    """What an image was read to do.

    Attributes:
        file: As it was given.
        error: Why it could not be read; everything else is then None.
        release: What ``uname -r`` says when it runs.
        rule: The policy of the catalogue that it carries; None if it carries none of them.
        unknown: What could not be established.
        document: Its entry in ``staleline/kernel/1``.
    """

    file: str
    error: str | None
    release: str | None
    rule: str | None
    unknown: tuple[str, ...]
    document: Document | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class CheckedRule:
    """A policy on every class of platform.

    Attributes:
        verdict: The worst over all handovers.
        document: ``staleline/check/1``.
    """

    verdict: Verdict
    document: Document = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProvedRule:
    """A policy for any number of CPUs.

    Attributes:
        proved: True if it is on every platform, False if there is a counterexample, None if
            neither could be shown.
        document: ``staleline/prove/1``.
    """

    proved: bool | None
    document: Document = field(repr=False)


@dataclass(frozen=True, slots=True)
class ComparedRules:
    """Two rules against each other.

    Attributes:
        worse: Something that was safe becomes unsafe.
        document: ``staleline/diff/1``.
    """

    worse: bool
    document: Document = field(repr=False)


def read_evidence(file: str | PathLike[str] | None = None) -> Evidence:
    """Read what a file or directory says of a machine, in any format; None for this host.

    Raises:
        EvidenceError: It cannot be read, is of no known format, or is damaged.
        ContradictionError: It contradicts itself.
    """
    from staleline.evidence.detect import read_snapshot
    from staleline.evidence.live import collect

    if file is None:
        return Evidence("this host", collect())
    return Evidence(fspath(file), read_snapshot(file))


def judge_machine(
    evidence: Evidence,
    kernel: str | None = None,
    *,
    following: str = "any",
    append: str | None = None,
    reuse_cmdline: bool = False,
    paths: Iterable[Path] = tuple(Path),
    msr: Iterable[str] = (),
    cmdline: str | None = None,
    state: Iterable[str] = (),
    cache: bool = True,
) -> JudgedMachine:
    """Could this kexec leave incoherent cache lines behind, and are they written back first?

    Args:
        evidence: The machine.
        kernel: The old kernel: an image, a release or a policy; None for the one that runs there.
        following: The next kernel: on, off, same or any by its memory encryption, or its image.
        append: The next image's command line; None for any.
        reuse_cmdline: The next image's: the running one, and `append`.
        paths: Which ways into the next kernel, at least one.
        msr: What the evidence lacks, as ``0xc0010010=0x800000``.
        cmdline: The old kernel's command line, if the evidence lacks it.
        state: What else it lacks, as ``sev_guests_run=no``.
        cache: Take what an image's code decided before, and keep what it decides now.

    Raises:
        StalelineError: Something that was given makes no sense or contradicts the evidence.
    """
    from staleline.evidence.given import Given
    from staleline.kernel.reading.decided import image_opener
    from staleline.report.machines.audit_json import audit_document
    from staleline.verdict.audit.agreement import audit_of
    from staleline.verdict.audit.subject import subject_of
    from staleline.verdict.audit.wanted_next import next_kernel

    ways = _paths(paths)
    given = Given(tuple(msr), cmdline, tuple(state))
    subject = subject_of(
        evidence._snapshot, kernel, given, open_image=image_opener(use_cache=cache)
    )
    wanted = next_kernel(
        following,
        subject.snapshot,
        append=append,
        reuse=reuse_cmdline,
        crash=ways == (Path.CRASH,),
    )
    audit = audit_of(subject, following=wanted, paths=ways)
    return JudgedMachine(
        verdict=audit.verdict,
        by_path=audit.by_path,
        unknown=tuple(map(str, audit.unknown)),
        document=audit_document(audit, {}),
    )


def _paths(named: Iterable[str]) -> tuple[Path, ...]:
    """Each once.

    Raises:
        UsageError: There is none, of which everything would hold, or one that is no path.
    """
    from staleline.errors import UsageError

    # A list to be compared with: what a program hands over may be anything.
    words = list(Path)
    several = [named] if isinstance(named, str) else list(named)
    if not several or not all(one in words for one in several):
        shown = ", ".join(ascii(str(one)) for one in several) or "none"
        raise UsageError(f"no ways into the next kernel: {shown}", do=f"give {' or '.join(Path)}")
    return tuple(dict.fromkeys(map(Path, several)))


def read_images(
    files: Iterable[str | PathLike[str]],
    *,
    jobs: int | None = None,
    seconds: float = 120.0,
    cache: bool = True,
) -> tuple[ReadImage, ...]:
    """Which rule do these images carry? Those that cannot be read say why.

    Args:
        files: Kernel images of any kind, packages, build trees.
        jobs: Processes at a time; None for one per core.
        seconds: How long one image may take.
        cache: Take what was read before, and keep what is read now.
    """
    from staleline.kernel.reading.imagereport import ReadingOptions
    from staleline.kernel.reading.many import read_images as read
    from staleline.report.images.kernel_json import kernel_document

    reports = read([fspath(file) for file in files], ReadingOptions(jobs, seconds, cache))
    documents = kernel_document(reports)["images"]
    return tuple(
        ReadImage(
            file=report.image,
            error=report.error,
            release=document.get("release"),
            rule=document.get("policy"),
            unknown=tuple(document["unknown"]),
            document=None if report.error else document,
        )
        for report, document in zip(reports, documents, strict=True)
    )


def check_rule(policy: str, *, cache: bool = True) -> CheckedRule:
    """Is a rule safe on every class of platform? What of it is unknown is never safe.

    Args:
        policy: A name of the catalogue, a .toml file, or a kernel image.
        cache: As of `read_images`.

    Raises:
        PolicyError: There is none of this name, or it is not well formed.
        KernelImageError: The image cannot be read.
    """
    from staleline.kernel.reading.imagereport import ReadingOptions
    from staleline.report.policies import check as report
    from staleline.verdict.handover.namedrules import named_rules
    from staleline.verdict.policies.platforms import check_kernel

    (rule,) = named_rules((policy,), ReadingOptions(use_cache=cache))
    rows = tuple(check_kernel(rule.kernel))
    verdicts = {row.judgement.verdict for row in rows}
    return CheckedRule(
        verdict=worst(verdicts),
        document=report.check_document(report.RuleCheck(rule, rows)),
    )


def prove_rule(
    policy: str, *, platforms: Iterable[str] | None = None, cache: bool = True
) -> ProvedRule:
    """Is a rule safe with any number of CPUs? Every proof is confirmed by z3.

    Args:
        policy: A name of the catalogue, a .toml file, or a kernel image.
        platforms: Names of platform classes; None for all.
        cache: As of `read_images`.

    Raises:
        PolicyError: There is none of this name, or it is not well formed.
        KernelImageError: The image cannot be read, or a part of its rule is unknown.
    """
    from staleline.kernel.reading.imagereport import ReadingOptions
    from staleline.report.policies.prove import proof_document
    from staleline.verdict.handover.namedrules import named_rules
    from staleline.verdict.policies.platforms import Selection
    from staleline.verdict.policies.proof import prove

    (rule,) = named_rules((policy,), ReadingOptions(use_cache=cache))
    selection = Selection(platforms=None if platforms is None else frozenset(platforms))
    proof = prove(rule.required(), selection)
    return ProvedRule(
        proved=_PROVED[proof.answer],
        document=proof_document(rule, proof, certificate=None, traces={}),
    )


def compare_rules(old: str, new: str, *, cache: bool = True) -> ComparedRules:
    """Where do two rules differ, and which handovers change?

    Args:
        old: A name of the catalogue, a .toml file, or a kernel image.
        new: Likewise.
        cache: As of `read_images`.

    Raises:
        PolicyError: No policy and no file has this name, or the policy is not well formed.
        KernelImageError: An image cannot be read, or a part of its rule is unknown.
    """
    from staleline.kernel.reading.imagereport import ReadingOptions
    from staleline.report.policies.difference import difference_document
    from staleline.verdict.handover.namedrules import ruled_kernels
    from staleline.verdict.policies.difference import compare_kernels

    difference = compare_kernels(*ruled_kernels((old, new), ReadingOptions(use_cache=cache)))
    return ComparedRules(
        worse=any(changed.worse for changed in difference.handovers),
        document=difference_document(difference),
    )
