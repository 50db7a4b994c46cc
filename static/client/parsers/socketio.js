/**
 * Socket.IO v5 packets, text and attachments. A parser with the same two classes can replace it
 * (option `parser`).
 */

import { Emitter } from "../emitter.js";

export const protocol = 5;

export const PacketType = Object.freeze({
  CONNECT: 0,
  DISCONNECT: 1,
  EVENT: 2,
  ACK: 3,
  CONNECT_ERROR: 4,
  BINARY_EVENT: 5,
  BINARY_ACK: 6,
});

/** Reserved event names of a socket: neither side may emit them. */
export const RESERVED_EVENTS = new Set([
  "connect",
  "connect_error",
  "disconnect",
  "disconnecting",
  "newListener",
  "removeListener",
]);

/**
 * Maximum number of attachments of a packet; more close the connection. The stock client's limit.
 */
const ATTACHMENTS_MAX = 10;

/**
 * @typedef {object} Packet
 * @property {number} type
 * @property {string} nsp
 * @property {any} [data]
 * @property {number} [id]
 * @property {number} [attachments]
 * @property {{ compress?: boolean }} [options]
 */

/** @param {any} value */
const isBinary = (value) =>
  value instanceof ArrayBuffer || ArrayBuffer.isView(value) || (typeof Blob === "function" && value instanceof Blob);

/** @param {any} value */
const isObject = (value) => Object.prototype.toString.call(value) === "[object Object]";

/**
 * Returns `value` with every binary leaf moved to `attachments` and replaced by a placeholder;
 * `value` is unchanged.
 * @param {any} value
 * @param {any[]} attachments
 * @returns {any}
 */
function takeOut(value, attachments) {
  if (!value || typeof value !== "object") return value;
  if (isBinary(value)) return { _placeholder: true, num: attachments.push(value) - 1 };
  if (Array.isArray(value)) return value.map((item) => takeOut(item, attachments));
  // The result of toJSON may contain binary; its own toJSON is not called again.
  if (typeof value.toJSON === "function") {
    const json = value.toJSON();
    return typeof json?.toJSON === "function" ? json : takeOut(json, attachments);
  }
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, takeOut(item, attachments)]));
}

/**
 * Puts attachments back in place of their placeholders.
 * @param {any} value
 * @param {any[]} attachments
 * @returns {any}
 */
function putBack(value, attachments) {
  if (!value || typeof value !== "object") return value;
  if (value._placeholder === true) {
    const attachment = typeof value.num === "number" ? attachments[value.num] : undefined;
    if (!attachment) throw new Error(`placeholder of an attachment that was not announced: ${value.num}`);
    return attachment;
  }
  for (const key of Object.keys(value)) value[key] = putBack(value[key], attachments);
  return value;
}

export class Encoder {
  /** @param {(this: any, key: string, value: any) => any} [replacer] as in `JSON.stringify` */
  constructor(replacer) {
    this.replacer = replacer;
  }

  /**
   * @param {Packet} packet
   * @returns {any[]} the packet as text, then its attachments
   */
  encode(packet) {
    const { nsp, id } = packet;
    let { type, data } = packet;
    /** @type {any[]} */
    const attachments = [];
    if (type === PacketType.EVENT || type === PacketType.ACK) {
      const text = takeOut(data, attachments);
      if (attachments.length) {
        type += PacketType.BINARY_EVENT - PacketType.EVENT;
        data = text;
      }
    }
    const count = attachments.length ? `${attachments.length}-` : "";
    const namespace = nsp && nsp !== "/" ? `${nsp},` : "";
    const json = data == null ? "" : JSON.stringify(data, this.replacer);
    return [`${type}${count}${namespace}${id ?? ""}${json}`, ...attachments];
  }
}

/** Emits "decoded" with each complete packet. */
export class Decoder extends Emitter {
  /** @type {Packet | null} the packet whose attachments are missing */
  #packet = null;
  /** @type {any[]} */
  #attachments = [];

  /** @param {(this: any, key: string, value: any) => any} [reviver] as in `JSON.parse` */
  constructor(reviver) {
    super();
    this.reviver = reviver;
  }

  /**
   * @param {any} data text or an attachment
   * @throws {Error} with the reason
   */
  add(data) {
    if (typeof data === "string") {
      if (this.#packet) throw new Error("text came where an attachment was expected");
      const packet = this.#decode(data);
      if (packet.attachments) this.#packet = packet;
      else this.emitReserved("decoded", packet);
      return;
    }
    if (!isBinary(data)) throw new Error(`neither text nor binary: ${data}`);
    if (!this.#packet) throw new Error("an attachment came that no packet announced");
    if (this.#attachments.push(data) < /** @type {number} */ (this.#packet.attachments)) return;
    const { attachments: _, ...packet } = this.#packet;
    packet.data = putBack(packet.data, this.#attachments);
    this.destroy();
    this.emitReserved("decoded", packet);
  }

  /** Drops an incomplete packet. */
  destroy() {
    this.#packet = null;
    this.#attachments = [];
  }

  /**
   * @param {string} text
   * @returns {Packet}
   */
  #decode(text) {
    const match = /^(?:[0-4]|[56](\d+)-)(?:(\/[^,]*)(?:,|$))?(\d+)?/.exec(text);
    if (!match) throw new Error(`not a packet: ${JSON.stringify(text.slice(0, 20))}`);
    const [head, count, nsp = "/", id] = match;
    /** @type {Packet} */
    const packet = { type: Number(text[0]), nsp };
    if (count) {
      packet.attachments = Number(count);
      if (packet.attachments < 1 || packet.attachments > ATTACHMENTS_MAX) {
        throw new Error(`${count} attachments, expected 1 to ${ATTACHMENTS_MAX}`);
      }
      // Announced as binary but complete without attachments.
      packet.type -= PacketType.BINARY_EVENT - PacketType.EVENT;
    }
    if (id !== undefined) packet.id = Number(id);
    const json = text.slice(head.length);
    if (json) packet.data = JSON.parse(json, this.reviver);
    if (!isValid(packet)) throw new Error(`invalid payload of packet type ${text[0]}`);
    return packet;
  }
}

/**
 * @param {Packet} packet as decoded
 * @returns {boolean}
 */
function isValid({ type, data }) {
  switch (type) {
    case PacketType.CONNECT:
      return data === undefined || isObject(data);
    case PacketType.DISCONNECT:
      return data === undefined;
    case PacketType.CONNECT_ERROR:
      return typeof data === "string" || isObject(data);
    case PacketType.EVENT:
      return Array.isArray(data) && (typeof data[0] === "number" || (typeof data[0] === "string" && !RESERVED_EVENTS.has(data[0])));
    default:
      return Array.isArray(data);
  }
}
