# SPDX-License-Identifier: GPL-2.0-or-later
"""What a site's decision depends on: the variables it reads, and what it asks the hardware.

The site is run from the state that the derivation left, with everything it reads changed. A
variable that matters is *explained* if the listed facts set it: between the rows, which differ
in listed facts alone, it takes other values, in every bit that matters by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from itertools import chain, compress
from operator import or_
from typing import TYPE_CHECKING, Final

from staleline.kernel.emulator.layout import DESCRIPTORS, is_pointer
from staleline.kernel.image.alternatives import passed_alternatives
from staleline.kernel.influence.beyond import turned_beyond
from staleline.kernel.influence.guardinputs import FollowedTraces, inputs_of, name_of, unlisted_bits
from staleline.kernel.influence.inflow import Loaded
from staleline.kernel.influence.search import Search, Tried
from staleline.kernel.influence.turns import turns
from staleline.kernel.rerun.branches import passed_branches
from staleline.kernel.rerun.changes import AnswerBit, Change, Memory, changed, halved, variation
from staleline.kernel.rerun.fixedinputs import (
    FIXED_AT_SITES,
    FIXED_CALLS,
    FIXED_IN_CRASH,
    FIXED_WHERE_TAKEN,
    fixed_bits,
    is_fixed,
)
from staleline.kernel.rerun.inputs import listed_bits, random_flips
from staleline.kernel.rerun.instructionform import form_of
from staleline.kernel.rerun.reruns import SITES
from staleline.kernel.sites.jump import preserve_context_bits
from staleline.vocabulary import Site

if TYPE_CHECKING:
    from staleline.kernel.boot.decision import RawMachine
    from staleline.kernel.boot.places import Places
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.influence.inflow import Origin
    from staleline.kernel.influence.turns import Turn
    from staleline.kernel.rerun.detour import Detour
    from staleline.kernel.rerun.reruns import Booted, Reruns, SiteRun
    from staleline.kernel.rerun.trace import ExecutedInstruction
    from staleline.kernel.rerun.variation import Cell, Variation

__all__ = ["Influence", "search_sites"]

#: A single bit of a variable decides, or the number as a whole: then most of its bits do.
_MOST: Final = 0.5
_SAMPLE: Final = 16
#: Of one conditional jump that is executed more often than that, the first and the last.
_MOST_DETOURS: Final = 8
#: Of an address in the direct map, the physical one.
_LOW: Final = 0xFFF_FFFF
_SEV_STATUS: Final = 0xC001_0131
_TASK: Final = "init_task"
_SEV_ES: Final = 1 << 1


@dataclass(frozen=True, slots=True)
class Influence:
    """Something that a site's decision depends on.

    Attributes:
        name: A variable, a bit of CPUID or an MSR, or a static key.
        explained: The listed facts set it, or it is one of them.
        initial: Content of a variable where it was found to matter, little-endian.
        bits: Those that matter by themselves, of a variable whose other bits the facts set.
    """

    name: str
    explained: bool
    initial: bytes | None = None
    bits: tuple[int, ...] = ()

    def __str__(self) -> str:
        """As sentences call it."""
        if self.bits:
            return f"{self.name}[{', '.join(map(str, self.bits))}]"
        if self.initial is None:
            return self.name
        value = int.from_bytes(self.initial, "little")
        return f"{self.name} ({len(self.initial)} bytes, {value:#x} in the image)"


@dataclass(slots=True)
class SiteSearch:
    """What was found of one site, on all rows.

    Attributes:
        influences: By name.
        lost: What made the site fail, and how.
        exhausted: There is more than can be told apart.
        met: What the site read and was answered, on rows that were looked at.
        endless: Turns that lead nowhere when they are taken the other way.
    """

    influences: dict[str, Influence] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    exhausted: bool = False
    met: set[Hashable] = field(default_factory=set)
    endless: set[Hashable] = field(default_factory=set)


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
    states = _States(reruns, machines, sites)
    searches = {site: SiteSearch() for site in sites}
    tells = is_telling or _is_telling
    for row, machine in enumerate(machines):
        for site, search in searches.items():
            if row == 0 or tells(site, machine):
                _OneSite(reruns, site, states, row).search(search)
    return searches


def _is_telling(site: Site, machine: RawMachine) -> bool:
    """The crash path takes long, and few facts matter to it."""
    is_sev_es_guest = machine.msr.get(_SEV_STATUS, 0) & _SEV_ES != 0
    few = (is_sev_es_guest, machine.snp_host, machine.seamcalled)
    return site is not Site.CRASH_NMI_CALLBACK or any(few)


class _States:
    """What is where each site reads, in the state of each row."""

    def __init__(
        self, reruns: Reruns, machines: Sequence[RawMachine], sites: Sequence[Site]
    ) -> None:
        self._reruns = reruns
        self.rows = [reruns.boot(machine) for machine in machines]
        self._contents: dict[tuple[Site, Cell], list[bytes]] = {}
        self.branches: dict[Site, list[Memory]] = {site: [] for site in sites}
        self.patches: dict[Site, list[Memory]] = {site: [] for site in sites}
        self.traces = FollowedTraces(reruns.is_constant, reruns.text)
        for site in sites:
            for row, booted in enumerate(self.rows):
                self._look_at(site, booted, first=row == 0)
        # Once more over all rows: what one of them reads may lie unread in another.
        for booted in self.rows:
            for site in sites:
                reruns.restore(site, booted)
                for (where, cell), contents in self._contents.items():
                    if where is site:
                        contents.append(reruns.memory.read(*cell))

    def _look_at(self, site: Site, booted: Booted, *, first: bool) -> None:
        """What the site reads, and on the first row which branches it passes."""
        accesses = self._reruns.watched_site(site, booted)
        for cell in accesses.reads:
            self._contents.setdefault((site, cell), [])
        if first:
            image, places = self._reruns.image, self._reruns.places
            self.branches[site] = list(passed_branches(image, places, accesses.blocks))
            self.patches[site] = list(_passed_patches(image, places, accesses.blocks))

    def contents(self, site: Site, row: int) -> Iterator[tuple[Cell, bytes]]:
        """What a site reads on some row, and what is there on this one."""
        found = self._contents.items()
        return ((cell, contents[row]) for (where, cell), contents in found if where is site)

    def varied(self, site: Site, cell: Cell) -> int:
        """The bits that are not the same on all rows."""
        contents = self._contents.get((site, cell), [b""])
        first, *others = (int.from_bytes(content, "little") for content in contents)
        return reduce(or_, (first ^ other for other in others), 0)


class _OneSite:
    """One site in the state of one row."""

    def __init__(self, reruns: Reruns, site: Site, states: _States, row: int) -> None:
        self._reruns = reruns
        self._run = reruns.runs_from(states.rows[row])
        self._site = site
        self._states, self._row = states, row
        self._base = self._run(site)
        self._looked_at: dict[Cell, Influence] = {}
        self._turned_over: dict[tuple[Cell, bytes], bool] = {}
        self._fixed = FIXED_IN_CRASH if site is Site.CRASH_NMI_CALLBACK else FIXED_AT_SITES
        # What flows into a guard is told, whatever reason there is not to change it.
        self._partly_fixed = {name: one for name, one in self._fixed.items() if not one.is_whole}
        self._cells = {
            cell: Memory(cell, content, reruns.name(cell[0]))
            for cell, content in states.contents(site, row)
        }

    def search(self, site_search: SiteSearch) -> None:
        """Try everything, and add what matters."""
        if self._base.decision.flushes is None:
            return
        for name in self._listed():
            site_search.influences[name] = Influence(name, explained=True)
        search = Search(self._tried)
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
            site_search.influences |= {
                one.name: one for one in self._at_turns(told, site_search.endless)
            }
            site_search.influences |= {one.name: one for one in self._at_computed_jumps(told)}
        site_search.exhausted |= search.exhausted

    def _patched(self) -> Iterator[Influence]:
        """CPU features that patch code which decides."""
        for patch in self._states.patches[self._site]:
            if self._tried(variation([patch])).changed:
                yield Influence(patch.name, explained=False)

    def _met(self) -> Hashable:
        """Two rows that are alike in this differ in nothing that the site has seen."""
        contents = tuple(memory.content for memory in self._cells.values())
        return contents, self._base.record

    def _tried(self, variation: Variation) -> Tried:
        run = self._run(self._site, variation)
        astray = run.decision.astray
        changed = astray or run.decision.answer not in (None, self._base.decision.answer)
        lost = None if astray else run.decision.unknown
        return Tried(frozenset({self._site}) if changed else frozenset(), run.asked, lost)

    def _listed(self) -> Iterator[str]:
        """The listed facts that the site asks the hardware itself, and that matter."""
        for register in self._base.asked:
            for bit in listed_bits(register):
                change = AnswerBit(register, bit)
                if self._tried(variation([change])).changed:
                    yield str(change)

    def _beside_the_facts(self) -> Iterator[Influence]:
        """Variables that the facts set, and of which another bit matters."""
        # Whatever bits the facts leave alone are turned over, on every row.
        for cell, memory in self._cells.items():
            if self._states.varied(self._site, cell) and self._may_differ(memory):
                influence = self._of_variable(memory)
                if not influence.explained:
                    yield influence

    def _at_turns(self, told: set[str], endless: set[Hashable]) -> Iterator[Influence]:
        """What flows into the conditions on which the site does otherwise."""
        steps = self._reruns.traced_site(self._site, self._states.rows[self._row])
        memory, linked = self._reruns.memory, self._reruns.places.linked
        executed = frozenset(linked(step.address) for step in steps)
        for turn in turns(steps, linked, self._reruns.is_constant, memory.read):
            otherwise = self._otherwise(turn, executed, endless)
            if otherwise is None:
                continue
            flows = self._states.traces.flows(steps)
            for origin, mask in inputs_of(flows[index] for index in turn.indices):
                influence = self._flowing(origin, mask, told)
                if influence is not None and not self._is_settled(influence, otherwise):
                    told.add(influence.name)
                    yield influence

    def _at_computed_jumps(self, told: set[str]) -> Iterator[Influence]:
        """What says where a jump leads: where else it might, is in no image."""
        steps = self._reruns.traced_site(self._site, self._states.rows[self._row])
        flows = compress(self._states.traces.flows(steps), map(self._goes, steps, steps[1:]))
        for origin, mask in inputs_of(flows):
            influence = self._flowing(origin, mask, told)
            if influence is not None and not self._is_called_as_it_is(origin):
                told.add(influence.name)
                yield influence

    def _goes(self, step: ExecutedInstruction, following: ExecutedInstruction) -> bool:
        """Where its value says, but to the control page, which is where the kimage has it."""
        form = form_of(step.code)
        linked = self._reruns.places.linked(following.address)
        return form is not None and form.goes and linked == following.address

    def _is_called_as_it_is(self, origin: Origin) -> bool:
        if not isinstance(origin, Loaded) or not is_pointer(origin.content):
            return False
        name = self._reruns.places.variable(origin.address)
        return name is None or is_fixed(FIXED_CALLS, name.split("+")[0], len(origin.content))

    def _otherwise(
        self, turn: Turn, executed: Container[int], endless: set[Hashable]
    ) -> SiteRun | None:
        """A run in which the site does otherwise; one that ends, if there is any."""
        astray = None
        for run in chain(
            self._turned_runs(turn, endless), self._runs_beyond(turn, executed, endless)
        ):
            if not run.decision.astray:
                return run
            astray = run
        return astray

    def _is_settled(self, influence: Influence, run: SiteRun) -> bool:
        """It decides whether a CPU is interrupted at all, which nothing else than was set may."""
        if not run.decision.astray:
            return False
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
        run = self._run(self._site, variation([change]))
        return run.decision.astray or not run.differs(self._base)

    def _turned_runs(self, turn: Turn, endless: set[Hashable]) -> Iterator[SiteRun]:
        """Those that do otherwise where it turns."""
        failed = False
        for other in turn.others:
            run = self._limited(other, endless, partial(self._run, self._site, variation([other])))
            if run is not None and run.differs(self._base):
                yield run
            failed = failed or run is None or run.decision.flushes is None
        # Turned each time a loop may have no end, where turned a single time it goes elsewhere.
        if not failed or len(turn.detours) < 2:
            return
        for detour in _spread(turn.detours):
            run = self._detoured(detour, endless)
            if run is not None and run.differs(self._base):
                yield run

    def _runs_beyond(
        self, turn: Turn, executed: Container[int], endless: set[Hashable]
    ) -> Iterator[SiteRun]:
        """With conditions that are asked only where the jump is turned."""
        if not turn.detours or not endless.isdisjoint(turn.others):
            return
        first, turned = turn.detours[0], next(iter(turn.others))
        # Where the code is linked, as `executed` has it.
        other_way = first.target - first.address + turn.address
        for changes in turned_beyond(self._reruns.memory.read, turned, other_way, executed):
            run = self._limited(
                changes, endless, partial(self._run, self._site, variation(changes))
            )
            if run is not None and run.differs(self._base) and self._asks_last(changes):
                yield run

    def _asks_last(self, changes: Sequence[Memory]) -> bool:
        """Does an input decide the last jump, where the others are turned, and no constant?"""
        booted = self._states.rows[self._row]
        steps = self._reruns.traced_site(self._site, booted, variation(changes[:-1]))
        flows = self._states.traces.flows(steps)
        last, _ = changes[-1].cell
        linked = self._reruns.places.linked
        return any(
            flow
            for step, flow in zip(steps, flows, strict=True)
            if step.conditional and linked(step.address) == last
        )

    def _detoured(self, detour: Detour, endless: set[Hashable]) -> SiteRun | None:
        booted = self._states.rows[self._row]
        run = partial(self._reruns.detoured_run, self._site, booted, detour)
        return self._limited(detour, endless, run)

    def _limited(
        self, change: Hashable, endless: set[Hashable], run: Callable[[], SiteRun]
    ) -> SiteRun | None:
        """A run, but for one that is known to have no end."""
        if change in endless:
            return None
        before = self._reruns.endless_runs
        done = run()
        if self._reruns.endless_runs > before:
            endless.add(change)
        return done

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

    def _may_differ(self, memory: Memory) -> bool:
        address, size = memory.cell
        # A changed pointer leads nowhere, and a changed descriptor breaks the machine's own tables.
        if is_pointer(memory.content) or address & _LOW in DESCRIPTORS:
            return False
        return not is_fixed(self._fixed, memory.name, size)

    def _influence(self, change: Change) -> Influence:
        if isinstance(change, AnswerBit) or change.cell not in self._cells:
            return Influence(str(change), explained=False)
        return self._of_variable(self._cells[change.cell])

    def _of_variable(self, memory: Memory) -> Influence:
        if memory.cell not in self._looked_at:
            self._looked_at[memory.cell] = self._look_at(memory)
        return self._looked_at[memory.cell]

    def _look_at(self, memory: Memory) -> Influence:
        """Do the rows vary every bit of it that matters by itself?"""
        cell, name, initial = memory.cell, str(memory), memory.content
        varied = self._states.varied(self._site, cell)
        if not varied:
            return Influence(name, explained=False, initial=initial)
        kept = varied | fixed_bits(self._fixed, name, int.from_bytes(initial, "little"))
        others = [bit for bit in range(8 * cell[1]) if not kept >> bit & 1]
        if not self._any_matters(cell, others) or self._most_matter(cell, others):
            return Influence(name, explained=True, initial=initial)
        bits = tuple(bit for bit in others if self._matters(cell, [bit]))
        return Influence(name, explained=False, initial=initial, bits=bits)

    def _any_matters(self, cell: Cell, bits: Sequence[int]) -> bool:
        return any(self._matters(cell, some) for some in _divisions(bits))

    def _most_matter(self, cell: Cell, bits: Sequence[int]) -> bool:
        sample = bits[:: max(1, len(bits) // _SAMPLE)]
        matter = 0
        for left, bit in zip(range(len(sample), 0, -1), sample, strict=True):
            if matter > _MOST * len(sample) or matter + left <= _MOST * len(sample):
                break  # the others cannot turn it over
            matter += self._matters(cell, [bit])
        return matter > _MOST * len(sample)

    def _matters(self, cell: Cell, bits: Sequence[int]) -> bool:
        """Does turning these bits over change the decision? No bits do not."""
        if not bits:
            return False
        content = int.from_bytes(self._cells[cell].content, "little")
        for bit in bits:
            content ^= 1 << bit
        other = content.to_bytes(cell[1], "little")
        if (cell, other) not in self._turned_over:
            tried = self._tried(variation([Memory(cell, other, "")]))
            self._turned_over[cell, other] = bool(tried.changed)
        return self._turned_over[cell, other]


def _spread(detours: Sequence[Detour]) -> Sequence[Detour]:
    """All of them, or the first and the last."""
    half = _MOST_DETOURS // 2
    return detours if len(detours) <= _MOST_DETOURS else (*detours[:half], *detours[-half:])


def _passed_patches(
    image: KernelImage, places: Places, executed: Iterable[tuple[int, int]]
) -> Iterator[Memory]:
    """What a CPU feature decides in the code that was executed, as it would be patched."""
    linked = [(places.linked(address), size) for address, size in executed]
    for patch in passed_alternatives(image, linked):
        name = f"{patch} at {places.code(patch.address)}"
        yield Memory((patch.address, len(patch.code)), patch.code, name, is_code=True)


def _divisions(bits: Sequence[int]) -> Iterator[Sequence[int]]:
    """All of them, and halves such that any two bits are apart in one.

    A bit that matters may do so only as long as some other bit is left alone.
    """
    yield bits
    for digit in range(max(bits, default=0).bit_length()):
        for value in (0, 1):
            yield [bit for bit in bits if bit >> digit & 1 == value]
