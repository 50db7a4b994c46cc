/** Engine.IO v4 packets and payloads: encoding for websocket frames and request bodies. */

export const protocol = 4;

/** @typedef {"open" | "close" | "ping" | "pong" | "message" | "upgrade" | "noop"} PacketType */
/** @typedef {string | ArrayBuffer | ArrayBufferView | Blob} Data */
/** @typedef {{ type: PacketType | "error", data?: any, options?: { compress?: boolean } }} Packet */

/** The index in this list is the number on the wire. */
const TYPES = /** @type {const} */ (["open", "close", "ping", "pong", "message", "upgrade", "noop"]);

const SEPARATOR = "\x1e";

/** Maximum number of arguments in one call of `String.fromCharCode`. */
const CHUNK_BYTES = 0x8000;

/** A Buffer in Node, like the stock client's; an ArrayBuffer in browsers. */
const { process, Buffer } = /** @type {any} */ (globalThis);
const NodeBuffer = process?.versions?.node ? Buffer : undefined;

/** @param {ArrayBuffer} bytes */
const received = (bytes) => (NodeBuffer ? NodeBuffer.from(bytes) : bytes);

/** @param {ArrayBuffer | ArrayBufferView} data */
function toBase64(data) {
  const bytes = ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
  let text = "";
  for (let i = 0; i < bytes.length; i += CHUNK_BYTES) text += String.fromCharCode(...bytes.subarray(i, i + CHUNK_BYTES));
  return btoa(text);
}

/** @param {string} text */
function fromBase64(text) {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0)).buffer;
}

/**
 * Encodes for one frame of a websocket that accepts binary.
 * @param {Packet} packet
 * @returns {Data}
 */
export function encodeFrame({ type, data }) {
  return typeof data === "object" ? data : TYPES.indexOf(/** @type {PacketType} */ (type)) + (data ?? "");
}

/**
 * Encodes as text, bytes as base64. A Blob can only be read in a later turn.
 * @param {Packet} packet
 * @returns {Promise<string>}
 */
export async function encodeText(packet) {
  const data = encodeFrame(packet);
  if (typeof data === "string") return data;
  return `b${toBase64(data instanceof Blob ? await data.arrayBuffer() : data)}`;
}

/**
 * @param {Packet[]} packets
 * @returns {Promise<string>} the body of one request
 */
export async function encodePayload(packets) {
  return (await Promise.all(packets.map(encodeText))).join(SEPARATOR);
}

/**
 * @param {string | ArrayBuffer} data
 * @returns {Packet} of type "error" if it is invalid, with the input as its data
 */
export function decodePacket(data) {
  if (typeof data !== "string") return { type: "message", data: received(data) };
  if (data[0] === "b") {
    try {
      return { type: "message", data: received(fromBase64(data.slice(1))) };
    } catch {
      return { type: "error", data };
    }
  }
  const type = TYPES[/** @type {any} */ (data[0])];
  return type ? { type, data: data.length > 1 ? data.slice(1) : undefined } : { type: "error", data };
}

/**
 * @param {string} payload
 * @returns {Packet[]} up to the first invalid one
 */
export function decodePayload(payload) {
  const packets = payload.split(SEPARATOR).map(decodePacket);
  const bad = packets.findIndex(({ type }) => type === "error");
  return bad < 0 ? packets : packets.slice(0, bad + 1);
}

/**
 * Number of bytes that the data of a packet takes in a payload.
 * @param {Data} [data]
 */
export function payloadBytes(data) {
  if (data === undefined) return 0;
  if (typeof data === "string") return new TextEncoder().encode(data).length;
  return Math.ceil((data instanceof Blob ? data.size : data.byteLength) / 3) * 4;
}
