/** The two kinds of emit, each with its diagram: to the server, and to a room. */

import { Diagram } from "./diagram.js";
import { byId } from "./element.js";
import { log, secondsBetween } from "./log.js";

/** Identifies this tab in its messages on any connection. */
const TAB = crypto.randomUUID?.() ?? `${Math.random()}`;

/**
 * @param {Message} message
 * @returns {boolean} whether this tab published it
 */
export const isOwn = (message) => message.tab === TAB;

const IDLE = { client: "Press Emit to see who receives it.", server: "Press Publish to see who receives it." };
const DISCONNECTED = "The server is unreachable: emits of this tab are buffered.";

/** Maximum number of characters of a text in a box of the diagram. */
const CAPTION_LENGTH = 11;

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
const short = (/** @type {string} */ text) => quote(text.length > CAPTION_LENGTH ? `${text.slice(0, CAPTION_LENGTH - 1)}…` : text);

export class Emits {
  /** Last socket id of this tab. */
  #id = "";
  /** Number of emits buffered in this tab, of each kind. */
  #buffered = { client: 0, server: 0 };

  /**
   * @param {import("../client/index.js").Socket} socket
   * @param {import("./rooms.js").Rooms} rooms
   */
  constructor(socket, rooms) {
    this.socket = socket;
    this.rooms = rooms;
    this.toServer = new Diagram(byId("client-diagram"), { idle: "no event", connects: false });
    this.toRoom = new Diagram(byId("server-diagram"), { idle: "listening", connects: true });
    byId("emit-form").addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.#emit(byId("emit-text").value);
    });
    byId("publish-form").addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.#publish(byId("publish-text").value);
    });
  }

  /** The connection was lost or opened: drawn after running movements. */
  update() {
    const { connected, id } = this.socket;
    this.#id = id ?? this.#id;
    for (const kind of /** @type {const} */ (["client", "server"])) {
      const diagram = kind === "client" ? this.toServer : this.toRoom;
      diagram.send([], () => {
        diagram.setDisconnected(!connected);
        const outcome = byId(`${kind}-outcome`);
        // Earlier results do not apply any more.
        if (!connected && !this.#buffered[kind]) outcome.textContent = DISCONNECTED;
        else if (connected && outcome.textContent === DISCONNECTED) outcome.textContent = IDLE[kind];
      });
    }
  }

  /**
   * Shows that without a connection this tab's emits stay in it.
   * @param {"client" | "server"} kind
   * @param {string} sentence
   */
  #wait(kind, sentence) {
    const diagram = kind === "client" ? this.toServer : this.toRoom;
    this.#buffered[kind] += 1;
    byId(`${kind}-outcome`).textContent = sentence;
    diagram.send([], () => {
      diagram.setDisconnected(true);
      diagram.say("me", "buffered", "waits");
    });
  }

  /** Members have joined or left. */
  updateMembers() {
    if (!this.socket.connected) return;
    this.toServer.others(this.rooms.others());
    this.toRoom.others(this.rooms.others(this.rooms.target));
  }

  /** @param {string} text */
  async #emit(text) {
    const { socket, toServer } = this;
    toServer.reset();
    toServer.say("me", `emits ${short(text)}`, "sent");
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
      toServer.send([["me", "server"]], () => toServer.say("server", "received it", "received"));
      toServer.send([["server", "me"]], () => {
        toServer.say("me", "received the ack", "received");
        for (const place of toServer.places) toServer.say(place, "received nothing", "silent");
        byId("client-outcome").textContent = `The server received ${quote(answer)} and sent its ack. ${silent}`;
      });
      log(`This tab emitted ${quote(text)}. ${waited || "The server"} received it and sent its ack after ${ms} ms. ${silent}`);
    } catch (/** @type {any} */ error) {
      byId("client-outcome").textContent = `No ack for ${quote(text)}: ${error.message}.`;
      log(`No ack for ${quote(text)}: ${error.message}.`, "bad");
      toServer.say("me", "no ack", "lost");
    } finally {
      socket.off("connect", sent);
      if (waits) this.#buffered.client -= 1;
    }
  }

  /** @param {string} text */
  async #publish(text) {
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
      this.toRoom.send([], () => {
        byId("server-outcome").textContent = `${quote(text)} was buffered for ${seconds} s; then the server published it.`;
      });
      log(`${quote(text)} was buffered for ${seconds} s; then the server published it.`);
    } catch (/** @type {any} */ error) {
      byId("server-outcome").textContent = `${quote(text)} was not published: ${error.message}.`;
      log(`${quote(text)} was not published: ${error.message}.`, "bad");
    } finally {
      if (waits) this.#buffered.server -= 1;
    }
  }

  /**
   * A message has arrived.
   * @param {Message} message
   * @param {boolean} recovered whether it was missed before
   */
  receive(message, recovered) {
    const { toRoom } = this;
    const own = isOwn(message);
    const who = own ? "this tab" : this.rooms.nameOf(message.from);
    log(
      recovered
        ? `Recovered: ${quote(message.text)}, published in ${message.room} by ${who} while this tab was disconnected.`
        : `The server emitted ${quote(message.text)} to the room ${message.room}, published by ${who}.`,
      recovered ? "good" : "note",
    );
    if (recovered || message.room !== this.rooms.target) return;
    toRoom.reset();
    const others = this.rooms.others(message.room);
    toRoom.send([[own ? "me" : message.from, "server"]], () => toRoom.say("server", "emits it", "sent"));
    toRoom.send([["server", "me"], .../** @type {[string, string][]} */ (toRoom.places.map((place) => ["server", place]))], () => {
      toRoom.say("me", "received it", "received");
      if (others.length) for (const place of toRoom.places) toRoom.say(place, "received it", "received");
      const members = others.length ? list(["This tab", ...others.map(({ name }) => name)]) : "This tab, the only one in the room,";
      byId("server-outcome").textContent = `${members} received ${quote(message.text)}, published by ${who}.`;
    });
  }
}

/** @param {string[]} names */
function list(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
