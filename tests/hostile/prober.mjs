/**
 * A well-behaved client: it publishes to its own room and waits for the ack, about 190 times per
 * second on an idle server. The verdicts compare its rate before, during and after an attack.
 */

import { Client, sleep } from "./wire.mjs";

/** Pause between an ack and the next publish. */
const PAUSE_MS = 5;

export class Prober {
  acks = 0;
  /** Number of connections that the server ended. */
  cuts = 0;

  #port;
  #pauseMs;
  #isRunning = true;
  #client = null;
  #done = null;
  #latencies = [];

  constructor(port, pauseMs = PAUSE_MS) {
    this.#port = port;
    this.#pauseMs = pauseMs;
  }

  async start() {
    await this.#connect();
    this.#done = this.#run();
  }

  async #connect() {
    this.#client = await Client.open(this.#port, { from: "127.0.0.1" });
    await this.#client.ask("join", "prober");
  }

  async #run() {
    while (this.#isRunning) {
      try {
        if (this.#client.isClosed) await this.#connect();
        const begin = performance.now();
        const answer = await this.#client.ask("publish", "prober", "tick", this.acks);
        if (!answer?.error) this.acks += 1;
        this.#latencies.push(performance.now() - begin);
      } catch {
        if (this.#client.isClosed) this.cuts += 1;
        await sleep(100);
      }
      await sleep(this.#pauseMs);
    }
  }

  /**
   * Starts a measurement. The returned function ends it and gives acks per second and quantiles of
   * the milliseconds to an ack.
   */
  measure() {
    const [begin, acks] = [performance.now(), this.acks];
    this.#latencies = [];
    return () => {
      const rate = (this.acks - acks) / ((performance.now() - begin) / 1_000);
      const sorted = this.#latencies.toSorted((a, b) => a - b);
      const quantile = (q) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Infinity;
      return { rate, p50: quantile(0.5), p99: quantile(0.99), max: quantile(1) };
    };
  }

  async stop() {
    this.#isRunning = false;
    this.#client?.end();
    await this.#done;
  }
}
