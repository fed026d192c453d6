# SPDX-License-Identifier: GPL-2.0-or-later
"""Write the truth tables of images side by side, as read from the binaries.

``python -m tools.truth_tables IMAGE...`` prints a table in Markdown: one line for the combinations
of facts that a machine can have and on which all images decide alike whatever the other facts are.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

Row = tuple[bool | str | None, ...]  # one value per fact; None stands for any

FACTS: Final = {
    "vendor": "vendor",
    "leaf": "0x8000001F",
    "sme": "SME",
    "sev": "SEV",
    "hypervisor": "guest",
    "sme_enabled": "SYSCFG[23]",
    "sev_status": "SEV on",
    "sev_es": "SEV-ES on",
    "mem_encrypt": "mem_encrypt",
    "tdx_keyids": "TDX KeyIDs",
    "seamcalled": "SEAMCALL",
    "snp_host": "SNP host",
}
SITES: Final = {
    "stop_this_cpu": "secondaries",
    "relocate_kernel": "jumping CPU",
    "crash_nmi_callback": "secondaries, crash",
}
_NEED_CODE: Final = ("tdx_keyids", "seamcalled", "snp_host")
_WORDS: Final = {True: "yes", False: "no", None: "any"}
_FLUSHES: Final = {True: "WBINVD", False: "-", None: "unknown"}


def main(images: list[str]) -> int:
    """Read the images and print their table."""
    documents = [_document(image) for image in images]
    releases = [document["release"] for document in documents]
    sys.stdout.write("\n".join(_markdown(releases, merged(outcomes(documents)))) + "\n")
    return 0


def _document(image: str) -> Mapping[str, Any]:
    command = [sys.executable, "-m", "staleline", "kernel", "--json", image]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    document: Mapping[str, Any] = json.loads(done.stdout)["images"][0]
    return document


def outcomes(documents: Iterable[Mapping[str, Any]]) -> dict[Row, tuple[bool | None, ...]]:
    """Facts -> what every image does at every site, for the combinations that any of them has."""
    tables = [dict(_rows(document)) for document in documents]
    every = dict.fromkeys(itertools.chain.from_iterable(tables))
    return {
        facts: tuple(itertools.chain.from_iterable(_of(table, facts) for table in tables))
        for facts in every
    }


def _of(table: Mapping[Row, tuple[bool | None, ...]], facts: Row) -> tuple[bool | None, ...]:
    """An image without code for TDX or SNP hosts has no line for them: it cannot tell them."""
    plain = tuple(
        value and name not in _NEED_CODE for name, value in zip(FACTS, facts, strict=True)
    )
    vendor = facts[:1]
    return table.get(facts, table[(*vendor, *plain[1:])])


def _rows(document: Mapping[str, Any]) -> Iterator[tuple[Row, tuple[bool | None, ...]]]:
    for row in document["truth_table"]:
        facts = row["facts"]
        if can_exist(facts) and not (facts["preserve_context"] or facts["snp_guest"]):
            yield tuple(facts[name] for name in FACTS), tuple(row[site] for site in SITES)


def can_exist(facts: Mapping[str, Any]) -> bool:
    """Leaves out what no machine has: bits of a leaf that is not there, Intel with SME."""
    bits = facts["sme"] or facts["sev"]
    with_sme = facts["vendor"] in ("AuthenticAMD", "HygonGenuine")
    return (
        (not bits or (facts["leaf"] and with_sme))
        and (not facts["sme_enabled"] or (bits and not facts["hypervisor"]))
        and (not facts["sev_status"] or (facts["hypervisor"] and facts["sev"]))
    )


def merged(rows: Mapping[Row, tuple[bool | None, ...]]) -> dict[Row, tuple[bool | None, ...]]:
    """Two lines that differ in one fact and in no outcome become one, as long as there are any."""
    lines = dict(rows)
    for index in range(len(FACTS)):
        together: dict[Row, list[Row]] = {}
        for facts, outcome in lines.items():
            key = (*facts[:index], *facts[index + 1 :], *outcome)
            together.setdefault(key, []).append(facts)
        values = {facts[index] for facts in lines}
        for group in together.values():
            if len(group) == len(values) > 1:
                outcome = lines[group[0]]
                for facts in group:
                    del lines[facts]
                lines[(*group[0][:index], None, *group[0][index + 1 :])] = outcome
    return lines


def _markdown(releases: list[str], lines: Mapping[Row, tuple[bool | None, ...]]) -> Iterator[str]:
    heads = [
        *FACTS.values(),
        *(f"{release}: {site}" for release in releases for site in SITES.values()),
    ]
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for facts in sorted(lines, key=str):
        words = [value if isinstance(value, str) else _WORDS[value] for value in facts]
        yield "| " + " | ".join([*words, *(_FLUSHES[flush] for flush in lines[facts])]) + " |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
