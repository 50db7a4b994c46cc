/** The two kinds of emit, drawn on the stage: to the server, and to a room. */

import { byId } from "./element.js";
import { log, secondsBetween } from "./log.js";

/** Identifies this tab in its messages on any connection. */
export const TAB = crypto.randomUUID?.() ?? `${Math.random()}`;

/**
 * @param {{ tab?: string }} message
 * @returns {boolean} whether this tab published it
 */
export const isOwn = (message) => message.tab === TAB;

const IDLE = {
  client: "Only the server receives it. Its ack comes back to this tab.",
  server: "Every member of the room receives it now, this tab too.",
};
/** @type {[string, "received"]} */
const RECEIVED = ["received it", "received"];
/** @type {[string, "silent"]} */
const NOT_RECEIVED = ["not a member", "silent"];
const DISCONNECTED = "The server is unreachable: emits of this tab are buffered.";

/**
 * @typedef {object} Message as published by this page
 * @property {string} id
 * @property {string} from the id of the socket that published it
 * @property {string} [tab] the tab that published it
 * @property {string} room
 * @property {string} text
 * @property {boolean} volatile
 */

/** @param {string} text */
const quote = (text) => `“${text}”`;

export class Emits {
  /** Last socket id of this tab. */
  #id = "";
  /** Number of emits buffered in this tab, of each kind. */
  #buffered = { client: 0, server: 0 };

  /**
   * @param {import("../client/index.js").Socket} socket
   * @param {import("./rooms.js").Rooms} rooms
   * @param {import("./stage.js").Stage} stage
   */
  constructor(socket, rooms, stage) {
    this.socket = socket;
    this.rooms = rooms;
    this.stage = stage;
  }

  /** The connection was lost or opened: drawn after running movements. */
  update() {
    const { connected, id } = this.socket;
    this.#id = id ?? this.#id;
    this.stage.send([], () => {
      this.stage.setDisconnected(!connected);
      for (const kind of /** @type {const} */ (["client", "server"])) {
        const outcome = byId(`${kind}-outcome`);
        // Earlier results do not apply any more.
        if (!connected && !this.#buffered[kind]) outcome.textContent = DISCONNECTED;
        else if (connected && outcome.textContent === DISCONNECTED) outcome.textContent = IDLE[kind];
      }
    });
  }

  /**
   * Shows that without a connection this tab's emits stay in it.
   * @param {"client" | "server"} kind
   * @param {string} sentence
   */
  #wait(kind, sentence) {
    const { stage } = this;
    this.#count(kind, 1);
    byId(`${kind}-outcome`).textContent = sentence;
    stage.send([], () => {
      stage.setDisconnected(true);
      stage.say("me", "waits", "waits");
    });
  }

  /**
   * @param {"client" | "server"} kind
   * @param {1 | -1} change in the number of buffered emits
   */
  #count(kind, change) {
    this.#buffered[kind] += change;
    this.stage.setBuffered(this.#buffered.client + this.#buffered.server);
  }

  /** Members have joined or left. */
  updateMembers() {
    if (this.socket.connected) this.stage.setOthers(this.rooms.others());
  }

  /** @param {string} text */
  async emit(text) {
    const { socket, stage } = this;
    stage.send([], () => {
      stage.reset();
      stage.say("me", "emits", "sent");
    });
    const asked = new Date();
    let begun = performance.now();
    let waited = "";
    // Buffered emits are sent as soon as there is a connection.
    const sent = () => {
      begun = performance.now();
      waited = `It was buffered for ${secondsBetween(asked, new Date())} s; then the server`;
    };
    socket.once("connect", sent);
    const waits = !socket.connected;
    if (waits) {
      log(`This tab emitted ${quote(text)}. There is no connection, so it is buffered.`);
      this.#wait("client", `${quote(text)} is buffered in this tab and sent after the reconnect.`);
    }
    try {
      const answer = await socket.emitWithAck("echo", text);
      const ms = Math.max(1, Math.round(performance.now() - begun));
      const others = this.rooms.others().map(({ name }) => name);
      const silent = others.length ? `${list(others)} received nothing.` : "No other tab received it.";
      stage.send([["me", "server"]], () => stage.say("server", "received it", "received"), { label: text });
      stage.send(
        [["server", "me"]],
        () => {
          stage.say("me", "got its ack", "received");
          for (const place of stage.places) stage.say(place, "received nothing", "silent");
          byId("client-outcome").textContent = `The server received ${quote(answer)} and sent its ack. ${silent}`;
        },
        { label: "ack", kind: "ack" },
      );
      log(`This tab emitted ${quote(text)}. ${waited || "The server"} received it and sent its ack after ${ms} ms. ${silent}`);
    } catch (/** @type {any} */ error) {
      byId("client-outcome").textContent = `No ack for ${quote(text)}: ${error.message}.`;
      log(`No ack for ${quote(text)}: ${error.message}.`, "bad");
      stage.say("me", "no ack", "lost");
    } finally {
      socket.off("connect", sent);
      if (waits) this.#count("client", -1);
    }
  }

  /** @param {string} text */
  async publish(text) {
    const { socket } = this;
    const room = this.rooms.target;
    if (!room) {
      byId("server-outcome").textContent = "This tab is in no room: join one below.";
      return;
    }
    const message = { id: crypto.randomUUID?.() ?? `${Math.random()}`, from: socket.id ?? this.#id, tab: TAB, room, text, volatile: false };
    const asked = new Date();
    const waits = !socket.connected;
    if (waits) {
      log(`This tab published ${quote(text)}. There is no connection, so it is buffered.`);
      this.#wait("server", `${quote(text)} is buffered in this tab and published after the reconnect.`);
    }
    try {
      const answer = await socket.emitWithAck("publish", room, "message", message);
      if (answer.error) throw new Error(answer.error.message);
      if (!waits) return;
      const seconds = secondsBetween(asked, new Date());
      this.stage.send([], () => {
        byId("server-outcome").textContent = `${quote(text)} was buffered for ${seconds} s; then the server published it.`;
      });
      log(`${quote(text)} was buffered for ${seconds} s; then the server published it.`);
    } catch (/** @type {any} */ error) {
      byId("server-outcome").textContent = `${quote(text)} was not published: ${error.message}.`;
      log(`${quote(text)} was not published: ${error.message}.`, "bad");
    } finally {
      if (waits) this.#count("server", -1);
    }
  }

  /**
   * A message has arrived.
   * @param {Message} message
   * @param {boolean} recovered whether it was missed before
   */
  receive(message, recovered) {
    const { stage } = this;
    const own = isOwn(message);
    const who = own ? "this tab" : this.rooms.nameOf(message.from);
    log(
      recovered
        ? `Recovered: ${quote(message.text)}, published in ${message.room} by ${who} while this tab was disconnected.`
        : `The server emitted ${quote(message.text)} to the room ${message.room}, published by ${who}.`,
      recovered ? "good" : "note",
    );
    if (recovered) {
      stage.send([["server", "me"]], () => stage.say("me", "recovered", "received"), { label: message.text });
      return;
    }
    if (message.room !== this.rooms.target) return;
    const others = this.rooms.others(message.room);
    const members = new Set(others.map(({ id }) => id));
    const reached = stage.places.filter((place) => members.has(place) || (place === "rest" && others.length));
    stage.send([], () => stage.reset());
    stage.send([[own ? "me" : message.from, "server"]], () => stage.say("server", "emits it", "sent"), { label: message.text });
    stage.send(
      [["server", "me"], .../** @type {[string, string][]} */ (reached.map((place) => ["server", place]))],
      () => {
        stage.say("me", "received it", "received");
        for (const place of stage.places) {
          const [caption, mood] = reached.includes(place) ? RECEIVED : NOT_RECEIVED;
          stage.say(place, caption, mood);
        }
        const names = others.length ? list(["This tab", ...others.map(({ name }) => name)]) : "This tab, the only one in the room,";
        byId("server-outcome").textContent = `${names} received ${quote(message.text)}, published by ${who}.`;
      },
      { label: message.text },
    );
  }
}

/** @param {string[]} names */
function list(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
