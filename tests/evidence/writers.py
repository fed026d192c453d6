# SPDX-License-Identifier: GPL-2.0-or-later
"""Small writers of the formats that the readers read, from a snapshot."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import zstandard

from staleline.evidence.snapshot import CpuinfoEvidence, Snapshot

__all__ = [
    "COMPRESS",
    "KMSG",
    "SME_ACTIVE",
    "as_affinity_list",
    "as_aida64",
    "as_aida64_without_headings",
    "as_columns",
    "as_cpu_z",
    "as_cpucontrol",
    "as_cpuid_tool",
    "as_cpuinfo",
    "as_everest",
    "as_hwloc_files",
    "as_kcpuid",
    "as_libcpuid_raw",
    "as_libvirt",
    "as_lscpu",
    "as_lscpu_json",
    "as_nested_lscpu_json",
    "as_tar",
    "as_x86info",
    "as_xen_policy",
    "piped",
]

#: A whole log as /dev/kmsg gives it, with one message to fill in.
KMSG = (
    "6,0,0,-;Linux version 6.12.107+deb13-amd64\n"
    "6,1,10,-;Command line: mem_encrypt=on\n"
    " SUBSYSTEM=pci;not a message\n"
    "6,2,20,-;{message}\n"
)
SME_ACTIVE = "Memory Encryption Features active: AMD SME"

COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


def as_cpuid_tool(machine: Snapshot) -> str:
    """``cpuid -r``."""
    lines = []
    for number, cpu in enumerate(machine.cpus):
        lines.append(f"CPU {number}:")
        for (leaf, subleaf), registers in cpu.cpuid.leaves.items():
            eax, ebx, ecx, edx = registers
            lines.append(
                f"   {leaf:#010x} 0x{subleaf:02x}: eax={eax:#010x} ebx={ebx:#010x}"
                f" ecx={ecx:#010x} edx={edx:#010x}"
            )
    return "\n".join(lines) + "\n"


def as_aida64(machine: Snapshot) -> str:
    """An AIDA64 CPUID report."""
    lines = []
    for number, cpu in enumerate(machine.cpus):
        lines.append(f"------[ CPUID Registers / Logical CPU #{number} ]------")
        for (leaf, subleaf), registers in cpu.cpuid.leaves.items():
            values = "-".join(f"{register:08X}" for register in registers)
            lines.append(f"CPUID {leaf:08X}: {values} [SL {subleaf:02X}]")
    return "\n".join(lines) + "\n"


def as_libvirt(machine: Snapshot) -> str:
    """libvirt's CPU data of the first CPU."""
    rows = "".join(
        f"  <cpuid eax_in='{leaf:#x}' ecx_in='{subleaf:#x}' eax='{eax:#x}' ebx='{ebx:#x}'"
        f" ecx='{ecx:#x}' edx='{edx:#x}'/>\n"
        for (leaf, subleaf), (eax, ebx, ecx, edx) in machine.cpus[0].cpuid.leaves.items()
    )
    return f"<!-- a CPU -->\n<cpudata arch='x86'>\n{rows}</cpudata>\n"


def as_x86info(machine: Snapshot) -> str:
    """``x86info -r -a`` (x86info.c main(), dumpregs.c dumpregs()), which asks for no sub-leaf."""
    lines = ["x86info v1.31pre", "Feedback to <davej@redhat.com>.", ""]
    lines.append(f"Found {len(machine.cpus)} CPUs.")
    for number, cpu in enumerate(machine.cpus, 1):
        lines.append(f"CPU #{number}:")
        for (leaf, subleaf), (eax, ebx, ecx, edx) in cpu.cpuid.leaves.items():
            if subleaf == 0:
                lines.append(
                    f"eax in: {leaf:#010x}, eax = {eax:08x} ebx = {ebx:08x} ecx = {ecx:08x}"
                    f" edx = {edx:08x}"
                )
        lines.append("-" * 74)
    return "\n".join(lines) + "\n"


def as_columns(machine: Snapshot) -> str:
    """``cpuid`` before 2006, of the first CPU: columns below a heading, no sub-leaf."""
    rows = (
        " ".join(f"{number:08x}" for number in (leaf, *registers))
        for (leaf, subleaf), registers in machine.cpus[0].cpuid.leaves.items()
        if subleaf == 0
    )
    return "\n".join((" eax in    eax      ebx      ecx      edx", *rows)) + "\n\nVendor ID: ...\n"


def as_cpu_z(machine: Snapshot) -> str:
    """The dump of a CPU-Z report: tabs, sub-leaves in whatever order, not named."""
    lines = ["Thread dumps", "-" * 73, ""]
    for number, cpu in enumerate(machine.cpus):
        lines += [f"CPU Thread {number}\t", f"\tAPIC ID\t\t\t{number}", "\tCPUID\t\t "]
        for (leaf, _), registers in cpu.cpuid.leaves.items():
            values = "\t".join(f"0x{register:08X}" for register in registers)
            lines.append(f"\t0x{leaf:08X}\t\t{values}")
        lines += ["", "MSR 0x0000001B\t\tedx = 0x00000000\teax = 0xFEE00900", ""]
    return "\n".join(lines) + "\n"


def as_xen_policy(machine: Snapshot, name: str = "Raw", *, indexed: frozenset[int]) -> str:
    """``xen-cpuid -p`` (tools/misc/xen-cpuid.c print_policy()) of the first CPU."""
    leaves = machine.cpus[0].cpuid.leaves
    rows = (
        f"  {leaf:08x}:{subleaf if leaf in indexed else 0xFFFFFFFF:08x} -> "
        + ":".join(f"{register:08x}" for register in registers)
        for (leaf, subleaf), registers in leaves.items()
        if any(registers)
    )
    heading = "  leaf     subleaf  -> eax      ebx      ecx      edx     "
    msrs = (" MSRs:", "  index    -> value           ", "  0000010a -> 000000000e000c04")
    return "\n".join(
        (f"{name} policy: {len(leaves)} leaves, 2 MSRs", " CPUID:", heading, *rows, *msrs, "")
    )


def as_kcpuid(machine: Snapshot, *, indexed: frozenset[int]) -> str:
    """``kcpuid -r`` (Linux 7.3.4 tools/arch/x86/kcpuid/kcpuid.c raw_dump_range())."""
    lines = ["Basic Leafs :", "================"]
    for (leaf, subleaf), registers in machine.cpus[0].cpuid.leaves.items():
        if not any(registers):
            continue
        eax, ebx, ecx, edx = registers
        values = f"EAX={eax:#010x}, EBX={ebx:#010x}, ECX={ecx:#010x}, EDX={edx:#010x}"
        if leaf in indexed:
            if subleaf == 0:
                lines.append(f"{leaf:#010x}: subleafs:")
            lines.append(f" {subleaf:2d}: {values}")
        else:
            lines.append(f"{leaf:#010x}: {values}")
    return "\n".join(lines) + "\n"


def as_cpucontrol(machine: Snapshot) -> str:
    """FreeBSD's ``cpucontrol -i`` for each leaf of the first CPU (cpucontrol.c do_cpuid())."""
    lines = []
    for (leaf, subleaf), registers in machine.cpus[0].cpuid.leaves.items():
        asked = f"cpuid level {leaf:#x}" + (f", level_type {subleaf:#x}" if subleaf else "")
        lines.append(f"{asked}: " + " ".join(f"0x{register:08x}" for register in registers))
    return "\n".join(lines) + "\n"


_RAW_BY_SUBLEAF = {
    0x04: "intel_fn4",
    0x0B: "intel_fn11",
    0x12: "intel_fn12h",
    0x14: "intel_fn14h",
    0x8000_001D: "amd_fn8000001dh",
}


def as_libcpuid_raw(machine: Snapshot) -> str:
    """A raw dump of libcpuid, which keeps 32 basic and 32 extended leaves and some sub-leaves."""
    lines = ["version=0.6.4"]
    for number, cpu in enumerate(machine.cpus):
        lines.append(f"_________________ Logical CPU #{number} _________________")
        for (leaf, subleaf), registers in cpu.cpuid.leaves.items():
            values = " ".join(f"{register:08x}" for register in registers)
            if subleaf == 0 and leaf & 0x7FFF_FFFF < 32:
                array = "ext_cpuid" if leaf >> 31 else "basic_cpuid"
                lines.append(f"{array}[{leaf & 0x1F}]={values}")
            if leaf in _RAW_BY_SUBLEAF:
                lines.append(f"{_RAW_BY_SUBLEAF[leaf]}[{subleaf}]={values}")
    return "\n".join(lines) + "\n"


def as_cpuinfo(shown: CpuinfoEvidence, cpus: int = 1) -> str:
    """/proc/cpuinfo (Linux arch/x86/kernel/cpu/proc.c show_cpuinfo())."""
    return "".join(
        f"processor\t: {number}\nvendor_id\t: {shown.vendor}\ncpu family\t: {shown.family}\n"
        f"model\t\t: {shown.model}\nmodel name\t: a CPU\nstepping\t: {shown.stepping}\n"
        f"flags\t\t: {' '.join(sorted(shown.flags))}\nbugs\t\t: {' '.join(sorted(shown.bugs))}\n\n"
        for number in range(cpus)
    )


def _lscpu_rows(shown: CpuinfoEvidence, cpus: int, offline: str | None) -> list[tuple[str, str]]:
    online = f"0-{cpus - 1}" if cpus > 1 else "0"
    return [
        ("Architecture", "x86_64"),
        ("CPU op-mode(s)", "32-bit, 64-bit"),
        ("CPU(s)", str(cpus + (offline is not None))),
        ("On-line CPU(s) list", online),
        *([("Off-line CPU(s) list", offline)] if offline is not None else []),
        ("Vendor ID", str(shown.vendor)),
        ("BIOS Vendor ID", "Somebody"),
        ("Model name", "a CPU"),
        ("CPU family", str(shown.family)),
        ("Model", str(shown.model)),
        ("Stepping", str(shown.stepping)),
        ("Flags", " ".join(sorted(shown.flags))),
        ("L3 cache", "256 MiB (16 instances)"),
        ("NUMA node0 CPU(s)", online),
    ]


def as_lscpu(shown: CpuinfoEvidence, cpus: int = 1, offline: str | None = None) -> str:
    """``lscpu`` of util-linux 2.38, which indents what belongs together."""
    indented = {"CPU op-mode(s)", "CPU family", "Model", "Stepping", "Flags"}
    return "".join(
        f"{'  ' * (name in indented)}{name}:".ljust(40) + f" {value}\n"
        for name, value in _lscpu_rows(shown, cpus, offline)
    )


def as_lscpu_json(shown: CpuinfoEvidence, cpus: int = 1, offline: str | None = None) -> str:
    """``lscpu -J`` of util-linux 2.34, a flat list."""
    rows = _lscpu_rows(shown, cpus, offline)
    return json.dumps({"lscpu": [{"field": f"{n}:", "data": value} for n, value in rows]}, indent=3)


def as_nested_lscpu_json(shown: CpuinfoEvidence, cpus: int = 1, offline: str | None = None) -> str:
    """``lscpu -J`` of util-linux 2.38, where the vendor holds the model and that the rest."""
    top: list[dict[str, object]] = []
    level = top
    for name, value in _lscpu_rows(shown, cpus, offline):
        level.append({"field": f"{name}:", "data": value, "children": []})
        if name in ("Vendor ID", "Model name"):
            level = level[-1]["children"]  # type: ignore[assignment]
    return json.dumps({"lscpu": top}, indent=3)


def as_tar(files: Mapping[str, str | bytes], links: Mapping[str, str] | None = None) -> bytes:
    """A tar archive of `files` by name, and symbolic `links`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return buffer.getvalue()


def as_aida64_without_headings(machine: Snapshot) -> str:
    """CPU after CPU with an empty line between, as older collections have them."""
    sections = as_aida64(machine).split("------[")[1:]
    return "\n".join(section.partition("\n")[2] for section in sections)


def as_everest(machine: Snapshot) -> str:
    """``CPUID Registers (CPU #1):`` counted from 1, registers parted by spaces, CRLF."""
    lines = []
    for number, cpu in enumerate(machine.cpus, 1):
        lines.append(f"CPUID Registers (CPU #{number}{' Virtual' if number % 2 == 0 else ''}):")
        for (leaf, subleaf), registers in cpu.cpuid.leaves.items():
            values = " ".join(f"{register:08X}" for register in registers)
            lines.append(f"CPUID {leaf:08X}: {values} [SL {subleaf:02X}]")
        lines.append("")
    return "\r\n".join([*lines, "MSR Registers (CPU #1):", ""])


def as_affinity_list(machine: Snapshot) -> str:
    """``CPU#000 AffMask: ...``, in lower case, the colon behind a space."""
    lines = []
    for number, cpu in enumerate(machine.cpus):
        lines.append(f"CPU#{number:03} AffMask: {1 << number % 64:#018x} ")
        for (leaf, subleaf), registers in cpu.cpuid.leaves.items():
            values = "-".join(f"{register:08x}" for register in registers)
            lines.append(f"CPUID {leaf:08x} :{values} [SL {subleaf:02x}] ")
    return "\n".join(lines) + "\n"


def as_hwloc_files(machine: Snapshot) -> dict[str, str]:
    """The files of ``hwloc-gather-cpuid``."""
    return {
        f"pu{number}": "# mask e[abcd]x => e[abcd]x\n"
        + "".join(
            f"{5 if subleaf else 1} {leaf:x} 0 {subleaf:x} 0=> "
            + " ".join(f"{register:x}" for register in registers)
            + "\n"
            for (leaf, subleaf), registers in cpu.cpuid.leaves.items()
        )
        for number, cpu in enumerate(machine.cpus)
    }


@contextmanager
def piped(data: bytes) -> Iterator[str]:
    """The path of a pipe as a shell makes it for <(...), which another thread writes."""
    reading, writing = os.pipe()
    with open(reading, "rb"):
        writer = threading.Thread(target=_write, args=(writing, data))
        writer.start()
        yield f"/dev/fd/{reading}"
    writer.join()


def _write(descriptor: int, data: bytes) -> None:
    with suppress(BrokenPipeError), open(descriptor, "wb") as file:
        file.write(data)
