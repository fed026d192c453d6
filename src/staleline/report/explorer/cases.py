# SPDX-License-Identifier: GPL-2.0-or-later
"""What an explorer page shows: handovers as rows, kernels side by side on each.

Made from audits (an operator's machines with their kernels) or from checks of policies on
platform classes (a reviewer's); from here on both are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from staleline.model.scenario import Scenario
from staleline.report.explorer.layers import Layers, audit_layers, platform_layers
from staleline.report.policies.subject import identity_lines
from staleline.report.words.identity import identity_words
from staleline.report.words.judged import Judged
from staleline.report.words.words import state_word
from staleline.verdict.audit.audit import Audit
from staleline.verdict.handover.readkernel import NamedRule, PartlyReadKernel
from staleline.verdict.handover.unknown import asked_once
from staleline.verdict.policies.platforms import PlatformHandover, platforms
from staleline.vocabulary import Path, Site, Verdict, worst

__all__ = [
    "ComparedCase",
    "ExploredKernel",
    "ExploredKernels",
    "ExploredMachine",
    "Overall",
    "Result",
    "of_audits",
    "of_rules",
    "run_title",
]


@dataclass(frozen=True, slots=True)
class Result:
    """What one kernel's handover comes to, and the scenarios that the model checked for it."""

    finding: Judged
    scenarios: tuple[Scenario, ...]


@dataclass(frozen=True, slots=True)
class ExploredMachine:
    """A machine, or a platform class.

    Attributes:
        name: The platform's name, or what the user called the snapshot.
        note: One line on what it is.
        layers: Layer -> what is known in it.
    """

    name: str
    note: str
    layers: Layers


@dataclass(frozen=True, slots=True)
class ExploredKernel:
    """An old kernel.

    Attributes:
        name: The policy's name or the image's release.
        note: The policy's title, or how the image's behaviour is known.
        rule: What is written of its rule: (label, text); empty for a machine's image.
    """

    name: str
    note: str
    rule: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ComparedCase:
    """A handover without its old kernel: what several kernels are compared on."""

    machine: str
    path: Path
    old: bool
    next: bool
    sev_guests_run: bool


@dataclass(frozen=True, slots=True)
class Overall:
    """What one kernel on one machine comes to.

    Attributes:
        by_path: Path -> verdict over all its handovers.
        missing: What is missing where that is unknown, and how to get it.
    """

    by_path: Mapping[Path, Verdict]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExploredKernels:
    """Everything on the page.

    Attributes:
        machines: In the order given.
        kernels: In the order given.
        results: Handover -> name of the kernel -> its result.
        overall: (machine's name, kernel's name) -> what it comes to.
        called: What the machines are together: ``machines`` or ``platform classes``.
        files: File that it rests on -> its digest, and an image's build ID.
        under: What was left out, accepted or supposed: without it verdicts read like all there is.
    """

    machines: tuple[ExploredMachine, ...]
    kernels: tuple[ExploredKernel, ...]
    results: Mapping[ComparedCase, Mapping[str, Result]]
    overall: Mapping[tuple[str, str], Overall]
    called: str = "machines"
    files: Mapping[str, str] = field(default_factory=dict)
    under: tuple[str, ...] = ()


def run_title(kernel: str, case: ComparedCase) -> str:
    """What a picture of a run is of: whose kernel's, on which machine, and which handover."""
    guests = ", SEV guests" if case.sev_guests_run else ""
    transition = f"{state_word(case.old)}→{state_word(case.next)}{guests}"
    return f"{kernel} on {case.machine}: {case.path} {transition}"


def of_audits(audits: Iterable[tuple[str, str, Audit]]) -> ExploredKernels:
    """The page of audits, each with its machine's and its kernel's name."""
    audits = tuple(audits)
    kernels = _evidence_by_kernel(audits)
    # The first audit of a machine tells its facts: later ones are mostly of other kernels.
    machines = {name: audit for name, _, audit in reversed(audits)}
    rows = (
        (
            # Whether guests ran is a fact of an audited machine, and only of a class an open
            # question.
            ComparedCase(name, row.path, row.old, row.next, sev_guests_run=False),
            kernel,
            Result(row, row.scenarios),
        )
        for name, kernel, audit in audits
        for row in audit.handovers
    )
    return ExploredKernels(
        machines=tuple(
            ExploredMachine(name, _processor(audit), audit_layers(audit.facts, audit.given))
            for name, audit in reversed(machines.items())
        ),
        kernels=tuple(ExploredKernel(name, note) for name, note in kernels.items()),
        results=_by_case(rows),
        overall={
            (name, kernel): Overall(audit.by_path, _missing(audit))
            for name, kernel, audit in audits
        },
        under=tuple(_supposed(audits, machines)),
    )


def _missing(audit: Audit) -> tuple[str, ...]:
    """Of all of it: one path may be unknown where another one is at risk."""
    return asked_once((*audit.unknown, *(why for row in audit.handovers for why in row.unknown)))


def _evidence_by_kernel(audits: Sequence[tuple[str, str, Audit]]) -> dict[str, str]:
    """How each kernel is known; where that differs by machine, on which in what way."""
    told: dict[str, dict[str, list[str]]] = {}
    for name, kernel, audit in audits:
        told.setdefault(kernel, {}).setdefault(audit.kernel_evidence, []).append(name)
    return {
        kernel: "; ".join(
            f"{evidence} (on {', '.join(names)})" if len(ways) > 1 else evidence
            for evidence, names in ways.items()
        )
        for kernel, ways in told.items()
    }


def _supposed(
    audits: Iterable[tuple[str, str, Audit]], machines: dict[str, Audit]
) -> Iterator[str]:
    """What verdicts rest on that nobody observed."""
    for name, audit in reversed(machines.items()):
        if audit.given:
            yield f"{name}: given by you, not observed: {', '.join(audit.given)}"
    for name, kernel, audit in audits:
        if audit.identity.what_if:
            yield f"{kernel} on {name}: {identity_words(audit.identity)}"


def of_rules(
    checks: Iterable[tuple[str, NamedRule, Iterable[PlatformHandover]]],
) -> ExploredKernels:
    """The page of rules, each with its name there and its check on platform classes."""
    checks = tuple((name, rule, tuple(rows)) for name, rule, rows in checks)
    named = dict.fromkeys(row.platform for _, _, rows in checks for row in rows)
    rows = (
        (
            ComparedCase(row.platform, row.path, row.old, row.next, row.sev_guests_run),
            name,
            Result(row.judgement, row.judgement.scenarios),
        )
        for name, _, of_rule in checks
        for row in of_rule
    )
    return ExploredKernels(
        machines=tuple(
            ExploredMachine(name, platforms()[name].example, platform_layers(platforms()[name]))
            for name in named
        ),
        kernels=tuple(
            ExploredKernel(name, _note(rule), tuple(_rule(rule))) for name, rule, _ in checks
        ),
        results=_by_case(rows),
        overall={
            (platform, name): Overall(_worst_by_path(rows, platform), rule.unknown)
            for name, rule, rows in checks
            for platform in named
        },
        called="platform classes",
        files={
            rule.given: f"SHA-256 {rule.document['sha256']}, build ID {rule.document['build_id']}"
            for _, rule, _ in checks
            if rule.document is not None
        },
    )


def _worst_by_path(rows: Iterable[PlatformHandover], platform: str) -> dict[Path, Verdict]:
    by_path: dict[Path, set[Verdict]] = {}
    for row in rows:
        if row.platform == platform:
            by_path.setdefault(row.path, set()).add(row.judgement.verdict)
    return {path: worst(verdicts) for path, verdicts in by_path.items()}


def _by_case(
    rows: Iterable[tuple[ComparedCase, str, Result]],
) -> dict[ComparedCase, dict[str, Result]]:
    found: dict[ComparedCase, dict[str, Result]] = {}
    for case, kernel, result in rows:
        found.setdefault(case, {})[kernel] = result
    return found


def _processor(audit: Audit) -> str:
    parts = ("vendor", "family", "model", "stepping")
    known = ((part, audit.facts[part].value) for part in parts)
    return " ".join(f"{'' if part == 'vendor' else part + ' '}{value}" for part, value in known)


def _note(rule: NamedRule) -> str:
    return rule.title if rule.document is None else f"{rule.title}; {rule.kernel.evidence}"


def _rule(rule: NamedRule) -> Iterator[tuple[str, str]]:
    """What is known of it."""
    policy, kernel = rule.policy, rule.kernel
    open_sites = kernel.unknown if isinstance(kernel, PartlyReadKernel) else {}
    for site in Site:
        known = site not in open_sites
        yield f"WBINVD in {site} if", str(policy.condition(site)) if known else "unknown"
    for site, condition in policy.in_a_crash.items():
        yield f"WBINVD in {site} in a crash if", str(condition)
    if not (isinstance(kernel, PartlyReadKernel) and kernel.order):
        yield "reported stopped", policy.reported.replace("-", " ")
    if rule.document is not None:
        yield from identity_lines(rule)
    yield from (("source", source) for source in policy.sources)
    yield from (("known bug", bug) for bug in policy.bugs)
