/**
 * A durable subscriber without a connection: it pulls events over HTTP, a few at a time, and
 * settles them by their offsets, which the server confirms. It checks nothing.
 *
 * @import { DurableHistory, Entry } from "./history.mjs"
 */

import { text } from "../history.mjs";

/** Events of one pull, and milliseconds that it waits for the first of them. */
const LIMIT = [1, 20];
const WAIT_MS = 100;

/** Milliseconds until the next attempt after a request has failed. */
const RETRY_MS = 30;

/** Time after which an answer is no longer expected. */
const ANSWER_MS = 5_000;

/** The status of an answer to an event that another process of the server has sent. */
const NOT_IN_FLIGHT = 404;

/** Answers to an event, and their relative frequency. */
const ANSWERS = { ack: 80, nak: 10, term: 1, none: 5 };
const DRAWN = Object.entries(ANSWERS).flatMap(([answer, weight]) => Array(weight).fill(answer));

export class Worker {
  reconnects = 0;
  evictions = 0;
  /** True if the server refused a request, which it does not if it knows the subscriber. */
  isForgotten = false;

  #history;
  #random;
  #url;
  #key;
  #log;
  #rooms;
  #isSubscribed = false;
  #isCalm = false;
  #isAway = false;
  #newest = new Map();
  /** Ends with the work. */
  #abort = new AbortController();
  #working;

  /**
   * @param {DurableHistory} history
   * @param {import("../random.mjs").Random} random
   * @param {{ url: string, key: string, rooms: string[] }} options
   */
  constructor(history, name, random, { url, key, rooms }) {
    this.name = name;
    this.#history = history;
    this.#random = random;
    this.#url = `${url}/api/v1/subscribers/${name}`;
    this.#key = key;
    this.#rooms = rooms;
    this.#log = history.subscriber(name);
    this.#working = this.#work();
  }

  /** @param {object} fact @returns {Entry} */
  #write(fact) {
    const entry = { at: this.#history.tick(), ...fact };
    this.#log.entries.push(entry);
    return entry;
  }

  /**
   * The answer to a request, or null if there was none or the server could not fulfil it. A refusal
   * with another status than one of `accepted` is an error of the server.
   */
  async #ask(method, path, body, accepted = []) {
    const headers = { authorization: `Bearer ${this.#key}`, "content-type": "application/json" };
    const signal = AbortSignal.any([AbortSignal.timeout(ANSWER_MS), this.#abort.signal]);
    try {
      const answer = await fetch(this.#url + path, { method, headers, signal, body: body && JSON.stringify(body) });
      const reply = await answer.json();
      if (answer.ok) return reply;
      if (answer.status < 429 && !accepted.includes(answer.status)) {
        this.isForgotten = true;
        this.#log.refusal ??= `${method} ${path}: ${answer.status} ${JSON.stringify(reply)}`;
      }
    } catch {
      // The server has ended, and the answer with it.
    }
    this.#history.tick();
    await new Promise((done) => setTimeout(done, RETRY_MS));
    return null;
  }

  async #work() {
    while (!this.#abort.signal.aborted) {
      if (!this.#isSubscribed) await this.#subscribe();
      else if (this.#isAway) await new Promise((done) => setTimeout(done, RETRY_MS));
      else await this.#pull();
    }
  }

  async #subscribe() {
    const joins = this.#rooms.map((room) => this.#write({ kind: "join", room, ok: null }));
    if (!(await this.#ask("PUT", "", { rooms: this.#rooms }))) return;
    const ok = this.#history.tick();
    for (const join of joins) join.ok = ok;
    this.#isSubscribed = true;
  }

  async #pull() {
    const pulled = await this.#ask("POST", "/pull", { limit: this.#random.between(...LIMIT), wait_ms: WAIT_MS });
    const answers = { ack: [], nak: [], term: [], none: [] };
    for (const gap of pulled?.gaps ?? []) this.#write({ kind: "gap", life: 1, gap });
    for (const { offset, room, args, redelivered = false } of pulled?.events ?? []) {
      const [n, , body] = args;
      this.#newest.set(room, Math.max(n, this.#newest.get(room) ?? 0));
      this.#write({ kind: "event", life: 1, n, room, offset, redelivered, intact: body === text(n) });
      answers[this.#isCalm ? "ack" : this.#random.pick(DRAWN)].push({ n, offset });
    }
    await this.#settle(answers.ack);
    for (const { n, offset } of answers.nak) {
      this.#write({ kind: "answer", n, what: "nak" });
      await this.#ask("POST", "/nak", { offset, delay: this.#random.between(0, 100) }, [NOT_IN_FLIGHT]);
    }
    for (const { n, offset } of answers.term) {
      this.#write({ kind: "answer", n, what: "term" });
      await this.#ask("POST", "/term", { offset, reason: `gave up ${n}` }, [NOT_IN_FLIGHT]);
    }
  }

  async #settle(events) {
    if (events.length === 0) return;
    const offsets = events.map(({ offset }) => offset);
    const entry = this.#write({ kind: "settle", offsets, ok: null });
    if (await this.#ask("POST", "/ack", { offsets })) entry.ok = this.#history.tick();
  }

  goAway() {
    this.#isAway = true;
  }

  comeBack() {
    this.#isAway = false;
  }

  isAway() {
    return this.#isAway;
  }

  fault(what) {
    this.#write({ kind: "fault", what });
  }

  /** From now on it pulls and acknowledges everything; or it is not calm any more. */
  calm(isCalm = true) {
    this.#isCalm = isCalm;
    if (isCalm) this.comeBack();
  }

  isSettled() {
    return this.#isSubscribed;
  }

  /** True if it has received those of `markers` that were published to its rooms. */
  hasHeard(markers) {
    return markers.every(({ n, room }) => !this.#rooms.includes(room) || this.#newest.get(room) >= n);
  }

  /** Asks until nothing is pending. */
  async drained() {
    for (;;) {
      const entry = this.#write({ kind: "pending", events: null, ok: null });
      const reply = await this.#ask("GET", "");
      if (reply) Object.assign(entry, { events: reply.events, ok: this.#history.tick() });
      if (reply?.events === 0) return;
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }

  /** Reads its dead letters and replays them. Resolves with true if there are any. */
  async replayDead() {
    const { events } = await this.#need("GET", "/dead?limit=1000");
    this.#log.dead = events.map(({ offset, reason }) => ({ offset, reason }));
    if (events.length === 0) return false;
    const entry = this.#write({ kind: "replay", offsets: events.map(({ offset }) => offset), ok: null });
    await this.#need("POST", "/dead/replay", {});
    entry.ok = this.#history.tick();
    return true;
  }

  /** The answer to a request that nothing disturbs. */
  async #need(method, path, body) {
    const reply = await this.#ask(method, path, body);
    if (!reply) throw new Error(`${this.name}: ${method} ${path} was not answered`);
    return reply;
  }

  /** Restarts its log with the present state. */
  forget() {
    const at = this.#history.tick();
    this.#log.entries = this.#rooms.map((room) => ({ at, kind: "join", room, ok: at }));
    this.#log.dead = null;
  }

  async close() {
    this.#abort.abort();
    await this.#working;
  }
}
