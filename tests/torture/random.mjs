/**
 * Random numbers from a seed, so that a schedule can be repeated. The arrival times of packets are
 * not repeatable.
 */

export class Random {
  #state;

  /** @param {number | string} seed any number, or a text such as `"17 clients"` */
  constructor(seed) {
    // FNV-1a over the seed's text, so that similar seeds start differently.
    this.#state = [...String(seed)].reduce((hash, char) => Math.imul(hash ^ char.charCodeAt(0), 0x01000193), 0x811c9dc5) >>> 0;
  }

  /** A number in [0, 1), by Mulberry32. */
  number() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer from `low` to `high`, both included. */
  between(low, high) {
    return low + Math.floor(this.number() * (high - low + 1));
  }

  chance(probability) {
    return this.number() < probability;
  }

  /** One of `items`. */
  pick(items) {
    return items[this.between(0, items.length - 1)];
  }
}
