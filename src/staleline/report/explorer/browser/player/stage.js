// SPDX-License-Identifier: GPL-2.0-or-later
// One kernel's run at one moment: a lane per CPU with its caches, and DRAM below all of them.

import { element, icon } from "../dom.js";
import { cacheEntry, setText } from "./entry.js";
import { DRAM_LANE, isWritten, viewKey } from "./run.js";

const WRITE_BACK = "M8 1.5V13 M3.5 8.5 8 13 12.5 8.5";

/** A stage; show(index) sets it to the state after that many steps. */
export function stage(run) {
  const lanes = run.lanes.filter((lane) => lane !== DRAM_LANE).map((lane) => laneOf(run, lane));
  const memory = memoryOf(run);
  const node = element(
    "div",
    { class: "stage" },
    element("div", { class: "lanes" }, ...lanes.map((lane) => lane.node)),
    memory.node,
  );
  return {
    node,
    show(index) {
      const moment = momentOf(run, index);
      for (const part of [...lanes, memory]) part.show(moment);
    },
  };
}

function momentOf(run, index) {
  const moves = index === 0 ? [] : run.steps[index - 1].moves;
  return {
    view: run.views[index],
    changed: run.changed[index],
    isWritten: isWritten(run.views[index]),
    actors: new Set(moves.map((move) => move.actor)),
    writers: new Set(moves.filter((move) => move.where === "cache").map((move) => move.actor)),
  };
}

function laneOf(run, lane) {
  const variables = [...run.views[0].keys()]
    .map((key) => key.split("\n"))
    .filter(([name]) => name === lane);
  const place = element("p", { class: "place" });
  const parts = variables
    .filter(([, variable]) => variable !== "at")
    .map(([, variable]) => partOf(lane, variable));
  const node = element(
    "section",
    { class: "lane" },
    element("h5", {}, lane),
    variables.some(([, variable]) => variable === "at") ? place : null,
    ...parts.map((part) => part.node),
    element(
      "p",
      { class: "write-back", "aria-hidden": "true" },
      icon(WRITE_BACK, "stroked"),
      "writes back",
    ),
  );
  return {
    node,
    show(moment) {
      const key = viewKey(lane, "at");
      setText(place, moment.view.get(key) ?? "", moment.changed.has(key));
      place.classList.toggle("changed", moment.changed.has(key));
      node.classList.toggle("acting", moment.actors.has(lane));
      node.classList.toggle("writing", moment.writers.has(lane));
      for (const part of parts) part.show(moment);
    },
  };
}

/** A cache entry, or a flag of the CPU such as SEAMCALL. */
function partOf(lane, variable) {
  const key = viewKey(lane, variable);
  if (variable === "SEAMCALL") return flagOf(key, variable);
  const entry = cacheEntry(variable);
  return {
    node: entry.node,
    show: (moment) => entry.show(moment.view.get(key), moment.isWritten, moment.changed.has(key)),
  };
}

function flagOf(key, name) {
  const state = element("span", { class: "state" });
  const node = element("p", { class: "flag" }, `${name}: `, state);
  return {
    node,
    show(moment) {
      setText(state, moment.view.get(key), moment.changed.has(key));
      node.classList.toggle("changed", moment.changed.has(key));
    },
  };
}

function memoryOf(run) {
  const key = viewKey(DRAM_LANE, "line");
  const state = element("span", { class: "state" });
  const node = element(
    "section",
    { class: "memory" },
    element("h5", {}, DRAM_LANE),
    element("span", { class: "note" }, `line role: ${run.line}`),
    state,
  );
  return {
    node,
    show(moment) {
      const value = moment.view.get(key);
      node.dataset.holds = value;
      node.classList.toggle("changed", moment.changed.has(key));
      setText(state, value, moment.changed.has(key));
    },
  };
}
