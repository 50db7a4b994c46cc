/** Long polling over fetch: one request waits for packets while at most one other sends some. */

import { decodePayload, encodePayload } from "../parsers/engineio.js";
import { Transport } from "./transport.js";

/** Maximum number of characters of an invalid response in an error. */
const EXCERPT_LENGTH = 80;

/** Time for the server to read the close packet, in milliseconds; then all requests are aborted. */
const FAREWELL_MS = 2_000;

export class Polling extends Transport {
  #polling = false;
  #abort = new AbortController();

  get name() {
    return "polling";
  }

  open() {
    this.#poll();
  }

  pause(/** @type {() => void} */ done) {
    this.readyState = "pausing";
    const check = () => {
      const taken = this.readyState !== "pausing";
      if (!taken && (this.#polling || !this.writable)) return;
      this.off("drain", check).off("pollComplete", check);
      if (taken) return;
      this.readyState = "paused";
      done();
    };
    this.on("drain", check).on("pollComplete", check);
    check();
  }

  resume() {
    if (this.readyState !== "pausing" && this.readyState !== "paused") return;
    this.readyState = "open";
    if (!this.#polling) this.#poll();
  }

  /** @param {import("../parsers/engineio.js").Packet[]} packets */
  async send(packets) {
    this.writable = false;
    let payload;
    try {
      payload = await encodePayload(packets);
    } catch (/** @type {any} */ error) {
      return this.onError(`post error: ${error.message}`, error);
    }
    if ((await this.#request(payload)) !== undefined) this.onDrain();
  }

  close() {
    if (this.readyState === "closed") return;
    this.readyState = "closed";
    if (this.query.sid) {
      // The server answers the pending poll when it reads the close packet; one that does not
      // answer is not waited for.
      const deadline = setTimeout(() => this.#abort.abort(), FAREWELL_MS);
      this.#request("1").then(() => {
        clearTimeout(deadline);
        this.#abort.abort();
      });
    } else {
      this.#abort.abort();
    }
    this.onClose();
  }

  async #poll() {
    this.#polling = true;
    const payload = await this.#request();
    if (payload === undefined) return;
    for (const packet of decodePayload(payload)) {
      if (packet.type === "open" && this.readyState === "opening") this.onOpen();
      if (packet.type === "close") return this.onClose({ description: "transport closed by the server" });
      this.emitReserved("packet", packet);
    }
    this.#polling = false;
    this.emitReserved("pollComplete");
    if (this.readyState === "open") this.#poll();
  }

  /**
   * @param {string} [body]
   * @returns {Promise<string | undefined>} the response; undefined after an error that was reported
   */
  async #request(body) {
    const what = body === undefined ? "poll" : "post";
    const uri = this.uri("http", this.opts.timestampRequests !== false);
    const where = uri.slice(0, uri.indexOf("?"));
    try {
      const response = await fetch(uri, {
        method: body === undefined ? "GET" : "POST",
        body,
        headers: { ...this.opts.extraHeaders, ...(body !== undefined && { "content-type": "text/plain;charset=UTF-8" }) },
        credentials: this.opts.withCredentials ? "include" : "same-origin",
        signal: this.#abort.signal,
      });
      const text = await response.text();
      if (response.ok) return text;
      this.onError(`${what} error: HTTP ${response.status} from ${where}: ${text.slice(0, EXCERPT_LENGTH)}`, response.status, response);
    } catch (/** @type {any} */ error) {
      // Browsers do not tell scripts which of the two it was.
      const why = error.cause?.message || error.message;
      this.onError(`${what} error: ${where} is not reachable, or does not allow this page's origin: ${why}`, error);
    }
  }
}
