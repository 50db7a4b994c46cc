/**
 * Cuts this tab off and brings it back. Meanwhile a second connection of this page is in the rooms: it publishes, and it
 * counts what this tab misses. The tab itself learns of that from nobody but the server, when it is back.
 */

import { allow, allows, byId, make } from "./element.js";
import { tell } from "./log.js";

/** How long the second connection may take, in milliseconds; then the tab goes offline without it. */
const STAND_IN_MS = 4_000;
/** How long after the return what was missed may take to come, in milliseconds, before it counts as lost. */
const SETTLE_MS = 3_000;
/** How many missed events are shown. */
const ROWS_MAX = 50;

/** @typedef {import("./emits.js").Message} Message */
/** @typedef {{ message: Message, fate: "missed" | "recovered" | "lost" }} Missed */

export class Away {
  /** @type {Map<string, Missed>} by the message's id */
  #missed = new Map();
  /** @type {import("../client/index.js").Socket | undefined} */
  #standIn;
  /** Whether the switch says that this tab is off. */
  #offline = false;
  /** Whether what it misses is counted: from then until it is back, however long that takes. */
  #counting = false;
  /** Whether what comes now was missed before: from the return until all of it has come. */
  #replaying = false;
  #published = 0;
  /** When this tab went, by the steady clock. */
  #since = 0;

  /**
   * @param {import("../client/index.js").Socket} socket
   * @param {import("./rooms.js").Rooms} rooms
   * @param {() => import("../client/index.js").Socket} connect makes a second connection to the same server
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

  /** The connection is there, or gone: only one that is there can be cut. */
  enable() {
    allow("offline", this.#offline || this.socket.connected);
  }

  async #goOffline() {
    const { socket } = this;
    const control = byId("offline");
    allow("offline", false);
    this.#missed.clear();
    this.#published = 0;
    this.#show();
    const standIn = this.connect();
    this.#standIn = standIn;
    standIn.on("message", (/** @type {Message} */ message) => this.#witness(message));
    const ready = await this.#settleIn(standIn);
    // It may have been lost without our doing meanwhile.
    this.enable();
    if (!socket.connected) return;

    this.#offline = this.#counting = true;
    this.#since = performance.now();
    socket.io.reconnection(false).engine.close(); // gone, without a word

    control.setAttribute("aria-checked", "true");
    for (const id of ["while-plain", "while-volatile"]) byId(id).disabled = !ready;
    byId("away-outcome").textContent = "This tab is offline. Publish something: it is missed, and counted.";
    tell("This tab cut its connection. What is published from now on, it misses.", "bad");
    if (!ready) tell("The second connection did not come about: what is missed cannot be counted.", "bad");
  }

  /**
   * Puts the second connection into the rooms of this tab.
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
    this.enable();
    byId("offline").setAttribute("aria-checked", "false");
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
    this.#published += 1;
    const text = `${volatile ? "volatile" : "event"} ${this.#published}`;
    const message = { id: crypto.randomUUID?.() ?? `${Math.random()}`, from: standIn.id, room, text, volatile };
    const answer = await standIn.timeout(STAND_IN_MS).emitWithAck("publish", volatile ? { room, volatile } : room, "message", message).catch((/** @type {any} */ error) => ({ error }));
    if (answer.error) tell(`“${text}” was not published: ${answer.error.message}.`, "bad");
  }

  /**
   * The second connection has heard something.
   * @param {Message} message
   */
  #witness(message) {
    if (!this.#counting || this.#missed.has(message.id)) return;
    this.#note(message, "missed");
    const keeper = message.volatile ? "being volatile, it is kept by nobody" : `it is kept by ${this.#keeper}`;
    tell(`“${message.text}” was published in ${message.room}. This tab missed it; ${keeper}.`);
    const [plain, volatile] = [this.#count(false), this.#count(true)];
    byId("away-outcome").textContent = `Missed so far: ${events(plain, "event", `kept by ${this.#keeper}`)}, ${events(volatile, "volatile event", "kept by nobody")}.`;
  }

  /** Who keeps an event for this tab. */
  get #keeper() {
    return this.rooms.keeps ? "the server" : "nobody: its recovery is off";
  }

  /**
   * This tab is connected again, for whichever reason it was not.
   * @returns {Promise<{ recovered: number, lost: number }>} of what was missed
   */
  async settle() {
    const { socket } = this;
    const { recovered } = socket;
    if (!this.#counting) this.#missed.clear();
    this.#replaying = recovered;
    await this.#caughtUp();
    this.#replaying = false;
    for (const missed of this.#missed.values()) if (missed.fate === "missed") missed.fate = "lost";
    const came = [...this.#missed.values()].filter(({ fate }) => fate === "recovered").length;
    const lost = this.#missed.size - came;
    this.#show();
    if (this.#counting) this.#sum(recovered, came);
    else if (came) byId("away-outcome").textContent = `${events(came, "missed event")} came on return, marked recovered.`;
    this.#counting = false;
    this.#standIn?.disconnect();
    this.#standIn = undefined;
    return { recovered: came, lost };
  }

  /** Events keep their order: once this tab hears what it now says to itself, it has heard what it missed. */
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
   * @param {boolean} recovered
   * @param {number} came
   */
  #sum(recovered, came) {
    const seconds = Math.round((performance.now() - this.#since) / 1000);
    const [plain, volatile] = [this.#count(false), this.#count(true)];
    const parts = [`Back after ${seconds} s.`];
    if (!plain && !volatile) parts.push("Nothing was published meanwhile.");
    if (plain && recovered) parts.push(`${came} of ${events(plain, "missed event")} came on return, marked recovered.`);
    if (plain && !recovered) parts.push(`The server could not recover this connection, and says so: ${events(plain, "event")} lost.`);
    if (volatile) parts.push(`${events(volatile, "volatile event")} lost for good.`);
    byId("away-outcome").textContent = parts.join(" ");
    tell(parts.join(" "), recovered ? "good" : "bad");
  }

  /**
   * A message has come to this tab itself.
   * @param {Message} message
   * @returns {boolean} whether it is one that was missed
   */
  hear(message) {
    const missed = this.#missed.get(message.id);
    if (!this.#replaying && !missed) return false;
    this.#note(message, "recovered");
    return true;
  }

  /**
   * @param {Message} message
   * @param {Missed["fate"]} fate
   */
  #note(message, fate) {
    this.#missed.set(message.id, { message, fate });
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
      byId(id).replaceChildren(
        ...rows.map(({ message, fate }) => {
          const verdict = fate === "missed" ? `missed, kept by ${volatile ? "nobody" : this.#keeper}` : fate;
          return make("li", { "data-fate": fate }, make("q", {}, message.text), make("span", {}, verdict));
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
