# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots as JSON, ``staleline/snapshot/1`` (schemas/snapshot-1.json): read and written.

Every error names the field as a path such as ``cpus[3].msr.0xc0010010``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from staleline.errors import EvidenceError
from staleline.evidence.fields import Fields
from staleline.evidence.registers import CpuidTable, Registers
from staleline.evidence.snapshot import (
    TDX_MODULE_STATES,
    CacheEvidence,
    CpuEvidence,
    CpuinfoEvidence,
    KernelEvidence,
    LogEvidence,
    Note,
    Snapshot,
    StateEvidence,
    Statement,
    UnreadMessage,
)
from staleline.evidence.staleline_collect import document_text, shared_entries, unfolded_lists
from staleline.evidence.tools.vendors import named_vendor
from staleline.inputfile import whole_number

__all__ = ["SCHEMA", "parse", "snapshot_text", "to_json"]

SCHEMA = "staleline/snapshot/1"

#: Ways of starting a kernel that the evidence tells apart.
BOOTED_BY = ("efi", "kexec", "direct")

#: The largest machine that Linux is built for has 8192 CPUs; none is known to have 256 leaves.
_LEAVES_MAX = 8192 * 256

_SEE_SCHEMA = "compare with the snapshot/1 schema, or collect again with staleline collect"


def parse(text: str, where: str) -> Snapshot:
    """Return the snapshot that `text` holds.

    Raises:
        EvidenceError: `text` is not JSON, or not a ``staleline/snapshot/1`` document.
    """
    try:
        document = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=whole_number
        )
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
    """Return `snapshot` as JSON text, with a line for each field and CPU."""
    return document_text(to_json(snapshot))


def to_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return `snapshot` as a JSON document; `parse` gives the same snapshot back."""
    return {
        "schema": SCHEMA,
        "host": snapshot.host,
        "collected": snapshot.collected,
        "cpus": shared_entries([_cpu_to_json(cpu) for cpu in snapshot.cpus]),
        "cpuinfo": None if snapshot.cpuinfo is None else _cpuinfo_to_json(snapshot.cpuinfo),
        "caches": [_fields(cache) for cache in snapshot.caches],
        "kernel": _fields(snapshot.kernel),
        "modules": snapshot.modules,
        "log": None if snapshot.log is None else _fields(snapshot.log),
        "state": _fields(snapshot.state),
        "notes": [_fields(note) for note in snapshot.notes],
        # Only where there are any: readers from before these fields refuse names that they do not
        # know.
        **({"statements": [_fields(one) for one in said]} if (said := snapshot.statements) else {}),
        **({"unread": [_fields(one) for one in unread]} if (unread := snapshot.unread) else {}),
    }


def _fields(evidence: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(evidence).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _cpu_to_json(cpu: CpuEvidence) -> dict[str, Any]:
    document: dict[str, Any] = {} if cpu.number is None else {"cpu": cpu.number}
    document["cpuid"] = {
        f"{leaf:#010x}:{subleaf}": [f"{register:#010x}" for register in registers]
        for (leaf, subleaf), registers in sorted(cpu.cpuid.leaves.items())
    }
    document["msr"] = {
        f"{number:#x}": f"{value:#018x}" for number, value in sorted(cpu.msr.items())
    }
    if cpu.msr_faults:
        document["msr_faults"] = [f"{number:#x}" for number in sorted(cpu.msr_faults)]
    return document


def _cpuinfo_to_json(cpuinfo: CpuinfoEvidence) -> dict[str, Any]:
    return {**asdict(cpuinfo), "flags": sorted(cpuinfo.flags), "bugs": sorted(cpuinfo.bugs)}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} twice in one object")
    return document


def _constant(name: str) -> Any:
    # NaN and Infinity, which Python's reader takes and JSON has not.
    raise ValueError(f"number {name}")


def _snapshot(top: Fields) -> Snapshot:
    if (schema := top.text("schema")) != SCHEMA:
        raise top.error("schema", f"is {schema!r}, not {SCHEMA!r}")
    snapshot = Snapshot(
        cpus=_cpus(top),
        host=top.text("host"),
        collected=top.text("collected"),
        cpuinfo=_cpuinfo(top.object("cpuinfo")),
        kernel=_kernel(top.object("kernel")),
        state=_state(top.object("state")),
        notes=tuple(_note(note) for note in top.objects("notes")),
        caches=tuple(_cache(cache) for cache in top.objects("caches")),
        modules=_modules(top.object("modules")),
        log=_log(top.object("log")),
        statements=tuple(filter(_names_something, map(_statement, top.objects("statements")))),
        unread=tuple(map(_unread, top.objects("unread"))),
    )
    # A misspelt field would silently become "unknown".
    top.require_no_more()
    return snapshot


def _cpus(top: Fields) -> tuple[CpuEvidence, ...]:
    cpus: list[CpuEvidence] = []
    expanded = 0
    for fields in top.objects("cpus", required=True):
        cpus.append(_cpu(fields, cpus))
        # Counted once expanded, as `like` makes many leaves of a few bytes.
        expanded += len(cpus[-1].cpuid.leaves)
        if expanded > _LEAVES_MAX:
            raise fields.error(
                "like", f"makes more than {_LEAVES_MAX} leaves, more than any machine"
            )
    return tuple(cpus)


def _cpu(cpu: Fields, earlier: Sequence[CpuEvidence]) -> CpuEvidence:
    base = _like(cpu, earlier)
    leaves, msr = _leaves(cpu.object("cpuid")), _msrs(cpu.object("msr"))
    # What is absent is like the earlier CPU's; an empty list is not absent.
    faults = cpu.document.get("msr_faults") is None
    evidence = CpuEvidence(
        cpuid=CpuidTable({**base.cpuid.leaves, **leaves}) if leaves else base.cpuid,
        msr={**base.msr, **msr},
        msr_faults=base.msr_faults if faults else frozenset(cpu.numbers("msr_faults", 32)),
        number=cpu.natural("cpu"),
    )
    cpu.require_no_more()
    for number in sorted(evidence.msr_faults & evidence.msr.keys()):
        raise cpu.error("msr_faults", f"names {number:#x}, which has a value in field msr")
    return evidence


def _like(cpu: Fields, earlier: Sequence[CpuEvidence]) -> CpuEvidence:
    """The CPU that this one is like but for what it says itself."""
    index = cpu.natural("like")
    if index is None:
        return CpuEvidence(CpuidTable({}))
    if index >= len(earlier):
        raise cpu.error("like", f"is {index}, not the index of an earlier CPU")
    return earlier[index]


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
        vendor=named_vendor(cpuinfo.text("vendor")),
        family=cpuinfo.natural("family"),
        model=cpuinfo.natural("model"),
        stepping=cpuinfo.natural("stepping"),
        flags=frozenset(cpuinfo.texts("flags")),
        bugs=frozenset(cpuinfo.texts("bugs")),
    )
    cpuinfo.require_no_more()
    return evidence


def _kernel(kernel: Fields | None) -> KernelEvidence:
    if kernel is None:
        return KernelEvidence()
    evidence = KernelEvidence(
        release=kernel.text("release"),
        cmdline=kernel.text("cmdline"),
        config=_texts(kernel.object("config")),
        build_id=kernel.text("build_id"),
        loader_cmdline=kernel.text("loader_cmdline"),
        bootconfig=_bootconfig(kernel),
        booted_by=kernel.text("booted_by"),
        xloadflags=kernel.natural("xloadflags"),
    )
    if evidence.booted_by not in (None, *BOOTED_BY):
        raise kernel.error(
            "booted_by", f"is {evidence.booted_by!r}, not one of {', '.join(BOOTED_BY)}"
        )
    kernel.require_no_more()
    return evidence


def _bootconfig(kernel: Fields) -> tuple[str, ...] | None:
    """Its keys; an empty list says that there are none, which absence does not."""
    keys = kernel.texts("bootconfig")
    return None if kernel.document.get("bootconfig") is None else keys


def _texts(table: Fields | None) -> Mapping[str, str] | None:
    if table is None:
        return None
    return {name: table.text(name, required=True) or "" for name in table.names()}


def _modules(modules: Fields | None) -> Mapping[str, Mapping[str, str]] | None:
    if modules is None:
        return None
    return {name: _texts(modules.object(name)) or {} for name in modules.names()}


def _cache(cache: Fields) -> CacheEvidence:
    evidence = CacheEvidence(
        level=cache.natural("level", required=True) or 0,
        type=cache.text("type", required=True) or "",
        bytes=cache.natural("bytes", required=True) or 0,
        cpus=tuple(unfolded_lists(list(cache.texts("cpus")))),
    )
    cache.require_no_more()
    return evidence


def _log(log: Fields | None) -> LogEvidence | None:
    if log is None:
        return None
    evidence = LogEvidence(log.texts("lines"), complete=log.boolean("complete") or False)
    log.require_no_more()
    return evidence


def _tdx_module(state: Fields) -> str | None:
    """A word that means nothing here would hide what the log tells."""
    word = state.text("tdx_module")
    if word is not None and word not in TDX_MODULE_STATES:
        raise state.error("tdx_module", f"is not one of {', '.join(TDX_MODULE_STATES)}")
    return word


def _state(state: Fields | None) -> StateEvidence:
    if state is None:
        return StateEvidence()
    peak, patches = state.object("guest_ids_peak"), state.object("livepatches")
    evidence = StateEvidence(
        sme_active=state.boolean("sme_active"),
        tdx_module=_tdx_module(state),
        seamcalled_cpus=state.naturals("seamcalled_cpus"),
        sev_guests_run=state.boolean("sev_guests_run"),
        offline_cpus=state.naturals("offline_cpus"),
        online_cpus=state.natural("online_cpus"),
        kexec_loaded=state.natural("kexec_loaded"),
        kexec_crash_loaded=state.natural("kexec_crash_loaded"),
        kexec_crash_size=state.natural("kexec_crash_size", bits=64),
        reboot_force=state.boolean("reboot_force"),
        tsme=state.boolean("tsme"),
        guest_ids_peak=None
        if peak is None
        else {name: peak.natural(name, required=True) or 0 for name in peak.names()},
        livepatches=None
        if patches is None
        else {name: _listed(patches, name) for name in patches.names()},
        kprobes=_listed(state, "kprobes"),
        tainted=state.natural("tainted", bits=64),
        tainting_modules=_listed(state, "tainting_modules"),
    )
    state.require_no_more()
    return evidence


def _listed(table: Fields, name: str) -> tuple[str, ...] | None:
    """A list of strings; null, unlike an empty list, says nothing."""
    texts = table.texts(name)
    return None if table.document.get(name) is None else texts


def _note(note: Fields) -> Note:
    evidence = Note(
        what=note.text("what", required=True) or "", why=note.text("why", required=True) or ""
    )
    note.require_no_more()
    return evidence


def _statement(statement: Fields) -> Statement:
    evidence = Statement(
        name=statement.text("name", required=True) or "",
        value=_stated_value(statement),
        source=statement.text("source", required=True) or "",
    )
    statement.require_no_more()
    return evidence


def _unread(message: Fields) -> UnreadMessage:
    evidence = UnreadMessage(
        where=message.text("where", required=True) or "",
        message=message.text("message", required=True) or "",
    )
    message.require_no_more()
    return evidence


def _names_something(statement: Statement) -> bool:
    """Not a vendor's name that somebody took out."""
    return statement.name != "vendor" or named_vendor(str(statement.value)) is not None


def _stated_value(statement: Fields) -> bool | int | str:
    given = statement.document.get("value")
    if isinstance(given, str):
        return statement.text("value") or ""
    if isinstance(given, bool):
        return statement.boolean("value") or False
    return statement.natural("value", bits=64, required=True) or 0
