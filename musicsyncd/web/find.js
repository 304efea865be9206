// Searching the host's library, and adding or playing what is found. Owns which answer counts: that of the newest words.

import { $, attribute, h, icon, iconButton, keyed, text } from "./dom.js";
import { api, path } from "./api.js";
import { clock, hue, many, span } from "./format.js";
import { attempt, say } from "./say.js";

const TYPING_MS = 160;
const TRACKS = 60;
const ALBUMS = 12;
const ALL_ALBUMS = 300;

let timer = 0;
let asked = 0;
let browsing = false;

export function startFind() {
  $("#words").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, TYPING_MS);
  });
  $("#find-form").addEventListener("submit", (event) => {
    event.preventDefault();
    look();
  });
  $("#browse").addEventListener("click", () => {
    browsing = !browsing;
    look();
  });
}

/** The part of the page was opened: offer something to choose from. */
export function openFind() {
  if (!browsing && !$("#words").value) {
    browsing = true;
    look();
  }
}

async function look() {
  clearTimeout(timer);
  const words = $("#words").value.trim();
  const mine = ++asked;
  attribute($("#browse"), "aria-pressed", browsing);
  if (!words && !browsing) {
    show([], [], "");
    return;
  }
  const query = new URLSearchParams({ words, limit: words ? ALBUMS : ALL_ALBUMS });
  const find = new URLSearchParams({ words, limit: TRACKS });
  try {
    const [{ albums }, { tracks }] = await Promise.all([
      api.get(`/api/library/albums?${query}`),
      words ? api.get(`/api/library/search?${find}`) : { tracks: [] },
    ]);
    if (mine === asked) show(albums, tracks, said(words, albums, tracks));
  } catch (error) {
    if (mine === asked) show([], [], error.message);
  }
}

function said(words, albums, tracks) {
  if (!words) return albums.length ? many(albums.length, "album") : "No albums yet: type to search for tracks.";
  if (!albums.length && !tracks.length) return `Nothing found for “${words}”`;
  const more = tracks.length === TRACKS ? `the first ${TRACKS} tracks` : many(tracks.length, "track");
  return [albums.length ? many(albums.length, "album") : "", more].filter(Boolean).join(", ");
}

function show(albums, tracks, line) {
  text($("#find-count"), line);
  keyed($("#albums"), albums, (one, index) => JSON.stringify([one.name, one.artist, one.year, index]), makeAlbum);
  keyed($("#tracks"), tracks, (one) => one.id, makeTrack);
  $("#albums").hidden = !albums.length;
  $("#tracks").hidden = !tracks.length;
}

function makeAlbum(album) {
  const pick = album.artist ? { album: album.name, artist: album.artist } : { album: album.name };
  const facts = [album.artist || "Several artists", album.year || "", many(album.tracks, "track"), span(album.duration_s)];
  const letter = h("span", { class: "thumb", "aria-hidden": "true" }, (album.name.match(/[\p{L}\p{N}]/u) ?? ["♪"])[0]);
  letter.style.setProperty("--hue", hue(`${album.artist}${album.name}`));
  return line(letter, album.name, facts.filter(Boolean).join(" · "), "", pick, `album “${album.name}”`);
}

function makeTrack(track) {
  const cover = h("img", { class: "thumb", alt: "", loading: "lazy", decoding: "async", width: 44, height: 44 });
  const thumb = h("span", { class: "thumb", "aria-hidden": "true" }, icon("disc"), cover);
  thumb.style.setProperty("--hue", hue(`${track.artist}${track.album}`));
  cover.addEventListener("error", () => cover.remove());
  cover.src = path("library", "tracks", track.id.replace("library:", ""), "cover");
  const facts = [track.artist, track.album].filter(Boolean).join(" · ");
  return line(thumb, track.title, facts, clock(track.duration_s), { tracks: [track.id] }, `“${track.title}”`);
}

function line(thumb, title, facts, length, pick, name) {
  const lines = h("span", { class: "lines" }, h("span", { class: "line-title" }, title), h("span", { class: "line-by" }, facts));
  const row = h("li", { class: "found" }, thumb, lines, h("span", { class: "length" }, length));
  if (api.can("control")) {
    row.append(iconButton("play", `Play ${name} now`, () => send("play", pick)));
  }
  if (api.can("guest")) {
    row.append(iconButton("plus", `Add ${name} to the queue`, () => send("queue/add", pick)));
  }
  row.show = () => {};
  return row;
}

async function send(command, pick) {
  const answer = await attempt(() => api.post(`${path("rooms", api.room())}/${command}`, pick));
  if (answer) say(answer.message.charAt(0).toUpperCase() + answer.message.slice(1));
}
