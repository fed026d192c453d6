# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tools import fetch_kernels

SCRIPT = Path(fetch_kernels.__file__)
WANTED = tomllib.loads(fetch_kernels.WANTED.read_text())

MADISON = """\
 linux-image-6.12.107+deb13-cloud-amd64 | 6.12.107-1 | http://mirror.invalid trixie/main amd64
linux-image-6.12.9+deb13-cloud-amd64-unsigned | 6.12.9-1 | http://mirror.invalid trixie/main amd64
linux-binary-6.19.14+deb13-amd64 | 6.19.14-1 | http://mirror.invalid forky/main amd64 Packages
linux-image-5.10.0-46-amd64 | 5.10.262-1 | http://mirror.invalid bullseye/main amd64 Packages
linux-image-6.1.0-0.deb11.13-amd64 | 6.1.55-1~bpo11+1 | http://mirror.invalid bullseye/main
linux-image-6.1.0-41-rt-amd64 | 6.1.158-1 | http://mirror.invalid bookworm/main amd64 Packages
linux-image-6.12.9+deb13-cloud-amd64-dbg | 6.12.9-1 | http://mirror.invalid trixie/main amd64
linux-image-amd64 | 6.12.9-1 | http://mirror.invalid trixie/main amd64 Packages
linux-image-6.12.9+deb13-cloud-arm64 | 6.12.9-1 | http://mirror.invalid trixie/main arm64
"""


def run(cache: Path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--cache", str(cache), *arguments]
    environment = {"PATH": "/usr/bin:/bin" if path is None else path, "HOME": str(cache)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def fill(cache: Path) -> None:
    """A cache as a former run left it."""
    images = []
    for name in map(fetch_kernels.identifier, fetch_kernels.entries(WANTED)):
        file = f"vmlinuz-{name}"
        (cache / file).write_bytes(b"MZ")
        image = {"series": name, "release": "r", "package": "p", "version": "1"}
        images.append(image | {"file": file, "sha256": ""})
    (cache / "index.json").write_text(json.dumps({"images": images}))


def test_packages_that_may_hold_an_image():
    found = [(p.name, p.kind, p.series, p.flavour) for p in fetch_kernels.parse_madison(MADISON)]
    assert found == [
        ("linux-image-6.12.107+deb13-cloud-amd64", "image", "6.12", "cloud"),
        ("linux-image-6.12.9+deb13-cloud-amd64-unsigned", "image", "6.12", "cloud"),
        ("linux-binary-6.19.14+deb13-amd64", "binary", "6.19", "generic"),
        ("linux-image-5.10.0-46-amd64", "image", "5.10", "generic"),
        ("linux-image-6.1.0-0.deb11.13-amd64", "image", "6.1", "generic"),
        ("linux-image-6.1.0-41-rt-amd64", "image", "6.1", "rt"),
    ]


@pytest.fixture
def apt(tmp_path):
    return fetch_kernels.Apt(tmp_path, WANTED, "file:///nowhere")


def package(name: str, version: str, series: str, flavour: str = "cloud") -> fetch_kernels.Package:
    kind = "binary" if "binary" in name else "image"
    return fetch_kernels.Package(name, version, kind, "release", series, flavour)


def test_candidates_by_flavour_then_version_then_the_package_with_the_image(apt):
    old = package("linux-image-a", "6.19.9-1", "6.19")
    new = package("linux-image-b", "6.19.14-1", "6.19")
    binary = package("linux-binary-b", "6.19.14-1", "6.19")
    backport = package("linux-image-c", "6.19.14-1~bpo13+1", "6.19")
    generic = package("linux-image-d", "6.19.99-1", "6.19", "generic")
    other = package("linux-image-e", "7.0.1-1", "7.0")
    packages = [old, generic, other, new, backport, binary]
    assert apt.candidates(packages, {"version": "6.19"}) == [binary, new, backport, old, generic]
    assert apt.candidates(packages, {"version": "7"}) == [other]
    assert apt.candidates(packages, {"version": "6.19", "flavours": ["generic"]}) == [generic]


def test_every_image_has_a_name_of_its_own():
    names = [fetch_kernels.identifier(entry) for entry in fetch_kernels.entries(WANTED)]
    assert len(names) == len(set(names))


def test_an_entry_is_asked_for_by_its_name(tmp_path):
    fill(tmp_path)
    done = run(tmp_path, "--series", "6.12-rt", path="")
    assert done.stdout == f"6.12-rt\tr\t{tmp_path}/vmlinuz-6.12-rt\n"


def deb_with_image(directory: Path) -> Path:
    tree = directory / "tree"
    for name in ("DEBIAN/control", "boot/vmlinuz-1-amd64"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"image")
    control = "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: m <m@example.org>\n"
    (tree / "DEBIAN" / "control").write_text(control + "Description: d\n")
    deb = directory / "downloaded.deb"
    subprocess.run(["dpkg-deb", "--build", tree, deb], check=True, capture_output=True)
    return deb


@pytest.mark.parametrize(
    ("keep", "file"),
    [({}, "vmlinuz-release"), ({"keep": "package"}, "linux-image-a_6.12.9-1.deb")],
)
def test_the_cache_keeps_the_image_or_the_package(apt, tmp_path, monkeypatch, keep, file):
    monkeypatch.setattr(apt, "download", lambda package, directory: deb_with_image(directory))
    offered = [package("linux-image-a", "6.12.9-1", "6.12")]
    entry = {"id": "one", "version": "6.12"} | keep
    image = fetch_kernels._fetch_entry(apt, offered, entry, tmp_path, {})
    assert (image.series, image.file) == ("one", file)
    content = (tmp_path / file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == image.sha256
    assert content.startswith(b"!<arch>\n" if keep else b"image")


@pytest.mark.parametrize("place", ["boot/vmlinuz-1-amd64", "usr/lib/modules/1-amd64/vmlinuz"])
def test_only_the_image_leaves_the_package(tmp_path, place):
    tree = tmp_path / "tree"
    for name in ("DEBIAN/control", place, "usr/share/doc/vmlinuz"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"image" if name == place else b"other\n")
    control = "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: m <m@example.org>\n"
    (tree / "DEBIAN" / "control").write_text(control + "Description: d\n")
    deb = tmp_path / "p.deb"
    subprocess.run(["dpkg-deb", "--build", tree, deb], check=True, capture_output=True)
    image = fetch_kernels.extract(deb, tmp_path)
    assert image is not None
    assert image.read_bytes() == b"image"


def test_a_package_without_image_gives_none(tmp_path):
    control = tmp_path / "tree" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text("Package: p\nVersion: 1\nArchitecture: all\nMaintainer: m <m@e.org>\n")
    deb = tmp_path / "p.deb"
    subprocess.run(["dpkg-deb", "-b", tmp_path / "tree", deb], check=True, capture_output=True)
    assert fetch_kernels.extract(deb, tmp_path) is None


def test_what_is_cached_needs_neither_apt_nor_network(tmp_path):
    fill(tmp_path)
    done = run(tmp_path, "--all", path="")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(fetch_kernels.entries(WANTED))
    assert done.stdout.startswith(f"5.10\tr\t{tmp_path}/vmlinuz-5.10\n")


def test_without_apt_one_line_and_status_1(tmp_path):
    done = run(tmp_path, path="")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "fetch_kernels: apt-get not found: kernels come as Debian packages; install apt\n"
    )


def test_without_network_one_line_and_status_1(tmp_path):
    done = run(tmp_path, "--mirror", "file:///nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("fetch_kernels: no package list could be had (")
    assert done.stderr.endswith("; check the network\n")
    assert done.stderr.count("\n") == 1


def test_an_image_that_is_gone_is_not_listed(tmp_path):
    fill(tmp_path)
    (tmp_path / "vmlinuz-6.12").unlink()
    assert "6.12" not in fetch_kernels.read_index(tmp_path)
    assert "6.1" in fetch_kernels.read_index(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": 1}', '{"images": [{"a": 1}]}'])
def test_a_damaged_index_is_an_empty_one(tmp_path, text):
    (tmp_path / "index.json").write_text(text)
    assert fetch_kernels.read_index(tmp_path) == {}
