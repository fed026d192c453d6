# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import email
import email.policy
import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tools.build_kernels import KERNELS, Build
from tools.kernel_source import Source, Tree, files_of, unpacked

from tools import build_kernels

SERIES = sorted((KERNELS / "host-mem-incoherent").glob("*.patch"))
SUBSYSTEMS = r"x86/\S+|kexec|crash|crash_dump|PM: hibernate|ACPI: processor: idle"
FOLDERS = ("host-mem-incoherent-7.3", "variants", "fixes")
PATCHES = [
    *SERIES,
    *(p for d in FOLDERS for p in sorted((KERNELS / d).glob("*.patch"))),
]
BUILDS = [build for build, _ in build_kernels.builds()]
SOURCE = Source("linux-source-6.12", "6.12.117-1")
COMPILER = "gcc 12.2.0"

_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")


class Mail:
    """A patch as it is sent."""

    def __init__(self, path: Path) -> None:
        mail = email.message_from_string(path.read_text(), policy=email.policy.default)
        self.author = str(mail["From"])
        self.subject = str(mail["Subject"])
        self.changelog, self.diff = mail.get_content().split("\n---\n", maxsplit=1)


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
class TestPatch:
    def test_is_signed_off_by_its_author(self, path: Path) -> None:
        mail = Mail(path)
        assert mail.changelog.splitlines()[-1] == f"Signed-off-by: {mail.author}"

    def test_has_a_subject_of_the_subsystem(self, path: Path) -> None:
        assert re.fullmatch(
            rf"\[PATCH(?: \d/\d)?\] (?:{SUBSYSTEMS}): [A-Z].{{10,60}}",
            Mail(path).subject,
        )

    def test_argues_in_lines_that_fit(self, path: Path) -> None:
        argument = Mail(path).changelog.partition("\nSigned-off-by: ")[0].splitlines()
        assert len(argument) > 3
        # The tag is not folded (Documentation/process/submitting-patches.rst of linux).
        assert all(len(line) <= 75 for line in argument if not line.startswith("Fixes: "))

    def test_has_hunks_as_long_as_they_say(self, path: Path) -> None:
        for hunk in re.split(r"^(?=@@ )", Mail(path).diff, flags=re.MULTILINE)[1:]:
            sizes = _HUNK.match(hunk)
            assert sizes
            body = hunk.partition("\ndiff --git ")[0].splitlines()[1:]
            old = sum(line[:1] in (" ", "-") for line in body)
            new = sum(line[:1] in (" ", "+") for line in body)
            assert (old, new) == tuple(int(size or 1) for size in sizes.groups())

    def test_changes_files_and_creates_none(self, path: Path) -> None:
        # Tree takes a patch back by restoring the files it found.
        patch = path.read_text()
        assert files_of(patch)
        assert "/dev/null" not in patch


@pytest.mark.parametrize("path", sorted((KERNELS / "fixes").glob("*.patch")), ids=lambda p: p.name)
def test_a_fix_has_a_mail_around_it(path: Path) -> None:
    text = (path.parent / f"{path.name[:4]}.mail").read_text()
    mail = email.message_from_string(text, policy=email.policy.default)
    assert str(mail["Subject"]).split("] ")[1] == Mail(path).subject.split("] ")[1]
    assert mail["To"]
    assert "linux-kernel@vger.kernel.org" in mail["Cc"]
    for begins in ("Who is exposed: ", "How it was tested: ", "What is not shown: "):
        assert f"\n\n{begins}" in mail.get_content()


def test_the_series_is_numbered_without_gaps() -> None:
    for number, path in enumerate(SERIES, 1):
        assert path.name.startswith(f"{number:04}-")
        assert Mail(path).subject.startswith(f"[PATCH {number}/{len(SERIES)}] ")


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.name)
class TestBuild:
    def test_asks_for_each_option_once_but_to_take_it_back(self, build: Build) -> None:
        lines = build.options().splitlines()
        options = [line for line in lines if line and not line.startswith("#")]
        assert all(re.fullmatch(r"CONFIG_[A-Z0-9_]+=(y|n|\d+)", option) for option in options)
        asked = [option.split("=")[0] for option in options if not option.endswith("=n")]
        taken_back = [option.split("=")[0] for option in options if option.endswith("=n")]
        assert len(asked) == len(set(asked))
        assert set(taken_back) <= set(asked)

    def test_has_all_its_patches(self, build: Build) -> None:
        assert all(patch.is_file() for patch in build.patches)

    def test_has_what_every_build_is_for(self, build: Build) -> None:
        options = build.options().splitlines()
        for name in ("SMP", "AMD_MEM_ENCRYPT", "KEXEC", "KEXEC_FILE", "CRASH_DUMP", "KALLSYMS_ALL"):
            assert f"CONFIG_{name}=y" in options


def test_builds_have_names_of_their_own() -> None:
    names = [build.name for build in BUILDS]
    assert len(names) == len(set(names))


def test_the_patched_kernel_is_a_tdx_host_and_the_unpatched_one_cannot_be() -> None:
    # linux 6.12.117 arch/x86/Kconfig:1979: INTEL_TDX_HOST depends on !KEXEC_CORE
    builds = {build.name: build for build in BUILDS}
    assert "CONFIG_INTEL_TDX_HOST=y" not in builds["6.12"].options()
    assert "CONFIG_INTEL_TDX_HOST=y" in builds["6.12-host-mem-incoherent"].options()


def test_a_release_says_which_build_it_is_of() -> None:
    suffixes = {build.name: build.suffix for build in BUILDS}
    assert suffixes["6.12"] == ""
    assert suffixes["6.12-host-mem-incoherent"] == "-host-mem-incoherent"
    assert suffixes["tdx-host"] == "-tdx-host"


def test_whatever_goes_into_a_kernel_changes_its_key() -> None:
    build = Build("6.12", "6.12", ("common",), ())
    keys = [
        build.key(SOURCE, COMPILER),
        build.key(replace(SOURCE, version="6.12.118-1"), COMPILER),
        build.key(SOURCE, "gcc 14.2.0"),
        replace(build, config=("common", "tdx-host")).key(SOURCE, COMPILER),
        replace(build, llvm=19).key(SOURCE, "clang 19.1.7"),
        replace(build, patches=(SERIES[0],)).key(SOURCE, COMPILER),
        replace(build, patches=(SERIES[0], SERIES[1])).key(SOURCE, COMPILER),
    ]
    assert len(set(keys)) == len(keys)
    assert build.key(SOURCE, COMPILER) == keys[0]


def test_names_the_options_that_a_version_has_not_taken() -> None:
    wanted = "# why\nCONFIG_SMP=y\nCONFIG_INTEL_TDX_HOST=y\n"
    assert build_kernels.refused(wanted, "CONFIG_SMP=y\nCONFIG_64BIT=y\n") == [
        "CONFIG_INTEL_TDX_HOST=y"
    ]


def test_the_last_setting_of_an_option_is_the_one_that_counts() -> None:
    wanted = "CONFIG_SMP=y\nCONFIG_PARAVIRT=y\nCONFIG_PARAVIRT=n\n"
    without = "CONFIG_SMP=y\n# CONFIG_PARAVIRT is not set\n"
    assert build_kernels.refused(wanted, without) == []
    assert build_kernels.refused(wanted, "CONFIG_SMP=y\nCONFIG_PARAVIRT=y\n") == [
        "CONFIG_PARAVIRT=n"
    ]


def test_llvm_is_used_as_a_whole_and_in_one_version() -> None:
    builds = {build.name: build for build in BUILDS}
    assert builds["6.12"].tools == ""
    assert builds["6.12-clang-lto"].tools == "LLVM=-19"  # Documentation/kbuild/llvm.rst (6.12)


def test_an_incomplete_build_is_none(tmp_path: Path) -> None:
    assert build_kernels.read_record(tmp_path) is None
    (tmp_path / "build.json").write_text('{"name": "6.12"}')
    assert build_kernels.read_record(tmp_path) is None


def test_an_unknown_build_is_refused_with_the_names_there_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert build_kernels.main(["--cache", str(tmp_path), "6.13"]) == 1
    assert "no build is called 6.13; there are tdx-host, 6.12, " in capsys.readouterr().err


class TestTree:
    PATH = "arch/x86/kernel/process.c"

    def tree(self, folder: Path, content: str, original: str) -> Tree:
        """A tree whose last build was interrupted with a patch applied."""
        for part, text in (("tree", content), ("originals", original)):
            file = folder / part / self.PATH
            file.parent.mkdir(parents=True)
            file.write_text(text)
        os.utime(folder / "tree" / self.PATH, ns=(0, 0))
        return Tree(folder / "tree", folder / "originals")

    def test_an_interrupted_build_leaves_no_patch_behind(self, tmp_path: Path) -> None:
        tree = self.tree(tmp_path, "patched\n", "original\n")
        tree.switch_to([])
        assert (tree.path / self.PATH).read_text() == "original\n"
        assert not list(tree.originals.rglob("*.c"))

    def test_a_file_that_is_as_it_was_is_not_compiled_again(self, tmp_path: Path) -> None:
        tree = self.tree(tmp_path, "original\n", "original\n")
        tree.switch_to([])
        assert (tree.path / self.PATH).stat().st_mtime_ns == 0


def test_a_version_names_a_folder_that_make_can_work_in() -> None:
    # make splits its lists at blanks and takes a colon for a rule.
    folder = Source("linux-source-7.3", "7.3.4-1~bpo13+1").folder
    assert re.fullmatch(r"[\w.+-]+", folder)


class TestUnpacked:
    def leave(self, cache: Path, *versions: str) -> None:
        for version in versions:
            source = Source(f"linux-source-{'.'.join(version.split('.')[:2])}", version)
            (cache / f"{source.folder}.json").write_text(json.dumps(asdict(source)))

    def test_a_source_that_is_there_is_not_looked_for(self, tmp_path: Path) -> None:
        self.leave(tmp_path, "6.12.99-1", "6.12.117-1", "7.2.13-1", "7.3.4-1~bpo13+1")
        assert unpacked(tmp_path, "6.12") == SOURCE
        assert unpacked(tmp_path, "7") == Source("linux-source-7.3", "7.3.4-1~bpo13+1")

    def test_no_source_is_none(self, tmp_path: Path) -> None:
        self.leave(tmp_path, "7.2.13-1")
        assert unpacked(tmp_path, "6.12") is None
