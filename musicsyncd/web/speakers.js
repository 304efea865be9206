// Rooms and the speakers in them: how well they are together, in words, with the figures one tap away; and what can be
// set for each. Owns the words.

import { $, attribute, h, icon, iconButton, keyed, relabel, setIcon, text } from "./dom.js";
import { api, path } from "./api.js";
import { early, many, micros, span } from "./format.js";
import { attempt, say } from "./say.js";
import { slider } from "./slider.js";
import { spark, SPAN_S } from "./spark.js";
import { draggable } from "./drag.js";

const BAD_LOSS_PERCENT = 30;
const MAX_DELAY_MS = 5000;
const MAX_FADE_S = 12;
const SURE_MS = 4000;
const CHANNELS = { stereo: "Stereo", left: "Left only", right: "Right only", mono: "Mono" };
const REACHES = { multicast: "multicast", unicast: "unicast", web: "this page's connection", away: "not at all" };

let rooms = [];
let lifted = null;
const sparks = new Map();

export function startSpeakers() {
  $("#new-room").addEventListener("submit", async (event) => {
    event.preventDefault();
    const input = $("#new-room-name");
    const answer = await attempt(() => api.post("/api/rooms", { name: input.value.trim() }));
    if (!answer) return;
    input.value = "";
    say("The room is there. Drag speakers into it, or choose it in a speaker's details.");
  });
  api.on("live", remember);
}

/** Say in a word how a speaker is: {word, kind, hint}. Kinds are good, fair, bad and quiet. */
export function condition(peer) {
  const seen = peer.seen_s_ago == null ? "not since the host's start" : `${span(peer.seen_s_ago)} ago`;
  if (peer.reach === "away" || peer.state === "away") {
    return { word: "no network", kind: "bad", hint: `Last heard ${seen}. Is it on, and on this network?` };
  }
  if (peer.state === "no card") return { word: "no sound card", kind: "bad", hint: peer.fault };
  if (peer.clock.loss_percent >= BAD_LOSS_PERCENT) {
    return { word: "poor network", kind: "fair", hint: peer.fault || "Much of what the host sends does not arrive." };
  }
  if (peer.state === "waiting") return { word: "getting ready", kind: "fair", hint: peer.fault };
  if (peer.state === "silent") return { word: "ready", kind: "quiet", hint: peer.fault };
  return { word: peer.state, kind: peer.state === "together" ? "good" : "fair", hint: peer.fault };
}

/** Say how well the speakers of a room are together: {line, kind}. */
export function harmony(peers) {
  const here = peers.filter((peer) => peer.reach !== "away");
  if (!peers.length) return { line: "No speaker in this room", kind: "quiet" };
  if (!here.length) return { line: "No speaker is on the network", kind: "bad" };
  const wrong = here.map(condition).find((one) => one.kind === "bad");
  if (wrong) return { line: `A speaker has ${wrong.word}`, kind: "bad" };
  const playing = here.filter((peer) => ["together", "catching up"].includes(peer.state));
  if (!playing.length) return { line: `${many(here.length, "speaker")} ready`, kind: "quiet" };
  const late = playing.filter((peer) => peer.state !== "together").length + here.length - playing.length;
  if (late) return { line: `${late} of ${many(here.length, "speaker")} catching up`, kind: "fair" };
  const errors = playing.map((peer) => peer.sync_error_us);
  const apart = Math.max(...errors) - Math.min(...errors);
  const line = playing.length > 1 ? `${playing.length} speakers together, ${micros(apart)} apart` : "1 speaker playing";
  return { line, kind: "good" };
}

/** Fetch what the host remembers of every speaker's sync error. */
async function remember() {
  const answer = await api.get(`/api/history?seconds=${SPAN_S}`).catch(() => null);
  for (const peer of answer?.peers ?? []) sparkOf(peer.id).past(performance.now(), peer.ago_s, peer.sync_error_us);
}

function sparkOf(id) {
  if (!sparks.has(id)) sparks.set(id, spark());
  return sparks.get(id);
}

export function showSpeakers(status) {
  rooms = status.rooms;
  const peers = [...status.peers].sort((one, other) => one.name.localeCompare(other.name));
  for (const id of sparks.keys()) if (!peers.some((peer) => peer.id === id)) sparks.delete(id);
  const sounding = ["together", "catching up"];
  for (const peer of peers) sparkOf(peer.id).note(status.heardMs, sounding.includes(peer.state) ? peer.sync_error_us : null);
  if (lifted) return;
  keyed($("#rooms"), rooms.map((room) => ({ room, peers: peers.filter((peer) => peer.room === room.name) })),
    ({ room }) => room.name, makeRoom);
}

function makeRoom({ room: { name } }) {
  let room = null;
  const title = h("h3", { class: "room-name" }, h("button", { type: "button", class: "room-open", on: { click: () => api.showRoom(name) } }, name));
  const plays = h("p", { class: "hint room-plays" });
  const settings = roomSettings(name);
  const more = disclosure(settings.element, { icon: true, label: `Settings of ${name}` });
  more.hidden = !api.can("control");
  const list = h("ul", { class: "cards" });
  const empty = h("p", { class: "empty small" }, "No speaker here. Drag one in, or choose this room in a speaker's details.");
  const level = levelRow(`Volume of ${name}`, path("rooms", name), () => room);
  const section = h("section", { class: "room", "data-room": name, "aria-label": `Room ${name}` },
    h("div", { class: "heading-row" }, title, plays, more), settings.element, level.element, list, empty);
  section.show = ({ room: shown, peers }) => {
    room = shown;
    const current = api.room() === name;
    section.classList.toggle("chosen", current && rooms.length > 1);
    attribute(title.firstChild, "aria-current", current ? "true" : null);
    const word = { playing: "plays", paused: "paused", stopped: "silent" }[shown.mode];
    text(plays, shown.mode === "playing" && shown.track ? `plays ${shown.track.title}` : word);
    settings.show(shown);
    level.show(shown);
    keyed(list, peers, (peer) => peer.id, makeSpeaker);
    empty.hidden = peers.length > 0;
  };
  return section;
}

/** A button that opens and closes an element. */
function disclosure(element, { icon: alone = false, label }) {
  const click = () => {
    element.hidden = !element.hidden;
    attribute(button, "aria-expanded", !element.hidden);
  };
  const button = alone
    ? iconButton("more", label, click)
    : h("button", { type: "button", class: "disclose", "aria-label": label, on: { click } }, "Details");
  button.setAttribute("aria-expanded", "false");
  element.hidden = true;
  return button;
}

const field = (label, control) => h("label", { class: "field" }, h("span", { class: "field-name" }, label), control);

/** Crossfade of a room, and its end. */
function roomSettings(name) {
  const fade = h("input", { type: "number", min: 0, max: MAX_FADE_S, step: "any", inputmode: "decimal", required: true });
  fade.addEventListener("change", () => {
    if (fade.reportValidity()) attempt(() => api.post(path("rooms", name, "crossfade"), { seconds: Number(fade.value) }));
  });
  const remove = sureButton("Remove room", "Really remove?", () => attempt(() => api.remove(path("rooms", name))));
  return {
    element: h("div", { class: "row room-settings" }, field("Crossfade, seconds", fade), remove),
    show(room) {
      if (document.activeElement !== fade) fade.value = room.crossfade_s;
      remove.hidden = rooms.length < 2;
    },
  };
}

/** A button for what cannot be undone: it asks once more, in its own place. */
function sureButton(label, question, act) {
  let sure = 0;
  const button = h("button", { type: "button", class: "button quiet small" }, label);
  const calm = () => {
    sure = 0;
    text(button, label);
  };
  button.addEventListener("click", () => {
    if (sure) {
      clearTimeout(sure);
      calm();
      act();
      return;
    }
    text(button, question);
    sure = setTimeout(calm, SURE_MS);
  });
  return button;
}

/** Mute and volume of a room or a speaker. */
function levelRow(label, base, current) {
  const mute = iconButton("volume", "Mute", () => attempt(() => api.post(`${base}/mute`, { muted: !current().muted })));
  const input = h("input", { type: "range", min: 0, max: 100, step: 1, "aria-label": label });
  const percent = h("output", {});
  const set = slider(input, {
    send: (value) => attempt(() => api.post(`${base}/volume`, { volume: String(value) })),
    paint: (value) => text(percent, `${value} %`),
    live: true,
  });
  const element = h("div", { class: "volume" }, mute, input, percent);
  const may = api.can("control");
  mute.disabled = !may;
  input.disabled = !may;
  return {
    element,
    show({ volume, muted }) {
      relabel(mute, `${muted ? "Unmute" : "Mute"} ${label.replace("Volume of ", "")}`);
      attribute(mute, "aria-pressed", muted);
      setIcon(mute, muted ? "muted" : "volume");
      element.classList.toggle("muted", muted);
      set(volume);
    },
  };
}

const FIGURES = [
  ["Sync error", (peer, known, plays) => (plays ? early(peer.sync_error_us) : "–")],
  ["Round trip", (peer, known) => (known ? micros(peer.clock.round_trip_us) : "–")],
  ["Jitter", (peer, known) => (known ? micros(peer.clock.jitter_us) : "–")],
  ["Loss", (peer, known) => (known ? `${peer.clock.loss_percent.toFixed(1)} %` : "–")],
  ["Clock certain to", (peer, known) => (known ? `± ${micros(peer.clock.uncertainty_us)}` : "–")],
  ["Rate correction", (peer, known, plays) => (plays ? `${peer.correction_ppm.toFixed(1)} ppm` : "–")],
  ["Card's own rate", (peer) => (peer.card_ppm ? `${peer.card_ppm.toFixed(1)} ppm` : "–")],
  ["Underruns", (peer) => peer.underruns],
  ["Reached by", (peer) => REACHES[peer.reach] ?? peer.reach],
  ["Address", (peer) => peer.address ?? "–"],
  ["Output", (peer) => peer.output || "–"],
  ["Version", (peer) => peer.version ?? "–"],
];

function makeSpeaker(first) {
  const { id } = first;
  const base = path("peers", id);
  let peer = first;
  const name = h("h4", { class: "speaker-name" });
  const state = h("p", { class: "state" });
  const hint = h("p", { class: "hint" });
  const level = levelRow(`Volume of ${first.name}`, base, () => peer);
  const values = FIGURES.map(() => h("dd", {}));
  const figures = h("dl", { class: "figures" },
    ...FIGURES.flatMap(([label], index) => [h("div", {}, h("dt", {}, label), values[index])]));
  const settings = settingsOf(base);
  const forget = sureButton("Forget this speaker", "Really forget?", () => attempt(() => api.remove(base)));
  const picture = sparkOf(id);
  const details = h("div", { class: "details" }, figures, settings.element, forget);
  const more = disclosure(details, { label: `Details of ${first.name}` });
  const choose = () => {
    if (details.hidden) more.click();
    settings.room.focus();
  };
  const grip = iconButton("grip", "", choose, { class: "icon-button grip" });
  const head = h("div", { class: "card-head" }, grip, name, state);
  const foot = h("div", { class: "card-foot" }, picture.caption, more);
  const card = h("li", { class: "card speaker" }, head, level.element, hint, picture.element, foot, details);
  dragToRoom(grip, card, () => peer);
  card.show = (shown) => {
    peer = shown;
    const how = condition(peer);
    const there = peer.reach !== "away";
    const plays = ["together", "catching up"].includes(peer.state);
    text(name, peer.name);
    text(state, how.word);
    attribute(state, "class", `state ${how.kind}`);
    text(hint, how.hint || "");
    relabel(grip, `Move ${peer.name} to another room: drag, or press for the choice`);
    grip.hidden = rooms.length < 2 || !api.can("control");
    card.classList.toggle("away", !there);
    level.show(peer);
    FIGURES.forEach(([, of], index) => text(values[index], of(peer, there && peer.clock.uncertainty_us > 0, plays)));
    settings.show(peer);
    forget.hidden = there || !api.can("control");
  };
  return card;
}

/** Room, channels and delay of a speaker. */
function settingsOf(base) {
  const select = (command, key) =>
    h("select", { on: { change: (event) => attempt(() => api.post(`${base}/${command}`, { [key]: event.target.value })) } });
  const room = select("room", "room");
  const channels = select("channels", "channels");
  for (const [value, label] of Object.entries(CHANNELS)) channels.append(h("option", { value }, label));
  const delay = h("input", { type: "number", min: -MAX_DELAY_MS, max: MAX_DELAY_MS, step: "any", inputmode: "decimal", required: true });
  let changed = 0;
  delay.addEventListener("change", async () => {
    if (!delay.reportValidity()) return;
    await attempt(() => api.post(`${base}/delay`, { output_delay_ms: Number(delay.value) }));
    changed = performance.now();
  });
  const element = h("fieldset", { class: "settings", disabled: !api.can("control") },
    h("legend", { class: "sr" }, "Settings"), field("Room", room), field("Channels", channels), field("Output delay, ms", delay));
  element.append(h("p", { class: "hint" }, "What stands behind the card, such as a television, may add delay: say how much, and this speaker is fed earlier."));
  return {
    element,
    room,
    show(peer) {
      keyed(room, rooms, (one) => one.name, ({ name }) => Object.assign(h("option", { value: name }, name), { show() {} }));
      const active = document.activeElement;
      if (active !== room) room.value = peer.room;
      if (active !== channels) channels.value = peer.channels;
      if (active !== delay && performance.now() - changed > 500) delay.value = peer.output_delay_ms;
    },
  };
}

function dragToRoom(grip, card, peerOf) {
  let target = null;
  const aim = (section) => {
    if (section === target) return;
    target?.classList.remove("target");
    section?.classList.add("target");
    target = section;
  };
  const done = () => {
    lifted = null;
    aim(null);
  };
  draggable(grip, card, {
    lift: () => (lifted = card),
    over: (_, event) => {
      const section = document.elementsFromPoint(event.clientX, event.clientY).find((one) => one.matches("[data-room]"));
      aim(section && section.dataset.room !== peerOf().room ? section : null);
    },
    drop: async () => {
      const room = target?.dataset.room;
      done();
      if (!room) return;
      const answer = await attempt(() => api.post(`${path("peers", peerOf().id)}/room`, { room }));
      if (answer) say(`${peerOf().name} is in ${room}`);
    },
    cancel: done,
  });
}
