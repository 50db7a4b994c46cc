/**
 * Notices that the server has fallen silent. The server pings; who hears nothing for longer than it promised has lost it.
 *
 * A timer alone does not notice a laptop that slept: timers stand still in its sleep. The wall clock does not, but it may be
 * set back, so either of the two clocks ends the wait.
 */

/** How often the clocks are looked at, in milliseconds: how long after waking up a sleep is noticed at the latest. */
export const TICK_MS = 5_000;

export class Heartbeat {
  #wall = Infinity;
  #steady = Infinity;
  /** @type {any} */
  #timer;

  /**
   * @param {() => void} onSilence called once, in a turn of its own
   * @param {{ wall: () => number, steady: () => number }} [clocks]
   */
  constructor(onSilence, clocks = { wall: () => Date.now(), steady: () => performance.now() }) {
    this.onSilence = onSilence;
    this.clocks = clocks;
  }

  /**
   * The server was heard; it will be again within `ms`.
   * @param {number} ms
   */
  heard(ms) {
    this.stop();
    this.#wall = this.clocks.wall() + ms;
    this.#steady = this.clocks.steady() + ms;
    this.#wait();
  }

  /** Whether the server is overdue, by either clock. */
  get expired() {
    return this.clocks.wall() > this.#wall || this.clocks.steady() > this.#steady;
  }

  /** Looks at the clocks now; true when the server is overdue, and then `onSilence` follows. */
  check() {
    if (!this.expired) return false;
    this.stop();
    // Overdue until the owner has been notified.
    this.#wall = -Infinity;
    queueMicrotask(this.onSilence);
    return true;
  }

  stop() {
    clearTimeout(this.#timer);
    this.#wall = this.#steady = Infinity;
  }

  #wait() {
    const left = Math.min(this.#wall - this.clocks.wall(), this.#steady - this.clocks.steady());
    // One more millisecond, since a deadline is missed only after it.
    this.#timer = setTimeout(() => this.check() || this.#wait(), Math.min(Math.max(left, 0) + 1, TICK_MS));
  }
}
