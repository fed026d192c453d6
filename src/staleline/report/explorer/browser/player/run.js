// SPDX-License-Identifier: GPL-2.0-or-later
// A run with its texts, and what a reader sees after every step of it.

import { text, writtenRun } from "../report.js";

const decoded = new Map();

/**
 * A run: its lanes, steps, and a view per state. steps[i] leads from views[i] to views[i + 1].
 * A view maps lane and variable to a value; changed[i] holds the keys that differ from before.
 */
export function runOf(number) {
  if (!decoded.has(number)) decoded.set(number, decode(writtenRun(number)));
  return decoded.get(number);
}

export function viewKey(lane, variable) {
  return `${lane}\n${variable}`;
}

function decode(written) {
  const steps = written.steps.map(([moves, hindrance]) => ({
    moves: moves.map(decodeMove),
    hindrance: text(hindrance),
  }));
  const start = new Map(
    written.start.map(([lane, variable, value]) => [
      viewKey(text(lane), text(variable)),
      text(value),
    ]),
  );
  const views = [start];
  const changed = [new Set()];
  for (const step of steps) {
    const [view, keys] = after(views.at(-1), step);
    views.push(view);
    changed.push(keys);
  }
  return { ...written, steps, views, changed };
}

function decodeMove([actor, where, source, sentence, changes]) {
  return {
    actor: text(actor),
    where: text(where),
    source: text(source),
    sentence: text(sentence),
    changes: changes.map(([lane, variable, value]) => ({
      lane: text(lane),
      variable: text(variable),
      value: text(value),
    })),
  };
}

function after(before, step) {
  const view = new Map(before);
  for (const { lane, variable, value } of step.moves.flatMap((move) => move.changes)) {
    view.set(viewKey(lane, variable), value);
  }
  return [view, new Set([...view.keys()].filter((key) => view.get(key) !== before.get(key)))];
}

/** Has the next kernel written the line? From then on what is old is stale. */
export function isWritten(view) {
  return [...view].some(
    ([key, value]) => value.endsWith(", next") || (key === DRAM_KEY && value !== "old"),
  );
}

export const DRAM_LANE = "DRAM";
const DRAM_KEY = viewKey(DRAM_LANE, "line");
