# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of what ``lscpu`` and ``lscpu -J`` print (util-linux, in the C locale).

lscpu repeats /proc/cpuinfo of the first CPU and the lists of online and offline CPUs;
its sums of cache sizes do not tell who shares a cache and are not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from staleline.errors import EvidenceError
from staleline.evidence.snapshot import CpuinfoEvidence, Note, Snapshot, StateEvidence
from staleline.evidence.staleline_collect import cpu_list

__all__ = ["is_json", "is_row", "parse", "parse_json"]

_LSCPU_AGAIN = "run LC_ALL=C lscpu on the host and copy its output whole"
_NO_CPUID = Note("cpuid", "only lscpu was given; run cpuid -r, or staleline collect")
#: A row; the first one that lscpu prints of every version.
_ROW = re.compile(r"\s*([A-Z][^:]*):(.*)")
_JSON = re.compile(r'\s*\{\s*"lscpu"\s*:')
_ONLINE, _OFFLINE = "On-line CPU(s) list", "Off-line CPU(s) list"
#: Rows that say one thing of the whole machine; lscpu repeats some for each kind of core.
_READ = frozenset(
    {"Architecture", "CPU(s)", _ONLINE, _OFFLINE, "Vendor ID", "CPU family", "Model"}
    | {"Stepping", "Flags"}
)


def is_row(line: str) -> bool:
    """Is this the row that the output of lscpu begins with?"""
    return line.startswith("Architecture:")


def is_json(text: str) -> bool:
    """Is this JSON what ``lscpu -J`` prints?"""
    return _JSON.match(text) is not None


def parse(text: str, where: str) -> Snapshot:
    """Return what `text`, the output of ``lscpu``, tells of a machine.

    Raises:
        EvidenceError: `text` is not whole, or not of an x86 machine.
    """
    # The last line counts only when it is finished: "sme" may be a cut "smep".
    finished = text[: text.rfind("\n") + 1]
    rows = (found.groups() for line in finished.split("\n") if (found := _ROW.fullmatch(line)))
    return _machine([(name, value.strip()) for name, value in rows], where)


def parse_json(text: str, where: str) -> Snapshot:
    """Return what `text`, the output of ``lscpu -J``, tells of a machine.

    Raises:
        EvidenceError: `text` is not whole, or not of an x86 machine.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EvidenceError("is not whole JSON", where=where, do=_LSCPU_AGAIN) from error
    return _machine(list(_rows(document["lscpu"])), where)


def _rows(items: Any) -> Iterator[tuple[str, str]]:
    """Rows of one level; newer versions nest them."""
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            name, value = item.get("field"), item.get("data")
            if isinstance(name, str) and isinstance(value, str):
                yield name.rstrip(":"), value
            yield from _rows(item.get("children"))


def _machine(rows: list[tuple[str, str]], where: str) -> Snapshot:
    fields: dict[str, str] = {}
    for name, value in rows:
        if name in _READ and fields.setdefault(name, value) != value:
            raise EvidenceError(
                f"field {name} is {fields[name]!r} and {value!r}",
                where=where,
                do="give one file per machine",
            )
    for name in ("Vendor ID", "CPU family", "Model"):
        if name not in fields:
            raise EvidenceError(f"field {name} is missing", where=where, do=_LSCPU_AGAIN)
    return Snapshot(
        cpus=(),
        cpuinfo=CpuinfoEvidence(
            vendor=fields["Vendor ID"],
            family=_number(fields, "CPU family", where),
            model=_number(fields, "Model", where),
            stepping=_number(fields, "Stepping", where) if "Stepping" in fields else None,
            flags=frozenset(fields.get("Flags", "").split()),
        ),
        state=StateEvidence(offline_cpus=_offline_cpus(fields, where)),
        notes=(_NO_CPUID,),
    )


def _offline_cpus(fields: dict[str, str], where: str) -> tuple[int, ...] | None:
    """CPUs present and not online; lscpu prints the row only where there is one.

    Without the row there is none only if as many are online as there are.
    """
    if _ONLINE not in fields:
        return None
    online = _cpus(fields, _ONLINE, where)
    if _OFFLINE in fields:
        return tuple(sorted(set(_cpus(fields, _OFFLINE, where)) - set(online)))
    return () if fields.get("CPU(s)") == str(len(online)) else None


def _cpus(fields: dict[str, str], name: str, where: str) -> list[int]:
    try:
        return cpu_list(fields[name])
    except ValueError as error:
        raise EvidenceError(f"field {name} is {error}", where=where, do=_LSCPU_AGAIN) from error


def _number(fields: dict[str, str], name: str, where: str) -> int:
    text = fields[name]
    if not re.fullmatch(r"[0-9]{1,5}", text):
        raise EvidenceError(f"field {name} is {text!r}, not a number", where=where, do=_LSCPU_AGAIN)
    return int(text)
