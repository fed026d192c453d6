# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the documentation's site from README.md, docs/ and what these link to.

A link to a source file or an example leads to a page that shows it, so that the site is whole by
itself. mkdocs refuses a link or an anchor that leads nowhere; what its theme would have a browser
fetch from elsewhere is refused here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["main", "outside", "stage"]

ROOT = Path(__file__).parents[1]
#: Where mkdocs.yml says that pages are, and that the site goes.
PAGES, SITE = ROOT / "build/pages", ROOT / "build/site"
_LINK = re.compile(r"(?<=\]\()(?P<path>[^)#:]+)(?=[)#])")
_FETCHED = re.compile(
    r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=\"?((?:https?:)?//[^\s\">]+)"
)
_SHOWN = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml"}
_PICTURES = (".png", ".svg")


def stage(root: Path, pages: Path) -> None:
    """Lay out the pages, and a page for each other file that one of them links to."""
    shutil.rmtree(pages, ignore_errors=True)
    for page in (*root.glob("*.md"), *root.glob("docs/**/*.md")):
        _write(pages / page.relative_to(root), _linked_to_pages(page, root, pages))
    for picture in (path for end in _PICTURES for path in root.glob(f"docs/**/*{end}")):
        copy = pages / picture.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, copy)


def _linked_to_pages(page: Path, root: Path, pages: Path) -> str:
    """A page's text; of the files that it links to, those that are no page are made one."""

    def link(match: re.Match[str]) -> str:
        file = (page.parent / match["path"]).resolve()
        # What is no file is left for mkdocs to refuse.
        if file.suffix in (".md", *_PICTURES) or not file.is_file():
            return match["path"]
        name = file.relative_to(root).as_posix()
        _write(pages / f"{name}.md", _shown(name, file.read_text()))
        return f"{match['path']}.md"

    return _LINK.sub(link, page.read_text())


def _shown(name: str, text: str) -> str:
    """A file as a page that no search leads to: its pages do."""
    language = _SHOWN.get(Path(name).suffix, "text")
    head = f"---\nsearch:\n  exclude: true\n---\n# {name}\n"
    return f"{head}\n````` {language}\n{text}\n`````\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def outside(site: Path) -> Iterator[str]:
    """What a browser would fetch from elsewhere to show these pages, with the page."""
    for page in sorted(site.rglob("*.html")):
        for address in _FETCHED.findall(page.read_text()):
            yield f"{page.relative_to(site)}: {address}"


def main() -> int:
    """Build the site into build/site."""
    stage(ROOT, PAGES)
    # Not --quiet: mkdocs 1.6.1 then counts no warning, and --strict refuses nothing.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    # Or the theme has a notice of its makers in every build.
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, check=False, env=quiet, stderr=subprocess.PIPE)  # noqa: S603
    if built.returncode:
        sys.stderr.buffer.write(built.stderr)
        return 1
    for line in (fetched := list(outside(SITE))):
        print(line, file=sys.stderr)
    print(f"{len(list(SITE.rglob('*.html')))} pages in {SITE.relative_to(ROOT)}/index.html")
    return bool(fetched)


if __name__ == "__main__":
    sys.exit(main())
