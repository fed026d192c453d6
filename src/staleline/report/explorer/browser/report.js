// SPDX-License-Identifier: GPL-2.0-or-later
// The data of the page, staleline/explorer/1: texts are numbers until somebody reads them.

const data = JSON.parse(document.getElementById("report").textContent);

export const machines = data.machines;
export const kernels = data.kernels;
export const cases = data.cases.map((one) => ({ ...one, results: resolved(one.results) }));

const casesById = new Map(cases.map((one) => [one.id, one]));
const machinesById = new Map(machines.map((one) => [one.id, one]));
const casesByMachine = grouped(cases, (one) => one.machine);

function resolved(results) {
  return Object.fromEntries(
    Object.entries(results).map(([kernel, number]) => [kernel, data.results[number]]),
  );
}

/** The facts of one layer of a machine: [name, meaning, value, evidence, decides]. */
export function factsOf(machine, layer) {
  return machine.layers[layer].map((number) => data.facts[number]);
}

/** The text with a number. */
export function text(number) {
  return data.texts[number];
}

/** What the file says of a run. */
export function writtenRun(number) {
  return data.runs[number];
}

/** The case with this address, or undefined. */
export function caseOf(id) {
  return casesById.get(id);
}

export function machineOf(id) {
  return machinesById.get(id);
}

export function casesOf(machine) {
  return casesByMachine.get(machine.id) ?? [];
}

/** [kernel's number, result] of a case, in the kernels' order. */
export function resultsOf(one) {
  return Object.entries(one.results).map(([kernel, result]) => [Number(kernel), result]);
}

/** The worst first. */
export const VERDICTS = ["at-risk", "unknown", "safe"];

/** Items by key, both in order of first appearance. */
export function grouped(items, keyOf) {
  const groups = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(item);
  }
  return groups;
}
