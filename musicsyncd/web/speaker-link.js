// The conversation of a browser that plays with its host. Owns the socket, the probes and when it is tried again; must
// not know what is done with what the host says. The host does the sums: it is told when each probe left and when its
// answer came, and says which of its own times belongs to which of the browser's.

const BURST = 20;
const BURST_MS = 50;
const STEADY_MS = 500;
const FIRST_PAUSE_MS = 500;
const MAX_PAUSE_MS = 10000;

export const localNs = () => Math.round(performance.now() * 1e6);

/**
 * Calls back: `state(message, connection)`, `clock(message, connection)`, `welcome(message, connection)`,
 * `away()` and `ended(why)`. Connections are counted from 1; times of two of them have nothing to do with each other.
 */
export class Link {
  #url;
  #hello;
  #on;
  #socket = null;
  #connection = 0;
  #pause = FIRST_PAUSE_MS;
  #timer = 0;
  #closed = false;

  constructor(url, hello, on) {
    this.#url = url;
    this.#hello = hello;
    this.#on = on;
    this.#connect();
  }

  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
  }

  #connect() {
    const socket = this.#socket = new WebSocket(this.#url), connection = ++this.#connection;
    const probes = { n: 0, answered: 0, t4: 0, timer: 0 };
    let ended = "";
    socket.onopen = () => {
      this.send({ type: "hello", ...this.#hello });
      this.#probe(probes);
    };
    socket.onmessage = (event) => {
      const now = localNs();
      const message = JSON.parse(event.data);
      this.#pause = FIRST_PAUSE_MS;
      if (message.type === "answer") {
        probes.answered = message.n;
        probes.t4 = now;
      } else if (message.type === "gone") ended = message.again ? "" : message.why;
      else this.#on[message.type]?.(message, connection);
    };
    socket.onclose = (event) => {
      clearTimeout(probes.timer);
      if (this.#closed) return;
      if (event.code === 4401) ended = "This page's link was withdrawn: ask for a new one.";
      if (ended) {
        this.#closed = true;
        this.#on.ended(ended);
        return;
      }
      this.#on.away();
      this.#timer = setTimeout(() => this.#connect(), this.#pause * (0.8 + 0.4 * Math.random()));
      this.#pause = Math.min(2 * this.#pause, MAX_PAUSE_MS);
    };
  }

  #probe(probes) {
    const { answered, t4 } = probes;
    probes.answered = 0;
    this.send({ type: "probe", n: ++probes.n, ...(answered ? { answered, t4 } : {}), t1: localNs() });
    probes.timer = setTimeout(() => this.#probe(probes), probes.n < BURST ? BURST_MS : STEADY_MS);
  }
}
