// SPDX-License-Identifier: GPL-2.0-or-later
// Elements and their text. Text only ever becomes text nodes, so that nothing in the data can
// become markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element; attributes that are null or false are left out, functions are listeners. */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** A drawing of one path in a square of 16 units, hidden from screen readers. */
export function icon(path, name = "") {
  const drawn = filled(document.createElementNS(SVG, "path"), { d: path }, []);
  const attributes = { viewBox: "0 0 16 16", "aria-hidden": "true", class: `icon ${name}` };
  return filled(document.createElementNS(SVG, "svg"), attributes, [drawn]);
}

/** A drawing that the page has as a symbol. */
export function mark(name) {
  const use = filled(document.createElementNS(SVG, "use"), { href: `#${name}` }, []);
  return filled(
    document.createElementNS(SVG, "svg"),
    { "aria-hidden": "true", class: "icon stroked" },
    [use],
  );
}

/** Text that only screen readers tell. */
export function unseen(text) {
  return element("span", { class: "unseen" }, text);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
