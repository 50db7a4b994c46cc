/**
 * The queue of a socket with the option `retries`: events are sent one by one, and repeated until
 * acknowledged.
 */

import { call } from "./emitter.js";

/** @typedef {import("./socket.js").Flags} Flags */

export class RetryQueue {
  /** @type {{ tryCount: number, pending: boolean, args: any[], flags: Flags }[]} */
  #queue = [];

  /**
   * @param {import("./socket.js").Socket} socket
   * @param {(args: any[], flags: Flags) => void} emit
   */
  constructor(socket, emit) {
    this.socket = socket;
    this.emit = emit;
  }

  /**
   * @param {any[]} args event name, values and, as the last one, an ack
   * @param {Flags} flags
   */
  push(args, flags) {
    /** @type {import("./acks.js").Ack | undefined} */
    const ack = typeof args.at(-1) === "function" ? args.pop() : undefined;
    const packet = { tryCount: 0, pending: false, args, flags: { ...flags, fromQueue: true } };
    /** @type {import("./acks.js").Ack} */
    const answered = (error, ...answer) => {
      // Of an earlier attempt than the one that was answered.
      if (packet !== this.#queue[0]) return;
      packet.pending = false;
      if (!error || packet.tryCount > (this.socket.opts.retries ?? 0)) {
        this.#queue.shift();
        call(ack, this.socket, error ?? null, ...answer);
      }
      this.drain();
    };
    answered.withError = true;
    args.push(answered);
    this.#queue.push(packet);
    this.drain();
  }

  /** @param {boolean} [force] whether to repeat a packet that was sent over another connection */
  drain(force = false) {
    const [packet] = this.#queue;
    if (!this.socket.connected || !packet || (packet.pending && !force)) return;
    packet.pending = true;
    packet.tryCount++;
    try {
      this.emit([...packet.args], packet.flags);
    } catch (error) {
      // It can never be encoded, so the queue continues with the next packet.
      this.#queue.shift();
      this.drain();
      throw error;
    }
  }
}
