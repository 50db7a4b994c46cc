/**
 * State of the connection: in the header of the page, and in the stages from loss to reconnection.
 */

import { allow, allows, badge, byId } from "./element.js";
import { log, secondsBetween, stamp } from "./log.js";
import { personOf } from "./names.js";
import { disconnectReason, connectErrorSentence } from "./sentences.js";

/** Interval between updates of a countdown, in milliseconds. */
const TICK_MS = 250;

/** Text under a stage that was not reached. */
const NOT_REACHED = "–";

export class Connection {
  /** Time of the loss. */
  #lostAt = new Date();
  /** True if this tab itself is the only known cause of the loss. */
  #own = false;
  #idBefore = "";
  #everConnected = false;
  /** Time of the next attempt by the steady clock. */
  #dueAt = 0;
  #attempt = 0;
  /** Reason why the last attempt failed. */
  #why = "";
  /** Number of emits buffered in this tab when it reconnected. */
  #buffered = 0;

  /**
   * @param {import("../client/index.js").Socket} socket
   * @param {string} url of the server, as displayed
   * @param {{ isOffline: () => boolean, onConnect: (at: Date) => Promise<{ recovered: number, lost: number }> }} page
   */
  constructor(socket, url, page) {
    this.socket = socket;
    this.url = url;
    this.page = page;
    byId("stage-server").textContent = hostOf(url);
    socket.io.on("open", () => this.#opened());
    socket.io.on("reconnect_attempt", (/** @type {number} */ attempt) => this.#onAttempt(attempt));
    // Before the library sends them.
    socket.io.on("open", () => (this.#buffered = socket.sendBuffer.length));
    socket.on("connect", () => this.#onConnect(socket.recovered));
    socket.on("disconnect", (/** @type {string} */ reason) => this.#onDisconnect(reason));
    socket.on("connect_error", (/** @type {any} */ error) => this.#onConnectError(error));
    byId("try-now").addEventListener("click", () => allows("try-now") && this.#retryNow());
    setInterval(() => this.#tick(), TICK_MS);
  }

  #opened() {
    const { engine } = this.socket.io;
    const begun = performance.now();
    this.#track(engine.transport.name, `opened over ${engine.transport.name}`);
    engine.once("upgrade", (/** @type {{ name: string }} */ transport) => {
      const ms = Math.max(1, Math.round(performance.now() - begun));
      this.#track(transport.name, `upgraded after ${ms} ms, at ${stamp(new Date())}`);
      const report = () => {
        if (engine === this.socket.io.engine) log(`The connection was upgraded from polling to ${transport.name} after ${ms} ms. No event was lost.`);
      };
      // The CONNECT reply may still be missing; "connect" comes first.
      if (this.socket.connected) report();
      else this.socket.once("connect", report);
    });
  }

  /**
   * @param {string} name
   * @param {string} note
   */
  #track(name, note) {
    for (const id of ["polling", "websocket"]) byId(id).toggleAttribute("data-on", id === name);
    byId("upgraded").textContent = note;
  }

  /** @param {boolean} recovered */
  async #onConnect(recovered) {
    const { socket } = this;
    const at = new Date();
    const id = /** @type {string} */ (socket.id);
    this.#state("connected", "Connected", `to ${this.url}`);
    for (const place of ["me", "stage-me"]) byId(place).replaceChildren(badge(personOf(id), place === "me" ? "this tab" : ""));
    allow("try-now", false);
    const first = !this.#everConnected;
    this.#everConnected = true;
    if (this.#attempt) this.#stage("retrying", `attempt ${this.#attempt}`);
    this.#dueAt = this.#attempt = 0;
    const seconds = secondsBetween(this.#lostAt, at);
    if (first || this.#own) {
      this.#stage("retrying", NOT_REACHED);
      this.#stage("connected", `since ${stamp(at)}`);
      this.#now("connected");
    } else {
      this.#stage("back", `${stamp(at)}\nafter ${seconds} s`);
      this.#now("back");
    }
    if (first) {
      log(`Connected to ${this.url}. This tab is ${personOf(id).name}.`, "good");
      this.#idBefore = id;
      await this.page.onConnect(at);
      return;
    }
    const own = this.#own;
    const same = id === this.#idBefore;
    this.#idBefore = id;
    log(
      recovered
        ? `Reconnected after ${seconds} s. The session is recovered: this tab is still ${personOf(id).name}, in the same rooms.`
        : `Reconnected after ${seconds} s with a new session: missed events are lost. This tab is ${personOf(id).name} now and joins its rooms again.`,
      recovered ? "good" : "bad",
    );
    if (own) {
      await this.page.onConnect(at);
      return;
    }
    byId("survivor-id").textContent = same ? "the same" : "a new one";
    byId("survivor-rooms").textContent = recovered ? "recovered" : "joined again";
    byId("survivor-emits").textContent = this.#buffered ? `${this.#buffered}, sent now` : "none";
    const { recovered: came, lost } = await this.page.onConnect(at);
    byId("survivor-missed").textContent = recovered ? `${came || "none"}${came ? " recovered" : ""}${lost ? `, ${lost} lost` : ""}` : "lost";
  }

  /** @param {string} reason */
  #onDisconnect(reason) {
    this.#lostAt = new Date();
    this.#own = this.page.isOffline();
    this.#track("", "no connection");
    for (const stage of ["gone", "retrying", "back"]) this.#stage(stage, NOT_REACHED);
    for (const id of ["survivor-id", "survivor-rooms", "survivor-missed", "survivor-emits"]) byId(id).textContent = NOT_REACHED;
    if (!this.#own) this.#stage("gone", stamp(this.#lostAt));
    this.#now(this.#own ? "" : "gone");
    const why = disconnectReason(reason);
    if (this.#own) {
      this.#stage("connected", "closed by this tab");
      this.#state("away", "Disconnected", "This page closed its own connection.");
      return;
    }
    this.#state("away", "Connection lost", `${capital(why)}.`);
    log(`Connection lost: ${why}.`, "bad");
    if (this.socket.active) this.#await();
    else this.#stop();
  }

  /** @param {any} error */
  async #onConnectError(error) {
    const refused = !this.socket.active;
    const why = await connectErrorSentence(error, { url: this.url, refused });
    if (this.socket.connected || this.page.isOffline()) return;
    if (why !== this.#why) log(why, "bad");
    this.#why = why;
    // This tab tries to reconnect and cannot, so it is no longer the cause.
    if (this.#own) this.#stage("gone", stamp(this.#lostAt));
    this.#own = false;
    this.#track("", "no connection");
    this.#state("failed", refused ? "Refused" : "Not connected", why);
    if (refused) this.#stop();
    else this.#await();
  }

  /** @param {number} attempt */
  #onAttempt(attempt) {
    this.#attempt = attempt;
    this.#dueAt = 0;
    this.#stage("retrying", `attempt ${attempt}\nnow`);
    this.#now("retrying");
  }

  /** The socket reconnects by itself. */
  #await() {
    const { io } = this.socket;
    allow("try-now", true);
    // The maximum; the next attempt reports when it starts.
    this.#dueAt = performance.now() + Math.min(io.reconnectionDelay() * 2 ** this.#attempt * (1 + io.randomizationFactor()), io.reconnectionDelayMax());
    this.#tick();
  }

  /** The socket does not reconnect. */
  #stop() {
    allow("try-now", true);
    this.#dueAt = 0;
    this.#stage("retrying", "not automatic");
  }

  #tick() {
    if (!this.#dueAt || this.socket.connected) return;
    const seconds = Math.max(1, Math.ceil((this.#dueAt - performance.now()) / 1000));
    this.#stage("retrying", `attempt ${this.#attempt + 1}\nwithin ${seconds} s`);
    if (!this.#everConnected) this.#now("retrying");
  }

  #retryNow() {
    log("Retrying on request.");
    // Ends a pending wait; buffered emits stay, and so does the state that the server stores for
    // this tab.
    this.socket.disconnect().connect();
  }

  /**
   * @param {string} state
   * @param {string} word
   * @param {string} sentence
   */
  #state(state, word, sentence) {
    /** @type {HTMLElement} */ (document.querySelector(".lamp")).dataset.state = state;
    byId("state").textContent = word;
    byId("detail").textContent = sentence;
    document.body.toggleAttribute("data-connected", state === "connected");
    if (state === "connected") this.#why = "";
  }

  /**
   * @param {string} stage
   * @param {string} note
   */
  #stage(stage, note) {
    const element = document.querySelector(`[data-stage=${stage}] span`);
    if (element && element.textContent !== note) element.textContent = note;
  }

  /** @param {string} stage earlier stages that were reached are past */
  #now(stage) {
    const items = [...document.querySelectorAll("[data-stage]")];
    const now = items.findIndex((item) => item.getAttribute("data-stage") === stage);
    for (const [at, item] of items.entries()) {
      item.toggleAttribute("data-now", at === now);
      item.toggleAttribute("data-past", at < now && item.lastElementChild?.textContent !== NOT_REACHED);
    }
  }
}

/** @param {string} url */
const hostOf = (url) => (URL.canParse(url) ? new URL(url).host : url);

/** @param {string} text */
const capital = (text) => text[0].toUpperCase() + text.slice(1);
