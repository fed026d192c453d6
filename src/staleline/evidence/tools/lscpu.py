# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of what ``lscpu`` and ``lscpu -J`` print (util-linux, in the C locale)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from staleline.errors import EvidenceError
from staleline.evidence.pasted import architecture
from staleline.evidence.snapshot import (
    CpuinfoEvidence,
    Note,
    Snapshot,
    StateEvidence,
    Statement,
)
from staleline.evidence.staleline_collect import cpu_list
from staleline.evidence.tools.flagrow import flag_row
from staleline.evidence.tools.json_document import json_document
from staleline.evidence.tools.vendors import named_vendor
from staleline.pattern import Pattern

__all__ = ["is_json", "is_other_output", "is_row", "parse", "parse_json", "refuse"]

_LSCPU_AGAIN = "run LC_ALL=C lscpu on the host and copy its output whole"
_NO_CPUID = Note("cpuid", "only lscpu was given; run cpuid -r, or staleline collect")
#: A row; lines that lscpu wrapped have no colon or begin in lower case.
_ROW = Pattern(r"\s*([A-Z][^:]*):(|\s.*)")
#: Its rows begin with a capital in every language that has them; "machine" is one of xl info.
_LANGUAGE_ROW = Pattern(
    "(?!CPU model|[\\sa-z0-9>|])[^:\N{FULLWIDTH COLON}]{1,40}?\\s*[:\N{FULLWIDTH COLON}]\\s*"
    r"(?:x86_64|i[3-6]86|aarch64|armv\w+|ppc64(?:le)?|s390x|riscv64|loongarch64)\s*"
)
#: hostnamectl has a row of this name (systemd 252 src/basic/architecture.c).
_OF_HOSTNAMECTL = "x86-64"
_JSON = Pattern(r'\s*\{\s*"lscpu"\s*:')
#: What ``lscpu -p``, ``-e`` and ``-C`` print, as text and with -J.
_OTHER_OUTPUT = Pattern(
    r"# The following is the parsable format.*|# CPU,[A-Z].*"
    r"|\s*CPU(?:\s+[A-Z][A-Za-z0-9:]*)*\s+(?:NODE|SOCKET|CORE|ONLINE)\b.*"
    r"|\s*NAME\s+ONE-SIZE\b.*"
)
_OTHER_JSON = Pattern(
    r'\s*\{\s*"(?:cpus"\s*:\s*\[\s*\{\s*"cpu"\s*:\s*"?[0-9]+"?\s*,\s*"(?:node|socket|core|l1d)'
    r'|caches"\s*:\s*\[\s*\{\s*"name")'
)
_ONLINE, _OFFLINE = "On-line CPU(s) list", "Off-line CPU(s) list"
_FLAGS, _HYPERVISOR, _VIRTUALIZATION = "Flags", "Hypervisor vendor", "Virtualization type"
_NUMBERS = ("CPU family", "Model", "Stepping")
#: What it repeats of /proc/cpuinfo of the first CPU, and its lists of CPUs; its sums of cache sizes
#: do not tell who shares a cache.
_READ = frozenset(
    {"Architecture", "CPU(s)", _ONLINE, _OFFLINE, "Vendor ID", _FLAGS, *_NUMBERS}
    | {_HYPERVISOR, _VIRTUALIZATION}
)
#: Of a container lscpu names what made it, which may run on the bare machine.
_UNDER_HYPERVISOR = frozenset({"full", "para", "none"})
#: What it calls a hypervisor: that of CPUID leaf 0x40000000, or as DMI, /proc/xen and PCI show
#: (util-linux 2.38.1 sys-utils/lscpu.c hv_vendors, lscpu-virt.c). "none" is Xen's dom0.
_NAMES = {
    "KVM": "KVM",
    "VMware": "VMware",
    "Oracle": "VirtualBox",
    "Innotek GmbH": "VirtualBox",
    "Microsoft": "Hyper-V",
    "Xen": "Xen",
}


def is_row(line: str) -> bool:
    """Is this the row that the output of lscpu begins with, in whatever language?"""
    of_lscpu = line.startswith("Architecture:") and not line.rstrip().endswith(_OF_HOSTNAMECTL)
    return of_lscpu or _LANGUAGE_ROW.fullmatch(line) is not None


def is_json(text: str) -> bool:
    """Is this JSON what ``lscpu -J`` prints?"""
    return _JSON.match(text) is not None


def is_other_output(text: str) -> bool:
    """Does this line, or JSON, begin what lscpu prints with -p, -e or -C?"""
    return _OTHER_OUTPUT.fullmatch(text) is not None or _OTHER_JSON.match(text) is not None


def refuse(_text: str, where: str) -> Snapshot:
    """Refuse the tables of lscpu, which name neither the CPU nor its flags.

    Raises:
        EvidenceError: Always.
    """
    raise EvidenceError(
        "is the output of lscpu with an option (-p, -e or -C), which does not name the CPU",
        where=where,
        do=_LSCPU_AGAIN,
    )


def parse(text: str, where: str) -> Snapshot:
    """Return what `text`, the output of ``lscpu``, tells of a machine.

    Raises:
        EvidenceError: `text` is of another language or machine, or of two machines.
    """
    return _machine(_Rows.of(text), where)


def parse_json(text: str, where: str) -> Snapshot:
    """Return what `text`, the output of ``lscpu -J``, tells of a machine.

    Raises:
        EvidenceError: `text` is not whole, or as for `parse`.
    """
    document = json_document(text, where, _LSCPU_AGAIN)
    rows = list(_of_json(document["lscpu"]))
    flags = next((value for name, value in rows if name == _FLAGS), "")
    return _machine(_Rows(rows, frozenset(flags.split())), where)


def _of_json(items: Any) -> Iterator[tuple[str, str]]:
    """Rows of one level; newer versions nest them."""
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            name, value = item.get("field"), item.get("data")
            if isinstance(name, str) and isinstance(value, str):
                yield name.rstrip(":").rstrip(), value
            yield from _of_json(item.get("children"))


@dataclass(slots=True)
class _Rows:
    """Names and values in order, and the flags of the first row of them."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    flags: frozenset[str] = frozenset()

    @classmethod
    def of(cls, text: str) -> _Rows:
        whole = text.rstrip()
        lines = whole.split("\n")
        # The last line counts only when it is finished: "sme" may be a cut "smep". It still tells
        # that the one before is.
        finished = lines if "\n" in text[len(whole) :] else lines[:-1]
        rows: list[tuple[str, str]] = []
        flags: frozenset[str] | None = None
        for number, line in enumerate(finished, 1):
            if row := _ROW.fullmatch(line):
                # French has some rows' names and a blank behind them: those are not read.
                name, value = row[1], row[2].strip()
                if name == _FLAGS and flags is None:
                    flags = flag_row(value, lines[number:])
                rows.append((name, _unwrapped_list(name, value, lines[number:])))
        return cls(rows, flags or frozenset())


def _unwrapped_list(name: str, value: str, behind: list[str]) -> str:
    """A list of CPUs has no spaces, so its pieces join into one whatever cut it."""
    if name not in (_ONLINE, _OFFLINE):
        return value
    for line in behind:
        if not re.fullmatch(r"\s+[0-9,-]+\s*", line):
            break
        value += line.strip()
    return value


def _machine(read: _Rows, where: str) -> Snapshot:
    fields = _fields(read.rows, where)
    _require_x86(fields, where)
    family, model, stepping = (_number(fields, name, where) for name in _NUMBERS)
    return Snapshot(
        cpus=(),
        cpuinfo=CpuinfoEvidence(
            vendor=named_vendor(fields.get("Vendor ID")),
            family=family,
            model=model,
            stepping=stepping,
            flags=read.flags,
        ),
        state=StateEvidence(
            offline_cpus=_offline_cpus(fields, where),
            online_cpus=len(_cpus(fields, _ONLINE, where)) if _ONLINE in fields else None,
        ),
        notes=(_NO_CPUID,),
        statements=tuple(_hypervisor(fields)),
    )


def _fields(rows: list[tuple[str, str]], where: str) -> dict[str, str]:
    """What the rows say of the whole machine."""
    once = sum(name == "Architecture" for name, _ in rows) <= 1
    fields: dict[str, str] = {}
    several = set()
    for name, value in rows:
        if name not in _READ or fields.setdefault(name, value) == value:
            continue
        # lscpu repeats the rows of the model for each kind of core; where these differ, the machine
        # has no one value. Two outputs in one file begin twice.
        if once and name in (*_NUMBERS, _FLAGS):
            several.add(name)
        else:
            raise EvidenceError(
                f"field {name} is {fields[name]!r} and {value!r}",
                where=where,
                do="give one file per machine",
            )
    return {name: value for name, value in fields.items() if name not in several - {_FLAGS}}


def _require_x86(fields: dict[str, str], where: str) -> None:
    # One row is less than all of them, and no error; that of the architecture is cut off last.
    if not fields:
        raise EvidenceError("field Vendor ID is missing", where=where, do=_LSCPU_AGAIN)
    machine = fields.get("Architecture")
    if machine is not None and not architecture.is_x86(machine):
        raise architecture.refused_architecture(machine, where)


def _hypervisor(fields: dict[str, str]) -> Iterator[Statement]:
    vendor, kind = fields.get(_HYPERVISOR), fields.get(_VIRTUALIZATION)
    # Without its row the kind is that of what only hypervisors are called.
    if not vendor or not (kind in _UNDER_HYPERVISOR or (kind is None and vendor in _NAMES)):
        return
    source = f"lscpu, {_HYPERVISOR}: {vendor} ({kind or 'kind not shown'})"
    yield Statement("hypervisor", True, source)
    if (name := _NAMES.get(vendor)) is not None:
        yield Statement("hypervisor_name", name, source)
    if name == "Xen" and kind == "none":
        yield Statement("jumped_by", "xen", source)


def _offline_cpus(fields: dict[str, str], where: str) -> tuple[int, ...] | None:
    """CPUs present and not online; lscpu prints the row only where there is one."""
    if _ONLINE not in fields:
        return None
    online = _cpus(fields, _ONLINE, where)
    if _OFFLINE in fields:
        return tuple(sorted(set(_cpus(fields, _OFFLINE, where)) - set(online)))
    # Without the row there is none only if as many are online as there are.
    return () if fields.get("CPU(s)") == str(len(online)) else None


def _cpus(fields: dict[str, str], name: str, where: str) -> list[int]:
    try:
        return cpu_list(fields[name])
    except ValueError as error:
        raise EvidenceError(f"field {name} is {error}", where=where, do=_LSCPU_AGAIN) from error


def _number(fields: dict[str, str], name: str, where: str) -> int | None:
    text = fields.get(name)
    if text in (None, "", "-"):
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text):
        raise EvidenceError(f"field {name} is {text!r}, not a number", where=where, do=_LSCPU_AGAIN)
    return int(text)
