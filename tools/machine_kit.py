# SPDX-License-Identifier: GPL-2.0-or-later
"""Ask simulated machines with the litmus kit, where it is known what it has to answer.

Builds the kit's module for Debian's kernels against Debian's header packages, in a root of Debian
13 of its own (needs root and debootstrap; kept in the machine's cache), boots each kernel on the
simulated machine and has the kit ask it, counterexamples of the model among the tests. What the kit
measured has to be what the machine is, and the lines it counts as lost those that the machine
destroyed.

Exit status: 0 all answers are right, 1 some are not, or a machine gave none.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product, repeat
from pathlib import Path
from typing import Final

from tools.build_machine import BuildError, compiled_guest, installed
from tools.kernel_source import private_apt

from staleline.check.answer import check
from staleline.check.runs.itf import itf_document
from staleline.check.runs.replay import replay
from staleline.cores import usable_cores
from staleline.litmus.counterexample import litmus_of
from staleline.litmus.kit import kit_files, standard_tests
from staleline.litmus.language import LitmusProgram
from staleline.litmus.results import LitmusResult, MeasuredAliases, litmus_result
from staleline.model.scenario import Flush, Scenario
from staleline.model.scenario import Path as HandoverPath
from staleline.simulation.emulator import BuiltMachine, machine_cache
from staleline.simulation.execution import Configuration, CpuModel, EndedRun, RunBounds, run
from staleline.simulation.experiment import COMMAND_LINE
from staleline.simulation.medium import boot_image, boot_memory, initramfs
from tools import fetch_kernels

__all__ = ["CASES", "KitCase", "KitFinding", "asked", "counterexamples", "module_for"]

_MEGABYTES: Final = 384
_FLOPPY: Final = 1440 * 1024
_OPTIONS: Final = b"tries=1 evict_kb=8192"  # twice the caches of a CPU
_SUITE, _MIRROR = "trixie", "http://deb.debian.org/debian"
#: What builds modules in the root: kernels of Debian 12 want the compiler of Debian 12.
_COMPILERS: Final = "gcc-14,gcc-12,make,pahole,libelf1t64"
_INCOHERENT, _UNSEEN = MeasuredAliases.INCOHERENT, MeasuredAliases.NOT_OBSERVED
_REFUSED: Final = MeasuredAliases.REFUSED


@dataclass(frozen=True, slots=True, kw_only=True)
class KitCase:
    """A kernel on a machine, and what the kit has to measure there."""

    series: str
    model: CpuModel
    expected: MeasuredAliases
    cpus: int = 2
    encrypts: bool = True
    syscfg: bool = True

    def __str__(self) -> str:
        firmware = "" if self.syscfg else ", SYSCFG[23] off"
        line = f"mem_encrypt={'on' if self.encrypts else 'off'}"
        return f"{self.series} {line} on {self.cpus} {self.model}{firmware}"


CASES: Final = (
    KitCase(series="7", model=CpuModel.ROME, expected=_INCOHERENT),
    KitCase(series="7", model=CpuModel.ROME, expected=_INCOHERENT, encrypts=False),
    KitCase(series="7", model=CpuModel.HYGON, expected=_INCOHERENT),
    KitCase(series="7", model=CpuModel.ROME, expected=_INCOHERENT, cpus=4),
    KitCase(series="7", model=CpuModel.MILAN, expected=_UNSEEN),
    KitCase(series="7", model=CpuModel.MILAN, expected=_UNSEEN, encrypts=False),
    KitCase(series="7", model=CpuModel.ROME, expected=_REFUSED, syscfg=False),
    KitCase(series="7", model=CpuModel.ZAMBEZI, expected=_REFUSED),
    KitCase(series="7", model=CpuModel.SKYLAKE, expected=_REFUSED, encrypts=False),
    KitCase(series="6.12", model=CpuModel.ROME, expected=_INCOHERENT),
    KitCase(series="6.12", model=CpuModel.MILAN, expected=_UNSEEN, encrypts=False),
    KitCase(series="6.1", model=CpuModel.HYGON, expected=_INCOHERENT, encrypts=False),
)


@dataclass(frozen=True, slots=True)
class KitFinding:
    """What the kit measured, beside what the machine counted.

    Attributes:
        case: What was run.
        result: What the kit was told.
        destroyed: Lines that the machine destroyed; None where it ended without telling.
        unseen: Counterexamples that showed nothing where they have to.
    """

    case: KitCase
    result: LitmusResult
    destroyed: int | None
    unseen: tuple[str, ...]

    @property
    def right(self) -> bool:
        """All of it is as it has to be."""
        measured = self.result.aliases is self.case.expected
        return measured and not self.unseen and self.result.destroyed == self.destroyed

    def __str__(self) -> str:
        told = f"{self.result.aliases}"
        if self.result.machine.refused:
            told += f" ({self.result.machine.refused})"
        counts = (
            f"{self.result.starred:,} of {self.result.asked:,} lines starred, "
            f"{self.result.destroyed:,} lost, {self.destroyed} destroyed by the machine"
        )
        unseen = f"; not seen: {', '.join(self.unseen)}" if self.unseen else ""
        return f"{self.case}: {told}; {counts}{unseen}"


def main(arguments: list[str] | None = None) -> int:
    """Run the cases that are asked for."""
    options = _options(arguments)
    wrong = 0
    cases = [case for case in CASES if all(word in str(case) for word in options.word)]
    try:
        emulator = installed()
        # Before machines run side by side: each would build them, in one root.
        for series in dict.fromkeys(case.series for case in cases):
            module_for(_kernel(series).release)
        folders = [options.keep / re.sub(r"[^\w.]+", "-", str(case)) for case in cases]
        with ProcessPoolExecutor(usable_cores()) as side_by_side:
            for finding in side_by_side.map(asked, cases, repeat(emulator), folders):
                wrong += not finding.right
                sys.stdout.write(f"{'right' if finding.right else 'WRONG'}  {finding}\n")
                sys.stdout.flush()
    except (BuildError, fetch_kernels.FetchError) as error:
        sys.stderr.write(f"machine_kit: {error}\n")
        return 1
    sys.stdout.write(f"{len(cases)} machines, {wrong} wrong\n")
    return 1 if wrong else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("word", nargs="*", help="only cases with these in their names")
    parser.add_argument("--keep", type=Path, default=machine_cache() / "kit" / "runs")
    return parser.parse_args(arguments)


def asked(case: KitCase, emulator: BuiltMachine, folder: Path) -> KitFinding:
    """Run one case; the machine's files and result.jsonl go to `folder`.

    Raises:
        BuildError: The module cannot be built, or the machine gave no answers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    programs = counterexamples()
    configuration = _configuration(case, emulator, folder, programs)
    ended = run(emulator, configuration, folder, RunBounds(seconds=3600))
    told = "".join(f"{line}\n" for line in ended.console.splitlines() if line[:8] == '{"kind":')
    (folder / "result.jsonl").write_text(told)
    if not told:
        last = " | ".join(ended.console.splitlines()[-3:])
        raise BuildError(f"{case}: no answers ({ended.ending}: {last})")
    result = litmus_result(told.encode(), str(case))
    shown = {test.name for test in result.tests if test.starred}
    unseen = tuple(one.name for one in programs if one.name not in shown)
    expected = case.expected is _INCOHERENT
    return KitFinding(case, result, _destroyed(ended), unseen if expected else ())


def _destroyed(ended: EndedRun) -> int | None:
    """As the machine counts; an invariant of it that is broken makes its counts worthless."""
    summaries = list(ended.events("summary"))
    if not summaries or summaries[-1]["invariants_broken"]:
        return None
    return sum(map(int, summaries[-1]["destroyed"].values()))


def _configuration(
    case: KitCase, emulator: BuiltMachine, folder: Path, programs: Sequence[LitmusProgram]
) -> Configuration:
    image = _kernel(case.series)
    tests = "".join((standard_tests(), *(f"{one}\n" for one in programs), "cost\nend\n"))
    files = {"module": module_for(image.release), "options": _OPTIONS, "tests": tests.encode()}
    floppy = folder / "floppy"
    floppy.write_bytes(emulator.guest("boot").ljust(_FLOPPY, b"\0"))
    guest = compiled_guest("litmus", folder)
    line = f"{COMMAND_LINE} mem_encrypt={'on' if case.encrypts else 'off'}"
    kernel = boot_image(fetch_kernels.default_cache() / image.file)
    return Configuration(
        model=case.model,
        cpus=case.cpus,
        megabytes=_MEGABYTES,
        mem_encrypt=case.syscfg,
        memory=boot_memory(kernel, initramfs({"init": guest}, files), line, _MEGABYTES),
        floppy=floppy,
    )


def _kernel(series: str) -> fetch_kernels.Image:
    images = fetch_kernels.read_index(fetch_kernels.default_cache())
    if series not in images:
        raise BuildError(f"there is no kernel of series {series}: tools/fetch_kernels.py")
    return images[series]


@cache
def counterexamples() -> tuple[LitmusProgram, ...]:
    """Tests of runs of the model, as `staleline audit --traces` writes them and --from reads them.

    The secondaries do not flush, as on a Hygon since 6.18; each transition and path has a run.
    """
    return tuple(_counterexamples())


def _counterexamples() -> Iterator[LitmusProgram]:
    for path, (old, following) in product(HandoverPath, ((0, 1), (1, 0), (1, 1))):
        scenario = Scenario(
            path=path,
            old_encrypts=bool(old),
            next_encrypts=bool(following),
            incoherent=True,
            flush_secondary=Flush.NEVER,
            flush_jumping=Flush.NEVER,
        )
        found = check(scenario).counterexample
        assert found is not None, scenario
        written = json.loads(json.dumps(itf_document(found)))
        yield litmus_of(replay(written), str(scenario.path))


# ---- modules --------------------------------------------------------------------------------


def module_for(release: str) -> bytes:
    """The kit's module for a kernel of Debian, built by its compiler if it was not.

    Raises:
        BuildError: It cannot be built.
    """
    digest = hashlib.sha256("".join(kit_files().values()).encode()).hexdigest()[:12]
    kept = machine_cache() / "kit" / f"{release}-{digest}.ko"
    if not kept.exists():
        root = _root()
        _unpack_headers(release, root)
        folder = root / "root" / "kit"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, text in kit_files().items():
            (folder / name).write_text(text)
        _run("mount", "-t", "proc", "proc", str(root / "proc"))  # objtool asks for its limits
        try:
            _run("chroot", str(root), "make", "-s", "-C", "/root/kit", f"KERNEL={release}")
        finally:
            _run("umount", str(root / "proc"))
        shutil.copyfile(folder / "staleline_litmus.ko", kept)
    return kept.read_bytes()


def _root() -> Path:
    root = machine_cache() / "kit" / "root"
    if not (root / "complete").exists():
        if os.geteuid() or shutil.which("debootstrap") is None:
            raise BuildError("modules are built as root, with: apt-get install debootstrap")
        shutil.rmtree(root, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        packages = f"--include={_COMPILERS}"
        _run("debootstrap", "--variant=minbase", packages, _SUITE, str(root), _MIRROR)
        (root / "complete").touch()
    return root


def _unpack_headers(release: str, root: Path) -> None:
    """Header packages and what they need of their own, beside what is installed in the root."""
    folder = root.parent / "debs"
    folder.mkdir(exist_ok=True)
    apt = private_apt(root.parent / "apt", None)
    apt.run("apt-get", "update", "-q")
    headers = f"linux-headers-{release}"
    told = apt.run("apt-cache", "show", "--no-all-versions", headers).stdout
    depends = next((line for line in told.splitlines() if line.startswith("Depends:")), "")
    wanted = [
        name.split()[0] for name in depends.removeprefix("Depends:").split(",") if name.strip()
    ]
    parts = [name for name in wanted if name.startswith(("linux-headers-", "linux-kbuild-"))]
    if not parts:
        raise BuildError(f"{headers} is in no suite of the mirror")
    apt.run("apt-get", "download", "-q", headers, *parts, cwd=folder)
    for deb in sorted(folder.glob("*.deb")):
        # Not dpkg -x: it would replace the link /lib by a folder.
        archive = deb.with_suffix(".tar")
        with archive.open("wb") as out:
            unpack = ["dpkg-deb", "--fsys-tarfile", str(deb)]
            subprocess.run(unpack, check=True, stdout=out)  # noqa: S603
        _run("tar", "-x", "--keep-directory-symlink", "-C", str(root), "-f", str(archive))
        archive.unlink()
        deb.unlink()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["failed"])[-1]
        raise BuildError(f"{command[0]}: {reason}")


if __name__ == "__main__":
    sys.exit(main())
