// SPDX-License-Identifier: GPL-2.0-or-later
// What a step says: sentences, and where the kernel's source or the hardware's manual says so.

import { element } from "../dom.js";

const START = "Start: every CPU runs the old kernel; nothing of the line is in a cache.";

/** The sentences of a step of a run as plain text; index 0 is the start. */
export function sentences(run, index) {
  if (index === 0) return START;
  const step = run.steps[index - 1];
  return step.hindrance
    ? `Not possible here: ${step.hindrance}.`
    : step.moves.map((move) => move.sentence).join(" ");
}

/**
 * The same as elements, with function and source of each sentence.
 *
 * @param beside the run that this one follows, or null: says where it does something else.
 */
export function narration(run, index, beside = null) {
  if (index === 0) return [element("p", { class: "sentence" }, START)];
  const step = run.steps[index - 1];
  if (step.hindrance) return [element("p", { class: "sentence hindered" }, sentences(run, index))];
  const told = step.moves.flatMap((move) => [
    element("p", { class: "sentence" }, move.sentence),
    anchor(move),
  ]);
  const isOther = beside && !sentences(beside, index).startsWith(sentences(run, index));
  return isOther ? [element("p", { class: "instead" }, "Instead:"), ...told] : told;
}

function anchor(move) {
  return element(
    "p",
    { class: "anchor" },
    element("code", {}, move.where),
    move.source ? element("span", {}, ` ${move.source}`) : null,
  );
}
