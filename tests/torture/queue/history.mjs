/**
 * History of durable events: what publishers, subscribers and plain members observed, in one order.
 * Offsets are compared as texts: within an epoch they sort.
 *
 * @typedef {import("../history.mjs").Publish & {
 *   rooms: string[], dedup: string | null, expires: number | null, attempts: number, refused: string | null,
 *   receipt: { offset: string, duplicate: boolean, pendingFor: number } | null,
 * }} DurablePublish
 * A publish that is repeated under its `dedup` until it is answered; it `expires` after so many ms; `ok` and `receipt` are of the
 * first answer. `room` joins the names of `rooms`. `refused` is the error code of the last answer.
 *
 * @typedef {{ n: number, first: string, offset: string, duplicate: boolean }} Repeat
 * The answer to publishing event `n` once more, whose first receipt had the offset `first`
 *
 * @typedef {{ from: string, to: string, reason: string }} Gap
 *
 * @typedef {{ at: number, kind: "attached", life: number, status: string, gaps: Gap[] }
 *   | { at: number, kind: "disconnect", life: number, reason: string }
 *   | { at: number, kind: "gap", life: number, gap: Gap }
 *   | { at: number, kind: "event", life: number, n: number, room: string, offset: string, redelivered: boolean, intact: boolean }
 *   | { at: number, kind: "plain", life: number, n: number }
 *   | { at: number, kind: "answer", life?: number, n: number, what: "ack" | "nak" | "term" }
 *   | { at: number, kind: "settle", offsets?: string[], upTo?: string, ok: number | null }
 *   | { at: number, kind: "pending", events: number | null, ok: number | null }
 *   | { at: number, kind: "replay", offsets: string[], ok: number | null }
 *   | { at: number, kind: "join" | "leave", room: string, ok: number | null }
 *   | { at: number, kind: "fault", what: string }} Entry
 * One observation of a subscriber. `life` numbers its connections. The server does not confirm an
 * `answer`; it confirms a `settle` and answers a question for `pending` events at `ok`. A `plain`
 * event arrived as at a member without subscription. A `replay` makes dead letters pending again. A
 * `fault` may have cost events or answers.
 *
 * @typedef {{ offset: string, reason: string }} DeadLetter
 *
 * @typedef {{ name: string, entries: Entry[], dead: DeadLetter[] | null }} Log
 * `dead` has its dead letters before the replay at the end, null if unknown
 */

import { History } from "../history.mjs";

export class DurableHistory extends History {
  /** @type {Log[]} */
  subscribers = [];
  /** @type {Repeat[]} */
  repeats = [];
  /** Events up to this number were settled in an earlier round, apart from those in `publishes`. */
  settled = 0;

  /** Log of one subscriber, which appends to it. @returns {Log} */
  subscriber(name) {
    const log = { name, entries: [], dead: null };
    this.subscribers.push(log);
    return log;
  }

  /** Records that a durable event is published now. @returns {DurablePublish} */
  publishDurable(publisher, life, rooms, dedup) {
    const publish = this.publish(publisher, life, rooms.join("+"));
    return Object.assign(publish, { rooms, dedup, expires: null, attempts: 0, refused: null, receipt: null });
  }

  /**
   * Removes what is settled: all but publishes without outcome that nobody received. The clients
   * restart their logs by themselves.
   */
  forget() {
    for (const { n } of this.publishes) this.settled = Math.max(this.settled, n);
    const seen = new Set();
    for (const { entries } of this.subscribers) for (const { n } of entries) seen.add(n);
    super.forget();
    this.publishes = this.publishes.filter(({ n, refused }) => !seen.has(n) && (!refused || refused === "indeterminate"));
    this.repeats = [];
  }

  /** The parts that the checker reads. */
  toJSON() {
    const { publishes, logs, subscribers, repeats, settled } = this;
    return { publishes, logs, subscribers, repeats, settled };
  }
}
