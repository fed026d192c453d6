# SPDX-License-Identifier: GPL-2.0-or-later
"""How the observations of several CPUs and of several witnesses become one."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from staleline.facts.observation import (
    Observation,
    first_told,
    merged_observation,
    observed_as,
    untold,
)

SILENT = untold("read it")
YES, NO = observed_as(True, "the register"), observed_as(False, "the log")
OBSERVATIONS = st.lists(st.sampled_from((YES, NO, SILENT)))


def test_the_first_witness_that_tells_is_believed() -> None:
    assert first_told([SILENT, NO, YES]) is NO


def test_where_nobody_tells_the_best_witness_says_what_is_missing() -> None:
    assert first_told([SILENT, untold("ask somebody else")]) is SILENT
    assert first_told([]).missing == "there is no evidence; give a CPUID dump"


def test_weaker_witnesses_are_not_asked_once_one_has_told() -> None:
    def witnesses() -> Iterator[Observation]:
        yield YES
        raise AssertionError("asked")

    assert first_told(witnesses()) is YES


def test_one_cpu_may_stand_for_all() -> None:
    assert merged_observation([SILENT, YES, SILENT], "") is YES


def test_cpus_that_differ_leave_the_machine_unknown_and_are_named() -> None:
    merged = merged_observation([SILENT, YES, NO], "")
    assert merged.value is None
    assert merged.missing == (
        "CPUs differ: cpus[1] the register is True and cpus[2] the log is False"
    )


def test_no_cpu_at_all_says_what_to_read() -> None:
    assert merged_observation([], "CPUID was not read").missing == "CPUID was not read"


@given(OBSERVATIONS)
def test_a_merged_value_is_every_telling_cpus(observations: list[Observation]) -> None:
    values = {each.value for each in observations} - {None}
    merged = merged_observation(observations, "none")
    assert merged.value == (values.pop() if len(values) == 1 else None)


@given(OBSERVATIONS, st.data())
def test_fewer_cpus_never_exchange_one_value_for_another(
    observations: list[Observation], data: st.DataObject
) -> None:
    whole = merged_observation(observations, "none").value
    kept = data.draw(st.lists(st.booleans(), min_size=len(observations)))
    fewer = [each for each, keep in zip(observations, kept, strict=False) if keep]
    part = merged_observation(fewer, "none").value
    # Where CPUs differ, the machine has no value; one of them alone has its own.
    assert whole is None or part in (whole, None)
