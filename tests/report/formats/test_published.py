# SPDX-License-Identifier: GPL-2.0-or-later
"""The schemas that are installed are those that are printed."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest
from click.testing import CliRunner

from staleline.cli.main import program
from staleline.errors import UsageError
from staleline.report.formats.published import published_schemas, schema_text


def test_every_installed_schema_is_listed_by_what_documents_call_it() -> None:
    installed = {entry.name for entry in (files("staleline") / "schemas").iterdir()}
    listed = {f"{name.split('/')[1]}-{name.split('/')[2]}.json" for name in published_schemas()}
    assert listed == installed


@pytest.mark.parametrize("name", ["audit", "audit/1", "staleline/audit/1"])
def test_a_schema_is_printed_by_any_name_that_means_it(name: str) -> None:
    schema = json.loads(schema_text(name))
    assert schema["title"] == "staleline/audit/1"
    jsonschema.Draft202012Validator.check_schema(schema)


def test_a_name_is_whole_so_that_audit_is_not_audits() -> None:
    assert json.loads(schema_text("audits"))["title"] == "staleline/audits/1"


def test_a_name_that_is_none_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no schema named 'audi'; did you mean audit/1"):
        schema_text("audi")


def test_the_command_lists_them_and_prints_one_as_it_is() -> None:
    shown = CliRunner().invoke(program, ["schema"], catch_exceptions=False)
    assert [line.split()[0] for line in shown.stdout.splitlines()] == list(published_schemas())
    printed = CliRunner().invoke(program, ["schema", "facts"], catch_exceptions=False)
    assert printed.stdout == schema_text("facts")
