/**
 * The queue on the page: publishes orders durably, and is their subscriber “kitchen” when the
 * visitor wants. Tabs tell each other what they know of the queue, so that all show the same.
 */

import { allows, byId } from "./element.js";
import { isOwn, TAB } from "./emits.js";
import { log } from "./log.js";
import { QueueState } from "./queue-state.js";
import { QueueView } from "./queue-view.js";
import { NAK_MS, Subscriber } from "./subscriber.js";

const NAME = "kitchen";
const ROOM = "orders";

/** Time limit of an answer, in milliseconds. */
const ANSWER_MS = 5_000;
/** Maximum number of orders that wait for the server's answer. */
const ORDERS_MAX = 20;
/**
 * Interval at which this tab asks for the counts of its own subscriber, or whether that of another
 * tab is still there, in milliseconds.
 */
const ASK_MS = 2_000;
/** Storage key while the page is reloaded. */
const STORED = "stentor subscriber";

/** Words about a server without a queue. */
const NO_QUEUE = "This server has no queue.";

/** @typedef {import("./subscriber.js").Order} Order */

export class Queue {
  #state = new QueueState();
  #view = new QueueView((how, id) => this.#answer(how, id));
  #subscriber;
  /** @type {import("./queue-view.js").Role["mode"]} */
  #mode = "unknown";
  #note = "";
  /** Number of orders without an answer. */
  #unanswered = 0;
  /** True while the server is asked for its counts. */
  #counting = false;

  /**
   * @param {import("../client/index.js").Socket} socket
   * @param {import("./rooms.js").Rooms} rooms
   * @param {import("./stage.js").Stage} stage
   * @param {(auth: object) => import("../client/index.js").Socket} connect creates another
   *   connection to the same server
   */
  constructor(socket, rooms, stage, connect) {
    this.socket = socket;
    this.rooms = rooms;
    this.stage = stage;
    this.#subscriber = new Subscriber(NAME, ROOM, connect, {
      onAttached: (verdict, id) => this.#onAttached(verdict, id),
      onOrder: (order, redelivered) => this.#onDelivery(order, redelivered),
      onGap: () => log("Events of kitchen were removed by a limit of the server before it acknowledged them.", "bad"),
      onDetached: (reason) => this.#onDetached(reason),
      onError: (message) => log(`The server reports an error to kitchen: ${message}.`, "bad"),
      onRefused: (message) => this.#onRefused(message),
    });
    byId("subscribe").addEventListener("click", () => allows("subscribe") && this.#toggle());
    byId("replay").addEventListener("click", () => allows("replay") && this.#replay());
    socket.on("order", (/** @type {Order} */ order) => this.#onPublished(order));
    socket.on("queue news", (/** @type {any} */ news) => this.#onNews(news));
    socket.on("queue asked", (/** @type {any} */ asker) => this.#tell(`${asker}`));
    setInterval(() => this.#check(), ASK_MS);
    this.#show();
  }

  /** This tab is connected, for the first time or again. */
  async onConnect() {
    const { socket } = this;
    const answer = await ask(socket, "pending");
    if (!socket.connected) return;
    const code = answer.error?.code;
    const isThere = code !== undefined && !["unknown_event", "unavailable"].includes(code);
    if (!this.#subscriber.isOpen) this.#mode = isThere ? "ready" : "absent";
    this.#note = `${NO_QUEUE} The option --queue disk gives it one.`;
    this.#show();
    if (!isThere) byId("durable-outcome").textContent = `${NO_QUEUE} It can publish to those who are connected.`;
    if (!isThere) return;
    await ask(socket, "join", ROOM);
    socket.emit("publish", { room: ROOM, volatile: true }, "queue asked", socket.id);
    if (wasOpen() && !this.#subscriber.isOpen) this.#toggle();
  }

  /** This tab is not connected. */
  onDisconnect() {
    if (!this.#subscriber.isOpen && this.#mode !== "absent") this.#mode = "unknown";
    this.#show();
  }

  #show() {
    const { owner, delivered } = this.#state;
    // An answered event leaves kitchen immediately, and the queue after its movement.
    const unanswered = delivered.filter(({ id }) => this.#subscriber.holds(id));
    this.#view.show(this.#state, unanswered, { mode: this.#mode, note: this.#note, owner: owner && owner !== this.socket.id ? this.rooms.nameOf(owner) : "" });
  }

  // The subscriber

  #toggle() {
    if (this.#subscriber.isOpen) {
      this.#subscriber.close();
      this.#onDetached("closed");
    } else {
      this.#mode = "opening";
      store(true);
      this.#subscriber.open();
    }
    this.#show();
  }

  /**
   * @param {import("./subscriber.js").Verdict} verdict
   * @param {string} id of the subscriber's socket
   */
  #onAttached({ status, reason, pending, gaps }, id) {
    this.#mode = "open";
    this.#state.attach(this.socket.id ?? "", id, pending);
    const words = { resumed: "nothing is missing", partial: "some events are gone", reset: reason === "expired" ? "it had expired" : "it is new" }[status];
    log(`kitchen is open in this tab: ${words}, ${count(pending, "event")} pending.`, status === "partial" ? "bad" : "good");
    if (gaps?.length) log(`${count(gaps.length, "gap")}: a limit of the server removed events that kitchen had not acknowledged.`, "bad");
    this.#changed();
    this.#listDead();
  }

  /**
   * @param {Order} order
   * @param {boolean} redelivered
   */
  #onDelivery(order, redelivered) {
    const { stage } = this;
    const text = `${order.text}`;
    stage.send([["queue", "subscriber"]], () => {
      // The connection may have ended during the movement.
      if (!this.#subscriber.holds(order.id)) return;
      this.#state.deliver(order.id, text);
      this.#changed();
    }, { label: text });
    log(`kitchen received “${text}”${redelivered ? " again" : ""}, ordered by ${isOwn(order) ? "this tab" : this.rooms.nameOf(order.from)}. It waits for the ack.`);
  }

  /** @param {"lost" | "evicted" | "removed" | "closed"} reason */
  #onDetached(reason) {
    if (reason !== "lost") store(false);
    this.#mode = reason === "lost" ? "lost" : this.socket.connected ? "ready" : "unknown";
    this.#state.detach();
    log({ lost: "kitchen lost its connection.", evicted: "kitchen was opened in another tab, so this tab’s subscriber is closed.", removed: "kitchen was removed on the server, with what was pending for it.", closed: "kitchen is closed. What it did not acknowledge waits." }[reason], reason === "closed" ? "note" : "bad");
    if (reason === "evicted") this.#show();
    else this.#changed();
  }

  /** @param {string} message */
  #onRefused(message) {
    store(false);
    this.#mode = "ready";
    this.#state.detach();
    log(`Could not subscribe as kitchen: ${message}.`, "bad");
    byId("durable-outcome").textContent = `Could not subscribe as kitchen: ${message}.`;
    this.#show();
  }

  /**
   * @param {"ack" | "nak" | "term"} how
   * @param {string} id
   */
  #answer(how, id) {
    const item = this.#state.delivered.find((item) => item.id === id);
    if (!item || !this.#subscriber[how](id)) return;
    const { text } = item;
    const [after, sentence] = /** @type {[() => void, string][]} */ ([
      [() => this.#state.acknowledge(id), `kitchen acknowledged “${text}”. The server frees it.`],
      [() => this.#state.postpone(id), `kitchen sent “${text}” back. The server delivers it again after ${NAK_MS / 1_000} s.`],
      [() => this.#state.bury(id), `kitchen refused “${text}”. It is a dead letter now.`],
    ])[["ack", "nak", "term"].indexOf(how)];
    this.stage.send([["subscriber", "queue"]], () => {
      after();
      this.#changed();
    }, { label: how, kind: how === "ack" ? "ack" : "nak" });
    log(sentence, how === "ack" ? "good" : "note");
  }

  /** Takes the texts of the dead letters from the server. */
  async #listDead() {
    const { events } = await this.#subscriber.dead();
    if (!Array.isArray(events)) return;
    this.#state.setDead(events.map(({ args }) => `${args?.[0]?.text ?? "?"}`));
    this.#changed();
  }

  async #replay() {
    const answer = await this.#subscriber.replayDead();
    if (answer.error) return log(`The dead letters were not replayed: ${answer.error.message}.`, "bad");
    log("The dead letters are pending again.", "good");
    this.#state.replay();
    this.#changed();
  }

  // Publishing

  /** @param {string} text */
  async order(text) {
    const outcome = byId("durable-outcome");
    if (this.#mode === "absent") {
      outcome.textContent = `${NO_QUEUE} “${text}” was not published.`;
      return;
    }
    if (this.#unanswered >= ORDERS_MAX) {
      outcome.textContent = `${ORDERS_MAX} orders wait for an answer of the server: no more until then.`;
      return;
    }
    const { socket } = this;
    const order = { id: crypto.randomUUID?.() ?? `${Math.random()}`, from: socket.id ?? "", tab: TAB, text };
    this.#unanswered += 1;
    if (!socket.connected) outcome.textContent = `“${text}” waits in this tab for the reconnect.`;
    const answer = await this.#store(order);
    this.#unanswered -= 1;
    if (answer.error) {
      outcome.textContent = `“${text}” was not stored: ${answer.error.message}.`;
      log(outcome.textContent, "bad");
      return;
    }
    const { pending_for: pending, duplicate } = answer;
    if (pending) this.#state.exists = true;
    const kept = pending ? `It is pending for ${count(pending, "subscriber")}.` : "It is pending for no subscriber, so it is not kept.";
    outcome.textContent = `Stored${duplicate ? " before" : ""} “${text}”. ${kept}`;
    log(`The server stored “${text}” at offset ${answer.offset}. ${kept}`, pending ? "good" : "note");
    if (!pending) return;
    // Usually this tab has received it as a member of the room, and the movement adds it.
    this.stage.send([], () => this.#add(order.id, text));
  }

  /**
   * @param {string} id
   * @param {string} text
   */
  #add(id, text) {
    if (!this.#state.add(id, text)) return;
    this.#show();
    this.#count();
  }

  /**
   * Publishes until the server answers. Without an answer the order may be stored or not; the dedup
   * id makes a second time harmless.
   * @param {Order} order
   * @returns {Promise<any>} the answer
   */
  async #store(order) {
    const { socket } = this;
    const [room, dedup_id] = [ROOM, order.id];
    for (;;) {
      const answer = await answered(socket.timeout(ANSWER_MS).emitWithAck("publish", { room, durable: true, dedup_id }, "order", order));
      if (!(answer.error instanceof Error)) return answer;
      if (!socket.connected) await new Promise((resolve) => socket.once("connect", resolve));
    }
  }

  /**
   * This tab saw an order as a member of the room.
   * @param {Order} order
   */
  #onPublished(order) {
    const { stage } = this;
    if (typeof order?.id !== "string" || typeof order.text !== "string") return;
    const own = isOwn(order);
    const text = order.text.slice(0, 40);
    const from = own ? "me" : order.from;
    // Earlier results do not apply any more.
    stage.send([], () => {
      stage.reset();
      stage.say(from, "orders it", "sent");
    });
    stage.send([[from, "server"]], () => stage.say("server", "stores it", "sent"), { label: text });
    stage.send([["server", "queue"]], () => {
      if (this.#state.exists) this.#add(order.id, text);
    }, { label: text });
    if (!own) log(`“${text}” was ordered by ${this.rooms.nameOf(order.from)}.`);
  }

  // What tabs tell each other

  /** The queue has changed in the tab of its subscriber. */
  #changed() {
    this.#show();
    this.#tell(ROOM);
    this.#count();
  }

  /** @param {string} room */
  #tell(room) {
    if (this.socket.connected && this.#state.exists) this.socket.emit("publish", { room, volatile: true }, "queue news", { ...this.#state.snapshot(), from: this.socket.id });
  }

  /**
   * Takes the counts of the server, which knows more events than there is room for on the page.
   * @returns {Promise<void>}
   */
  async #count() {
    if (this.#counting || !this.#subscriber.isOpen) return;
    this.#counting = true;
    const before = this.#state.at;
    const answer = await this.#subscriber.pending();
    this.#counting = false;
    if (this.#state.at !== before) return this.#count();
    if (!Number.isSafeInteger(answer.events)) return;
    const { pending, dead } = this.#state;
    this.#state.count({ pending: answer.events, dead: answer.dead_letters ?? 0, inFlight: answer.in_flight ?? 0 });
    this.#show();
    // An event that this tab had yet to add was in the server's count already.
    if (pending !== this.#state.pending || dead !== this.#state.dead) this.#tell(ROOM);
    // After the running movements the stage has no event that the server does not have.
    this.stage.send([], () => {
      if (this.#state.at !== before) return;
      this.#state.trim();
      this.#show();
    });
  }

  /** @param {any} news of another tab */
  #onNews(news) {
    const isFirstHand = Boolean(news?.owner) && news.owner === news.from;
    if (this.#subscriber.isOpen || news?.from === this.socket.id || !this.#state.restore(news, isFirstHand)) return;
    this.#show();
  }

  /**
   * Corrects what is shown of the queue: an ack may be stored later than the counts that follow it
   * are asked for, and another tab may have added an event that was acknowledged meanwhile.
   */
  #check() {
    if (this.#mode !== "open") return void (document.hidden || this.#findOwner());
    this.#tell(ROOM);
    this.stage.send([], () => this.#count());
  }

  /** The subscriber of another tab is away once its socket is no member of the room. */
  async #findOwner() {
    const { socket } = this.#state;
    if (!socket || this.#subscriber.isOpen || !this.socket.connected) return;
    const { members } = await ask(this.socket, "members", ROOM);
    if (!Array.isArray(members) || members.includes(socket) || this.#state.socket !== socket) return;
    this.#state.detach();
    log("kitchen is away. What is ordered now waits for it.");
    this.#show();
  }
}

/**
 * @param {import("../client/index.js").Socket} socket
 * @param {string} event
 * @param {...any} args
 */
const ask = (socket, event, ...args) => answered(socket.timeout(ANSWER_MS).emitWithAck(event, ...args));

/**
 * @param {Promise<any>} answer
 * @returns {Promise<any>} the answer, or an error in the same form
 */
const answered = (answer) => answer.then((value) => value ?? {}, (error) => ({ error }));

/**
 * @param {number} number
 * @param {string} noun
 */
const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

/** True if the subscriber was open in this tab before it was reloaded. */
function wasOpen() {
  try {
    return sessionStorage.getItem(STORED) === NAME;
  } catch {
    return false;
  }
}

/** @param {boolean} isOpen */
function store(isOpen) {
  try {
    if (isOpen) sessionStorage.setItem(STORED, NAME);
    else sessionStorage.removeItem(STORED);
  } catch {
    // A browser without storage: a reload closes the subscriber.
  }
}
