# SPDX-License-Identifier: GPL-2.0-or-later
"""A turn goes the other way only if an input flows into it, or leads there: else none is named."""

from __future__ import annotations

import pytest

from staleline.kernel.influence import at_sites
from staleline.kernel.influence.at_sites import search_sites
from staleline.kernel.influence.first_way import FirstWay
from staleline.kernel.influence.guardinputs import FollowedTraces, inputs_of
from staleline.kernel.influence.rows import machines
from staleline.kernel.influence.sitesearch.otherways import OtherWays
from staleline.kernel.influence.turns import turns
from staleline.kernel.rerun.trace import ExecutedInstruction
from staleline.vocabulary import Site


@pytest.mark.parametrize("site", [Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL])
def test_turns_without_inputs_are_not_run(real_kernels, monkeypatch, site):
    image = real_kernels["6.12"].image
    passed: list[tuple[int, bool]] = []
    tried: list[int] = []
    run = OtherWays.run

    def all_turns(steps: list[ExecutedInstruction], linked, is_constant, read):
        flows = FollowedTraces(is_constant, reruns.text).flows(steps)
        for turn in turns(steps, linked, is_constant, read):
            inputs = list(inputs_of(flows[index] for index in turn.indices))
            passed.append((turn.address, bool(inputs)))
            yield turn

    def noted(self, turn, executed, endless):
        tried.append(turn.address)
        return run(self, turn, executed, endless)

    monkeypatch.setattr(at_sites, "turns", all_turns)
    monkeypatch.setattr(OtherWays, "run", noted)
    reruns = FirstWay(image)
    with reruns.series():
        search_sites(reruns, list(machines(image))[:1], sites=(site,))
    asked = [address for address, asks in passed if asks]
    unasked = {address for address, asks in passed if not asks}
    assert tried[: len(asked)] == asked
    assert asked
    # Of the others those alone which an input leads to, by the way that was gone before.
    led_to = tried[len(asked) :]
    assert set(led_to) < unasked
    assert len(led_to) < len(unasked) / 2
