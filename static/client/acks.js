/** Pending acks of a socket by packet id. */

import { call } from "./emitter.js";

/**
 * Called with an error as first argument if `withError` is set, and then also when the ack can no
 * longer arrive.
 * @typedef {import("./emitter.js").Listener & { withError?: boolean }} Ack
 */

export class Acks {
  /** @type {Map<number, Ack>} */
  #pending = new Map();
  #ids = 0;

  /** @param {import("./socket.js").Socket} socket */
  constructor(socket) {
    this.socket = socket;
  }

  /**
   * @param {Ack} ack
   * @param {number} [timeout] milliseconds after which it is called with an error and its event is
   * no longer sent
   * @returns {number} the id of its packet
   */
  add(ack, timeout) {
    const id = this.#ids++;
    this.#pending.set(id, timeout === undefined ? ack : this.#withTimeout(id, ack, timeout));
    return id;
  }

  /**
   * Removes a pending ack without calling it.
   * @param {number | undefined} id
   */
  take(id) {
    const ack = this.#pending.get(/** @type {number} */ (id));
    this.#pending.delete(/** @type {number} */ (id));
    return ack;
  }

  /**
   * @param {number | undefined} id
   * @param {any[]} data
   */
  answer(id, data) {
    const ack = this.take(id);
    if (ack?.withError) call(ack, this.socket, null, ...data);
    else call(ack, this.socket, ...data);
  }

  /**
   * The connection has ended. Events in the send buffer can still be answered, all others cannot.
   */
  lose() {
    const unsent = new Set(this.socket.sendBuffer.map(({ id }) => id));
    for (const [id, ack] of [...this.#pending]) {
      if (unsent.has(id)) continue;
      this.#pending.delete(id);
      if (ack.withError) call(ack, this.socket, new Error("socket has been disconnected"));
    }
  }

  /**
   * @param {number} id
   * @param {Ack} ack
   * @param {number} timeout
   * @returns {Ack}
   */
  #withTimeout(id, ack, timeout) {
    const { socket } = this;
    const timer = setTimeout(() => {
      this.#pending.delete(id);
      socket.sendBuffer = socket.sendBuffer.filter((packet) => packet.id !== id);
      call(ack, socket, new Error("operation has timed out"));
    }, timeout);
    /** @type {Ack} */
    const inTime = (...args) => {
      clearTimeout(timer);
      ack.apply(socket, args);
    };
    inTime.withError = true;
    return inTime;
  }
}
