# SPDX-License-Identifier: GPL-2.0-or-later
"""Every id that a report can print has a page, and the page says what it should."""

from __future__ import annotations

import ast
import io
import pickle
import re
from pathlib import Path

import pytest
from rich.console import Console

from staleline.errors import UsageError
from staleline.evidence.contradiction import contradiction_kinds
from staleline.fleet.judging import NO_KERNEL, NO_RULE
from staleline.fleet.statements import FAULTS, OLD, TWICE
from staleline.policy.catalogue import catalogue
from staleline.report.formats import findings
from staleline.report.words.explanations import Kind, bug_id, explanation, explanations
from staleline.report.words.explanations_text import print_pages
from staleline.verdict.audit.remarks import remark_kinds
from staleline.verdict.handover.reasons import Unneeded, UnneededEither
from staleline.verdict.handover.unknown import Unknown

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "src" / "staleline"


def ids_of(kind: Kind) -> set[str]:
    return {page.id for page in explanations().values() if page.kind is kind}


def given_to(module: Path, function: str, position: int) -> set[str]:
    """Texts that a module gives as one argument of a function."""
    calls = (node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call))
    named = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == function]
    given = [c.args[position] for c in named if len(c.args) > position]
    return {str(one.value) for one in given if isinstance(one, ast.Constant)}


def test_ids_are_words_with_hyphens_and_texts_are_whole_sentences() -> None:
    for page in explanations().values():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", page.id)
        for text in (page.means, page.evidence, page.do):
            assert text.endswith((".", "?")), f"{page.id}: {text}"
        assert not page.title.endswith(".")
        assert page.sources or page.kind is Kind.CONTRADICTION


def test_every_reason_for_an_unneeded_flush_has_a_page_and_no_page_is_left_over() -> None:
    assert ids_of(Kind.UNNEEDED) == {
        *(reason.id for reason in Unneeded),
        UnneededEither().id,
    }


def test_every_unknown_that_verdicts_name_has_a_page_and_no_page_is_left_over() -> None:
    verdict = SOURCES / "verdict"
    named = set().union(*(given_to(file, "Unknown", 1) for file in verdict.rglob("*.py")))
    table = ast.parse((verdict / "audit" / "missing.py").read_text())
    named |= {
        str(node.value)
        for node in ast.walk(table)
        if isinstance(node, ast.Constant) and str(node.value).startswith("unknown-")
    }
    named |= given_to(SOURCES / "report" / "machines" / "audits.py", "Finding", 0)
    named |= {NO_KERNEL, NO_RULE, TWICE, OLD, FAULTS}  # of hosts of a fleet
    assert named == ids_of(Kind.UNKNOWN)


def test_every_contradiction_in_evidence_has_a_page() -> None:
    assert ids_of(Kind.CONTRADICTION) == set(contradiction_kinds())


def test_every_remark_before_a_load_has_a_page() -> None:
    assert ids_of(Kind.LOAD) == set(remark_kinds())


def test_every_finding_has_a_page() -> None:
    report = SOURCES / "report"
    named = set().union(*(given_to(file, "Finding", 0) for file in report.rglob("*.py")))
    named |= set(findings._VIOLATIONS.values())
    assert named | {"stale-write-back", "stale-read"} <= set(explanations())


def test_every_known_bug_of_the_catalogue_has_a_page_of_its_own() -> None:
    told = {bug for policy in catalogue().values() for bug in policy.bugs}
    assert {bug for page in explanations().values() for bug in page.bugs} == told
    assert "known-bug" not in {bug_id(bug) for bug in told}
    assert bug_id("a bug of a rule of one's own") == "known-bug"


def test_files_that_pages_cite_exist() -> None:
    cited = [
        word
        for page in explanations().values()
        for source in page.sources
        for word in re.findall(r"^(?:docs|src)/[\w./-]+", source)
    ]
    assert len(cited) >= 8
    assert [file for file in cited if not (ROOT / file.rstrip(":")).exists()] == []


def test_an_id_that_is_none_is_answered_with_those_that_come_near() -> None:
    with pytest.raises(UsageError, match="hygon-not-flushed"):
        explanation("hygon-flushed")
    with pytest.raises(UsageError, match="see `staleline explain`"):
        explanation("zzz")


def test_an_unknown_is_its_sentence_and_keeps_its_id() -> None:
    reason = Unknown("SYSCFG was not read", "unknown-syscfg")
    again = pickle.loads(pickle.dumps(reason))
    assert reason == again == "SYSCFG was not read"
    assert again.id == "unknown-syscfg"


def test_every_source_of_a_page_stands_on_lines_of_its_own() -> None:
    """Escaping leaves no line break, so joined sources would be one line with an escape in it."""
    page = next(page for page in explanations().values() if len(page.sources) > 1)
    output = io.StringIO()
    print_pages(Console(file=output, width=200), [page])
    printed = [line.strip() for line in output.getvalue().splitlines()]
    assert [line for line in printed if line in page.sources] == list(page.sources)
