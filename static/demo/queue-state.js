/**
 * The queue of one subscriber as this tab knows it: from its own subscriber, from the events that
 * it sees published, and from snapshots of other tabs. No element and no connection.
 */

/** Maximum number of events with a place on the page; the others are in the count alone. */
const EVENTS_MAX = 64;

/** Maximum number of events in a snapshot. */
const SNAPSHOT_EVENTS_MAX = 12;

/** Maximum number of dead letters with their text. */
const DEAD_TEXTS_MAX = 5;

/** Maximum number of characters of an id or a text from another tab. */
const TEXT_LENGTH = 64;

/** Maximum number of ids that are remembered of events without a place. */
const IDS_MAX = 200;

/**
 * @typedef {"waits" | "delivered" | "later"} Fate waits in the queue, is delivered and
 *   unacknowledged, or comes again after a delay
 */
/** @typedef {{ id: string, text: string, fate: Fate }} Item */
/** @typedef {{ exists: boolean, owner: string, socket: string, pending: number, dead: number, deadTexts: string[], items: Item[], at: number }} Snapshot */

export class QueueState {
  /** @type {Map<string, Item>} by id, the oldest first */
  #items = new Map();
  /** @type {Set<string>} ids of handled events, which a late copy may not bring back */
  #handled = new Set();
  /** @type {Set<string>} ids of events that are counted and had no room */
  #unplaced = new Set();
  /** True if a subscriber of this name is known, so that events are kept for it. */
  exists = false;
  /** Socket id of the tab in which the subscriber is open; empty while it is away. */
  owner = "";
  /** Socket id of the subscriber itself. */
  socket = "";
  /** Number of pending events, dead letters not included. */
  pending = 0;
  /** Number of dead letters. */
  dead = 0;
  /**
   * True if the server sends one event alone and holds the others back: that one has failed several
   * times, and its connection was lost.
   */
  isHeldBack = false;
  /** @type {string[]} texts of the latest dead letters */
  deadTexts = [];
  /** Time of the last change, in milliseconds since 1970. */
  at = 0;

  /** Events with a place in the queue, the oldest first. */
  get waiting() {
    return [...this.#items.values()];
  }

  /** Events that were delivered and are not acknowledged. */
  get delivered() {
    return [...this.#items.values()].filter(({ fate }) => fate === "delivered");
  }

  /**
   * An event was stored, or is delivered while this tab did not know it.
   * @param {string} id
   * @param {string} text
   * @returns {boolean} whether it is new to this tab
   */
  add(id, text) {
    if ([this.#items, this.#handled, this.#unplaced].some((ids) => ids.has(id))) return false;
    this.#touch();
    this.pending += 1;
    this.#place(id, text);
    return true;
  }

  /**
   * @param {string} id
   * @param {string} text
   */
  #place(id, text) {
    if (this.#items.size < EVENTS_MAX) this.#items.set(id, { id, text, fate: "waits" });
    else remember(this.#unplaced, id);
  }

  /**
   * An event is delivered, perhaps once more after it was handled.
   * @param {string} id
   * @param {string} text
   */
  deliver(id, text) {
    this.#handled.delete(id);
    if (this.#unplaced.delete(id)) this.#place(id, text);
    else this.add(id, text);
    this.#set(id, "delivered");
  }

  /** @param {string} id of an event that the subscriber sent back */
  postpone(id) {
    this.#set(id, "later");
  }

  /** @param {string} id of an acknowledged event */
  acknowledge(id) {
    this.#handle(id);
  }

  /** @param {string} id of an event that has become a dead letter */
  bury(id) {
    const text = this.#items.get(id)?.text;
    this.#handle(id);
    this.dead += 1;
    if (text !== undefined) this.deadTexts = [...this.deadTexts, text].slice(-DEAD_TEXTS_MAX);
  }

  /** The dead letters are pending again; they are delivered like others. */
  replay() {
    this.#touch();
    this.dead = 0;
    this.deadTexts = [];
  }

  /** @param {string[]} texts of the dead letters, as the server lists them */
  setDead(texts) {
    this.#touch();
    this.deadTexts = texts.slice(-DEAD_TEXTS_MAX);
  }

  /**
   * The subscriber is attached: what is pending is delivered from now on.
   * @param {string} owner socket id of the tab
   * @param {string} socket id of the subscriber's own socket
   * @param {number} pending number of pending events
   */
  attach(owner, socket, pending) {
    this.#touch();
    Object.assign(this, { owner, socket, pending, exists: true });
    this.trim();
  }

  /** Forgets the oldest events beyond the number of pending ones: this tab did not see them handled. */
  trim() {
    const extra = Math.max(0, this.#items.size - this.pending);
    const waiting = this.waiting.filter(({ fate }) => fate === "waits");
    for (const { id } of waiting.slice(0, extra)) this.#items.delete(id);
  }

  /** The subscriber is away: what it did not acknowledge waits. */
  detach() {
    this.#touch();
    this.owner = this.socket = "";
    for (const item of this.#items.values()) item.fate = "waits";
  }

  /**
   * @param {{ pending: number, dead: number, inFlight: number }} counts as the server reports them;
   *   of the pending events, `inFlight` ones are delivered
   */
  count({ pending, dead, inFlight }) {
    const later = this.waiting.filter(({ fate }) => fate === "later").length;
    Object.assign(this, { pending, dead, isHeldBack: inFlight === 1 && pending - inFlight > later });
    if (!dead) this.deadTexts = [];
  }

  /** @returns {Snapshot} for other tabs */
  snapshot() {
    const { exists, owner, socket, pending, dead, deadTexts, at } = this;
    return { exists, owner, socket, pending, dead, deadTexts, at, items: this.waiting.slice(0, SNAPSHOT_EVENTS_MAX) };
  }

  /**
   * @param {any} snapshot of another tab, not trusted
   * @param {boolean} isFirstHand true if it is of the tab in which the subscriber is open
   * @returns {boolean} whether it was used: an older one of hearsay is not
   */
  restore(snapshot, isFirstHand) {
    const { exists, owner, socket, pending, dead, deadTexts, at, items } = snapshot ?? {};
    const isValid = [pending, dead, at].every((number) => Number.isSafeInteger(number) && number >= 0) && [items, deadTexts].every(Array.isArray);
    if (!isValid || (!isFirstHand && at < this.at)) return false;
    Object.assign(this, { exists: exists === true, owner: cut(owner), socket: cut(socket), pending, dead, at });
    this.deadTexts = deadTexts.slice(-DEAD_TEXTS_MAX).map(cut);
    this.#items.clear();
    for (const { id, text, fate } of items.slice(0, SNAPSHOT_EVENTS_MAX).filter(Boolean)) {
      this.#items.set(cut(id), { id: cut(id), text: cut(text), fate: fate === "delivered" || fate === "later" ? fate : "waits" });
    }
    return true;
  }

  /**
   * @param {string} id
   * @param {Fate} fate
   */
  #set(id, fate) {
    const item = this.#items.get(id);
    if (!item) return;
    this.#touch();
    item.fate = fate;
  }

  /** @param {string} id */
  #handle(id) {
    if (this.#handled.has(id)) return;
    this.#touch();
    this.#items.delete(id);
    this.pending = Math.max(0, this.pending - 1);
    this.#unplaced.delete(id);
    remember(this.#handled, id);
  }

  #touch() {
    this.at = Math.max(Date.now(), this.at + 1);
  }
}

/**
 * @param {Set<string>} ids the oldest is forgotten beyond the bound
 * @param {string} id
 */
function remember(ids, id) {
  ids.add(id);
  if (ids.size > IDS_MAX) ids.delete(/** @type {string} */ (ids.keys().next().value));
}

/**
 * @param {any} text
 * @returns {string}
 */
const cut = (text) => `${text ?? ""}`.slice(0, TEXT_LENGTH);
