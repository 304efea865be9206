// "Play here": the part of the page that makes this browser one of the room's speakers.
//
// Owns what is shown of it and how its parts are joined: the conversation with the host (speaker-link.js), the sound that
// is fetched (speaker-sounds.js) and the sound card (speaker-output.js).

import { h, text } from "./dom.js";
import { Link, localNs } from "./speaker-link.js";
import { soundingAt, placeAt } from "./speaker-engine.js";
import { openOutput } from "./speaker-output.js";
import { Larder } from "./speaker-sounds.js";

const TICK_MS = 100;
const REPORT_MS = 1000;
const MOST_FETCH_MS = 300; // of the time that a change is to be known before: a slower network starves for a moment
const ID_KEY = "musicsyncd.speaker-id";
const NAME_KEY = "musicsyncd.speaker-name";
const AWAKE_KEY = "musicsyncd.speaker-awake";
const MAX_DELAY_MS = 500;

const WORDS = {
  together: "Playing, together with the others",
  "catching up": "Catching up with the others",
  waiting: "Waiting for the sound to arrive",
  silent: "Ready: nothing plays in this room",
  "no card": "The browser holds the sound back: press “Play here” once more",
};

function kept(key, make) {
  try {
    return localStorage.getItem(key) ?? (localStorage.setItem(key, make()), localStorage.getItem(key));
  } catch {
    return make(); // A private window: it is another speaker next time.
  }
}

function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // As above.
  }
}

// WebCrypto's other half exists only in secure contexts; random numbers exist everywhere.
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (one) => one.toString(16).padStart(2, "0")).join("");

/** Which browser on what, in two words. */
export function agent(userAgent = navigator.userAgent) {
  const find = (pairs) => pairs.find(([mark]) => userAgent.includes(mark))?.[1];
  const browser = find([["Firefox/", "Firefox"], ["Edg/", "Edge"], ["OPR/", "Opera"], ["Chrome/", "Chrome"], ["Safari/", "Safari"]]);
  const system = find([["iPhone", "iPhone"], ["iPad", "iPad"], ["Android", "Android"], ["Windows", "Windows"], ["Mac OS", "Mac"],
    ["Linux", "Linux"]]);
  return [browser ?? "Browser", ...(system ? ["on", system] : [])].join(" ");
}

/** This browser as a speaker, from "Play here" to "Stop". */
export class Speaker {
  state = null;
  words = "Connecting…";
  away = false;
  #output;
  #larder;
  #link;
  #course = null;
  #coming = {}; // of a new connection, until both its clock and its state are known
  #timers = [];
  #changed;
  #ended;

  constructor(output, url, name, changed, ended) {
    this.#output = output;
    this.#larder = new Larder(output);
    this.#changed = changed;
    this.#ended = ended;
    const hello = { name, id: kept(ID_KEY, newId), agent: agent() };
    this.#link = new Link(url, hello, {
      welcome: (message, connection) => { this.#coming = { connection, peerId: message.peer_id }; },
      state: (message) => this.#take({ state: message }),
      clock: (message) => this.#take({ mapping: message }),
      away: () => { this.away = true; changed(this); },
      ended: (why) => this.stop(why),
    });
    this.#timers = [setInterval(() => this.#tick(), TICK_MS), setInterval(() => this.#report(), REPORT_MS)];
  }

  get peerId() {
    return this.#coming.peerId;
  }

  get context() {
    return this.#output.context;
  }

  get output() {
    return this.#output;
  }

  /** Change this browser's own settings: {output_delay_ms} or {volume}. */
  change(settings) {
    this.#link.send({ type: "change", output_delay_ms: null, ...settings });
  }

  stop(why = "") {
    for (const timer of this.#timers) clearInterval(timer);
    this.#link.close();
    this.#larder.close();
    this.#output.close();
    this.#ended(why);
  }

  /** What leaves the sound card at a time of performance.now(), as placeOf() says it. */
  heardAt(milliseconds) {
    const { line } = this.#output.line;
    return line && this.placeOf(line.frame + (milliseconds * 1e6 - line.localNs) / line.nsPerFrame);
  }

  /** Where in which track a frame of the audio context was made: {id, entry, seconds}, or null for silence. */
  placeOf(frame) {
    const course = this.#course, made = this.#output.made(frame);
    const span = made && made.connection === course?.connection ? soundingAt(course.spans, made.host) : null;
    return span && { id: span.track.id, entry: span.entry, seconds: placeAt(span, made.host) / span.track.rate_hz };
  }

  /** A new connection counts the host's time from another instant: go over when all of it is known. */
  #take(part) {
    Object.assign(this.#coming, part);
    const { state, mapping, connection } = this.#coming;
    if (state) this.#show(state);
    if (!state || !mapping) return;
    const before = this.#course, same = before?.connection === connection;
    const spans = same && JSON.stringify(before.spans) === JSON.stringify(state.spans) ? before.spans : state.spans;
    this.#course = { spans, mapping, delayNs: state.output_delay_ms * 1e6, connection };
    this.away = false;
    this.#fetch(); // Before it is made: what is fetched first is needed first.
    this.#output.follow(this.#course);
    if (part.state) this.#changed(this);
  }

  #show(state) {
    this.state = state;
    this.#output.setLevels(state.volume, state.room_volume, state.muted || state.room_muted, state.channels);
  }

  #hostNow() {
    const { local_ns, host_ns, skew_ppm } = this.#course.mapping;
    return host_ns + (localNs() - local_ns) * (1 + skew_ppm * 1e-6);
  }

  #fetch() {
    this.#larder.keep(this.#course.spans, this.#hostNow());
  }

  #tick() {
    this.#output.look();
    if (this.#course) this.#fetch();
    this.#output.tick();
  }

  /** Say how it is: to the host and on the page. */
  #report() {
    const output = this.#output, figures = output.figures, { line } = output.line;
    const state = output.context.state === "running" ? figures.state : "no card";
    this.figures = { ...figures, state, way: output.way, uncertaintyUs: output.uncertaintyUs };
    const { fault } = this.#larder, starving = state === "waiting" && fault ? fault : "";
    this.#link.send({
      type: "report", t: localNs(), state,
      sync_error_us: Math.round(figures.errorNs / 1e3),
      uncertainty_us: Math.round(output.uncertaintyUs),
      correction_ppm: figures.correction * 1e6,
      card_ppm: -(line?.slopePpm ?? 0),
      underruns: figures.underruns,
      starved_frames: figures.starvedFrames,
      lead_ms: 1e3 * output.latencyS + Math.min(this.#larder.slowestMs, MOST_FETCH_MS),
      fault: state === "no card" ? "the browser holds the sound back" : starving,
    });
    this.words = this.away ? "The host is away: what has come still plays" : starving || WORDS[state];
    this.#changed(this);
  }
}

/** An element that plays silence: without one, browsers give a page neither the lock screen nor the background. */
function silence() {
  const seconds = 10, rate = 8000, size = seconds * rate, bytes = new DataView(new ArrayBuffer(44 + size));
  const word = (at, letters) => [...letters].forEach((letter, i) => bytes.setUint8(at + i, letter.charCodeAt(0)));
  word(0, "RIFF"); word(8, "WAVEfmt "); word(36, "data");
  for (const [at, value] of [[4, 36 + size], [16, 16], [24, rate], [28, rate], [40, size]]) bytes.setUint32(at, value, true);
  for (const [at, value] of [[20, 1], [22, 1], [32, 1], [34, 8]]) bytes.setUint16(at, value, true);
  new Uint8Array(bytes.buffer, 44).fill(128);
  const audio = new Audio(URL.createObjectURL(new Blob([bytes.buffer], { type: "audio/wav" })));
  audio.loop = true;
  return audio;
}

/** The lock screen's title and buttons. */
class LockScreen {
  #audio = silence();

  constructor(api, room) {
    this.#audio.play().catch(() => {}); // Without it there is sound all the same.
    if (!("mediaSession" in navigator) || api?.me?.role !== "control") return;
    for (const [action, command] of [["play", "resume"], ["pause", "pause"], ["nexttrack", "next"], ["previoustrack", "previous"]]) {
      const ask = () => api.post(`/api/rooms/${encodeURIComponent(room())}/${command}`, {}).catch((error) => api.say?.(error.message, { bad: true }));
      navigator.mediaSession.setActionHandler(action, ask);
    }
  }

  show(state) {
    if (!("mediaSession" in navigator)) return;
    navigator.mediaSession.playbackState = state.mode === "playing" ? "playing" : "paused";
    const { metadata } = navigator.mediaSession;
    if (metadata?.title === state.title && metadata?.artist === state.artist) return;
    navigator.mediaSession.metadata = state.title ? new MediaMetadata({ title: state.title, artist: state.artist }) : null;
  }

  close() {
    this.#audio.pause();
    URL.revokeObjectURL(this.#audio.src);
    if (!("mediaSession" in navigator)) return;
    navigator.mediaSession.metadata = null;
    navigator.mediaSession.playbackState = "none";
  }
}

/** Keeps the screen on while it is wanted and the page is seen. */
class Awake {
  #lock = null;
  #wanted = false;

  constructor() {
    this.look = this.look.bind(this);
    document.addEventListener("visibilitychange", this.look);
  }

  want(wanted) {
    this.#wanted = wanted;
    this.look();
  }

  async look() {
    if (!this.#wanted) {
      await this.#lock?.release();
      this.#lock = null;
    } else if (document.visibilityState === "visible" && (!this.#lock || this.#lock.released)) {
      this.#lock = await navigator.wakeLock.request("screen").catch(() => null); // A low battery refuses it.
    }
  }

  close() {
    this.want(false);
    document.removeEventListener("visibilitychange", this.look);
  }
}

/** Show the part of the page for playing here; `element.speaker` is the speaker while it plays. */
export function mount(element, api) {
  const socketUrl = api?.socketUrl?.("/api/speaker") ?? `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/speaker`;
  let lock = null, awake = null;

  const name = h("input", { id: "play-here-name", type: "text", maxlength: 64, autocomplete: "off", value: kept(NAME_KEY, agent) });
  const button = h("button", { type: "button", class: "button primary", "aria-pressed": "false", on: { click: toggle } }, "Play here");
  const words = h("p", { class: "hint play-here-state", role: "status" }, "");
  const delay = h("input", {
    id: "play-here-delay", type: "range", min: -MAX_DELAY_MS, max: MAX_DELAY_MS, step: 5, value: 0,
    "aria-describedby": "play-here-delay-help",
    on: { input: () => showDelay(Number(delay.value)), change: () => element.speaker?.change({ output_delay_ms: Number(delay.value) }) },
  });
  const delayValue = h("output", { for: "play-here-delay" }, "0 ms");
  const keepAwake = h("button", { type: "button", class: "button small", on: { click: () => wantAwake(!wantsAwake()) } }, "Keep the screen on");
  const figures = h("p", { class: "hint play-here-figures" }, "");
  const while_ = h("div", { class: "stack play-here-settings", hidden: true },
    h("div", { class: "field" },
      h("label", { for: "play-here-delay" }, "Sound comes late by ", delayValue), delay,
      h("p", { class: "hint", id: "play-here-delay-help" }, "Bluetooth and televisions are late; move it until this device fits the others.")),
    "wakeLock" in navigator ? h("div", { class: "row" }, keepAwake) : null,
    h("details", {}, h("summary", {}, "Figures"), figures));
  element.append(
    h("div", { class: "field play-here-name" }, h("label", { for: "play-here-name" }, "This device is called"), name),
    h("div", { class: "row" }, button), words, while_);

  const wantsAwake = () => "wakeLock" in navigator && kept(AWAKE_KEY, () => "") === "1";

  function wantAwake(wanted) {
    keep(AWAKE_KEY, wanted ? "1" : "");
    keepAwake.setAttribute("aria-pressed", String(wanted));
    awake?.want(wanted);
  }

  function showDelay(ms) {
    text(delayValue, `${ms} ms`);
  }

  function show(speaker) {
    text(words, speaker.words);
    const { state, figures: now } = speaker;
    if (state) {
      lock.show(state);
      if (document.activeElement !== delay) {
        delay.value = state.output_delay_ms;
        showDelay(state.output_delay_ms);
      }
    }
    if (!now) return;
    const ms = (ns) => (ns / 1e6).toFixed(2);
    text(figures, `off by ${ms(now.errorNs)} ms, known to ±${ms(now.uncertaintyUs * 1e3)} ms at the sound card; rate corrected by `
      + `${(now.correction * 1e6).toFixed(0)} ppm; ${now.underruns} gaps; ${now.way === "worklet" ? "in the audio thread" : "planned ahead"}`);
  }

  function ended(why) {
    element.speaker = null;
    lock.close();
    awake.close();
    button.setAttribute("aria-pressed", "false");
    text(button, "Play here");
    text(words, why);
    while_.hidden = true;
    name.disabled = false;
  }

  async function toggle() {
    if (element.speaker) {
      // After a call, or where the first click was not taken for one, the same button wakes the sound.
      if (element.speaker.context.state === "running") element.speaker.stop();
      else await element.speaker.context.resume();
      return;
    }
    button.disabled = true;
    try {
      const called = name.value.trim() || agent();
      keep(NAME_KEY, called);
      lock = new LockScreen(api, () => element.speaker?.state?.room ?? "-");
      awake = new Awake();
      const output = await openOutput({ worklet: element.dataset.worklet !== "no" });
      output.context.resume();
      wantAwake(wantsAwake());
      element.speaker = new Speaker(output, socketUrl, called, show, ended);
      name.disabled = true;
      while_.hidden = false;
      button.setAttribute("aria-pressed", "true");
      text(button, "Stop playing here");
    } catch (error) {
      text(words, `This browser cannot play here: ${error.message}`);
    } finally {
      button.disabled = false;
    }
  }
}
