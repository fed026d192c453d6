# SPDX-License-Identifier: GPL-2.0-or-later
"""What docs/*.md quote of commands and count in proofs is what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from staleline.check.proof.certificate_json import certificate_from
from staleline.check.proof.proof_script import queries
from staleline.cli.main import main
from staleline.model.world import world
from staleline.report.words.explanations import explanations
from tests.conftest import RealKernel
from tests.findings import ROOT, quotations, quoted_in_order

DOCS = ROOT / "docs"
ROME = ROOT / "tests/data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"


def test_the_line_that_preflight_is_quoted_with(
    real_kernels: dict[str, RealKernel], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a Rome with the C-bit enabled, under a 6.12 that does not encrypt."""
    (quoted,) = quotations(DOCS / "preflight.md")
    image = str(real_kernels["7"].path)
    words = [image if word.startswith("/boot/vmlinuz-7.3") else word for word in quoted.arguments]
    states = ("reboot_force=no", "offline_cpus=none", "sev_guests_run=no")
    known = ("--msr", "0xc0010010=0x800000", "--cmdline", "quiet")
    here = ("--snapshot", str(ROME), *known, "--kernel", str(real_kernels["6.12"].path))
    assert main([*words, *here, *(f"--state={state}" for state in states)]) == 0
    output = capsys.readouterr().out
    assert quoted_in_order(quoted, output), output


def test_what_preflight_says_beside_the_verdict_is_explained() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \|", (DOCS / "preflight.md").read_text(), re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    assert len(names) > 15
    assert names - {"safe", "accepted", "at risk", "unknown"} <= set(explanations())


def test_what_is_counted_in_the_proof_of_the_proposal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "certificate"
    assert main(["prove", "host-mem-incoherent", "--certificate", str(file)]) == 2
    document = json.loads(file.read_text())
    models = document["models"]
    views = [sum(len(row["locals"]) for row in model["views"]) for model in models.values()]
    asked = [count for count, roles in _queries(document) if 4 <= roles <= 6]
    page = " ".join((DOCS / "proof.md").read_text().split())
    assert f"{min(views)} to {max(views)} views per line role" in page
    assert f"four to six line roles takes {min(asked)} to {max(asked)} queries" in page
    assert f"`host-mem-incoherent` have {len(models)} different models" in page
    assert f"of {len(models)} models." in " ".join(capsys.readouterr().out.split())


def _queries(document: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """Number of queries and of line roles of each handover."""
    for case in certificate_from(document, where="").cases:
        models = [model for _, model in world(case.scenario)]
        yield sum(sum(1 for _ in queries(model)) for model in models), len(models)
