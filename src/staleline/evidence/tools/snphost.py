# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of ``snphost ok`` and ``sevctl ok`` (virtee), as text and as JSON.

::

    [ PASS ] - AMD CPU
    [ PASS ]   - Secure Memory Encryption (SME)
    [ PASS ]     - SME: Enabled in MSR
    [ PASS ]     - C-bit location: 51
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from staleline.evidence.snapshot import Note, Snapshot, StateEvidence, Statement
from staleline.evidence.statements import agreed
from staleline.evidence.tools.json_document import json_document
from staleline.pattern import Pattern

__all__ = ["is_json", "is_row", "parse", "parse_json"]

_COLOUR = Pattern(r"\x1b\[[0-9;]*m")
_ROW = Pattern(r"\s*\[ *(PASS|FAIL|SKIP) *\]\s*(?:-\s*)?(\S.*?)\s*")
_JSON = Pattern(r'\s*\{\s*"(?:tests|issues|failures|summary)"\s*:')
_NOTE = Note("cpuid", "only snphost or sevctl was given; run cpuid -r, or staleline collect")
#: Tests of a bit of CPUID leaf 0x8000001F.
_BITS = {
    "Secure Memory Encryption (SME)": "sme",
    "Secure Encrypted Virtualization (SEV)": "sev",
    "Encrypted State (SEV-ES)": "sev_es",
    "Secure Nested Paging (SEV-SNP)": "sev_snp",
}
#: Tests that print a field of that leaf.
_NUMBERS = {
    "C-bit location": "cbit_position",
    "Physical address bit reduction": "phys_addr_reduction",
    "Number of encrypted guests supported simultaneously": "sev_guests_max",
}
#: Tests of a bit of SYSCFG.
#: They read that of CPU 0 (snphost src/ok.rs, sme_test() and snp_test()).
_IN_MSR = {"SME": "sme_enabled", "SNP": "snp_enabled", "SEV-SNP": "snp_enabled"}
_AGAIN = "run snphost ok again and copy its output whole"
_READ_OF_MSR = {"Enabled in MSR": True, "Disabled in MSR": False}
_RUNS_GUEST = "currently running a guest"

_Test = tuple[str, str, str]


def is_row(line: str) -> bool:
    """Is this a line of what ``snphost ok`` prints?"""
    return _ROW.fullmatch(_COLOUR.sub("", line)) is not None


def is_json(text: str) -> bool:
    """Is this JSON what ``snphost ok`` prints?"""
    return _JSON.match(text) is not None


def parse(text: str, where: str) -> Snapshot:
    """Return what the tests in `text` say of a machine; `where` is not needed."""
    del where
    # The last line counts only when it is finished: "C-bit location: 5" may be a cut 51.
    finished = text[: text.rfind("\n") + 1]
    return _machine(_tests(_COLOUR.sub("", finished).split("\n")))


def _tests(lines: list[str]) -> Iterator[_Test]:
    for line in lines:
        if row := _ROW.fullmatch(line):
            name, _, message = row[2].partition(": ")
            yield row[1], name.strip(), message.strip()


def parse_json(text: str, where: str) -> Snapshot:
    """Return what the tests in `text` say of a machine.

    Raises:
        EvidenceError: `text` is not whole.
    """
    document = json_document(text, where, _AGAIN)
    return _machine(_of_json(document.get("tests")))


def _of_json(tests: Any) -> Iterator[_Test]:
    for test in tests if isinstance(tests, list) else ():
        if isinstance(test, dict):
            status, name, message = (test.get(key) for key in ("status", "name", "message"))
            if isinstance(status, str) and isinstance(name, str):
                yield status.upper(), name, message if isinstance(message, str) else ""


def _machine(tests: Iterable[_Test]) -> Snapshot:
    kept = list(tests)
    guests = any(
        status == "PASS" and name.startswith("SEV") and _runs_guest(message)
        for status, name, message in kept
    )
    return Snapshot(
        cpus=(),
        statements=agreed(_statements(kept)),
        state=StateEvidence(sev_guests_run=True if guests else None),
        notes=(_NOTE,),
    )


def _runs_guest(message: str) -> bool:
    return _RUNS_GUEST in message and "not" not in message.split()


def _statements(tests: Iterable[_Test]) -> Iterator[Statement]:
    for status, name, message in tests:
        source = f"snphost ok, {name}{': ' if message else ''}{message}"
        if name == "AMD CPU" and status == "PASS":
            yield Statement("vendor", "AuthenticAMD", source)
        elif name in _BITS and status in ("PASS", "FAIL"):
            yield Statement(_BITS[name], status == "PASS", source)
        elif name in _NUMBERS and re.fullmatch("[0-9]{1,9}", message):
            yield Statement(_NUMBERS[name], int(message), source)
        # A test that fails may have failed to read; what it says it read is taken.
        elif name in _IN_MSR and message in _READ_OF_MSR:
            yield Statement(_IN_MSR[name], _READ_OF_MSR[message], source)
