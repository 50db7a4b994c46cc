/**
 * Events in the order in which this process observed them: the only clock is a counter. Publishers
 * and clients write, the checker reads. It checks nothing.
 *
 * @typedef {{ n: number, room: string, publisher: string, life: number, invoke: number, ok: number | null, offset: string | null }}
 *   Publish One published event with the times of publishing and of the answer. Without an answer the outcome is unknown.
 *
 * @typedef {{ at: number, kind: "connect", recovered: boolean, sid: string }
 *   | { at: number, kind: "disconnect", reason: string }
 *   | { at: number, kind: "connect_error", reason: string }
 *   | { at: number, kind: "event", n: number, room: string, intact: boolean, offset: string | null }
 *   | { at: number, kind: "join" | "leave", room: string, ok: number | null }} Entry
 *   one observation of a client; `ok` is the time of the server's answer.
 *
 * @typedef {{ name: string, entries: Entry[] }} Log
 */

export class History {
  /** @type {Publish[]} */
  publishes = [];
  /** @type {Log[]} */
  logs = [];

  #now = 0;
  #published = 0;
  #waiting = new Set();

  /** The next moment. */
  tick() {
    this.#now += 1;
    // Waiters check again after this turn, when its observations are recorded.
    for (const look of this.#waiting) queueMicrotask(look);
    return this.#now;
  }

  /** Log of one client, which appends to it. */
  log(name) {
    const log = { name, entries: [] };
    this.logs.push(log);
    return log;
  }

  /** Records that an event is published now. */
  publish(publisher, life, room) {
    const publish = { n: (this.#published += 1), room, publisher, life, invoke: this.tick(), ok: null, offset: null };
    this.publishes.push(publish);
    return publish;
  }

  /**
   * Resolves once `holds` is true, which is checked after each observation. Rejects after `ms`.
   * @param {string} what
   * @param {() => boolean} holds
   * @param {number} ms
   */
  until(what, holds, ms) {
    return new Promise((resolve, reject) => {
      const deadline = setTimeout(() => {
        this.#waiting.delete(look);
        reject(new Error(`no ${what} within ${ms} ms`));
      }, ms);
      const look = () => {
        if (!holds()) return;
        this.#waiting.delete(look);
        clearTimeout(deadline);
        resolve();
      };
      this.#waiting.add(look);
      look();
    });
  }

  /**
   * Removes settled publishes, those that were answered or received. Others may still be received.
   * The clients restart their logs by themselves.
   */
  forget() {
    const received = new Set();
    for (const { entries } of this.logs) for (const { kind, n } of entries) if (kind === "event") received.add(n);
    this.publishes = this.publishes.filter(({ n, ok }) => ok === null && !received.has(n));
  }
}

/** Text of event `n`: the number determines it, so that damage is detected. Some texts are long. */
export function text(n) {
  const length = n % 23 === 0 ? 20_000 : (n * 31) % 300;
  return `${n}:`.padEnd(length, "abcdefghij");
}
