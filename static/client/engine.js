/**
 * A session of Engine.IO v4: handshake, heartbeat, upgrade, and the order of packets. It survives a
 * change of transport and is never reopened once closed; the manager reconnects.
 *
 * Events: "open", "handshake", "packet", "packetCreate", "data", "message", "ping", "pong", "heartbeat", "flush", "drain",
 * "upgrading", "upgrade", "upgradeError", "error", "close" (reason, details).
 */

import { Emitter, subscribe } from "./emitter.js";
import { Heartbeat } from "./heartbeat.js";
import { payloadBytes, protocol } from "./parsers/engineio.js";
import { Polling } from "./transports/polling.js";
import { TransportError } from "./transports/transport.js";
import { WebSocketTransport } from "./transports/websocket.js";
import { parseUrl } from "./url.js";

/** @typedef {import("./transports/transport.js").Transport & { name: string }} AnyTransport */

/** @type {Record<string, any>} */
const TRANSPORTS = { polling: Polling, websocket: WebSocketTransport };

/** Bytes that a payload adds to the data of a packet: separator and type. */
const PACKET_OVERHEAD_BYTES = 2;

/**
 * Time after "beforeunload" after which a page that still exists counts as kept, in milliseconds.
 */
const STAY_MS = 1_000;

/** Maximum number of characters of an invalid response in an error. */
const EXCERPT_LENGTH = 80;

// One listener for all sessions: a service worker has to add it when its script is first run.
/** @type {Set<() => void>} */
const offline = new Set();
globalThis.addEventListener?.("offline", () => offline.forEach((tell) => tell()));

export class Engine extends Emitter {
  static protocol = protocol;
  /** True if the last websocket worked, for `rememberUpgrade`. */
  static priorWebsocketSuccess = false;

  /** @type {"opening" | "open" | "closing" | "closed"} */
  readyState = "opening";
  /** @type {string | null} */
  id = null;
  /** @type {AnyTransport | undefined} */
  transport;
  /**
   * @type {import("./parsers/engineio.js").Packet[]} packets not yet sent, including those being
   * written
   */
  writeBuffer = [];
  upgrading = false;

  #heartbeat = new Heartbeat(() => this.#onClose("ping timeout"));
  /** Milliseconds from the last ping within which the next one is due. */
  #silenceMs = Infinity;
  #payloadBytesMax = 0;
  /** Number of packets of `writeBuffer` that the transport is writing. */
  #underWay = 0;
  /** @type {(() => void)[]} */
  #undo = [];

  /**
   * @param {string | undefined} uri
   * @param {Record<string, any>} opts
   */
  constructor(uri, opts = {}) {
    super();
    this.opts = opts;
    /** @type {string[]} transports not yet tried, the one in use first */
    this.transports = [];
    /** @type {Record<string, any>} */
    this.known = { ...TRANSPORTS };
    for (const asked of opts.transports ?? Object.keys(TRANSPORTS)) {
      const name = typeof asked === "function" ? asked.prototype.name : asked;
      if (typeof asked === "function") this.known[name] = asked;
      if (this.known[name]) this.transports.push(name);
    }
    try {
      this.address = parseUrl(uri);
      if (!this.transports.length) {
        throw new Error(`no transport in ${JSON.stringify(opts.transports)}: expected some of "polling" and "websocket"`);
      }
    } catch (error) {
      this.transports = [];
      // In a later turn, so that listeners can be added before.
      queueMicrotask(() => this.#onError(error));
      return;
    }
    const lost = () => this.#onClose("transport close", { description: "network connection lost" });
    if (this.address.hostname !== "localhost") {
      offline.add(lost);
      this.#undo.push(() => offline.delete(lost));
    }
    if (opts.closeOnBeforeunload && typeof addEventListener === "function") {
      const leave = () => {
        // Closes without an event, because the page is leaving. Later emits wait for the next
        // connection.
        this.readyState = "closing";
        this.transport?.off().close();
        // A page that still exists was kept: by a prompt, or because the address was a download.
        setTimeout(() => this.#onClose("transport close", { description: "the page was about to be left" }), STAY_MS);
      };
      addEventListener("beforeunload", leave);
      this.#undo.push(() => removeEventListener("beforeunload", leave));
    }
    this.#open();
  }

  #open() {
    const remembered = this.opts.rememberUpgrade && Engine.priorWebsocketSuccess && this.transports.includes("websocket");
    this.#use(this.#create(remembered ? "websocket" : this.transports[0]));
    this.transport?.open();
  }

  /**
   * @param {string} name
   * @returns {AnyTransport}
   */
  #create(name) {
    const { path = "/engine.io", addTrailingSlash = true, query, transportOptions, ...opts } = this.opts;
    const address = /** @type {import("./url.js").Address} */ (this.address);
    const asked = address.query || query;
    return new this.known[name]({
      ...opts,
      ...transportOptions?.[name],
      secure: address.secure,
      host: address.host,
      path: path.replace(/\/$/, "") + (addTrailingSlash ? "/" : ""),
      query: {
        ...(typeof asked === "string" ? Object.fromEntries(new URLSearchParams(asked)) : asked),
        EIO: protocol,
        transport: name,
        sid: this.id,
        b64: opts.forceBase64 ? 1 : undefined,
      },
    });
  }

  /** @param {AnyTransport} transport */
  #use(transport) {
    this.transport?.off();
    this.transport = transport;
    transport.on("packet", (packet) => this.#onPacket(packet));
    transport.on("drain", () => this.#onDrain());
    transport.on("error", (error) => this.#onError(error));
    transport.on("close", (details) => this.#onClose("transport close", details));
  }

  /** @param {import("./parsers/engineio.js").Packet} packet */
  #onPacket(packet) {
    if (this.readyState === "closed") return;
    if (this.readyState === "opening" && packet.type !== "open") return this.#onStranger(packet.data);
    this.emitReserved("packet", packet);
    this.emitReserved("heartbeat");
    switch (packet.type) {
      case "open":
        return this.#onHandshake(packet.data);
      case "ping":
        this.#send("pong");
        this.emitReserved("ping");
        this.emitReserved("pong");
        return this.#heartbeat.extend(this.#silenceMs);
      case "message":
        this.emitReserved("data", packet.data);
        return this.emitReserved("message", packet.data);
      case "error":
        return this.#onError(Object.assign(new Error(`not an Engine.IO packet: ${excerpt(packet.data)}`), { code: "parser error" }));
    }
  }

  /** @param {any} data the data received instead of a handshake */
  #onStranger(data) {
    this.#onError(new TransportError(`not a Socket.IO server: it answered ${excerpt(data)} where a handshake was expected`, data));
  }

  /** @param {any} data */
  #onHandshake(data) {
    let handshake;
    try {
      handshake = JSON.parse(data);
    } catch {
      // Reported below.
    }
    if (typeof handshake?.sid !== "string" || !(handshake.pingInterval > 0 && handshake.pingTimeout > 0)) {
      return this.#onStranger(data);
    }
    const transport = /** @type {AnyTransport} */ (this.transport);
    this.emitReserved("handshake", handshake);
    this.id = transport.query.sid = handshake.sid;
    this.#silenceMs = handshake.pingInterval + handshake.pingTimeout;
    this.#payloadBytesMax = handshake.maxPayload;
    this.readyState = "open";
    Engine.priorWebsocketSuccess = transport.name === "websocket";
    this.#heartbeat.extend(this.#silenceMs);
    this.emitReserved("open");
    this.#flush();
    if (this.readyState !== "open" || this.opts.upgrade === false) return;
    for (const name of handshake.upgrades ?? []) if (this.transports.includes(name)) this.#probe(name);
  }

  /**
   * Probes another transport beside the one in use, and switches once the probe is answered and the
   * old one is idle.
   * @param {string} name
   */
  #probe(name) {
    const transport = this.#create(name);
    let moving = false;
    const fail = (/** @type {string} */ why) => {
      undo();
      transport.off().close();
      if (moving) {
        // Packets that waited for the switch are sent in their order.
        moving = this.upgrading = false;
        this.transport?.resume();
      }
      this.emitReserved("upgradeError", Object.assign(new Error(`probe error: ${why}`), { transport: name }));
      this.#flush();
    };
    const onClose = () => fail("socket closed");
    const undo = () => this.off("close", onClose);
    Engine.priorWebsocketSuccess = false;
    this.once("close", onClose);
    transport.once("error", (error) => fail(error.message));
    transport.once("close", () => fail("transport closed"));
    transport.once("open", () => transport.send([{ type: "ping", data: "probe" }]));
    transport.once("packet", ({ type, data }) => {
      if (type !== "pong" || data !== "probe") return fail(`expected a pong, came ${type}`);
      moving = this.upgrading = true;
      this.emitReserved("upgrading", transport);
      Engine.priorWebsocketSuccess = name === "websocket";
      this.transport?.pause(() => {
        if (!moving || this.readyState === "closed") return;
        undo();
        transport.off();
        this.#use(transport);
        transport.send([{ type: "upgrade" }]);
        this.emitReserved("upgrade", transport);
        this.upgrading = false;
        this.#flush();
      });
    });
    transport.open();
  }

  #onDrain() {
    this.writeBuffer.splice(0, this.#underWay);
    this.#underWay = 0;
    if (this.writeBuffer.length) this.#flush();
    else this.emitReserved("drain");
  }

  #flush() {
    const { transport } = this;
    if (this.readyState === "closed" || this.upgrading || !this.writeBuffer.length || !transport?.writable) return;
    const packets = this.writeBuffer.slice(0, transport.name === "polling" ? this.#fitting() : undefined);
    this.#underWay = packets.length;
    transport.send(packets);
    this.emitReserved("flush");
  }

  /**
   * Number of packets that fit into one request; at least one, which the server may then refuse.
   */
  #fitting() {
    const { writeBuffer } = this;
    let bytes = 0;
    const end = writeBuffer.findIndex(({ data }) => (bytes += payloadBytes(data) + PACKET_OVERHEAD_BYTES) > this.#payloadBytesMax);
    return end < 0 || !this.#payloadBytesMax ? writeBuffer.length : Math.max(end, 1);
  }

  /**
   * True if the server is overdue; the session then closes in the next turn. A socket checks before
   * it sends.
   */
  _hasPingExpired() {
    return this.#heartbeat.check();
  }

  /**
   * @param {any} data
   * @param {{ compress?: boolean }} [options]
   * @param {() => void} [fn] called once it is passed to the transport
   */
  send(data, options, fn) {
    this.#send("message", data, options, fn);
    return this;
  }

  /**
   * @param {any} data
   * @param {{ compress?: boolean }} [options]
   * @param {() => void} [fn]
   */
  write(data, options, fn) {
    return this.send(data, options, fn);
  }

  /**
   * @param {import("./parsers/engineio.js").PacketType} type
   * @param {any} [data]
   * @param {{ compress?: boolean }} [options]
   * @param {() => void} [fn]
   */
  #send(type, data, options, fn) {
    if (this.readyState === "closing" || this.readyState === "closed") return;
    const packet = { type, data, options };
    this.emitReserved("packetCreate", packet);
    this.writeBuffer.push(packet);
    if (fn) this.once("flush", fn);
    this.#flush();
  }

  /** Closes the session after pending packets are sent and a running upgrade has finished. */
  close() {
    if (this.readyState !== "opening" && this.readyState !== "open") return this;
    this.readyState = "closing";
    /** @type {(() => void)[]} */
    const undo = [];
    const check = () => {
      if (this.writeBuffer.length || this.upgrading) return;
      undo.forEach((one) => one());
      this.#onClose("forced close");
    };
    undo.push(...["drain", "upgrade", "upgradeError"].map((event) => subscribe(this, event, () => queueMicrotask(check))));
    check();
    return this;
  }

  /** @param {any} error */
  #onError(error) {
    Engine.priorWebsocketSuccess = false;
    if (this.opts.tryAllTransports && this.transports.length > 1 && this.readyState === "opening") {
      this.transport?.off().close();
      this.transports.shift();
      return this.#open();
    }
    this.emitReserved("error", error);
    this.#onClose("transport error", error);
  }

  /**
   * @param {string} reason
   * @param {any} [details]
   */
  #onClose(reason, details) {
    if (this.readyState === "closed") return;
    this.readyState = "closed";
    this.#heartbeat.stop();
    this.#undo.forEach((undo) => undo());
    this.transport?.off().close();
    this.id = null;
    this.emitReserved("close", reason, details);
    // After the listeners, which may want to inspect unsent packets.
    this.writeBuffer = [];
    this.#underWay = 0;
  }
}

/** @param {any} data */
function excerpt(data) {
  return JSON.stringify(typeof data === "string" ? data.slice(0, EXCERPT_LENGTH) : data);
}
