#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetch the real kernel images that the tests and benchmarks run on.

Takes them from the Debian mirror this machine's apt is configured for, without root and
without touching its package lists: a private apt root under the cache directory. Only
the vmlinuz of each package is kept, or the package where one is wanted as such. Prints
one line per image: identifier, release, path.

Exit status: 0 all images are there, 1 some are not (one line each on standard error).
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cmp_to_key
from pathlib import Path
from typing import Any

WANTED = Path(__file__).resolve().parent.parent / "tests" / "data" / "kernels.toml"
_KEYRINGS = ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp")
_PACKAGE = re.compile(
    r"linux-(?P<kind>image|binary)-"
    r"(?P<release>(?P<series>\d+\.\d+)[^-]*(?:-\d[\w.]*)?(?:-(?P<flavour>cloud|rt))?-amd64)"
    r"(?P<unsigned>-unsigned)?"
)
_VMLINUZ = re.compile(r"(?:\./)?(?:boot/vmlinuz-[^/]+|(?:usr/)?lib/modules/[^/]+/vmlinuz)")
_ATTEMPTS = 16  # candidates to try per entry: mirrors list packages that are gone


Entry = Mapping[str, Any]  # one [[series]], [[flavour]] or [[package]] of kernels.toml


class FetchError(Exception):
    """One line for the user."""


@dataclass(frozen=True, slots=True)
class Package:
    """One package version on the mirror that may hold an image."""

    name: str
    version: str
    kind: str
    release: str
    series: str
    flavour: str


@dataclass(frozen=True, slots=True)
class Image:
    """One image in the cache; `series` is its identifier, `file` is relative to the index."""

    series: str
    release: str
    package: str
    version: str
    file: str
    sha256: str


def identifier(entry: Entry) -> str:
    """What an entry's image is called: its ``id``, or the version if it has none."""
    return str(entry.get("id", entry["version"]))


def entries(wanted: Mapping[str, Any]) -> list[Entry]:
    """All entries of kernels.toml, of every kind."""
    return [entry for kind in ("series", "flavour", "package") for entry in wanted.get(kind, ())]


def main(arguments: list[str] | None = None) -> int:
    """Fetch what is missing and list what is there."""
    options = _options(arguments)
    wanted = tomllib.loads(options.wanted.read_text())
    asked = [entry for entry in entries(wanted) if _asked_for(entry, options)]
    try:
        images, missing = fetch(options.cache, asked, wanted, options.mirror, options.refresh)
    except FetchError as error:
        sys.stderr.write(f"fetch_kernels: {error}\n")
        return 1
    for image in images:
        sys.stdout.write(f"{image.series}\t{image.release}\t{options.cache / image.file}\n")
    for reason in missing:
        sys.stderr.write(f"fetch_kernels: {reason}\n")
    return 1 if missing else 0


def _asked_for(entry: Entry, options: argparse.Namespace) -> bool:
    if options.series:
        return identifier(entry) in options.series
    return options.all or not entry.get("optional")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--all", action="store_true", help="optional ones too")
    parser.add_argument("--series", action="append", help="this one only, e.g. 6.12 or 6.12-rt")
    parser.add_argument("--refresh", action="store_true", help="look for newer packages")
    parser.add_argument("--mirror", help="URL of a Debian mirror, if apt is configured for none")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="default: %(default)s")
    parser.add_argument("--wanted", type=Path, default=WANTED, help="default: %(default)s")
    return parser.parse_args(arguments)


def default_cache() -> Path:
    """Where the images are kept: ``$XDG_CACHE_HOME/staleline/kernels``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "staleline" / "kernels"


def fetch(
    cache: Path, asked: list[Entry], wanted: Mapping[str, Any], mirror: str | None, refresh: bool
) -> tuple[list[Image], list[str]]:
    """Bring the newest image of each entry into the cache.

    Returns:
        The images there are now, and one line for each that could not be had.
    """
    cache.mkdir(parents=True, exist_ok=True)
    missing = []
    with _locked(cache):
        have = read_index(cache)
        absent = [entry for entry in asked if refresh or identifier(entry) not in have]
        if absent:
            with tempfile.TemporaryDirectory(dir=cache, prefix="apt-") as root:
                apt = Apt(Path(root), wanted, mirror)
                packages = apt.packages()
                for entry in absent:
                    try:
                        image = _fetch_entry(apt, packages, entry, cache, have)
                        _put(cache, have, image)
                    except FetchError as error:
                        missing.append(str(error))
    return [have[name] for name in map(identifier, asked) if name in have], missing


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_index(cache: Path) -> dict[str, Image]:
    """Images of the cache by identifier; those whose file is gone are left out."""
    try:
        entries = json.loads((cache / "index.json").read_text())["images"]
        images = [Image(**entry) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {image.series: image for image in images if (cache / image.file).is_file()}


def _put(cache: Path, images: dict[str, Image], image: Image) -> None:
    """Enter one image; the file it replaces goes unless another entry has it too."""
    replaced = images.get(image.series)
    images[image.series] = image
    text = json.dumps({"images": [asdict(other) for other in images.values()]}, indent=1)
    partial = cache / "index.json.partial"
    partial.write_text(text + "\n")
    partial.replace(cache / "index.json")
    if replaced and replaced.file not in {other.file for other in images.values()}:
        (cache / replaced.file).unlink()


class Apt:
    """A private apt root: this machine's proxies and keys, the suites named in `wanted`."""

    def __init__(self, root: Path, wanted: Mapping[str, Any], mirror: str | None) -> None:
        for tool in ("apt-get", "apt-cache", "dpkg", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise FetchError(f"{tool} not found: kernels come as Debian packages; install apt")
        for part in ("lists/partial", "archives/partial", "sources"):
            (root / part).mkdir(parents=True, exist_ok=True)
        (root / "status").touch()
        main, security = (mirror, mirror) if mirror else _mirrors()
        types = wanted.get("types", "deb")
        sources = [_source(main, suite, types) for suite in wanted["suites"]]
        if security:
            sources += [_source(security, suite, types) for suite in wanted["security_suites"]]
        (root / "sources" / "kernels.sources").write_text("\n".join(sources))
        (root / "apt.conf").write_text(_configuration(root))
        self._root = root
        self._flavours: list[str] = wanted["flavours"]

    def packages(self) -> list[Package]:
        """Every candidate the suites offer; a suite that fails is passed over."""
        update = self.run("apt-get", "update", "-q")
        names = self.run("apt-cache", "pkgnames", "linux-").stdout.split()
        matching = [name for name in names if _PACKAGE.fullmatch(name)]
        if not matching:
            reason = (update.stderr.strip().splitlines() or ["no suite holds kernel packages"])[0]
            raise FetchError(f"no package list could be had ({reason}); check the network")
        table = self.run("apt-cache", "madison", *matching).stdout
        return list(set(parse_madison(table)))

    def candidates(self, packages: Iterable[Package], entry: Entry) -> list[Package]:
        """Packages of an entry: preferred flavour, then newest version, then the image's own.

        From 6.19 on the image is in ``linux-binary-*`` and ``linux-image-*`` depends on it.
        """
        flavours = entry.get("flavours", self._flavours)
        version = entry["version"]
        usable = [
            package
            for package in packages
            if package.flavour in flavours
            and version in (package.series, package.series.split(".")[0])
        ]
        usable.sort(key=lambda package: (package.kind != "binary", package.name))
        usable.sort(key=cmp_to_key(lambda a, b: _compare(b.version, a.version)))
        usable.sort(key=lambda package: flavours.index(package.flavour))
        return usable[:_ATTEMPTS]

    def download(self, package: Package, directory: Path) -> Path | None:
        """The .deb, or None if the mirror does not have it any more."""
        self.run("apt-get", "download", "-q", f"{package.name}={package.version}", cwd=directory)
        return next(directory.glob("*.deb"), None)

    def run(
        self, tool: str, *arguments: str, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one of apt's tools in the private root."""
        return _run(tool, "-c", str(self._root / "apt.conf"), *arguments, cwd=cwd)


def _run(tool: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [shutil.which(tool) or tool, *arguments]
    environment = os.environ | {"LC_ALL": "C"}
    return subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, cwd=cwd, env=environment
    )


def _mirrors() -> tuple[str, str | None]:
    """Repository of Debian and of its security updates in this machine's configuration."""
    fields = "$(CREATED_BY)|$(CODENAME)|$(ORIGIN)|$(REPO_URI)"
    targets = _run("apt-get", "indextargets", "--format", fields)
    main = security = None
    for line in targets.stdout.splitlines():
        created_by, codename, origin, uri = line.split("|", 3)
        if created_by != "Packages" or origin not in ("Debian", "", "$(ORIGIN)"):
            continue
        if "security" in codename or "security" in uri:
            security = security or uri
        else:
            main = main or uri
    if main is None:
        raise FetchError("this machine's apt is configured for no Debian mirror; give --mirror URL")
    return main, security


def _source(uri: str, suite: str, types: str) -> str:
    keyrings = (Path("/usr/share/keyrings") / name for name in _KEYRINGS)
    signed_by = next((f"Signed-By: {path}\n" for path in keyrings if path.exists()), "")
    return (
        f"Types: {types}\nURIs: {uri}\nSuites: {suite}\nComponents: main\nArchitectures: amd64\n"
        f"Targets: Packages Sources\nCheck-Valid-Until: no\n{signed_by}"
    )


def _configuration(root: Path) -> str:
    return f"""\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "1";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{root}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{root}";
Dir::State::lists "{root}/lists";
Dir::State::status "{root}/status";
Dir::Cache "{root}";
Dir::Cache::archives "{root}/archives";
"""


def parse_madison(table: str) -> Iterator[Package]:
    """Packages of a table of name, version and source as ``apt-cache madison`` prints it."""
    for line in table.splitlines():
        name, version, *_ = (field.strip() for field in line.split("|"))
        match = _PACKAGE.fullmatch(name)
        if match:
            flavour = match["flavour"] or "generic"
            yield Package(name, version, match["kind"], match["release"], match["series"], flavour)


def _compare(a: str, b: str) -> int:
    """Order of two Debian versions: -1, 0 or 1."""
    if a == b:
        return 0
    return -1 if _run("dpkg", "--compare-versions", a, "lt", b).returncode == 0 else 1


def _fetch_entry(
    apt: Apt, packages: Iterable[Package], entry: Entry, cache: Path, have: Mapping[str, Image]
) -> Image:
    name = identifier(entry)
    candidates = apt.candidates(packages, entry)
    known = have.get(name)
    for package in candidates:
        if known and (known.package, known.version) == (package.name, package.version):
            return known
        with tempfile.TemporaryDirectory(dir=cache, prefix="deb-") as directory:
            found = _wanted_file(apt, package, entry, Path(directory))
            if found:
                file, content = found
                digest = hashlib.sha256(content.read_bytes()).hexdigest()
                content.replace(cache / file)
                return Image(name, package.release, package.name, package.version, file, digest)
    tried = ", ".join(package.name for package in candidates) or "no package on this mirror"
    raise FetchError(f"{name}: no image found ({tried}); try later or give --mirror URL")


def _wanted_file(
    apt: Apt, package: Package, entry: Entry, directory: Path
) -> tuple[str, Path] | None:
    """Name in the cache and content of a package's image, or of the package itself."""
    deb = apt.download(package, directory)
    vmlinuz = extract(deb, directory) if deb else None
    if not (deb and vmlinuz):
        return None
    if entry.get("keep") == "package":
        return f"{package.name}_{package.version}.deb", deb
    return f"vmlinuz-{package.release}", vmlinuz


def extract(deb: Path, directory: Path) -> Path | None:
    """The vmlinuz of a package, as a file in `directory`; None if it holds none."""
    command = [shutil.which("dpkg-deb") or "dpkg-deb", "--fsys-tarfile", str(deb)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as unpack,  # noqa: S603
        tarfile.open(fileobj=unpack.stdout, mode="r|") as archive,
    ):
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content and _VMLINUZ.fullmatch(member.name):
                vmlinuz = directory / "vmlinuz"
                with vmlinuz.open("wb") as file:
                    shutil.copyfileobj(content, file)
                unpack.kill()
                return vmlinuz
    return None


if __name__ == "__main__":
    sys.exit(main())
