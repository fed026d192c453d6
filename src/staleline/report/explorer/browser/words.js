// SPDX-License-Identifier: GPL-2.0-or-later
// The words of the page, each once.

import { element, mark } from "./dom.js";
import { text } from "./report.js";

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

/** What a result has at one of its sites: [kind for the style, word, what stands beside it]. */
export function flushWords(result, site) {
  const required = requiredWords(result, site);
  if (site.executed === null) return ["open", "not established", required];
  if (!site.executed) return [KINDS_OF_NONE[required], "no WBINVD", required];
  if (site.faults) return ["faults", "WBINVD", "faults"];
  if (text(site.unneeded)) return ["unneeded", "WBINVD", "unneeded"];
  return ["flushes", "WBINVD", required];
}

const DEPENDS = "required: depends";
const KINDS_OF_NONE = { required: "missing", [DEPENDS]: "open", "": "none" };

/** What is not known of it is never told like what is not required. */
function requiredWords(result, site) {
  // Of no safe choice every site would be part, and the verdict says that no flush helps.
  if (!result.attainable) return "";
  if (site.required === null) return DEPENDS;
  return site.required ? "required" : "";
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
