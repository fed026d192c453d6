# SPDX-License-Identifier: GPL-2.0-or-later
"""Build the simulated machine: Debian's Bochs with the patches of machine/patches.

What a build depends on (source, patches, options, compiler) names it; one that is there is not
made again; programs of guests are made each time. Prints its folder, which holds bochs, its BIOS
images, programs of guests, and build.json.

Exit status: 0 it is there, 1 it could not be built (one line on standard error).
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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tools.fetch_kernels import Apt, FetchError
from tools.kernel_source import SourceError, apply

from staleline.simulation.emulator import BuiltMachine, machine_cache

__all__ = ["MACHINE", "BuildError", "build", "compiled_guest", "installed", "patches", "unpacked"]

MACHINE: Final = Path(__file__).resolve().parent.parent / "machine"
_NEEDED: Final = {  # program: Debian package
    "g++": "g++",
    "make": "make",
    "patch": "patch",
    "xz": "xz-utils",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
}
_COMPILED: Final = (
    *("gcc", "-O2", "-s", "-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie"),
    *("-fno-stack-protector", "-fno-tree-loop-distribute-patterns", "-Wl,--build-id=none"),
)
_ASSEMBLED: Final = (
    *("gcc", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none"),
    "-Wl,--oformat=binary",
)
#: Programs of guests: source, and how each is made.
_GUESTS: Final = {
    "init": ("init.c", _COMPILED),
    "boot": ("boot.S", (*_ASSEMBLED, "-Wl,-Ttext=0x7c00")),
    "probe": ("probe.S", (*_ASSEMBLED, "-Wl,-Ttext=0")),
}


class BuildError(Exception):
    """One line for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What build.json says about a build."""

    key: str
    interface: int
    package: str
    version: str
    compiler: str
    options: tuple[str, ...]
    patches: tuple[str, ...]
    packages: Mapping[str, str]
    seconds: int
    sha256: Mapping[str, str]


def main(arguments: list[str] | None = None) -> int:
    """Build what is missing and print where it is."""
    options = _options(arguments)
    try:
        emulator = build(options.cache, options.jobs, options.mirror)
    except (BuildError, SourceError, FetchError) as error:
        sys.stderr.write(f"build_machine: {error}\n")
        return 1
    sys.stdout.write(f"{emulator.folder}\n")
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="default: %(default)s")
    parser.add_argument("--mirror", help="URL of a Debian mirror, if apt is configured for none")
    parser.add_argument("--cache", type=Path, default=machine_cache(), help="default: %(default)s")
    return parser.parse_args(arguments)


def patches() -> list[Path]:
    """The series, in its order."""
    return sorted((MACHINE / "patches").glob("*.patch"))


def installed(cache: Path | None = None) -> BuiltMachine:
    """The machine of this checkout's patches.

    Raises:
        BuildError: It is not built; it says how.
    """
    folder = (cache or machine_cache()) / "built"
    try:
        record = _read_record(folder)
        current = record is not None and record.key == _key(_wanted())
    except OSError as error:
        raise BuildError(f"cannot read the simulated machine's build: {error}") from error
    if record is None or not current:
        state = "not built" if record is None else "built of other patches or by another compiler"
        raise BuildError(f"the simulated machine is {state}: make machine")
    return BuiltMachine(folder, record.key)


def build(cache: Path, jobs: int, mirror: str | None = None) -> BuiltMachine:
    """The machine in the cache, made now if it is not there or not of these patches.

    Raises:
        BuildError: A program is missing, or the compiler gave up.
        FetchError: There is no apt, or no mirror.
        SourceError: A patch does not apply.
    """
    wanted = _wanted()
    _check_prerequisites()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = _read_record(cache / "built")
        if record is None or record.key != _key(wanted):
            with tempfile.TemporaryDirectory(dir=cache, prefix="build-") as work:
                record = _build(Path(work), cache / "built", wanted, jobs, mirror)
        for name, (source, compiler) in _GUESTS.items():
            _compile_guest(name, source, compiler, cache / "built")
    return BuiltMachine(cache / "built", record.key)


def unpacked(cache: Path) -> tuple[Path, Path]:
    """The emulator's patched sources, and their objects, which are compiled if they are not there.

    Raises:
        As `build`.
    """
    wanted = _wanted()
    tree, objects, key = (
        cache / "source" / wanted["source"]["tree"],
        cache / "objects",
        cache / "key",
    )
    if not key.exists() or key.read_text() != _key(wanted):
        _check_prerequisites()
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        apt = Apt(cache / "apt", wanted, None)
        update = apt.run("apt-get", "update", "-q")
        tree = _source(apt, wanted["source"], cache, update.stderr)
        for patch in patches():
            apply(patch, tree)
        _compile(tree, objects, wanted["configure"]["options"], os.cpu_count() or 1, cache)
        key.write_text(_key(wanted))
    return tree, objects


def _wanted() -> Mapping[str, Any]:
    return tomllib.loads((MACHINE / "machine.toml").read_text())


def _check_prerequisites() -> None:
    missing = [package for tool, package in _NEEDED.items() if shutil.which(tool) is None]
    if missing:
        raise BuildError(
            f"cannot build the simulated machine without: apt-get install {' '.join(missing)}"
        )


def _key(wanted: Mapping[str, Any]) -> str:
    """What names a build: the same key, the same machine."""
    source = wanted["source"]
    digest = hashlib.sha256()
    # What a patch argues does not change the machine.
    series = [patch.read_text().partition("\n---\n")[2] for patch in patches()]
    pins = (source["version"], *source["sha256"].values(), *wanted["configure"]["options"])
    for part in (*pins, _compiler(), *series):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def _compiler() -> str:
    if shutil.which("g++") is None:
        return "none"
    return _run(["g++", "--version"], None).splitlines()[0]


def _read_record(folder: Path) -> Record | None:
    try:
        return Record(**json.loads((folder / "build.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _build(
    work: Path, folder: Path, wanted: Mapping[str, Any], jobs: int, mirror: str | None
) -> Record:
    started, key = time.monotonic(), _key(wanted)
    apt = Apt(work / "apt", wanted, mirror)
    update = apt.run("apt-get", "update", "-q")
    product = work / "built"
    product.mkdir()
    versions = _fetch_files(apt, wanted["package"], work, product)
    tree = _source(apt, wanted["source"], work, update.stderr)
    for patch in patches():
        apply(patch, tree)
    _compile(tree, work / "objects", wanted["configure"]["options"], jobs, folder.parent)
    shutil.copyfile(work / "objects" / "bochs", product / "bochs")
    (product / "bochs").chmod(0o755)
    record = Record(
        key=key,
        interface=wanted["interface"],
        package=wanted["source"]["package"],
        version=wanted["source"]["version"],
        compiler=_compiler(),
        options=tuple(wanted["configure"]["options"]),
        patches=tuple(patch.name for patch in patches()),
        packages=versions,
        seconds=round(time.monotonic() - started),
        sha256={path.name: _sha256(path) for path in sorted(product.iterdir())},
    )
    (product / "build.json").write_text(json.dumps(asdict(record), indent=1) + "\n")
    if folder.exists():
        folder.rename(work / "replaced")
    product.rename(folder)
    return record


def _fetch_files(
    apt: Apt, packages: Sequence[Mapping[str, Any]], work: Path, product: Path
) -> dict[str, str]:
    """Files of the newest versions of binary packages; the versions by name."""
    folder = work / "packages"
    folder.mkdir()
    names = [package["name"] for package in packages]
    apt.run("apt-get", "download", "-q", *names, cwd=folder)
    versions = {}
    for package in packages:
        name = package["name"]
        deb = next(folder.glob(f"{name}_*.deb"), None)
        if deb is None:
            raise BuildError(
                f"{name} cannot be downloaded: check the network, or give --mirror URL"
            )
        _run(["dpkg-deb", "--extract", str(deb), str(folder / name)], None)
        for inside, called in package["files"].items():
            shutil.copyfile(folder / name / inside, product / called)
        versions[name] = _run(["dpkg-deb", "--field", str(deb), "Version"], None).strip()
    return versions


def _source(apt: Apt, source: Mapping[str, Any], work: Path, trouble: str) -> Path:
    """The source package, unpacked, with Debian's own patches."""
    folder = work / "source"
    folder.mkdir()
    wanted = f"{source['package']}={source['version']}"
    # The description (.dsc) is not needed, and mirrors have been seen without it.
    apt.run("apt-get", "source", "-q", "--download-only", wanted, cwd=folder)
    archives = [folder / name for name in source["sha256"]]
    for archive, expected in zip(archives, source["sha256"].values(), strict=True):
        if not archive.exists():
            reason = (trouble.strip().splitlines() or ["no reason given"])[0]
            raise BuildError(
                f"{archive.name} cannot be downloaded ({reason}): "
                "check the network, or give --mirror URL"
            )
        if _sha256(archive) != expected:
            raise BuildError(f"{archive.name} is not the pinned one: sha256 is not {expected}")
    original, packaging = archives
    tree: Path = folder / source["tree"]
    _run(["tar", "-C", str(folder), "-xf", str(original)], None)
    _run(["tar", "-C", str(tree), "-xf", str(packaging)], None)
    series = tree / "debian" / "patches"
    for name in (series / "series").read_text().split():
        apply(series / name, tree)
    return tree


def _compile(tree: Path, objects: Path, options: Sequence[str], jobs: int, logs: Path) -> None:
    objects.mkdir()
    log = logs / "build.log"
    environment = os.environ | {"LC_ALL": "C", "CFLAGS": "-O2", "CXXFLAGS": "-O2"}
    with log.open("w") as out:
        for command in ([str(tree / "configure"), *options], ["make", f"-j{jobs}"]):
            done = subprocess.run(  # noqa: S603
                command, cwd=objects, env=environment, stdout=out, stderr=out, check=False
            )
            if done.returncode:
                lines = log.read_text(errors="replace").splitlines()
                reason = next((line for line in lines if "error:" in line), f"{command[0]} failed")
                raise BuildError(f"{reason} (all of it in {log})")


def _compile_guest(name: str, source: str, compiler: Sequence[str], folder: Path) -> None:
    """Replaced as a whole, for others may run machines meanwhile."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="guest-") as work:
        made = Path(work) / name
        _run([*compiler, "-o", str(made), str(MACHINE / "guest" / source)], None)
        made.replace(folder / name)


def compiled_guest(name: str, folder: Path) -> bytes:
    """A program of machine/guest that is no part of a build, compiled in `folder`.

    Raises:
        BuildError: The compiler gave up.
    """
    _compile_guest(name, f"{name}.c", _COMPILED, folder)
    return (folder / name).read_bytes()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(command: list[str], folder: Path | None) -> str:
    done = subprocess.run(  # noqa: S603
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["failed"])[-1]
        raise BuildError(f"{command[0]}: {reason}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
