# SPDX-License-Identifier: GPL-2.0-or-later
"""What the code of an engine accesses is noted while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import unicorn

from staleline.kernel.emulator.execution.end import End, EndKind
from staleline.kernel.emulator.notedstores import NotedStores, flushes_a_line
from staleline.kernel.emulator.refused import LONGEST_INSTRUCTION

if TYPE_CHECKING:
    from staleline.kernel.emulator.execution.run import EngineRun
    from staleline.kernel.emulator.hooks import Hooks

__all__ = ["Noting"]


class Noting:
    """Notes every store, and the reads that are asked for.

    Attributes:
        notes: What was noted.
        looks_left: The run ends when so many more reads were noted; 0 if it does not end so.

    Args:
        engine: Where the code runs.
        hooks: Its hooks.
        run: What it runs.
        code: The bytes of the instruction at an address.
    """

    def __init__(
        self, engine: unicorn.Uc, hooks: Hooks, run: EngineRun, code: Callable[[int], bytes]
    ) -> None:
        self._engine, self._hooks, self._run, self._code = engine, hooks, run, code
        self.notes = NotedStores()
        self.looks_left = 0
        self._executing = 0
        self._flushes_line: dict[int, bool] = {}
        self._reads: set[range] = set()
        hooks.add(unicorn.UC_HOOK_CODE, self._on_instruction)
        hooks.add(unicorn.UC_HOOK_MEM_WRITE, self._on_access)

    def look_at_reads(self, where: range) -> None:
        """From here on reads of these bytes are noted; they are the same for one image."""
        # Most images read nothing that is looked at, and a hook on reads slows all of their code.
        if not self._reads:
            self._hooks.add(unicorn.UC_HOOK_MEM_READ, self._on_access)
            self._engine.ctl_flush_tb()
        self._reads.add(where)

    def forget_code(self, address: int, size: int) -> None:
        """It was rewritten."""
        # An instruction that begins before the bytes may reach into them.
        changed = range(address - LONGEST_INSTRUCTION, address + size)
        if len(changed) < len(self._flushes_line):
            starts = [start for start in changed if start in self._flushes_line]
        else:
            starts = [start for start in self._flushes_line if start in changed]
        for start in starts:
            del self._flushes_line[start]

    def _on_instruction(self, address: int, _size: int) -> None:
        self._executing = address
        if (taken := self._run.terms.taken) is not None:
            taken.read(address, LONGEST_INSTRUCTION)
        flushes = self._flushes_line.get(address)
        if flushes is None:
            flushes = self._flushes_line[address] = flushes_a_line(self._code(address))
        if flushes:
            self.notes.flush_line()

    def _on_access(self, kind: int, address: int, size: int, _: int) -> None:
        is_write = kind == unicorn.UC_MEM_WRITE
        if (taken := self._run.terms.taken) is not None:
            (taken.write if is_write else taken.read)(address, size)
        if not is_write and not any(address in looked_at for looked_at in self._reads):
            return
        self.notes.note(self._executing, address, size, is_write=is_write)
        if self.looks_left and not is_write:
            self.looks_left -= 1
            if not self.looks_left:
                self._run.stop(End(EndKind.LOOKED, self._executing))
