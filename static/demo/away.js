/**
 * Disconnects this tab and reconnects it. Meanwhile a second connection of this page is in the
 * rooms: it publishes and counts the events that this tab misses. The tab itself receives them only
 * from the server, after it reconnects.
 */

import { allow, allows, byId, make } from "./element.js";
import { isOwn } from "./emits.js";
import { secondsBetween, tell } from "./log.js";

/** Time limit for the second connection in milliseconds; then the tab disconnects without it. */
const STAND_IN_MS = 4_000;
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
  #standIn;
  /** Whether this tab has disconnected itself. */
  #offline = false;
  /**
   * Whether missed events are counted: from the disconnect to the reconnect, however long that
   * takes.
   */
  #counting = false;
  /** Whether incoming events were missed before: from the reconnect until all have arrived. */
  #replaying = false;
  /** Number of events that the second connection has published, of each kind. */
  #published = { event: 0, volatile: 0 };
  /** Time of the disconnect. */
  #since = new Date();
  /** Whether this tab was connected before. */
  #returns = false;

  /**
   * @param {import("../client/index.js").Socket} socket
   * @param {import("./rooms.js").Rooms} rooms
   * @param {() => import("../client/index.js").Socket} connect creates a second connection to the
   * same server
   */
  constructor(socket, rooms, connect) {
    this.socket = socket;
    this.rooms = rooms;
    this.connect = connect;
    byId("offline").addEventListener("click", () => {
      if (allows("offline")) this.#offline ? this.#comeBack() : this.#goOffline();
    });
    byId("while-plain").addEventListener("click", () => this.#publish(false));
    byId("while-volatile").addEventListener("click", () => this.#publish(true));
    this.#show();
  }

  get offline() {
    return this.#offline;
  }

  /** Updates the button: only an open connection can be closed. */
  turn() {
    this.#enable();
    this.#show();
    if (this.socket.connected || this.#offline) return;
    byId("away-outcome").textContent = "No connection: what this tab misses meanwhile shows on its return.";
  }

  #enable() {
    allow("offline", this.#offline || this.socket.connected);
    byId("offline").textContent = this.#offline ? "Come back online" : "Go offline";
  }

  async #goOffline() {
    const { socket } = this;
    allow("offline", false);
    this.#missed.clear();
    this.#published = { event: 0, volatile: 0 };
    this.#show();
    const standIn = this.connect();
    this.#standIn = standIn;
    standIn.on("message", (/** @type {Message} */ message) => this.#witness(message));
    const ready = await this.#settleIn(standIn);
    // The connection may have been lost otherwise meanwhile.
    this.#enable();
    if (!socket.connected) return;

    this.#offline = this.#counting = true;
    this.#since = new Date();
    socket.io.reconnection(false).engine.close(); // gone, without a word

    this.#enable();
    for (const id of ["while-plain", "while-volatile"]) byId(id).disabled = !ready;
    byId("away-outcome").textContent = "This tab is offline. Publish something: it is missed, and counted.";
    tell("This tab cut its connection. What is published from now on, it misses.", "bad");
    if (!ready) tell("The second connection did not come about: what is missed cannot be counted.", "bad");
  }

  /**
   * Joins the rooms of this tab with the second connection.
   * @param {import("../client/index.js").Socket} standIn
   */
  async #settleIn(standIn) {
    try {
      const rooms = this.rooms.names;
      await Promise.all(rooms.map((room) => standIn.timeout(STAND_IN_MS).emitWithAck("join", room)));
      const news = { id: standIn.id, standsInFor: this.socket.id };
      this.rooms.learn(news);
      for (const room of rooms) this.rooms.announce(room, standIn, news);
      return true;
    } catch {
      return false;
    }
  }

  #comeBack() {
    const { socket } = this;
    this.#offline = false;
    this.#enable();
    for (const id of ["while-plain", "while-volatile"]) byId(id).disabled = true;
    byId("away-outcome").textContent = "Coming back.";
    tell("This tab asks for its connection back.");

    socket.io.reconnection(true);
    socket.connect(); // and then: socket.recovered
  }

  /** @param {boolean} volatile */
  async #publish(volatile) {
    const room = this.rooms.target;
    const standIn = this.#standIn;
    if (!standIn || !room) return;
    const kind = volatile ? "volatile" : "event";
    const text = `${kind} ${(this.#published[kind] += 1)}`;
    const message = { id: crypto.randomUUID?.() ?? `${Math.random()}`, from: standIn.id, room, text, volatile };
    const answer = await standIn.timeout(STAND_IN_MS).emitWithAck("publish", volatile ? { room, volatile } : room, "message", message).catch((/** @type {any} */ error) => ({ error }));
    if (answer.error) tell(`“${text}” was not published: ${answer.error.message}.`, "bad");
  }

  /**
   * Records an event that the second connection received.
   * @param {Message} message
   */
  #witness(message) {
    if (!this.#counting || isOwn(message) || this.#missed.has(message.id)) return;
    const from = message.from === this.#standIn?.id ? "this page’s second connection" : this.rooms.nameOf(message.from);
    this.#note(message, from, "missed");
    const keeper = message.volatile ? "being volatile, it is kept by nobody" : `it is kept by ${this.#keeper}`;
    tell(`“${message.text}” was published in ${message.room} by ${from}. This tab missed it; ${keeper}.`);
    const [plain, volatile] = [this.#count(false), this.#count(true)];
    byId("away-outcome").textContent = `Missed so far: ${events(plain, "event", `kept by ${this.#keeper}`)}, ${events(volatile, "volatile event", "kept by nobody")}.`;
  }

  /** Where the server stores events for this tab. */
  get #keeper() {
    return this.rooms.keeps ? "the server" : "nobody: its recovery is off";
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
    await this.#caughtUp();
    this.#replaying = false;
    for (const missed of this.#missed.values()) if (missed.fate === "missed") missed.fate = "lost";
    const came = [...this.#missed.values()].filter(({ fate }) => fate === "recovered").length;
    const lost = this.#missed.size - came;
    if (this.#counting) this.#sum(at, recovered, came);
    else byId("away-outcome").textContent = this.#verdict(recovered, came);
    this.#counting = false;
    this.#returns = true;
    this.#show();
    this.#standIn?.disconnect();
    this.#standIn = undefined;
    return { recovered: came, lost };
  }

  /**
   * Counts recovered events that were not counted while disconnected.
   * @param {boolean} recovered
   * @param {number} came
   */
  #verdict(recovered, came) {
    if (!this.#returns) return "Nothing missed so far.";
    if (!recovered) return "The server could not recover this connection: what was published meanwhile is lost to this tab.";
    return came ? `${events(came, "missed event")} came on return, marked recovered.` : "Nothing that the server keeps was missed.";
  }

  /**
   * Events keep their order: when this tab receives its own message, it has received all missed
   * ones.
   */
  #caughtUp() {
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
  #sum(at, recovered, came) {
    const [plain, volatile] = [this.#count(false), this.#count(true)];
    /** @type {[sentence: string, kind: "good" | "bad" | "note"][]} */
    const parts = [];
    if (!plain && !volatile) parts.push(["Nothing was published meanwhile.", "note"]);
    if (plain && recovered) parts.push([`${came} of ${events(plain, "missed event")} came on return, marked recovered.`, came < plain ? "bad" : "good"]);
    if (plain && !recovered) parts.push([`The server could not recover this connection, and says so: ${events(plain, "event")} lost.`, "bad"]);
    if (volatile) parts.push([`${events(volatile, "volatile event")} lost for good.`, "bad"]);
    byId("away-outcome").textContent = [`Back after ${secondsBetween(this.#since, at)} s.`, ...parts.map(([sentence]) => sentence)].join(" ");
    for (const [sentence, kind] of parts) tell(sentence, kind);
  }

  /**
   * Records a message that this tab itself received.
   * @param {Message} message
   * @returns {boolean} whether it was missed before
   */
  hear(message) {
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
    for (const [id, volatile] of /** @type {[string, boolean][]} */ ([["kept", false], ["volatile", true]])) {
      const rows = [...this.#missed.values()].filter(({ message }) => message.volatile === volatile);
      byId(id).dataset.empty = this.socket.connected || this.#counting ? "none missed" : "not known without a connection";
      byId(id).replaceChildren(
        ...rows.map(({ message, from, fate }) => {
          const verdict = fate === "missed" ? `missed, kept by ${volatile ? "nobody" : this.#keeper}` : fate;
          return make("li", { "data-fate": fate }, make("q", {}, message.text), make("span", {}, verdict), " ", make("small", {}, `from ${from}`));
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
