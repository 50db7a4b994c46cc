/** One websocket. */

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
      // Later, so that it can be listened to.
      queueMicrotask(() => this.onError(`websocket error: ${error.message}`, error));
      return;
    }
    this.ws.binaryType = "arraybuffer";
    this.ws.onopen = () => this.onOpen();
    this.ws.onmessage = (/** @type {{ data: any }} */ { data }) => this.emitReserved("packet", decodePacket(data));
    this.ws.onclose = (/** @type {any} */ event) => this.onClose({ description: "websocket connection closed", context: event });
    // Browsers say nothing of the cause.
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
        // Only constructors that were given (Node) read the second argument.
        this.ws.send(frame, { compress: packet.options?.compress !== false });
      } catch {
        // It has closed and not yet said so: "close" follows.
      }
    }
    // Later, as with a transport that has to wait: who called has to note first what it gave.
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
   * Headers: as Node's constructors take them, the one that was given as `ws` does, the global one as undici does. Browsers
   * know none.
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
