# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline kernel`` over an archive: what is read, what is skipped, what became worse."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import junitparser
import pytest
from rich.console import Console

from staleline.cli.main import main
from staleline.kernel.file.container import unpack_kernel
from staleline.kernel.file.source import opened_file
from staleline.kernel.reading.imagereport import ImageReport, ReadingOptions
from staleline.kernel.reading.many import read_images
from staleline.report.formats.findings import Finding, Findings, Level
from staleline.report.formats.waivers import read_waivers
from staleline.report.images.matrix import print_matrix
from staleline.vocabulary import Site
from tests.cli.test_diff import sarif
from tests.cli.test_documents import run
from tests.conftest import RealKernel
from tests.documents import document_of
from tests.kernel.packagewriter import File, write_deb

WORSE, UNKNOWN = 2, 3
BRIEF = 4096


def lines(text: str) -> list[dict[str, Any]]:
    return [document_of(line) for line in text.splitlines()]


@pytest.fixture
def archive(tmp_path: Path, real_kernels: dict[str, RealKernel]) -> Path:
    """A pool: two kernels, one of them compressed once more, a package with none, and a text."""
    pool = tmp_path / "pool"
    (pool / "main/l/linux").mkdir(parents=True)
    (pool / "main/l/linux/vmlinuz-6.12").symlink_to(real_kernels["6.12"].path)
    packed = pool / "main/l/linux/vmlinuz-6.18.gz"
    packed.write_bytes(gzip.compress(real_kernels["6.18"].path.read_bytes(), 1))
    (pool / "linux-doc_6.12_all.deb").write_bytes(write_deb([File("usr/share/doc/linux", b"text")]))
    (pool / "vmlinuz-6.12.hmac").write_text("0")
    (pool / "README").write_text("no kernel")
    return pool


def test_a_directory_is_read_and_packages_without_kernel_are_counted(
    capsys: pytest.CaptureFixture[str], archive: Path, real_kernels: dict[str, RealKernel]
) -> None:
    status = main(["kernel", str(archive), "--format", "jsonl", "--brief"])
    captured = capsys.readouterr()
    found = lines(captured.out)
    assert status == 0
    assert [one["release"] for one in found] == [
        real_kernels[series].release for series in ("6.12", "6.18")
    ]
    assert [one["rule"] for one in found] == ["linux-6.5", "linux-6.18"]
    assert all(len(line) < BRIEF for line in captured.out.splitlines())
    assert "1 package without kernel skipped" in captured.err
    whole = document_of(run(capsys, "kernel", archive, "--json")[1])
    assert whole["skipped"] == [str(archive / "linux-doc_6.12_all.deb")]


def test_a_list_on_standard_input(
    capsys: pytest.CaptureFixture[str], archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [str(archive / "main/l/linux/vmlinuz-6.12"), str(archive / "linux-doc_6.12_all.deb")]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(names) + "\n"))
    status, text = run(capsys, "kernel", "-", "--format", "jsonl", "--brief")
    assert status == 0
    assert [one["image"] for one in lines(text)] == names[:1]


def test_a_package_that_is_named_and_has_no_kernel_is_an_error(
    capsys: pytest.CaptureFixture[str], archive: Path
) -> None:
    assert main(["kernel", str(archive / "linux-doc_6.12_all.deb")]) == 1
    assert "a package without kernel image" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["gz", "deb"])
def test_a_vmlinux_that_is_compressed_or_in_a_debug_package_is_read_like_its_image(
    capsys: pytest.CaptureFixture[str],
    real_kernels: dict[str, RealKernel],
    tmp_path: Path,
    form: str,
) -> None:
    """Where Debian's linux-image-*-dbg has it (usr/lib/debug/boot), and as builds pack it."""
    kernel = real_kernels["6.12"]
    with opened_file(str(kernel.path)) as file:
        elf = unpack_kernel(file).elf
        vmlinux = bytes(elf.read(0, elf.size))
    packed = tmp_path / f"vmlinux.{form}"
    if form == "gz":
        packed.write_bytes(gzip.compress(vmlinux, 1))
    else:
        name = f"usr/lib/debug/boot/vmlinux-{kernel.release}"
        packed.write_bytes(write_deb([File(name, vmlinux)]))
    images = (kernel.path, packed)
    whole, debug = lines(run(capsys, "kernel", *images, "--format", "jsonl", "--brief")[1])
    for key in ("release", "build_id", "rule", "sites", "encrypts", "reported_stopped"):
        assert debug[key] == whole[key]
    assert debug["member"] == (name if form == "deb" else None)


def test_every_format_names_rule_release_build_and_version(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    package = real_kernels["7-deb"].path
    (brief,) = lines(run(capsys, "kernel", package, "--format", "jsonl", "--brief")[1])
    names = [brief[key] for key in ("rule", "release", "package", "version", "build_id")]
    assert None not in names
    for form in ("text", "json", "sarif", "junit", "prometheus", "markdown"):
        _, text = run(capsys, "kernel", package, "--format", form)
        told = text.replace("\\", "")  # Markdown escapes
        assert [name for name in names if name not in told] == [], form


def test_one_sarif_run_whose_ids_do_not_depend_on_what_lies_beside(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], tmp_path: Path
) -> None:
    one, other = (real_kernels[series].path for series in ("6.12", "6.18"))
    elsewhere = tmp_path / "vmlinuz"
    shutil.copy(one, elsewhere)

    def ids(*images: Path) -> dict[str, set[str]]:
        results = sarif(run(capsys, "kernel", *images, "--format", "sarif")[1])["results"]
        found: dict[str, set[str]] = {}
        for result in results:
            found.setdefault(result["properties"]["release"], set()).update(
                result["partialFingerprints"].values()
            )
        return found

    both = ids(one, other)
    assert len(both) == 2
    assert not set.intersection(*both.values())
    assert ids(elsewhere) == {real_kernels["6.12"].release: both[real_kernels["6.12"].release]}
    found = sarif(run(capsys, "kernel", other, one, "--format", "sarif")[1])
    for result in found["results"]:
        place = result["locations"][0]["physicalLocation"]["artifactLocation"]
        assert found["artifacts"][place["index"]]["location"]["uri"] == place["uri"]
        assert result["properties"]["subject"] in place["uri"] or place["uri"].startswith("file:")


def test_junit_tells_errors_from_failures(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], tmp_path: Path
) -> None:
    broken = tmp_path / "vmlinuz-broken"
    broken.write_bytes(b"no kernel")
    status, text = run(capsys, "kernel", real_kernels["6.18"].path, broken, "--format", "junit")
    suites = junitparser.JUnitXml.fromstring(text.encode())
    assert status == 1
    assert (suites.errors, suites.failures) == (1, 1)


def test_a_matrix_of_kernels_and_rules(
    capsys: pytest.CaptureFixture[str],
    real_kernels: dict[str, RealKernel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "132")
    images = [real_kernels[series].path for series in ("5.10", "6.12", "6.18")]
    found = document_of(run(capsys, "kernel", "--matrix", *images, "--json")[1])
    assert [one["equals"][0] for one in found["images"]] == [
        "linux-4.15",
        "linux-6.5",
        "linux-6.18",
    ]
    _, text = run(capsys, "kernel", "--matrix", *images)
    heading, *rows = text.splitlines()[:4]
    names = heading.split()
    for row, rule in zip(rows, ("linux-4.15", "linux-6.5", "linux-6.18"), strict=True):
        assert row.split()[names.index(rule)] == "="


def test_a_matrix_shows_what_is_unknown_of_a_kernel_that_is_like_no_rule(
    real_kernels: dict[str, RealKernel],
) -> None:
    """Where no site is like a rule's there is no column in which a question mark could stand."""
    images = [str(real_kernels[series].path) for series in ("6.12", "5.10")]
    known, report = read_images(images, ReadingOptions())
    assert report.document is not None
    sites = {
        site: rule if site == "crash_nmi_callback" else {**rule, "condition": None, "equals": []}
        for site, rule in report.document["sites"].items()
    }
    changed: Any = {**report.document, "equals": [], "sites": sites}
    unread = ImageReport("no.deb", error="no.deb: not an image")
    reports = (known, replace(report, document=changed), unread)
    assert shown_matrix(known)[0].split()[-1] != "unknown"
    for several, expected in ((reports, ["-", "SJ", "SJC"]), (reports[1:2], ["SJ"])):
        heading, *rows = shown_matrix(*several)
        assert heading.split()[-1] == "unknown"
        assert [row.split()[-1] for row in rows[: len(several)]] == expected


def shown_matrix(*reports: ImageReport) -> list[str]:
    sink = io.StringIO()
    print_matrix(Console(file=sink, width=200), reports)
    return sink.getvalue().splitlines()


def test_a_series_names_the_first_bad_build(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    # Hygon lost its flush in 6.18 (linux 6.18 arch/x86/kernel/cpu/hygon.c).
    images = [real_kernels[series].path for series in ("6.1", "6.12", "6.18", "7")]
    status, text = run(capsys, "kernel", "--series", *images)
    first = " ".join(text.split("\n\n")[0].split())
    assert status == WORSE
    assert first.startswith(f"first bad: {images[2]}, ")
    assert "hygon-sme-incoherent" in first
    found = document_of(run(capsys, "kernel", "--series", *images, "--json")[1])
    assert found["first_bad"] == str(images[2])
    assert len(found["since"]) == 3
    assert run(capsys, "kernel", "--series", *images[:2])[0] == 0
    _, text = run(capsys, "kernel", "--series", *images, "--format", "junit")
    suites = junitparser.JUnitXml.fromstring(text.encode())
    worse = found["since"][1]["handovers"]["handovers"]
    assert suites.failures == sum(
        (before == "safe" != after) or not set(now) <= set(then)
        for row in worse
        for (before, after), (then, now) in [(row["verdict"], row["faults"])]
    )


def test_an_earlier_run_is_what_images_are_compared_with(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], tmp_path: Path
) -> None:
    older, newer = real_kernels["6.12"], real_kernels["6.18"]
    saved = tmp_path / "before.json"
    read = document_of(run(capsys, "kernel", older.path, "--json")[1])
    saved.write_text(json.dumps(read))
    assert run(capsys, "kernel", older.path, "--since", saved)[0] == 0
    # What was safe then and is not now: the same flavour of the series, with another rule.
    earlier = read["images"][0]["release"].replace("6.12", "6.18", 1)
    read["images"][0]["release"] = earlier
    saved.write_text("\n".join(json.dumps({**read, "images": [one]}) for one in read["images"]))
    status, text = run(capsys, "kernel", newer.path, "--since", saved, "--format", "sarif")
    assert status == WORSE
    assert "new: " in json.dumps(sarif(text)["results"])
    saved.write_text("{}")
    assert main(["kernel", str(newer.path), "--since", str(saved)]) == 1
    assert "not what `staleline kernel --json` writes" in capsys.readouterr().err


WAIVERS = """
[[waiver]]
id = "stale-write-back"
platform = "hygon-*"
reason = "no Hygon machine runs this archive"
until = 2999-12-31
[[waiver]]
id = "flush-faults"
reason = "no SEV-ES guest does a kexec"
until = 2999-12-31
[[waiver]]
id = "hang"
reason = "seen once"
until = 2999-12-31
[[waiver]]
id = "stale-read"
reason = "until the next point release"
until = 2020-01-01
"""


def test_waivers_take_the_fault_away_and_are_reported_when_unused_or_ended(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], tmp_path: Path
) -> None:
    file = tmp_path / "waivers.toml"
    file.write_text(WAIVERS)
    images = [str(real_kernels[series].path) for series in ("6.12", "6.18")]
    assert main(["kernel", "--series", *images, "--format", "junit"]) == WORSE
    capsys.readouterr()
    status = main(["kernel", "--series", *images, "--waivers", str(file), "--format", "junit"])
    captured = capsys.readouterr()
    assert status == 0
    assert junitparser.JUnitXml.fromstring(captured.out.encode()).failures == 0
    assert "no Hygon machine runs this archive" in captured.out
    assert "waiver hang is unused: seen once" in captured.err
    assert "waiver stale-read ended on 2020-01-01: until the next point release" in captured.err


def test_a_waiver_of_one_site_waives_nothing_of_two(tmp_path: Path) -> None:
    """What is missing at the other site was waived with it."""
    both = (Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL)
    file = tmp_path / "waivers.toml"
    row = f'id = "stale-read"\nsite = "{both[0]}"\nreason = "known"\nuntil = 2999-12-31\n'
    file.write_text(f"[[waiver]]\n{row}")
    waivers = read_waivers(str(file))
    for sites, level in ((both, Level.ERROR), (both[:1], Level.NOTE), ((), Level.ERROR)):
        finding = Finding("stale-read", Level.ERROR, "read", sites)
        (left,) = waivers.applied(Findings("s", "k", "e", (), {}, (), (finding,))).other
        assert left.level is level


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1", "'x' is none"),
        ('[[waiver]]\nid = "hang"\nreason = "r"', "waiver 1: until is missing"),
        ('[[waiver]]\nid = "moon"\nreason = "r"\nuntil = 2999-01-01', "no finding 'moon'"),
        ('[[waiver]]\nid = "hang"\nreason = " "\nuntil = 2999-01-01', "reason is no text"),
        ('[[waiver]]\nid = "hang"\nreason = "r"\nuntil = "soon"', "until is no date"),
        ('[[waiver]]\nid = "hang"\nreason = "r"\nuntil = 2999-01-01\nx = "y"', "unknown key 'x'"),
    ],
)
def test_waivers_that_are_not_understood_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "waivers.toml"
    file.write_text(text)
    assert main(["check", "linux-6.5", "--waivers", str(file)]) == 1
    assert says in capsys.readouterr().err


def test_what_of_an_earlier_run_is_used_for_nothing_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, real_kernels: dict[str, RealKernel]
) -> None:
    saved = tmp_path / "before.jsonl"
    both = [str(real_kernels[series].path) for series in ("5.10", "6.18")]
    assert main(["kernel", *both, "--format", "jsonl", "-o", str(saved)]) == 0
    capsys.readouterr()
    assert main(["kernel", *both, "--since", str(saved)]) == 0
    assert capsys.readouterr().err == ""
    assert main(["kernel", both[1], "--since", str(saved)]) == 0
    told = f"staleline: {saved}: nothing was compared with {both[0]} of it\n"
    assert capsys.readouterr().err == told


def test_an_image_that_was_compared_with_nothing_is_not_known_to_be_no_worse(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, real_kernels: dict[str, RealKernel]
) -> None:
    saved = tmp_path / "before.jsonl"
    old, new = (str(real_kernels[series].path) for series in ("5.10", "6.18"))
    assert main(["kernel", old, "--format", "jsonl", "-o", str(saved)]) == 0
    capsys.readouterr()
    assert main(["kernel", old, new, "--since", str(saved)]) == 3
    assert capsys.readouterr().err == (
        f"staleline: {new}: {saved} has none of its series and flavour\n"
    )


def test_a_series_of_one_image_is_refused(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    assert main(["kernel", "--series", str(real_kernels["5.10"].path)]) == 1
    assert "--series has one image, and nothing to compare it with" in capsys.readouterr().err


def test_an_earlier_run_that_nothing_can_be_compared_with_says_not_that_nothing_is_worse(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, real_kernels: dict[str, RealKernel]
) -> None:
    saved = tmp_path / "before.jsonl"
    old, new = (str(real_kernels[series].path) for series in ("5.10", "6.18"))
    assert main(["kernel", old, "--format", "jsonl", "-o", str(saved)]) == 0
    capsys.readouterr()
    assert main(["kernel", new, "--since", str(saved)]) == 1
    told = f"staleline: {saved}: has no image of the series and flavour of any of these; give an "
    assert capsys.readouterr().err.startswith(told)
