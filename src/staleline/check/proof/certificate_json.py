# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates as ``staleline/certificate/1`` documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from staleline.check.meaning.closures import Values
from staleline.check.meaning.scenario_json import scenario_document, scenario_from
from staleline.check.proof.certificate import Certificate, CertifiedHandover
from staleline.check.proof.proof_script import ViewSet
from staleline.errors import ModelError
from staleline.model.form import Variable
from staleline.model.scenario import Scenario
from staleline.model.world import world

__all__ = ["SCHEMA", "certificate_document", "certificate_from"]

SCHEMA = "staleline/certificate/1"

#: Ranks are lengths of paths in small graphs.
_MAX_RANK = 65535

#: A proof is for every number of secondaries.
_NOT_CERTIFIED = "secondaries"


def certificate_document(certificate: Certificate) -> dict[str, Any]:
    """The document; views are grouped by the values of the globals."""
    names = {
        name: model
        for case in certificate.cases
        for (_, model), name in zip(world(case.scenario), case.lines.values(), strict=True)
    }
    return {
        "schema": SCHEMA,
        "handovers": [
            {"scenario": _scenario_document(case.scenario), "lines": dict(case.lines)}
            for case in certificate.cases
        ],
        "models": {
            name: {
                "globals": _names(names[name].globals),
                "locals": _names(names[name].locals),
                "alone": sorted(map(list, views.alone)),
                "views": [
                    {
                        "globals": list(shared),
                        "locals": sorted(map(list, locals_)),
                        # What has no rank is 0 in the script as well (`proof_script`), so the two
                        # are not told apart.
                        "waits": [views.waits.get((shared, one), 0) for one in sorted(locals_)],
                    }
                    for shared, locals_ in sorted(views.views.items())
                ],
                "ranks": [
                    {"globals": list(shared), "rank": rank}
                    for shared, rank in sorted(views.ranks.items())
                ],
            }
            for name, views in certificate.views.items()
        },
    }


def certificate_from(document: Any, *, where: str) -> Certificate:
    """Read a document.

    Args:
        document: What `json.loads` made of the file.
        where: The file's name, for errors.

    Raises:
        ModelError: It is not a certificate of this version.
    """
    try:
        # Asked first: a later version may lack or rename any of the other fields.
        if document["schema"] != SCHEMA:
            raise _bad(f"schema {document['schema']!r} instead of {SCHEMA!r}", where)
        cases = tuple(
            CertifiedHandover(scenario_from(one["scenario"], where), dict(one["lines"]))
            for one in document["handovers"]
        )
        views = {name: _views_from(one) for name, one in document["models"].items()}
    # Anything can stand in somebody else's file, at any depth: one error for all of it.
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _bad(f"not a certificate: {type(error).__name__} {error}", where) from None
    return Certificate(cases, views)


def _bad(what: str, where: str) -> ModelError:
    return ModelError(what, where=where, do="export it anew with `staleline prove --certificate`")


def _names(variables: Iterable[Variable]) -> list[str]:
    return [str(variable.name) for variable in variables]


def _scenario_document(scenario: Scenario) -> dict[str, Any]:
    document: dict[str, Any] = scenario_document(scenario)
    del document[_NOT_CERTIFIED]
    return document


def _views_from(document: Mapping[str, Any]) -> ViewSet:
    waits = {
        (_row(view["globals"]), _row(local)): _rank(wait)
        for view in document["views"]
        for local, wait in zip(view["locals"], view["waits"], strict=True)
    }
    return ViewSet(
        alone=_rows(document["alone"]),
        views={_row(one["globals"]): _rows(one["locals"]) for one in document["views"]},
        ranks={_row(one["globals"]): _rank(one["rank"]) for one in document["ranks"]},
        waits=waits,
    )


def _rank(value: Any) -> int:
    # `isinstance` would take JSON's `true` for 1.
    if type(value) is not int or not 0 <= value <= _MAX_RANK:
        raise ValueError(f"{value!r} is not a rank")
    return value


def _rows(rows: Sequence[Sequence[str]]) -> frozenset[Values]:
    return frozenset(map(_row, rows))


def _row(row: Sequence[str]) -> Values:
    # A string is a sequence as well: "abc" would pass for a row of three values.
    if not isinstance(row, list) or not all(isinstance(value, str) for value in row):
        raise ValueError(f"{row!r} is not a list of values")
    return tuple(row)
