# SPDX-License-Identifier: GPL-2.0-or-later
"""The page as a file: whole by itself, small, and deaf to what its data says."""

from __future__ import annotations

import base64
import hashlib
import json
import pathlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from staleline.check.runs.itf import itf_document
from staleline.check.runs.replay import replay
from staleline.printable import printable
from staleline.report.explorer.cases import ExploredKernels, of_audits
from staleline.report.explorer.data import explorer_data
from staleline.report.explorer.files import write_report
from staleline.report.explorer.page import explorer_page
from staleline.verdict.handover.unknown import Unknown
from staleline.vocabulary import Path, Verdict
from tests.report.explorer.explored import HYGON_CASE, RACE_CASE, audits, explored, hygon, race


class Reader(HTMLParser):
    """Elements with their attributes, and the text of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.elements.append(("", {}))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if tag in {"script", "style"}:
            name = attributes.get("id") or tag
            self.texts[name] = self.texts.get(name, "") + data

    def attribute(self, name: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(name))]


def named(shown: ExploredKernels, names: tuple[str, ...]) -> ExploredKernels:
    """The same machine under several names."""
    return ExploredKernels(
        machines=tuple(replace(shown.machines[0], name=name) for name in names),
        kernels=shown.kernels,
        results={
            replace(case, machine=name): row
            for name in names
            for case, row in shown.results.items()
        },
        overall={
            (name, kernel): overall
            for name in names
            for (_, kernel), overall in shown.overall.items()
        },
    )


def page_of(shown: ExploredKernels) -> str:
    return explorer_page(shown, explorer_data(shown).document)


def test_the_page_refers_to_nothing_outside_itself() -> None:
    read = Reader(page_of(hygon()))
    assert read.attribute("src") == []
    assert {href for href in read.attribute("href") if not href.startswith("#")} == {"data:,"}
    assert not re.search(r"url\(|@import", read.texts["style"])
    assert not re.search(
        r"\bfetch\(|XMLHttpRequest|import\(|innerHTML|eval\(", read.texts["script"]
    )


def test_the_policy_lets_only_the_pages_own_script_and_style_in() -> None:
    read = Reader(page_of(hygon()))
    (policy,) = (text for text in read.attribute("content") if text.startswith("default-src"))
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for name, text in (("script", read.texts["script"]), ("style", read.texts["style"])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{name}-src"] == f"'sha256-{digest}'"


@pytest.mark.parametrize("shown", [hygon, race])
def test_a_page_of_two_rules_stays_below_150_kib(shown: Any) -> None:
    assert len(page_of(shown()).encode()) < 150 << 10


def test_the_verdict_is_there_without_javascript() -> None:
    page = page_of(hygon())
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.split("<noscript>")[0]))
    assert "linux-6.18 and host-mem-incoherent on hygon-sme-incoherent" in text
    assert "kexec at risk 8 handovers: 7 at risk, 1 safe" in text
    assert "kexec safe 8 handovers: 8 safe; 3 unneeded WBINVDs" in text


def test_markup_in_names_is_escaped() -> None:
    evil = "</script><!--<b>\u2028"
    read = Reader(page_of(named(hygon(), (evil,))))
    assert json.loads(read.texts["report"])["machines"][0]["name"] == printable(evil)
    assert "<" not in read.texts["report"]
    assert "b" not in {tag for tag, _ in read.elements}


@pytest.mark.parametrize("shown", [hygon, race])
def test_the_data_fits_its_schema(shown: Any) -> None:
    schema = json.loads(files("staleline").joinpath("schemas/explorer-1.json").read_text())
    document = json.loads(json.dumps(explorer_data(shown()).document))
    jsonschema.validate(document, schema)
    del document["cases"][0]["results"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


def test_a_run_is_written_once_however_many_handovers_have_it() -> None:
    one = explorer_data(hygon()).document
    two = explorer_data(named(hygon(), ("node1", "node2"))).document
    assert len(two["cases"]) == 2 * len(one["cases"])
    assert len(two["runs"]) == len(one["runs"])
    assert two["results"] == one["results"]
    assert two["facts"] == one["facts"]
    assert len(two["texts"]) == len(set(two["texts"])) == len(one["texts"])


def test_the_other_rules_run_stands_beside_the_broken_one() -> None:
    document = explorer_data(race()).document
    (case,) = (case for case in document["cases"] if case["id"] == RACE_CASE)
    broken, other = (document["results"][case["results"][kernel]] for kernel in (0, 1))
    assert (broken["verdict"], other["verdict"]) == ("at-risk", "safe")
    assert (other["run"], other["followed"]) == (None, {})
    run, beside = document["runs"][broken["run"]], document["runs"][broken["followed"]["1"]]
    assert len(run["steps"]) == len(beside["steps"])
    assert (beside["trace"], beside["property"]) == (None, None)
    assert run["property"] == "P2"


@pytest.mark.parametrize("platform", ["hygon-sme-incoherent", "intel-tdx", "guest-sev-es"])
def test_a_safe_rule_breaks_nothing_in_any_others_order_of_events(platform: str) -> None:
    rules = ("linux-4.14", "linux-4.15", "linux-6.5", "linux-6.18", "host-mem-incoherent")
    document = explorer_data(explored(platform, *rules)).document
    followed = 0
    for case in document["cases"]:
        results = {kernel: document["results"][n] for kernel, n in case["results"].items()}
        for result in results.values():
            for other, run in result["followed"].items():
                followed += 1
                if results[int(other)]["verdict"] == "safe":
                    assert document["runs"][run]["property"] is None
    assert followed > 0


def test_every_trace_of_a_report_replays() -> None:
    traces = explorer_data(hygon()).traces
    assert f"{HYGON_CASE}.itf.json" in traces
    for name, counterexample in traces.items():
        again = replay(json.loads(json.dumps(itf_document(counterexample))), name)
        assert again.steps == counterexample.steps


def test_machines_of_one_name_in_addresses_stay_apart() -> None:
    document = explorer_data(named(hygon(), ("Node 1", "node-1", "…"))).document
    assert [machine["id"] for machine in document["machines"]] == ["node-1", "node-1-2", "machine"]
    assert len({case["id"] for case in document["cases"]}) == len(document["cases"])


def test_how_a_kernel_is_known_is_told_of_each_machine_where_it_differs() -> None:
    """A machine's offline CPUs weaken what a rule by itself says there, and nowhere else."""
    (one,) = audits(1)
    other = replace(one, kernel_evidence="read by running the image's own code")
    named_audits = (("a", one.kernel, one), ("b", one.kernel, other), ("c", one.kernel, one))
    for shown in (named_audits, named_audits[::-1]):
        note = of_audits(shown).kernels[0].note
        assert f"{other.kernel_evidence} (on b)" in note
        assert f"{one.kernel_evidence} (on {'a, c' if shown is named_audits else 'c, a'})" in note
    assert of_audits(named_audits[::2]).kernels[0].note == one.kernel_evidence


def test_what_is_missing_of_one_path_is_told_where_another_is_at_risk() -> None:
    """A crash is unknown without the kernel's command line, and a kexec at risk whatever it is."""
    (one,) = audits(1)
    known = replace(
        one,
        by_path={Path.KEXEC: Verdict.AT_RISK, Path.CRASH: Verdict.UNKNOWN},
        unknown=(),
        handovers=tuple(
            replace(row, verdict=Verdict.UNKNOWN, unknown=(_REASON,), shown=None)
            if row.path is Path.CRASH
            else row
            for row in one.handovers
        ),
    )
    head = page_of(of_audits([("a", one.kernel, known)])).split("<main>")[0]
    assert "Missing, and how to get it:" in head
    assert str(_REASON) in head


_REASON = Unknown("whether crashkernel=,cma was asked for", "crash-kernel-borrows")


def test_of_several_machines_it_is_told_whose_verdict_is_which() -> None:
    """Their handovers are counted together, and are no machine's verdict."""
    (one,) = audits(1)
    told = {"a": Verdict.AT_RISK, "b": Verdict.UNKNOWN, "c": Verdict.SAFE, "d": Verdict.UNKNOWN}
    shown = [
        (
            name,
            one.kernel,
            replace(
                one,
                by_path=dict.fromkeys(Path, verdict),
                unknown=(_REASON,) if name == "b" else (),
                handovers=tuple(replace(row, unknown=()) for row in one.handovers),
            ),
        )
        for name, verdict in told.items()
    ]
    head = page_of(of_audits(shown)).split("<main>")[0]
    assert head.count("; at risk: a; unknown: b and d; safe: c</span>") == len(Path)
    assert f"<li>{_REASON} (of b)</li>" in head
    alone = page_of(of_audits(shown[1:2])).split("<main>")[0]
    assert "unknown: b" not in alone
    assert f"<li>{_REASON}</li>" in alone


def test_a_picture_says_whose_run_it_is(tmp_path: pathlib.Path) -> None:
    """A run that is sent by itself; the name of its file has the kernel's number at most."""
    write_report(hygon(), tmp_path)
    pictures = sorted((tmp_path / "traces").glob("*.svg"))
    assert len(pictures) > 1
    for picture in pictures:
        title = re.search("<title>(.*?)</title>", picture.read_text())
        assert title is not None
        kernel = "host-mem-incoherent" if picture.stem.endswith(".2") else "linux-6.18"
        assert title[1].startswith(f"{kernel} on hygon-sme-incoherent: ")
        _, path, transition, *_ = picture.stem.split(".")
        assert f": {path} {transition.replace('-', '→')}" in title[1]
