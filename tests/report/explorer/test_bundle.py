# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules become one script in the order in which they need each other."""

from __future__ import annotations

import pytest

from staleline.report.explorer.bundle import bundle

LEAF = "export const one = 1;\n"
MIDDLE = 'import { one } from "./leaf.js";\nexport function two() {\n  return one + one;\n}\n'
MAIN = 'import { one } from "./leaf.js";\nimport { two } from "./middle.js";\none + two();\n'


def test_each_module_follows_what_it_imports() -> None:
    assert bundle({"main.js": MAIN, "middle.js": MIDDLE, "leaf.js": LEAF}, "main.js") == (
        "const one = 1;\n\nfunction two() {\n  return one + one;\n}\n\none + two();\n"
    )


@pytest.mark.parametrize(
    ("modules", "says"),
    [
        ({"main.js": MAIN, "middle.js": MIDDLE}, "no module leaf.js"),
        ({"main.js": "1;\n", "leaf.js": LEAF}, "nobody imports leaf.js"),
        ({"main.js": 'import "./leaf.js";\n', "leaf.js": LEAF}, "nobody imports leaf.js"),
        ({"main.js": "export default 1;\n"}, "cannot inline 'export default 1;'"),
        ({"main.js": 'import x from "./x.js";\n'}, "cannot inline"),
        (
            {"main.js": 'import { one } from "./leaf.js";\nconst one = 2;\n', "leaf.js": LEAF},
            "both declare one",
        ),
    ],
)
def test_what_would_not_be_the_same_program_is_refused(modules: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        bundle(modules, "main.js")


def test_modules_that_import_each_other_are_refused() -> None:
    here = 'import { b } from "./b.js";\nexport const a = 1;\n'
    there = 'import { a } from "./a.js";\nexport const b = 1;\n'
    with pytest.raises(ValueError, match="cycle"):
        bundle({"a.js": here, "b.js": there}, "a.js")
