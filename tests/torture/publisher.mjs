/**
 * Publishes numbered events to rooms and records which were accepted. A publish whose connection
 * broke before the answer may have taken place or not; it is not repeated.
 */

import { io } from "socket.io-client";
import { text } from "./history.mjs";

/** Maximum number of unanswered publishes. */
const UNANSWERED_MAX = 8;

/** Time after which an answer is no longer expected. */
const ANSWER_MS = 5_000;

/** Events of one burst, and milliseconds until the next burst. */
const BURST = [1, 4];
const PAUSE_MS = [2, 12];

export class Publisher {
  /** Number of error answers by code. */
  refused = new Map();

  #history;
  #random;
  #life = 0;
  #unanswered = 0;
  #timer = null;

  /**
   * @param {import("./history.mjs").History} history
   * @param {import("./random.mjs").Random} random
   */
  constructor(history, name, url, { random, ...options }) {
    this.name = name;
    this.#history = history;
    this.#random = random;
    this.socket = io(url, { forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 200, timeout: 2_000, ...options });
    for (const event of ["connect", "disconnect"]) this.socket.on(event, () => history.tick());
    // Each connection has a number: events of an older one may arrive after those of a newer one.
    this.socket.on("connect", () => (this.#life += 1));
  }

  /** Publishes to `rooms` until `stop`. */
  start(rooms, [low, high] = PAUSE_MS) {
    const step = () => {
      for (let left = this.#random.between(...BURST); left > 0; left--) {
        if (this.socket.connected && this.#unanswered < UNANSWERED_MAX) void this.publish(this.#random.pick(rooms));
      }
      this.#timer = setTimeout(step, this.#random.between(low, high));
    };
    step();
  }

  stop() {
    clearTimeout(this.#timer);
  }

  /**
   * Publishes one event. Resolves with it once it was answered or cannot be answered any more; then
   * its `ok` is null.
   */
  async publish(room) {
    const publish = this.#history.publish(this.name, this.#life, room);
    this.#unanswered += 1;
    try {
      const { error, offset } = await this.socket.timeout(ANSWER_MS).emitWithAck("publish", room, "news", publish.n, room, text(publish.n));
      if (error) this.refused.set(error.code, (this.refused.get(error.code) ?? 0) + 1);
      else Object.assign(publish, { ok: this.#history.tick(), offset });
    } catch {
      // The connection has ended, and the answer with it.
      this.#history.tick();
    }
    this.#unanswered -= 1;
    return publish;
  }

  /** True if it is connected and has no unanswered publish. */
  isSettled() {
    return this.socket.connected && this.#unanswered === 0;
  }

  close() {
    this.stop();
    this.socket.disconnect();
  }
}
