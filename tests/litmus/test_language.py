# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the kit claim of coherent aliases is true, and incoherent ones are noticed."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.errors import UsageError
from staleline.litmus.kit import kit_files, standard_tests
from staleline.litmus.language import (
    CONTROLS,
    LANGUAGE,
    PATTERNS,
    REGISTERS,
    STEPS,
    LitmusCondition,
    LitmusOperation,
    LitmusOutcome,
    LitmusProgram,
    LitmusStep,
    litmus_programs,
    litmus_text,
)
from tests.litmus.lines import Caches, outcomes

PROGRAMS = litmus_programs(standard_tests())
MODULE = kit_files()["staleline_litmus.c"]
#: Hardware whose aliases are coherent, and that does whatever else it may.
COHERENT = [Caches(True, True, scope, reach) for scope, reach in product((False, True), repeat=2)]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_coherent_aliases_never_give_a_starred_outcome(program: LitmusProgram) -> None:
    for caches, same, swap in product(COHERENT, (False, True), (False, True)):
        found = set(outcomes(program, caches, same_cpu=same, swap=swap))
        assert not [name for name, _ in found if name.startswith("*")], (caches, same, swap)
        assert all(survives for _, survives in found)


def test_incoherent_aliases_are_noticed_by_all_but_controls_and_flushes_that_suffice() -> None:
    silent = {
        program.name
        for program in PROGRAMS
        for seen in [
            {
                name
                for scope, same, swap in product((False, True), repeat=3)
                for name, _ in outcomes(
                    program, Caches(False, False, scope), same_cpu=same, swap=swap
                )
            }
        ]
        if not any(name.startswith("*") for name in seen)
    }
    # What these execute reaches the CPU that holds the line, wherever WBINVD reaches no further.
    assert silent == {
        *CONTROLS,
        "wbinvd-before-x",
        "wbinvd-x",
        "wbnoinvd-x",
        "clflush-remote",
        "clwb-remote",
    }


def test_mistaken_flushes_hide_incoherence_from_no_more_than_what_they_are_for() -> None:
    """CLFLUSH that reaches both aliases fools whoever asks with CLFLUSH alone."""
    caches = Caches(False, False, False, clflush_reaches_both=True)
    seen = {
        program.name
        for program in PROGRAMS
        for name, _ in outcomes(program, caches, same_cpu=False, swap=False)
        if name.startswith("*")
    }
    assert {"bare-load", "bare-stale", "bare-destroy"} <= seen


def test_the_controls_are_of_every_machine_with_two_aliases() -> None:
    controls = {program.name: program for program in PROGRAMS if program.name in CONTROLS}
    assert set(controls) == set(CONTROLS)
    for coherent, same, swap in product((False, True), repeat=3):
        caches = Caches(coherent)
        told = {
            name: set(outcomes(program, caches, same_cpu=same, swap=swap))
            for name, program in controls.items()
        }
        assert told == {"differ": {("differ", True)}, "order-control": {("survived", True)}}


def test_the_module_has_the_same_words_and_limits() -> None:
    table = re.search(r"operations\[\] = \{(.*?)\n\};", MODULE, re.DOTALL)
    assert table is not None
    rows = re.findall(r"\{ \"(\w+)\"(, true)?(?:, '([pr])')? \}", table[1])
    assert {(name, bool(alias), operand) for name, alias, operand in rows} == {
        (str(operation), operation.of_line, operation.operand) for operation in LitmusOperation
    }
    defined = dict(re.findall(r"#define (\w+)\s+(\d+)\b", MODULE))
    assert defined["LANGUAGE"] == str(LANGUAGE)
    limits = (defined["STEPS"], defined["PATTERNS"], defined["REGISTERS"])
    assert limits == (str(STEPS), str(PATTERNS), str(REGISTERS))


def test_the_kits_programs_are_within_the_modules_limits() -> None:
    defined = dict(re.findall(r"#define (\w+)\s+(\d+)\b", MODULE))
    names = [program.name for program in PROGRAMS]
    assert len(set(names)) == len(names)
    for line in standard_tests().splitlines():
        assert len(line) < int(defined["INPUT"])
    for program in PROGRAMS:
        assert len(program.outcomes) <= int(defined["OUTCOMES"])
        assert all(len(one.conditions) <= int(defined["CONDITIONS"]) for one in program.outcomes)


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,18}", fullmatch=True)


@st.composite
def steps(draw: st.DrawFn) -> LitmusStep:
    operation = draw(st.sampled_from(LitmusOperation))
    alias = draw(st.sampled_from(("a", "b", "plain", "cbit"))) if operation.of_line else ""
    limit = {"p": PATTERNS, "r": REGISTERS}.get(operation.operand, 1)
    return LitmusStep(
        draw(st.sampled_from("xy")), operation, alias, draw(st.integers(0, limit - 1))
    )


conditions = st.builds(
    LitmusCondition, st.integers(0, 3), st.booleans(), st.sampled_from("pr"), st.integers(0, 3)
)
programs = st.builds(
    LitmusProgram,
    names,
    st.lists(steps(), min_size=1, max_size=STEPS).map(tuple),
    st.lists(
        st.builds(
            LitmusOutcome,
            names,
            st.booleans(),
            st.lists(conditions, min_size=1, max_size=3).map(tuple),
        ),
        min_size=1,
        max_size=4,
    ).map(tuple),
)


@given(st.lists(programs, min_size=1, max_size=3).map(tuple))
def test_what_is_written_is_read_as_it_was(several: tuple[LitmusProgram, ...]) -> None:
    assert litmus_programs(litmus_text(several, "two\nlines")) == several


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not begin"),
        ("staleline-litmus 2\n", "does not begin"),
        ("a", "name and a colon"),
        ("a: x wbinvd", "without outcomes"),
        ("a: x fly a ? o r1==p1", "no step"),
        ("a: z wbinvd ? o r1==p1", "no step"),
        ("a: x store a r1 ? o r1==p1", "no step"),
        ("a: x wbinvd a ? o r1==p1", "no step"),
        ("a: x wbinvd ? o", "without conditions"),
        ("a: x wbinvd ? o r1==p9", "no outcome"),
        ("a: x wbinvd ? o! r1==p1", "no outcome"),
        ("a: " + ", ".join(["x wbinvd"] * (STEPS + 1)) + " ? o r1==p1", "more than"),
    ],
)
def test_what_is_no_test_is_refused(text: str, said: str) -> None:
    whole = text if "litmus" in text or not text else f"staleline-litmus 1\n{text}\n"
    with pytest.raises(UsageError, match=said):
        litmus_programs(whole)
