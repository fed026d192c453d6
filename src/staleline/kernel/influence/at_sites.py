# SPDX-License-Identifier: GPL-2.0-or-later
"""What a site's decision depends on: the variables it reads, and what it asks the hardware.

The site is run from the state that the derivation left, with everything it reads changed. A
variable that matters is *explained* if the listed facts set it: between the rows, which differ
in listed facts alone, it takes other values, in every bit that matters by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, compress
from typing import TYPE_CHECKING, Final

from staleline.hardware import SEV_STATUS
from staleline.kernel.emulator.layout import DESCRIPTORS, is_pointer
from staleline.kernel.image.exceptiontable import expected_faults
from staleline.kernel.influence.guardinputs import inputs_of, name_of, unlisted_bits
from staleline.kernel.influence.inflow import Loaded, inflows
from staleline.kernel.influence.search import Search
from staleline.kernel.influence.sitesearch.earlierways import with_earlier_ways
from staleline.kernel.influence.sitesearch.influences import Influence, SiteSearch
from staleline.kernel.influence.sitesearch.otherways import OtherWays
from staleline.kernel.influence.sitesearch.rowstates import RowStates
from staleline.kernel.influence.sitesearch.trials import Trials
from staleline.kernel.influence.sitesearch.variables import Variables
from staleline.kernel.influence.turns import Turn, turns
from staleline.kernel.rerun.changes import AnswerBit, Change, Memory, changed, halved, variation
from staleline.kernel.rerun.detour import Detour
from staleline.kernel.rerun.fixedinputs import (
    FIXED_AT_SITES,
    FIXED_CALLS,
    FIXED_IN_CRASH,
    FIXED_WHERE_TAKEN,
    fixed_bits,
    is_fixed,
    open_static_call,
)
from staleline.kernel.rerun.inputs import listed_bits, random_flips
from staleline.kernel.rerun.instructionform import form_of
from staleline.kernel.rerun.reruns import SITES
from staleline.kernel.sites.jump import preserve_context_bits
from staleline.vocabulary import Site

if TYPE_CHECKING:
    from staleline.kernel.boot.decision import RawMachine
    from staleline.kernel.influence.inflow import Flow, Origin
    from staleline.kernel.rerun.reruns import Reruns, SiteRun
    from staleline.kernel.rerun.trace import ExecutedInstruction

__all__ = ["search_sites"]

_Inputs = Sequence[tuple["Origin", int]]

#: Of an address in the direct map, the physical one.
_LOW: Final = 0xFFF_FFFF
_TASK: Final = "init_task"
_SEV_ES: Final = 1 << 1


def search_sites(
    reruns: Reruns,
    machines: Sequence[RawMachine],
    *,
    sites: Sequence[Site] = SITES,
    is_telling: Callable[[Site, RawMachine], bool] | None = None,
) -> Mapping[Site, SiteSearch]:
    """Try everything on every machine, each divided into two halves at random in its own way.

    Where a site is unknown it is left out.

    Args:
        reruns: The image.
        machines: They differ in listed facts alone.
        sites: At which.
        is_telling: On which machines, beside the first, a site is searched; by itself, on all
            that matter to it.

    Raises:
        DerivationError: The derivation does not end on one of them.
    """
    states = RowStates(reruns, machines, sites)
    searches = {site: SiteSearch() for site in sites}
    tells = is_telling or _is_telling
    for row, machine in enumerate(machines):
        for site, search in searches.items():
            if row == 0 or tells(site, machine):
                _OneSite(reruns, site, states, row).search(search)
    return searches


def _is_telling(site: Site, machine: RawMachine) -> bool:
    """The crash path takes long, and few facts matter to it."""
    is_sev_es_guest = machine.msr.get(SEV_STATUS, 0) & _SEV_ES != 0
    few = (is_sev_es_guest, machine.snp_host, machine.seamcalled)
    return site is not Site.CRASH_NMI_CALLBACK or any(few)


@dataclass(slots=True)
class _Turned:
    """Places at which a site turns, by what it does when it is turned there.

    Attributes:
        deciding: It does otherwise; with inputs that are as they are for a reason.
        others: It does the same.
        unasked: No input flows into them.
    """

    deciding: list[tuple[Turn, set[Origin]]] = field(default_factory=list)
    others: list[Turn] = field(default_factory=list)
    unasked: list[Turn] = field(default_factory=list)


class _OneSite:
    """One site in the state of one row."""

    def __init__(self, reruns: Reruns, site: Site, states: RowStates, row: int) -> None:
        self._reruns = reruns
        self._site = site
        self._states, self._row = states, row
        self._trials = Trials(reruns, site, states.rows[row])
        self._base = self._trials.base
        self._fixed = FIXED_IN_CRASH if site is Site.CRASH_NMI_CALLBACK else FIXED_AT_SITES
        # What flows into a guard is told, whatever reason there is not to change it.
        self._partly_fixed = {name: one for name, one in self._fixed.items() if not one.is_whole}
        self._cells = {
            cell: Memory(cell, content, reruns.name(cell[0]))
            for cell, content in states.contents(site, row)
        }
        varied = partial(states.varied, site)
        self._variables = Variables(self._cells, varied, self._fixed, self._trials)
        booted, traces = states.rows[row], states.traces
        self._other_ways = OtherWays(reruns, site, booted, traces, self._trials)

    def search(self, site_search: SiteSearch) -> None:
        """Try everything, and add what matters."""
        if self._base.decision.flushes is None:
            return
        for name in self._listed():
            site_search.influences[name] = Influence(name, explained=True)
        search = Search(self._trials.tried)
        for complement in (False, True):
            flips = random_flips(self._row, complement=complement)
            search.round(flips, self._half(self._row, complement=complement))
        for finding in search.findings:
            name = str(finding.change)
            if finding.lost is not None:
                site_search.lost.setdefault(name, finding.lost)
            elif self._is_where_taken(finding.change):
                continue
            # What one row explains another may not.
            elif name not in site_search.influences or site_search.influences[name].explained:
                site_search.influences[name] = self._influence(finding.change)
        site_search.influences |= {one.name: one for one in self._patched()}
        # These take longest, and rows that the site cannot tell apart have the same answers.
        if (met := self._met()) not in site_search.met:
            site_search.met.add(met)
            site_search.influences |= {one.name: one for one in self._beside_the_facts()}
            told = {name for name, one in site_search.influences.items() if not one.explained}
            steps = self._reruns.traced_site(self._site, self._states.rows[self._row])
            flows = self._states.traces.flows(steps)
            # By where code is copied to, which what is run next may change.
            leading = list(compress(flows, map(self._goes, steps, steps[1:])))
            at_turns = self._at_turns(steps, flows, told, site_search.endless)
            site_search.influences |= {one.name: one for one in at_turns}
            at_jumps = self._at_computed_jumps(leading, told)
            site_search.influences |= {one.name: one for one in at_jumps}
            at_places = self._at_places(steps, told)
            site_search.influences |= {one.name: one for one in at_places}
        site_search.exhausted |= search.exhausted

    def _patched(self) -> Iterator[Influence]:
        """CPU features that patch code which decides."""
        for patch in self._states.patches[self._site]:
            if self._trials.changes(variation([patch])):
                yield Influence(patch.name, explained=False)

    def _met(self) -> Hashable:
        """Two rows that are alike in this differ in nothing that the site has seen."""
        contents = tuple(memory.content for memory in self._cells.values())
        return contents, self._base.record

    def _listed(self) -> Iterator[str]:
        """The listed facts that the site asks the hardware itself, and that matter."""
        for register in self._base.asked:
            for bit in listed_bits(register):
                change = AnswerBit(register, bit)
                if self._trials.changes(variation([change])):
                    yield str(change)

    def _beside_the_facts(self) -> Iterator[Influence]:
        """Variables that the facts set, and of which another bit matters."""
        # Whatever bits the facts leave alone are turned over, on every row.
        for cell, memory in self._cells.items():
            if self._states.varied(self._site, cell) and self._may_differ(memory):
                influence = self._variables.of(memory)
                if not influence.explained:
                    yield influence

    def _at_turns(
        self,
        steps: Sequence[ExecutedInstruction],
        flows: Sequence[Flow],
        told: set[str],
        endless: set[Hashable],
    ) -> Iterator[Influence]:
        """What flows into the conditions on which the site does otherwise."""
        memory, linked = self._reruns.memory, self._reruns.places.linked
        executed = frozenset(map(linked, {step.address for step in steps}))
        seen = _Turned()
        for turn in turns(steps, linked, self._reruns.is_constant, memory.read):
            # Inputs that are changed do not bring out every guard: a comparison with one odd
            # number, a signed one, or one of something that may not be changed without making the
            # code fail. So each turn is taken the other way. If then the site does otherwise,
            # whatever flows into the condition matters, in whichever form it is asked. Where
            # nothing does, what the site does there tells of no input, unless one decides it by the
            # way that was gone before.
            asked: _Inputs = list(inputs_of(flows[index] for index in turn.indices))
            if not asked:
                seen.unasked.append(turn)
                continue
            otherwise = self._other_ways.run(turn, executed, endless)
            settled = set["Origin"]()
            if otherwise is None:
                seen.others.append(turn)
                unset = (self._unset(change, asked) for change in self._other_ways.through_null)
                asked = list(chain.from_iterable(unset))
            elif _is_known(otherwise):
                seen.deciding.append((turn, settled))
            for origin, mask in asked:
                influence = self._flowing(origin, mask, told)
                if influence is not None and self._is_settled(origin, influence, otherwise):
                    settled.add(origin)
                elif influence is not None:
                    told.add(influence.name)
                    yield influence

        yield from self._by_earlier_ways(steps, flows, seen, told, endless)

    def _by_earlier_ways(
        self,
        steps: Sequence[ExecutedInstruction],
        flows: Sequence[Flow],
        seen: _Turned,
        told: set[str],
        endless: set[Hashable],
    ) -> Iterator[Influence]:
        """What decides the same conditions by the way that was gone before."""
        executed = frozenset(map(self._reruns.places.linked, {step.address for step in steps}))
        flows = with_earlier_ways(
            flows,
            (turn for turn in (*seen.others, *seen.unasked) if turn.detours),
            partial(self._is_open, told),
            lambda opened: self._other_ways.arms(steps, opened, executed, endless),
            lambda arms: inflows(steps, self._reruns.is_constant, self._reruns.text, arms),
        )
        led_to = (turn for turn in seen.unasked if any(flows[index] for index in turn.indices))
        seen.deciding += (
            (turn, set())
            for turn in led_to
            if _is_known(self._other_ways.run(turn, executed, endless))
        )
        for turn, settled in seen.deciding:
            for origin, mask in inputs_of(flows[index] for index in turn.indices):
                influence = self._flowing(origin, mask, told)
                if influence and origin not in settled and not self._is_as_it_is(origin):
                    told.add(influence.name)
                    yield influence

    def _is_open(self, told: set[str], turn: Turn, flows: Sequence[Flow]) -> bool:
        """Does anything flow into the condition that no listed fact sets?"""
        asked = inputs_of(flows[index] for index in turn.indices)
        return any(
            self._flowing(origin, mask, told) is not None and not self._is_as_it_is(origin)
            for origin, mask in asked
        )

    def _is_as_it_is(self, origin: Origin) -> bool:
        """Is it, or what stands beside it, what says which function is called?"""
        if not isinstance(origin, Loaded):
            return False
        name = self._reruns.places.variable(origin.address)
        return name is not None and is_fixed(FIXED_CALLS, name, len(origin.content))

    def _unset(self, change: tuple[Memory, ...] | Detour, asked: _Inputs) -> _Inputs:
        """What a run through a pointer that is not set depends on: whether it is, or was asked.

        What lies behind is in no image: a function of a driver, or of a module.

        Args:
            change: What was turned.
            asked: What flows into the condition.
        """
        if all(self._is_called_as_it_is(one) or self._is_kept(one) for one, _ in asked):
            return ()
        if isinstance(change, Detour):
            return asked
        steps = self._other_ways.steps_of(change)
        if not steps:
            return ()
        form = form_of(steps[-1].code)
        if form is None or not form.goes:
            # Of a structure that is not there only whether it is there counts.
            return [one for one in asked if isinstance(one[0], Loaded) and one[0].is_null]
        target = list(inputs_of(self._states.traces.flows(steps)[-1:]))
        if target and all(self._is_called_as_it_is(origin) for origin, _ in target):
            return ()
        return [*asked, *target]

    def _is_kept(self, origin: Origin) -> bool:
        """Is it taken as it is for a reason? What a task holds, another does not."""
        if not isinstance(origin, Loaded):
            return False
        name = self._reruns.line(origin.address)
        return not name.startswith(_TASK) and is_fixed(self._fixed, name, len(origin.content))

    def _at_places(
        self, steps: Sequence[ExecutedInstruction], told: set[str]
    ) -> Iterator[Influence]:
        """What decides there, and is in no instruction: static calls, and what may fail."""
        image, places = self._reruns.image, self._reruns.places
        expected = expected_faults(image)
        for place in sorted(set(map(places.linked, {step.address for step in steps}))):
            name = open_static_call(image.symbols.names_at(place))
            if place in expected:
                name = f"whether what is tried at {places.code(place)} fails"
            if name is not None and name not in told:
                told.add(name)
                yield Influence(name, explained=False)

    def _at_computed_jumps(self, flows: Iterable[Flow], told: set[str]) -> Iterator[Influence]:
        """What says where a jump leads: where else it might, is in no image."""
        for origin, mask in inputs_of(flows):
            influence = self._flowing(origin, mask, told)
            if influence is not None and not self._is_called_as_it_is(origin):
                told.add(influence.name)
                yield influence

    def _goes(self, step: ExecutedInstruction, following: ExecutedInstruction) -> bool:
        """Where its value says, but to the control page, which is where the kimage has it."""
        form = form_of(step.code)
        if form is None or not form.goes:
            return False
        return self._reruns.places.linked(following.address) == following.address

    def _is_called_as_it_is(self, origin: Origin) -> bool:
        if not isinstance(origin, Loaded) or not (is_pointer(origin.content) or origin.is_null):
            return False
        name = self._reruns.places.variable(origin.address)
        if name is None:
            return not origin.is_null
        return is_fixed(FIXED_CALLS, name, len(origin.content))

    def _is_settled(self, origin: Origin, influence: Influence, run: SiteRun | None) -> bool:
        """It decides whether a CPU is interrupted at all, which nothing else than was set may.

        Or whether a handler is called that the shutdown has registered itself.
        """
        if run is None or not (run.decision.astray or run.decision.unmodelled):
            return False
        if not run.decision.astray and self._is_called_as_it_is(origin):
            return True
        initial, name = influence.initial or b"", influence.name.split("[")[0]
        return is_pointer(initial) or self._is_fixed_where_taken(name, len(initial))

    def _is_fixed_where_taken(self, name: str, size: int) -> bool:
        # No code asks the task whether the machine is to be shut down.
        of_task = name.startswith(_TASK)
        return is_fixed(FIXED_WHERE_TAKEN, name, size) or (
            is_fixed(self._fixed, name, size) and not of_task
        )

    def _is_where_taken(self, change: Change) -> bool:
        """The same of a change, which by itself makes no other difference."""
        if isinstance(change, AnswerBit) or change.is_code:
            return False
        address, size = change.cell
        if not self._is_fixed_where_taken(self._reruns.line(address), size):
            return False
        run = self._trials.run(variation([change]))
        known = not (run.decision.astray or run.decision.unmodelled)
        return not (known and run.differs(self._base))

    def _flowing(self, origin: Origin, mask: int, told: set[str]) -> Influence | None:
        """An input that matters, if it is no listed fact, and was not found otherwise."""
        varied = fixed = 0
        if isinstance(origin, Loaded):
            name = self._reruns.line(origin.address)
            varied = self._states.varied(self._site, origin.cell) | preserve_context_bits(
                self._reruns.image, self._reruns.memory, origin.cell
            )
            fixed = fixed_bits(self._partly_fixed, name, int.from_bytes(origin.content, "little"))
        bits = unlisted_bits(origin, mask, varied=varied, fixed=fixed)
        numbers = tuple(bit for bit in range(bits.bit_length()) if bits >> bit & 1)
        name = name_of(origin, bits, self._reruns.line)
        if not bits or name in told or not told.isdisjoint(f"{origin}[{bit}]" for bit in numbers):
            return None
        if not isinstance(origin, Loaded):
            return Influence(name, explained=False)
        return Influence(name, False, origin.content, numbers if varied else ())

    def _half(self, seed: int, *, complement: bool) -> list[Memory]:
        variables = filter(self._may_differ, self._cells.values())
        half = halved([*variables, *self._states.branches[self._site]], seed, complement=complement)
        return [changed(memory, seed) for memory in half]

    def _influence(self, change: Change) -> Influence:
        if isinstance(change, AnswerBit) or change.cell not in self._cells:
            return Influence(str(change), explained=False)
        return self._variables.of(self._cells[change.cell])

    def _may_differ(self, memory: Memory) -> bool:
        address, size = memory.cell
        # A changed pointer leads nowhere, and a changed descriptor breaks the machine's own tables.
        if is_pointer(memory.content) or address & _LOW in DESCRIPTORS:
            return False
        return not is_fixed(self._fixed, memory.name, size)


def _is_known(run: SiteRun | None) -> bool:
    """Did it come to an end at which the site does otherwise?"""
    return run is not None and not (run.decision.astray or run.decision.unmodelled)
