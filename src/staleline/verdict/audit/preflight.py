# SPDX-License-Identifier: GPL-2.0-or-later
"""Before a kernel is loaded: one path of the audit, with one next image and its command line.

The question is whether it is right to load this kernel and to start it here. Beside the audit's
verdict on the handover it depends on objections: a WBINVD that traps in this guest, a rule that
was guessed, a kernel that does not run here. And there are remarks: what an operator should know
of this host before the load, such as that it will be refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from staleline.evidence.snapshot import Snapshot
from staleline.facts import MachineFacts
from staleline.model.scenario import ForeignLines, Scenario
from staleline.policy.catalogue import series_of
from staleline.verdict.audit.agreement import audit_of
from staleline.verdict.audit.audit import Audit
from staleline.verdict.audit.remarks import Remark, remark_kinds
from staleline.verdict.audit.subject import Subject
from staleline.verdict.audit.wanted_next import NextImage
from staleline.verdict.handover.answers import answer_to
from staleline.verdict.handover.kernels import ImageKernel, PolicyKernel
from staleline.vocabulary import Path, Site, Verdict, worst

__all__ = ["LOAD_SETTLED", "Objection", "Preflight", "preflight"]

#: A crash kernel that is safe once what loading it wrote has left the caches.
LOAD_SETTLED = "load-settled"

#: Sapphire Rapids X and Emerald Rapids X (linux 7.3.4 arch/x86/virt/vmx/tdx/tdx.c
#: check_tdx_erratum(), arch/x86/include/asm/intel-family.h).
_ERRATUM_MODELS = frozenset({(6, 0x8F), (6, 0xCF)})
_ERRATUM_FLAG = "tdx_pw_mce"
#: machine_kexec_prepare() refuses from commit b18651f70ce0 to commit 5b25f249be32.
_REFUSING_SINCE, _REFUSING_UNTIL = (6, 18), (7, 2)


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a load is not right although its handover may be safe.

    Attributes:
        id: Of its explanation.
        verdict: At risk, or unknown.
        text: Why, as a clause.
    """

    id: str
    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True)
class Preflight:
    """One load, judged.

    Attributes:
        audit: The audit of this path, with this next image.
        path: kexec, or crash for ``kexec -p``.
        image: The image to be loaded.
        refused: The kernel will refuse the load: yes, no, or not known.
        remarks: What else is to be known.
        objections: What keeps it from being right, whatever the audit's verdict is.
        accepted: Names of risks that the user accepts, and without which it would be right.
    """

    audit: Audit
    path: Path
    image: NextImage
    refused: bool | None
    remarks: tuple[Remark, ...]
    objections: tuple[Objection, ...] = ()
    accepted: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of the audit's verdict and the objections'."""
        given = {self.audit.verdict, *(objection.verdict for objection in self.objections)}
        return worst(given)

    @property
    def goes(self) -> bool:
        """Is it right, with what was accepted?"""
        return self.verdict is Verdict.SAFE or bool(self.accepted)


@dataclass(frozen=True, slots=True)
class _Load:
    """What remarks are made on."""

    subject: Subject
    image: NextImage
    audit: Audit
    path: Path

    @property
    def snapshot(self) -> Snapshot:
        """The evidence that holds for this kernel."""
        return self.subject.snapshot

    @property
    def facts(self) -> MachineFacts:
        """What it tells."""
        return self.subject.facts

    @property
    def release(self) -> str | None:
        """The old kernel's release, by its image where that was read."""
        kernels = self.subject.kernels
        releases = [kernel.image.release for kernel in kernels if isinstance(kernel, ImageKernel)]
        return releases[0] if releases else self.facts.text("release")

    @property
    def safe_once_settled(self) -> bool:
        """A crash that is not safe now, and is once what loading wrote has left the caches."""
        unsafe = self.audit.verdict is not Verdict.SAFE
        return self.path is Path.CRASH and unsafe and _safe_once_settled(self.audit)


def preflight(
    subject: Subject, image: NextImage, path: Path, *, accept: Collection[str] = ()
) -> Preflight:
    """Judge a load before it is made.

    Args:
        subject: The host and its running kernel.
        image: What is to be loaded.
        path: `Path.CRASH` for a crash kernel.
        accept: `LOAD_SETTLED`, where the user takes that upon himself, as it ends by itself.

    Raises:
        ContradictionError: The evidence contradicts itself.
    """
    audit = audit_of(subject, following=image, paths=(path,))
    load = _Load(subject, image, audit, path)
    refused = _refused(load)
    remarks = tuple(_remark(name, load) for name in (*_of_refusal(refused), *_of_load(load)))
    objections = tuple(_objections(load))
    # Nothing that is objected to ends by itself, so with an objection there is nothing to accept.
    settled = LOAD_SETTLED in accept and not objections and load.safe_once_settled
    accepted = (LOAD_SETTLED,) if settled else ()
    return Preflight(audit, path, image, refused, remarks, objections, accepted)


def _objections(load: _Load) -> Iterator[Objection]:
    rows = load.audit.handovers
    trapping = dict.fromkeys(site for row in rows for site in row.faults)
    for site in trapping:
        text = f"{site} executes WBINVD, which traps in this guest"
        yield Objection("flush-faults", Verdict.AT_RISK, text)
    for reason in dict.fromkeys(reason for row in rows for reason in row.may_fault):
        yield Objection(reason.id, Verdict.UNKNOWN, reason)
    for name in _of_kernel(load):
        yield Objection(name, Verdict.UNKNOWN, _remark(name, load).text)
    if _offline_by_rule(load):
        offline = load.facts["offline_cpus"]
        which = "whether any are is not known" if offline.value is None else "some are"
        do = offline.missing or "bring them online"
        yield Objection(
            "unknown-offline-cpus",
            Verdict.UNKNOWN,
            f"a rule says nothing of CPUs that are offline, and {which}: "
            f"give the image to --kernel, or {do}",
        )


def _offline_by_rule(load: _Load) -> bool:
    """May CPUs be offline that the audit takes for clean, as neither code nor release tells?"""
    by_rule = any(isinstance(one, PolicyKernel) and not one.guessed for one in load.subject.kernels)
    aliases = any(_has_aliases(one) for row in load.audit.handovers for one in row.scenarios)
    # A crash kernel keeps to its reservation, to which no CPU that is offline stores.
    on_way = load.path is Path.KEXEC and load.snapshot.state.offline_cpus != ()
    return by_rule and aliases and on_way and load.facts.boolean("several_cpus") is not False


def _of_kernel(load: _Load) -> Iterator[str]:
    if load.subject.identity.what_if:
        yield "what-if"
    if load.subject.guessed:
        yield "guessed-rule"


def _refused(load: _Load) -> bool | None:
    """Will machine_kexec_prepare() refuse for the partial-write erratum?"""
    series = series_of(load.release or "")
    # Without a release it may be one of those that refuse.
    if series is not None and not _REFUSING_SINCE <= series < _REFUSING_UNTIL:
        return False
    erratum = _has_erratum(load)
    return None if erratum and series is None else erratum


def _has_erratum(load: _Load) -> bool | None:
    """X86_BUG_TDX_PW_MCE: set by a TDX host's kernel on two models, and shown in /proc/cpuinfo."""
    cpuinfo, facts = load.snapshot.cpuinfo, load.facts
    # The kernel's own word; a list without any bug is a /proc/cpuinfo from before there was one.
    # Another kernel's says nothing of this one: those without TDX know no such bug.
    own_word = cpuinfo is not None and cpuinfo.bugs and not load.subject.identity.what_if
    if cpuinfo is not None and own_word:
        return _ERRATUM_FLAG in cpuinfo.bugs
    keyids, vendor = facts.integer("tdx_keyids"), facts.text("vendor")
    # tdx_init() wants two KeyIDs: one is the module's own.
    has_no_tdx = facts.boolean("hypervisor") or (keyids is not None and keyids < 2)
    # Without a configuration it may be built in.
    built_in = (load.snapshot.kernel.config or {}).get("CONFIG_INTEL_TDX_HOST") != "n"
    if vendor not in (None, "GenuineIntel") or has_no_tdx or not built_in:
        return False
    model = facts.integer("family"), facts.integer("model")
    if None not in model and model not in _ERRATUM_MODELS:
        return False
    # Whether TDX came up also depends on the configuration and on hibernation.
    known = vendor is not None and None not in model
    return True if known and facts.text("tdx_module") == "initialized" else None


def _of_refusal(refused: bool | None) -> Iterator[str]:
    if refused is not False:
        yield "load-refused" if refused else "load-may-be-refused"


def _of_load(load: _Load) -> Iterator[str]:
    state, facts = load.snapshot.state, load.facts
    yield from _of_kernel(load)
    yield from _of_crash(load) if load.path is Path.CRASH else _of_kexec(load)
    for name, holds in (
        ("snp-host", facts.boolean("snp_enabled")),
        ("sev-guests", facts.boolean("sev_guests_run")),
        ("tdx-used", facts.text("tdx_module") == "initialized"),
        ("offline", bool(state.offline_cpus)),
        ("tsme", facts.boolean("tsme")),
        ("tainted", bool(facts.integer("tainted"))),
        ("no-encryption-in-image", not load.image.can_encrypt),
        ("any-command-line", load.image.command_line is None and load.image.can_encrypt),
    ):
        if holds:
            yield name


def _of_kexec(load: _Load) -> Iterator[str]:
    if load.facts.boolean("reboot_force"):
        yield "reboot-force"
    if load.snapshot.state.kexec_loaded:
        yield "already-loaded"


def _of_crash(load: _Load) -> Iterator[str]:
    state = load.snapshot.state
    if state.kexec_crash_size == 0:
        yield "no-reservation"
    if state.kexec_crash_loaded:
        yield "crash-already-loaded"
    if any(
        row.flushes[Site.CRASH_NMI_CALLBACK] is False and any(map(_has_aliases, row.scenarios))
        for row in load.audit.handovers
    ):
        yield "crash-secondaries-not-flushed"
    if load.safe_once_settled:
        yield "crash-safe-once-settled"


def _has_aliases(scenario: Scenario) -> bool:
    """Can a line be in the caches under two keys that hardware does not keep coherent?"""
    encrypts = scenario.old_encrypts or scenario.next_encrypts
    return scenario.incoherent and (encrypts or scenario.foreign is not ForeignLines.NONE)


def _safe_once_settled(audit: Audit) -> bool:
    """Is every handover safe if what was written at load has left the caches?"""
    # What the model does not have does not settle: no scenario of it says what Xen flushes.
    if not all(row.is_modelled for row in audit.handovers):
        return False
    settled = (
        replace(scenario, load_settled=True)
        for row in audit.handovers
        for scenario in row.scenarios
    )
    return all(answer_to(scenario).counterexample is None for scenario in settled)


def _remark(name: str, load: _Load) -> Remark:
    facts = load.facts
    kind = remark_kinds()[name]
    text = kind.text.format(
        release=load.release or "of unknown release",
        taint=f"{facts['tainted'].value}, by {facts['tainted'].source}",
        cpus=", ".join(map(str, load.snapshot.state.offline_cpus or ())),
        cpu_family_model=_family_and_model(facts),
    )
    return Remark(name, text, kind.source)


def _family_and_model(facts: MachineFacts) -> str:
    family, model = facts["family"].value, facts["model"].value
    unknown = None in (family, model)
    return "its model is not known" if unknown else f"family {family} model {model}"
