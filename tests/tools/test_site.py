# SPDX-License-Identifier: GPL-2.0-or-later
"""The documentation's pages as they are laid out for mkdocs; `make site` builds them."""

import re

from tools.site import outside, stage

from tests.findings import ROOT

README = "[whole](docs/a.md#part) [how](src/how.py) [lost](src/lost.py) [fig](docs/a.png)"


def laid_out(folder):
    for name, text in {
        "README.md": README,
        "docs/a.md": "[up](../README.md) [unit](examples/unit.yaml) `x[i](../src/how.py)`",
        "docs/a.png": "picture",
        "docs/examples/unit.yaml": "a: 1",
        "src/how.py": "how = '````'",
    }.items():
        (folder / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "root" / name).write_text(text)
    stage(folder / "root", folder / "pages")
    return folder / "pages"


def test_a_file_that_a_page_links_to_is_a_page(tmp_path):
    pages = laid_out(tmp_path)
    assert (pages / "README.md").read_text() == README.replace("how.py", "how.py.md")
    assert (
        "# src/how.py\n\n````` python\nhow = '````'\n`````" in (pages / "src/how.py.md").read_text()
    )
    assert "examples/unit.yaml.md" in (pages / "docs/a.md").read_text()
    assert {path.relative_to(pages).as_posix() for path in pages.rglob("*") if path.is_file()} == {
        "README.md",
        "docs/a.md",
        "docs/a.png",
        "docs/examples/unit.yaml.md",
        "src/how.py.md",
    }


def test_a_link_that_leads_nowhere_is_left_for_mkdocs_to_refuse(tmp_path):
    assert "(src/lost.py)" in (laid_out(tmp_path) / "README.md").read_text()


def test_what_a_browser_would_fetch_from_elsewhere_is_told(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="https://example.org">may lead there</a><link rel=stylesheet href=own.css>'
        '<script async src="https://cdn.example/x.js"></script><img alt="" src=//img.example/y>'
    )
    assert list(outside(tmp_path)) == [
        "a.html: https://cdn.example/x.js",
        "a.html: //img.example/y",
    ]


def test_every_page_has_its_place_in_the_navigation():
    listed = set(re.findall(r"[\w/.-]+\.md$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {p.relative_to(ROOT).as_posix() for g in ("*.md", "docs/**/*.md") for p in ROOT.glob(g)}
    assert pages
    assert listed - {"/LICENSE.md"} == pages


def test_every_finding_is_listed_by_its_title():
    findings = ROOT / "docs/findings"
    pages = [page for page in findings.glob("*.md") if page.name != "README.md"]
    titles = {f"- [{page.read_text().splitlines()[0][2:]}]({page.name})" for page in pages}
    assert titles == set((findings / "README.md").read_text().splitlines()[4:])
