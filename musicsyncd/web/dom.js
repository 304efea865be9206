// Making and updating elements. Owns how data gets into the document: as text and attributes, never as markup.
// Must not know what is shown.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element. `attributes.on` are listeners; true and false set and leave out an attribute. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else {
      attribute(element, name, value);
    }
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Set an attribute if it is another one; false, null and undefined take it away. */
export function attribute(element, name, value) {
  const wanted = value === true ? "" : value === false || value == null ? null : String(value);
  if (element.getAttribute(name) === wanted) return;
  if (wanted === null) element.removeAttribute(name);
  else element.setAttribute(name, wanted);
}

/** Set an element's text if it is another one, so that nothing is announced or laid out in vain. */
export function text(element, value) {
  const wanted = String(value ?? "");
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Make a drawing out of the document's own symbols. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Let an element made by `icon`, or one with an icon in it, show another symbol. */
export function setIcon(element, name) {
  attribute(element.querySelector("use"), "href", `#i-${name}`);
}

/** Make a button of an icon alone; its label is what it is called, and its tooltip. */
export function iconButton(name, label, click, more = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, on: { click }, ...more }, icon(name));
}

/** Give a button another label. */
export function relabel(button, label) {
  attribute(button, "aria-label", label);
  attribute(button, "title", label);
}

/**
 * Show a list: one element for each item, kept for as long as its key is there, so that focus and state stay.
 * `make(item)` returns an element with a method `show(item, index)`.
 */
export function keyed(parent, items, keyOf, make) {
  const before = parent.made ?? new Map();
  const after = new Map();
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  let place = parent.firstElementChild;
  items.forEach((item, index) => {
    const key = keyOf(item, index);
    const element = before.get(key) ?? make(item);
    before.delete(key);
    after.set(key, element);
    element.show(item, index);
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  });
  for (const element of before.values()) element.remove();
  parent.made = after;
  // An element that is put elsewhere loses the focus.
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
}

export const $ = (selector, within = document) => within.querySelector(selector);
