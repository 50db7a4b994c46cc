/**
 * A durable subscriber on a socket of its own. The name is in the CONNECT packet; the server
 * answers with `stentor:attached`, then delivers what is pending, in order.
 */

/** Time limit of an answer, in milliseconds. */
const ANSWER_MS = 5_000;

/** Number of unanswered joins after which the server is taken as one without a queue. */
const JOINS_MAX = 2;

/** Delay after which the server delivers an event again that was sent back, in milliseconds. */
export const NAK_MS = 2_000;

/**
 * Interval at which the server hears that the delivered events are still looked at, in milliseconds;
 * less than its `ack_wait`, after which it would deliver them again.
 */
const IN_PROGRESS_MS = 10_000;

/** @typedef {{ status: "resumed" | "partial" | "reset", reason?: string, pending: number, gaps?: object[] }} Verdict */
/** @typedef {{ id: string, from: string, tab?: string, text: string }} Order */

/**
 * @typedef {object} Listener
 * @property {(verdict: Verdict, socket: string) => void} onAttached
 * @property {(order: Order, redelivered: boolean) => void} onOrder
 * @property {() => void} onGap the server removed events that were not acknowledged
 * @property {(reason: "lost" | "evicted" | "removed" | "closed") => void} onDetached
 * @property {(message: string) => void} onError an error without a request, such as a full disk
 * @property {(message: string) => void} onRefused
 */

export class Subscriber {
  /** @type {import("../client/index.js").Socket | undefined} */
  #socket;
  /**
   * @type {Map<string, { ack: (answer?: object) => void, offset: string }>} delivered events, by the
   *   order's id
   */
  #delivered = new Map();

  /**
   * @param {string} name
   * @param {string} room
   * @param {(auth: object) => import("../client/index.js").Socket} connect creates a connection
   * @param {Listener} listener
   */
  constructor(name, room, connect, listener) {
    this.name = name;
    this.room = room;
    this.connect = connect;
    this.listener = listener;
    setInterval(() => this.#delivered.forEach(({ offset }) => this.#socket?.emit("in_progress", offset)), IN_PROGRESS_MS);
  }

  get isOpen() {
    return this.#socket !== undefined;
  }

  /**
   * @param {string} id
   * @returns {boolean} whether the event was delivered on this connection and has no answer yet
   */
  holds(id) {
    return this.#delivered.has(id);
  }

  open() {
    const { listener } = this;
    const socket = this.connect({ subscriber: this.name });
    this.#socket = socket;
    /** @type {"closed" | "evicted" | "removed"} */
    let end = "closed";
    socket.on("stentor:attached", (/** @type {Verdict} */ verdict) => listener.onAttached(verdict, socket.id ?? ""));
    const onOrder = (/** @type {Order} */ order, /** @type {any} */ meta, /** @type {any} */ ack) => {
      if (typeof order?.id !== "string" || typeof ack !== "function") return;
      this.#delivered.set(order.id, { ack, offset: `${meta?.offset}` });
      listener.onOrder(order, meta?.redelivered === true);
    };
    socket.on("order", onOrder);
    socket.on("stentor:gap", () => listener.onGap());
    socket.on("stentor:evicted", (/** @type {any} */ eviction) => (end = eviction?.reason === "removed" ? "removed" : "evicted"));
    socket.on("stentor:error", (/** @type {any} */ { error }) => listener.onError(error.message));
    socket.on("connect", () => this.#subscribe(socket));
    socket.on("connect_error", (/** @type {Error} */ error) => socket.active || this.#refuse(error.message));
    socket.on("disconnect", () => {
      // An ack belongs to its connection; the server delivers the event again on the next one.
      this.#delivered.clear();
      if (this.#socket !== socket) return;
      if (!socket.active) this.#socket = undefined;
      listener.onDetached(socket.active ? "lost" : end);
    });
  }

  /** The connection ends; what is pending waits at the server. */
  close() {
    const socket = this.#socket;
    // The listener does not hear of a disconnect that the page itself asked for.
    this.#socket = undefined;
    socket?.disconnect();
    this.#delivered.clear();
  }

  /**
   * The subscription is stored by the server, so that repeating it does no harm.
   * @param {import("../client/index.js").Socket} socket
   */
  async #subscribe(socket) {
    const { room } = this;
    for (let n = 0; n < JOINS_MAX; n += 1) {
      const answer = await socket.timeout(ANSWER_MS).emitWithAck("join", room, { durable: true }).catch(() => undefined);
      if (!socket.connected || answer?.room) return;
      if (answer?.error) return this.#refuse(answer.error.message);
    }
    this.#refuse("the server does not answer");
  }

  /** @param {string} message */
  #refuse(message) {
    this.close();
    this.listener.onRefused(message);
  }

  /** @param {string} id */
  ack(id) {
    return this.#answer(id);
  }

  /** @param {string} id of an event to deliver again later */
  nak(id) {
    return this.#answer(id, { nak: true, delay: NAK_MS });
  }

  /** @param {string} id of an event that becomes a dead letter */
  term(id) {
    return this.#answer(id, { term: true, reason: "refused by a visitor of the demo page" });
  }

  /**
   * @param {string} id
   * @param {object} [answer]
   * @returns {boolean} whether it was sent
   */
  #answer(id, answer) {
    const event = this.#delivered.get(id);
    this.#delivered.delete(id);
    event?.ack(...(answer ? [answer] : []));
    return event !== undefined;
  }

  /** @returns {Promise<any>} `{events, in_flight, dead_letters, …}`, or nothing */
  pending() {
    return this.#ask("pending");
  }

  /** @returns {Promise<any>} `{events: [{args, …}]}` */
  dead() {
    return this.#ask("dead");
  }

  /** Makes all dead letters pending again. */
  replayDead() {
    return this.#ask("replay_dead");
  }

  /** @param {string} event */
  async #ask(event) {
    const answer = await this.#socket?.timeout(ANSWER_MS).emitWithAck(event).catch((error) => ({ error }));
    return answer ?? { error: new Error("kitchen is not open in this tab") };
  }
}
