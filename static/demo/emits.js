/** The two kinds of emit, each with its drawing: to the server, and to everybody. */

import { Diagram } from "./diagram.js";
import { byId } from "./element.js";
import { secondsBetween, tell } from "./log.js";

/** How much of what was said fits into a box of the drawing. */
const CAPTION_LENGTH = 11;

/**
 * @typedef {object} Message as this page publishes it
 * @property {string} id
 * @property {string} from the id of the socket that published it
 * @property {string} room
 * @property {string} text
 * @property {boolean} volatile
 */

/** @param {string} text */
const quote = (text) => `“${text}”`;
const short = (/** @type {string} */ text) => quote(text.length > CAPTION_LENGTH ? `${text.slice(0, CAPTION_LENGTH - 1)}…` : text);

export class Emits {
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

  /** The connection is gone, or there: drawn after what is under way. */
  turn() {
    const { connected } = this.socket;
    for (const diagram of [this.toServer, this.toRoom]) diagram.send([], () => diagram.cut(!connected));
  }

  /**
   * Without a connection, what this tab says stays in it.
   * @param {Diagram} diagram
   */
  #wait(diagram) {
    diagram.send([], () => {
      diagram.cut(true);
      diagram.say("me", "waiting to send", "waits");
    });
  }

  /** Members have come or gone. */
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
    // What waits is sent as soon as there is a connection.
    const sent = () => {
      begun = performance.now();
      waited = `It waited ${secondsBetween(asked, new Date())} s in this tab; then the server`;
    };
    socket.once("connect", sent);
    if (!socket.connected) {
      byId("client-outcome").textContent = `${quote(text)} waits in this tab: it is sent when the connection is back.`;
      tell(`This tab emitted ${quote(text)}. There is no connection: it waits here until there is one.`);
      this.#wait(toServer);
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
    const message = { id: crypto.randomUUID?.() ?? `${Math.random()}`, from: socket.id ?? "", room, text, volatile: false };
    if (!socket.connected) {
      byId("server-outcome").textContent = `${quote(text)} waits in this tab: it is published when the connection is back.`;
      tell(`This tab asked for ${quote(text)} to be published. There is no connection: it waits here until there is one.`);
      this.#wait(this.toRoom);
    }
    try {
      const answer = await socket.emitWithAck("publish", room, "message", message);
      if (answer.error) throw new Error(answer.error.message);
    } catch (/** @type {any} */ error) {
      byId("server-outcome").textContent = `${quote(text)} was not published: ${error.message}.`;
      tell(`${quote(text)} was not published: ${error.message}.`, "bad");
    }
  }

  /**
   * A message has come.
   * @param {Message} message
   * @param {boolean} recovered whether it is one of those that were missed
   */
  hear(message, recovered) {
    const { toRoom } = this;
    const own = message.from === this.socket.id;
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
