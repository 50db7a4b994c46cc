/** A transport over one websocket. */

import { decodePacket, encodeFrame, encodeText } from "../parsers/engineio.js";
import { Transport } from "./transport.js";

export class WebSocketTransport extends Transport {
  /** @type {any} */
  ws;

  get name() {
    return "websocket";
  }

  open() {
    const uri = this.uri("ws", !!this.opts.timestampRequests);
    const where = uri.slice(0, uri.indexOf("?"));
    try {
      this.ws = this.#create(uri);
    } catch (/** @type {any} */ error) {
      // In a later turn, so that listeners can be added before.
      queueMicrotask(() => this.onError(`websocket error: ${error.message}`, error));
      return;
    }
    this.ws.binaryType = "arraybuffer";
    this.ws.onopen = () => this.onOpen();
    this.ws.onmessage = (/** @type {{ data: any }} */ { data }) => this.emitReserved("packet", decodePacket(data));
    this.ws.onclose = (/** @type {any} */ event) => this.onClose({ description: "websocket connection closed", context: event });
    // Browsers do not report the cause.
    this.ws.onerror = (/** @type {any} */ event) => this.onError(`websocket error: ${where}: ${event.message || "cannot connect, or lost"}`, event);
  }

  /** @param {import("../parsers/engineio.js").Packet[]} packets */
  async send(packets) {
    this.writable = false;
    for (const packet of packets) {
      let frame;
      try {
        frame = this.opts.forceBase64 ? await encodeText(packet) : encodeFrame(packet);
      } catch (/** @type {any} */ error) {
        return this.onError(`websocket error: ${error.message}`, error);
      }
      try {
        // Only constructors passed as an option (Node) read the second argument.
        this.ws.send(frame, { compress: packet.options?.compress !== false });
      } catch {
        // It has closed already; "close" follows.
      }
    }
    // In a later turn, like a transport that has to wait: the caller first records what it sent.
    queueMicrotask(() => this.onDrain());
  }

  close() {
    if (this.readyState === "closed") return;
    if (this.ws) {
      const { ws } = this;
      ws.onopen = ws.onmessage = ws.onclose = null;
      ws.onerror = () => {};
      ws.close();
    }
    this.onClose();
  }

  /**
   * Headers in the forms of Node's constructors: one given as `ws` and the global one of undici.
   * Browsers support none.
   * @param {string} uri
   */
  #create(uri) {
    const { WebSocket: Given, protocols = [], extraHeaders: headers } = this.opts;
    if (Given) return new Given(uri, protocols, { headers });
    if (!globalThis.WebSocket) throw new Error("no WebSocket here: give a constructor as option `WebSocket`");
    const node = headers && /** @type {any} */ (globalThis).process?.versions?.node;
    return new globalThis.WebSocket(uri, node ? /** @type {any} */ ({ protocols, headers }) : protocols);
  }
}
