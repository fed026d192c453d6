# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``staleline run`` refuses; what it tells of runs is tested by tests/report/simulation."""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.cli.main import main
from staleline.simulation.emulator import INTERFACE
from tests.simulation.test_emulator import built


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["run", *map(str, arguments)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = tmp_path / "staleline" / "machine"
    cache.mkdir(parents=True)
    built(cache, key="k", interface=INTERFACE)


def test_without_the_machine_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "make machine" in complaint(capsys, "--kernel", tmp_path / "none")


@pytest.mark.usefixtures("machine")
class TestBadInput:
    def test_a_kernel_that_is_no_file(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "none" in complaint(capsys, "--kernel", tmp_path / "none")

    def test_a_file_that_is_no_kernel(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "text").write_text("text")
        assert "no bzImage" in complaint(capsys, "--kernel", tmp_path / "text")

    @pytest.mark.parametrize("option", ["size", "size=", "=1", "a=1,b=2", "a=1 b"])
    def test_options_of_caches_that_are_none(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
    ) -> None:
        told = complaint(capsys, "--kernel", tmp_path / "k", "--caches", option)
        assert "give NAME=VALUE" in told

    def test_formats_of_findings(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "no verdict" in complaint(capsys, "--kernel", "k", "--format", "sarif")
