// The sound that a browser will need within seconds, fetched as plain samples, a second at a time, most urgent first.
// Owns what is fetched, what is kept and what is dropped; must not know how it is played: whoever is given to it takes
// the samples.

const BEFORE_NS = 1e9;
const AHEAD_NS = 12e9;
const MAX_CHUNKS = 48; // 8 MB at 44.1 kHz
const AT_ONCE = 2;
const AGAIN_MS = 1000;
const REQUEST_MS = 10000;
const FORGET = 0.98; // of the slowest fetch of late, from one to the next

/** Which seconds of which tracks are needed around an instant: [{key, id, index, first, count, due}], most urgent first. */
export function wanted(spans, now) {
  const found = new Map();
  for (const span of spans) {
    const { id, rate_hz: rate, frames } = span.track, end = span.end_ns + span.fall_ms * 1e6;
    const from = Math.max(now - BEFORE_NS, span.start_ns), until = Math.min(now + AHEAD_NS, end + 1e8);
    if (from >= until) continue;
    const place = (host) => span.frame + (host - span.start_ns) / 1e9 * rate;
    const last = Math.min(place(until), frames - 1);
    for (let index = Math.max(0, Math.floor((place(from) - 64) / rate)); index * rate <= last; index++) {
      const key = `${id}/${index}`, due = span.start_ns + (index * rate - span.frame) / rate * 1e9;
      const first = index * rate, count = Math.min(rate, frames - first);
      if (count > 0 && !(found.get(key)?.due <= due)) found.set(key, { key, id, index, first, count, due });
    }
  }
  return [...found.values()].toSorted((a, b) => a.due - b.due).slice(0, MAX_CHUNKS / 2);
}

export class Larder {
  slowestMs = 0;
  fault = "";
  #output;
  #held = new Map(); // key -> {id, index, abort: AbortController while it comes, else null}
  #notBefore = 0;
  #wanted = [];

  constructor(output) {
    this.#output = output;
  }

  /** Have what is needed around an instant of the host; what was needed before stays while there is room. */
  keep(spans, now) {
    this.#wanted = wanted(spans, now);
    const keys = new Set(this.#wanted.map((one) => one.key));
    for (const [key, one] of this.#held) {
      if (keys.has(key)) continue;
      if (one.abort) one.abort.abort();
      else if (this.#held.size > MAX_CHUNKS) this.#output.drop(one.id, one.index); // The oldest stand first.
      else continue; // A paused song goes on where it was.
      this.#held.delete(key);
    }
    this.#fetchNext();
  }

  close() {
    this.#wanted = [];
    for (const one of this.#held.values()) one.abort?.abort();
    this.#held.clear();
  }

  #fetchNext() {
    if (performance.now() < this.#notBefore) return;
    let coming = [...this.#held.values()].filter((one) => one.abort).length;
    for (const one of this.#wanted) {
      if (coming >= AT_ONCE) return;
      if (this.#held.has(one.key)) continue;
      coming++;
      this.#fetch(one);
    }
  }

  async #fetch({ key, id, index, first, count }) {
    const abort = new AbortController(), mine = { id, index, abort }, begin = performance.now();
    this.#held.set(key, mine);
    try {
      const signal = AbortSignal.any ? AbortSignal.any([abort.signal, AbortSignal.timeout(REQUEST_MS)]) : abort.signal;
      const response = await fetch(`/api/pcm/${id}?frame=${first}&frames=${count}`, { credentials: "same-origin", signal });
      if (!response.ok) throw new Error((await response.json().catch(() => null))?.error ?? `the host answered ${response.status}`);
      const samples = new Int16Array(await response.arrayBuffer());
      if (this.#held.get(key) !== mine) return;
      mine.abort = null;
      this.#output.add(id, index, samples);
      this.slowestMs = Math.max(performance.now() - begin, this.slowestMs * FORGET);
      this.fault = "";
    } catch (error) {
      if (this.#held.get(key) !== mine) return;
      this.#held.delete(key);
      this.fault = error instanceof TypeError ? "the host does not answer" : String(error.message).slice(0, 80);
      this.#notBefore = performance.now() + AGAIN_MS;
      return;
    }
    this.#fetchNext();
  }
}
