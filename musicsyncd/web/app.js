// The page: signing in, which part of it and which room are shown, and what is said when the host is away.

import { $, attribute, h, keyed, text } from "./dom.js";
import { api, events } from "./api.js";
import { say } from "./say.js";
import { showPlayer, startPlayer } from "./player.js";
import { showQueue, startQueue } from "./queue.js";
import { openFind, startFind } from "./find.js";
import { harmony, showSpeakers, startSpeakers } from "./speakers.js";

const ROOM_KEPT = "musicsyncd.room";
const FIRST_ROOM = "main";
const TOKEN = /^#?([A-Za-z0-9_-]{16,200})$/;
const AWAY_SAID_AFTER_MS = 800;

const root = document.documentElement;
let chosen = localStorage.getItem(ROOM_KEPT) ?? "";
let awayTimer = 0;

// -- signing in ----------------------------------------------------------------------------------

/** Take a token out of the address, so that it stays in no history. */
function tokenOfAddress() {
  const found = TOKEN.exec(location.hash);
  if (location.hash) history.replaceState(null, "", location.pathname);
  return found?.[1] ?? "";
}

async function signIn(token) {
  const known = api.me;
  try {
    api.me = await api.post("/api/sign-in", { token });
  } catch (error) {
    if (known) say(`The link was not taken: ${error.message}`, { bad: true });
    else showGate("This link is not taken", error.status === 401 ? "It is not complete, or it was revoked." : error.message);
    return;
  }
  // Which buttons there are depends on the role: what was made for another one is made anew.
  if (known) location.reload();
  else begin();
}

async function start() {
  const token = tokenOfAddress();
  if (token) return signIn(token);
  try {
    api.me = await api.get("/api/me");
  } catch (error) {
    if (error.status === 401) return;
    if (error.status) return showGate("The host did not let this page in", error.message);
    text($("#gate-text"), "");
    showGate("The host does not answer", "This page tries again by itself.");
    setTimeout(start, 3000);
    return;
  }
  begin();
}

function showGate(title, line) {
  $("#app").hidden = true;
  $("#gate").hidden = false;
  text($("#gate-title"), title);
  text($("#gate-text"), line);
}

function begin() {
  $("#gate").hidden = true;
  $("#app").hidden = false;
  attribute(root, "data-gate", "open");
  attribute(root, "data-role", api.me.role);
  $("#sign-out").hidden = api.me.open;
  text($("#host-name"), api.me.host || "Music");
  const by = api.me.name ? ` as ${api.me.name}` : "";
  const may = { control: "may do everything", guest: "may add to the queue", listen: "may look and listen" }[api.me.role];
  text($("#account"), api.me.open ? `musicsyncd ${api.me.version}` : `Signed in${by}: ${may}. musicsyncd ${api.me.version}`);
  startPlayer();
  startQueue();
  startFind();
  startSpeakers();
  startViews();
  mountSpeaker();
  events.start();
}

api.on("signed-out", (known) => {
  if (known) showGate("This page was signed out", "Its link was revoked, or has run out. A new link lets you in again.");
  else showGate("This page needs a link", "Whoever runs the host can give you one.");
});

$("#gate-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = $("#gate-token").value.trim();
  const found = TOKEN.exec(given.includes("#") ? given.slice(given.indexOf("#")) : given);
  if (!found) {
    text($("#gate-error"), "That is no link of musicsyncd: it ends in # and a row of letters and digits.");
    return;
  }
  text($("#gate-error"), "");
  api.me = null;
  signIn(found[1]);
});

$("#sign-out").addEventListener("click", async () => {
  await api.post("/api/sign-out").catch(() => {});
  events.close();
  location.reload();
});

addEventListener("hashchange", () => {
  const token = tokenOfAddress();
  if (token) signIn(token);
});

// -- what is shown -------------------------------------------------------------------------------

function startViews() {
  const show = (view) => {
    attribute(root, "data-view", view);
    for (const button of document.querySelectorAll("[data-show]")) {
      attribute(button, "aria-current", button.dataset.show === view ? "page" : null);
    }
    scrollTo(0, 0);
    if (view === "find") openFind();
  };
  for (const button of document.querySelectorAll("[data-show]")) {
    button.addEventListener("click", () => {
      show(button.dataset.show);
      if (button.dataset.show === "find" && matchMedia("(pointer: fine)").matches) $("#words").focus();
    });
  }
  $("#mini-title").addEventListener("click", () => show("playing"));
  $("#room-select").addEventListener("change", (event) => api.showRoom(event.target.value));
}

api.room = () => roomOf(api.status)?.name ?? "";
api.say = say;
api.showRoom = (name) => {
  chosen = name;
  localStorage.setItem(ROOM_KEPT, name);
  render(api.status);
};

/** The room that was chosen; else, and until it is gone, one that plays, the one that hosts begin with, or any. */
function roomOf(status) {
  const rooms = status?.rooms ?? [];
  const room = rooms.find(({ name }) => name === chosen) ?? rooms.find(({ mode }) => mode === "playing")
    ?? rooms.find(({ name }) => name === FIRST_ROOM) ?? rooms[0] ?? null;
  if (room) chosen = room.name;
  return room;
}

function render(status) {
  const room = roomOf(status);
  showRooms(status.rooms, room);
  const { line, kind } = harmony(status.peers.filter((peer) => peer.room === room?.name));
  text($("#harmony"), line);
  attribute($("#harmony"), "class", `harmony state ${kind}`);
  showPlayer(room, status.heardMs);
  showQueue(room);
  showSpeakers(status);
}

function showRooms(rooms, room) {
  const select = $("#room-select");
  $("#room-pick").hidden = rooms.length < 2;
  $("#room-only").hidden = rooms.length >= 2;
  text($("#room-only"), room?.name ?? "");
  keyed(select, rooms, (one) => one.name, ({ name }) => Object.assign(h("option", { value: name }, name), { show() {} }));
  if (document.activeElement !== select && room) select.value = room.name;
}

api.on("status", render);

// -- the host goes and comes ---------------------------------------------------------------------

api.on("away", (sinceMs) => {
  // A network that hiccups for a moment is not worth a word.
  awayTimer ||= setTimeout(() => {
    attribute(root, "data-away", true);
    const since = sinceMs ? ` since ${new Date(sinceMs).toLocaleTimeString([], { timeStyle: "short" })}` : "";
    text($("#banner"), `The host has been away${since}. The page goes on by itself when it is back.`);
  }, AWAY_SAID_AFTER_MS);
});

api.on("live", () => {
  clearTimeout(awayTimer);
  awayTimer = 0;
  attribute(root, "data-away", null);
  text($("#banner"), "");
});

async function mountSpeaker() {
  const section = $("#play-here");
  try {
    const { mount } = await import("./speaker.js");
    mount(section, api);
    section.hidden = false;
  } catch {
    section.hidden = true; // A page without a speaker is still a page.
  }
}

start();
