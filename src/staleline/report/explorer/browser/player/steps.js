// SPDX-License-Identifier: GPL-2.0-or-later
// All steps as a table: the list to read, to print and to jump from.

import { element } from "../dom.js";
import { entryWords, keyMark } from "./entry.js";
import { narration } from "./narration.js";
import { DRAM_LANE, isWritten } from "./run.js";

/**
 * The table; mark(index) shows which step is looked at.
 *
 * @param panes {name, run} of each kernel, the one whose run it is first.
 * @param go called with the number of a step to go to.
 */
export function stepsTable(panes, go) {
  const count = panes[0].run.steps.length;
  const rows = Array.from({ length: count }, (_, index) => row(panes, index + 1, go));
  const heads = panes.map((pane) =>
    element("th", { role: "columnheader", scope: "col" }, pane.name)
  );
  const node = element(
    "table",
    { class: panes.length > 1 ? "steps of-two" : "steps", role: "table" },
    element("caption", {}, "All steps, with what each changed"),
    element(
      "thead",
      { role: "rowgroup" },
      element(
        "tr",
        { role: "row" },
        element("th", { role: "columnheader", scope: "col" }, "step"),
        ...heads,
      ),
    ),
    element("tbody", { role: "rowgroup" }, ...rows),
  );
  return {
    node,
    mark(index) {
      rows.forEach((one, number) => {
        if (number + 1 === index) one.setAttribute("aria-current", "step");
        else one.removeAttribute("aria-current");
      });
    },
  };
}

function row(panes, index, go) {
  const button = element(
    "button",
    {
      type: "button",
      class: "number",
      "aria-label": `Go to step ${index}`,
      click: () => go(index),
    },
    String(index),
  );
  return element(
    "tr",
    { role: "row" },
    element("th", { role: "rowheader", scope: "row" }, button),
    ...panes.map((pane) =>
      element(
        "td",
        { role: "cell", "data-label": panes.length > 1 ? pane.name : null },
        ...narration(pane.run, index, pane.beside),
        changes(pane.run, index),
      )
    ),
  );
}

/** The values that a step changed, e.g. "secondary 1  C-bit dirty, old kernel's". */
function changes(run, index) {
  const written = isWritten(run.views[index]);
  const items = [...run.changed[index]].map((key) => {
    const [lane, variable] = key.split("\n");
    return element(
      "li",
      {},
      element("span", { class: "lane-name" }, lane),
      " ",
      ...valueOf(lane, variable, run.views[index].get(key), written),
    );
  });
  return items.length ? element("ul", { class: "changes" }, ...items) : null;
}

function valueOf(lane, variable, value, written) {
  if (lane === DRAM_LANE || variable === "at") return [value];
  if (variable === "SEAMCALL") return [`SEAMCALL: ${value}`];
  return [keyMark(variable), ` ${variable} ${entryWords(value, written)}`];
}
