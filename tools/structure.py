# SPDX-License-Identifier: GPL-2.0-or-later
"""How a code base of Python is laid out, in figures: its own, or another's to compare with.

    python -m tools.structure src/staleline tests
    python -m tools.structure /path/to/package /path/to/its/tests

Every import counts: at the top of a file, inside a function, and for types only.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import MappingProxyType

__all__ = [
    "Figures",
    "Layout",
    "circles_of_entries",
    "doubled_file_names",
    "doubled_names",
    "figures",
    "largest_folders",
    "layout",
    "long_lived",
    "longest_chain",
    "strayed_tests",
    "upward_imports",
]

#: Files that Python itself looks for: nobody chose their names.
_NAMED_BY_PYTHON = frozenset({"__init__.py", "__main__.py"})
_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
#: What has names of its own.
_SCOPES = (
    *(ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)
#: Comments that speak to tools.
_FOR_TOOLS = ("SPDX", "noqa", "type:", "pragma", "!", "fmt:")


@dataclass(frozen=True, slots=True)
class Layout:
    """The modules of a package.

    Attributes:
        root: The package's folder.
        files: Dotted name -> file.
        imports: Dotted name -> names of modules of the same package that it imports.
    """

    root: Path
    files: Mapping[str, Path]
    imports: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Figures:
    """What is compared between code bases."""

    modules: int
    lines: int
    largest_folder: int
    longest_chain: int
    circles: int
    doubled_names: int
    doubled_file_names: int
    comments_per_100: float
    test_lines_per_line: float


def layout(root: Path) -> Layout:
    """Read every module of the package in the folder `root`."""
    files = {_name(root, file): file for file in sorted(root.rglob("*.py"))}
    imports = {
        name: frozenset(_imported(name, file, files)) - {name} for name, file in files.items()
    }
    return Layout(root, files, imports)


def _name(root: Path, file: Path) -> str:
    parts = (root.name, *file.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(name: str, file: Path, files: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)
        elif isinstance(node, ast.ImportFrom):
            source = _source(name, file, node)
            for alias in node.names:
                module = f"{source}.{alias.name}"
                if module in files:
                    yield module
                elif source in files:
                    yield source


def _source(name: str, file: Path, node: ast.ImportFrom) -> str:
    """The module that ``from ... import`` names, also where it counts dots."""
    if not node.level:
        return node.module or ""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    above = package[: len(package) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def circles_of_entries(modules: Layout) -> Iterator[tuple[str, list[str]]]:
    """Each folder whose entries, files and folders alike, import each other in a circle.

    Yields:
        The folder's dotted name, and the entries along the circle.
    """
    folders = {name for name, file in modules.files.items() if file.name == "__init__.py"}
    for folder in sorted(folders):
        graph: dict[str, set[str]] = defaultdict(set)
        for name, imported in modules.imports.items():
            entry = _entry(folder, name)
            others = {_entry(folder, other) for other in imported}
            if entry is not None:
                graph[entry] |= {other for other in others if other not in (None, entry)}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            yield folder, list(error.args[1])


def _entry(folder: str, name: str) -> str | None:
    """The file or folder inside `folder` that a module is, or lies in."""
    if name == folder:
        return "__init__"
    if not name.startswith(f"{folder}."):
        return None
    return name.removeprefix(f"{folder}.").partition(".")[0]


def upward_imports(
    modules: Layout, allowed: Mapping[str, frozenset[str]]
) -> Iterator[tuple[str, str]]:
    """Imports between the entries at the top of a package that `allowed` does not name.

    Args:
        modules: The package.
        allowed: File or folder at its top -> those that it may import. One that has no row may
            import none.

    Yields:
        A module, and the module that it imports.
    """
    for name, imported in sorted(modules.imports.items()):
        entry = _entry(modules.root.name, name)
        allowed_here = allowed.get(entry or "", frozenset())
        for other in sorted(imported):
            if _entry(modules.root.name, other) not in {entry, *allowed_here}:
                yield name, other


def longest_chain(modules: Layout) -> list[str]:
    """The longest chain of modules of which each imports the next; none has a circle."""

    @cache
    def chain(name: str) -> tuple[str, ...]:
        return (name, *max((chain(other) for other in modules.imports[name]), key=len, default=()))

    # Follows from below, so that the recursion is no deeper than a chain.
    for name in TopologicalSorter(modules.imports).static_order():
        chain(name)
    chains: list[list[str]] = [list(chain(name)) for name in modules.files]
    return max(chains, key=len)


def largest_folders(modules: Layout) -> Mapping[str, int]:
    """Folder -> number of its modules that somebody named, largest first."""
    counted = Counter(
        str(file.parent.relative_to(modules.root))
        for file in modules.files.values()
        if file.name not in _NAMED_BY_PYTHON
    )
    return dict(counted.most_common())


def doubled_names(
    modules: Layout, alike: Mapping[str, tuple[str, ...]] = MappingProxyType({})
) -> Mapping[str, list[str]]:
    """Public classes and functions of one name -> the modules that define them.

    Args:
        modules: The package.
        alike: Name -> modules and folders, without the package's name, in each of which the name
            means the same; they are not counted.
    """
    where: dict[str, list[str]] = defaultdict(list)
    for module, file in modules.files.items():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if not isinstance(node, _DEFINITIONS) or node.name.startswith("_"):
                continue
            if not _lies_in(module.partition(".")[2], alike.get(node.name, ())):
                where[node.name].append(module)
    return {name: defining for name, defining in sorted(where.items()) if len(defining) > 1}


def _lies_in(module: str, folders: Iterable[str]) -> bool:
    return any(module == folder or module.startswith(f"{folder}.") for folder in folders)


def doubled_file_names(modules: Layout) -> Mapping[str, list[str]]:
    """File names that a top-level package has more than once -> their modules."""
    where: dict[str, list[str]] = defaultdict(list)
    for module, file in modules.files.items():
        if file.name not in _NAMED_BY_PYTHON:
            parts = module.split(".")
            where[f"{parts[1]}: {file.name}"].append(module)
    return {name: several for name, several in sorted(where.items()) if len(several) > 1}


def long_lived(
    modules: Layout, names: frozenset[str], lines: int = 3
) -> Iterator[tuple[str, int, str]]:
    """Names that say nothing of their value, and are used that many lines after they first stand.

    A class's own live as long as what is made of it.

    Args:
        modules: The package.
        names: Such names.
        lines: As many may lie between the first and the last line that has one.

    Yields:
        The module, the first line, and the name.
    """
    for module, file in sorted(modules.files.items()):
        for scope in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(scope, _SCOPES):
                continue
            for name in sorted(names & _bound(scope)):
                where = list(_lines_with(name, scope))
                if isinstance(scope, ast.ClassDef) or max(where) - min(where) > lines:
                    yield module, min(where), name


def _bound(scope: ast.AST) -> frozenset[str]:
    """Names that a scope gives a value, itself or as its parameters."""
    return frozenset(
        _named(node)
        for node in _inside(scope)
        if isinstance(node, ast.arg)
        or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    )


def _inside(scope: ast.AST) -> Iterator[ast.AST]:
    """What lies in a scope; of a scope inside it, that it is there."""
    pending = list(ast.iter_child_nodes(scope))
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, _SCOPES):
            pending += ast.iter_child_nodes(node)


def _lines_with(name: str, scope: ast.AST) -> Iterator[int]:
    """The lines that have the name, but for scopes in which it is another's."""
    for node in _inside(scope):
        if isinstance(node, _SCOPES):
            if name not in _bound(node):
                yield from _lines_with(name, node)
        elif isinstance(node, ast.Name | ast.arg) and _named(node) == name:
            yield node.lineno


def _named(node: ast.Name | ast.arg) -> str:
    return node.id if isinstance(node, ast.Name) else node.arg


def strayed_tests(
    modules: Layout, tests: Layout, elsewhere: frozenset[str] = frozenset()
) -> Iterator[tuple[str, str]]:
    """Tests that do not lie where what they test lies: ``tests/a/b`` is for ``package/a/b``.

    Args:
        modules: The package.
        tests: Its tests; those at their top are of the package as a whole.
        elsewhere: Folders of tests that are of something else.

    Yields:
        A test, and why it is astray.
    """
    folders = _folders(modules)
    for name in sorted(tests.files):
        folder, _, file = name.removeprefix(f"{tests.root.name}.").rpartition(".")
        if not file.startswith("test_") or not folder or folder.split(".")[0] in elsewhere:
            continue
        if folder not in folders:
            yield name, f"nothing lies in {folder}"
            continue
        namesakes = _namesakes(modules, folder.split(".")[0], file.removeprefix("test_"))
        if namesakes and folder not in namesakes:
            yield name, f"what it is named for lies in {', '.join(namesakes)}"
        elif _has_folders(folder, folders):
            imported = _imported_folders(name, modules, tests)
            # One that imports nothing of the package runs its command.
            if imported and folder not in imported:
                yield name, f"it imports nothing that lies in {folder} itself"


def _folders(modules: Layout) -> frozenset[str]:
    """Folders inside the package, dotted, without its name."""
    return frozenset(
        ".".join(file.parent.relative_to(modules.root).parts) for file in modules.files.values()
    )


def _has_folders(folder: str, folders: Iterable[str]) -> bool:
    return any(other.startswith(f"{folder}.") for other in folders)


def _namesakes(modules: Layout, package: str, file: str) -> list[str]:
    """The folders of one package at the top that have a module of this name."""
    return [
        ".".join(path.parent.relative_to(modules.root).parts)
        for path in modules.files.values()
        if path.stem == file and path.relative_to(modules.root).parts[0] == package
    ]


def _imported_folders(name: str, modules: Layout, tests: Layout) -> set[str]:
    """The package's folders that a test imports from, itself or through what tests share."""
    both = {**modules.files, **tests.files}
    pending, reached = [name], set[str]()
    while pending:
        test = pending.pop()
        imported = set(_imported(test, tests.files[test], both)) - reached
        # What conftest.py has is for tests of everything, and tells of none what it tests.
        imported = {other for other in imported if not other.endswith(".conftest")}
        reached |= imported
        # Every test has what conftest.py offers, whether it uses it or not.
        pending += {one for one in imported & tests.files.keys() if not one.endswith(".conftest")}
    return {
        ".".join(modules.files[module].parent.relative_to(modules.root).parts)
        for module in reached & modules.files.keys()
    }


def figures(modules: Layout, tests: Path | None) -> Figures:
    """All of it in figures."""
    texts = [file.read_text(encoding="utf-8") for file in modules.files.values()]
    comments, code = map(sum, zip(*map(_comments_and_code, texts), strict=True))
    lines = sum(text.count("\n") for text in texts)
    tested = 0 if tests is None else sum(_lines(file) for file in tests.rglob("*.py"))
    circles = list(circles_of_entries(modules))
    return Figures(
        modules=len(modules.files),
        lines=lines,
        largest_folder=max(largest_folders(modules).values()),
        longest_chain=0 if circles else len(longest_chain(modules)),
        circles=len(circles),
        doubled_names=len(doubled_names(modules)),
        doubled_file_names=len(doubled_file_names(modules)),
        comments_per_100=round(100 * comments / code, 1),
        test_lines_per_line=round(tested / lines, 2),
    )


def _lines(file: Path) -> int:
    return file.read_text(encoding="utf-8").count("\n")


def _comments_and_code(text: str) -> tuple[int, int]:
    """Lines with a comment for people, and lines of code without docstrings."""
    comments: set[int] = set()
    code: set[int] = set()
    layout_only = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if not token.string.lstrip("#: ").startswith(_FOR_TOOLS):
                comments.add(token.start[0])
        elif token.type not in layout_only:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(comments), len(code - set(_docstring_lines(ast.parse(text))))


def _docstring_lines(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, *_DEFINITIONS)):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            yield from range(first.lineno, (first.end_lineno or first.lineno) + 1)


def main(arguments: Iterable[str]) -> int:
    """Print the figures, and what is not as it should be."""
    root, *tests = map(Path, arguments)
    modules = layout(root)
    measured = figures(modules, tests[0] if tests else None)
    for name in measured.__dataclass_fields__:
        print(f"{name.replace('_', ' '):22} {getattr(measured, name)}")
    for folder, entries in circles_of_entries(modules):
        print(f"circle in {folder}: {' <- '.join(entries)}")
    if not measured.circles:
        print(f"longest chain: {' '.join(longest_chain(modules))}")
    for what, doubled in (
        ("name", doubled_names(modules)),
        ("file name", doubled_file_names(modules)),
    ):
        for name, several in doubled.items():
            print(f"doubled {what} {name}: {', '.join(several)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
