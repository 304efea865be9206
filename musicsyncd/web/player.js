// What plays in the room that is shown, and the buttons and sliders that steer it. Owns the position between two events:
// the host says where it was and whether it moves, and the page adds what has passed since.

import { $, attribute, relabel, setIcon, text } from "./dom.js";
import { api, path } from "./api.js";
import { clock, hue, spoken } from "./format.js";
import { attempt } from "./say.js";
import { slider } from "./slider.js";

const TICK_MS = 250;
const NEXT_REPEAT = { off: "all", all: "one", one: "off" };
const REPEAT_WORDS = { off: "off", all: "all tracks", one: "this track" };

let room = null;
let heardMs = 0;
let shownCover = null;
let setSeek;
let setLevel;

const command = (name, body) => attempt(() => api.post(path("rooms", room.name, name), body));

export function startPlayer() {
  for (const id of ["next", "previous"]) $(`#${id}`).addEventListener("click", () => command(id));
  $("#mini-next").addEventListener("click", () => command("next"));
  for (const id of ["play", "mini-play"]) $(`#${id}`).addEventListener("click", toggle);
  $("#shuffle").addEventListener("click", () => command("shuffle", { on: !room.shuffled }));
  $("#repeat").addEventListener("click", () => command("repeat", { repeat: NEXT_REPEAT[room.repeat] }));
  $("#room-mute").addEventListener("click", () => command("mute", { muted: !room.muted }));
  setSeek = slider($("#seek"), { send: seek, paint: paintSeek });
  setLevel = slider($("#room-level"), {
    send: (value) => command("volume", { volume: String(value) }),
    paint: (value) => text($("#room-percent"), `${value} %`),
    live: true,
  });
  $("#seek").addEventListener("keydown", seekByKey);
  $("#cover").addEventListener("load", () => showCover(true));
  $("#cover").addEventListener("error", () => showCover(false));
  setInterval(() => document.visibilityState === "visible" && showPosition(), TICK_MS);
}

/** Show a room as the host has just said it is; null, while the host is starting, leaves what is shown. */
export function showPlayer(shown, whenMs) {
  if (!shown) return;
  room = shown;
  heardMs = whenMs;
  showTrack();
  showControls();
  showPosition();
}

/** Where in its track the room is by now, seconds. */
export function position() {
  if (!room?.track) return 0;
  const since = room.moving && api.live ? (performance.now() - heardMs) / 1000 : 0;
  return Math.min(room.position_s + since, room.track.duration_s || Infinity);
}

function toggle() {
  if (room.mode === "playing") command("pause");
  else command("play", {});
}

function seek(value) {
  // The very end is past the end, for the host.
  const last = (room.track?.duration_s ?? 0) - 0.5;
  return command("seek", { to: Math.max(0, Math.min(value, last)).toFixed(2) });
}

const SEEK_KEYS = { ArrowLeft: -5, ArrowDown: -5, ArrowRight: 5, ArrowUp: 5, PageDown: -30, PageUp: 30 };

/** A second at a time is too little for a key: five, and thirty for a page. */
function seekByKey(event) {
  const step = SEEK_KEYS[event.key];
  if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const input = event.currentTarget;
  input.value = Math.max(0, Math.min(Number(input.max), Number(input.value) + step));
  for (const name of ["input", "change"]) input.dispatchEvent(new Event(name));
}

function paintSeek(value) {
  text($("#elapsed"), clock(value));
  const length = room?.track?.duration_s;
  attribute($("#seek"), "aria-valuetext", length ? `${spoken(value)} of ${spoken(length)}` : spoken(value));
}

function showPosition() {
  if (room) setSeek(Math.floor(position()));
}

function showTrack() {
  const track = room.track;
  const name = track?.title || "Nothing plays";
  text($("#playing-title"), name);
  text($("#playing-by"), [track?.artist, track?.album].filter(Boolean).join(" — "));
  text($("#mini-text"), track ? [name, track.artist].filter(Boolean).join(" · ") : "Nothing plays");
  const waits = room.mode === "playing" ? room.waits_for : "";
  text($("#playing-note"), room.fault || track?.damage || waits || (track ? "" : "Find something, or add to the queue."));
  $("#playing-note").classList.toggle("bad", Boolean(room.fault));
  text($("#length"), track?.duration_s ? clock(track.duration_s) : "");
  const input = $("#seek");
  attribute(input, "max", Math.max(1, Math.ceil(track?.duration_s ?? 1)));
  input.disabled = !track || !api.can("control");
  document.title = track && room.mode === "playing" ? `${name} — ${room.name}` : `Music — ${room.name}`;
  askCover(track);
}

function askCover(track) {
  const key = track ? `${room.name}\n${track.path}\n${track.content_id ?? ""}` : "";
  if (key === shownCover) return;
  shownCover = key;
  $("#sleeve").style.setProperty("--hue", hue(track ? `${track.artist}${track.album ?? ""}` || track.title : ""));
  if (!track) showCover(false);
  else $("#cover").src = `${path("rooms", room.name, "cover")}?v=${track.content_id ?? encodeURIComponent(track.title)}`;
}

function showCover(there) {
  const image = $("#cover");
  image.hidden = !there;
  attribute(image, "alt", there ? `Cover of ${room?.track?.album || room?.track?.title || "what plays"}` : "");
  const glow = $("#glow");
  glow.hidden = !there;
  if (there) glow.src = image.src;
}

function showControls() {
  const playing = room.mode === "playing";
  for (const id of ["play", "mini-play"]) {
    const button = $(`#${id}`);
    relabel(button, playing ? "Pause" : "Play");
    setIcon(button, playing ? "pause" : "play");
    button.disabled = !room.track && !room.queue_length;
  }
  attribute($("#shuffle"), "aria-pressed", room.shuffled);
  const repeat = $("#repeat");
  relabel(repeat, `Repeat: ${REPEAT_WORDS[room.repeat]}`);
  attribute(repeat, "aria-pressed", room.repeat !== "off");
  setIcon(repeat, room.repeat === "one" ? "repeat-one" : "repeat");
  const mute = $("#room-mute");
  relabel(mute, room.muted ? "Unmute the room" : "Mute the room");
  attribute(mute, "aria-pressed", room.muted);
  setIcon(mute, room.muted ? "muted" : "volume");
  $("#room-volume").classList.toggle("muted", room.muted);
  $("#room-level").disabled = !api.can("control");
  setLevel(room.volume);
}
