// The host, as the page asks it. Owns requests, the WebSocket of events, who may do what, and what is known of the host
// of late: live, away, or refused. Must not know what is shown.

const REQUEST_MS = 10000;
const FIRST_PAUSE_MS = 500;
const MAX_PAUSE_MS = 15000;
const SILENT_MS = 30000;
const RELOADED_FOR = "musicsyncd.reloaded-for";

/** The host said no: `message` is its one line. */
export class Refused extends Error {
  constructor(status, body) {
    super(typeof body?.error === "string" ? body.error : `the host answered ${status}`);
    this.status = status;
    this.body = body ?? {};
  }
}

/** Nobody answered. */
export class Away extends Error {
  constructor() {
    super("The host does not answer. This page goes on by itself as soon as it does.");
  }
}

const listeners = new Map();

function emit(type, value) {
  for (const listener of listeners.get(type) ?? []) listener(value);
}

async function ask(method, path, body) {
  const options = { method, signal: AbortSignal.timeout(REQUEST_MS), credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  let response;
  let answer;
  try {
    response = await fetch(path, options);
    answer = await response.json().catch(() => null);
  } catch {
    events.suspect();
    throw new Away();
  }
  if (response.ok) return answer;
  if (response.status === 401 && path !== "/api/sign-in") events.signedOut();
  throw new Refused(response.status, answer);
}

export const api = {
  me: null,
  status: null,
  live: false,
  /** The room that the page shows. */
  room: () => "",
  get: (path) => ask("GET", path),
  post: (path, body = {}) => ask("POST", path, body),
  remove: (path) => ask("DELETE", path),
  socketUrl: (path) => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`,
  /** Call back on "status", "queue", "live", "away" or "signed-out". Returns a function that stops it. */
  on(type, callback) {
    if (!listeners.has(type)) listeners.set(type, new Set());
    listeners.get(type).add(callback);
    return () => listeners.get(type).delete(callback);
  },
  can: (role) => LEVELS.indexOf(api.me?.role) >= LEVELS.indexOf(role),
};

const LEVELS = ["listen", "guest", "control"];

/** Load the page anew when the host was upgraded, and so has another page; once only, whatever is said. */
function outdated(version) {
  if (version === api.me.version || sessionStorage.getItem(RELOADED_FOR) === version) return false;
  sessionStorage.setItem(RELOADED_FOR, version);
  location.reload();
  return true;
}

/** The path of a room's or a speaker's command. */
export const path = (...parts) => `/api/${parts.map(encodeURIComponent).join("/")}`;

/** The events of the host, over a WebSocket that is made again, after growing pauses, for as long as the page is open. */
export const events = {
  socket: null,
  pauseMs: FIRST_PAUSE_MS,
  timer: 0,
  heardMs: 0,
  awaySinceMs: 0,

  start() {
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.hurry());
    addEventListener("online", () => this.hurry());
    addEventListener("pageshow", (event) => event.persisted && this.hurry());
    setInterval(() => this.look(), 2000);
    this.open();
  },

  open() {
    clearTimeout(this.timer);
    this.close();
    const socket = (this.socket = new WebSocket(api.socketUrl("/api/events")));
    this.heardMs = performance.now();
    socket.onmessage = (message) => socket === this.socket && this.heard(message.data);
    socket.onclose = () => socket === this.socket && this.lost();
  },

  /** Let go of a connection without making another. */
  close() {
    const socket = this.socket;
    this.socket = null;
    clearTimeout(this.timer);
    socket?.close();
  },

  heard(data) {
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      return;
    }
    this.heardMs = performance.now();
    this.pauseMs = FIRST_PAUSE_MS;
    if (event.type === "status") {
      if (outdated(event.host.version)) return;
      event.heardMs = this.heardMs;
      api.status = event;
      if (!api.live) {
        api.live = true;
        emit("live");
      }
    }
    emit(event.type, event);
  },

  /** Find out why the connection ended: the host is away, or this page may not have one any more. */
  async lost() {
    this.socket = null;
    const wasLive = api.live;
    api.live = false;
    if (wasLive) this.awaySinceMs = Date.now();
    try {
      await ask("GET", "/api/me");
    } catch (error) {
      if (error instanceof Refused && error.status === 401) return;
    }
    emit("away", this.awaySinceMs);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), this.pauseMs);
    // Not all pages at the same instant, when a host with many of them comes back.
    this.pauseMs = Math.min(MAX_PAUSE_MS, this.pauseMs * (1.6 + 0.4 * Math.random()));
  },

  signedOut() {
    const known = api.me !== null;
    this.close();
    api.live = false;
    emit("signed-out", known);
  },

  /** Try at once: somebody looks, or the network is back. */
  hurry() {
    if (!api.me || api.live || this.socket?.readyState === WebSocket.CONNECTING) return;
    this.pauseMs = FIRST_PAUSE_MS;
    this.open();
  },

  /** A request failed: see whether the connection still lives. */
  suspect() {
    if (api.live) this.heardMs = Math.min(this.heardMs, performance.now() - SILENT_MS);
  },

  /** A machine that lost its power closes no connection: after a silence, ask. */
  async look() {
    if (!api.live || performance.now() - this.heardMs < SILENT_MS) return;
    const socket = this.socket;
    const answers = await fetch("/api/me", { signal: AbortSignal.timeout(4000), cache: "no-store" }).then(
      () => true,
      () => false,
    );
    if (answers) this.heardMs = performance.now();
    else if (socket && socket === this.socket) {
      socket.onclose = null;
      socket.close();
      this.lost();
    }
  },
};
