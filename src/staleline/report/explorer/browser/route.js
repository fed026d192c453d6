// SPDX-License-Identifier: GPL-2.0-or-later
// Addresses: #case/step/kernel-other, where the run is the kernel's (numbers from 1).

import { caseOf } from "./report.js";

/** What an address asks for, or null where it is not one of a case. */
export function parseAddress(hash) {
  const [id, step, pair = ""] = hash.replace(/^#/, "").split("/");
  const found = caseOf(id);
  if (!found) return null;
  const [kernel, other] = pair.split("-").map((number) => Number.parseInt(number, 10) - 1);
  return {
    found,
    step: Math.max(0, Number.parseInt(step, 10) || 0),
    isStep: Boolean(step),
    kernel,
    other,
  };
}

/** The address of a step, or with step null of the handover as a whole. */
export function address(one, step, kernel = null, other = null) {
  const pair = [kernel, other].filter((number) => number !== null).map((number) => number + 1);
  return `#${one.id}/${step ?? ""}${pair.length ? `/${pair.join("-")}` : ""}`;
}
