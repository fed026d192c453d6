// SPDX-License-Identifier: GPL-2.0-or-later
// All handovers by machine. A machine's table is made when it is first opened, so that a report
// of many machines is as quick as one of few.

import { element } from "./dom.js";
import { cases, casesOf, kernels, machines, resultsOf, VERDICTS } from "./report.js";
import { matrix } from "./matrix.js";
import { verdictWord } from "./words.js";

/** More than these are worth filtering. */
const FEW_CASES = 8;
/** So many machines are shown open. */
const FEW_MACHINES = 3;

const FILTERS = {
  all: ["all", () => true],
  "at-risk": ["at risk", (one) => has(one, "at-risk")],
  unknown: ["unknown", (one) => has(one, "unknown")],
  differ: [
    "kernels differ",
    (one) => new Set(resultsOf(one).map(([, result]) => result.verdict)).size > 1,
  ],
};

/** Fill the section; returns a function that shows which case is looked at. */
export function handovers(section) {
  const panels = machines.map((machine) => panel(machine));
  const list = element("div", {}, ...panels.map((one) => one.node));
  const filter = cases.length > FEW_CASES
    ? filters((isWanted) => panels.forEach((one) => one.show(isWanted)))
    : null;
  section.append(
    element("h2", { id: "handovers-title" }, "Handovers"),
    guide(),
    ...(filter ? [filter] : []),
    list,
  );
  section.hidden = false;
  return (current) => panels.forEach((one) => one.mark(current));
}

function panel(machine) {
  const all = casesOf(machine);
  const place = element("div", { class: "scroll" });
  const counts = element("span", { class: "counts" });
  const node = element(
    "details",
    { class: "machine", open: machines.length <= FEW_MACHINES },
    element(
      "summary",
      {},
      element("strong", { class: "name" }, machine.name),
      " ",
      element("span", { class: "note" }, machine.note),
      counts,
    ),
    place,
  );
  let isWanted = FILTERS.all[1];
  let marked = null;
  let made = null;
  const make = () => {
    if (!node.open || made === isWanted) return;
    made = isWanted;
    place.replaceChildren(matrix(machine, isWanted));
    markLinks(place, marked);
  };
  node.addEventListener("toggle", make);
  counts.append(...tally(all));
  make();
  return {
    node,
    show(wanted) {
      isWanted = wanted;
      node.hidden = !all.some(wanted);
      make();
    },
    mark(current) {
      marked = current;
      if (current.machine === machine.id) node.open = true;
      make();
      markLinks(place, current);
    },
  };
}

function markLinks(place, current) {
  for (const cell of place.querySelectorAll("td[data-case]")) {
    const link = cell.firstElementChild;
    if (current && cell.dataset.case === current.id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

/** How many results of each verdict, the worst first. */
function tally(all) {
  const verdicts = all.flatMap((one) => resultsOf(one).map(([, result]) => result.verdict));
  return VERDICTS.map((verdict) => [verdict, verdicts.filter((one) => one === verdict).length])
    .filter(([, count]) => count)
    .map(([verdict, count]) =>
      element("span", { class: `count ${verdict}` }, `${count} ${verdictWord(verdict)}`)
    );
}

function has(one, verdict) {
  return resultsOf(one).some(([, result]) => result.verdict === verdict);
}

function filters(changed) {
  const wanted = Object.entries(FILTERS).filter(
    ([name, [, holds]]) =>
      name === "all" || (name === "differ" && kernels.length < 2 ? false : cases.some(holds)),
  );
  const choices = wanted.map(([name, [word, holds]]) => {
    const input = element("input", {
      type: "radio",
      name: "filter",
      value: name,
      checked: name === "all",
      change: () => changed(holds),
    });
    const count = cases.filter(holds).length;
    return element(
      "label",
      {},
      input,
      element("span", {}, `${word} `, element("small", {}, String(count))),
    );
  });
  return element("fieldset", { class: "filters" }, element("legend", {}, "Show"), ...choices);
}

function guide() {
  return element(
    "p",
    { class: "note hint" },
    "Per path, what the old kernel executes on the secondaries and on the jumping CPU, and what the handover requires. A verdict opens its handover below.",
  );
}

/** The case to show first: the worst, and among those one on which the kernels differ. */
export function firstCase() {
  const verdict = VERDICTS.find((each) => cases.some((one) => has(one, each)));
  const wrong = cases.filter((one) => has(one, verdict));
  return wrong.find(FILTERS.differ[1]) ?? wrong[0] ?? cases[0];
}
