# SPDX-License-Identifier: GPL-2.0-or-later
"""A certificate is accepted when, and only when, it is a proof."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from staleline.check.proof.certificate import (
    Certificate,
    certify,
    closed_views,
    recheck,
    smtlib_proof,
)
from staleline.check.proof.certificate_json import certificate_document, certificate_from
from staleline.check.proof.proof_script import queries, smtlib
from staleline.check.proof.solver import Reply, ask
from staleline.check.search.search import search
from staleline.check.search.views import views
from staleline.errors import ModelError
from staleline.model.form import Any as Some
from staleline.model.form import Model
from staleline.model.scenario import Flush, ForeignLines
from staleline.model.state.cpus import each
from staleline.model.world import world
from tests.check.scenarios import TRANSITIONS, crash, distinct_models, kexec

AFTER_SEAMCALL = kexec(
    "off→off",
    foreign=ForeignLines.TDX,
    flush_secondary=Flush.AFTER_SEAMCALL,
    flush_jumping=Flush.AFTER_SEAMCALL,
)
SAFE = [
    *(kexec(transition, foreign=foreign) for transition in TRANSITIONS for foreign in ForeignLines),
    crash("off→off"),
    crash("on→off", load_settled=True),
    AFTER_SEAMCALL,
]


def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        json.dumps(certificate_document(certify([kexec("on→off")])))
    )
    return document


def _failures(document: dict[str, Any]) -> set[tuple[str, str]]:
    found = recheck(certificate_from(document, where="proof.json"))
    return {(one.line, one.obligation) for one in (*found.failures, *found.unmeasured)}


def _image(document: dict[str, Any]) -> dict[str, Any]:
    """The model of the image's line in a document, to tamper with."""
    model: dict[str, Any] = document["models"][document["handovers"][0]["lines"]["image"]]
    return model


def test_certificates_of_safe_handovers_are_accepted() -> None:
    found = recheck(certify(SAFE))
    assert found.never_hangs
    assert found.obligations > 1000


def test_a_certificate_survives_its_file() -> None:
    certificate = certify([AFTER_SEAMCALL])
    text = json.dumps(certificate_document(certificate))
    assert certificate_from(json.loads(text), where="proof.json").views == certificate.views


def test_no_certificate_for_a_handover_that_is_not_safe() -> None:
    with pytest.raises(ModelError, match="P1 is not proved for every number of CPUs"):
        certify([kexec("on→off", flush_jumping=Flush.NEVER)])


def test_every_view_is_needed() -> None:
    _, model = world(kexec("on→off"))[0]
    whole = closed_views(model)
    scripts = [
        smtlib(model, replace(whole, views={**whole.views, shared: locals_ - {dropped}}))
        for shared, locals_ in whole.views.items()
        for dropped in locals_
    ]
    assert all(Reply.SAT in replies for replies in ask(scripts))


def test_a_dropped_view_is_missed_by_the_step_that_leads_to_it() -> None:
    document = _document()
    entry = next(one for one in _image(document)["views"] if "waiting" in one["globals"])
    kept = [row for row in entry["locals"] if row[0] != "flushing"]
    entry["locals"], entry["waits"] = kept, [0] * len(kept)
    assert ("image", "stop_this_cpu: secondary_flush_begins, the secondary itself") in _failures(
        document
    )


def test_an_added_view_that_breaks_a_property_is_found() -> None:
    document = _document()
    entry = next(one for one in _image(document)["views"] if "next" in one["globals"])
    entry["locals"].append(["stopping", "absent", "absent"])
    entry["waits"].append(0)
    assert ("image", "P2 is not violated") in _failures(document)


def test_an_added_view_that_leads_elsewhere_is_found() -> None:
    document = _document()
    entry = next(one for one in _image(document)["views"] if "copying" in one["globals"])
    entry["locals"].append(["halted", "absent", "dirty"])
    entry["waits"].append(0)
    assert _failures(document)


def test_globals_left_out_for_a_machine_with_one_cpu_are_missed() -> None:
    document = _document()
    _image(document)["alone"].pop()
    assert any("without secondaries" in obligation for _, obligation in _failures(document))


def test_ranks_that_do_not_lead_to_the_goal_are_found() -> None:
    document = _document()
    for entry in _image(document)["ranks"]:
        entry["rank"] = 0
    step = "P4: the jumping CPU has a step to a lower rank, waits aside"
    assert ("image", step) in _failures(document)


def test_waits_that_do_not_end_are_found() -> None:
    document = _document()
    for entry in _image(document)["views"]:
        entry["waits"] = [0] * len(entry["waits"])
    step = "P4: a secondary that is waited for has a step to a lower rank"
    assert ("image", step) in _failures(document)


def _without(model: Model, *names: str) -> Model:
    return replace(model, actions=tuple(one for one in model.actions if one.name not in names))


def _unconfirmed(model: Model) -> set[str]:
    (replies,) = ask([smtlib_proof(model)])
    found = zip(queries(model), replies, strict=True)
    return {query.name for query, reply in found if reply is not Reply.UNSAT}


def test_a_secondary_that_never_halts_hangs_the_handover() -> None:
    _, model = world(kexec("on→off"))[0]
    hanging = _without(model, "secondary_halts_flushed")
    assert search(hanging, 1).violated == "P4"
    assert _unconfirmed(hanging) == {
        "P4: a secondary that is waited for has a step to a lower rank"
    }


def test_a_jumping_cpu_that_never_jumps_hangs_the_handover() -> None:
    _, model = world(kexec("on→off"))[0]
    says = "P4: the jumping CPU has a step to a lower rank, waits aside"
    assert _unconfirmed(_without(model, "jumping_jumps")) == {says, f"{says}, without secondaries"}


def test_a_goal_with_a_quantifier_is_refused() -> None:
    _, model = world(kexec("on→off"))[0]
    with pytest.raises(ModelError, match="a goal with a quantifier"):
        smtlib_proof(replace(model, goal=Some(each("pc").one_of("next"))))


def test_another_hash_is_refused() -> None:
    document = _document()
    name = document["handovers"][0]["lines"]["image"]
    forged = name[:-1] + ("0" if name[-1] != "0" else "1")
    document["handovers"][0]["lines"]["image"] = forged
    document["models"][forged] = document["models"].pop(name)
    assert _failures(document) == {("image", "the model has another hash")}


@pytest.mark.parametrize(
    ("field", "held"),
    [("flush_jumping", "never"), ("flush_secondary", "never"), ("next_encrypts", True)],
)
def test_another_scenario_is_refused(field: str, held: object) -> None:
    document = _document()
    document["handovers"][0]["scenario"][field] = held
    assert ("image", "the model has another hash") in _failures(document)


def test_a_certificate_of_nothing_is_no_proof() -> None:
    found = recheck(Certificate((), {}))
    assert (found.accepted, found.never_hangs) == (False, False)


def test_a_line_role_that_is_left_out_is_missed() -> None:
    document = _document()
    del document["handovers"][0]["lines"]["decrypted-page"]
    assert _failures(document) == {("decrypted-page", "the certificate lacks this line role")}


def test_a_line_role_that_does_not_exist_is_refused() -> None:
    document = _document()
    document["handovers"][0]["lines"]["work-of-fiction"] = "sha256:0"
    assert _failures(document) == {("work-of-fiction", "the handover has no such line role")}


def test_views_that_are_missing_are_missed() -> None:
    document = _document()
    document["models"] = {}
    assert ("image", "the certificate has no views for this model") in _failures(document)


def test_a_value_that_the_model_does_not_know_is_refused() -> None:
    document = _document()
    _image(document)["views"][0]["locals"][0][0] = "asleep"
    assert ("image", "a view has values that the model does not know") in _failures(document)


def test_what_z3_leaves_open_is_no_proof() -> None:
    certificate = certify([kexec("off→off", incoherent=False)])
    found = recheck(certificate, time_limit=0.001)
    assert not found.accepted
    assert {failure.reply for failure in found.failures} == {Reply.UNKNOWN}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema": "staleline/certificate/9"}, "instead of 'staleline/certificate/1'"),
        ({"models": []}, "not a certificate"),
        ({"handovers": [{"scenario": {}, "lines": {}}]}, "missing"),
        ({"handovers": [{"scenario": {"colour": "red"}, "lines": {}}]}, "is no parameter"),
    ],
)
def test_files_that_are_no_certificates(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        certificate_from(_document() | change, where="proof.json")


def test_z3_and_views_agree() -> None:
    # Views that are suspect form an invariant all the same: only properties may fail.
    models = distinct_models()[::4]
    scripts = [smtlib(model, closed_views(model)) for model in models]
    for model, replies in zip(models, ask(scripts), strict=True):
        unsettled = [
            query.name
            for query, reply in zip(queries(model), replies, strict=True)
            if reply is not Reply.UNSAT
        ]
        assert (not unsettled) == views(model).proved, model.title
        assert all(name.startswith(("P1", "P2", "P3", "P4")) for name in unsettled), model.title
        if not any(name.startswith("P3") for name in unsettled):
            # Only a CPU that faulted hangs, so the measure exists in every other model.
            assert all("is not violated" in name for name in unsettled), model.title


def test_views_that_forget_a_step_are_caught() -> None:
    # As a defect in the code of views might: what they know then looks safe.
    _, model = world(kexec("on→off"))[0]
    forgetful = tuple(one for one in model.actions if one.name != "secondary_next_write")
    (replies,) = ask([smtlib(model, closed_views(replace(model, actions=forgetful)))])
    unsettled = {
        query.name
        for query, reply in zip(queries(model), replies, strict=True)
        if reply is not Reply.UNSAT
    }
    step = "next kernel: secondary_next_write"
    assert unsettled == {f"{step}, the secondary itself", f"{step}, any other secondary"}


def _asking_for_some(model: Model) -> Model:
    """The image is copied only if some secondary is halted."""
    actions = tuple(
        replace(one, guard=one.guard & Some(each("pc").one_of("halted")))
        if one.name == "jumping_jumps"
        else one
        for one in model.actions
    )
    return replace(model, actions=actions)


def test_guards_that_ask_for_some_other_secondary_are_understood() -> None:
    # Fewer steps are possible, so the invariant still holds; but one CPU alone never jumps.
    _, model = world(kexec("on→off"))[0]
    proof = closed_views(model)
    (replies,) = ask([smtlib(_asking_for_some(model), proof)])
    found = zip(queries(model), replies, strict=True)
    assert {query.name for query, reply in found if reply is not Reply.UNSAT} == {
        "P4: the jumping CPU has a step to a lower rank, waits aside",
        "P4: the jumping CPU has a step to a lower rank, waits aside, without secondaries",
    }


def test_a_certificate_shares_models_between_handovers() -> None:
    found: Certificate = certify([kexec("off→off"), kexec("off→off", foreign=ForeignLines.TDX)])
    lines = [case.lines["image"] for case in found.cases]
    assert lines[0] == lines[1]
