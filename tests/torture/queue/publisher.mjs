/**
 * Publishes durable events, most of them under a `dedup_id` and repeatedly until they are stored,
 * and plain events between them. It repeats some that were stored, and tries to store others under
 * an id that was used. It records the answers and checks nothing.
 *
 * @import { DurableHistory, DurablePublish } from "./history.mjs"
 */

import { io } from "socket.io-client";
import { RECONNECTION } from "../client.mjs";
import { text } from "../history.mjs";

/** Kinds of publishes, and their relative frequency. */
const KINDS = { durable: 70, "durable, without id": 10, plain: 14, repeated: 4, conflicting: 2 };
const DRAWN = Object.entries(KINDS).flatMap(([kind, weight]) => Array(weight).fill(kind));

/** Share of durable events that are for two rooms. */
const OF_TWO_ROOMS = 0.2;

/** Share of durable events that expire, and milliseconds until they do. */
const EXPIRING = 0.02;
const EXPIRES_MS = [1, 1_500];

/** Maximum number of publishes without outcome. */
const OPEN_MAX = 8;

/** Time after which an answer is no longer expected. */
const ANSWER_MS = 5_000;

/** Milliseconds until an event that was refused is published again. */
const RETRY_MS = 20;

/** Stored events that may be repeated. */
const STORED_MAX = 100;

/** Errors that do not pass: another attempt would end in the same one. */
const FINAL = ["bad_request", "conflict", "too_large", "not_found"];

/** Events of one burst, and milliseconds until the next one. */
const BURST = [1, 4];
const PAUSE_MS = [5, 25];

export class DurablePublisher {
  /** Number of error answers by code. */
  refused = new Map();

  #history;
  #random;
  #socket;
  #life = 0;
  /** Number of publishes that have no outcome yet. */
  #open = 0;
  #timer = null;
  /** @type {DurablePublish[]} */
  #stored = [];

  /**
   * @param {DurableHistory} history
   * @param {import("../random.mjs").Random} random
   */
  constructor(history, name, url, { random, transports }) {
    this.name = name;
    this.#history = history;
    this.#random = random;
    this.#socket = io(url, { transports, forceNew: true, ...RECONNECTION });
    for (const event of ["connect", "disconnect"]) this.#socket.on(event, () => history.tick());
    this.#socket.on("connect", () => (this.#life += 1));
  }

  /** Publishes to `rooms` until `stop`. */
  start(rooms) {
    const step = () => {
      for (let left = this.#random.between(...BURST); left > 0; left--) {
        if (this.#socket.connected && this.#open < OPEN_MAX) void this.#opened(this.#publishAny(rooms));
      }
      this.#timer = setTimeout(step, this.#random.between(...PAUSE_MS));
    };
    step();
  }

  stop() {
    clearTimeout(this.#timer);
  }

  async #opened(publish) {
    this.#open += 1;
    await publish;
    this.#open -= 1;
    this.#history.tick();
  }

  #publishAny(rooms) {
    const to = [this.#random.pick(rooms)];
    if (this.#random.chance(OF_TWO_ROOMS)) to.push(this.#random.pick(rooms.filter((room) => room !== to[0])));
    const kind = this.#random.pick(DRAWN);
    if (kind === "durable") return this.publish(to, this.#random.chance(EXPIRING) ? this.#random.between(...EXPIRES_MS) : null);
    if (kind === "plain") return this.#publishPlain(to[0]);
    if (kind === "durable, without id") return this.#attempt(this.#history.publishDurable(this.name, this.#life, to, null));
    // Of this round: the checker must know both events of a conflict.
    const known = this.#history.publishes;
    const first = this.#stored.length > 0 ? this.#random.pick(this.#stored) : null;
    if (first && kind === "repeated") return this.#repeat(first);
    if (first && known.includes(first)) return this.#attempt(this.#history.publishDurable(this.name, this.#life, first.rooms, first.dedup));
  }

  /**
   * Publishes a durable event until it is stored, and resolves with it. It expires `expiresIn`
   * milliseconds after it was stored, unless that is null.
   */
  async publish(rooms, expiresIn = null) {
    const publish = this.#history.publishDurable(this.name, this.#life, rooms, null);
    publish.dedup = `event ${publish.n}`;
    publish.expires = expiresIn;
    while (!(await this.#attempt(publish))) {
      if (FINAL.includes(publish.refused)) throw new Error(`${this.name}: event ${publish.n} was refused: ${publish.refused}`);
      if (this.#socket.connected) await new Promise((done) => setTimeout(done, RETRY_MS));
      else await new Promise((done) => this.#socket.once("connect", done));
    }
    this.#stored = [...this.#stored, publish].slice(-STORED_MAX);
    return publish;
  }

  /** Publishes a durable event once. Resolves with true if it was stored. */
  async #attempt(publish) {
    publish.attempts += 1;
    const answer = await this.#send(publish);
    if (answer && !answer.error) {
      const { offset, duplicate, pending_for: pendingFor } = answer;
      Object.assign(publish, { ok: this.#history.tick(), refused: null, receipt: { offset, duplicate, pendingFor } });
      return true;
    }
    // Once an attempt was left without answer, no later error tells that nothing was stored.
    if (publish.refused !== "indeterminate") publish.refused = answer?.error.code ?? "indeterminate";
    return false;
  }

  async #repeat(publish) {
    const answer = await this.#send(publish);
    if (!answer || answer.error) return;
    const { offset, duplicate } = answer;
    this.#history.repeats.push({ n: publish.n, first: publish.receipt.offset, offset, duplicate });
  }

  #send({ n, room, rooms, dedup, expires }) {
    const to = rooms.length === 1 ? { room } : { rooms };
    const options = { ...to, durable: true, ...(dedup && { dedup_id: dedup }), ...(expires && { expires_in: expires }) };
    return this.#ask(options, n, room);
  }

  async #publishPlain(room) {
    const publish = this.#history.publish(this.name, this.#life, room);
    const answer = await this.#ask(room, publish.n, room);
    if (answer && !answer.error) Object.assign(publish, { ok: this.#history.tick(), offset: answer.offset });
  }

  /** The answer to a publish, or null if the connection has ended before it. */
  async #ask(to, n, room) {
    try {
      const answer = await this.#socket.timeout(ANSWER_MS).emitWithAck("publish", to, "news", n, room, text(n));
      const code = answer.error?.code;
      if (code) this.refused.set(code, (this.refused.get(code) ?? 0) + 1);
      return answer;
    } catch {
      this.#history.tick();
      return null;
    }
  }

  /** True if it is connected and every publish has an outcome. */
  isSettled() {
    return this.#socket.connected && this.#open === 0;
  }

  close() {
    this.stop();
    this.#socket.disconnect();
  }
}
