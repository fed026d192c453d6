// SPDX-License-Identifier: GPL-2.0-or-later
// One cache entry: which key, what state, whose value. Keys differ in shape as well as
// colour, states in outline as well as word.

import { element, icon, unseen } from "../dom.js";

/** What a key looks like: an outline per alias. */
const SHAPES = {
  plain: ["plain", "M8 2a6 6 0 1 0 0 12a6 6 0 1 0 0-12Z"],
  "C-bit": ["cbit", "M8 1 15 8 8 15 1 8Z"],
  "guest ASID": ["foreign", "M8 1.5 15 14H1Z"],
  "private KeyID": ["foreign", "M8 1.5 15 14H1Z"],
  only: ["only", "M2.5 2.5H13.5V13.5H2.5Z"],
};

export function keyMark(alias) {
  const [name, path] = SHAPES[alias] ?? SHAPES.only;
  return icon(path, `key ${name}`);
}

export function keyClass(alias) {
  return (SHAPES[alias] ?? SHAPES.only)[0];
}

/** An entry that can be set to any value, e.g. "dirty, old". */
export function cacheEntry(alias) {
  const state = element("span", { class: "state" });
  const node = element(
    "div",
    { class: `entry ${keyClass(alias)}` },
    keyMark(alias),
    element("span", { class: "alias" }, alias),
    state,
  );
  return {
    node,
    show(value, isWritten, isChanged) {
      const [held, whose] = value.split(", ");
      node.dataset.held = held;
      node.dataset.whose = whoseWord(whose, isWritten);
      setText(state, entryWords(value, isWritten), isChanged);
      node.classList.toggle("changed", isChanged);
    },
  };
}

/** For instance "dirty, stale": what is old is stale once the next kernel has written. */
export function entryWords(value, isWritten) {
  const [held, whose] = value.split(", ");
  return whose ? `${held}, ${whoseWord(whose, isWritten)}` : held;
}

function whoseWord(whose, isWritten) {
  return whose === "old" && isWritten ? "stale" : (whose ?? "");
}

/** Text, and for screen readers whether the step changed it. */
export function setText(node, words, isChanged) {
  node.replaceChildren(words, ...(isChanged ? [unseen(" (changed)")] : []));
}
