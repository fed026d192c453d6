# SPDX-License-Identifier: GPL-2.0-or-later
"""All facts of a machine, from its snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import Snapshot
from staleline.facts.caches import cache_facts
from staleline.facts.fact import Fact, Layer, MachineFacts
from staleline.facts.hypervisor import hypervisor_facts
from staleline.facts.identity import identity_facts
from staleline.facts.kernel_state import kernel_facts
from staleline.facts.observation import (
    DUMP_AGAIN,
    NOT_READ,
    Observation,
    first_told,
    merged_observation,
    observed_as,
    untold,
)
from staleline.facts.processors import several_cpus
from staleline.facts.told.log import log_facts, of_log
from staleline.facts.told.registers import observe
from staleline.facts.told.table import register_facts
from staleline.facts.unread import in_doubt, unread_fact
from staleline.hardware import AMD_AND_HYGON, ENCRYPTION_LEAF, TDX_GUEST_LEAF

__all__ = ["from_snapshot"]


def from_snapshot(snapshot: Snapshot, *, judged: str | None = None) -> MachineFacts:
    """Return every fact that this package knows, with unknown ones as None.

    Args:
        snapshot: The evidence; its CPUs are taken to be of one machine.
        judged: The release of the kernel that is judged on it. If the evidence names no
            kernel, the command line is read as that one does.
    """
    facts = _as_read(snapshot, judged)
    if not snapshot.unread:
        return facts
    return in_doubt(facts, snapshot, lambda other: _as_read(other, judged))


def _as_read(snapshot: Snapshot, judged: str | None) -> MachineFacts:
    known: dict[str, Observation] = {}
    facts: list[Fact] = []
    for fact in _facts(snapshot, known, judged):
        known[fact.name] = Observation(fact.value, fact.source, fact.missing)
        facts.append(fact)
    return MachineFacts.of(facts)


def _facts(snapshot: Snapshot, known: dict[str, Observation], judged: str | None) -> Iterator[Fact]:
    """Facts in an order in which each finds those it depends on in `known`."""
    # The order is that of every document too.
    yield from identity_facts(snapshot)
    yield from hypervisor_facts(snapshot, known["hypervisor"])
    vendor = known["vendor"].value
    for row in register_facts():
        observation = observe(row, snapshot, vendor if isinstance(vendor, str) else None, known)
        yield observation.fact(row.name, row.layer, row.text)
    yield from cache_facts(snapshot)
    yield _unchecked_sme_bit(snapshot)
    yield _tdx_guest(snapshot, known)
    yield _tsme(snapshot, known)
    yield several_cpus(snapshot)
    yield from kernel_facts(snapshot, known, judged)
    yield from log_facts(snapshot)
    yield unread_fact(snapshot)


def _unchecked_sme_bit(snapshot: Snapshot) -> Fact:
    observation = merged_observation((_unchecked(cpu.cpuid) for cpu in snapshot.cpus), NOT_READ)
    return observation.fact(
        "unchecked_sme_bit",
        Layer.HARDWARE,
        "bit 0 of CPUID 0x8000001f EAX as read without looking at the maximum",
    )


def _unchecked(cpuid: CpuidTable) -> Observation:
    answer, recorded = cpuid.read(ENCRYPTION_LEAF), cpuid.recorded(ENCRYPTION_LEAF)
    if cpuid.max_extended_leaf is None:
        return untold(f"CPUID leaf 0x80000000 is not recorded: {DUMP_AGAIN}")
    if answer is None:
        return untold(
            f"what {cpuid.vendor or 'this CPU'} answers at leaf {ENCRYPTION_LEAF:#010x} is not "
            "recorded: read it from /dev/cpu/0/cpuid (staleline collect)"
        )
    # A tool may print zeros for leaves that it did not read; which of both is so, nobody knows.
    if recorded is not None and (recorded[0] ^ answer[0]) & 1:
        return untold(
            f"the dump records EAX={recorded[0]:#010x} at leaf {ENCRYPTION_LEAF:#010x}, where "
            f"{cpuid.vendor} answers {answer[0]:#010x} beyond the maximum: {DUMP_AGAIN}"
        )
    return observed_as(
        bool(answer[0] & 1), f"CPUID {ENCRYPTION_LEAF:#010x} EAX[0], maximum not checked"
    )


def _tsme(snapshot: Snapshot, known: Mapping[str, Observation]) -> Fact:
    if snapshot.state.tsme is not None:
        observation = observed_as(snapshot.state.tsme, "tsme_status of the ccp driver")
    elif known["vendor"].value not in (None, *AMD_AND_HYGON):
        observation = observed_as(False, f"TSME is AMD's; vendor by {known['vendor'].source}")
    else:
        observation = untold(
            "no device of the ccp driver showed tsme_status: load ccp, and run staleline collect"
        )
    observation = first_told((observation, *of_log(snapshot, "tsme")))
    return observation.fact(
        "tsme", Layer.FIRMWARE, "firmware encrypts all memory with one key (TSME)"
    )


def _tdx_guest(snapshot: Snapshot, known: Mapping[str, Observation]) -> Fact:
    observation = merged_observation((_tdx_signature(cpu.cpuid) for cpu in snapshot.cpus), NOT_READ)
    if known["isolated"].value and not observation.value:
        # Hyper-V's paravisor hides the leaf from its TDX guests.
        observation = untold(f"CPUID 0x00000021 may be hidden: {known['isolated'].source}")
    observation = first_told((observation, *_tdx_flag(snapshot), *of_log(snapshot, "tdx_guest")))
    return observation.fact("tdx_guest", Layer.FIRMWARE, "this is a TDX guest")


def _tdx_flag(snapshot: Snapshot) -> Iterator[Observation]:
    """The flag that the guest's kernel forces (Linux 7.3.4 arch/x86/coco/tdx/tdx.c:1122)."""
    forced = snapshot.may_have_forced_flags
    if snapshot.cpuinfo is not None and "tdx_guest" in snapshot.cpuinfo.flags and not forced:
        yield observed_as(True, "/proc/cpuinfo flag tdx_guest")


def _tdx_signature(cpuid: CpuidTable) -> Observation:
    maximum, is_tdx_guest = cpuid.max_basic_leaf, cpuid.is_tdx_guest
    # Beyond the maximum Intel's CPUs answer with their highest basic leaf, which is not signed so.
    # Linux compares without asking for it (7.3.4 arch/x86/coco/tdx/tdx.c tdx_early_init()).
    if maximum is None:
        return untold(f"CPUID leaf 0x00000000 is not recorded: {DUMP_AGAIN}")
    if maximum < TDX_GUEST_LEAF:
        return observed_as(
            False, f"CPUID 0x00000000 EAX: leaf 0x00000021 is beyond {maximum:#010x}"
        )
    if is_tdx_guest is None:
        return untold(f"CPUID leaf {TDX_GUEST_LEAF:#010x} is not recorded: {DUMP_AGAIN}")
    return observed_as(is_tdx_guest, "CPUID 0x00000021")
