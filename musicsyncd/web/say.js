// Short messages at the edge of the screen, read out by a screen reader; one of them may offer to undo.
// Owns how long they stay, and that there are never many of them.

import { $, h, iconButton } from "./dom.js";

const STAYS_MS = 6000;
const WITH_BUTTON_STAYS_MS = 12000;
const MAX_SHOWN = 3;

/** Say a line. `bad` is for what failed; `button` is {label, click}. Returns a function that takes it away. */
export function say(line, { bad = false, button = null } = {}) {
  const region = $(bad ? "#alerts" : "#toasts");
  const end = () => {
    clearTimeout(timer);
    toast.remove();
  };
  const toast = h("div", { class: bad ? "toast bad" : "toast" }, h("p", {}, line));
  if (button) {
    const click = () => {
      end();
      button.click();
    };
    toast.append(h("button", { type: "button", class: "button small", on: { click } }, button.label));
  }
  toast.append(iconButton("close", "Dismiss", end));
  let timer = 0;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(end, button || bad ? WITH_BUTTON_STAYS_MS : STAYS_MS);
  };
  // Whoever reads it, or has it under the finger, is not hurried.
  for (const event of ["pointerenter", "focusin"]) toast.addEventListener(event, () => clearTimeout(timer));
  for (const event of ["pointerleave", "focusout"]) toast.addEventListener(event, wait);
  region.append(toast);
  while (region.children.length > MAX_SHOWN) region.firstElementChild.remove();
  wait();
  return end;
}

/** Do something that may be refused: its line is said then, and undefined comes back. */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    say(error.message, { bad: true });
    return undefined;
  }
}
