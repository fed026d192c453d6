# SPDX-License-Identifier: GPL-2.0-or-later
"""One fully known machine with one kernel, and what its handovers come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from staleline.verdict.handover.judgement import Judgement
from staleline.vocabulary import WORST_FIRST, Path, Verdict

__all__ = ["NEXT_ENCRYPTS", "Key", "World"]


#: A handover's row: (old kernel encrypts, next kernel encrypts, path).
Key = tuple[bool, bool, Path]
#: The name, in `World.assumed`, of what the next kernel does where its image does not tell.
NEXT_ENCRYPTS = "next_encrypts"


@dataclass(frozen=True, slots=True)
class World:
    """One fully known machine with one kernel, and its handovers."""

    kernel: str
    assumed: Mapping[str, bool | str]
    judgements: Mapping[Key, Judgement]

    @property
    def verdict(self) -> Verdict:
        """The worst of its handovers."""
        return _worst(self.judgements.values())

    def verdict_on(self, path: Path) -> Verdict:
        """The worst of its handovers on one path."""
        return _worst(judged for key, judged in self.judgements.items() if key[2] is path)


def _worst(judgements: Iterable[Judgement]) -> Verdict:
    given = {judgement.verdict for judgement in judgements}
    return next(verdict for verdict in WORST_FIRST if verdict in given)
