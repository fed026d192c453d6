// SPDX-License-Identifier: GPL-2.0-or-later
// Puts the page together and keeps the address up to date.

import { kernels } from "./report.js";
import { handover } from "./handover.js";
import { firstCase, handovers } from "./handovers.js";
import { address, parseAddress } from "./route.js";

const section = document.getElementById("handover");
const markCase = handovers(document.getElementById("handovers"));
let playing = null;
let shown = null;

/** Milliseconds that the address waits for the reader, as browsers refuse frequent changes. */
const ADDRESS_WAITS = 150;
let waiting = null;

function open(wanted) {
  playing?.stop();
  clearTimeout(waiting);
  shown = wanted.found;
  playing = handover(section, wanted, changed);
  markCase(shown);
}

/** The reader stepped or chose other kernels: the address follows, the page stays. */
function changed({ step, kernel, other, anew = false }) {
  clearTimeout(waiting);
  if (anew) {
    keepAddress(step, kernel, other);
    openKeepingFocus(parseAddress(location.hash));
  } else {
    waiting = setTimeout(() => keepAddress(step, kernel, other), ADDRESS_WAITS);
  }
}

/** Choosing in a list makes the lists anew: the reader stays in the one of the same place. */
function openKeepingFocus(wanted) {
  const lists = () => [...section.querySelectorAll("select")];
  const place = lists().indexOf(document.activeElement);
  open(wanted);
  lists()[place]?.focus();
}

function keepAddress(step, kernel, other) {
  const several = kernels.length > 1;
  history.replaceState(
    null,
    "",
    address(shown, step, several ? kernel : null, several ? other : null),
  );
}

/** A page that was just loaded begins at its address; later the reader sees where it goes. */
function openAddress(behavior) {
  const wanted = parseAddress(location.hash);
  if (!wanted) return false;
  open(wanted);
  const place = wanted.isStep ? document.getElementById("run-title") : section;
  place.scrollIntoView({ behavior });
  section.focus({ preventScroll: true });
  return true;
}

const TYPES_TEXT = "select, textarea, input";

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(TYPES_TEXT)) return;
  const inside = section.contains(event.target);
  if (!inside && event.target !== document.body) return;
  if (event.key === " " && event.target.closest("button, summary, a")) return;
  if (!inside && !event.key.startsWith("Arrow")) return;
  const action = playing?.ofKey(event.key);
  if (action) {
    event.preventDefault();
    action();
  }
});

window.addEventListener("hashchange", () => openAddress("auto"));
if (!openAddress("instant")) open({ found: firstCase(), step: 0 });
