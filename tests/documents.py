# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON documents, held against the schemas that are published for them."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema
from referencing import Registry, Resource

__all__ = ["check_document", "document_of"]


def document_of(text: str, kind: str | None = None) -> dict[str, Any]:
    """The document in a text, which follows its schema.

    Args:
        text: Of one document.
        kind: Which one it has to be, for instance ``audit``; None for any.
    """
    document: dict[str, Any] = json.loads(text)
    assert kind is None or document["schema"] == f"staleline/{kind}/1"
    check_document(document)
    return document


def check_document(document: dict[str, Any]) -> None:
    """It follows the schema that it names."""
    name = document["schema"].removeprefix("staleline/").replace("/", "-")
    schemas = _schemas()
    registry = Registry().with_resources(
        (schema["$id"], Resource.from_contents(schema)) for schema in schemas.values()
    )
    jsonschema.Draft202012Validator(schemas[name], registry=registry).validate(document)


@cache
def _schemas() -> dict[str, dict[str, Any]]:
    return {
        file.name.removesuffix(".json"): json.loads(file.read_text("utf-8"))
        for file in files("staleline").joinpath("schemas").iterdir()
        if file.name.endswith(".json")
    }
