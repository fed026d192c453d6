// SPDX-License-Identifier: GPL-2.0-or-later
// The counterexample player: one kernel's run, and beside it another kernel in the same order.

import { element } from "../dom.js";
import { kernels } from "../report.js";
import { runOf } from "./run.js";
import { narration, sentences } from "./narration.js";
import { stage } from "./stage.js";
import { stepsTable } from "./steps.js";
import { transport } from "./transport.js";
import { broken, checked, verdictMark } from "../words.js";

/**
 * A player; show(index) goes to a step without reporting it.
 *
 * @param one the case.
 * @param pair kernel whose run it is, and another one or null.
 * @param stepped called with every step that the reader goes to.
 */
export function player(one, [kernel, other], stepped) {
  const panes = [pane(one, kernel, one.results[kernel].run, null)];
  const followed = other === null
    ? undefined
    : (one.results[kernel].followed[other] ?? one.results[other].run);
  if (followed !== undefined && followed !== null) {
    panes.push(pane(one, other, followed, panes[0].run));
  }
  const count = panes[0].run.steps.length;
  const told = element("p", { class: "unseen", "aria-live": "polite", "aria-atomic": "true" });
  const go = (index) => {
    show(index);
    tell(index);
    stepped(index);
  };
  const bar = transport(
    count,
    go,
    (index) => Math.max(...panes.map((each) => sentences(each.run, index).length)),
  );
  const table = stepsTable(panes, (index) => {
    bar.stop();
    go(index);
  });

  function show(index) {
    for (const each of panes) each.show(index);
    bar.show(index);
    table.mark(index);
  }

  function tell(index) {
    const parts = panes.map(
      (each) => (panes.length > 1 ? `${each.name}: ` : "") + sentences(each.run, index),
    );
    told.textContent = `Step ${index} of ${count}. ${parts.join(" ")}`;
  }

  const node = element(
    "div",
    { class: `player ${panes.length > 1 ? "two" : "one"}` },
    bar.node,
    told,
    element("div", { class: "panes" }, ...panes.map((each) => each.node)),
    legend(),
    table.node,
    replayNote(panes[0].run),
  );
  return { node, show, count, stop: bar.stop, ofKey: bar.ofKey };
}

function pane(one, kernel, number, beside) {
  const run = runOf(number);
  const name = kernels[kernel].name;
  const result = one.results[kernel];
  const scene = stage(run);
  const story = element("div", { class: "story" });
  const outcome = element("p", { class: "outcome" });
  const node = element(
    "section",
    { class: "pane", "aria-label": name },
    element("header", {}, element("h4", {}, name), verdictMark(result.verdict)),
    story,
    scene.node,
    outcome,
  );
  return {
    node,
    name,
    run,
    beside,
    show(index) {
      story.replaceChildren(...narration(run, index, beside));
      scene.show(index);
      const isLast = index === run.steps.length;
      outcome.classList.toggle("reached", isLast);
      outcome.textContent = isLast ? outcomeOf(result, run) : "";
    },
  };
}

/** What the order of events comes to. */
function outcomeOf(result, run) {
  if (run.property !== null) return broken(run.property, run.title);
  const harmless = "This order of events does no harm here";
  if (result.verdict === "unknown") return `${harmless}; whether another does is unknown.`;
  if (result.verdict === "at-risk") return `${harmless}; another one does: see its own run.`;
  const isProved = result.check?.[0] === "proved";
  return `${harmless}${isProved ? ", and no other does:" : "."} ${checked(result)}`;
}

function replayNote(run) {
  if (!run.trace) return null;
  const command = element("code", {}, `staleline replay traces/${run.trace}`);
  return element(
    "p",
    { class: "note" },
    "Beside this page the run is kept as an ITF trace, which can be executed again: ",
    command,
  );
}

function legend() {
  return element(
    "p",
    { class: "note hint" },
    "Keyboard: ← and → step, Space plays, Home and End go to the ends. Each key has its colour and shape; an entry is dashed where absent, outlined where clean, filled where dirty. What is next is the next kernel's newest data; what is old turns stale once that is written. A frame marks what the step changed.",
  );
}
