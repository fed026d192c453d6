# SPDX-License-Identifier: GPL-2.0-or-later
"""One fully known machine with one kernel, and what its handovers come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from staleline.verdict.handover.judgement import Judgement
from staleline.vocabulary import WORST_FIRST, Path, Verdict

__all__ = ["NEXT_ENCRYPTS", "JudgedHandovers", "Key", "World"]


#: A handover's row: (old kernel encrypts, next kernel encrypts, path).
Key = tuple[bool, bool, Path]
#: The name, in `World.assumed`, of what the next kernel does where its image does not tell.
NEXT_ENCRYPTS = "next_encrypts"


@dataclass(frozen=True)
class JudgedHandovers:
    """The handovers of a world; worlds that differ in nothing that matters share theirs."""

    judgements: Mapping[Key, Judgement]

    @cached_property
    def verdict(self) -> Verdict:
        """The worst of all."""
        return _worst(self.judgements.values())

    @cached_property
    def by_path(self) -> Mapping[Path, Verdict]:
        """The worst of each path."""
        return {
            path: _worst(judged for key, judged in self.judgements.items() if key[2] is path)
            for path in dict.fromkeys(key[2] for key in self.judgements)
        }


@dataclass(frozen=True, slots=True)
class World:
    """One fully known machine with one kernel, and its handovers."""

    kernel: str
    assumed: Mapping[str, bool | str]
    handovers: JudgedHandovers

    @property
    def judgements(self) -> Mapping[Key, Judgement]:
        """Of its handovers."""
        return self.handovers.judgements

    @property
    def verdict(self) -> Verdict:
        """The worst of its handovers."""
        return self.handovers.verdict

    def verdict_on(self, path: Path) -> Verdict:
        """The worst of its handovers on one path."""
        return self.handovers.by_path[path]


def _worst(judgements: Iterable[Judgement]) -> Verdict:
    given = {judgement.verdict for judgement in judgements}
    return next(verdict for verdict in WORST_FIRST if verdict in given)
