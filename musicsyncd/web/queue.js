// The queue of the room that is shown. Owns its entries as the host has them, and the order in which changes are sent:
// one after the other, each with the revision of the view that it is meant for, so that two people never move or remove
// what the other one meant. What is changed is named by its number, which stays with an entry wherever it goes.

import { $, attribute, h, icon, iconButton, keyed, relabel, text } from "./dom.js";
import { api, path } from "./api.js";
import { clock, many, span } from "./format.js";
import { attempt, say } from "./say.js";
import { sortable } from "./drag.js";

const BEFORE_CURRENT = 3;
const ROWS = 120;
const MORE_ROWS = 300;

let room = null;
let queue = { revision: -1, entries: [] };
let owner = "";
let from = 0;
let count = ROWS;
let lifted = null;
let opened = null;
let work = Promise.resolve();
let loading = false;
let faults = "";
let ownChanges = 0;
let foreignRevision = -1;
let endUndo = null;
let undoFor = -1;

export function startQueue() {
  $("#clear").addEventListener("click", () => change("clear", () => ({}), "The queue is empty"));
  $("#undo").addEventListener("click", undo);
  $("#earlier").addEventListener("click", () => {
    const more = Math.min(from, MORE_ROWS);
    from -= more;
    count += more;
    render();
  });
  $("#later").addEventListener("click", () => {
    count += MORE_ROWS;
    render();
  });
}

/** Show a room as the host has just said it is, and fetch its queue if that is another now. */
export function showQueue(shown) {
  if (!shown) return;
  room = shown;
  if (owner !== room.name) {
    owner = room.name;
    queue = { revision: -1, entries: [] };
    count = ROWS;
    dismissUndo();
    from = Math.max(0, (room.queue_position ?? 1) - 1 - BEFORE_CURRENT);
  }
  if (queue.revision !== room.queue_revision || faults !== room.fault) load();
  render();
}

/** Fetch the queue, after the changes that are under way. */
function load() {
  if (loading) return;
  loading = true;
  inTurn(async () => {
    loading = false;
    if (queue.revision !== room.queue_revision || faults !== room.fault) await refresh(owner);
    faults = room.fault;
  });
}

function take(answer) {
  if (answer.revision !== queue.revision + ownChanges) foreignRevision = answer.revision;
  ownChanges = 0;
  queue = answer;
  if (endUndo && queue.revision !== undoFor) dismissUndo();
  render();
}

function inTurn(task) {
  work = work.then(task, task);
  return work;
}

/**
 * Send a change. `body()` is made when its turn comes, of the queue as it is then; null means there is nothing to do any
 * more. `done` is said with an offer to undo it.
 */
function change(name, body, done = "") {
  return inTurn(async () => {
    const target = owner;
    const what = body();
    if (what === null) return;
    try {
      await api.post(path("rooms", target, "queue", name), { revision: queue.revision, ...what });
      ownChanges += name === "jump" ? 0 : 1;
    } catch (error) {
      // On 409 the host's line says what others have changed meanwhile.
      say(error.status === 409 ? `Not done: ${error.message}` : error.message, { bad: true });
      await refresh(target);
      return;
    }
    await refresh(target);
    if (done) offerUndo(done);
  });
}

async function refresh(target) {
  try {
    const answer = await api.get(path("rooms", target, "queue"));
    if (target === owner) take(answer);
  } catch {
    render(); // The events tell when the host is back, and bring the queue with them.
  }
}

function offerUndo(line) {
  dismissUndo();
  undoFor = queue.revision;
  endUndo = say(line, { button: { label: "Undo", click: undo } });
}

function dismissUndo() {
  endUndo?.();
  endUndo = null;
}

function undo() {
  dismissUndo();
  inTurn(async () => {
    const target = owner;
    const answer = await attempt(() => api.post(path("rooms", target, "queue", "undo")));
    if (answer) say(capital(answer.message));
    await refresh(target);
  });
}

const capital = (line) => line.charAt(0).toUpperCase() + line.slice(1);
const indexOf = (number) => queue.entries.findIndex((entry) => entry.number === number);

function move(number, target) {
  change("move", () => {
    const index = indexOf(number);
    const to = target(index);
    if (index < 0 || to < 0 || to >= queue.entries.length || to === index) return null;
    // Shown at once; what the host then says is what counts.
    queue.entries.splice(to, 0, ...queue.entries.splice(index, 1));
    render();
    return { from: index + 1, to: to + 1 };
  });
}

function remove(entry, row) {
  const next = row.nextElementSibling ?? row.previousElementSibling;
  const focused = row.contains(document.activeElement);
  opened = null;
  change("remove", () => {
    const index = indexOf(entry.number);
    return index < 0 ? null : { positions: [index + 1] };
  }, `Removed “${entry.title}”`).then(() => {
    if (focused && !row.isConnected) (next?.querySelector(".entry-main") ?? $("#queue-title")).focus();
  });
}

function jump(number) {
  change("jump", () => {
    const index = indexOf(number);
    return index < 0 ? null : { position: index + 1 };
  });
}

function playNext(number) {
  move(number, (index) => {
    const current = (room.queue_position ?? 0) - 1;
    return index < current ? current : current + 1;
  });
}

// -- what is shown -------------------------------------------------------------------------------

function render() {
  if (lifted || !room) return;
  const total = queue.entries.length;
  const current = (room.queue_position ?? 0) - 1;
  from = Math.min(from, Math.max(0, total - 1));
  const rows = queue.entries.slice(from, from + count);
  keyed($("#entries"), rows, (entry) => entry.number, makeRow);
  attribute($("#entries"), "start", from + 1);
  const left = queue.entries.slice(Math.max(0, current)).reduce((sum, entry) => sum + (entry.duration_s || 0), 0);
  text($("#queue-count"), total ? `${many(total, "track")}${left ? ` · ${span(left)} left` : ""}` : "");
  $("#clear").hidden = !total;
  $("#earlier").hidden = from === 0;
  text($("#earlier"), `${many(from, "track")} before`);
  const behind = total - from - rows.length;
  $("#later").hidden = behind <= 0;
  text($("#later"), `${many(behind, "track")} more`);
  $("#queue-empty").hidden = total > 0 || queue.revision < 0;
  text($("#queue-empty"), api.can("guest") ? "The queue is empty. Find something to play." : "The queue is empty.");
}

function makeRow(entry) {
  const { number } = entry;
  let shown = entry;
  const title = h("span", { class: "line-title" });
  const by = h("span", { class: "line-by" });
  const fault = h("span", { class: "line-fault" });
  const place = h("span", { class: "place", "aria-hidden": "true" });
  const length = h("span", { class: "length" });
  const lines = h("span", { class: "lines" }, title, by, fault);
  const main = api.can("control")
    ? h("button", { type: "button", class: "entry-main", on: { click: () => jump(number) } }, place, lines, length)
    : h("div", { class: "entry-main", tabindex: "-1" }, place, lines, length);
  const row = h("li", { class: "entry" }, main);
  if (api.can("control")) addTools(row, number, () => shown);

  row.show = (value, offset) => {
    shown = value;
    const index = from + offset;
    const current = index === (room.queue_position ?? 0) - 1;
    text(title, value.title);
    text(by, value.artist || "");
    text(fault, value.fault || value.damage || "");
    text(place, index + 1);
    text(length, value.duration_s ? clock(value.duration_s) : "");
    attribute(row, "aria-current", current ? "true" : null);
    row.classList.toggle("moving", current && room.mode === "playing");
    row.classList.toggle("past", index < (room.queue_position ?? 0) - 1);
    row.classList.toggle("faulty", Boolean(value.fault));
    if (main.tagName === "BUTTON") attribute(main, "aria-label", `Play “${value.title}”${value.artist ? ` by ${value.artist}` : ""}${value.fault ? `: ${value.fault}` : ""}`);
    row.tools?.();
  };
  return row;
}

/** Let go of an entry: where the queue was changed by others since it was lifted, the host decides by its revision. */
function drop(view, number, index, to) {
  if (foreignRevision > view.revision) {
    change("move", () => ({ from: view.first + index + 1, to: view.first + to + 1, revision: view.revision }));
  } else {
    move(number, () => indexOf(view.rows[to].number));
  }
}

function addTools(row, number, shown) {
  let before = null;
  const grip = iconButton("grip", "", () => {}, { class: "icon-button grip" });
  grip.addEventListener("keydown", (event) => {
    const way = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!way) return;
    event.preventDefault();
    move(number, (index) => index + way);
  });
  const more = iconButton("more", "", () => {
    opened = opened === number ? null : number;
    render();
  }, { "aria-expanded": "false" });
  const tool = (name, label, click) => h("button", { type: "button", class: "button small", on: { click } }, icon(name), label);
  const up = tool("up", "Up", () => move(number, (index) => index - 1));
  const down = tool("down", "Down", () => move(number, (index) => index + 1));
  const tools = h("div", { class: "tools", hidden: true }, up, down,
    tool("next", "Play next", () => playNext(number)),
    tool("close", "Remove", () => remove(shown(), row)));
  row.prepend(grip);
  row.append(more, tools);
  sortable($("#entries"), row, grip, {
    begin: () => (lifted = { revision: queue.revision, first: from, rows: queue.entries.slice(from, from + count) }),
    end: () => {
      before = lifted;
      lifted = null;
      render();
    },
    dropped: (index, to) => drop(before, number, index, to),
  });
  row.tools = () => {
    const { title } = shown();
    relabel(grip, `Move “${title}”: drag, or press the arrow keys`);
    relabel(more, `More for “${title}”`);
    attribute(more, "aria-expanded", opened === number);
    tools.hidden = opened !== number;
  };
}
