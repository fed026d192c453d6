// SPDX-License-Identifier: GPL-2.0-or-later
// The matrix of a machine: transitions × paths × CPUs, a row per kernel.

import { element, unseen } from "./dom.js";
import { casesOf, grouped, kernels, resultsOf, text, writtenRun } from "./report.js";
import { address } from "./route.js";
import { flushWords, transition, verdictMark, whoFlushes } from "./words.js";

/** The table of a machine; only rows with a case that is wanted. */
export function matrix(machine, isWanted) {
  const all = casesOf(machine);
  const paths = [...new Set(all.map((one) => one.path))];
  const rows = grouped(all, transition);
  const wanted = [...rows].filter(([, ofRow]) => ofRow.some(isWanted));
  return element(
    "table",
    { class: "matrix", role: "table" },
    element("caption", { class: "unseen" }, `Handovers of ${machine.name}`),
    head(paths),
    ...wanted.map(([name, ofRow]) => body(name, ofRow, paths)),
  );
}

function head(paths) {
  const groups = paths.map((path) =>
    element("th", { role: "columnheader", scope: "colgroup", colspan: "3", class: "path" }, path)
  );
  const columns = paths.flatMap(() =>
    ["secondaries", "jumping CPU", "verdict"].map((word, index) =>
      element(
        "th",
        { role: "columnheader", scope: "col", class: index === 0 ? "path" : null },
        word,
      )
    )
  );
  const corner = (word) =>
    element("th", { role: "columnheader", scope: "col", rowspan: "2" }, word);
  return element(
    "thead",
    { role: "rowgroup" },
    element(
      "tr",
      { role: "row" },
      corner("old→next"),
      kernels.length > 1 ? corner("kernel") : null,
      ...groups,
    ),
    element("tr", { role: "row" }, ...columns),
  );
}

/** One transition: a row per kernel that has a result in it. */
function body(name, ofRow, paths) {
  const present = [...new Set(ofRow.flatMap((one) => resultsOf(one).map(([kernel]) => kernel)))];
  const lines = present.map((kernel, index) =>
    element(
      "tr",
      { role: "row" },
      index === 0
        ? element(
          "th",
          {
            role: "rowheader",
            scope: "rowgroup",
            rowspan: String(present.length),
            class: "transition",
          },
          name,
        )
        : null,
      kernels.length > 1
        ? element("th", { role: "rowheader", scope: "row", class: "kernel" }, kernels[kernel].name)
        : null,
      ...paths.flatMap((path) =>
        cells(
          ofRow.find((one) => one.path === path),
          kernel,
          path,
        )
      ),
    )
  );
  return element("tbody", { role: "rowgroup" }, ...lines);
}

function cells(one, kernel, path) {
  const result = one?.results[kernel];
  if (!result) return [element("td", { role: "cell", colspan: "3", class: "path none" }, "–")];
  const flushes = result.sites.map((site, index) => {
    const [kind, word, beside] = flushWords(result, site);
    return element(
      "td",
      {
        role: "cell",
        class: `${kind} ${index === 0 ? "path" : ""}`,
        "data-label": `${path}: ${whoFlushes(site.site)}`,
        title: text(site.unneeded) || null,
      },
      element("span", { class: "flush" }, word),
      beside ? element("span", { class: "beside" }, beside) : null,
    );
  });
  const link = element(
    "a",
    { href: address(one, null, kernel) },
    verdictMark(result.verdict),
    unseen(` ${kernels[kernel].name}, ${path} ${transition(one)}`),
  );
  const broken = result.run === null ? null : writtenRun(result.run).property;
  const verdict = element(
    "td",
    { role: "cell", "data-label": `${path}: verdict`, "data-case": one.id },
    link,
    broken === null ? null : element("span", { class: "beside" }, `${broken} is broken`),
    result.attainable ? null : element("span", { class: "beside" }, "no flush helps"),
  );
  return [...flushes, verdict];
}
