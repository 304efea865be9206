// A speaker's sync error over the last minutes, as a line that grows. Owns the points and their limits, and the drawing;
// a sentence beside it says the same for whoever does not see it.

import { h } from "./dom.js";
import { micros } from "./format.js";

export const SPAN_S = 180;
const MAX_POINTS = 400;
const LEAST_SCALE_US = 50;
const WIDTH = 300;
const HEIGHT = 44;
const SVG = "http://www.w3.org/2000/svg";

/** Make the picture: `{element, caption, past(nowMs, agoS, errorsUs), note(nowMs, errorUs)}`. */
export function spark() {
  let points = [];
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const [zero, line] = ["zero", "line"].map((name) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    svg.append(path);
    return path;
  });
  zero.setAttribute("d", `M0 ${HEIGHT / 2}H${WIDTH}`);
  const caption = h("p", { class: "hint grow" });
  const element = h("div", { class: "spark" }, svg);

  const draw = (nowMs) => {
    const first = nowMs - SPAN_S * 1000;
    points = points.filter((one) => one.ms >= first).slice(-MAX_POINTS);
    const known = points.filter((one) => one.us !== null);
    const most = known.reduce((peak, one) => Math.max(peak, Math.abs(one.us)), 0);
    const scale = (HEIGHT / 2 - 3) / Math.max(LEAST_SCALE_US, most);
    let path = "";
    let pen = "M";
    for (const { ms, us } of points) {
      if (us === null) {
        pen = "M";
        continue;
      }
      path += `${pen}${(((ms - first) / (SPAN_S * 1000)) * WIDTH).toFixed(1)} ${(HEIGHT / 2 - us * scale).toFixed(1)}`;
      pen = "L";
    }
    line.setAttribute("d", path);
    const minutes = known.length ? Math.max(1, Math.round((nowMs - known[0].ms) / 60000)) : 0;
    const past = minutes > 1 ? `${minutes} minutes` : "minute";
    caption.textContent = known.length ? `Within ${micros(most)} over the last ${past}` : "";
    element.hidden = !known.length;
  };

  return {
    element,
    caption,
    /** Take what the host remembers: seconds ago and errors, oldest first; null where the speaker was away. */
    past(nowMs, agoS, errorsUs) {
      const older = agoS.map((ago, index) => ({ ms: nowMs - ago * 1000, us: errorsUs[index] ?? null }));
      const seam = older.length ? older[older.length - 1].ms : 0;
      points = [...older, ...points.filter((one) => one.ms > seam)];
      draw(nowMs);
    },
    note(nowMs, us) {
      // The host says several times a second how things are when somebody turns a knob; one point a second is enough.
      if (points.length && nowMs - points[points.length - 1].ms < 700) return;
      points.push({ ms: nowMs, us });
      draw(nowMs);
    },
  };
}
