# SPDX-License-Identifier: GPL-2.0-or-later
"""Cases on which rumur, spin and our own engines must agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tools.second_opinion import ask_rumur, ask_spin

from staleline.check.export.combine import combined
from staleline.check.search.search import search
from staleline.model.form import Model
from staleline.model.scenario import (
    Flush,
    ForeignLines,
    Offline,
    ReportOrder,
    Scenario,
    SharedCache,
    Stop,
)
from staleline.model.world import world
from tests.check.scenarios import TRANSITIONS, crash, kexec
from tests.check.search.counting import count_states

#: One scenario per way in which models differ in kind, beside the plain transitions.
_VARIANTS: dict[str, Scenario] = {
    "kexec on→off, no secondary flushes": kexec("on→off", flush_secondary=Flush.NEVER),
    "kexec on→on, jumping CPU does not flush": kexec("on→on", flush_jumping=Flush.NEVER),
    "kexec on→off, reported before the flush": kexec("on→off", report=ReportOrder.BEFORE_FLUSH),
    "kexec on→off, stop mask not cleared": kexec("on→off", clears_stop_mask=False),
    "kexec off→on, SEV guests": kexec("off→on", foreign=ForeignLines.SEV_GUESTS),
    "kexec off→off, TDX, flush after SEAMCALL": kexec(
        "off→off",
        foreign=ForeignLines.TDX,
        flush_secondary=Flush.AFTER_SEAMCALL,
        flush_jumping=Flush.AFTER_SEAMCALL,
    ),
    "kexec on→on, guest in which WBINVD faults": kexec(
        "on→on", incoherent=False, flush_faults=True
    ),
    "kexec on→on, coherent": kexec("on→on", incoherent=False),
    "crash off→on": crash("off→on"),
    "crash on→off": crash("on→off"),
    "crash on→on, nothing flushed at load": crash("on→on", flush_at_load=False),
    "kexec on→off, shared cache": kexec("on→off", shared_cache=SharedCache.OWN_CORE),
    "kexec off→on, WBINVD reaches all": kexec("off→on", shared_cache=SharedCache.ALL_CORES),
    "kexec on→off, late NMI": kexec("on→off", late_nmi=True),
    "crash off→on, gives up waiting": crash("off→on", stop=Stop.GIVES_UP),
    "kexec on→on, reboot=force": kexec("on→on", stop=Stop.SKIPPED),
    "kexec on→off, woken offline CPUs": kexec("on→off", offline=Offline.WOKEN),
    "kexec on→off, kexec jump": kexec("on→off", preserve_context=True),
    "kexec off→on, work area": kexec("off→on", work_area=True, mtrr_flush=True),
}


@dataclass(frozen=True)
class Grid:
    """One case: line roles of a scenario in one model, and how many secondaries."""

    name: str
    scenario: Scenario
    roles: tuple[str, ...]
    secondaries: int

    def __str__(self) -> str:
        return f"{self.name}, {' + '.join(self.roles)}, {self.secondaries + 1} CPUs"

    def model(self) -> Model:
        return combined([one for one in world(self.scenario) if str(one[0].role) in self.roles])


def small_grid() -> list[Grid]:
    """A few of every kind."""
    plain = [_case(name, kexec(name), n) for n, name in enumerate(TRANSITIONS)]
    variants = [
        _case(name, scenario, 1 + n % 2) for n, (name, scenario) in enumerate(_VARIANTS.items())
    ]
    pairs = [_case("on→off", kexec("on→off"), 2, roles=2)]
    return [*plain, *variants, *pairs]


def full_grid() -> list[Grid]:
    """Every role of every scenario, no to four secondaries, one and two roles at once."""
    return list(dict.fromkeys(_full_grid()))


def _full_grid() -> Iterator[Grid]:
    for name in TRANSITIONS:
        for secondaries in range(5):
            yield _case(name, kexec(name), secondaries)
        for secondaries in (1, 2, 3):
            yield _case(name, kexec(name), secondaries, roles=2)
    for name, scenario in _VARIANTS.items():
        for line, _ in world(scenario):
            yield Grid(name, scenario, (str(line.role),), 2)
        yield _case(name, scenario, 3)
        yield _case(name, scenario, 1, roles=2)
    for name in ("off→on", "on→off"):
        yield _case(name, kexec(name), 4, roles=2)


def _case(name: str, scenario: Scenario, secondaries: int, roles: int = 1) -> Grid:
    lines = [str(line.role) for line, _ in world(scenario)]
    return Grid(name, scenario, tuple(lines[:roles]), secondaries)


def require_agreement(case: Grid) -> None:
    """Equal states without symmetry, and equal verdicts."""
    model = case.model()
    states = count_states(model, case.secondaries)
    ours = broken(model, case.secondaries)
    # Optimising costs seconds, and saves minutes where there are millions of states.
    optimise = ("-O2",) if states > 500_000 else ("-O0",)
    spin = ask_spin(model, case.secondaries, optimise=optimise)
    unchecked = replace(model, properties=())
    rumur = ask_rumur(model if not ours else unchecked, case.secondaries, optimise=optimise)
    assert (spin.states, rumur.states) == (states, states)
    assert (spin.errors > 0) == bool(ours - {model.goal_name})
    assert rumur.broken == ours & {model.goal_name}
    if ours - {model.goal_name}:
        # rumur does not go on behind a violation, so it may not see what comes only then.
        first = search(model, case.secondaries).violated
        checked = ask_rumur(model, case.secondaries).broken - {model.goal_name}
        assert first in checked
        assert checked <= ours


def broken(model: Model, secondaries: int) -> set[str]:
    """Names of the properties that our search says are broken, each asked on its own."""
    alone = {item.name: replace(model, properties=(item,)) for item in model.properties}
    found = {name for name, one in alone.items() if search(one, secondaries).violated == name}
    hangs = search(replace(model, properties=()), secondaries).violated
    return found | ({hangs} if hangs else set())
