# SPDX-License-Identifier: GPL-2.0-or-later
"""What README.md quotes is what its commands print."""

from __future__ import annotations

import re
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
    """Run where its files have the names that it uses.

    A mirror serves other builds from time to time, so an image of the same series and flavour
    stands for the one that is quoted, and is called by its release.
    """
    for name, dump in DUMPS.items():
        (tmp_path / name).symlink_to(dump)
    served = {name: _alike(name, real_kernels) for name in quoted.images}
    for name, kernel in served.items():
        (tmp_path / name).symlink_to(kernel.path)
    monkeypatch.chdir(tmp_path)
    main(list(quoted.arguments))
    output = capsys.readouterr().out
    for name, kernel in served.items():
        output = output.replace(kernel.release, name.removeprefix("vmlinuz-"))
    assert quoted_in_order(quoted, output), output


def _alike(name: str, kernels: dict[str, RealKernel]) -> RealKernel:
    series = re.match(r"vmlinuz-\d+\.\d+", name)
    assert series is not None
    flavour = "-cloud-amd64" if "cloud" in name else "-amd64"
    (kernel,) = {
        kernel.path: kernel
        for kernel in kernels.values()
        if kernel.path.name.startswith(f"{series[0]}.")
        and kernel.path.name.endswith(flavour)
        and ("cloud" in kernel.path.name) == ("cloud" in name)
    }.values()
    return kernel


def test_readme_quotes_audits_of_both_verdicts_and_a_reading() -> None:
    assert [quoted.arguments[0] for quoted in QUOTED] == ["audit", "audit", "kernel"]
