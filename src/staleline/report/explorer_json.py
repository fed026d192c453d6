# SPDX-License-Identifier: GPL-2.0-or-later
"""The data of an explorer page, ``staleline/explorer/1``.

A case is one handover: machine, path and transition. It has one result per kernel, by the
kernel's number. A result at risk names its run, and per other kernel the run of that one in
the same order of events. Texts that recur are numbers of ``texts``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from staleline.check import Answer, Counterexample
from staleline.model.scenario import Flush, ReportOrder, Scenario
from staleline.report.explorer_cases import Case, Explored, ExploredMachine, Result
from staleline.report.explorer_runs import Runs, Texts
from staleline.report.words import state_word
from staleline.vocabulary import Site, Verdict

__all__ = ["SCHEMA", "ExplorerData", "explorer_data"]

SCHEMA = "staleline/explorer/1"

_NOT_IN_NAMES = re.compile(r"[^a-z0-9.]+")


@dataclass(frozen=True, slots=True)
class ExplorerData:
    """What goes into a report.

    Attributes:
        document: For the page.
        traces: File name -> the counterexample to write there as ITF.
    """

    document: dict[str, Any]
    traces: Mapping[str, Counterexample]


def explorer_data(explored: Explored) -> ExplorerData:
    """Number everything, and try every run on the other kernels of its handover."""
    texts = Texts()
    runs = Runs(texts)
    names = _names([machine.name for machine in explored.machines])
    kernels = {kernel.name: number for number, kernel in enumerate(explored.kernels)}
    cases = [
        _case(case, names[case.machine], results, kernels, runs, texts)
        for case, results in explored.results.items()
    ]
    traces = _trace_names(cases, runs)
    document = {
        "schema": SCHEMA,
        "machines": [_machine(machine, names) for machine in explored.machines],
        "kernels": [
            {"name": kernel.name, "note": kernel.note, "rule": kernel.rule}
            for kernel in explored.kernels
        ],
        "cases": cases,
        "runs": [{**run, "trace": traces.get(number)} for number, run in enumerate(runs.documents)],
        "texts": texts.all,
    }
    return ExplorerData(
        document, {name: runs.counterexamples[number] for number, name in traces.items()}
    )


def _names(machines: list[str]) -> dict[str, str]:
    """Names for addresses: letters, digits, points and hyphens, each once."""
    found: dict[str, str] = {}
    for machine in machines:
        base = _NOT_IN_NAMES.sub("-", machine.lower()).strip("-.") or "machine"
        taken = set(found.values())
        number = 1
        while (name := base if number == 1 else f"{base}-{number}") in taken:
            number += 1
        found[machine] = name
    return found


def _machine(machine: ExploredMachine, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": names[machine.name],
        "name": machine.name,
        "note": machine.note,
        "layers": machine.layers,
    }


def _case(  # noqa: PLR0913, PLR0917 - what is numbered, and what numbers it
    case: Case,
    machine: str,
    results: Mapping[str, Result],
    kernels: Mapping[str, int],
    runs: Runs,
    texts: Texts,
) -> dict[str, Any]:
    guests = ".sev-guests" if case.sev_guests_run else ""
    transition = f"{state_word(case.old)}-{state_word(case.next)}"
    return {
        "id": f"{machine}.{case.path}.{transition}{guests}",
        "machine": machine,
        "path": case.path,
        "old": case.old,
        "next": case.next,
        "guests": case.sev_guests_run,
        "results": {
            kernels[name]: {
                **_result(case, result, texts),
                "run": _run(result, runs),
                "followed": _followed(name, results, kernels, runs),
            }
            for name, result in results.items()
        },
    }


def _result(case: Case, result: Result, texts: Texts) -> dict[str, Any]:
    finding = result.finding
    sites = (case.path.secondaries_site, Site.RELOCATE_KERNEL)
    return {
        "verdict": finding.verdict,
        "because": texts.number(finding.because),
        "sites": [
            {
                "site": site,
                "executed": finding.flushes[site],
                "required": finding.needed[site],
                "unneeded": texts.number(finding.unneeded.get(site, "")),
                "faults": site in finding.faults,
            }
            for site in sites
        ],
        "attainable": finding.attainable,
        "reported": _reported(case, result),
        "unknown": [texts.number(reason) for reason in finding.unknown],
        "check": _check(finding.answer),
    }


def _reported(case: Case, result: Result) -> ReportOrder | None:
    """When secondaries are reported stopped; None where that is open, or nobody flushes."""
    orders = {scenario.report for scenario in result.scenarios}
    flushes = result.finding.flushes[case.path.secondaries_site]
    return orders.pop() if len(orders) == 1 and flushes else None


def _check(answer: Answer | None) -> list[Any] | None:
    """How the answer was established: kind, CPUs, states."""
    return None if answer is None else [answer.kind, answer.cpus, answer.states]


def _broken(result: Result) -> Counterexample | None:
    answer = result.finding.answer
    if result.finding.verdict is not Verdict.AT_RISK or answer is None:
        return None
    return answer.counterexample


def _run(result: Result, runs: Runs) -> int | None:
    found = _broken(result)
    return None if found is None else runs.of(found)


def _followed(
    name: str, results: Mapping[str, Result], kernels: Mapping[str, int], runs: Runs
) -> dict[int, int]:
    """Other kernel -> its run in the order of events of this kernel's counterexample."""
    found = _broken(results[name])
    if found is None:
        return {}
    numbers = {
        kernels[other]: runs.followed(found, scenario)
        for other, result in results.items()
        for scenario in _in_same_world(found.scenario, result.scenarios)
        if other != name
    }
    return {other: number for other, number in numbers.items() if number is not None}


def _in_same_world(scenario: Scenario, others: Iterable[Scenario]) -> list[Scenario]:
    """The one that differs in the kernel's rule alone; none if the rule is not known."""
    found = [one for one in others if _without_rule(one) == _without_rule(scenario)]
    return found if len(found) == 1 and found[0] != scenario else []


def _without_rule(scenario: Scenario) -> Scenario:
    return replace(
        scenario,
        flush_secondary=Flush.NEVER,
        flush_jumping=Flush.NEVER,
        report=ReportOrder.AFTER_FLUSH,
    )


def _trace_names(cases: list[dict[str, Any]], runs: Runs) -> dict[int, str]:
    """Number of a run -> file name, after the first handover that has it."""
    found: dict[int, str] = {}
    for case in cases:
        for kernel, result in case["results"].items():
            if result["run"] is not None and result["run"] not in found:
                suffix = f".{kernel + 1}" if kernel else ""
                found[result["run"]] = f"{case['id']}{suffix}.itf.json"
    return {number: found[number] for number in runs.counterexamples}
