# SPDX-License-Identifier: GPL-2.0-or-later
"""The variants of the world: what each changes, against what the sources say.

Line numbers are those of Linux 7.3 under arch/x86 unless another version is named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from staleline.check.answer import AnswerKind, check
from staleline.check.meaning.interpreter import holds, reachable
from staleline.check.requirements import required_flushes
from staleline.check.runs.itf import itf_document
from staleline.check.runs.replay import replay
from staleline.check.runs.trace import SHARED_NAME, counterexample_of
from staleline.check.search.search import search
from staleline.check.search.views import views
from staleline.errors import ModelError
from staleline.model.form import Model
from staleline.model.scenario import (
    Flush,
    ForeignLines,
    Offline,
    Path,
    ReportOrder,
    Scenario,
    SharedCache,
    Stop,
)
from staleline.model.state.lines import Role
from staleline.model.world import world
from staleline.vocabulary import Site
from tests.check.scenarios import TRANSITIONS, crash, kexec

SECONDARIES = Site.STOP_THIS_CPU
JUMPING = Site.RELOCATE_KERNEL
NEVER: Mapping[str, Any] = {"flush_secondary": Flush.NEVER, "flush_jumping": Flush.NEVER}

#: One scenario per variant.
VARIANTS = {
    "late NMI": kexec("on→off", late_nmi=True),
    "late NMI, TDX": kexec(
        "off→off",
        foreign=ForeignLines.TDX,
        late_nmi=True,
        flush_secondary=Flush.AFTER_SEAMCALL,
    ),
    "late NMI, fault": kexec("on→on", incoherent=False, flush_faults=True, late_nmi=True),
    "gives up": kexec("on→off", stop=Stop.GIVES_UP),
    "crash gives up": crash("off→on", stop=Stop.GIVES_UP, flush_secondary=Flush.ALWAYS),
    "reboot=force": kexec("on→on", stop=Stop.SKIPPED),
    "offline": kexec("on→off", offline=Offline.HALTED, foreign=ForeignLines.SEV_GUESTS),
    "offline, unsettled": kexec("on→off", offline=Offline.HALTED, play_dead_settled=False),
    "offline, woken": kexec("off→on", offline=Offline.WOKEN),
    "offline, stores": kexec("on→off", offline=Offline.STORES),
    "offline, unflushed": kexec("on→off", offline=Offline.UNFLUSHED),
    "offline, unflushed, TDX": kexec(
        "off→off", offline=Offline.UNFLUSHED, foreign=ForeignLines.TDX
    ),
    "kexec jump": kexec("on→on", preserve_context=True, foreign=ForeignLines.SEV_GUESTS),
    "kexec jump, unsettled": kexec("on→off", preserve_context=True, play_dead_settled=False),
    "shared cache, own core": kexec("on→on", shared_cache=SharedCache.OWN_CORE),
    "shared cache, all cores": kexec("on→on", shared_cache=SharedCache.ALL_CORES),
    "vmcoreinfo decrypted": crash("on→on", vmcoreinfo_decrypted=True),
    "work area": kexec("off→on", work_area=True),
    "work area, MTRR": kexec("on→on", work_area=True, mtrr_flush=True),
}


def _model(scenario: Scenario, role: Role) -> Model:
    return next(model for line, model in world(scenario) if line.role is role)


def _last_sentence(scenario: Scenario) -> tuple[str, str]:
    """The property that a shortest counterexample breaks, and its last sentence."""
    found = check(scenario).counterexample
    assert found is not None
    return found.property, found.steps[-1].sentence


def _without(model: Model, name: str) -> Model:
    """The model with one property less to break."""
    kept = tuple(item for item in model.properties if item.name != name)
    return replace(model, properties=kept)


# Every variant, as the models of all other scenarios are checked.


@pytest.mark.parametrize("name", VARIANTS)
def test_search_and_interpreter_agree_on_the_variants(name: str) -> None:
    for _, model in world(VARIANTS[name]):
        states = reachable(model, 1)
        broken = {
            item.name
            for item in model.properties
            if any(holds(model, item.violated, state) for state in states)
        }
        found = search(model, 1, symmetry=False)
        assert (found.violated in broken) if broken else (found.violated is None)
        assert search(replace(model, properties=()), 1, symmetry=False).states == len(states)


@pytest.mark.parametrize("name", VARIANTS)
def test_views_raise_no_false_alarm_on_the_variants(name: str) -> None:
    for _, model in world(VARIANTS[name]):
        assert views(model).proved == (search(model, 2).violated is None)


@pytest.mark.parametrize("name", VARIANTS)
def test_variables_of_the_variants_have_the_values_that_are_used(name: str) -> None:
    for _, model in world(VARIANTS[name]):
        domains = {variable.name: variable.domain for variable in (*model.globals, *model.locals)}
        assigned = [assign for action in model.actions for assign in action.assigns]
        assert all(assign.value in domains[assign.target.name] for assign in assigned)
        names = [action.name for action in model.actions]
        assert len(names) == len(set(names))


def test_counterexamples_of_the_variants_can_be_executed_again() -> None:
    found = [one for scenario in VARIANTS.values() if (one := check(scenario).counterexample)]
    assert {one.property for one in found} >= {"P1", "P2", "P3"}
    for counterexample in found:
        document = json.loads(json.dumps(itf_document(counterexample)))
        assert replay(document) == counterexample


def test_places_of_a_variant_are_in_no_other_model() -> None:
    _, model = world(kexec("on→on"))[0]
    places = {variable.name: variable.domain for variable in (*model.globals, *model.locals)}
    assert {"reentered", "offline"}.isdisjoint(places["pc"])
    assert "overwritten" not in places["dram"]


# Late NMI: the race that the comment at kernel/smp.c:184-189 leaves open.


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_late_nmi_makes_a_cpu_flush_that_nobody_waits_for(transition: str) -> None:
    broken, sentence = _last_sentence(kexec(transition, late_nmi=True))
    assert broken == "P2"
    assert sentence.endswith("Secondary 1 still has its flush ahead of it.")


def test_what_the_late_handler_writes_destroys_the_next_kernel() -> None:
    model = _model(kexec("on→off", late_nmi=True), Role.REST)
    assert search(_without(model, "P2"), 1).violated == "P1"


def test_the_late_report_dirties_the_stop_masks_line_after_its_last_store() -> None:
    # kernel/smp.c:242 clears the mask once; stop_this_cpu clears its bit again.
    model = _model(kexec("on→off", late_nmi=True), Role.STOP_MASK)
    assert search(_without(model, "P2"), 1).violated == "P1"
    assert search(_model(kexec("on→off"), Role.STOP_MASK), 1).violated is None


def test_without_a_flush_a_late_nmi_is_no_problem_where_none_is_needed() -> None:
    # Every WBINVD that is not needed lengthens the window of this race.
    assert check(kexec("off→off", late_nmi=True, **NEVER)).kind is AnswerKind.PROVED
    requirements = required_flushes(kexec("off→off", late_nmi=True))
    assert requirements.unneeded == {SECONDARIES, JUMPING}


# Stops that are skipped, or not waited for.


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_reboot_force_leaves_the_old_kernel_running_whatever_is_flushed(transition: str) -> None:
    # kernel/smp.c:155: native_stop_other_cpus returns at once, in a kexec too.
    assert not required_flushes(kexec(transition, stop=Stop.SKIPPED)).attainable


def test_reboot_force_overwrites_memory_even_where_nothing_is_encrypted() -> None:
    broken, sentence = _last_sentence(kexec("off→off", stop=Stop.SKIPPED))
    assert broken == "P5"
    assert sentence == (
        "The old kernel, which nobody has stopped on secondary 1, writes the image's "
        "destination line and overwrites what the next kernel wrote there."
    )


def test_reboot_force_is_harmless_on_a_machine_with_one_cpu() -> None:
    alone = kexec("on→on", stop=Stop.SKIPPED, secondaries=0)
    assert check(alone).kind is AnswerKind.VERIFIED


def test_giving_up_leaves_flushes_ahead() -> None:
    # kernel/reboot.c:895: a crash waits for a second at most.
    snp = {"flush_secondary": Flush.ALWAYS, "stop": Stop.GIVES_UP}
    assert check(crash("on→on", **snp)).property == "P2"
    assert not required_flushes(crash("on→on", **snp)).attainable


@pytest.mark.parametrize(
    ("transition", "settled"), [("off→off", False), ("off→off", True), ("on→off", True)]
)
def test_giving_up_matters_less_where_the_crash_kernel_needs_no_flush(
    transition: str, settled: bool
) -> None:
    # What still runs cannot write the reservation: kernel/machine_kexec_64.c:634.
    scenario = crash(transition, stop=Stop.GIVES_UP, load_settled=settled)
    assert check(scenario).kind is AnswerKind.PROVED


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_the_snp_callback_flushes_before_it_is_counted(transition: str) -> None:
    # kernel/reboot.c:829 runs the callback (WBINVD: virt/svm/sev.c:1103), 837 counts the CPU.
    assert check(crash(transition, flush_secondary=Flush.ALWAYS)).kind is AnswerKind.PROVED


# Offline CPUs and kexec jump: WBINVD in play_dead, whatever the policy.


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_offline_cpus_change_no_requirement(transition: str) -> None:
    assert required_flushes(kexec(transition, offline=Offline.HALTED)) == required_flushes(
        kexec(transition)
    )


@pytest.mark.parametrize("offline", [Offline.WOKEN, Offline.STORES, Offline.UNFLUSHED])
@pytest.mark.parametrize(
    ("transition", "attainable"),
    [("off→off", True), ("off→on", False), ("on→off", False), ("on→on", False)],
)
def test_what_offline_cpus_dirty_nobody_flushes(
    transition: str, attainable: bool, offline: Offline
) -> None:
    # kernel/smpboot.c:1436: WBINVD is not enough against spurious wake-ups, nor against what
    # drivers/acpi/processor_idle.c:592 stores behind it.
    requirements = required_flushes(kexec(transition, offline=offline))
    assert requirements.attainable is attainable


@pytest.mark.parametrize(
    ("transition", "needed"),
    [("off→off", set()), ("off→on", set()), ("on→off", {JUMPING}), ("on→on", {JUMPING})],
)
def test_a_kexec_jump_needs_the_jumping_cpus_flush_only(transition: str, needed: set[Site]) -> None:
    # kernel/kexec_core.c:1181 takes the others offline, which flushes them.
    requirements = required_flushes(kexec(transition, preserve_context=True))
    assert requirements.needed == needed
    assert requirements.unneeded == {SECONDARIES, JUMPING} - needed


@pytest.mark.parametrize("changes", [{"preserve_context": True}, {"offline": Offline.HALTED}])
def test_nobody_waits_for_the_wbinvd_of_play_dead(changes: dict[str, Any]) -> None:
    # kernel/smpboot.c:1412 reports the CPU dead, 1429 and 1498 execute WBINVD after it.
    broken, sentence = _last_sentence(kexec("on→off", play_dead_settled=False, **changes))
    assert broken == "P2"
    assert "Secondary 1 still has its flush ahead of it." in sentence
    assert check(kexec("on→off", **changes)).kind is AnswerKind.PROVED


# Shared cache, and what WBINVD reaches.


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("foreign", [ForeignLines.NONE, ForeignLines.SEV_GUESTS])
def test_a_shared_cache_changes_no_requirement_where_wbinvd_reaches_one_core(
    transition: str, foreign: ForeignLines
) -> None:
    # CPUID 0x8000001D EDX[0] = 1 on every AMD Zen.
    shared = kexec(transition, foreign=foreign, shared_cache=SharedCache.OWN_CORE)
    assert required_flushes(shared) == required_flushes(kexec(transition, foreign=foreign))


@pytest.mark.parametrize(
    ("transition", "needed"),
    [("off→off", set()), ("off→on", set()), ("on→off", {JUMPING}), ("on→on", {JUMPING})],
)
def test_one_wbinvd_is_enough_where_it_reaches_all_cores(
    transition: str, needed: set[Site]
) -> None:
    # The jumping CPU's comes after all others have halted; in off→on, that of __enc_copy.
    requirements = required_flushes(kexec(transition, shared_cache=SharedCache.ALL_CORES))
    assert requirements.minimal == (frozenset(needed),)


def test_a_tdx_package_is_flushed_by_any_cpu_that_flushes_last() -> None:
    # CPUID 4 EDX[0] = 0 for the L3 of TDX parts, which one package shares. No guest runs on
    # the jumping CPU once it waits, so the last of the secondaries' flushes is late enough.
    package = kexec("off→off", foreign=ForeignLines.TDX, shared_cache=SharedCache.ALL_CORES)
    assert set(required_flushes(package).minimal) == {
        frozenset({JUMPING}),
        frozenset({SECONDARIES}),
    }


def test_a_flush_after_seamcalls_on_one_cpu_does_not_cover_a_package() -> None:
    # The jumping CPU's flag says nothing of the SEAMCALLs of others.
    flagged = kexec(
        "off→off",
        foreign=ForeignLines.TDX,
        shared_cache=SharedCache.ALL_CORES,
        flush_secondary=Flush.NEVER,
        flush_jumping=Flush.AFTER_SEAMCALL,
    )
    assert check(flagged).property == "P1"


def test_enc_copy_does_not_replace_the_secondaries_flush_unless_wbinvd_reaches_all() -> None:
    boot_cpu_only = {"flush_secondary": Flush.NEVER, "flush_jumping": Flush.NEVER}
    reaches = {
        shared: check(kexec("off→on", shared_cache=shared, **boot_cpu_only)).kind
        for shared in SharedCache
    }
    assert reaches == {
        SharedCache.NONE: AnswerKind.COUNTEREXAMPLE,
        SharedCache.OWN_CORE: AnswerKind.COUNTEREXAMPLE,
        SharedCache.ALL_CORES: AnswerKind.PROVED,
    }


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_reaching_further_at_times_adds_no_behaviour(transition: str) -> None:
    # The other reading of AMD's "not guaranteed": WBINVD may or may not reach other cores.
    changes = {"flush_jumping": Flush.NEVER}
    own = world(kexec(transition, shared_cache=SharedCache.OWN_CORE, **changes))
    all_cores = world(kexec(transition, shared_cache=SharedCache.ALL_CORES, **changes))
    for (_, model), (_, further) in zip(own, all_cores, strict=True):
        extra = tuple(
            replace(action, name=f"{action.name}_further")
            for action in further.actions
            if action not in model.actions
        )
        assert extra
        either = replace(model, actions=(*model.actions, *extra))
        assert reachable(either, 2) == reachable(model, 2)


def test_a_counterexample_tells_of_the_shared_cache() -> None:
    # A shortest run needs it only where nothing is written back from a private cache.
    scenario = kexec("on→off", shared_cache=SharedCache.OWN_CORE, flush_secondary=Flush.NEVER)
    line, model = next(one for one in world(scenario) if one[0].role is Role.REST)
    private = ("secondary_destroys", "secondary_writes_back", "secondary_starts")
    handed_down = [one for one in model.actions if not one.name.startswith(private)]
    found = search(replace(model, actions=tuple(handed_down)), 1)
    assert found.run is not None
    assert found.violated is not None
    told = counterexample_of(scenario, line, model, found.violated, found.run)
    assert told.steps[-1].sentence == (
        "The shared cache writes back its stale dirty C-bit entry of the line in the rest of RAM: "
        "it destroys what the next kernel wrote there through the plain alias."
    )
    assert told.steps[-1].changes[0].cpu == SHARED_NAME


# The work area of the in-place encryption.


@pytest.mark.parametrize("transition", ["off→on", "on→on"])
def test_the_work_area_is_exposed_whatever_the_old_kernel_flushes(transition: str) -> None:
    scenario = kexec(transition, work_area=True)
    found = check(scenario).counterexample
    assert found is not None
    assert (found.line, found.property) == ("work-area", "P1")
    assert "the jumping CPU writes back its stale dirty plain entry" in found.steps[-1].sentence
    assert not required_flushes(scenario).attainable


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_the_wbinvd_of_mtrr_programming_covers_the_work_area(transition: str) -> None:
    # kernel/cpu/cacheinfo.c:658, and generic.c:754 in 5.10: before memory is handed out.
    saved = kexec(transition, work_area=True, mtrr_flush=True)
    assert check(saved).kind is AnswerKind.PROVED
    assert required_flushes(saved) == required_flushes(kexec(transition))


def test_a_stale_line_of_the_old_kernel_can_hit_the_work_area_during_the_encryption() -> None:
    unflushed = kexec("on→on", work_area=True, mtrr_flush=True, flush_secondary=Flush.NEVER)
    assert search(_model(unflushed, Role.WORK_AREA), 1).violated == "P1"


# The copy of vmcoreinfo, which kernels map with the C-bit (kernel/crash_core.c:76).


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_copy_of_vmcoreinfo_without_the_c_bit_needs_what_control_pages_need(
    transition: str,
) -> None:
    mapped = crash(transition, vmcoreinfo_decrypted=True)
    pages = {Role.CRASH_CONTROL, Role.CRASH_VMCOREINFO}
    (control, vmcoreinfo) = (required_flushes(mapped, {role}) for role in sorted(pages))
    assert vmcoreinfo == control
    # On→off it was the only line that needed any.
    if transition == "on→off":
        assert required_flushes(mapped).minimal == (frozenset(),)
        assert len(*required_flushes(crash(transition)).minimal) == 2
    else:
        assert required_flushes(mapped) == required_flushes(crash(transition))


def test_a_guest_maps_its_copy_of_vmcoreinfo_as_ever() -> None:
    """Control pages are decrypted on hosts only (kernel/machine_kexec_64.c:688)."""
    ever, mapped = (
        crash("on→on", guest=True, vmcoreinfo_decrypted=decrypted) for decrypted in (False, True)
    )
    assert [model for _, model in world(ever)] == [model for _, model in world(mapped)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": Path.CRASH, "late_nmi": True}, "give path kexec"),
        ({"path": Path.CRASH, "stop": Stop.SKIPPED}, "give path kexec"),
        ({"preserve_context": True, "stop": Stop.GIVES_UP}, "takes secondaries offline"),
        ({"preserve_context": True, "late_nmi": True}, "takes secondaries offline"),
        ({"late_nmi": True, "stop": Stop.GIVES_UP}, "give one of them"),
        ({"flush_faults": True, "offline": Offline.HALTED, "incoherent": False}, "play_dead"),
    ],
)
def test_variants_that_exclude_each_other_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        kexec("on→on", **changes)


def test_the_order_of_the_report_still_matters_beside_offline_cpus() -> None:
    before = kexec("off→off", offline=Offline.HALTED, report=ReportOrder.BEFORE_FLUSH)
    assert check(before).property == "P2"
