# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots as JSON, ``staleline/snapshot/1`` (schemas/snapshot-1.json): read and written.

Reading is strict, because a misspelt field would silently become "unknown": every error
names the field as a path such as ``cpus[3].msr.0xc0010010``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from staleline.errors import EvidenceError
from staleline.evidence.fields import Fields
from staleline.evidence.registers import CpuidTable, Registers
from staleline.evidence.snapshot import (
    CpuEvidence,
    CpuinfoEvidence,
    KernelEvidence,
    Note,
    Snapshot,
    StateEvidence,
)

__all__ = ["SCHEMA", "parse", "snapshot_text", "to_json"]

SCHEMA = "staleline/snapshot/1"

_SEE_SCHEMA = "compare with the snapshot/1 schema, or collect again with staleline collect"


def parse(text: str, where: str) -> Snapshot:
    """Return the snapshot that `text` holds.

    Raises:
        EvidenceError: `text` is not JSON, or not a ``staleline/snapshot/1`` document.
    """
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise EvidenceError(
            f"is not JSON: {error.msg}",
            where=f"{where}:{error.lineno}:{error.colno}",
            do=_SEE_SCHEMA,
        ) from error
    except (ValueError, RecursionError) as error:
        what = "nests too deeply" if isinstance(error, RecursionError) else f"has a {error}"
        raise EvidenceError(f"is not a snapshot: {what}", where=where, do=_SEE_SCHEMA) from error
    return _snapshot(Fields.root(document, where, _SEE_SCHEMA))


def snapshot_text(snapshot: Snapshot) -> str:
    """Return `snapshot` as JSON text, one field per line, ending in a newline."""
    return json.dumps(to_json(snapshot), indent=1, ensure_ascii=False) + "\n"


def to_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return `snapshot` as a JSON document; `parse` gives the same snapshot back."""
    return {
        "schema": SCHEMA,
        "host": snapshot.host,
        "collected": snapshot.collected,
        "cpus": [_cpu_to_json(cpu) for cpu in snapshot.cpus],
        "cpuinfo": None if snapshot.cpuinfo is None else _cpuinfo_to_json(snapshot.cpuinfo),
        "kernel": {
            "release": snapshot.kernel.release,
            "cmdline": snapshot.kernel.cmdline,
            "config": None if snapshot.kernel.config is None else dict(snapshot.kernel.config),
        },
        "state": _state_to_json(snapshot.state),
        "notes": [asdict(note) for note in snapshot.notes],
    }


def _cpu_to_json(cpu: CpuEvidence) -> dict[str, Any]:
    document: dict[str, Any] = {
        "cpuid": {
            f"{leaf:#010x}:{subleaf}": [f"{register:#010x}" for register in registers]
            for (leaf, subleaf), registers in sorted(cpu.cpuid.leaves.items())
        },
        "msr": {f"{number:#x}": f"{value:#018x}" for number, value in sorted(cpu.msr.items())},
    }
    if cpu.msr_faults:
        document["msr_faults"] = [f"{number:#x}" for number in sorted(cpu.msr_faults)]
    return document


def _state_to_json(state: StateEvidence) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(state).items()
    }


def _cpuinfo_to_json(cpuinfo: CpuinfoEvidence) -> dict[str, Any]:
    return {
        "vendor": cpuinfo.vendor,
        "family": cpuinfo.family,
        "model": cpuinfo.model,
        "stepping": cpuinfo.stepping,
        "flags": sorted(cpuinfo.flags),
    }


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} twice in one object")
    return document


def _constant(name: str) -> Any:
    raise ValueError(f"number {name}")


def _snapshot(top: Fields) -> Snapshot:
    if (schema := top.text("schema")) != SCHEMA:
        raise top.error("schema", f"is {schema!r}, not {SCHEMA!r}")
    snapshot = Snapshot(
        cpus=tuple(_cpu(cpu) for cpu in top.objects("cpus", required=True)),
        host=top.text("host"),
        collected=top.text("collected"),
        cpuinfo=_cpuinfo(top.object("cpuinfo")),
        kernel=_kernel(top.object("kernel")),
        state=_state(top.object("state")),
        notes=tuple(_note(note) for note in top.objects("notes")),
    )
    top.require_no_more()
    return snapshot


def _cpu(cpu: Fields) -> CpuEvidence:
    evidence = CpuEvidence(
        cpuid=CpuidTable(_leaves(cpu.object("cpuid"))),
        msr=_msrs(cpu.object("msr")),
        msr_faults=frozenset(cpu.numbers("msr_faults", 32)),
    )
    cpu.require_no_more()
    for number in sorted(evidence.msr_faults & evidence.msr.keys()):
        raise cpu.error("msr_faults", f"names {number:#x}, which has a value in field msr")
    return evidence


def _leaves(cpuid: Fields | None) -> Mapping[tuple[int, int], Registers]:
    leaves: dict[tuple[int, int], Registers] = {}
    if cpuid is None:
        return leaves
    for name in cpuid.names():
        leaf, colon, subleaf = name.partition(":")
        key = (cpuid.key(name, leaf, 32), cpuid.key(name, subleaf, 32) if colon else 0)
        registers = cpuid.numbers(name, 32)
        if len(registers) != 4:
            raise cpuid.error(name, f"holds {len(registers)} registers, not EAX, EBX, ECX, EDX")
        if key in leaves:
            raise cpuid.error(name, "names a leaf and sub-leaf that another field names too")
        leaves[key] = (registers[0], registers[1], registers[2], registers[3])
    return leaves


def _msrs(msr: Fields | None) -> Mapping[int, int]:
    values: dict[int, int] = {}
    if msr is None:
        return values
    for name in msr.names():
        number = msr.key(name, name, 32)
        if number in values:
            raise msr.error(name, "names an MSR that another field names too")
        value = msr.number(name, 64)
        if value is not None:
            values[number] = value
    return values


def _cpuinfo(cpuinfo: Fields | None) -> CpuinfoEvidence | None:
    if cpuinfo is None:
        return None
    evidence = CpuinfoEvidence(
        vendor=cpuinfo.text("vendor"),
        family=cpuinfo.natural("family"),
        model=cpuinfo.natural("model"),
        stepping=cpuinfo.natural("stepping"),
        flags=frozenset(cpuinfo.texts("flags")),
    )
    cpuinfo.require_no_more()
    return evidence


def _kernel(kernel: Fields | None) -> KernelEvidence:
    if kernel is None:
        return KernelEvidence()
    config = kernel.object("config")
    evidence = KernelEvidence(
        release=kernel.text("release"),
        cmdline=kernel.text("cmdline"),
        config=None
        if config is None
        else {name: config.text(name, required=True) or "" for name in config.names()},
    )
    kernel.require_no_more()
    return evidence


def _state(state: Fields | None) -> StateEvidence:
    if state is None:
        return StateEvidence()
    evidence = StateEvidence(
        sme_active=state.boolean("sme_active"),
        tdx_module=state.text("tdx_module"),
        seamcalled_cpus=state.naturals("seamcalled_cpus"),
        sev_guests_run=state.boolean("sev_guests_run"),
        offline_cpus=state.naturals("offline_cpus"),
        kexec_loaded=state.natural("kexec_loaded"),
    )
    state.require_no_more()
    return evidence


def _note(note: Fields) -> Note:
    evidence = Note(
        what=note.text("what", required=True) or "", why=note.text("why", required=True) or ""
    )
    note.require_no_more()
    return evidence
