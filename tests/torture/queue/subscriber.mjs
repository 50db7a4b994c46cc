/**
 * A stock client that is a durable subscriber and logs its observations. It acknowledges most
 * events, and otherwise does what applications do: answers late, out of order, with a nak or not at
 * all, dies in the middle of a batch, comes back over another transport, or opens a second
 * connection under its name. It checks nothing.
 *
 * @import { DurableHistory, Entry } from "./history.mjs"
 */

import { io } from "socket.io-client";
import { RECONNECTION } from "../client.mjs";
import { text } from "../history.mjs";

const TRANSPORTS = [["websocket"], ["polling"], ["polling", "websocket"]];

/** Answers to an event, and their relative frequency. */
const ANSWERS = { ack: 60, value: 5, late: 12, nak: 6, "nak, delayed": 4, term: 1, working: 2, received: 6, none: 2 };
const DRAWN = Object.entries(ANSWERS).flatMap(([answer, weight]) => Array(weight).fill(answer));

/** Milliseconds that a late answer takes. */
const LATE_MS = [1, 40];

/** Milliseconds between two questions for pending events. */
const ASK_MS = 20;

/** Time after which an answer is no longer expected. */
const ANSWER_MS = 5_000;

export class Subscriber {
  /** Number of connects after the first, of evictions, and of events received. */
  reconnects = 0;
  evictions = 0;
  received = 0;
  /** True if the server took it for new, and it had connected before. */
  isForgotten = false;

  #history;
  #random;
  #url;
  #log;
  #socket = null;
  /** Number of the newest connection. */
  #life = 0;
  #isAttached = false;
  #wanted = new Set();
  /** Rooms whose subscription was confirmed; null while the outcome is unknown. */
  #rooms = new Map();
  #asked = new Map();
  /** Events that it will receive and leave unanswered until its connection breaks. */
  #dying = null;
  /** Acks of events that were left unanswered. */
  #withheld = [];
  /** Acknowledges everything. */
  #isCalm = false;
  /** Newest event received in each room. */
  #newest = new Map();
  #breakLink;

  /**
   * @param {DurableHistory} history
   * @param {import("../random.mjs").Random} random
   * @param {{ url: string, breakLink?: () => void }} link
   */
  constructor(history, name, random, { url, breakLink = () => {} }) {
    this.name = name;
    this.#history = history;
    this.#random = random;
    this.#url = url;
    this.#breakLink = breakLink;
    this.#log = history.subscriber(name);
  }

  /** @param {object} fact @returns {Entry} */
  #write(fact) {
    const entry = { at: this.#history.tick(), ...fact };
    this.#log.entries.push(entry);
    return entry;
  }

  /** Connects. An older connection stays open until the server ends it. */
  connect(transports = this.#random.pick(TRANSPORTS)) {
    this.#abandon();
    this.#isAttached = false;
    const socket = io(this.#url, { transports, forceNew: true, auth: { subscriber: this.name }, ...RECONNECTION });
    this.#socket = socket;
    let life = 0;
    const isCurrent = () => socket === this.#socket;
    socket.on("connect", () => {
      life = this.#life += 1;
      if (life > 1) this.reconnects += 1;
      this.#history.tick();
    });
    socket.on("stentor:attached", ({ status, gaps = [] }) => {
      this.#write({ kind: "attached", life, status, gaps });
      this.isForgotten ||= status === "reset" && [...this.#rooms.values()].includes(true);
      if (!isCurrent()) return;
      this.#isAttached = true;
      this.#dying = null;
      // An answer missing by now will not arrive.
      this.#asked.clear();
      for (const room of new Set([...this.#wanted, ...this.#rooms.keys()])) this.#settle(room);
    });
    socket.on("stentor:gap", (gap) => this.#write({ kind: "gap", life, gap }));
    socket.on("stentor:evicted", () => {
      this.evictions += 1;
      this.#write({ kind: "evicted", life });
    });
    socket.on("disconnect", (reason) => {
      this.#write({ kind: "disconnect", life, reason });
      if (isCurrent()) this.#isAttached = false;
    });
    socket.on("connect_error", ({ message }) => this.#write({ kind: "connect_error", reason: message }));
    socket.on("news", (n, _, body, ...rest) => {
      const ack = rest.pop();
      if (typeof ack !== "function") return void this.#write({ kind: "plain", life, n });
      const { room, offset, redelivered = false } = rest.pop();
      this.#receive({ life, n, room, offset, redelivered, intact: body === text(n) }, ack, socket);
    });
  }

  /**
   * Stops the present connection from coming back: it would evict its successor. If it is open, it
   * stays open.
   */
  #abandon() {
    this.#socket?.io.reconnection(false);
    if (!this.#socket?.connected) this.#socket?.disconnect();
  }

  #receive(delivery, ack, socket) {
    this.received += 1;
    const { n, room } = delivery;
    this.#newest.set(room, Math.max(n, this.#newest.get(room) ?? 0));
    this.#write({ kind: "event", ...delivery });
    if (this.#isCalm) return this.#answer(delivery, "ack", () => ack());
    if (this.#dying === 0) return;
    if (this.#dying !== null && (this.#dying -= 1) === 0) return this.#breakLink();
    this.#respond(this.#random.pick(DRAWN), delivery, ack, socket);
  }

  /** Gives one of the answers in `ANSWERS`. */
  #respond(answer, delivery, ack, socket) {
    const { n, offset } = delivery;
    const later = () => setTimeout(() => this.#answer(delivery, "ack", () => ack()), this.#random.between(...LATE_MS));
    switch (answer) {
      case "ack":
        return this.#answer(delivery, "ack", () => ack());
      case "value":
        return this.#answer(delivery, "ack", () => ack("done", n));
      case "late":
        return void later();
      case "nak":
        return this.#answer(delivery, "nak", () => ack({ nak: true }));
      case "nak, delayed":
        return this.#answer(delivery, "nak", () => ack({ nak: true, delay: this.#random.between(0, 100) }));
      case "term":
        return this.#answer(delivery, "term", () => ack({ term: true, reason: `gave up ${n}` }));
      case "working":
        socket.emit("in_progress", offset);
        return void later();
      case "received":
        return this.#settleUpTo(offset, socket);
      case "none":
        return void this.#withheld.push({ delivery, ack });
    }
  }

  #answer({ n, life }, what, send) {
    this.#write({ kind: "answer", life, n, what });
    send();
  }

  #settleUpTo(offset, socket) {
    const entry = this.#write({ kind: "settle", upTo: offset, ok: null });
    socket.emit("received", offset, (reply) => {
      if (!reply?.error) entry.ok = this.#history.tick();
    });
  }

  /** Subscribes to a room, as soon as it is connected. */
  join(room) {
    this.#wanted.add(room);
    this.#settle(room);
  }

  leave(room) {
    this.#wanted.delete(room);
    this.#settle(room);
  }

  /** Requests the wanted state of `room`, one request at a time. */
  #settle(room) {
    const wants = this.#wanted.has(room);
    const stands = this.#rooms.get(room);
    const isDone = wants ? stands === true : stands === undefined;
    if (isDone || !this.#isAttached || !this.#socket.connected || this.#asked.has(room)) return;
    const kind = wants ? "join" : "leave";
    const entry = this.#write({ kind, room, ok: null });
    this.#asked.set(room, entry);
    this.#rooms.set(room, null);
    const args = wants ? [room, { durable: true }] : [room];
    this.#socket.emit(kind, ...args, (reply) => {
      if (this.#asked.get(room) !== entry) return;
      this.#asked.delete(room);
      this.#log.refusal ??= reply?.error && `${kind} of ${room} was refused: ${reply.error.message}`;
      if (!reply?.error) {
        entry.ok = this.#history.tick();
        if (wants) this.#rooms.set(room, true);
        else this.#rooms.delete(room);
      }
      this.#settle(room);
    });
  }

  /** Ends its connection at the `events`-th event from now, and answers none from then on. */
  die(events) {
    this.#dying = events;
  }

  /** Opens a second connection over another transport, which takes its place. */
  replace() {
    if (!this.isAway()) this.connect();
  }

  /** Loses its connection and comes back over another transport. */
  switchTransport() {
    if (this.isAway()) return;
    this.#socket.io.opts.transports = this.#random.pick(TRANSPORTS);
    this.#socket.io.engine?.close();
  }

  /** Goes away: politely by a disconnect, or as if its process had ended. */
  goAway(isPolite) {
    if (this.isAway()) return;
    this.#abandon();
    if (isPolite) this.#socket.disconnect();
    else this.#breakLink();
    this.#socket = null;
    this.#isAttached = false;
  }

  comeBack() {
    if (this.isAway()) this.connect();
  }

  isAway() {
    return this.#socket === null;
  }

  /** Records a fault that it may have suffered from. */
  fault(what) {
    this.#write({ kind: "fault", what });
  }

  /** From now on it is connected and acknowledges everything; or it is not calm any more. */
  calm(isCalm = true) {
    this.#isCalm = isCalm;
    if (!isCalm) return;
    this.#dying = null;
    for (const { delivery, ack } of this.#withheld.splice(0)) this.#answer(delivery, "ack", () => ack());
    this.comeBack();
  }

  /** True if it is attached and its confirmed subscriptions are the wanted ones. */
  isSettled() {
    return this.#isAttached && this.#socket.connected && this.#asked.size === 0;
  }

  /** True if it has received those of `markers` that were published to its rooms. */
  hasHeard(markers) {
    return this.isSettled() && markers.every(({ n, room }) => !this.#rooms.has(room) || this.#newest.get(room) >= n);
  }

  /** Asks until nothing is pending. */
  async drained() {
    for (;;) {
      const entry = this.#write({ kind: "pending", events: null, ok: null });
      const { events } = await this.#ask("pending");
      Object.assign(entry, { events, ok: this.#history.tick() });
      if (events === 0) return;
      await new Promise((done) => setTimeout(done, ASK_MS));
    }
  }

  /** Reads its dead letters and replays them. Resolves with true if there are any. */
  async replayDead() {
    const { events } = await this.#ask("dead", { limit: 1_000 });
    this.#log.dead = events.map(({ offset, reason }) => ({ offset, reason }));
    if (events.length === 0) return false;
    const entry = this.#write({ kind: "replay", offsets: events.map(({ offset }) => offset), ok: null });
    await this.#ask("replay_dead");
    entry.ok = this.#history.tick();
    return true;
  }

  /** The answer to a request that only the end of the connection disturbs. */
  async #ask(event, ...args) {
    const ask = () => this.#socket.timeout(ANSWER_MS).emitWithAck(event, ...args).catch(() => null);
    let reply = null;
    while (!(reply = this.isSettled() ? await ask() : null)) await new Promise((done) => setTimeout(done, ASK_MS));
    if (reply.error) throw new Error(`${this.name}: ${event} was refused: ${reply.error.message}`);
    return reply;
  }

  /** Restarts its log with the present state; it must be settled, or away for the whole time. */
  forget() {
    const at = this.#history.tick();
    const state = [...this.#rooms.keys()].map((room) => ({ at, kind: "join", room, ok: at }));
    this.#log.entries = [...state, { at, kind: "attached", life: this.#life, status: "resumed", gaps: [] }];
    this.#log.dead = null;
  }

  close() {
    this.#socket?.disconnect();
  }
}
