// SPDX-License-Identifier: GPL-2.0-or-later
// A fleet: hosts by kernel and CPU, classes at risk with their runs, hosts, and what was not read.

import { element } from "../dom.js";
import { cases } from "../report.js";
import { player } from "../player/player.js";
import { verdictMark } from "../words.js";
import { listing } from "./listing.js";

const fleet = JSON.parse(document.getElementById("fleet").textContent);
const said = (number) => (number === null ? null : fleet.texts[number]);
const count = (number) => number.toLocaleString("en");

function kernelCell(release, rule, evidence) {
  const weaker = evidence === "release" ? " (by release: weaker evidence)" : "";
  return element(
    "span",
    {},
    release ?? "not named",
    element("span", { class: "weaker" }, ` ${rule ?? "no rule known"}${weaker}`),
  );
}

function groups() {
  const rows = fleet.groups.map(([verdict, release, model, rule, evidence, broken, hosts]) => ({
    verdict,
    hosts,
    words: [said(release), said(model), said(rule), said(broken)].join(" ").toLowerCase(),
    cells: () => [
      ["verdict", verdictMark(verdict)],
      ["hosts", count(hosts), "count"],
      ["kernel and rule", kernelCell(said(release), said(rule), said(evidence)), "wide"],
      ["CPU", said(model) ?? "not told", "wide"],
      ["breaks", findings(said(broken)), ""],
    ],
  }));
  listing(document.getElementById("groups"), {
    title: "Hosts by verdict, kernel and CPU",
    heads: ["verdict", "hosts", "kernel and rule", "CPU", "breaks"],
    rows,
    what: "kernel, rule or CPU",
    counted: (shown) => `${count(shown.reduce((sum, row) => sum + row.hosts, 0))} hosts`,
  });
}

let playing = null;

/** The run of a class, below its row's table; pressing again for another replaces it. */
function play(place, wanted, name) {
  playing?.stop();
  const one = cases.find((each) => each.id === wanted);
  playing = player(one, [0, null], () => {});
  playing.show(0);
  place.replaceChildren(
    element("h3", { id: "run-title", tabindex: "-1" }, `Counterexample: ${name}`),
    playing.node,
  );
  place.hidden = false;
  const title = place.querySelector("h3");
  title.focus({ preventScroll: true });
  title.scrollIntoView();
}

function classes() {
  if (!fleet.classes.length) return;
  const section = document.getElementById("classes");
  const place = element("div", { class: "run", hidden: true });
  const rows = fleet.classes.map(([name, rule, hosts, facts, runs]) => ({
    verdict: "at-risk",
    hosts,
    words: [name, said(rule), said(facts), ...runs.map(([, label]) => label)].join(" ")
      .toLowerCase(),
    cells: () => [
      ["class", name],
      ["hosts", count(hosts), "count"],
      ["rule", said(rule)],
      ["facts", said(facts), "wide"],
      ["counterexamples", element("span", {}, ...runs.map((run) => button(run, name))), "wide"],
    ],
  }));
  const button = ([id, label], name) =>
    element(
      "button",
      { type: "button", class: "fleet-button", click: () => play(place, id, `${name}, ${label}`) },
      `${label}`,
      element("span", { class: "unseen" }, ` of ${name}`),
    );
  listing(section, {
    title: "Classes at risk",
    lead: "Hosts of a class agree in every fact that a verdict can ask for. Each handover that " +
      "breaks has a shortest sequence of events, to step through." +
      (fleet.left_out ? ` Not shown: ${count(fleet.left_out)} more kinds.` : ""),
    heads: ["class", "hosts", "rule", "facts", "counterexamples"],
    rows,
    what: "rule or fact",
    counted: (shown) => `${count(shown.length)} classes`,
    verdicts: false,
  });
  section.append(place);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !place.contains(event.target)) return;
    if (event.target.closest("select, textarea, input")) return;
    if (event.key === " " && event.target.closest("button, summary, a")) return;
    const action = playing?.ofKey(event.key);
    if (action) {
      event.preventDefault();
      action();
    }
  });
}

/** What stands beside a host's verdict: one does not hide another. */
function findings(broken, missing, faults) {
  const listed = (names) => names.split(",").join(", ");
  return [
    broken && listed(broken),
    missing && `missing: ${listed(missing)}`,
    faults && `WBINVD traps: ${listed(faults)}`,
  ].filter(Boolean).join("; ");
}

function hosts() {
  if (fleet.rows === null) return;
  const rows = fleet.rows.map(([host, verdict, ...numbers]) => {
    const [release, rule, evidence, model, missing, broken, faults, note] = numbers.map(said);
    const found = findings(broken, missing, faults);
    return {
      verdict,
      hosts: 1,
      words: [host, release, rule, model, found, note].join(" ").toLowerCase(),
      cells: () => [
        ["host", host],
        ["verdict", verdictMark(verdict)],
        ["kernel and rule", kernelCell(release, rule, evidence), "wide"],
        ["CPU", model ?? "not told", "wide"],
        ["breaks, or is missing", found, "wide"],
        ["note", note ?? "", "wide"],
      ],
    };
  });
  listing(document.getElementById("hosts"), {
    title: "Hosts",
    heads: ["host", "verdict", "kernel and rule", "CPU", "breaks, or is missing", "note"],
    rows,
    what: "host, kernel, CPU or what is missing",
    counted: (shown) => `${count(shown.length)} hosts`,
  });
}

function faults() {
  if (!fleet.faults.length) return;
  const rows = fleet.faults.map(([file, place, reason]) => ({
    verdict: "unknown",
    hosts: 1,
    words: `${file} ${place} ${reason}`.toLowerCase(),
    cells: () => [
      ["file", file, "wide"],
      ["place", place],
      ["reason", reason, "wide"],
    ],
  }));
  listing(document.getElementById("faults"), {
    title: "Not read, and counted as unknown",
    heads: ["file", "place", "reason"],
    rows,
    what: "file or reason",
    counted: (shown) => `${count(shown.length)} records`,
    verdicts: false,
  });
}

/** Without a script all shares would be as wide, and the policy of the page allows no style. */
function shares() {
  for (const part of document.querySelectorAll(".share span")) {
    part.style.flexGrow = part.dataset.share;
  }
  document.querySelector(".share").hidden = false;
}

shares();
groups();
classes();
hosts();
faults();
