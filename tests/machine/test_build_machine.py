# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest
from tools.build_machine import MACHINE, BuildError, installed, main, patches

from tools import build_machine


def test_tells_in_one_line_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for tool in ("make", "patch", "dpkg-deb"):
        (tmp_path / tool).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--cache", str(tmp_path / "cache")]) == 1
    assert capsys.readouterr().err == (
        "build_machine: cannot build the simulated machine without: "
        "apt-get install g++ xz-utils apt\n"
    )


def test_what_is_not_built_says_how(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"^the simulated machine is not built: make machine$"):
        installed(tmp_path)


def test_a_damaged_record_is_no_build(tmp_path: Path) -> None:
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / "build.json").write_text('{"key": ')
    with pytest.raises(BuildError, match="not built"):
        installed(tmp_path)


class TestKey:
    @pytest.fixture
    def machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        shutil.copytree(MACHINE, tmp_path / "machine")
        monkeypatch.setattr(build_machine, "MACHINE", tmp_path / "machine")
        return tmp_path / "machine"

    @staticmethod
    def key() -> str:
        return build_machine._key(build_machine._wanted())

    def test_is_of_what_patches_do(self, machine: Path) -> None:
        before = self.key()
        patch = machine / "patches" / patches()[0].name
        patch.write_text(patch.read_text().replace("\n+", "\n+ ", 1))
        assert self.key() != before

    def test_is_not_of_what_they_argue(self, machine: Path) -> None:
        before = self.key()
        patch = machine / "patches" / patches()[0].name
        patch.write_text(patch.read_text().replace("\n---\n", "\nMore words.\n---\n", 1))
        assert self.key() == before

    def test_is_of_the_options(self, machine: Path) -> None:
        before = self.key()
        pins = machine / "machine.toml"
        pins.write_text(pins.read_text().replace('"--enable-memtype", ', "", 1))
        assert self.key() != before


class TestSeries:
    @pytest.mark.parametrize("patch", patches(), ids=lambda patch: patch.name[:4])
    def test_argues_and_keeps_the_licence(self, patch: Path) -> None:
        head, _, body = patch.read_text().partition("\n---\n")
        assert re.search(r"^Subject: \[PATCH \d+/\d+\] \S+: [A-Z]", head, re.MULTILINE)
        assert re.search(rf"\[PATCH 0*{int(patch.name[:4])}/{len(patches())}\]", head)
        for added in body.split("\ndiff --git ")[1:]:
            if "\n--- /dev/null\n" in added and re.match(r"a/\S+\.(cc|h) ", added):
                assert "GNU Lesser General Public" in added
                assert "version 2.1 of the License, or (at your option) any later" in added

    def test_is_numbered_without_gaps(self) -> None:
        numbers = [int(patch.name[:4]) for patch in patches()]
        assert numbers == list(range(1, len(numbers) + 1))


def test_pins_are_of_the_sources_alone() -> None:
    wanted = tomllib.loads((MACHINE / "machine.toml").read_text())
    assert all(len(digest) == 64 for digest in wanted["source"]["sha256"].values())
    assert all(wanted["source"]["version"].split("-")[0] in n for n in wanted["source"]["sha256"])
