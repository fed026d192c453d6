// SPDX-License-Identifier: GPL-2.0-or-later
// The words of the page, each once.

import { element, mark } from "./dom.js";

const WORDS = { safe: "safe", "at-risk": "at risk", unknown: "unknown" };

/** A verdict as a word and a mark: never as a colour alone. */
export function verdictMark(verdict) {
  return element("span", { class: `verdict ${verdict}` }, mark(`mark-${verdict}`), WORDS[verdict]);
}

export function verdictWord(verdict) {
  return WORDS[verdict];
}

/** For instance "on→off", and whether SEV guests have run. */
export function transition(one) {
  const guests = one.guests ? ", SEV guests" : "";
  return `${state(one.old)}→${state(one.next)}${guests}`;
}

function state(encrypts) {
  return encrypts ? "on" : "off";
}

export function whoFlushes(site) {
  return site === "relocate_kernel" ? "jumping CPU" : "secondaries";
}

/** What happens at a site: [kind for the style, word, what stands beside it]. */
export function flushWords(site) {
  if (site.executed === null) return ["open", "not established", site.required ? "required" : ""];
  if (!site.executed) {
    return site.required ? ["missing", "no WBINVD", "required"] : ["none", "no WBINVD", ""];
  }
  if (site.faults) return ["faults", "WBINVD", "faults"];
  if (site.unneeded) return ["unneeded", "WBINVD", "unneeded"];
  return ["flushes", "WBINVD", site.required ? "required" : ""];
}

/** What a broken property says. */
export function broken(property, title) {
  return `${property} is broken, which says: ${title}`;
}

/** How the answer was established. */
export function checked(result) {
  if (result.check === null) return "";
  const [kind, cpus, states] = result.check;
  const searched = `${states.toLocaleString("en")} states`;
  if (kind === "proved") return `Proved for any number of CPUs (${searched}).`;
  if (kind === "counterexample") return `A shortest run, with ${cpus} CPUs (${searched} searched).`;
  return `Verified for up to ${cpus} CPUs (${searched}).`;
}
