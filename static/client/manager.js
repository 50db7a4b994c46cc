/**
 * One connection to one server, shared by the sockets of its namespaces: it opens the connection,
 * reconnects, and passes packets to the sockets.
 *
 * Events: "open", "packet", "ping", "error" (error), "close" (reason, details), "reconnect_attempt" (attempt),
 * "reconnect" (attempt), "reconnect_error" (error), "reconnect_failed".
 */

import { Backoff } from "./backoff.js";
import { call, Emitter, subscribe } from "./emitter.js";
import { Engine } from "./engine.js";
import * as parser from "./parsers/socketio.js";
import { Socket } from "./socket.js";

/**
 * @typedef {object} ManagerOptions
 * @property {string} [path] of the endpoint; default "/socket.io"
 * @property {boolean} [autoConnect] default true
 * @property {boolean} [reconnection] default true
 * @property {number} [reconnectionAttempts] default Infinity
 * @property {number} [reconnectionDelay] milliseconds before the first attempt; default 1000
 * @property {number} [reconnectionDelayMax] milliseconds; default 5000
 * @property {number} [randomizationFactor] share of a delay that is added or subtracted at random;
 * default 0.5
 * @property {number | false} [timeout] milliseconds for one attempt; default 20000
 * @property {(string | Function)[]} [transports] in the order of attempts; default ["polling",
 * "websocket"]
 * @property {boolean} [tryAllTransports] tries the next one when one cannot connect; default false
 * @property {boolean} [upgrade] switches to a better transport; default true
 * @property {boolean} [rememberUpgrade] starts with websocket when the last one worked; default
 * false
 * @property {Record<string, any> | string} [query]
 * @property {Record<string, string>} [extraHeaders] polling everywhere, websocket in Node
 * @property {boolean} [withCredentials] sends cookies to another origin; default false
 * @property {boolean} [forceBase64]
 * @property {boolean} [timestampRequests]
 * @property {string} [timestampParam] default "t"
 * @property {boolean} [addTrailingSlash] default true
 * @property {string | string[]} [protocols] of the websocket
 * @property {Record<string, object>} [transportOptions] by transport, override the common ones
 * @property {boolean} [closeOnBeforeunload] default false
 * @property {any} [parser] instead of JSON with attachments
 * @property {any} [WebSocket] a constructor, where no global one exists
 */

export class Manager extends Emitter {
  /** @type {Record<string, Socket>} */
  nsps = Object.create(null);
  /** @type {Engine | undefined} */
  engine;
  /** @type {"closed" | "opening" | "open"} */
  _readyState = "closed";
  /** True while a reconnection attempt is pending or running; false as soon as it has a result. */
  _reconnecting = false;
  skipReconnect = false;
  backoff = new Backoff();
  /** @type {(() => void)[]} undo what was set up for the connection, or for the pending attempt */
  #undo = [];

  /**
   * @param {string | (ManagerOptions & import("./socket.js").SocketOptions)} [uri]
   * @param {ManagerOptions & import("./socket.js").SocketOptions} [opts]
   */
  constructor(uri, opts) {
    super();
    if (typeof uri === "object") [uri, opts] = [undefined, uri];
    this.uri = uri;
    /** @type {Record<string, any>} read at every attempt, so changes apply to the next one */
    this.opts = { ...opts, path: opts?.path || "/socket.io" };
    this.reconnection(opts?.reconnection !== false);
    this.reconnectionAttempts(opts?.reconnectionAttempts || Infinity);
    this.reconnectionDelay(opts?.reconnectionDelay || 1_000);
    this.reconnectionDelayMax(opts?.reconnectionDelayMax || 5_000);
    this.randomizationFactor(opts?.randomizationFactor ?? 0.5);
    this.timeout(opts?.timeout ?? 20_000);
    const { Encoder, Decoder } = opts?.parser ?? parser;
    this.encoder = new Encoder();
    this.decoder = new Decoder();
    this._autoConnect = opts?.autoConnect !== false;
    if (this._autoConnect) this.open();
  }

  // Getter without an argument, setter with one.

  /** @param {boolean} [value] */
  reconnection(value) {
    if (value === undefined) return this._reconnection;
    this._reconnection = !!value;
    return this;
  }

  /** @param {number} [value] */
  reconnectionAttempts(value) {
    if (value === undefined) return this._reconnectionAttempts;
    this._reconnectionAttempts = value;
    return this;
  }

  /** @param {number} [value] */
  reconnectionDelay(value) {
    if (value === undefined) return this.backoff.min;
    this.backoff.min = value;
    return this;
  }

  /** @param {number} [value] */
  reconnectionDelayMax(value) {
    if (value === undefined) return this.backoff.max;
    this.backoff.max = value;
    return this;
  }

  /** @param {number} [value] */
  randomizationFactor(value) {
    if (value === undefined) return this.backoff.jitter;
    this.backoff.jitter = value;
    return this;
  }

  /** @param {number | false} [value] */
  timeout(value) {
    if (value === undefined) return this._timeout;
    this._timeout = value;
    return this;
  }

  /**
   * Opens the connection immediately; a pending attempt is replaced.
   * @param {(error?: any) => void} [fn] called with the result; without it a first failure starts
   * the reconnection
   */
  open(fn) {
    if (this._readyState !== "closed") return this;
    this.#cleanUp();
    const returning = this._reconnecting;
    const engine = new Engine(this.uri, this.opts);
    this.engine = engine;
    this._readyState = "opening";
    this.skipReconnect = false;
    const failed = (/** @type {any} */ error) => {
      this.#cleanUp();
      this._readyState = "closed";
      this.emitReserved("error", error);
      this._reconnecting = false;
      call(fn, this, error);
      if (returning || !fn) this.#reconnect();
      if (returning) this.emitReserved("reconnect_error", error);
    };
    this.#undo.push(
      subscribe(engine, "error", failed),
      subscribe(engine, "close", (reason) => failed(new Error(`closed before it was open: ${reason}`))),
      subscribe(engine, "open", () => {
        const attempt = this.backoff.attempts;
        this.#onOpen(engine);
        call(fn, this);
        if (returning) this.emitReserved("reconnect", attempt);
      }),
    );
    if (this._timeout !== undefined && this._timeout !== false) {
      this.#later(this._timeout, () => {
        failed(new Error("timeout"));
        engine.close();
      });
    }
    return this;
  }

  /** @param {(error?: any) => void} [fn] */
  connect(fn) {
    return this.open(fn);
  }

  /**
   * The socket of a namespace, created at its first use.
   * @param {string} nsp
   * @param {import("./socket.js").SocketOptions} [opts]
   */
  socket(nsp, opts) {
    const known = this.nsps[nsp];
    if (!known) return (this.nsps[nsp] = new Socket(this, nsp, opts));
    if (this._autoConnect && !known.active) known.connect();
    return known;
  }

  /** Closes the connection without reconnection. */
  disconnect() {
    this.skipReconnect = true;
    this._reconnecting = false;
    this.#onClose("forced close");
  }

  /** Called when a socket has left; the last one closes the connection. */
  _destroy() {
    if (!Object.values(this.nsps).some((socket) => socket.active)) this.disconnect();
  }

  /** @param {import("./parsers/socketio.js").Packet} packet */
  _packet(packet) {
    for (const part of this.encoder.encode(packet)) this.engine?.write(part, packet.options);
  }

  /** @param {Engine} engine */
  #onOpen(engine) {
    this.#cleanUp();
    this._readyState = "open";
    this._reconnecting = false;
    this.backoff.reset();
    // Before "open", whose listeners may close the connection.
    this.#undo.push(
      subscribe(engine, "ping", () => this.emitReserved("ping")),
      subscribe(engine, "data", (data) => this.#onData(data)),
      subscribe(engine, "error", (error) => this.emitReserved("error", error)),
      subscribe(engine, "close", (reason, details) => this.#onClose(reason, details)),
      subscribe(this.decoder, "decoded", (packet) => this.emitReserved("packet", packet)),
    );
    this.emitReserved("open");
  }

  /** @param {any} data */
  #onData(data) {
    try {
      this.decoder.add(data);
    } catch (error) {
      this.#onClose("parse error", error);
    }
  }

  /**
   * @param {string} reason
   * @param {any} [details]
   */
  #onClose(reason, details) {
    this.#cleanUp();
    this.engine?.close();
    this.backoff.reset();
    this._readyState = "closed";
    this.emitReserved("close", reason, details);
    this.#reconnect();
  }

  #reconnect() {
    if (!this._reconnection || this.skipReconnect) return;
    // A listener may have opened it already.
    if (this._reconnecting || this._readyState !== "closed") return;
    if (this.backoff.attempts >= (this._reconnectionAttempts ?? Infinity)) {
      this.backoff.reset();
      this.emitReserved("reconnect_failed");
      return;
    }
    this._reconnecting = true;
    this.#later(this.backoff.duration(), () => {
      if (this._reconnection) this.emitReserved("reconnect_attempt", this.backoff.attempts);
      // A listener may have closed it.
      if (!this._reconnection) this._reconnecting = false;
      else if (this._reconnecting) this.open();
    });
  }

  /**
   * @param {number} ms
   * @param {() => void} act not called if the connection or the attempt has ended by then
   */
  #later(ms, act) {
    const timer = setTimeout(act, ms);
    this.#undo.push(() => clearTimeout(timer));
  }

  #cleanUp() {
    for (const undo of this.#undo.splice(0)) undo();
    this.decoder.destroy();
  }
}
