# SPDX-License-Identifier: GPL-2.0-or-later
"""The data of an explorer page, ``staleline/explorer/1``.

A case is one handover: machine, path and transition. It has one result per kernel, by the
kernel's number. A result at risk names its run, and per other kernel the run of that one in
the same order of events. Texts, facts and results recur, and are referred to by number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from staleline.check.answer import Answer
from staleline.check.runs.trace import Counterexample
from staleline.model.scenario import Flush, ReportOrder, Scenario
from staleline.report.explorer.cases import (
    ComparedCase,
    ExploredKernels,
    ExploredMachine,
    Result,
    run_title,
)
from staleline.report.explorer.runs import Numbers, Runs
from staleline.report.words.words import state_word
from staleline.vocabulary import Site, Verdict

__all__ = ["SCHEMA", "ExplorerData", "explorer_data"]

SCHEMA = "staleline/explorer/1"

_NOT_IN_NAMES = re.compile(r"[^a-z0-9.]+")
#: They begin names of files, which end at 255 bytes, and hosts and files may be called anything.
_NAME_MAX = 120


@dataclass(frozen=True, slots=True)
class ExplorerData:
    """What goes into a report.

    Attributes:
        document: For the page.
        traces: File name -> the counterexample to write there as ITF.
        titles: File name -> what that is of.
    """

    document: dict[str, Any]
    traces: Mapping[str, Counterexample]
    titles: Mapping[str, str]


def explorer_data(explored: ExploredKernels) -> ExplorerData:
    """Number everything, and try every run on the other kernels of its handover."""
    writer = _Writer(explored)
    machines = [writer.machine(machine) for machine in explored.machines]
    cases = [writer.case(case, results) for case, results in explored.results.items()]
    document = {
        "schema": SCHEMA,
        "machines": machines,
        "kernels": [
            {"name": kernel.name, "note": kernel.note, "rule": kernel.rule}
            for kernel in explored.kernels
        ],
        "cases": cases,
        "results": writer.results.all,
        "facts": writer.facts.all,
        "runs": [
            {**run, "trace": writer.traces.get(number)}
            for number, run in enumerate(writer.runs.documents)
        ],
        "texts": writer.texts.all,
    }
    counterexamples = writer.runs.counterexamples
    return ExplorerData(
        document,
        {name: counterexamples[number] for number, name in writer.traces.items()},
        {name: writer.titles[number] for number, name in writer.traces.items()},
    )


class _Writer:
    """Writes machines and cases, each recurring part once.

    Attributes:
        texts: Texts by number.
        facts: Facts by number; machines of a kind share most of them.
        results: Results by number; handovers of a kind share them.
        runs: Runs by number.
        traces: Number of a run -> file name, after the first handover that has it.
        titles: Number of a run -> that handover, in words.
    """

    def __init__(self, explored: ExploredKernels) -> None:
        self.texts, self.facts, self.results = Numbers(), Numbers(), Numbers()
        self.runs = Runs(self.texts)
        self.traces: dict[int, str] = {}
        self.titles: dict[int, str] = {}
        self._names = _names([machine.name for machine in explored.machines])
        self._kernels = {kernel.name: number for number, kernel in enumerate(explored.kernels)}

    def machine(self, machine: ExploredMachine) -> dict[str, Any]:
        """A machine, its facts by number."""
        return {
            "id": self._names[machine.name],
            "name": machine.name,
            "note": machine.note,
            "layers": {
                layer: [*map(self.facts.number, facts)] for layer, facts in machine.layers.items()
            },
        }

    def case(self, case: ComparedCase, results: Mapping[str, Result]) -> dict[str, Any]:
        """A handover with the number of each kernel's result."""
        machine = self._names[case.machine]
        guests = ".sev-guests" if case.sev_guests_run else ""
        transition = f"{state_word(case.old)}-{state_word(case.next)}"
        name = f"{machine}.{case.path}.{transition}{guests}"
        return {
            "id": name,
            "machine": machine,
            "path": case.path,
            "old": case.old,
            "next": case.next,
            "guests": case.sev_guests_run,
            "results": {
                self._kernels[kernel]: self._result(case, kernel, results, name)
                for kernel in results
            },
        }

    def _result(
        self, case: ComparedCase, kernel: str, results: Mapping[str, Result], name: str
    ) -> int:
        result = results[kernel]
        broken = _broken(result)
        run = None if broken is None else self._run(broken, name, self._kernels[kernel])
        if run is not None:
            self.titles.setdefault(run, run_title(kernel, case))
        followed = {} if broken is None else self._followed(broken, kernel, results)
        written = _written(case, result, self.texts)
        return self.results.number({**written, "run": run, "followed": followed})

    def _run(self, counterexample: Counterexample, name: str, kernel: int) -> int:
        run = self.runs.of(counterexample)
        # Without a number for the first, as most pages have one kernel.
        suffix = f".{kernel + 1}" if kernel else ""
        self.traces.setdefault(run, f"{name}{suffix}.itf.json")
        return run

    def _followed(
        self, counterexample: Counterexample, kernel: str, results: Mapping[str, Result]
    ) -> dict[int, int]:
        """Other kernel -> its run in the order of events of this kernel's counterexample."""
        numbers = {
            self._kernels[other]: self.runs.followed(counterexample, scenario)
            for other, result in results.items()
            for scenario in _in_same_world(counterexample.scenario, result.scenarios)
            if other != kernel
        }
        return {other: number for other, number in numbers.items() if number is not None}


def _names(machines: list[str]) -> dict[str, str]:
    """Names for addresses: letters, digits, points and hyphens, each once."""
    names: dict[str, str] = {}
    for machine in machines:
        # In small letters, as some file systems hold names that differ in case for one.
        base = _NOT_IN_NAMES.sub("-", machine.lower())[:_NAME_MAX].strip("-.") or "machine"
        taken = set(names.values())
        number = 1
        while (name := base if number == 1 else f"{base}-{number}") in taken:
            number += 1
        names[machine] = name
    return names


def _written(case: ComparedCase, result: Result, texts: Numbers) -> dict[str, Any]:
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


def _reported(case: ComparedCase, result: Result) -> ReportOrder | None:
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


def _in_same_world(scenario: Scenario, others: Iterable[Scenario]) -> list[Scenario]:
    """The one that differs in the kernel's rule alone; none if the rule is not known."""
    found = [one for one in others if _without_rule(one) == _without_rule(scenario)]
    return found if len(found) == 1 and found[0] != scenario else []


def _without_rule(scenario: Scenario) -> Scenario:
    return replace(
        scenario,
        # The same rule in both, so that only the rest of the scenarios is compared.
        flush_secondary=Flush.NEVER,
        flush_jumping=Flush.NEVER,
        report=ReportOrder.AFTER_FLUSH,
    )
