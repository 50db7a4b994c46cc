/** The queue and its subscriber on the stage: chips that wait, rows to acknowledge, counts. */

import { allow, byId, make } from "./element.js";
import { NAK_MS } from "./subscriber.js";

/** Time for which the chip of an acknowledged event stays, in milliseconds. */
const LEAVE_MS = 400;

/** Text on a chip. */
const FATES = { waits: "waits", delivered: "delivered", later: "sent back" };

/** @typedef {import("./queue-state.js").QueueState} QueueState */
/** @typedef {import("./queue-state.js").Item} Item */
/**
 * @typedef {object} Role
 * @property {"unknown" | "absent" | "ready" | "opening" | "open" | "lost"} mode of the queue and of
 *   this tab's subscriber
 * @property {string} note why the server has no queue
 * @property {string} owner name of the tab in which the subscriber is open, if it is another one
 */

/** The three answers to an event: label and method. */
const ANSWERS = /** @type {const} */ ([
  ["Ack", "ack"],
  ["Nak", "nak"],
  ["Term", "term"],
]);

export class QueueView {
  /** @type {Map<string, HTMLElement>} chips by id of their event */
  #chips = new Map();

  /** @param {(how: "ack" | "nak" | "term", id: string) => void} answer called on a click */
  constructor(answer) {
    this.answer = answer;
  }

  /**
   * @param {QueueState} state
   * @param {Item[]} unanswered events that were delivered to this tab and are not answered
   * @param {Role} role
   */
  show(state, unanswered, role) {
    this.#showChips(state.waiting);
    this.#showDeliveries(role.mode === "open" ? unanswered : []);
    this.#showWords(state, role);
  }

  /**
   * @param {QueueState} state
   * @param {Role} role
   */
  #showWords(state, role) {
    this.#showNextStep(state, role);
    const { mode, note, owner } = role;
    const isKnown = !["unknown", "absent"].includes(mode);
    byId("stage").dataset.queue = mode;
    byId("stage").toggleAttribute("data-kept", state.exists);
    byId("pending").textContent = isKnown && state.exists ? `${state.pending} pending` : "";
    byId("queue-state").textContent = queueSentence(state, role);
    const where = { unknown: "not known", absent: "a subscriber needs a queue", ready: state.exists ? "away" : "not subscribed yet", opening: "connecting", open: "open in this tab", lost: "away, retrying" }[mode];
    byId("subscriber-state").textContent = owner && mode === "ready" ? `open in ${owner}` : where;
    byId("subscribe").textContent = mode === "open" || mode === "opening" || mode === "lost" ? "Close" : owner ? "Take over" : state.exists ? "Open" : "Subscribe";
    allow("subscribe", isKnown);
    byId("deliveries").dataset.empty = emptySentence(state, role, note);
    byId("dead").dataset.count = `${state.dead}`;
    const texts = state.deadTexts.length ? `: ${state.deadTexts.join(", ")}` : "";
    byId("dead-count").textContent = state.dead ? `${state.dead} dead letter${state.dead === 1 ? "" : "s"}${texts}` : "No dead letters";
    byId("chips").dataset.empty = mode === "unknown" ? "not known" : "no event waits";
    allow("replay", mode === "open" && state.dead > 0);
  }

  /**
   * The next step of the story is the one filled button.
   * @param {QueueState} state
   * @param {Role} role
   */
  #showNextStep({ exists }, { mode }) {
    const hasQueue = mode !== "unknown" && mode !== "absent";
    const next = !hasQueue ? "publish" : exists ? "order" : "subscribe";
    for (const id of ["publish", "order", "subscribe"]) byId(id).classList.toggle("primary", id === next);
  }

  /** @param {Item[]} items */
  #showChips(items) {
    const list = byId("chips");
    const ids = new Set(items.map(({ id }) => id));
    for (const [id, chip] of this.#chips) if (!ids.has(id)) this.#removeChip(id, chip);
    for (const [at, { id, text, fate }] of items.entries()) {
      const chip = this.#chips.get(id) ?? make("li", { class: "chip" }, make("b", {}, text), make("small", {}));
      chip.dataset.fate = fate;
      chip.style.setProperty("--at", `${at}`);
      /** @type {Element} */ (chip.lastElementChild).textContent = FATES[fate];
      if (!this.#chips.has(id)) list.append(chip);
      this.#chips.set(id, chip);
    }
  }

  /**
   * @param {string} id
   * @param {HTMLElement} chip
   */
  #removeChip(id, chip) {
    this.#chips.delete(id);
    chip.dataset.fate = "gone";
    setTimeout(() => chip.remove(), LEAVE_MS);
  }

  /** @param {Item[]} items only what differs is touched, so that the focus stays */
  #showDeliveries(items) {
    const list = byId("deliveries");
    const ids = new Set(items.map(({ id }) => id));
    for (const row of [...list.children]) if (!ids.has(/** @type {any} */ (row).dataset.id)) row.remove();
    const shown = new Set([...list.children].map((/** @type {any} */ row) => row.dataset.id));
    for (const item of items) if (!shown.has(item.id)) list.append(this.#row(item));
  }

  /** @param {Item} item */
  #row({ id, text }) {
    const row = make("li", {}, make("b", {}, text));
    row.dataset.id = id;
    for (const [label, how] of ANSWERS) {
      const button = make("button", { type: "button", "data-how": how, "aria-label": `${label} ${text}` }, label);
      button.addEventListener("click", () => {
        // The row leaves with the click, and the focus goes to its neighbour.
        const next = row.nextElementSibling ?? row.previousElementSibling;
        row.remove();
        /** @type {any} */ (next?.querySelector(`[data-how=${how}]`) ?? byId("subscribe")).focus();
        this.answer(how, id);
      });
      row.append(button);
    }
    return row;
  }
}

/**
 * @param {QueueState} state
 * @param {Role} role
 */
function queueSentence(state, { mode, note, owner }) {
  if (mode === "unknown") return "Not known without a connection.";
  if (mode === "absent") return note;
  if (!state.exists) return "Empty. Nothing is kept before kitchen has subscribed.";
  if (mode === "lost") return "Kept by the server. Deliveries continue after the reconnect.";
  if (!state.pending) return "Empty: kitchen has acknowledged everything.";
  if (mode === "open" && state.isHeldBack) return "It failed twice, so it is sent alone. The others wait.";
  if (mode === "open") return `Ack: handled. Nak: again in ${NAK_MS / 1_000} s. Term: a dead letter.`;
  return owner ? "Kept until kitchen acknowledges it, the oldest on the right." : "Kept while kitchen is away, the oldest on the right.";
}

/**
 * @param {QueueState} state
 * @param {Role} role
 * @param {string} note
 */
function emptySentence(state, { mode, owner }, note) {
  if (mode === "absent") return note && "Without a queue an event reaches those who are connected, and no one later.";
  if (mode === "unknown") return "";
  if (mode === "opening") return "Connecting as kitchen.";
  if (mode === "open") return "Everything is acknowledged. Order something, from this tab or another.";
  if (mode === "lost") return "The connection is lost. What was not acknowledged is delivered again.";
  if (owner) return `Its events arrive in ${owner}. Take it over to answer them in this tab.`;
  return state.exists ? "Away: what is ordered now waits in the queue. Open it here or in another tab." : "Subscribe, order something, close this tab, and open it again: the order is still there.";
}
