# SPDX-License-Identifier: GPL-2.0-or-later
"""The guards of an image, instruction by instruction, as text or JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from staleline.kernel.boot.decision import Store
from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.guards.guard import Guard, GuardLine, Input
from staleline.kernel.reading.storedocument import store_document
from staleline.printable import printable
from staleline.vocabulary import Through

__all__ = ["explanation_document", "print_explanations"]

_FACTS = {
    "leaf": "CPUID leaf 0x8000001f",
    "sme": "CPUID 0x8000001f EAX[0]",
    "sev": "CPUID 0x8000001f EAX[1]",
    "hypervisor": "CPUID 1 ECX[31]",
    "sme_enabled": "SYSCFG[23]",
    "sev_status": "SEV_STATUS[0]",
    "sev_es": "SEV_STATUS[1]",
    "snp_guest": "SEV_STATUS[2]",
    "mem_encrypt": "mem_encrypt=on",
    "tdx_keyids": "TDX KeyIDs",
    "seamcalled": "a SEAMCALL",
    "snp_host": "SNP guests",
    "preserve_context": "a kexec jump",
}
#: Variables of the kernels 5.10 to 7.3 that guards read.
_VARIABLES = {
    "sme_me_mask": "the C-bit's mask, 0 if memory is not encrypted",
    "sev_status": "SEV_STATUS as read at boot",
    "sev_enabled": "this is an SEV guest",
    "cc_vendor": "whose memory encryption is in use",
    "cc_flags": "what is set up for SNP",
    "per-CPU cache_state_incoherent": "this CPU's caches may hold incoherent lines",
}
#: Variables of struct cpuinfo_x86.
_CPU_INFO = ("boot_cpu_data", "per-CPU cpu_info")
#: The highest extended leaves of the machines that are tried: with memory encryption, and without.
_MAXIMUM_LEAVES = {0x8000_001F, 0x8000_0008}
_INDENT = 6


def explanation_document(explanation: Guard) -> dict[str, Any]:
    """Plain values."""
    return {
        "site": explanation.site,
        "facts": asdict(explanation.facts),
        "lines": [_line_document(line) for line in explanation.lines],
        "left_behind": [store_document(store) for store in explanation.left_behind],
    }


def _line_document(line: GuardLine) -> dict[str, Any]:
    return {
        "place": line.place,
        "instruction": line.text,
        "skipped": line.skipped,
        "reads": [
            {"what": one.what, "value": one.value, "differs": dict(one.others)}
            for one in line.inputs
        ],
        "decides": list(line.decides),
    }


def print_explanations(console: Console, image: str, explanations: Sequence[Guard]) -> None:
    """Every way in which an image comes to execute WBINVD."""
    console.print(Text(printable(image), style="bold"))
    if not explanations:
        console.print("No WBINVD was executed for any combination of facts.")
    for several in _by_instructions(explanations):
        console.print()
        _print_explanation(console, several[0])
        for other in several[1:]:
            console.print(_likewise(other))


def _by_instructions(explanations: Sequence[Guard]) -> Iterable[list[Guard]]:
    """Those that show the same instructions, together."""
    alike: dict[tuple[str, ...], list[Guard]] = {}
    for one in explanations:
        key = (one.site, *(line.place for line in one.lines), *map(_stored, one.left_behind))
        alike.setdefault(key, []).append(one)
    return alike.values()


def _likewise(explanation: Guard) -> Text:
    """Another machine on which the same instructions decide otherwise."""
    names = dict.fromkeys(name for line in explanation.lines for name in line.decides)
    return Text.assemble(
        ("  likewise", "bold"),
        f" on {_machine(explanation.facts)}: not {_unlike(names, explanation.facts)}",
    )


def _print_explanation(console: Console, explanation: Guard) -> None:
    """The instructions that have a part in the decision, and what each reads or decides."""
    console.print(Text.assemble((explanation.site, "bold"), f" on {_machine(explanation.facts)}"))
    places = [line.place for line in explanation.lines]
    width = max(map(len, (*places, *(store.code for store in explanation.left_behind))))
    for line in explanation.lines:
        if line.skipped:
            plural = "" if line.skipped == 1 else "s"
            console.print(Text(f"  … {line.skipped} instruction{plural}", style="dim"))
        style = "bold green" if line.text == "wbinvd" else ""
        console.print(Text(f"  {line.place:{width}}  {line.text}", style), soft_wrap=True)
        for note in _notes(line, explanation.facts):
            console.print(Padding(note, (0, 0, 0, _INDENT)))
    for store in explanation.left_behind:
        console.print(Text(f"  {store.code:{width}}  {_stored(store)}", "bold red"), soft_wrap=True)


def _stored(store: Store) -> str:
    """What an instruction behind the WBINVD leaves dirty, and through which alias."""
    plural = "" if store.size == 1 else "s"
    alias = "the old kernel's own" if store.through is Through.OWN else "the plain"
    return (
        f"leaves {printable(store.line)} dirty: stores {store.size} byte{plural} at "
        f"{store.address:#x} through {alias} alias"
    )


def _machine(facts: RawFacts) -> str:
    """A machine, by what holds of it."""
    names = [field.name for field in fields(facts) if field.name != "vendor"]
    holding = [_FACTS[name] for name in names if getattr(facts, name)]
    return ", ".join((facts.vendor.strip() or "an unknown vendor", *holding))


def _notes(line: GuardLine, facts: RawFacts) -> Iterator[Text]:
    for one in line.inputs:
        yield Text(f"reads {one.what}{_meaning(one)} = {_read(one, facts)}", style="cyan")
    if line.decides:
        yield Text(f"goes the other way {_unlike(line.decides, facts)}", style="yellow")


def _meaning(one: Input) -> str:
    name, _, offset = one.what.partition("+")
    found = _cpu_field(one) if name in _CPU_INFO and offset else _VARIABLES.get(one.what)
    return "" if found is None else f" ({found})"


def _cpu_field(input_: Input) -> str | None:
    """A member of struct cpuinfo_x86, known by how it follows CPUID.

    X86_FEATURE_SME is bit 0 of a word of its capabilities (arch/x86/include/asm/
    cpufeatures.h, 5.10 to 7.3).
    """
    # Which leaf it compares with is not asked: no other member has these two values.
    if {input_.value, *input_.others.values()} == _MAXIMUM_LEAVES:
        return "extended_cpuid_level, CPUID 0x80000000 EAX"
    changed = input_.value ^ input_.others.get("sme", input_.value)
    bit = changed.bit_length() - 1
    if changed and changed == 1 << bit and bit % 32 == 0:
        return f"x86_capability, bit {bit} is X86_FEATURE_SME"
    return None


def _read(input_: Input, facts: RawFacts) -> str:
    """The value, and what it is on machines that differ."""
    by_value: dict[int, list[str]] = {}
    for name, other in input_.others.items():
        by_value.setdefault(other, []).append(name)
    others = (f"{other:#x} {_unlike(names, facts)}" for other, names in by_value.items())
    return "; ".join((f"{input_.value:#x}", *others))


def _unlike(names: Collection[str], facts: RawFacts) -> str:
    """For instance: without SYSCFG[23] or mem_encrypt=on, with CPUID 1 ECX[31]."""
    known = [name for name in names if name in _FACTS]
    without = [_FACTS[name] for name in known if getattr(facts, name)]
    added = [_FACTS[name] for name in known if not getattr(facts, name)]
    parts = [("without", without), ("with", added)]
    if "vendor" in names:
        parts.append(("on", ["another vendor's CPU"]))
    return ", ".join(f"{word} {_either(found)}" for word, found in parts if found)


def _either(words: Sequence[str]) -> str:
    return " or ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]
