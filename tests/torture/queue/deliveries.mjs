/**
 * Deliveries to one subscriber, in the order in which it observed them: which of them are repeated,
 * by what cause, and which come late over a connection that another has replaced.
 *
 * @import { Entry, Log } from "./history.mjs"
 */

export class Deliveries {
  /** Time at which the newest connection was attached. Infinity without one, as for a worker. */
  attachedAt = Infinity;
  #newest = 0;
  #received = new Set();

  /**
   * Takes the next entry of the log.
   * @param {Entry} entry
   */
  next({ kind, life, n, offset, at }) {
    if (kind === "attached" && life >= this.#newest) {
      this.#newest = life;
      this.attachedAt = at;
    }
    const isLate = life < this.#newest;
    // An event that was stored twice is not repeated.
    const delivered = `${n} ${offset}`;
    const isRepeated = kind === "event" && this.#received.has(delivered);
    if (kind === "event") this.#received.add(delivered);
    return { isLate, isRepeated };
  }
}

/**
 * All deliveries of a log, each with the cause of its repetition, or null if it is the first: a
 * nak, a fault since the event was received, no answer, or the fault that ended the connection
 * later. `none` is left for the others.
 * @param {Log} log
 */
export function* classify({ entries }) {
  const deliveries = new Deliveries();
  /** Of each event: what happened since it was received. */
  const since = new Map();
  const faults = [];
  for (const entry of entries) {
    const { isLate, isRepeated } = deliveries.next(entry);
    if (entry.kind === "fault") faults.push(entry);
    if (entry.kind === "answer" && since.has(entry.n)) since.get(entry.n).answer = entry.what;
    if (entry.kind !== "event") continue;
    const last = since.get(entry.n);
    since.set(entry.n, { at: entry.at, life: entry.life, answer: null });
    if (!isRepeated) yield { entry, cause: null };
    else yield { entry, cause: cause(last, entry, faults, isLate) };
  }
}

function cause(last, entry, faults, isLate) {
  if (isLate) return "replaced connection";
  if (last.answer === "nak") return "nak";
  const fault = faults.at(-1);
  if (fault?.at > last.at) return fault.what;
  if (last.answer === null) return "no answer";
  // A silent connection loses what is sent over it until its end is noticed.
  if (entry.life !== last.life) return fault?.what ?? "reconnect";
  return "none";
}
