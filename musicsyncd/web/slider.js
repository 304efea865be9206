// A slider that is moved here and elsewhere at once. Owns whose value counts: the hand's for as long as it holds it and
// until the host has answered, then the host's. One request is under way at a time, and the newest value wins.

const AFTER_ANSWER_MS = 300;

/**
 * Make a range input one.
 *
 * `send(value)` returns a promise, and says itself what went wrong; `paint(value)` shows a value; with `live` values are
 * sent while the hand moves, otherwise when it lets go. Returns `set(value)`, for what the host says.
 */
export function slider(input, { send, paint = () => {}, live = false }) {
  let held = false;
  let wanted = null;
  let sending = false;
  let freeMs = 0;

  const show = (value) => {
    if (Number(input.value) !== value) input.value = value;
    const share = (input.value - input.min) / (input.max - input.min || 1);
    input.style.setProperty("--fill", `${(100 * share).toFixed(2)}%`);
    paint(value);
  };
  const deliver = async () => {
    if (sending) return;
    sending = true;
    while (wanted !== null) {
      const value = wanted;
      wanted = null;
      await send(value);
    }
    sending = false;
    freeMs = performance.now() + AFTER_ANSWER_MS;
  };
  const want = () => {
    wanted = Number(input.value);
    deliver();
  };
  input.addEventListener("pointerdown", () => (held = true));
  for (const event of ["pointerup", "pointercancel", "blur"]) input.addEventListener(event, () => (held = false));
  input.addEventListener("input", () => {
    show(Number(input.value));
    if (live) want();
  });
  input.addEventListener("change", () => {
    held = false;
    if (!live) want();
  });
  return (value) => {
    if (!held && !sending && performance.now() >= freeMs) show(value);
  };
}
