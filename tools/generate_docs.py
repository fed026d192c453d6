# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes what is made from the code: documents, man pages, completions, a table of answers.

The files below share/ are installed with the package (data-files of pyproject.toml).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from click.shell_completion import ShellComplete, get_completion_class
from tools.explanations_page import explanations_markdown
from tools.man_pages import man_pages

from staleline.cli.main import program
from staleline.policy.atoms import atoms
from staleline.report.words.commonmark import escaped
from staleline.verdict.handover.required import required_toml
from staleline.verdict.policies.platforms import platforms

__all__ = ["FILES", "main"]

ROOT = Path(__file__).parents[1]

#: Shell -> where its completions are looked for.
_COMPLETIONS = {
    "bash": "share/bash-completion/completions/staleline",
    "zsh": "share/zsh/site-functions/_staleline",
    "fish": "share/fish/vendor_completions.d/staleline.fish",
}


def policies_reference() -> str:
    """The page on policy files, with its tables of atoms and platform classes made anew."""
    text = (ROOT / "docs/policies.md").read_text("utf-8")
    atom_rows = (
        (f"`{one.name}`", one.type, one.layer, escaped(one.meaning)) for one in atoms().values()
    )
    class_rows = ((f"`{one.name}`", escaped(one.example)) for one in platforms().values())
    tables = {
        "atoms": _table(("atom", "type", "layer", "meaning"), atom_rows),
        "platforms": _table(("class", "example"), class_rows),
    }
    for name, table in tables.items():
        begin = f"<!-- {name}: made by tools/generate_docs.py -->"
        before, after = text.split(begin)
        _, heading, rest = after.partition("\n## ")
        text = f"{before}{begin}\n\n{table}{heading}{rest}"
    return text


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _completion(shell: str) -> str:
    found = get_completion_class(shell)
    assert found is not None, shell
    complete = found(program, {}, "staleline", "_STALELINE_COMPLETE")
    # What the shells' own classes add is a look at the version of the shell that runs.
    return ShellComplete.source(complete).strip() + "\n"


#: Every file, by its path from the root -> what makes its content.
FILES: Mapping[str, Callable[[], str]] = {
    "docs/explanations.md": explanations_markdown,
    "docs/policies.md": policies_reference,
    "src/staleline/verdict/handover/required.toml": required_toml,
    **{f"share/man/man1/{name}": page.__str__ for name, page in man_pages(program).items()},
    **{path: partial(_completion, shell) for shell, path in _COMPLETIONS.items()},
}


def main() -> int:
    """Write them all."""
    for name, content in FILES.items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
