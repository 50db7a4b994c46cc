/**
 * The common part of polling and websocket: state and events. A transport carries packets of one
 * session; handshakes, heartbeats and upgrades belong to the engine.
 *
 * Events: "open", "packet" (packet), "drain", "error" (TransportError), "close" (details).
 */

import { Emitter } from "../emitter.js";

export class TransportError extends Error {
  type = "TransportError";

  /**
   * @param {string} message
   * @param {any} [description] the status, or the error of the platform
   * @param {any} [context] the response
   */
  constructor(message, description, context) {
    super(message);
    this.description = description;
    this.context = context;
  }
}

/**
 * @typedef {object} TransportOptions
 * @property {boolean} secure
 * @property {string} host
 * @property {string} path
 * @property {Record<string, any>} query
 * @property {Record<string, string>} [extraHeaders]
 * @property {boolean} [withCredentials]
 * @property {boolean} [forceBase64]
 * @property {boolean} [timestampRequests]
 * @property {string} [timestampParam]
 * @property {string | string[]} [protocols]
 * @property {any} [WebSocket]
 */

export class Transport extends Emitter {
  readyState = /** @type {"opening" | "open" | "pausing" | "paused" | "closed"} */ ("opening");
  /** True if `send` may be called: earlier packets are sent. */
  writable = false;

  /** @param {TransportOptions} opts */
  constructor(opts) {
    super();
    this.opts = opts;
    this.query = opts.query;
  }

  open() {}

  /** @param {import("../parsers/engineio.js").Packet[]} _packets */
  send(_packets) {}

  close() {}

  /** Calls back once nothing is in flight in either direction; only polling has to wait. */
  pause(/** @type {() => void} */ done) {
    done();
  }

  /** Reverts a pause, finished or not. */
  resume() {}

  onOpen() {
    this.readyState = "open";
    this.writable = true;
    this.emitReserved("open");
  }

  onDrain() {
    this.writable = true;
    this.emitReserved("drain");
  }

  /**
   * @param {string} message
   * @param {any} [description]
   * @param {any} [context]
   */
  onError(message, description, context) {
    if (this.readyState !== "closed") this.emitReserved("error", new TransportError(message, description, context));
  }

  /** @param {{ description: string, context?: any }} [details] */
  onClose(details) {
    this.readyState = "closed";
    this.emitReserved("close", details);
  }

  /**
   * @param {"http" | "ws"} scheme
   * @param {boolean} unique whether to bypass caches
   */
  uri(scheme, unique) {
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(this.query)) if (value != null) query.set(key, value);
    if (unique) query.set(this.opts.timestampParam ?? "t", Math.random().toString(36).slice(2, 10));
    return `${scheme}${this.opts.secure ? "s" : ""}://${this.opts.host}${this.opts.path}?${query}`;
  }
}
