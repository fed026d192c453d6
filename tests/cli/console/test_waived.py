# SPDX-License-Identifier: GPL-2.0-or-later
"""What was waived is told, and only what was not met is called unused, whatever is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.cli.main import main
from tests.conftest import RealKernel

# linux 7.3.4 arch/x86/kernel/cpu/hygon.c does not set the flag that 6.18 flushes by.
HYGON = ("check", "linux-6.18", "--path", "kexec", "--platform", "hygon-sme-incoherent")
FORMATS = ("text", "json", "lkml", "junit", "sarif", "prometheus", "markdown")


def waivers(directory: Path, *names: str) -> tuple[str, str]:
    file = directory / "waivers.toml"
    rows = (f'[[waiver]]\nid = "{name}"\nreason = "known"\nuntil = 2999-12-31\n' for name in names)
    file.write_text("".join(rows))
    return ("--waivers", str(file))


@pytest.mark.parametrize("form", FORMATS)
def test_a_waiver_that_was_met_is_never_called_unused(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = waivers(tmp_path, "stale-write-back", "hang")
    assert main([*HYGON, *given, "--format", form]) == 0
    written = capsys.readouterr()
    assert [line for line in written.err.splitlines() if "unused" in line] == [
        "staleline: waiver hang is unused: known"
    ]
    # Status 0 beside handovers at risk is never without a reason.
    told = written.err if form in ("text", "json", "lkml") else written.out
    if form != "prometheus":  # which has how many notes there are, and no message
        assert "waived until 2999" in told


@pytest.mark.parametrize("form", ["text", "json", "junit"])
def test_likewise_of_images(
    form: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    real_kernels: dict[str, RealKernel],
) -> None:
    images = [str(real_kernels[series].path) for series in ("6.12", "6.18")]
    asked = ["kernel", "--series", *images, "--format", form]
    assert main(asked) == 2
    capsys.readouterr()
    known = waivers(tmp_path, "stale-write-back", "flush-faults", "hang")
    assert main([*asked, *known]) == 0
    written = capsys.readouterr()
    assert [line for line in written.err.splitlines() if "unused" in line] == [
        "staleline: waiver hang is unused: known"
    ]
    assert "waived until 2999" in (written.out if form == "junit" else written.err)
