# SPDX-License-Identifier: GPL-2.0-or-later
"""The page's modules as one script, so that one file needs no other.

The modules import by ``import { name } from "./file.js";``, or from another folder, and export
declarations; both on lines of their own, as the project's are. File names are unique.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter

__all__ = ["bundle"]

_IMPORT = re.compile(r'^import \{[^}]*\} from "\.{1,2}/(?:[\w-]+/)?([\w.-]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?function |class |const )", re.MULTILINE)
_DECLARED = re.compile(r"^(?:export )?(?:async )?(?:function|class|const|let) (\w+)", re.MULTILINE)
_LEFT = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)


def bundle(modules: Mapping[str, str], entry: str) -> str:
    """One script of the entry and everything that it imports.

    Args:
        modules: File name -> source.
        entry: File name of the module that starts.

    Raises:
        ValueError: A module is missing or unused, uses another form of import or export, or
            declares a name that another has declared.
    """
    # Ends as well where modules import in a circle: `CycleError` is a `ValueError`.
    order = tuple(TopologicalSorter(_imports(modules, entry)).static_order())
    unused = set(modules) - set(order)
    if unused:
        raise ValueError(f"nobody imports {', '.join(sorted(unused))}")
    # In the script all share one scope.
    _refuse_repeated_names(modules)
    return "\n".join(_inlined(name, modules[name]) for name in order)


def _imports(modules: Mapping[str, str], entry: str) -> dict[str, set[str]]:
    imports: dict[str, set[str]] = {}
    wanted = [entry]
    while wanted:
        name = wanted.pop()
        if name not in modules:
            raise ValueError(f"no module {name}")
        if name not in imports:
            imports[name] = set(_IMPORT.findall(modules[name]))
            wanted.extend(imports[name])
    return imports


def _refuse_repeated_names(modules: Mapping[str, str]) -> None:
    declared: dict[str, str] = {}
    for name, word in _declarations(modules):
        if word in declared:
            raise ValueError(f"{name} and {declared[word]} both declare {word}")
        declared[word] = name


def _declarations(modules: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, source in modules.items():
        for word in _DECLARED.findall(source):
            yield name, word


def _inlined(name: str, source: str) -> str:
    """The module without its imports and the word ``export``."""
    text = _EXPORT.sub("", _IMPORT.sub("", source))
    # Another form of import or export would be an error of syntax, and only in the browser.
    left = _LEFT.search(text)
    if left is not None:
        raise ValueError(f"{name}: cannot inline {left.group()!r}")
    return text
