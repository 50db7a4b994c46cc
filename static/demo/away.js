/**
 * Disconnects this tab and reconnects it. Meanwhile a second connection of this page is in the
 * rooms: it publishes and counts the events that this tab misses. The tab itself receives them only
 * from the server, after it reconnects.
 */

import { allow, allows, byId, make } from "./element.js";
import { isOwn } from "./emits.js";
import { log, secondsBetween } from "./log.js";

/** Time limit for the second connection in milliseconds; then the tab disconnects without it. */
const SECOND_MS = 4_000;
/**
 * Time after the reconnect within which missed events must arrive, in milliseconds; later they
 * count as lost.
 */
const SETTLE_MS = 3_000;
/** Maximum number of missed events on the page. */
const ROWS_MAX = 50;

/** @typedef {import("./emits.js").Message} Message */
/** @typedef {{ message: Message, from: string, fate: "missed" | "recovered" | "lost" }} Missed */

export class Away {
  /** @type {Map<string, Missed>} by message id */
  #missed = new Map();
  /** @type {import("../client/index.js").Socket | undefined} */
  #second;
  /** True if this tab has disconnected itself. */
  #offline = false;
  /**
   * True if missed events are counted: from the disconnect to the reconnect, however long that
   * takes.
   */
  #counting = false;
  /** True if incoming events were missed before: from the reconnect until all have arrived. */
  #replaying = false;
  /** Number of events that the second connection has published, of each kind. */
  #published = { event: 0, volatile: 0 };
  /** Time of the disconnect. */
  #since = new Date();
  /** True if this tab was connected before. */
  #hasReturned = false;

  /**
   * @param {import("../client/index.js").Socket} socket
   * @param {import("./rooms.js").Rooms} rooms
   * @param {import("./stage.js").Stage} stage
   * @param {() => import("../client/index.js").Socket} connect creates a second connection to the
   * same server
   */
  constructor(socket, rooms, stage, connect) {
    this.socket = socket;
    this.rooms = rooms;
    this.stage = stage;
    this.connect = connect;
    byId("offline").addEventListener("click", () => {
      if (allows("offline")) this.#offline ? this.#reconnect() : this.#disconnect();
    });
    byId("while-plain").addEventListener("click", () => this.#publish(false));
    byId("while-volatile").addEventListener("click", () => this.#publish(true));
    this.#show();
  }

  get offline() {
    return this.#offline;
  }

  /** Updates the button: only an open connection can be closed. */
  update() {
    this.#enable();
    this.#show();
    if (this.socket.connected || this.#offline) return;
    byId("away-outcome").textContent = "No connection: missed events are shown after the reconnect.";
  }

  #enable() {
    allow("offline", this.#offline || this.socket.connected);
    byId("offline").textContent = this.#offline ? "Reconnect" : "Disconnect";
  }

  async #disconnect() {
    const { socket } = this;
    allow("offline", false);
    this.#missed.clear();
    this.#published = { event: 0, volatile: 0 };
    this.#show();
    const second = this.connect();
    this.#second = second;
    second.on("message", (/** @type {Message} */ message) => this.#observe(message));
    const ready = await this.#joinRooms(second);
    // The connection may have been lost otherwise meanwhile.
    this.#enable();
    if (!socket.connected) return;

    this.#offline = this.#counting = true;
    this.#since = new Date();
    socket.io.reconnection(false).engine.close(); // keeps the session

    this.#enable();
    for (const id of ["while-plain", "while-volatile"]) byId(id).disabled = !ready;
    byId("away-outcome").textContent = "This tab is disconnected. Publish something: this tab misses it.";
    log("This tab closed its connection. It misses all events from now on.", "bad");
    if (!ready) log("The second connection failed: missed events cannot be counted.", "bad");
  }

  /**
   * Joins the rooms of this tab with the second connection.
   * @param {import("../client/index.js").Socket} second
   */
  async #joinRooms(second) {
    try {
      const rooms = this.rooms.names;
      await Promise.all(rooms.map((room) => second.timeout(SECOND_MS).emitWithAck("join", room)));
      const news = { id: second.id, secondOf: this.socket.id };
      this.rooms.addSecondConnection(news);
      for (const room of rooms) this.rooms.announce(room, second, news);
      return true;
    } catch {
      return false;
    }
  }

  #reconnect() {
    const { socket } = this;
    this.#offline = false;
    this.#enable();
    for (const id of ["while-plain", "while-volatile"]) byId(id).disabled = true;
    byId("away-outcome").textContent = "Reconnecting.";
    log("This tab reconnects.");

    socket.io.reconnection(true);
    socket.connect(); // then: socket.recovered
  }

  /** @param {boolean} volatile */
  async #publish(volatile) {
    const room = this.rooms.target;
    const second = this.#second;
    if (!second || !room) return;
    const kind = volatile ? "volatile" : "event";
    const text = `${kind} ${(this.#published[kind] += 1)}`;
    const message = { id: crypto.randomUUID?.() ?? `${Math.random()}`, from: second.id, room, text, volatile };
    const answer = await second.timeout(SECOND_MS).emitWithAck("publish", volatile ? { room, volatile } : room, "message", message).catch((/** @type {any} */ error) => ({ error }));
    if (answer.error) log(`“${text}” was not published: ${answer.error.message}.`, "bad");
  }

  /**
   * Records an event that the second connection received.
   * @param {Message} message
   */
  #observe(message) {
    if (!this.#counting || isOwn(message) || this.#missed.has(message.id)) return;
    const from = message.from === this.#second?.id ? "this page’s second connection" : this.rooms.nameOf(message.from);
    this.#note(message, from, "missed");
    const stored = message.volatile ? "being volatile, it is not stored" : `it is ${this.#storage}`;
    log(`“${message.text}” was published in ${message.room} by ${from}. This tab missed it; ${stored}.`);
    const [plain, volatile] = [this.#count(false), this.#count(true)];
    const caption = this.rooms.stored && plain ? `keeps ${plain} for this tab` : "keeps nothing for this tab";
    this.stage.send([[message.from, "server"]], () => this.#counting && this.stage.say("server", caption, "waits"), { label: message.text });
    byId("away-outcome").textContent = `Missed so far: ${events(plain, "event", this.#storage)}, ${events(volatile, "volatile event", "not stored")}.`;
  }

  /** Storage of events for this tab, as text. */
  get #storage() {
    return this.rooms.stored ? "stored by the server" : "not stored: recovery is off";
  }

  /**
   * This tab is connected, for the first time or again, for any reason.
   * @param {Date} at
   * @returns {Promise<{ recovered: number, lost: number }>} numbers of missed events
   */
  async settle(at) {
    const { socket } = this;
    const { recovered } = socket;
    if (!this.#counting) this.#missed.clear();
    this.#replaying = recovered;
    await this.#catchUp();
    this.#replaying = false;
    for (const missed of this.#missed.values()) if (missed.fate === "missed") missed.fate = "lost";
    const came = [...this.#missed.values()].filter(({ fate }) => fate === "recovered").length;
    const lost = this.#missed.size - came;
    if (this.#counting) this.#summarise(at, recovered, came);
    else byId("away-outcome").textContent = this.#summary(recovered, came);
    this.#counting = false;
    this.#hasReturned = true;
    this.#show();
    this.#second?.disconnect();
    this.#second = undefined;
    return { recovered: came, lost };
  }

  /**
   * Counts recovered events that were not counted while disconnected.
   * @param {boolean} recovered
   * @param {number} came
   */
  #summary(recovered, came) {
    if (!this.#hasReturned) return "No event missed so far.";
    if (!recovered) return "The server could not recover this session: events published meanwhile are lost.";
    return came ? `${events(came, "missed event")} recovered.` : "No stored event was missed.";
  }

  /**
   * Events keep their order: when this tab receives its own message, it has received all missed
   * ones.
   */
  #catchUp() {
    const { socket } = this;
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, SETTLE_MS);
      socket.off("caught up").once("caught up", () => {
        clearTimeout(timer);
        resolve(undefined);
      });
      socket.emit("publish", socket.id, "caught up");
    });
  }

  /**
   * @param {Date} at
   * @param {boolean} recovered
   * @param {number} came
   */
  #summarise(at, recovered, came) {
    const [plain, volatile] = [this.#count(false), this.#count(true)];
    /** @type {[sentence: string, kind: "good" | "bad" | "note"][]} */
    const parts = [];
    if (!plain && !volatile) parts.push(["No event was published meanwhile.", "note"]);
    if (plain && recovered) parts.push([`${came} of ${events(plain, "missed event")} recovered.`, came < plain ? "bad" : "good"]);
    if (plain && !recovered) parts.push([`The server could not recover this session: ${events(plain, "event")} lost.`, "bad"]);
    if (volatile) parts.push([`${events(volatile, "volatile event")} lost.`, "bad"]);
    byId("away-outcome").textContent = [`Reconnected after ${secondsBetween(this.#since, at)} s.`, ...parts.map(([sentence]) => sentence)].join(" ");
    for (const [sentence, kind] of parts) log(sentence, kind);
  }

  /**
   * Records a message that this tab itself received.
   * @param {Message} message
   * @returns {boolean} whether it was missed before
   */
  receive(message) {
    if (isOwn(message)) return false;
    const missed = this.#missed.get(message.id);
    if (!this.#replaying && !missed) return false;
    this.#note(message, missed?.from ?? this.rooms.nameOf(message.from), "recovered");
    return true;
  }

  /**
   * @param {Message} message
   * @param {string} from
   * @param {Missed["fate"]} fate
   */
  #note(message, from, fate) {
    this.#missed.set(message.id, { message, from, fate });
    if (this.#missed.size > ROWS_MAX) this.#missed.delete(/** @type {string} */ (this.#missed.keys().next().value));
    this.#show();
  }

  /** @param {boolean} volatile */
  #count(volatile) {
    return [...this.#missed.values()].filter(({ message }) => message.volatile === volatile).length;
  }

  #show() {
    for (const [id, volatile] of /** @type {[string, boolean][]} */ ([["stored", false], ["volatile", true]])) {
      const rows = [...this.#missed.values()].filter(({ message }) => message.volatile === volatile);
      byId(id).dataset.empty = this.socket.connected || this.#counting ? "none missed" : "unknown while disconnected";
      byId(id).replaceChildren(
        ...rows.map(({ message, from, fate }) => {
          const state = fate === "missed" ? `missed, ${volatile ? "not stored" : this.#storage}` : fate;
          return make("li", { "data-fate": fate }, make("q", {}, message.text), make("span", {}, state), " · ", make("small", {}, `from ${from}`));
        }),
      );
    }
  }
}

/**
 * @param {number} count
 * @param {string} what
 * @param {string} [fate]
 */
function events(count, what, fate) {
  return `${count} ${what}${count === 1 ? "" : "s"}${fate ? ` ${fate}` : ""}`;
}
