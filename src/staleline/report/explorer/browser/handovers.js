// SPDX-License-Identifier: GPL-2.0-or-later
// All handovers by machine. A machine's table is made when it is first opened, so that a report
// of many machines is as quick as one of few.

import { element } from "./dom.js";
import { cases, casesOf, kernels, machines, resultsOf, VERDICTS } from "./report.js";
import { matrix } from "./matrix.js";
import { transition, verdictWord } from "./words.js";

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
  const panels = worstFirst(machines).map((machine) => panel(machine));
  const list = element("div", {}, ...panels.map((one) => one.node));
  section.append(
    element("h2", { id: "handovers-title" }, "Handovers"),
    guide(),
    ...(cases.length > FEW_CASES ? narrowing(panels) : []),
    list,
  );
  section.hidden = false;
  return (current) => panels.forEach((one) => one.mark(current));
}

/** A search and filters, and how many handovers they leave: on paper that alone is left of them. */
function narrowing(panels) {
  const told = element("output", { class: "note", for: "search" });
  const tell = () => {
    const left = panels.reduce((sum, one) => sum + one.count(), 0);
    const all = several(cases.length, "handover");
    told.textContent = left === cases.length ? all : `${left} of ${all} shown`;
  };
  const each = (change) => {
    panels.forEach(change);
    tell();
  };
  tell();
  return [
    search((isFound) => each((one) => one.find(isFound))),
    filters((isWanted) => each((one) => one.show(isWanted))),
    element("p", {}, told),
  ];
}

function several(count, what) {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
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
  let isFound = () => true;
  const both = () => {
    const [wanted, found] = [isWanted, isFound];
    return (one) => wanted(one) && found(one);
  };
  let chosen = both();
  let marked = null;
  let made = null;
  const make = () => {
    if (!node.open || made === chosen) return;
    made = chosen;
    place.replaceChildren(matrix(machine, chosen));
    markLinks(place, marked);
  };
  const choose = () => {
    chosen = both();
    node.hidden = !all.some(chosen);
    make();
  };
  node.addEventListener("toggle", make);
  counts.append(...tally(all));
  make();
  return {
    node,
    count: () => all.filter(chosen).length,
    show(wanted) {
      isWanted = wanted;
      choose();
    },
    find(found) {
      isFound = found;
      choose();
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

/** Machines by their worst verdict; else in the order of the report. */
function worstFirst(all) {
  const worst = new Map(
    all.map((machine) => [
      machine,
      VERDICTS.findIndex((verdict) => casesOf(machine).some((one) => has(one, verdict))),
    ]),
  );
  return [...all].sort((one, other) => worst.get(one) - worst.get(other));
}

/** Finds handovers by words of their machine, path, transition and verdict. */
function search(changed) {
  const input = element("input", {
    type: "search",
    id: "search",
    autocomplete: "off",
    input: () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      changed((one) => words.every((word) => wordsOf(one).includes(word)));
    },
  });
  return element("p", { class: "search" }, element("label", { for: "search" }, "Find "), input);
}

function wordsOf(one) {
  const machine = machines.find((each) => each.id === one.machine);
  // As people type them, too: whoever finds nothing believes that there is nothing.
  const verdicts = resultsOf(one)
    .flatMap(([, { verdict }]) => [verdictWord(verdict), verdict]);
  const states = [transition(one), transition(one).replace("→", "->")];
  return [machine.name, machine.note, one.path, ...states, ...verdicts].join(" ").toLowerCase();
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
    "Per path, what the old kernel executes on the secondaries and on the jumping CPU, and what the handover requires. A verdict opens its handover above.",
  );
}

/** The case to show first: the worst, and among those one on which the kernels differ. */
export function firstCase() {
  const verdict = VERDICTS.find((each) => cases.some((one) => has(one, each)));
  const wrong = cases.filter((one) => has(one, verdict));
  return wrong.find(FILTERS.differ[1]) ?? wrong[0] ?? cases[0];
}
