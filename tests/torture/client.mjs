/**
 * A stock client in some rooms that logs its observations: connects and whether they were
 * recovered, events, and joins and leaves with the time of their acks. It rejoins its rooms when it
 * was not recovered, as an application should. It checks nothing.
 */

import { io } from "socket.io-client";
import { text } from "./history.mjs";

/** Reconnects quickly: a cycle lasts a second. */
export const RECONNECTION = { reconnectionDelay: 20, reconnectionDelayMax: 200, randomizationFactor: 0.5, timeout: 2_000 };

export class Client {
  /** Number of connects after the first, and number of them that were recovered. */
  reconnects = 0;
  recovered = 0;
  received = 0;

  #history;
  #log;
  #wanted = new Set();
  /** Time of the join of each room, or null if unknown; absent for rooms it is not in. */
  #rooms = new Map();
  /** Unanswered request of this connection for each room. */
  #asked = new Map();
  /** True if it has disconnected by itself. */
  #restarted = false;
  /** Newest event received in each room. */
  #newest = new Map();

  /** @param {import("./history.mjs").History} history */
  constructor(history, name, url, { transports, namespace = "/", ...options }) {
    this.name = name;
    this.transports = transports;
    this.#history = history;
    this.#log = history.log(name);
    this.socket = io(url + namespace, { transports, forceNew: true, ...RECONNECTION, ...options });
    this.socket.on("connect", () => this.#connected());
    this.socket.on("disconnect", (reason) => this.#write({ kind: "disconnect", reason }));
    this.socket.on("connect_error", ({ message }) => this.#write({ kind: "connect_error", reason: message }));
    this.socket.on("news", (n, room, body, offset = null) => this.#receive(n, room, body, offset));
  }

  #write(fact) {
    const entry = { at: this.#history.tick(), ...fact };
    this.#log.entries.push(entry);
    return entry;
  }

  #connected() {
    const { recovered, id } = this.socket;
    const isFirst = this.#log.entries.every(({ kind }) => kind !== "connect");
    this.#write({ kind: "connect", recovered: Boolean(recovered), sid: id });
    // The outcome of an unanswered leave is unknown.
    if (!isFirst && (recovered || !this.#restarted)) this.reconnects += 1;
    this.#restarted = false;
    if (recovered) this.recovered += 1;
    else this.#rooms.clear();
    // An answer missing by now will not arrive.
    this.#asked.clear();
    for (const room of new Set([...this.#wanted, ...this.#rooms.keys()])) this.#settle(room);
  }

  #receive(n, room, body, offset) {
    this.received += 1;
    this.#newest.set(room, Math.max(n, this.#newest.get(room) ?? 0));
    this.#write({ kind: "event", n, room, intact: body === text(n), offset });
  }

  join(room) {
    this.#wanted.add(room);
    this.#settle(room);
  }

  leave(room) {
    this.#wanted.delete(room);
    this.#settle(room);
  }

  /** Ends its session by a disconnect and starts another one. */
  restartSession() {
    this.#restarted = true;
    this.socket.disconnect().connect();
  }

  /** Requests the wanted state of `room`, one request at a time. */
  #settle(room) {
    const wants = this.#wanted.has(room);
    const stands = this.#rooms.get(room);
    const isDone = wants ? stands > 0 : stands === undefined;
    if (isDone || !this.socket.connected || this.#asked.has(room)) return;
    const kind = wants ? "join" : "leave";
    const entry = this.#write({ kind, room, ok: null });
    this.#asked.set(room, entry);
    this.#rooms.set(room, null);
    this.socket.emit(kind, room, (reply) => {
      if (this.#asked.get(room) !== entry) return;
      if (reply?.error) throw new Error(`${this.name}: ${kind} of ${room} was refused: ${reply.error.message}`);
      this.#asked.delete(room);
      entry.ok = this.#history.tick();
      if (wants) this.#rooms.set(room, entry.ok);
      else this.#rooms.delete(room);
      this.#settle(room);
    });
  }

  /** True if it is connected and its confirmed rooms are the wanted ones. */
  isSettled() {
    return this.socket.connected && this.#asked.size === 0;
  }

  /**
   * True if it is settled and has received those of `markers` that were published to a room while
   * it was in.
   */
  isQuiet(markers) {
    const hasHeard = ({ n, room, ok }) => {
      const since = this.#rooms.get(room);
      return since === undefined || since > ok || this.#newest.get(room) >= n;
    };
    return this.isSettled() && markers.every(hasHeard);
  }

  /** Restarts its log with the present state; it must be settled. */
  forget() {
    const at = this.#history.tick();
    this.#log.entries = [{ at, kind: "connect", recovered: false, sid: this.socket.id }];
    for (const room of this.#rooms.keys()) this.#log.entries.push({ at, kind: "join", room, ok: at });
  }

  close() {
    this.socket.disconnect();
  }
}
