# SPDX-License-Identifier: GPL-2.0-or-later
"""Does a kexec leave incoherent cache lines behind, and are they written back first?

What programs may use is named here (docs/api.md); everything else may change at any time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from staleline.api import (
        CheckedRule,
        ComparedRules,
        Evidence,
        JudgedMachine,
        ProvedRule,
        ReadImage,
        check_rule,
        compare_rules,
        judge_machine,
        prove_rule,
        read_evidence,
        read_images,
    )
    from staleline.errors import StalelineError
    from staleline.vocabulary import Path, Verdict

    __version__: str

__all__ = [
    "CheckedRule",
    "ComparedRules",
    "Evidence",
    "JudgedMachine",
    "Path",
    "ProvedRule",
    "ReadImage",
    "StalelineError",
    "Verdict",
    "__version__",
    "check_rule",
    "compare_rules",
    "judge_machine",
    "prove_rule",
    "read_evidence",
    "read_images",
]

_ELSEWHERE = {"StalelineError": "errors", "Path": "vocabulary", "Verdict": "vocabulary"}


def __getattr__(name: str) -> Any:
    # Commands import this package too, and are to pay for nothing that they do not use.
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        return version("staleline")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"staleline.{_ELSEWHERE.get(name, 'api')}"), name)
