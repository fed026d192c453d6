// SPDX-License-Identifier: GPL-2.0-or-later
// The four layers of one handover, which are never merged.

import { element } from "./dom.js";
import { factsOf, kernels, machineOf, resultsOf, text } from "./report.js";
import { broken, checked, flushWords, transition, verdictMark, whoFlushes } from "./words.js";
import { runOf } from "./player/run.js";

export function layers(one) {
  const known = (name) => factsOf(machineOf(one.machine), name);
  return element(
    "div",
    { class: "layers", role: "group", "aria-label": "The four layers" },
    layer("Hardware can", facts(known("hardware"))),
    layer("Firmware enabled", facts(known("firmware"))),
    layer("Kernel does", [...does(one), ...told(known("kernel"))]),
    layer(
      "Verdict",
      resultsOf(one).map(([kernel, result]) => verdict(kernel, result)),
    ),
  );
}

function layer(title, children) {
  return element("section", { class: "layer" }, element("h3", {}, title), ...children);
}

/** What bears on verdicts, briefly; everything with meaning and evidence is folded away. */
function facts(all) {
  const decisive = all.filter(([, , , , decides]) => decides);
  return [briefly(decisive), folded(`All ${all.length}, with evidence`, atLength(all))];
}

function briefly(all) {
  const rows = all.flatMap(([name, , value]) => [
    element("dt", {}, element("code", {}, name)),
    element("dd", { class: kindOf(value) }, value),
  ]);
  return element("dl", { class: "brief" }, ...rows);
}

function atLength(all) {
  const rows = all.flatMap(([name, meaning, value, source]) => [
    element("dt", {}, element("code", {}, name), " ", element("span", { class: "note" }, meaning)),
    element(
      "dd",
      { class: kindOf(value) },
      value,
      source ? element("span", { class: "source" }, source) : null,
    ),
  ]);
  return element("dl", {}, ...rows);
}

function kindOf(value) {
  if (value === "unknown") return "open";
  return value === "no" || value === "0" ? "none" : "holds";
}

function folded(summary, ...children) {
  return element("details", {}, element("summary", {}, summary), ...children);
}

function does(one) {
  const uses = one.old ? "uses the C-bit" : "does not use the C-bit";
  const next = one.next ? "will use it" : "will not";
  const common = element(
    "p",
    {},
    `${transition(one)}: the old kernel ${uses} for its own memory, the next kernel ${next}.`,
  );
  return [common, ...resultsOf(one).map(([kernel, result]) => sites(kernel, result))];
}

function sites(kernel, result) {
  const rows = result.sites.flatMap((site) => {
    const [kind, word, beside] = flushWords(result, site);
    const why = text(site.unneeded);
    return [
      element(
        "dt",
        {},
        element("code", {}, site.site),
        " ",
        element("span", { class: "note" }, whoFlushes(site.site)),
      ),
      element(
        "dd",
        { class: kind },
        beside ? `${word}, ${beside}` : word,
        why ? element("span", { class: "source" }, why) : null,
      ),
    ];
  });
  return element(
    "div",
    { class: "does" },
    element("h4", {}, kernels[kernel].name),
    element("dl", {}, ...rows, ...reported(result)),
    rule(kernels[kernel]),
  );
}

/** When a secondary that flushes is reported stopped. */
function reported(result) {
  if (result.reported === null) return [];
  const isEarly = result.reported === "before-flush";
  return [
    element("dt", { class: "note" }, "secondaries reported stopped"),
    element(
      "dd",
      { class: isEarly && result.verdict === "at-risk" ? "missing" : null },
      isEarly ? "before their WBINVD" : "after their WBINVD",
    ),
  ];
}

function rule(kernel) {
  if (!kernel.rule.length) return element("p", { class: "source" }, kernel.note);
  const rows = kernel.rule.flatMap(([label, value]) => [
    element("dt", {}, label),
    element("dd", {}, label.startsWith("WBINVD") ? element("code", {}, value) : value),
  ]);
  return folded(
    "Its rule",
    element("p", { class: "note" }, kernel.note),
    element("dl", { class: "rule" }, ...rows),
  );
}

function told(all) {
  return all.length ? [folded("What it was told and has run", atLength(all))] : [];
}

function verdict(kernel, result) {
  return element(
    "div",
    { class: "does" },
    element("h4", {}, kernels[kernel].name),
    element("p", {}, verdictMark(result.verdict)),
    ...reasons(result).map((reason) => element("p", {}, reason)),
    element("p", { class: "source" }, checked(result)),
  );
}

function reasons(result) {
  const because = text(result.because);
  if (because) return [`Because ${because}.`];
  if (result.unknown.length) return result.unknown.map((number) => `Missing: ${text(number)}.`);
  if (result.run === null) return [];
  const { property, title, line } = runOf(result.run);
  const helpless = result.attainable ? [] : ["No choice of flushes makes this handover safe."];
  return [broken(property, title), `Line role: ${line}.`, ...helpless];
}
