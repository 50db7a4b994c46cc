/**
 * A stock client that is in some rooms and writes down all it sees: when it connected and whether it was told that nothing is
 * missing, what it heard, what it asked for and when that was answered. As an application should, it joins its rooms again when
 * it was not recovered. Judges nothing.
 */

import { io } from "socket.io-client";
import { text } from "./history.mjs";

/** Comes back soon: a cycle lasts a second. */
const RECONNECTION = { reconnectionDelay: 20, reconnectionDelayMax: 200, randomizationFactor: 0.5, timeout: 2_000 };

export class Client {
  /** Connects after the first, and how many of them it was told to be recovered. */
  reconnects = 0;
  recovered = 0;
  heard = 0;

  #history;
  #log;
  #wanted = new Set();
  /** Where it stands in each room, as far as it was told: since when it is in, or null when it does not know. Absent is out. */
  #rooms = new Map();
  /** What was asked for of each room in this life and not answered yet. */
  #asked = new Map();
  /** Whether it has left by itself. */
  #anew = false;
  /** The newest event heard in each room. */
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
    this.socket.on("news", (n, room, said, offset = null) => this.#hear(n, room, said, offset));
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
    // Whether its leaving arrived, nobody knows.
    if (!isFirst && (recovered || !this.#anew)) this.reconnects += 1;
    this.#anew = false;
    if (recovered) this.recovered += 1;
    else this.#rooms.clear();
    // An answer that has not come by now will not come.
    this.#asked.clear();
    for (const room of new Set([...this.#wanted, ...this.#rooms.keys()])) this.#settle(room);
  }

  #hear(n, room, said, offset) {
    this.heard += 1;
    this.#newest.set(room, Math.max(n, this.#newest.get(room) ?? 0));
    this.#write({ kind: "event", n, room, intact: said === text(n), offset });
  }

  join(room) {
    this.#wanted.add(room);
    this.#settle(room);
  }

  leave(room) {
    this.#wanted.delete(room);
    this.#settle(room);
  }

  /** Ends its session as a user does, and begins another. */
  startAnew() {
    this.#anew = true;
    this.socket.disconnect().connect();
  }

  /** Asks the server for what is wanted of `room`, one thing at a time. */
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

  /** Whether it is connected and was told that it is in the rooms it wants, and in no other. */
  isSettled() {
    return this.socket.connected && this.#asked.size === 0;
  }

  /** Whether it is settled and has heard those of `markers` that were published to a room while it was there. */
  isQuiet(markers) {
    const hasHeard = ({ n, room, ok }) => {
      const since = this.#rooms.get(room);
      return since === undefined || since > ok || this.#newest.get(room) >= n;
    };
    return this.isSettled() && markers.every(hasHeard);
  }

  /** Begins its log again, with what is true now; it must be settled. */
  forget() {
    const at = this.#history.tick();
    this.#log.entries = [{ at, kind: "connect", recovered: false, sid: this.socket.id }];
    for (const room of this.#rooms.keys()) this.#log.entries.push({ at, kind: "join", room, ok: at });
  }

  close() {
    this.socket.disconnect();
  }
}
