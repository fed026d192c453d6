# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of a truth table are put together only where nothing is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tools.truth_tables import FACTS, can_exist, merged, outcomes

OFF = dict.fromkeys(FACTS, False)
AMD = {**OFF, "vendor": "AuthenticAMD", "leaf": True, "sme": True, "sev": True}


def document(*rows: dict[str, object], flush: bool = False) -> dict[str, object]:
    sites = dict.fromkeys(("stop_this_cpu", "relocate_kernel", "crash_nmi_callback"), flush)
    others = {"preserve_context": False, "snp_guest": False}
    return {"truth_table": [{"facts": {**row, **others}, **sites} for row in rows]}


def test_a_machine_has_no_bits_of_a_leaf_that_is_not_there():
    assert can_exist(AMD)
    assert not can_exist({**AMD, "leaf": False})
    assert not can_exist({**AMD, "vendor": "GenuineIntel"})
    assert not can_exist({**AMD, "sev_status": True})  # SEV is on in guests only


def test_an_image_without_code_for_a_fact_does_what_it_does_without():
    host = {**AMD, "sme_enabled": True}
    old, new = document(host), document(host, {**host, "snp_host": True}, flush=True)
    found = outcomes([old, new])
    assert len(found) == 2
    assert set(found.values()) == {(False,) * 3 + (True,) * 3}


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(("A", "B")), *[st.booleans()] * (len(FACTS) - 1)),
        st.tuples(st.booleans()),
        max_size=60,
    )
)
def test_every_row_is_in_exactly_one_line_with_its_outcome(rows):
    lines = merged(rows)
    for facts, outcome in rows.items():
        fitting = [
            found
            for line, found in lines.items()
            if all(want in (None, fact) for want, fact in zip(line, facts, strict=True))
        ]
        assert fitting == [outcome]
