# SPDX-License-Identifier: GPL-2.0-or-later
"""What README.md quotes is what its commands print."""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.cli.main import main
from tests.conftest import RealKernel
from tests.findings import ROOT, Quoted, quotations, quoted_in_order

QUOTED = tuple(q for q in quotations(ROOT / "README.md") if q.images)
_CPUID = ROOT / "tests" / "data" / "cpuid"
DUMPS = {
    "rome.txt": _CPUID / "libcpuid" / "amd-epyc-7742-64-core-processor-dual.test",
    "hygon-c86-3250.cpuid": _CPUID / "registers" / "hygon-c86-3250.cpuid",
}


@pytest.mark.parametrize("quoted", QUOTED, ids=lambda quoted: " ".join(quoted.arguments[:3]))
def test_readme(
    quoted: Quoted,
    real_kernels: dict[str, RealKernel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Run where its files have the names that it uses."""
    for name, dump in DUMPS.items():
        (tmp_path / name).symlink_to(dump)
    for kernel in real_kernels.values():
        (tmp_path / kernel.path.name).symlink_to(kernel.path)
    monkeypatch.chdir(tmp_path)
    main(list(quoted.arguments))
    output = capsys.readouterr().out
    assert quoted_in_order(quoted, output), output


def test_readme_quotes_audits_of_both_verdicts_and_a_reading() -> None:
    assert [quoted.arguments[0] for quoted in QUOTED] == ["audit", "audit", "kernel"]
