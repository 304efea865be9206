// Figures as people read them. Pure functions.

const DAY_S = 86400;
const HOUR_S = 3600;

/** 65 → "1:05", 3665 → "1:01:05". */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds || 0));
  const s = String(whole % 60).padStart(2, "0");
  const m = Math.floor(whole / 60) % 60;
  const hours = Math.floor(whole / HOUR_S);
  return hours ? `${hours}:${String(m).padStart(2, "0")}:${s}` : `${m}:${s}`;
}

/** 65 → "1 minute 5 seconds": for a screen reader, which reads 1:05 as a time of day. */
export function spoken(seconds) {
  const whole = Math.max(0, Math.floor(seconds || 0));
  const [hours, minutes] = [Math.floor(whole / HOUR_S), Math.floor(whole / 60) % 60];
  const said = [many(hours, "hour"), many(minutes, "minute"), many(whole % 60, "second")];
  return said.filter((one) => !one.startsWith("0")).join(" ") || "0 seconds";
}

export const many = (count, one, more = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : more}`;

/** A length of time that is short: 12.3 → "12 µs", 4200 → "4.2 ms". */
export function micros(us) {
  if (us == null || Number.isNaN(us)) return "–";
  const size = Math.abs(us);
  if (size < 9.95) return `${us.toFixed(1)} µs`;
  if (size < 999.5) return `${Math.round(us)} µs`;
  if (size < 9995) return `${(us / 1000).toFixed(1)} ms`;
  return size < 999500 ? `${Math.round(us / 1000)} ms` : `${(us / 1e6).toFixed(1)} s`;
}

/** A sync error in words: "8.0 µs early". */
export function early(us) {
  return us == null || Math.abs(us) < 0.05 ? "none" : `${micros(Math.abs(us))} ${us > 0 ? "late" : "early"}`;
}

/** How long something takes in all, roughly: "48 min", "3 h 12 min", "5 days". */
export function span(seconds) {
  if (seconds < 90) return many(Math.round(seconds), "second");
  if (seconds < HOUR_S) return `${Math.round(seconds / 60)} min`;
  if (seconds < 2 * DAY_S) return `${Math.floor(seconds / HOUR_S)} h ${Math.floor(seconds / 60) % 60} min`;
  return many(Math.round(seconds / DAY_S), "day");
}

/** A hue of its own for a text, the same every time: 0 … 359. */
export function hue(value) {
  let sum = 7;
  for (const letter of value) sum = (sum * 31 + letter.codePointAt(0)) % 65521;
  return sum % 360;
}
