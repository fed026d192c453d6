# SPDX-License-Identifier: GPL-2.0-or-later
"""What hardware can, firmware enabled and the kernel was told, as lines of a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from staleline.facts import Fact, MachineFacts
from staleline.policy.atoms import atoms
from staleline.verdict.policies.platforms import Platform

__all__ = ["LayerFact", "Layers", "audit_layers", "platform_layers"]

_LAYERS = ("hardware", "firmware", "kernel")

#: Observed facts that bear on verdicts; those of a platform class all do.
_DECISIVE = frozenset(
    (
        *("vendor", "hypervisor", "sme", "sev", "sev_snp", "coherency_enforced", "tme"),
        *("unchecked_sme_bit", "sme_enabled", "snp_enabled", "tdx_keyids"),
        *("sev_guest", "sev_es_guest", "snp_guest", "tdx_guest"),
        *("mem_encrypt", "sme_active", "sev_guests_run", "tdx_module", "reboot_force"),
    )
)

#: What a platform class says beside the atoms of policies: (layer, name, meaning).
_BESIDE_ATOMS = (
    ("hardware", "coherency_enforced", "caches keep the aliases of a line coherent"),
    ("firmware", "snp_guest", "MSR 0xC0010131 (SEV_STATUS) bit 2: an SNP guest"),
    ("kernel", "tdx_used", "the TDX module is initialised"),
)
#: The transition says these.
_SAID_BY_CASE = frozenset({"mem_encrypt", "sme_active"})


class LayerFact(NamedTuple):
    """One line.

    Attributes:
        name: Name of the fact.
        text: What it says.
        value: ``yes``, ``no``, ``unknown``, or the value.
        source: The evidence, or for an unknown value what is missing.
        decides: It bears on verdicts; the others are for reference.
    """

    name: str
    text: str
    value: str
    source: str
    decides: bool


#: Layer -> its facts.
Layers = Mapping[str, tuple[LayerFact, ...]]


def audit_layers(facts: MachineFacts, given: Sequence[str]) -> Layers:
    """The facts of an audited machine; what the user gave is named as given."""
    layers = {layer: tuple(map(_observed, facts.layer(layer))) for layer in _LAYERS}
    not_observed = tuple(
        LayerFact(name, "given by you, not observed", "given", "", decides=True) for name in given
    )
    return {**layers, "kernel": (*layers["kernel"], *not_observed)}


def _observed(fact: Fact) -> LayerFact:
    evidence = fact.source or fact.missing or ""
    return LayerFact(
        fact.name, fact.text, _word(fact.value), evidence, decides=fact.name in _DECISIVE
    )


def platform_layers(platform: Platform) -> Layers:
    """What a platform class has in common."""
    facts = tuple(_of_class(platform))
    return {layer: tuple(fact for of, fact in facts if of == layer) for layer in _LAYERS}


def _of_class(platform: Platform) -> Iterator[tuple[str, LayerFact]]:
    # SEAMCALLs are each CPU's own, so that a class has nothing to say of them.
    values = platform.machine.atoms(seamcalled=False)
    for atom in atoms().values():
        if atom.name in values and atom.name not in _SAID_BY_CASE | {"seamcalled"}:
            word = _word(values[atom.name], in_hexadecimal=atom.name == "max_extended_leaf")
            yield atom.layer, LayerFact(atom.name, atom.meaning, word, "", decides=True)
    for layer, name, meaning in _BESIDE_ATOMS:
        yield (
            layer,
            LayerFact(name, meaning, _word(getattr(platform.machine, name)), "", decides=True),
        )


def _word(value: object, *, in_hexadecimal: bool = False) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:#010x}" if in_hexadecimal else str(value)
