# SPDX-License-Identifier: GPL-2.0-or-later
"""Build the kernels of kernels/builds.toml from Debian's source packages.

What a build depends on (source version, configuration, patches, compiler) names it; one that is
there is not made again. Prints one line per build: name, release, folder. Each folder holds
bzImage, vmlinux, System.map, config and build.json.

Exit status: 0 all builds are there, 1 some are not (one line each on standard error).
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.fetch_kernels import FetchError, default_cache
from tools.kernel_source import Source, SourceError, Tree, newest, private_apt, unpack, unpacked

KERNELS = Path(__file__).resolve().parent.parent / "kernels"
# Same sources, same image: no time of day, user, host or count of builds in it.
_REPRODUCIBLE = {
    "KBUILD_BUILD_TIMESTAMP": "2026-01-01",
    "KBUILD_BUILD_USER": "staleline",
    "KBUILD_BUILD_HOST": "staleline",
    "KBUILD_BUILD_VERSION": "1",
    "LC_ALL": "C",
}
_NEEDED = {  # program: Debian package
    "gcc": "gcc",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "perl": "perl",
    "patch": "patch",
    "zstd": "zstd",
    "xz": "xz-utils",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
}
_NEEDED_BY_LLVM = {"clang": "clang", "ld.lld": "lld", "llvm-objcopy": "llvm"}
_PRODUCTS = {"arch/x86/boot/bzImage": "bzImage", "vmlinux": "vmlinux", "System.map": "System.map"}


class BuildError(Exception):
    """One line for the user."""


@dataclass(frozen=True, slots=True)
class Build:
    """One entry of builds.toml.

    Attributes:
        name: What it is called, also in the kernel's release.
        series: Of the source package.
        config: Fragments in config/, without their suffix.
        patches: Files to apply, in this order.
        llvm: Major version of the LLVM to compile and link with; None for gcc and binutils.
    """

    name: str
    series: str
    config: tuple[str, ...]
    patches: tuple[Path, ...]
    llvm: int | None = None

    @property
    def suffix(self) -> str:
        """What it appends to the kernel's release: its name, but for the series."""
        own = self.name.removeprefix(self.series).removeprefix("-")
        return f"-{own}" if own else ""

    @property
    def tools(self) -> str:
        """What make is told of them, as in Documentation/kbuild/llvm.rst; empty for gcc."""
        return "" if self.llvm is None else f"LLVM=-{self.llvm}"

    def compiler(self) -> str:
        """Name and version of the compiler that is installed for it."""
        name = "gcc" if self.llvm is None else f"clang-{self.llvm}"
        return _output(name, "--version").splitlines()[0]

    def options(self) -> str:
        """Its configuration as one fragment; of two lines on one option the later holds."""
        return "".join((KERNELS / "config" / f"{part}.config").read_text() for part in self.config)

    def key(self, source: Source, compiler: str) -> str:
        """What names the result: the same key, the same kernel."""
        digest = hashlib.sha256()
        # What a patch argues does not change the kernel.
        patches = [patch.read_text().partition("\n---\n")[2] for patch in self.patches]
        for part in (self.name, source.version, compiler, self.options(), *patches):
            digest.update(part.encode() + b"\0")
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What build.json says about a build."""

    name: str
    key: str
    release: str
    package: str
    version: str
    compiler: str
    config: tuple[str, ...]
    patches: tuple[str, ...]
    seconds: int
    sha256: Mapping[str, str]


def main(arguments: list[str] | None = None) -> int:
    """Build what is missing and list what is there."""
    options = _options(arguments)
    failed = 0
    try:
        wanted = _wanted(options)
        _check_prerequisites(wanted)
        with _locked(options.cache):
            sources = _sources(options, {build.series for build in wanted})
            for build in wanted:
                failed += not _report(build, sources[build.series], options)
    except (BuildError, SourceError, FetchError) as error:
        sys.stderr.write(f"build_kernels: {error}\n")
        return 1
    return 1 if failed else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("build", nargs="*", help="only these, optional ones too (default: all)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="default: %(default)s")
    parser.add_argument("--refresh", action="store_true", help="look for newer sources")
    parser.add_argument("--mirror", help="URL of a Debian mirror, if apt is configured for none")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="default: %(default)s")
    return parser.parse_args(arguments)


def builds() -> list[tuple[Build, bool]]:
    """Every entry of builds.toml, and whether it is built only on request."""
    entries = tomllib.loads((KERNELS / "builds.toml").read_text())["build"]
    return [(_build(entry), bool(entry.get("optional"))) for entry in entries]


def _build(entry: Mapping[str, Any]) -> Build:
    patches: list[Path] = []
    for name in entry.get("patches", ()):
        path = KERNELS / name
        patches += sorted(path.glob("*.patch")) if path.is_dir() else [path]
    config, llvm = tuple(entry["config"]), entry.get("llvm")
    return Build(entry["name"], entry["series"], config, tuple(patches), llvm)


def _wanted(options: argparse.Namespace) -> list[Build]:
    known = builds()
    unknown = set(options.build) - {build.name for build, _ in known}
    if unknown:
        names = ", ".join(build.name for build, _ in known)
        raise BuildError(f"no build is called {', '.join(sorted(unknown))}; there are {names}")
    chosen = options.build
    return [
        build for build, optional in known if (build.name in chosen if chosen else not optional)
    ]


def _check_prerequisites(wanted: Iterable[Build]) -> None:
    needed = dict(_NEEDED)
    for version in {build.llvm for build in wanted if build.llvm is not None}:
        needed |= {f"{tool}-{version}": f"{of}-{version}" for tool, of in _NEEDED_BY_LLVM.items()}
    missing = [package for tool, package in needed.items() if shutil.which(tool) is None]
    if not missing:
        probe = ["gcc", "-E", "-x", "c", "-include", "gelf.h", "/dev/null"]  # objtool reads ELF
        if subprocess.run(probe, capture_output=True, check=False).returncode:  # noqa: S603
            missing.append("libelf-dev")
    if missing:
        raise BuildError(f"cannot build kernels without: apt-get install {' '.join(missing)}")


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    (cache / "built").mkdir(parents=True, exist_ok=True)
    with (cache / "built" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sources(options: argparse.Namespace, wanted: set[str]) -> dict[str, Source]:
    cache = options.cache / "source"
    known = {series: None if options.refresh else unpacked(cache, series) for series in wanted}
    absent = [series for series, source in known.items() if source is None]
    if absent:
        with tempfile.TemporaryDirectory(dir=options.cache, prefix="apt-") as root:
            apt = private_apt(Path(root), options.mirror)
            for series in sorted(absent):
                known[series] = source = newest(apt, series)
                unpack(apt, source, cache)
    return {series: source for series, source in known.items() if source}


def _report(build: Build, source: Source, options: argparse.Namespace) -> bool:
    try:
        record = built(build, source, options.cache, options.jobs)
    except (BuildError, SourceError) as error:
        sys.stderr.write(f"build_kernels: {build.name}: {error}\n")
        return False
    sys.stdout.write(f"{build.name}\t{record.release}\t{options.cache / 'built' / build.name}\n")
    sys.stdout.flush()
    return True


def built(build: Build, source: Source, cache: Path, jobs: int) -> Record:
    """The build in the cache, made now if it is not there or not of these sources.

    Raises:
        BuildError: An option was not taken, or the compiler gave up.
        SourceError: A patch does not apply.
    """
    folder = cache / "built" / build.name
    compiler = build.compiler()
    key = build.key(source, compiler)
    known = read_record(folder)
    if known and known.key == key:
        return known
    tree = cache / "source" / source.folder
    objects = cache / "source" / f"{source.folder}.objects{build.tools.removeprefix('LLVM=')}"
    objects.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    Tree(tree, cache / "source" / f"{source.folder}.originals").switch_to(build.patches)
    configure(tree, objects, build.options(), build.tools)
    _make(tree, objects, build.tools, f"LOCALVERSION={build.suffix}", f"-j{jobs}", "bzImage")
    record = Record(
        name=build.name,
        key=key,
        release=(objects / "include/config/kernel.release").read_text().strip(),
        package=source.package,
        version=source.version,
        compiler=compiler,
        config=build.config,
        patches=tuple(str(patch.relative_to(KERNELS)) for patch in build.patches),
        seconds=round(time.monotonic() - started),
        sha256={
            name: hashlib.sha256((objects / product).read_bytes()).hexdigest()
            for product, name in _PRODUCTS.items()
        },
    )
    _keep(objects, folder, record)
    return record


def read_record(folder: Path) -> Record | None:
    """What build.json in this folder says; None if there is no complete build."""
    try:
        return Record(**json.loads((folder / "build.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def configure(tree: Path, objects: Path, options: str, tools: str = "") -> None:
    """Write .config: what `options` asks for, and no to everything else.

    Raises:
        BuildError: This version has not taken one of the options; it names them.
    """
    fragment = objects / "wanted.config"
    fragment.write_text(options)
    _make(tree, objects, tools, f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig")
    missing = refused(options, (objects / ".config").read_text())
    if missing:
        raise BuildError(f"not to be had in {tree.name}: {', '.join(missing)}")


def refused(wanted: str, config: str) -> list[str]:
    """The settings of a fragment that a .config does not have; the last on an option counts."""
    lines = [line for line in wanted.splitlines() if line.startswith("CONFIG_")]
    settings = dict(line.split("=", maxsplit=1) for line in lines)
    have = dict(line.split("=", maxsplit=1) for line in config.splitlines() if "=" in line)
    return [f"{name}={value}" for name, value in settings.items() if have.get(name, "n") != value]


def _make(tree: Path, objects: Path, *arguments: str) -> None:
    log = objects / "build.log"
    told = filter(None, arguments)
    command = ["make", "-s", "-C", str(tree), f"O={objects}", "ARCH=x86_64", *told]
    with log.open("w") as out:
        environment = os.environ | _REPRODUCIBLE
        done = subprocess.run(  # noqa: S603
            command, stdout=out, stderr=subprocess.STDOUT, check=False, env=environment
        )
    if done.returncode:
        lines = log.read_text().splitlines()
        reason = next((line for line in lines if "error:" in line.lower()), "make failed")
        raise BuildError(f"{reason} (all of it in {log})")


def _keep(objects: Path, folder: Path, record: Record) -> None:
    (folder / "build.json").unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for product, name in (_PRODUCTS | {".config": "config"}).items():
        shutil.copyfile(objects / product, folder / name)
    (folder / "build.json").write_text(json.dumps(asdict(record), indent=1) + "\n")


def _output(*command: str) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=True
    )
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
