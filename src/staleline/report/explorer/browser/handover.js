// SPDX-License-Identifier: GPL-2.0-or-later
// One handover: what it is, its four layers, and the run that breaks it.

import { element } from "./dom.js";
import { kernels, machineOf, resultsOf } from "./report.js";
import { layers } from "./layers.js";
import { player } from "./player/player.js";
import { transition } from "./words.js";

/**
 * Fill the section with a case.
 *
 * @param wanted {found, step, kernel, other} of the address; kernels may be missing.
 * @param changed called with {step, kernel, other} whenever the reader changes one of them.
 * @returns the player, or null where no run breaks the handover.
 */
export function handover(section, wanted, changed) {
  const one = wanted.found;
  const pair = pairOf(one, wanted.kernel, wanted.other);
  const made = pair &&
    player(one, pair, (step) => changed({ step, kernel: pair[0], other: pair[1] }));
  const step = made ? Math.min(wanted.step, made.count) : 0;
  made?.show(step);
  const parts = [
    element("h2", { id: "handover-title" }, named(one), " ", onMachine(one)),
    layers(one),
    element(
      "h3",
      { id: "run-title" },
      ...(made ? [`A run that breaks ${named(one)} `, onMachine(one)] : ["No run breaks it"]),
    ),
    ...(made
      ? [chooser(one, pair, (next) => changed({ step: 0, ...next, anew: true })), made.node]
      : [reasonForNone(one)]),
  ];
  section.replaceChildren(...parts.filter(Boolean));
  section.hidden = false;
  return made;
}

/** For instance "kexec on→off". */
function named(one) {
  return `${one.path} ${transition(one)}`;
}

function onMachine(one) {
  return element("span", { class: "on" }, `on ${machineOf(one.machine).name}`);
}

/** The kernel whose run is shown, and the one beside it; null where no kernel has a run. */
function pairOf(one, kernel, other) {
  const broken = brokenOf(one);
  if (!broken.length) return null;
  const chosen = broken.includes(kernel) ? kernel : broken[0];
  const others = othersOf(one, chosen);
  const beside = others.includes(other)
    ? other
    : (others.find((each) => !broken.includes(each)) ?? others[0] ?? null);
  return [chosen, beside];
}

function brokenOf(one) {
  return resultsOf(one)
    .filter(([, result]) => result.run !== null)
    .map(([kernel]) => kernel);
}

/** Kernels that can be shown beside it: those with a run in the same order of events. */
function othersOf(one, kernel) {
  const { followed, run } = one.results[kernel];
  return resultsOf(one)
    .filter(
      ([other, result]) =>
        other !== kernel && (followed[other] !== undefined || result.run === run),
    )
    .map(([other]) => other);
}

/** Which kernel's run, and which kernel beside it; nothing to choose with one kernel. */
function chooser(one, [kernel, other], chosen) {
  const broken = brokenOf(one);
  const others = othersOf(one, kernel);
  if (broken.length < 2 && others.length < 2) return null;
  return element(
    "div",
    { class: "chooser" },
    select("Run that breaks", broken, kernel, (next) => chosen({ kernel: next, other: null })),
    others.length
      ? select("beside it", others, other, (next) => chosen({ kernel, other: next }))
      : null,
  );
}

function select(label, options, current, chosen) {
  const items = options.map((number) =>
    element(
      "option",
      { value: String(number), selected: number === current },
      kernels[number].name,
    )
  );
  const node = element("select", { change: () => chosen(Number(node.value)) }, ...items);
  return element("label", {}, `${label} `, node);
}

function reasonForNone(one) {
  const verdicts = resultsOf(one).map(([, result]) => result.verdict);
  const settled = verdicts.every((verdict) => verdict === "safe");
  return element(
    "p",
    {},
    settled
      ? "No order of events was found that breaks a property; the verdict above says how far that is proved."
      : "What is missing leaves it open whether one does: see the verdict above for what to get.",
  );
}
