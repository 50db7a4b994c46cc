/**
 * Detects a server that stopped sending. The server pings; a client that receives nothing for
 * longer than announced has lost the connection.
 *
 * A timer alone does not notice a suspended machine, because timers stop while it sleeps. The wall
 * clock continues, but may be set back, so the wait ends when either clock reaches the deadline.
 */

/**
 * Interval between checks of the clocks in milliseconds: the maximum delay until a suspension is
 * noticed.
 */
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
   * Data of the server was received; more is due within `ms`.
   * @param {number} ms
   */
  extend(ms) {
    this.stop();
    this.#wall = this.clocks.wall() + ms;
    this.#steady = this.clocks.steady() + ms;
    this.#wait();
  }

  /** True if the server is overdue by either clock. */
  get expired() {
    return this.clocks.wall() > this.#wall || this.clocks.steady() > this.#steady;
  }

  /** Checks the clocks; true when the server is overdue, and `onSilence` follows. */
  check() {
    if (!this.expired) return false;
    this.stop();
    // The result stays true until the owner is notified.
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
    // One more millisecond, because a deadline is exceeded only after it.
    this.#timer = setTimeout(() => this.check() || this.#wait(), Math.min(Math.max(left, 0) + 1, TICK_MS));
  }
}
