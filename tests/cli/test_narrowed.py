# SPDX-License-Identifier: GPL-2.0-or-later
"""A verdict that was asked of a part, or under a condition, says so wherever it is shown.

Without that "safe" of one role of lines reads like "safe".
"""

from __future__ import annotations

import html
import json
from pathlib import Path

import junitparser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from staleline.cli.main import main
from tests.cli.test_preflight_answer import host
from tests.conftest import RealKernel
from tests.documents import document_of

CPUID = Path(__file__).parents[1] / "data" / "cpuid"
ROME = CPUID / "libcpuid/amd-epyc-7742-64-core-processor-dual.test"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(list(arguments)) == status
    return capsys.readouterr().out


def test_of_a_role_alone_no_headline_speaks_of_all_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Of all lines 17 of its handovers are at risk.
    asked = ("check", "linux-6.5", "--role", "image")
    headline = "all 32 handovers safe, asked of lines of the role image alone"
    for form in ("text", "lkml"):
        assert headline in " ".join(printed(capsys, *asked, "--format", form).split())
    document = document_of(printed(capsys, *asked, "--json"), "check")
    assert document["asked"] == {"platforms": None, "path": None, "roles": ["image"]}


def test_formats_of_findings_have_what_was_asked_and_accepted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    narrow = ("--role", "image", "--role", "stop-mask", "--platform", "amd-sme-coherent")
    asked = ("check", "linux-6.5", *narrow, "--path", "kexec", "--accept", "load_settled")
    told = {
        "platforms": "amd-sme-coherent",
        "path": "kexec",
        "roles": "image stop-mask",
        "accepted": "load_settled",
    }
    (run,) = json.loads(printed(capsys, *asked, "--format", "sarif"))["runs"]
    assert told.items() <= run["properties"].items()
    suites = junitparser.JUnitXml.fromstring(printed(capsys, *asked, "--format", "junit").encode())
    for suite in suites:
        assert told.items() <= {one.name: one.value for one in suite.properties()}.items()
    for line in printed(capsys, *asked, "--format", "prometheus").splitlines():
        # `path` is the sample's own.
        named = {"asked_path" if name == "path" else name: text for name, text in told.items()}
        labels = [f'{name}="{text}"' for name, text in named.items()]
        assert line.startswith("#") or all(label in line for label in labels), line
    text = printed(capsys, *asked, "--format", "markdown")
    for name, value in told.items():
        assert f"{name.capitalize()}: {value}" in text.replace("\\", "")


def test_what_is_asked_of_everything_has_no_word_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "check", "linux-6.5", status=2)
    assert "asked of" not in text
    document = document_of(printed(capsys, "check", "linux-6.5", "--json", status=2), "check")
    assert document["asked"] == {"platforms": None, "path": None, "roles": None}


def page(capsys: pytest.CaptureFixture[str], directory: Path, *arguments: str) -> str:
    """The head of the page, which is there without JavaScript."""
    printed(capsys, "report", "-o", str(directory), *arguments)
    head, _, _ = (directory / "index.html").read_text("utf-8").partition("<noscript>")
    return html.unescape(head)


def test_a_page_says_what_was_left_out_and_accepted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rule = ("--policy", "linux-6.5", "--platform", "amd-sme-incoherent")
    narrow = ("--role", "crash-segment", "--accept", "load_settled", "--next", "on")
    head = page(capsys, tmp_path / "narrow", *rule, *narrow)
    assert "Every verdict is asked of lines of the role crash-segment alone." in head
    assert "Accepted, not shown: load_settled (docs/model.md)." in head
    assert "Only next kernels with memory encryption on are judged." in head
    whole = page(capsys, tmp_path / "whole", *rule)
    assert not {"alone", "Accepted", "Only next"} & set(whole.split())


def test_a_page_of_a_kernel_that_does_not_run_there_says_what_if(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], tmp_path: Path
) -> None:
    image = str(real_kernels["6.12"].path)
    snapshot = host(tmp_path, kernel={"release": "5.10.0-46-amd64", "cmdline": "mem_encrypt=on"})
    asked = ("--snapshot", snapshot, "--kernel", image)
    head = page(capsys, tmp_path / "page", *asked)
    assert "what if: this kernel does not run there, 5.10.0-46-amd64 does" in head


def test_two_rules_of_one_name_are_told_apart(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = (
        'name = "mine"\ntitle = "of mine"\nsource = "me"\n[sites]\n'
        'stop_this_cpu = "{0}"\nrelocate_kernel = "{0}"\ncrash_nmi_callback = "false"\n'
        '[protocol]\nreported_stopped = "after-flush"\n'
    )
    files = [tmp_path / "one.toml", tmp_path / "other.toml"]
    for file, condition in zip(files, ("true", "false"), strict=True):
        file.write_text(text.format(condition))
    narrow = ("--platform", "intel-tdx", "--path", "kexec")
    asked = ("check", *map(str, files), str(files[0]), *narrow)
    verdicts = {}
    written = printed(capsys, *asked, "--format", "prometheus", status=2)
    for family in text_string_to_metric_families(written):
        names = [tuple(sorted(one.labels.items())) for one in family.samples]
        assert len(set(names)) == len(names), family.name
        for one in family.samples:
            if family.name == "staleline_verdict" and one.value:
                verdicts[one.labels["subject"]] = one.labels["verdict"]
    assert verdicts == {f"mine ({files[0]})": "safe", f"mine ({files[1]})": "at-risk"}
