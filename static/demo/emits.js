/** The two kinds of emit, each with its diagram: to the server, and to a room. */

import { Diagram } from "./diagram.js";
import { byId } from "./element.js";
import { secondsBetween, tell } from "./log.js";

/** Identifies this tab in its messages on any connection. */
const TAB = crypto.randomUUID?.() ?? `${Math.random()}`;

/**
 * @param {Message} message
 * @returns {boolean} whether this tab published it
 */
export const isOwn = (message) => message.tab === TAB;

const CALM = { client: "Press Emit and see who hears it.", server: "Press Publish and see who hears it." };
const AWAY = "The server is out of reach: what this tab emits waits here.";

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
  #waiting = { client: 0, server: 0 };

  /**
   * @param {import("../client/index.js").Socket} socket
   * @param {import("./rooms.js").Rooms} rooms
   */
  constructor(socket, rooms) {
    this.socket = socket;
    this.rooms = rooms;
    this.toServer = new Diagram(byId("client-diagram"), { idle: "hears nothing", connects: false });
    this.toRoom = new Diagram(byId("server-diagram"), { idle: "listens", connects: true });
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
  turn() {
    const { connected, id } = this.socket;
    this.#id = id ?? this.#id;
    for (const kind of /** @type {const} */ (["client", "server"])) {
      const diagram = kind === "client" ? this.toServer : this.toRoom;
      diagram.send([], () => {
        diagram.cut(!connected);
        const outcome = byId(`${kind}-outcome`);
        // Earlier results do not apply any more.
        if (!connected && !this.#waiting[kind]) outcome.textContent = AWAY;
        else if (connected && outcome.textContent === AWAY) outcome.textContent = CALM[kind];
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
    this.#waiting[kind] += 1;
    byId(`${kind}-outcome`).textContent = sentence;
    diagram.send([], () => {
      diagram.cut(true);
      diagram.say("me", "waiting to send", "waits");
    });
  }

  /** Members have joined or left. */
  members() {
    if (!this.socket.connected) return;
    this.toServer.others(this.rooms.others());
    this.toRoom.others(this.rooms.others(this.rooms.target));
  }

  /** @param {string} text */
  async #emit(text) {
    const { socket, toServer } = this;
    toServer.calm();
    toServer.say("me", `says ${short(text)}`, "sent");
    const asked = new Date();
    let begun = performance.now();
    let waited = "";
    // Buffered emits are sent as soon as there is a connection.
    const sent = () => {
      begun = performance.now();
      waited = `It waited ${secondsBetween(asked, new Date())} s in this tab; then the server`;
    };
    socket.once("connect", sent);
    const waits = !socket.connected;
    if (waits) {
      tell(`This tab emitted ${quote(text)}. There is no connection: it waits here until there is one.`);
      this.#wait("client", `${quote(text)} waits in this tab: it is sent when the connection is back.`);
    }
    try {
      const answer = await socket.emitWithAck("echo", text);
      const ms = Math.max(1, Math.round(performance.now() - begun));
      const others = this.rooms.others().map(({ name }) => name);
      const silent = others.length ? `${list(others)} heard nothing.` : "Nobody else heard it.";
      toServer.send([["me", "server"]], () => toServer.say("server", "heard it", "heard"));
      toServer.send([["server", "me"]], () => {
        toServer.say("me", "got its answer", "heard");
        for (const place of toServer.places) toServer.say(place, "heard nothing", "silent");
        byId("client-outcome").textContent = `The server heard ${quote(answer)} and answered this tab. ${silent}`;
      });
      tell(`This tab emitted ${quote(text)}. ${waited || "The server"} heard it and answered after ${ms} ms. ${silent}`);
    } catch (/** @type {any} */ error) {
      byId("client-outcome").textContent = `No answer to ${quote(text)}: ${error.message}.`;
      tell(`No answer to ${quote(text)}: ${error.message}.`, "bad");
      toServer.say("me", "no answer", "lost");
    } finally {
      socket.off("connect", sent);
      if (waits) this.#waiting.client -= 1;
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
      tell(`This tab asked for ${quote(text)} to be published. There is no connection: it waits here until there is one.`);
      this.#wait("server", `${quote(text)} waits in this tab: it is published when the connection is back.`);
    }
    try {
      const answer = await socket.emitWithAck("publish", room, "message", message);
      if (answer.error) throw new Error(answer.error.message);
      if (!waits) return;
      const seconds = secondsBetween(asked, new Date());
      this.toRoom.send([], () => {
        byId("server-outcome").textContent = `${quote(text)} waited ${seconds} s in this tab; then the server published it.`;
      });
      tell(`${quote(text)} waited ${seconds} s in this tab; then the server published it.`);
    } catch (/** @type {any} */ error) {
      byId("server-outcome").textContent = `${quote(text)} was not published: ${error.message}.`;
      tell(`${quote(text)} was not published: ${error.message}.`, "bad");
    } finally {
      if (waits) this.#waiting.server -= 1;
    }
  }

  /**
   * A message has arrived.
   * @param {Message} message
   * @param {boolean} recovered whether it was missed before
   */
  hear(message, recovered) {
    const { toRoom } = this;
    const own = isOwn(message);
    const who = own ? "this tab" : this.rooms.nameOf(message.from);
    tell(
      recovered
        ? `Recovered: ${quote(message.text)}, which ${who} had published in ${message.room} while this tab was away.`
        : `The server emitted ${quote(message.text)} to everybody in ${message.room}; ${who} had asked it to.`,
      recovered ? "good" : "note",
    );
    if (recovered || message.room !== this.rooms.target) return;
    toRoom.calm();
    const others = this.rooms.others(message.room);
    toRoom.send([[own ? "me" : message.from, "server"]], () => toRoom.say("server", "emits it", "sent"));
    toRoom.send([["server", "me"], .../** @type {[string, string][]} */ (toRoom.places.map((place) => ["server", place]))], () => {
      toRoom.say("me", "heard it", "heard");
      if (others.length) for (const place of toRoom.places) toRoom.say(place, "heard it", "heard");
      const everybody = others.length ? list(["This tab", ...others.map(({ name }) => name)]) : "This tab, the only one in the room,";
      byId("server-outcome").textContent = `${everybody} heard ${quote(message.text)}. ${own ? "This tab" : who} had published it.`;
    });
  }
}

/** @param {string[]} names */
function list(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
