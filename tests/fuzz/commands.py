#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutated inputs through the commands that read files, each in a process of its own.

``python -m tests.fuzz.commands [--inputs N] [--seed N] [--keep DIR]``

`audit`, `preflight`, `facts`, `kernel` and `check` read dumps, snapshots, logs, archives,
images, packages and policies that were mutated. Whatever they hold: an exit status that is
documented, at most one line on standard error per input, no control character anywhere, no
more memory and time than the limits. The processes are forked from one that has imported
everything, so that one takes milliseconds.

Prints what was run and the highest memory and time; exit status 1 if an input broke a rule.
It is then in the directory, beside a file that says how it was read and what came of it.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import random
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.fetch_kernels import default_cache

from staleline.cli.main import main as command
from staleline.policy.catalogue import catalogue
from tests.evidence.writers import as_tar
from tests.fuzz.mutations import mutated
from tests.fuzz.seeds import SEEDS

__all__ = ["Outcome", "run_one"]

MEMORY_MB = 300
SECONDS = 30
STATUSES = {0, 1, 2, 3}
_DATA = Path(__file__).parents[1] / "data" / "cpuid"
_DUMPS = (
    "libcpuid/amd-epyc-9124-16-core-processor.test",
    "libcpuid/amd-epyc-7742-64-core-processor-dual.test",
    "libcpuid/intel-core2-cpu-6420.test",
    "registers/hygon-c86-3250.cpuid",
)
_LOG = (
    b"[    0.000000] Linux version 6.12.107+deb13-amd64 (x) #1 SMP\n"
    b"[    0.000000] Command line: BOOT_IMAGE=/vmlinuz mem_encrypt=on\n"
    b"[    0.100000] Memory Encryption Features active: AMD SME\n"
    b"[    1.000000] Run /init as init process\n"
)
_CPUINFO = (
    b"processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 23\nmodel\t\t: 49\n"
    b"stepping\t: 0\nflags\t\t: fpu sme sev\n\n"
)
_XML = (
    b"<cpudata arch='x86'>\n<cpuid eax_in='0x00000000' ecx_in='0x00' eax='0x0000000d'"
    b" ebx='0x756e6547' ecx='0x6c65746e' edx='0x49656e69'/>\n</cpudata>\n"
)
_LSCPU = b"Architecture: x86_64\nVendor ID: AuthenticAMD\nCPU family: 23\nFlags: fpu sme\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did.

    Attributes:
        status: Its exit status; negative: the signal that ended it.
        errors: Its standard error.
        output: Its standard output.
        megabytes: Of memory, at most, of its process and those it started.
        seconds: Of processor time; a clock would measure what else the machine does.
    """

    status: int
    errors: str
    output: str
    megabytes: int
    seconds: float

    def broken(self) -> str:
        """Which rule it broke; empty if none."""
        if self.status not in STATUSES:
            return f"exit status {self.status}"
        if "Traceback" in self.errors or "internal error" in self.errors:
            return "internal error"
        if len(self.errors.splitlines()) > 1:
            return "more than one line of error"
        if self.status == 1 and not self.errors:
            return "an error without a word"
        if any(not c.isprintable() and c != "\n" for c in self.errors + self.output):
            return "a control character in the output"
        if self.megabytes > MEMORY_MB:
            return f"{self.megabytes} MB of memory"
        return f"{self.seconds:.0f} seconds" if self.seconds > SECONDS else ""


def run_one(arguments: list[str]) -> Outcome:
    """Run the command in a process of its own, forked from this one."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            _as_command(arguments, output.fileno(), errors.fileno())
        _, status, usage = os.wait4(child, 0)
        output.seek(0)
        errors.seek(0)
        return Outcome(
            os.waitstatus_to_exitcode(status),
            errors.read().decode("utf-8", "replace"),
            output.read().decode("utf-8", "replace"),
            usage.ru_maxrss >> 10,
            usage.ru_utime + usage.ru_stime,
        )


def _as_command(arguments: list[str], output: int, errors: int) -> None:
    """In the child: never returns."""
    status = 70
    try:
        os.dup2(output, 1)
        os.dup2(errors, 2)
        signal.alarm(8 * SECONDS)  # which ends it, and is an exit status of its own
        resource.setrlimit(resource.RLIMIT_CPU, (2 * SECONDS, 2 * SECONDS))
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        faulthandler.enable(sys.stderr)
        status = command(arguments)
        sys.stdout.flush()
    except BaseException:
        import traceback  # noqa: PLC0415

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


Seeds = dict[str, bytes]


def _evidence() -> Seeds:
    from staleline.evidence.detect import read_snapshot  # noqa: PLC0415
    from staleline.evidence.hosts.snapshot_json import snapshot_text  # noqa: PLC0415

    dumps = {Path(name).name: (_DATA / name).read_bytes() for name in _DUMPS}
    machine = read_snapshot(_DATA / _DUMPS[0])
    tree = {"top/proc/cpuinfo": _CPUINFO, "top/sos_commands/kernel/dmesg": _LOG}
    return dumps | {
        "snapshot": snapshot_text(machine).encode(),
        "log": _LOG,
        "cpuinfo": _CPUINFO,
        "libvirt": _XML,
        "lscpu": _LSCPU,
        "tree": as_tar(tree),
        "dump in a tar": as_tar({"dump": _CPUINFO}),
    }


def _images() -> Seeds:
    return {name: data for of in ("loader", "package") for name, data in SEEDS[of]()}


def _policies() -> Seeds:
    from importlib.resources import files  # noqa: PLC0415

    directory = files("staleline.policy.catalogue")
    return {name: directory.joinpath(f"{name}.toml").read_bytes() for name in catalogue()}


ROME = str(_DATA / _DUMPS[1])
_RULE = ["--kernel", "linux-6.5"]
#: A real kernel, if ``tools/fetch_kernels.py`` brought one.
_NEXT = [str(path) for path in sorted(default_cache().glob("vmlinuz-6.12*"))[:1]] or [ROME]
#: How an input is read; ``@`` is its file.
_READ: dict[str, tuple[Callable[[], Seeds], str, list[list[str]]]] = {
    "evidence": (
        _evidence,
        "",
        [
            ["audit", "--snapshot", "@", *_RULE],
            ["audit", "--snapshot", "@", *_RULE, "--format", "markdown"],
            ["facts", "@"],
            ["preflight", "--next", *_NEXT, "--snapshot", "@", *_RULE],
        ],
    ),
    "image": (
        _images,
        "",
        [
            ["kernel", "--no-cache", "--jobs", "1", "@"],
            ["audit", "--no-cache", "--snapshot", ROME, "--kernel", "@/"],
            ["preflight", "--no-cache", "--snapshot", ROME, *_RULE, "--next", "@"],
        ],
    ),
    "policy": (
        _policies,
        ".toml",
        [["check", "@"], ["audit", "--snapshot", ROME, "--kernel", "@"]],
    ),
}


def _warm_up() -> None:
    """Import what the commands import, by running each; what is forked then has it."""
    rule = next(iter(_policies().values()))
    with tempfile.TemporaryDirectory() as scratch, open(os.devnull, "w") as nowhere:
        policy = Path(scratch) / "policy.toml"
        policy.write_bytes(rule)
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            for arguments in (
                ["audit", "--snapshot", ROME, *_RULE],
                ["audit", "--snapshot", ROME, *_RULE, "--format", "markdown"],
                ["facts", ROME],
                # Not of an image: what runs its code does not survive a fork.
                ["preflight", "--next", ROME, "--snapshot", ROME, *_RULE],
                ["check", str(policy)],
            ):
                command(arguments)


def main() -> int:
    """Run as many inputs as wanted, the same ones for the same seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="keep inputs that broke a rule here")
    options = parser.parse_args()
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()  # no one's readings but these
    os.environ.pop("STALELINE_TRACEBACK", None)
    chance = random.Random(options.seed)
    seeds = {kind: list(make().values()) for kind, (make, _, _) in _READ.items()}
    statuses: Counter[tuple[str, int]] = Counter()
    broken, highest, longest = 0, 0, 0.0
    _warm_up()
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(options.inputs):
            kind = ("evidence", "evidence", "image", "policy")[number % 4]
            _, suffix, ways = _READ[kind]
            file = Path(scratch) / f"input{suffix}"
            file.write_bytes(mutated(chance, chance.choice(seeds[kind]), seeds[kind]))
            way = [
                word.replace("@/", str(file)).replace("@", str(file))
                for word in chance.choice(ways)
            ]
            outcome = run_one(way)
            statuses[way[0], outcome.status] += 1
            highest, longest = max(highest, outcome.megabytes), max(longest, outcome.seconds)
            if why := outcome.broken():
                broken += 1
                _tell(number, why, way, outcome, file=file, keep=options.keep)
    for (name, status), count in sorted(statuses.items()):
        sys.stdout.write(f"{name}: exit status {status}: {count}\n")
    sys.stdout.write(
        f"{options.inputs} inputs, {broken} broken, at most {highest} MB and {longest:.1f} s\n"
    )
    return 1 if broken else 0


def _tell(
    number: int, why: str, way: list[str], outcome: Outcome, *, file: Path, keep: Path | None
) -> None:
    told = f"input {number}: {why}: staleline {' '.join(way)}\n{outcome.errors[-2000:]}\n"
    sys.stdout.write(told)
    sys.stdout.flush()
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{number}-{file.name}").write_bytes(file.read_bytes())
        (keep / f"{number}-why").write_text(told)


if __name__ == "__main__":
    sys.exit(main())
