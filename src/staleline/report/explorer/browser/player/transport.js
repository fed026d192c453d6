// SPDX-License-Identifier: GPL-2.0-or-later
// Stepping: buttons, a slider, playing, and the keyboard.

import { element, icon } from "../dom.js";

const ICONS = {
  first: "M3 3V13 M13 3 5.5 8 13 13Z",
  back: "M11.5 3 4 8 11.5 13Z",
  play: "M4 2.5 13.5 8 4 13.5Z",
  pause: "M5 3V13 M11 3V13",
  forward: "M4.5 3 12 8 4.5 13Z",
  last: "M13 3V13 M3 3 10.5 8 3 13Z",
};
/** Milliseconds that a step stays: to see it, and per character of its sentence to read it. */
const TO_SEE = 700;
const TO_READ = 22;

/**
 * The control bar; show(index) sets what it says.
 *
 * @param count number of steps.
 * @param moved called with the step to go to.
 * @param lengthOf number of characters to read at a step.
 */
export function transport(count, moved, lengthOf) {
  let index = 0;
  let timer = null;
  const play = control("play", "Play", () => (timer ? stop() : start()));
  const slider = element("input", {
    type: "range",
    min: "0",
    max: String(count),
    value: "0",
    "aria-label": "Step",
    input: () => by(Number(slider.value)),
  });
  const position = element("output", { class: "position" });
  const by = (wanted) => {
    stop();
    moved(Math.min(count, Math.max(0, wanted)));
  };
  const node = element(
    "div",
    { class: "transport", role: "group", "aria-label": "Step through the run" },
    control("first", "First step", () => by(0)),
    control("back", "Step back", () => by(index - 1)),
    play,
    control("forward", "Step forward", () => by(index + 1)),
    control("last", "Last step", () => by(count)),
    slider,
    position,
  );

  function start() {
    if (index === count) moved(0);
    setPlay("pause", "Pause");
    plan();
  }

  function plan() {
    timer = setTimeout(
      () => {
        moved(index + 1);
        if (index < count) plan();
        else stop();
      },
      TO_SEE + TO_READ * lengthOf(index),
    );
  }

  function stop() {
    clearTimeout(timer);
    timer = null;
    setPlay("play", "Play");
  }

  function setPlay(name, label) {
    if (play.getAttribute("aria-label") === label) return;
    play.setAttribute("aria-label", label);
    play.replaceChildren(icon(ICONS[name], "glyph"));
  }

  return {
    node,
    stop,
    show(now) {
      index = now;
      slider.value = String(now);
      slider.setAttribute("aria-valuetext", `${now} of ${count}`);
      position.textContent = `${now} / ${count}`;
    },
    /** What a key does, or undefined. */
    ofKey(key) {
      return {
        ArrowRight: () => by(index + 1),
        ArrowLeft: () => by(index - 1),
        Home: () => by(0),
        End: () => by(count),
        " ": () => (timer ? stop() : start()),
      }[key];
    },
  };
}

function control(name, label, click) {
  return element(
    "button",
    { type: "button", class: `control ${name}`, "aria-label": label, title: label, click },
    icon(ICONS[name], "glyph"),
  );
}
