// SPDX-License-Identifier: GPL-2.0-or-later
// A table of many rows, of which those that a filter leaves are shown a hundred at a time.

import { element } from "../dom.js";
import { verdictWord } from "../words.js";

const AT_ONCE = 100;
const VERDICTS_OF_ROWS = ["at-risk", "unknown", "safe"];

/**
 * Fills a section.
 *
 * @param about its title, heads and rows; a row has a verdict, words to be found by, and cells.
 */
export function listing(section, about) {
  const name = section.id;
  const search = element("input", { type: "search", id: `${name}-search`, autocomplete: "off" });
  const verdict = element(
    "select",
    { id: `${name}-verdict` },
    element("option", { value: "" }, "any verdict"),
    ...VERDICTS_OF_ROWS.map((value) => element("option", { value }, verdictWord(value))),
  );
  const told = element("output", { for: `${name}-search ${name}-verdict` });
  const body = element("tbody");
  const more = element("button", { type: "button", class: "fleet-button" }, "Show more");
  // What is not shown is told on paper as well, where there is nothing to press.
  const rest = element("span", { class: "note" });
  const foot = element("p", { class: "more" }, rest, " ", more);
  let left = [];
  let shown = 0;

  function filter() {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    left = about.rows.filter(
      (row) =>
        (!verdict.value || row.verdict === verdict.value) &&
        wanted.every((word) => row.words.includes(word)),
    );
    body.replaceChildren();
    shown = 0;
    const all = about.counted(about.rows);
    told.textContent = left.length === about.rows.length ? all : `${about.counted(left)} of ${all}`;
    add();
  }

  function add() {
    body.append(...left.slice(shown, shown + AT_ONCE).map(tableRow));
    shown = Math.min(shown + AT_ONCE, left.length);
    foot.hidden = shown === left.length;
    rest.textContent = `${number(shown)} of ${number(left.length)} rows are shown.`;
    more.textContent = `Show more (${number(left.length - shown)} left)`;
  }

  let waiting = null;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 120);
  });
  verdict.addEventListener("change", filter);
  more.addEventListener("click", add);

  section.append(
    element("h2", { id: `${name}-title` }, about.title),
    about.lead ? element("p", { class: "note" }, about.lead) : "",
    element(
      "div",
      { class: "filters" },
      element("label", { for: search.id }, `Find ${about.what}`, search),
      about.verdicts === false ? null : element("label", { for: verdict.id }, "Verdict", verdict),
      told,
    ),
    element(
      "table",
      { class: "listed", "aria-labelledby": `${name}-title` },
      element(
        "thead",
        {},
        element("tr", {}, ...about.heads.map((head) => element("th", { scope: "col" }, head))),
      ),
      body,
    ),
    foot,
  );
  section.hidden = false;
  filter();
}

function number(value) {
  return value.toLocaleString("en");
}

function tableRow(row) {
  return element(
    "tr",
    {},
    ...row.cells().map(([label, content, kind = ""]) =>
      element("td", { "data-label": label, class: kind }, content)
    ),
  );
}
