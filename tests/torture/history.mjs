/**
 * What happened, in the order in which this process saw it: the only clock is a counter. Publishers and clients write, the
 * checker reads. Judges nothing.
 *
 * @typedef {{ n: number, room: string, publisher: string, life: number, invoke: number, ok: number | null, offset: string | null }}
 *   Publish one event: when it was published, and when that was answered. Without an answer nobody knows whether it took place.
 *
 * @typedef {{ at: number, kind: "connect", recovered: boolean, sid: string }
 *   | { at: number, kind: "disconnect", reason: string }
 *   | { at: number, kind: "connect_error", reason: string }
 *   | { at: number, kind: "event", n: number, room: string, intact: boolean, offset: string | null }
 *   | { at: number, kind: "join" | "leave", room: string, ok: number | null }} Entry
 *   one fact of a client; `ok` is when the server's answer came
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
    // Whoever waits looks again once this turn is over, when what happened has been written down.
    for (const look of this.#waiting) queueMicrotask(look);
    return this.#now;
  }

  /** A client's log, to which the client adds. */
  log(name) {
    const log = { name, entries: [] };
    this.logs.push(log);
    return log;
  }

  /** Notes that an event is published now. */
  publish(publisher, life, room) {
    const publish = { n: (this.#published += 1), room, publisher, life, invoke: this.tick(), ok: null, offset: null };
    this.publishes.push(publish);
    return publish;
  }

  /**
   * Resolves once `holds` is true, which is looked at whenever something happened. Rejects after `ms`.
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
   * Forgets what is settled: of the publishes, those that were answered or heard. Those left may still be heard. The clients begin their
   * logs again by themselves.
   */
  forget() {
    const heard = new Set();
    for (const { entries } of this.logs) for (const { kind, n } of entries) if (kind === "event") heard.add(n);
    this.publishes = this.publishes.filter(({ n, ok }) => ok === null && !heard.has(n));
  }
}

/** The text of event `n`: everybody who knows the number can tell whether it arrived whole. Now and then a long one. */
export function text(n) {
  const length = n % 23 === 0 ? 20_000 : (n * 31) % 300;
  return `${n}:`.padEnd(length, "abcdefghij");
}
