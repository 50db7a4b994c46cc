/**
 * A client's socket in one namespace: it emits, receives, acknowledges, and buffers events while
 * disconnected.
 *
 * Reserved events, in addition to those of the application: "connect", "connect_error" (error),
 * "disconnect" (reason, details).
 */

import { Acks } from "./acks.js";
import { call, Emitter, subscribe } from "./emitter.js";
import { PacketType, RESERVED_EVENTS } from "./parsers/socketio.js";
import { RetryQueue } from "./retries.js";

/** @typedef {import("./emitter.js").Listener} Listener */

/**
 * @typedef {object} SocketOptions
 * @property {Record<string, any> | ((give: (auth: Record<string, any>) => void) => void)} [auth]
 * sent with every CONNECT
 * @property {number} [retries] how often a packet is repeated without ack; packets are then sent
 * one by one
 * @property {number} [ackTimeout] milliseconds to wait for an ack, unless `timeout()` is used
 */

/** @typedef {{ volatile?: boolean, timeout?: number, compress?: boolean, fromQueue?: boolean }} Flags */

export class Socket extends Emitter {
  /** @type {string | undefined} */
  id;
  connected = false;
  /** True if the session was recovered: no event was missed. */
  recovered = false;
  /** @type {any[][]} events received before the CONNECT reply */
  receiveBuffer = [];
  /**
   * @type {import("./parsers/socketio.js").Packet[]} packets emitted while disconnected, sent on
   * connect
   */
  sendBuffer = [];
  /** @type {string | undefined} private id of the session, if the server can recover it */
  _pid;
  /** @type {string | undefined} offset of the last event received, for recovery */
  _lastOffset;

  #acks = new Acks(this);
  #queue = new RetryQueue(this, (args, flags) => this.#emit(args, flags));
  /** @type {Flags} of the next emit */
  #flags = {};
  /** @type {Listener[]} */
  #anyListeners = [];
  /** @type {Listener[]} */
  #anyOutgoingListeners = [];
  /** @type {(() => void)[] | undefined} present while the socket should be connected */
  #undo;
  /**
   * The connection to the namespace, from the request for credentials to its end. Callbacks passed
   * to the application are bound to their connection. `asked`: CONNECT was sent.
   * @type {{ asked: boolean } | undefined}
   */
  #connection;

  /**
   * @param {import("./manager.js").Manager} io
   * @param {string} nsp
   * @param {SocketOptions} [opts]
   */
  constructor(io, nsp, opts = {}) {
    super();
    this.io = io;
    this.nsp = nsp;
    this.opts = opts;
    /** Read at every connect, so it may be changed in between. */
    this.auth = opts.auth;
    if (io._autoConnect) this.connect();
  }

  get disconnected() {
    return !this.connected;
  }

  /** True if it is connected or will connect by itself. */
  get active() {
    return !!this.#undo;
  }

  connect() {
    if (this.connected) return this;
    this.#undo ??= [
      subscribe(this.io, "open", () => this.#onOpen()),
      subscribe(this.io, "packet", (packet) => packet.nsp === this.nsp && this.#onPacket(packet)),
      subscribe(this.io, "error", (error) => this.connected || this.emitReserved("connect_error", error)),
      subscribe(this.io, "close", (reason, details) => this.#onClose(reason, details)),
    ];
    if (!this.io._reconnecting) this.io.open();
    if (this.io._readyState === "open") this.#onOpen();
    return this;
  }

  open() {
    return this.connect();
  }

  /** Leaves the namespace; the connection closes with its last socket. */
  disconnect() {
    if (this.connected) this.#packet({ type: PacketType.DISCONNECT });
    this.#destroy();
    if (this.connected) this.#onClose("io client disconnect");
    return this;
  }

  close() {
    return this.disconnect();
  }

  /** @param {...any} args of the event "message" */
  send(...args) {
    return this.emit("message", ...args);
  }

  /**
   * Sends an event to the server.
   * @param {string} event
   * @param {...any} args a function as the last argument is called with the server's ack
   */
  emit(event, ...args) {
    if (RESERVED_EVENTS.has(event)) throw new Error(`"${event}" is a reserved event name`);
    const flags = this.#flags;
    this.#flags = {};
    if (this.opts.retries && !flags.fromQueue && !flags.volatile) this.#queue.push([event, ...args], flags);
    else this.#emit([event, ...args], flags);
    return this;
  }

  /**
   * @param {string} event
   * @param {...any} args
   * @returns {Promise<any>} the first value of the ack; rejects at the timeout or when the
   * connection is lost
   */
  emitWithAck(event, ...args) {
    return new Promise((resolve, reject) => {
      const ack = (/** @type {any} */ error, /** @type {any} */ value) => (error ? reject(error) : resolve(value));
      ack.withError = true;
      this.emit(event, ...args, ack);
    });
  }

  /** @param {boolean} compress whether the next packet may be compressed */
  compress(compress) {
    this.#flags.compress = compress;
    return this;
  }

  /** Drops the next packet if it cannot be sent immediately. */
  get volatile() {
    this.#flags.volatile = true;
    return this;
  }

  /** @param {number} timeout milliseconds after which the ack of the next packet is called with an error */
  timeout(timeout) {
    this.#flags.timeout = timeout;
    return this;
  }

  // Catch-all listeners for incoming and outgoing events.

  /** @param {Listener} listener */
  onAny(listener) {
    this.#anyListeners.push(listener);
    return this;
  }

  /** @param {Listener} listener */
  prependAny(listener) {
    this.#anyListeners.unshift(listener);
    return this;
  }

  /** @param {Listener} [listener] default: all */
  offAny(listener) {
    this.#anyListeners = without(this.#anyListeners, listener);
    return this;
  }

  listenersAny() {
    return this.#anyListeners;
  }

  /** @param {Listener} listener */
  onAnyOutgoing(listener) {
    this.#anyOutgoingListeners.push(listener);
    return this;
  }

  /** @param {Listener} listener */
  prependAnyOutgoing(listener) {
    this.#anyOutgoingListeners.unshift(listener);
    return this;
  }

  /** @param {Listener} [listener] default: all */
  offAnyOutgoing(listener) {
    this.#anyOutgoingListeners = without(this.#anyOutgoingListeners, listener);
    return this;
  }

  listenersAnyOutgoing() {
    return this.#anyOutgoingListeners;
  }

  /**
   * @param {any[]} data
   * @param {Flags} flags
   */
  #emit(data, flags) {
    /** @type {any} */
    const packet = { type: PacketType.EVENT, data, options: { compress: flags.compress !== false } };
    if (typeof data.at(-1) === "function") packet.id = this.#acks.add(data.pop(), flags.timeout ?? this.opts.ackTimeout);
    if (flags.volatile && !this.io.engine?.transport?.writable) return;
    if (this.#isWritable) this.#sendEvent(packet);
    // The retry queue repeats its own packets.
    else if (!flags.fromQueue) this.sendBuffer.push(packet);
  }

  /** A closing connection accepts no more packets, though its end is not reported yet. */
  get #isWritable() {
    const { engine } = this.io;
    return this.connected && engine?.readyState === "open" && !engine._hasPingExpired();
  }

  /** @param {any} packet */
  #sendEvent(packet) {
    for (const listener of [...this.#anyOutgoingListeners]) call(listener, this, ...packet.data);
    this.#packet(packet);
  }

  /**
   * The caller of emit() has returned: an error goes to its ack, if the ack takes one.
   * @param {any} packet
   */
  #sendBuffered(packet) {
    try {
      this.#sendEvent(packet);
    } catch (error) {
      const ack = this.#acks.take(packet.id);
      if (!ack?.withError) throw error;
      ack.call(this, error);
    }
  }

  /** @param {any} packet */
  #packet(packet) {
    packet.nsp = this.nsp;
    this.io._packet(packet);
  }

  #onOpen() {
    if (this.#connection?.asked) return;
    const connection = { asked: false };
    this.#connection = connection;
    const recovery = this._pid && { pid: this._pid, offset: this._lastOffset };
    const send = (/** @type {any} */ auth) => {
      // A second ack, or one after the end of this connection, is ignored.
      if (connection !== this.#connection || connection.asked) return;
      connection.asked = true;
      this.#packet({ type: PacketType.CONNECT, data: recovery ? { ...recovery, ...auth } : auth });
    };
    if (typeof this.auth === "function") call(this.auth, this, send);
    else send(this.auth);
  }

  /** @param {import("./parsers/socketio.js").Packet} packet */
  #onPacket({ type, data, id }) {
    switch (type) {
      case PacketType.CONNECT:
        return this.#onConnect(data);
      case PacketType.EVENT:
      case PacketType.BINARY_EVENT:
        return this.#onEvent(data, id);
      case PacketType.ACK:
      case PacketType.BINARY_ACK:
        return this.#acks.answer(id, data);
      case PacketType.DISCONNECT:
        this.#destroy();
        return this.#onClose("io server disconnect");
      case PacketType.CONNECT_ERROR:
        this.#destroy();
        return this.emitReserved("connect_error", Object.assign(new Error(data.message ?? data), { data: data.data }));
    }
  }

  /** @param {any} data */
  #onConnect(data) {
    // The reply to a CONNECT that was cancelled.
    if (!this.#connection?.asked) return;
    if (!data?.sid) {
      this.emitReserved("connect_error", new Error("the server accepted without an id: it may be Socket.IO v2, which is not compatible"));
      return;
    }
    this.id = data.sid;
    this.recovered = !!data.pid && this._pid === data.pid;
    this._pid = data.pid;
    this.connected = true;
    // Each of these calls listeners, and each of them may close the connection.
    for (let args; (args = this.receiveBuffer.shift()); ) this.#receive(args);
    while (this.#isWritable && this.sendBuffer.length) call(this.#sendBuffered, this, this.sendBuffer.shift());
    call(this.#queue.drain, this.#queue, true);
    if (this.connected) this.emitReserved("connect");
  }

  /**
   * @param {any[]} args
   * @param {number} [id]
   */
  #onEvent(args, id) {
    if (id != null) {
      const connection = this.#connection;
      let sent = false;
      args.push((/** @type {any[]} */ ...data) => {
        // On another connection the id belongs to another event.
        if (sent || connection !== this.#connection) return;
        sent = true;
        this.#packet({ type: PacketType.ACK, id, data });
      });
    }
    if (this.connected) this.#receive(args);
    else this.receiveBuffer.push(args);
  }

  /** @param {any[]} args */
  #receive(args) {
    // A server with recovery appends the offset to each event. Stored first: a listener may close
    // the connection.
    if (this._pid && typeof args.at(-1) === "string") this._lastOffset = args.at(-1);
    for (const listener of [...this.#anyListeners]) call(listener, this, ...args);
    const [event, ...rest] = args;
    super.emit(event, ...rest);
  }

  /**
   * @param {string} reason
   * @param {any} [details]
   */
  #onClose(reason, details) {
    this.connected = false;
    this.id = undefined;
    this.#connection = undefined;
    // Dropped without storing their offsets: a server with recovery sends them again.
    this.receiveBuffer = [];
    this.emitReserved("disconnect", reason, details);
    this.#acks.lose();
  }

  #destroy() {
    this.#undo?.forEach((undo) => undo());
    this.#undo = this.#connection = undefined;
    this.io._destroy();
  }
}

/**
 * @param {Listener[]} listeners
 * @param {Listener} [listener]
 */
function without(listeners, listener) {
  if (!listener) return [];
  const index = listeners.indexOf(listener);
  return listeners.filter((_, at) => at !== index);
}
