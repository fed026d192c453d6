# SPDX-License-Identifier: GPL-2.0-or-later
"""Small files of /proc, /sys and /boot, read under a root directory."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from pathlib import Path

from staleline.errors import EvidenceError
from staleline.evidence.source import MAX_BYTES

__all__ = ["KEPT_OPTIONS", "cpu_list", "kernel_config", "offline_cpus", "read_line"]

#: Configuration options that decide what a kernel does on the way into the next one.
KEPT_OPTIONS = (
    "CONFIG_AMD_MEM_ENCRYPT",
    "CONFIG_AMD_MEM_ENCRYPT_ACTIVE_BY_DEFAULT",
    "CONFIG_CRASH_DUMP",
    "CONFIG_HOTPLUG_CPU",
    "CONFIG_INTEL_TDX_HOST",
    "CONFIG_KEXEC",
    "CONFIG_KEXEC_CORE",
    "CONFIG_KEXEC_FILE",
    "CONFIG_KEXEC_JUMP",
    "CONFIG_KVM_AMD_SEV",
    "CONFIG_X86_64",
)
_OPTION = re.compile(rb"^(CONFIG_[A-Z0-9_]+)=(.*)$", re.MULTILINE)
_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")
_CPUS_MAX = 1 << 16


def read_line(path: Path) -> str | None:
    """The content of a one-line file without its newline, or None where unreadable."""
    try:
        return path.read_bytes()[:MAX_BYTES].decode("utf-8", "replace").rstrip("\n\0")
    except OSError:
        return None


def kernel_config(root: Path, release: str) -> Mapping[str, str] | None:
    """Return `KEPT_OPTIONS` of the kernel `release`, ``n`` for those not set; None if not found."""
    for path in (
        root / "proc/config.gz",
        root / f"boot/config-{release}",
        root / f"lib/modules/{release}/config",
    ):
        data = _read_config(path)
        if data is not None:
            options = {
                name.decode(): value.decode("latin-1") for name, value in _OPTION.findall(data)
            }
            return {name: options.get(name, "n").strip('"') for name in KEPT_OPTIONS}
    return None


def _read_config(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES)
        if path.suffix == ".gz":
            data = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(data, MAX_BYTES)
    except (OSError, zlib.error):
        return None
    return data if b"CONFIG_" in data else None


def offline_cpus(root: Path) -> tuple[int, ...] | None:
    """CPUs that are present and not online; None where sysfs does not tell.

    The file ``offline`` is not used: it also lists CPUs that were never there.
    """
    present = read_line(root / "sys/devices/system/cpu/present")
    online = read_line(root / "sys/devices/system/cpu/online")
    if present is None or online is None:
        return None
    return tuple(sorted(set(cpu_list(present)) - set(cpu_list(online))))


def cpu_list(text: str) -> tuple[int, ...]:
    """Parse a kernel CPU list such as ``0-3,8``.

    Raises:
        EvidenceError: `text` is not one.
    """
    cpus: list[int] = []
    for part in filter(None, text.strip().split(",")):
        found = _RANGE.fullmatch(part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= last < _CPUS_MAX:
            raise EvidenceError(f"{text!r} is not a list of CPUs", do="give the kernel's own file")
        cpus.extend(range(first, last + 1))
    return tuple(cpus)
