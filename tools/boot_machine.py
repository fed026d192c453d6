# SPDX-License-Identifier: GPL-2.0-or-later
"""An emulated machine that kexecs between built kernels, and the WBINVDs it executed."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tools.boot_questions import CPUID, RDMSR, Question
from tools.gdb_stub import Cpu, GdbStub, StubError

__all__ = [
    "CPUS",
    "Answers",
    "BootError",
    "Flushes",
    "Layout",
    "Machine",
    "build_plugin",
    "check_prerequisites",
    "flushes",
    "make_initramfs",
]

CPUS = 4
_LINE = re.compile(
    r"WBINVD cpu=(?P<cpu>\d+) address=0x(?P<address>[0-9a-f]+)"
    r"|== (?P<event>up|jump|crash kernel|crash|cannot load|done)(?: (?P<release>\S+))?"
    r"(?: online (?P<online>\S+))?"
)
_NEEDED = {  # program: Debian package
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "kexec": "kexec-tools",
    "cpio": "cpio",
    "gcc": "gcc",
    "ldd": "libc-bin",
}
_PLUGIN_API_2 = (8, 2)  # the first QEMU that asks for it
_LOW_MEMORY = 0x10_0000  # below it are the firmware and the trampoline of starting CPUs
_KERNEL_HALF = 1 << 63
_PAGE = 0xFFF


class BootError(Exception):
    """One line for the user."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What CPUID and RDMSR answer in QEMU's place, from the time a kernel is at its addresses.

    Attributes:
        cpuid: Leaf: EAX, EBX, ECX, EDX.
        msr: Number: value.
    """

    cpuid: Mapping[int, tuple[int, int, int, int]] = field(default_factory=dict)
    msr: Mapping[int, int] = field(default_factory=dict)

    def needed(self, layout: Layout) -> set[int]:
        """Where to stop."""
        numbers = {CPUID: self.cpuid, RDMSR: self.msr}
        return {
            at
            for at, question in layout.questions.items()
            if any(map(question.may_be, numbers[question.opcode]))
        }

    def __call__(self, cpu: Cpu, opcode: bytes) -> dict[str, int] | None:
        """The registers after the instruction, or None if QEMU is to execute it."""
        values: dict[str, int] = {}
        if opcode == CPUID:
            leaf = self.cpuid.get(cpu.registers["rax"] & 0xFFFF_FFFF, ())
            values = dict(zip(("rax", "rbx", "rcx", "rdx"), leaf, strict=False))
        elif opcode == RDMSR:
            value = self.msr.get(cpu.registers["rcx"] & 0xFFFF_FFFF)
            values = {} if value is None else {"rax": value & 0xFFFF_FFFF, "rdx": value >> 32}
        return {"rip": cpu.rip + len(opcode), **values} if values else None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where one kernel has the instructions in question.

    Attributes:
        release: Of the kernel.
        in_place: Addresses of WBINVD on the way to the next kernel: ``stop_this_cpu()`` and
            the like.
        copied: Offset in its page of WBINVD in ``relocate_kernel()``, which is executed as a
            copy in a page that only the running kernel knows.
        entry: Address of ``start_kernel()``.
        entry_code: Its first bytes.
        questions: Address of every CPUID, and of RDMSR in the functions of interest: what it asks.
    """

    release: str
    in_place: frozenset[int]
    copied: frozenset[int]
    entry: int
    entry_code: bytes
    questions: Mapping[int, Question]


@dataclass(frozen=True, slots=True)
class Flushes:
    """One jump: what was executed between leaving a kernel and the next one being up.

    Attributes:
        release: The kernel that was left.
        crash: It was left by a crash.
        executed: WBINVDs of that kernel per virtual CPU.
        next_release: The kernel that came up.
        online: Its online CPUs, such as "0-3"; "" where a crash kernel came up.
    """

    release: str
    crash: bool
    executed: tuple[int, ...]
    next_release: str
    online: str


def flushes(output: str, layouts: Mapping[str, Layout]) -> list[Flushes]:
    """The jumps in a machine's output.

    Raises:
        BootError: A jump did not arrive, or an image could not be loaded.
    """
    jumps: list[Flushes] = []
    left: re.Match[str] | None = None
    seen: list[tuple[int, int]] = []
    for line in _LINE.finditer(output):
        event = line["event"]
        if event is None:
            seen.append((int(line["cpu"]), int(line["address"], 16)))
        elif event in ("jump", "crash"):
            left, seen = line, []
        elif event == "cannot load":
            raise BootError("kexec could not load the next kernel")
        elif left and event in ("up", "crash kernel"):
            jumps.append(_jump(left, line, seen, layouts[left["release"]]))
            left = None
    if left or ("== done" not in output and "== crash kernel" not in output):
        raise BootError(f"the machine stopped after {len(jumps)} jumps")
    return jumps


def _jump(
    left: re.Match[str], up: re.Match[str], seen: list[tuple[int, int]], layout: Layout
) -> Flushes:
    executed = [0] * CPUS
    for cpu, address in seen:
        in_copy = _LOW_MEMORY <= address < _KERNEL_HALF and address & _PAGE in layout.copied
        executed[cpu] += in_copy or address in layout.in_place
    return Flushes(
        release=layout.release,
        crash=left["event"] == "crash",
        executed=tuple(executed),
        next_release=up["release"],
        online=up["online"] or "",
    )


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine to boot.

    Attributes:
        cpu: QEMU's -cpu.
        kernel: The first kernel.
        initramfs: With all the kernels.
        command_line: What the first process is to do, and further parameters.
        answers: CPUID and MSRs that QEMU cannot present.
    """

    cpu: str
    kernel: Path
    initramfs: Path
    command_line: str
    answers: Answers

    def run(self, layouts: Mapping[str, Layout], plugin: Path, seconds: int) -> str:
        """Boot, and return all that the console and the plugin said.

        Raises:
            BootError: QEMU is not there, or the machine did not power itself off in time.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "gdb"
            command = [*self._command(plugin), "-S", "-gdb", f"unix:{path},server=on,wait=off"]
            output: list[bytes] = []
            with (
                subprocess.Popen(  # noqa: S603
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                ) as qemu,
                _stopped_after(qemu, seconds),
            ):
                reader = threading.Thread(target=_read, args=(qemu, output))
                reader.start()
                try:
                    self._answer(path, qemu, layouts.values())
                except StubError as error:
                    raise BootError(f"QEMU's gdb stub: {error}") from None
                finally:
                    if sys.exc_info()[0]:
                        qemu.kill()
                    reader.join()
        text = b"".join(output).decode("utf-8", "replace")
        if qemu.returncode:
            last = text.strip().splitlines()[-1:] or ["no output"]
            raise BootError(f"no end after {seconds} s or QEMU failed: {last[0]}")
        return text

    def _command(self, plugin: Path) -> list[str]:
        fixed = "console=ttyS0 nokaslr quiet retain_initrd nohibernate panic=-1 crashkernel=256M"
        # For as long as timer_irq_works() waits (io_apic.c, 6.12.117: 40e9/HZ ticks of the TSC), a
        # busy host may not let QEMU deliver an interrupt.
        fixed += " no_timer_check"
        return [
            *("qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=single", "-m", "2G"),
            *("-smp", str(CPUS), "-cpu", self.cpu, "-no-reboot", "-nic", "none"),
            *("-display", "none", "-serial", "stdio", "-monitor", "none"),
            *("-kernel", str(self.kernel), "-initrd", str(self.initramfs)),
            *("-append", f"{fixed} {self.command_line}"),
            *("-plugin", str(plugin), "-d", "plugin"),
        ]

    def _answer(
        self, path: Path, qemu: subprocess.Popen[bytes], layouts: Collection[Layout]
    ) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            while qemu.poll() is None:
                try:
                    connection.connect(str(path))
                    break
                except OSError:
                    threading.Event().wait(0.05)  # QEMU has not opened it yet
            stub = GdbStub(connection)
            if self.answers.cpuid or self.answers.msr:
                stub.break_at({layout.entry for layout in layouts})
            running: set[int] = set()

            def answer(cpu: Cpu) -> dict[str, int] | None:
                entered = [layout for layout in layouts if layout.entry == cpu.rip]
                for layout in entered:
                    if stub.memory(cpu.rip, len(layout.entry_code)) == layout.entry_code:
                        # Elsewhere a kernel has other instructions at these addresses.
                        stub.clear(running)
                        running.clear()
                        running.update(self.answers.needed(layout))
                        stub.break_at(running)
                if entered:
                    return None
                if cpu.rip not in running:  # under way when another CPU was stepped
                    return {}
                return self.answers(cpu, stub.memory(cpu.rip, len(CPUID)))

            stub.run(answer)


def _read(qemu: subprocess.Popen[bytes], output: list[bytes]) -> None:
    assert qemu.stdout is not None
    output.extend(qemu.stdout)


@contextmanager
def _stopped_after(qemu: subprocess.Popen[bytes], seconds: int) -> Iterator[None]:
    timer = threading.Timer(seconds, qemu.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def build_plugin(source: Path, folder: Path) -> Path:
    """Compile the plugin for the QEMU that is installed."""
    version = _output("qemu-system-x86_64", "--version")
    found = re.search(r"version (\d+)\.(\d+)", version)
    if found is None:
        raise BootError("qemu-system-x86_64 does not say its version")
    api = 2 if (int(found[1]), int(found[2])) >= _PLUGIN_API_2 else 1
    plugin = folder / "wbinvd.so"
    options = ["-O2", "-shared", "-fPIC", f"-DPLUGIN_API={api}"]
    _output("gcc", *options, "-o", str(plugin), str(source))
    return plugin


def make_initramfs(init: Path, kernels: Mapping[str, Path], folder: Path) -> Path:
    """Pack busybox, kexec, their libraries, the first process and kernels by release."""
    root = folder / "root"
    _copy(init, root / "init")
    for release, image in kernels.items():
        _copy(image, root / "kernels" / release)
    for tool, place in (("busybox", "bin"), ("kexec", "sbin")):
        path = Path(_found(tool))
        _copy(path, root / place / tool)
        for library in re.findall(r"(/\S+) \(0x", _libraries(path)):
            _copy(Path(library), root / library[1:])
    archive = folder / "initramfs"
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with archive.open("wb") as out:
        subprocess.run(  # noqa: S603
            [_found("cpio"), "-o", "-H", "newc", "--quiet", "-R", "0:0"],
            cwd=root,
            input=names.encode(),
            stdout=out,
            check=True,
        )
    return archive


def _libraries(program: Path) -> str:
    command = [_found("ldd"), str(program)]  # fails for what is linked statically
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def check_prerequisites() -> None:
    """All programs that booting takes.

    Raises:
        BootError: Some are missing; it says which packages of Debian have them.
    """
    missing = [package for tool, package in _NEEDED.items() if _which(tool) is None]
    if missing:
        raise BootError(f"cannot boot kernels without: apt-get install {' '.join(missing)}")


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _found(tool: str) -> str:
    path = _which(tool)
    if path is None:
        raise BootError(f"{tool} not found")
    return path


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise BootError(f"{command[0]}: {(done.stderr.strip().splitlines() or ['failed'])[0]}")
    return done.stdout
