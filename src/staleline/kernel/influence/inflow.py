# SPDX-License-Identifier: GPL-2.0-or-later
"""Which inputs decide what executed instructions do, bit by bit where bits are tested.

An input is whatever an instruction takes that no instruction of the trace before it left there: a
variable, an answer of CPUID, an MSR, the time, a register.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from staleline.hardware import GENERAL_REGISTERS, MASK_32, MASK_64
from staleline.kernel.addresses import KERNEL_MAP
from staleline.kernel.emulator.layout import is_pointer
from staleline.kernel.emulator.traps import RANDOM, TIME
from staleline.kernel.rerun.inputs import Register
from staleline.kernel.rerun.instructionform import BitsKept, form_of
from staleline.kernel.rerun.registerparts import CARRY, FLAGS, Part, parts_of

if TYPE_CHECKING:
    from staleline.kernel.rerun.instructionform import InstructionForm
    from staleline.kernel.rerun.trace import Access, ExecutedInstruction

__all__ = ["WHERE_IT_LIES", "Arms", "Flow", "FollowedFlow", "Inflow", "Loaded", "Origin", "inflows"]

_POINTER: Final = 8
#: Bits of an address that are all alike (SDM vol. 1, 3.3.7.1).
_CANONICAL: Final = MASK_64 ^ ((1 << 47) - 1)
_CPUID_OUTPUT: Final = ("rax", "rbx", "rcx", "rdx")
#: What has an origin of its own, whatever instruction asks for it.
_ASKED: Final = {
    **dict.fromkeys(("RDTSC", "RDTSCP"), Register(TIME, None)),
    **dict.fromkeys(("RDRAND", "RDSEED"), Register(RANDOM, None)),
}
#: An address of the kernel is what the image says, and what KASLR adds.
WHERE_IT_LIES: Final = "where KASLR puts the kernel"
_FLAGS_ORIGIN: Final = "EFLAGS"
_AT_THE_START: Final = " at the start"
#: The decoder does not know it, though the emulator does; so nothing says what it read and wrote.
_UNKNOWN_FORM: Final = "an instruction of unknown form"
#: Bytes around a store whose place is chosen by an input, in which it may be instead: a bit for
#: each of 8192 CPUs.
_AROUND: Final = 0x400
#: Bytes of it: more may be of those behind it.
_SHOWN: Final = 6


class Loaded(NamedTuple):
    """What a variable, or another place in memory, held when the run began."""

    address: int
    content: bytes

    @property
    def cell(self) -> tuple[int, int]:
        """Address and size."""
        return self.address, len(self.content)

    @property
    def is_null(self) -> bool:
        """Is it a pointer that is not set, or a number as large as one that is 0?"""
        return len(self.content) == _POINTER and not any(self.content)


Origin = Loaded | Register | str


class Inflow(NamedTuple):
    """An input on its way.

    Attributes:
        origin: Where it comes from; a name of what the CPU itself holds.
        mask: The bits of it that can still have a part in the value.
        shift: The bit of it that is bit 0 of the value; None if its bits were mixed.
    """

    origin: Origin
    mask: int
    shift: int | None = 0


Flow = frozenset[Inflow]
_NOTHING: Final[Flow] = frozenset()
_PLACED: Final[Flow] = frozenset({Inflow(WHERE_IT_LIES, MASK_64)})
#: Loops and traces that begin alike do the same to the same again and again.
_repeated: Final = lru_cache(1 << 14)


def inflows(
    steps: Sequence[ExecutedInstruction],
    is_constant: Callable[[int], bool],
    text: range = range(0),
    arms: Mapping[int, Sequence[Arms]] = MappingProxyType({}),
) -> list[Flow]:
    """Per step, what decides where it goes, how often it does anything, or which constant it loads.

    Args:
        steps: A trace.
        is_constant: Nothing ever changes what is at an address.
        text: Addresses of the kernel's code. Boots, ftrace and kprobes patch it: whoever reads it
            as a variable is not told what is there by the image.
        arms: Step -> what is otherwise where it has gone the other way.
    """
    followed, flows = FollowedFlow(is_constant, text), list[Flow]()
    met: dict[int, list[tuple[Arms, Flow]]] = defaultdict(list)
    for index, step in enumerate(steps):
        for several, deciding in met.pop(index, ()):
            followed.imply(several, deciding)
        flows.append(followed.take(step))
        for several in arms.get(index, ()):
            met[several.meets].append((several, flows[-1]))
    return flows


@dataclass(frozen=True, slots=True)
class Arms:
    """What the two ways behind a condition leave otherwise where they meet again.

    Attributes:
        meets: The step of the trace at which they do.
        parts: Of registers.
        places: Addresses of bytes.
        msrs: Numbers of MSRs.
    """

    meets: int
    parts: frozenset[Part] = frozenset()
    places: frozenset[int] = frozenset()
    msrs: frozenset[int] = frozenset()


class FollowedFlow:
    """What is where, as far as a trace was followed; the arguments are those of `inflows`."""

    def __init__(self, is_constant: Callable[[int], bool], text: range) -> None:
        self._is_constant, self._text = is_constant, text
        self._registers: dict[Part, Flow] = {}
        self._memory: dict[int, Flow] = {}
        self._msrs: dict[int, Flow] = {}
        self._implied: dict[int, Flow] = {}

    def imply(self, arms: Arms, deciding: Flow) -> None:
        """What a condition decides of what is where, by the way that it leads."""
        flow = _mixed(deciding)
        for part in arms.parts:
            self._registers[part] = _joined(self._register(part), flow)
        for place in arms.places:
            self._implied[place] = _joined(self._implied.get(place, _NOTHING), flow)
        for msr in arms.msrs:
            self._msrs[msr] = _joined(self._msr(msr), flow)

    def copy(self) -> FollowedFlow:
        """The same, to go on with in another way."""
        other = FollowedFlow(self._is_constant, self._text)
        other._registers = self._registers.copy()
        other._memory, other._msrs = self._memory.copy(), self._msrs.copy()
        other._implied = self._implied.copy()
        return other

    def take(self, step: ExecutedInstruction) -> Flow:
        """One more instruction; what decides what it does."""
        # Memory and MSRs go on from one run to the next, registers do not.
        if step.begins:
            kept = self._registers.items()
            self._registers = {part: one for part, one in kept if not _is_of_a_run(part)}
        form = form_of(step.code)
        if form is None:
            return self._take_unknown(step)
        # An input flows through an address too, where what is loaded from there is chosen by it.
        chosen = self._chosen(form, step)
        loaded = self._loaded(step, chosen)
        deciding = self._of(form.decides)
        if form.goes:
            target = _joined(self._of(form.reads), loaded)
            deciding = _joined(deciding, frozenset(filter(_leads, target)))
        # The entry of a table that is loaded decides as a comparison would.
        if chosen and any(map(self._is_from_table, step.accesses)):
            deciding = _joined(deciding, chosen)
        if form.asks in ("CPUID", "RDMSR", "WRMSR"):
            self._ask(form.asks, *step.asked)
        else:
            self._pass_on(form, step, loaded)
        return deciding

    def _take_unknown(self, step: ExecutedInstruction) -> Flow:
        """Of an instruction that cannot be told from others anything may have become anything."""
        origin = f"{_UNKNOWN_FORM} (bytes {step.code[:_SHOWN].hex()})"
        unknown = frozenset({Inflow(origin, MASK_64, None)})
        for name in (*GENERAL_REGISTERS, FLAGS.register, CARRY.register):
            for part in parts_of(name):
                self._put(part, _joined(self._register(part), unknown))
        for access in step.accesses:
            if access.value is None:
                self._store(access, unknown)
        return unknown

    def _pass_on(self, form: InstructionForm, step: ExecutedInstruction, loaded: Flow) -> None:
        whole = _joined(self._of(form.reads), loaded)
        taken = _kept(form, whole)
        if form.places:
            taken = _joined(taken, _PLACED)
        if form.asks is not None:
            origin = _ASKED.get(form.asks, form.asks)
            taken = _joined(_mixed(taken), frozenset({Inflow(origin, MASK_64, None)}))
        for part in form.writes:
            # Flags tell what it did, whether or not it left registers as they were.
            keeps = {FLAGS: form.keeps_flags, CARRY: form.keeps_carry}.get(part, form.keeps)
            before = self._register(part) if keeps else _NOTHING
            self._put(part, _joined(before, _part(taken, part)) if taken else before)
        if CARRY in form.writes and form.carried:
            carried = _mixed(_cut(whole, form.carried))
            self._registers[CARRY] = _joined(self._register(CARRY), carried)
        for part in form.clears:
            self._registers[part] = _NOTHING
        stores = [access for access in step.accesses if access.value is None]
        chosen = _mixed(frozenset(filter(_chooses, self._of(form.chooses)))) if stores else _NOTHING
        for access in stores:
            self._store(access, taken)
            # What another input would have been stored to is as it was, and this would be.
            if chosen:
                near = range(access.address - _AROUND, access.address + access.size + _AROUND)
                self.imply(Arms(0, places=frozenset(near)), chosen)

    def _ask(self, instruction: str, number: int, subleaf: int) -> None:
        """By CPUID, or of an MSR; or leave there what is asked later."""
        if instruction == "CPUID":
            for index, name in enumerate(_CPUID_OUTPUT):
                # The upper halves become zero (SDM vol. 2, CPUID).
                answer = Inflow(Register(number, subleaf, index), MASK_32)
                self._put_whole(name, frozenset({answer}))
            return
        # Of RDMSR and WRMSR `asked` has the number here.
        msr = subleaf
        if instruction == "WRMSR":
            # What is written is EDX:EAX, and read back so (SDM vol. 2, WRMSR and RDMSR).
            halves = _joined(self._of(parts_of("rax")), self._of(parts_of("rdx")))
            self._msrs[msr] = _mixed(halves)
            return
        value = self._msr(msr)
        self._put_whole("rax", _cut(value, MASK_32))
        self._put_whole("rdx", _cut(_moved(value, 32), MASK_32))

    def _msr(self, number: int) -> Flow:
        known = self._msrs.get(number)
        return frozenset({Inflow(Register(number, None), MASK_64)}) if known is None else known

    def _put_whole(self, register: str, taken: Flow) -> None:
        for part in parts_of(register):
            self._put(part, _part(taken, part))

    def _put(self, part: Part, taken: Flow) -> None:
        # A flag is of the whole result, whichever bits that had.
        self._registers[part] = _mixed(taken) if part in (FLAGS, CARRY) else taken

    def _of(self, parts: Sequence[Part]) -> Flow:
        if len(parts) == 1:
            return _moved(self._register(parts[0]), -parts[0].first)
        return _joined(*[_moved(self._register(part), -part.first) for part in parts])

    def _register(self, part: Part) -> Flow:
        known = self._registers.get(part)
        if known is not None:
            return known
        if part in (FLAGS, CARRY):
            return frozenset({Inflow(_FLAGS_ORIGIN, MASK_64, None)})
        name = part.register.upper()
        origin = f"{name}{_AT_THE_START}" if _is_of_a_run(part) else name
        return frozenset({Inflow(origin, part.mask << part.first, part.first)})

    def _chosen(self, form: InstructionForm, step: ExecutedInstruction) -> Flow:
        """What chose where the instruction loads from."""
        if all(access.value is None for access in step.accesses):
            return _NOTHING
        return _mixed(frozenset(filter(_chooses, self._of(form.pointers))))

    def _is_from_table(self, access: Access) -> bool:
        return access.value is not None and self._is_constant(access.address)

    def _loaded(self, step: ExecutedInstruction, chosen: Flow) -> Flow:
        reads = (access for access in step.accesses if access.value is not None)
        return _joined(chosen, *map(self._content, reads))

    def _content(self, access: Access) -> Flow:
        address, size = access.address, access.size
        assert access.value is not None
        content = access.value.to_bytes(size, "little")
        if self._implied:
            places = filter(None, map(self._implied.get, range(address, address + size)))
            return _joined(self._kept_content(address, content), *places)
        return self._kept_content(address, content)

    def _kept_content(self, address: int, content: bytes) -> Flow:
        size = len(content)
        # A variable nothing was stored to is one input; by bytes its bits would be told as several.
        if self._memory.keys().isdisjoint(range(address, address + size)):
            return self._before(address, content)
        return _joined(
            *(
                _moved(self._byte(address + index, content[index : index + 1]), -8 * index)
                for index in range(size)
            )
        )

    def _byte(self, address: int, content: bytes) -> Flow:
        stored = self._memory.get(address)
        return self._before(address, content) if stored is None else stored

    def _before(self, address: int, content: bytes) -> Flow:
        """What no instruction of the trace stored there."""
        ends = address, address + len(content) - 1
        # One that reaches over the end of what is constant is not.
        if all(self._is_constant(at) and at not in self._text for at in ends):
            is_place = len(content) == _POINTER and int.from_bytes(content, "little") >= KERNEL_MAP
            return _PLACED if is_place else _NOTHING
        return frozenset({Inflow(Loaded(address, content), (1 << 8 * len(content)) - 1)})

    def _store(self, access: Access, taken: Flow) -> None:
        places = range(access.address, access.address + access.size)
        for place in places if self._implied else ():
            self._implied.pop(place, None)
        if not taken:
            self._memory.update(dict.fromkeys(places, taken))
            return
        for index, place in enumerate(places):
            self._memory[place] = _cut(_moved(taken, 8 * index), 0xFF)


def _is_of_a_run(part: Part) -> bool:
    """Is it set anew where a run begins?"""
    return part in (FLAGS, CARRY) or part.register in GENERAL_REGISTERS


def _chooses(inflow: Inflow) -> bool:
    """Is it part of an address that could be another, and not where something always is?"""
    if isinstance(inflow.origin, Loaded):
        # Of a pointer some bits may be an index, but not with those that make it an address.
        is_address = inflow.mask & _CANONICAL == _CANONICAL
        return not (is_address and is_pointer(inflow.origin.content))
    if isinstance(inflow.origin, Register):
        return True
    return inflow.origin != WHERE_IT_LIES and not inflow.origin.endswith(_AT_THE_START)


def _leads(inflow: Inflow) -> bool:
    """Does it say where a jump leads: a variable that holds the place, or what that is made of?

    One that is not set leads nowhere, or somebody has put something else in its place.
    """
    origin = inflow.origin
    if inflow.shift == 0 and isinstance(origin, Loaded):
        return is_pointer(origin.content) or origin.is_null
    return inflow.shift is None and _chooses(inflow)


def _kept(form: InstructionForm, taken: Flow) -> Flow:
    """What is left of what an instruction takes."""
    match form.bits:
        case BitsKept.IN_PLACE:
            return taken
        case BitsKept.MASKED:
            return _cut(taken, form.amount)
        case BitsKept.SHIFTED:
            return _cut(_moved(taken, form.amount), MASK_64)
        case BitsKept.MIXED:
            return _mixed(taken)


@_repeated
def _part(taken: Flow, part: Part) -> Flow:
    """Of a value for a whole register, what is in a part of it."""
    return _cut(_moved(taken, part.first), part.mask)


@_repeated
def _mixed(taken: Flow) -> Flow:
    if all(one.shift is None for one in taken):
        return taken
    return _joined(*(frozenset({one._replace(shift=None)}) for one in taken))


@_repeated
def _moved(taken: Flow, bits: int) -> Flow:
    """The same, where bit 0 of the value was bit `bits` before."""
    if not bits or all(one.shift is None for one in taken):
        return taken
    return frozenset(
        one if one.shift is None else Inflow(one.origin, one.mask, one.shift + bits)
        for one in taken
    )


@_repeated
def _cut(taken: Flow, mask: int) -> Flow:
    """Of a value, these bits."""
    if all(one.shift is None for one in taken):
        return taken
    return frozenset(one for inflow in taken if (one := _masked(inflow, mask)).mask)


def _masked(inflow: Inflow, mask: int) -> Inflow:
    if inflow.shift is None:
        return inflow
    own = mask << inflow.shift if inflow.shift >= 0 else mask >> -inflow.shift
    return inflow if not inflow.mask & ~own else inflow._replace(mask=inflow.mask & own)


@_repeated
def _joined(*several: Flow) -> Flow:
    """All of them; bits of one origin that are where they were beside each other are one."""
    filled = set(filter(None, several))
    if len(filled) < 2:
        return filled.pop() if filled else _NOTHING
    masks: dict[tuple[Origin, int | None], int] = {}
    for one in filled:
        for inflow in one:
            key = inflow.origin, inflow.shift
            masks[key] = masks.get(key, 0) | inflow.mask
    return frozenset(Inflow(origin, mask, shift) for (origin, shift), mask in masks.items())
