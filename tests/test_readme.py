# SPDX-License-Identifier: GPL-2.0-or-later
"""What README.md quotes is what its commands print."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from tools.examples import DUMPS, KERNELS

from staleline.cli.main import main
from tests.conftest import RealKernel
from tests.findings import ROOT, Quoted, quotations, quoted_in_order

QUOTED = tuple(q for q in quotations(ROOT / "README.md") if q.images)
#: What a mirror serves may be another build of the same series.
_OF_A_BUILD = re.compile(r"\b(?:[0-9a-f]{8}|\d+\.\d+\.\d+[-+]\S+)(?![\w.+~-])")


@pytest.mark.parametrize("quoted", QUOTED, ids=lambda quoted: " ".join(quoted.arguments[:3]))
def test_readme(
    quoted: Quoted,
    real_kernels: dict[str, RealKernel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Run where its files have the names that it uses.

    A mirror serves other builds from time to time, so an image of the same series and flavour
    stands for the one that is quoted.
    """
    for name, dump in DUMPS.items():
        (tmp_path / name).symlink_to(dump)
    for name, series in KERNELS.items():
        (tmp_path / name).symlink_to(real_kernels[series].path)
    monkeypatch.chdir(tmp_path)
    main(list(quoted.arguments))
    output = _of_any_build(capsys.readouterr().out)
    runs = tuple(tuple(map(_of_any_build, run)) for run in quoted.runs)
    assert quoted_in_order(replace(quoted, runs=runs), output), output


def _of_any_build(text: str) -> str:
    return _OF_A_BUILD.sub("BUILD", text)


def test_readme_quotes_audits_of_both_verdicts_and_a_reading() -> None:
    assert [quoted.arguments[0] for quoted in QUOTED] == [
        "audit",
        "audit",
        "kernel",
        "check",
    ]
