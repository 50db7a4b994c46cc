/**
 * Rooms of this tab and their members. The page asks the server for the members, and the other tabs
 * announce changes.
 */

import { badge, byId, make } from "./element.js";
import { log } from "./log.js";
import { personOf } from "./names.js";

/** Interval between two queries of the members without an announcement, in milliseconds. */
const ASK_MS = 2_000;
/** Time limit of an answer, in milliseconds. */
const ANSWER_MS = 5_000;

const ROOMS_MAX = 6;
/** Lines for members, one each; if there are more members, the last line has their number. */
const LINES_MAX = 3;

/** Storage key of the rooms while the page is reloaded. */
const STORED = "stentor rooms";

export class Rooms {
  /** @type {Map<string, string[]>} room → ids of its members, if known */
  #members = new Map();
  /** @type {Map<string, string>} the second connection of a tab → that tab */
  #secondConnections = new Map();
  /**
   * @type {Set<string>} rooms with an unanswered join, on this connection or the one that it
   * continues
   */
  #unanswered = new Set();
  /**
   * True if the server stores events for disconnected tabs: the ack of a join then has an offset.
   */
  stored = false;

  /**
   * @param {import("../client/index.js").Socket} socket
   * @param {() => void} changed called when members have joined or left
   */
  constructor(socket, changed) {
    this.socket = socket;
    this.changed = changed;
    for (const room of stored()) this.#members.set(room, []);
    this.#unanswered = new Set(this.names);
    byId("join-form").addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.join(byId("join-room").value.trim());
    });
    byId("publish-room").addEventListener("change", () => this.changed());
    socket.on("members changed", (/** @type {any} */ news) => {
      this.addSecondConnection(news);
      this.queryMembers();
    });
    setInterval(() => document.hidden || this.queryMembers(), ASK_MS);
    this.#show();
  }

  get names() {
    return [...this.#members.keys()];
  }

  /** The room to publish to. */
  get target() {
    return byId("publish-room").value;
  }

  /** @param {string} id */
  nameOf(id) {
    const tab = this.#secondConnections.get(id);
    if (tab) return tab === this.socket.id ? "this page’s second connection" : `${personOf(tab).name}’s second connection`;
    return id ? personOf(id).name : "a disconnected tab";
  }

  /**
   * Members other than this tab.
   * @param {string} [room] all rooms without one
   */
  others(room) {
    const ids = new Set(room ? this.#members.get(room) : [...this.#members.values()].flat());
    if (this.socket.id) ids.delete(this.socket.id);
    return [...ids].sort().map((id) => {
      const tab = this.#secondConnections.get(id);
      const label = tab ? { label: "2nd connection", note: `of ${personOf(tab).name}` } : {};
      return { id, ...personOf(id), name: this.nameOf(id), ...label };
    });
  }

  /** @param {any} news about the second connection of a tab */
  addSecondConnection(news) {
    if (typeof news?.id === "string" && typeof news.secondOf === "string") this.#secondConnections.set(news.id, news.secondOf);
  }

  /** The connection is lost, so the members are not known any more. */
  clearMembers() {
    for (const room of this.names) this.#members.set(room, []);
    this.#show();
    byId("rooms-outcome").textContent = "Without a connection this tab receives no events of its rooms.";
  }

  /**
   * The session was recovered: this tab is in its rooms, except those whose join was not answered.
   */
  async resume() {
    byId("rooms-outcome").textContent = "This tab is still in its rooms and receives their events again.";
    await this.#joinUnanswered();
  }

  /** The session is new: this tab joins its rooms again. */
  async rejoin() {
    for (const room of this.names) this.#unanswered.add(room);
    await this.#joinUnanswered();
  }

  async #joinUnanswered() {
    await Promise.all([...this.#unanswered].map((room) => this.join(room, true)));
  }

  /**
   * @param {string} room
   * @param {boolean} [again]
   */
  async join(room, again = false) {
    if (!room) return;
    if (!again && this.#members.has(room)) return this.#say(`This tab is in ${room} already.`);
    if (!again && this.#members.size >= ROOMS_MAX) return this.#say(`This page shows ${ROOMS_MAX} rooms at most: leave one first.`);
    const answer = await this.#sendJoin(room);
    if (answer.error) return this.#say(`Could not join ${room}: ${answer.error.message}.`, "bad");
    if (!this.#members.has(room)) this.#members.set(room, [/** @type {string} */ (this.socket.id)]);
    this.stored = typeof answer.offset === "string";
    this.#say(`This tab has joined ${room} and receives its events.`);
    this.#show();
    this.announce(room);
    await this.queryMembers();
  }

  /**
   * Sends the join until the server answers. Without a connection the next connect does it.
   * @param {string} room
   * @returns {Promise<any>} the answer
   */
  async #sendJoin(room) {
    this.#unanswered.add(room);
    for (;;) {
      const answer = await answered(this.socket.timeout(ANSWER_MS).emitWithAck("join", room));
      const lost = answer.error instanceof Error;
      if (!lost) this.#unanswered.delete(room);
      if (!lost || !this.socket.connected) return answer;
    }
  }

  /** @param {string} room */
  async leave(room) {
    const answer = await answered(this.socket.timeout(ANSWER_MS).emitWithAck("leave", room));
    if (answer.error) return this.#say(`Could not leave ${room}: ${answer.error.message}.`, "bad");
    this.#members.delete(room);
    this.#unanswered.delete(room);
    this.#say(`This tab has left ${room} and receives no more of its events.`);
    this.#show();
    this.announce(room);
    this.changed();
    byId("join-room").focus();
  }

  /**
   * Asks the members of a room to query the members again. It may be lost: they query from time to
   * time anyway.
   * @param {string} room
   * @param {import("../client/index.js").Socket} [socket]
   * @param {object} [news]
   */
  announce(room, socket = this.socket, news = {}) {
    socket.emit("publish", { room, volatile: true }, "members changed", news);
  }

  /** Queries the members of all rooms. */
  async queryMembers() {
    if (!this.socket.connected) return;
    await Promise.all(
      this.names.map(async (room) => {
        const { members } = await answered(this.socket.timeout(ANSWER_MS).emitWithAck("members", room));
        if (members && this.#members.has(room)) this.#members.set(room, members);
      }),
    );
    if (!this.socket.connected) return;
    const known = new Set([...this.#members.values()].flat());
    for (const [id, tab] of this.#secondConnections) if (!known.has(id) && tab !== this.socket.id) this.#secondConnections.delete(id);
    this.#show();
    this.changed();
  }

  #show() {
    store(this.names);
    const list = byId("rooms");
    const rows = [...this.#members].map(([room, members]) => this.#row(room, members));
    // Updates only changed elements, so that the focus stays.
    for (const row of rows) {
      const shown = [...list.children].find((/** @type {any} */ one) => one.dataset.room === row.dataset.room);
      if (!shown) list.append(row);
      else if (shown.dataset.members !== row.dataset.members) shown.querySelector(".members").replaceWith(/** @type {Element} */ (row.querySelector(".members")));
      if (shown) shown.dataset.members = row.dataset.members;
    }
    for (const shown of [...list.children]) if (!this.#members.has(shown.dataset.room)) shown.remove();
    const select = byId("publish-room");
    if ([...select.options].map(({ value }) => value).join("\n") !== this.names.join("\n")) {
      const { value } = select;
      select.replaceChildren(...this.names.map((room) => make("option", {}, room)));
      if (this.#members.has(value)) select.value = value;
    }
  }

  /**
   * @param {string} room
   * @param {string[]} members
   */
  #row(room, members) {
    const me = this.socket.id;
    const sorted = [...members].sort((a, b) => Number(b === me) - Number(a === me) || (a < b ? -1 : 1));
    const named = members.length > LINES_MAX ? LINES_MAX - 1 : members.length;
    const people = sorted.slice(0, named).map((id) => badge({ ...personOf(id), name: this.nameOf(id) }, id === me ? "this tab" : ""));
    if (!members.length) people.push(make("span", {}, "unknown while disconnected"));
    if (members.length > named) people.push(make("span", {}, `and ${members.length - named} more`));
    const leave = make("button", { type: "button", "aria-label": `Leave ${room}` }, "Leave");
    leave.addEventListener("click", () => this.leave(room));
    const row = make("li", {}, make("b", {}, room), make("span", { class: "members" }, ...people), leave);
    row.dataset.room = room;
    row.dataset.members = `${me} ${sorted}`;
    return row;
  }

  /**
   * @param {string} sentence
   * @param {"good" | "bad" | "note"} [kind]
   */
  #say(sentence, kind) {
    byId("rooms-outcome").textContent = sentence;
    log(sentence, kind);
  }
}

/**
 * @param {Promise<any>} answer
 * @returns {Promise<any>} the answer, or an error in the same form
 */
const answered = (answer) => answer.catch((error) => ({ error }));

/**
 * Rooms of this tab before it was reloaded; where the browser stores nothing for pages, the default
 * rooms.
 */
function stored() {
  try {
    const rooms = JSON.parse(sessionStorage.getItem(STORED) ?? "null");
    if (Array.isArray(rooms)) return rooms.filter((room) => typeof room === "string").slice(0, ROOMS_MAX);
  } catch (/** @type {any} */ error) {
    if (!(error instanceof SyntaxError)) log("This browser stores nothing for this page, so a reload loses its rooms. All else works.");
  }
  return ["lobby"];
}

/** @param {string[]} rooms */
function store(rooms) {
  try {
    sessionStorage.setItem(STORED, JSON.stringify(rooms));
  } catch {
    // Reported when it was read.
  }
}
