/** Exponential back-off with jitter and a maximum. It starts no timer. */

const FACTOR = 2;

export class Backoff {
  attempts = 0;

  /**
   * @param {{ min?: number, max?: number, jitter?: number, random?: () => number }} [options] `min` and `max` in milliseconds;
   *   `jitter` between 0 and 1: the share of a delay that is added or subtracted at random.
   */
  constructor({ min = 100, max = 10_000, jitter = 0, random = Math.random } = {}) {
    this.min = min;
    this.max = max;
    this.jitter = jitter;
    this.random = random;
  }

  /** The delay of the next attempt in milliseconds; counts the attempt. */
  duration() {
    const delay = this.min * FACTOR ** this.attempts++;
    const jitter = this.jitter > 0 && this.jitter <= 1 ? this.jitter : 0;
    return Math.floor(Math.min(delay * (1 + jitter * (2 * this.random() - 1)), this.max));
  }

  reset() {
    this.attempts = 0;
  }
}
