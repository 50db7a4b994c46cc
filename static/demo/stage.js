/**
 * The stage: this tab, the server with its queue, the subscriber and the other tabs. Events move
 * along the wires between them; then the places show who received what.
 */

import { byId, make } from "./element.js";

const SVG = "http://www.w3.org/2000/svg";

/** Maximum number of other tabs on the stage; the rest is a number. */
const OTHERS_MAX = 2;

/** Duration of a movement along a wire, in milliseconds. */
const HOP_MS = 620;

/** Maximum number of queued movements; further ones are shown without movement. */
const WAITING_MAX = 6;

/** Maximum number of characters on a moving event. */
const LABEL_LENGTH = 14;

/** Distance of each of the two wires between a pair of places from their middle, in pixels. */
const LANE = 9;

/** Radius of a box's corner in pixels, where no wire ends. */
const CORNER = 12;

/** Wires that are always there, each with its lane. */
const WIRES = /** @type {[Place, Place, number][]} */ ([
  ["me", "server", -1],
  ["server", "me", 1],
  ["server", "queue", 0],
  ["queue", "subscriber", -1],
  ["subscriber", "queue", 1],
]);

/**
 * @typedef {"me" | "server" | "queue" | "subscriber" | string} Place this tab, the server, its
 *   queue, the queue's subscriber, or the socket id of another tab
 */
/** @typedef {"idle" | "received" | "silent" | "sent" | "waits" | "lost"} Mood */
/** @typedef {{ id: string, name: string, hue: number, label?: string, note?: string }} Person */
/** @typedef {[from: Place, to: Place]} Way */
/** @typedef {{ left: number, right: number, top: number, bottom: number }} Box */

const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Stage {
  /** @type {Promise<void>} */
  #last = Promise.resolve();
  #waiting = 0;
  /** @type {Person[]} */
  #people = [];
  #drawing = false;
  #root = byId("stage");
  #wires = this.#root.querySelector(".wires");
  #flights = this.#root.querySelector(".flights");

  constructor() {
    new ResizeObserver(() => this.#draw()).observe(this.#root);
    this.#showOthers();
  }

  /** @param {Person[]} people the other tabs */
  setOthers(people) {
    if (JSON.stringify(people) === JSON.stringify(this.#people)) return;
    this.#people = people;
    this.#showOthers();
  }

  /** Shows the other tabs; the results of those that remain are kept. */
  #showOthers() {
    const before = new Map(this.places.map((place) => [place, this.#node(place)]));
    const people = this.#people;
    const shown = people.slice(0, people.length > OTHERS_MAX ? OTHERS_MAX - 1 : OTHERS_MAX);
    const rows = shown.map(({ id, name, label, note, hue }) => before.get(id) ?? tab(id, label ?? name, note ?? "listening", hue));
    if (people.length > shown.length) {
      const rest = before.get("rest") ?? tab("rest", "", "listening");
      rest.querySelector("b").textContent = `${people.length - shown.length} more tabs`;
      rows.push(rest);
    }
    byId("others").replaceChildren(...(rows.length ? rows : [ghost()]));
    this.#draw();
  }

  /** The other tabs on the stage. */
  get places() {
    return [...byId("others").children].flatMap((/** @type {any} */ { dataset }) => (dataset.place ? [dataset.place] : []));
  }

  /**
   * @param {Place} place
   * @returns {any} its box; a tab without one belongs to the rest
   */
  #node(place) {
    const nodes = [...this.#root.querySelectorAll("[data-place]")];
    const find = (/** @type {Place} */ wanted) => nodes.find((/** @type {any} */ { dataset }) => dataset.place === wanted);
    return find(place) ?? find("rest");
  }

  /**
   * @param {Place} place
   * @param {string} caption
   * @param {Mood} mood
   */
  say(place, caption, mood) {
    const node = this.#node(place);
    if (!node) return;
    node.dataset.mood = mood;
    node.querySelector(".caption").textContent = caption;
  }

  /** @param {number} count emits that are buffered in this tab */
  setBuffered(count) {
    const mark = this.#root.querySelector(".buffered");
    mark.hidden = !count;
    mark.textContent = `${count} buffered`;
  }

  /** @param {boolean} yes whether this tab has no connection */
  setDisconnected(yes) {
    this.reset();
    this.#root.toggleAttribute("data-cut", yes);
    if (!yes) return;
    this.say("server", "unreachable", "lost");
    for (const place of this.places) this.say(place, "unknown", "silent");
  }

  /** Removes the results. */
  reset() {
    this.say("me", "listening", "idle");
    this.say("server", "ready", "idle");
    for (const place of this.places) this.say(place, this.#people.find(({ id }) => id === place)?.note ?? "listening", "idle");
  }

  /**
   * Moves an event along one or several wires, after the running movements; then calls `then`.
   * @param {Way[]} ways
   * @param {() => void} [then]
   * @param {{ label?: string, kind?: "event" | "ack" | "nak" }} [event]
   */
  send(ways, then, event = {}) {
    const drawn = this.#waiting < WAITING_MAX ? ways : [];
    this.#waiting += 1;
    this.#last = this.#last
      .then(() => Promise.all(drawn.map((way) => this.#move(way, event))))
      .then(() => {
        this.#waiting -= 1;
        then?.();
      });
  }

  /**
   * @param {Way} way
   * @param {{ label?: string, kind?: string }} event
   */
  async #move([from, to], { label = "", kind = "event" }) {
    // A hidden tab draws nothing and would not end the movement.
    if (still.matches || document.hidden) return;
    const ends = this.#ends(from, to, WIRES.find(([one, other]) => one === from && other === to)?.[2] ?? 0);
    if (!ends) return;
    const text = label.length > LABEL_LENGTH ? `${label.slice(0, LABEL_LENGTH - 1)}…` : label;
    const flight = make("span", { class: "flight", "data-kind": kind }, text);
    this.#flights.append(flight);
    const [start, end] = ends.map(([x, y]) => `translate(${x}px, ${y}px) translate(-50%, -50%)`);
    const frames = [
      { transform: `${start} scale(0.4)`, opacity: 0 },
      { transform: `${start} scale(1)`, opacity: 1, offset: 0.15 },
      { transform: `${end} scale(1)`, opacity: 1, offset: 0.85 },
      { transform: `${end} scale(0.4)`, opacity: 0 },
    ];
    const { finished } = flight.animate(frames, { duration: HOP_MS, easing: "ease-in-out", fill: "both" });
    await Promise.race([finished, new Promise((resolve) => setTimeout(resolve, 2 * HOP_MS))]);
    flight.remove();
  }

  /**
   * Start and end of a wire, at the edges of the boxes: a straight line through the middle of what
   * they have in common.
   * @param {Place} from
   * @param {Place} to
   * @param {number} lane
   * @returns {[number, number][] | undefined}
   */
  #ends(from, to, lane) {
    const [a, b] = [from, to].map((place) => this.#box(place));
    if (!a || !b) return undefined;
    const isBeside = a.right <= b.left || b.right <= a.left;
    const middle = (/** @type {number} */ low, /** @type {number} */ high) => (low + high) / 2 + lane * LANE;
    if (isBeside) {
      const y = middle(Math.max(a.top, b.top), Math.min(a.bottom, b.bottom));
      return a.right <= b.left ? [[a.right, y], [b.left, y]] : [[a.left, y], [b.right, y]];
    }
    const x = middle(Math.max(a.left, b.left) + CORNER, Math.min(a.right, b.right) - CORNER);
    return a.bottom <= b.top ? [[x, a.bottom], [x, b.top]] : [[x, a.top], [x, b.bottom]];
  }

  /**
   * @param {Place} place
   * @returns {Box | undefined} on the stage, in pixels; one of several tabs above the server has
   *   the edges of them all
   */
  #box(place) {
    const node = this.#node(place);
    if (!node) return undefined;
    const origin = this.#root.getBoundingClientRect();
    const own = node.getBoundingClientRect();
    const { top, bottom } = this.#isHigh && node.parentElement.id === "others" ? node.parentElement.getBoundingClientRect() : own;
    return { left: own.left - origin.left, right: own.right - origin.left, top: top - origin.top, bottom: bottom - origin.top };
  }

  /** True if the server is below the tabs instead of between them. */
  get #isHigh() {
    return this.#node("server").offsetTop > this.#node("me").offsetTop;
  }

  /** Draws the wires before the next frame. */
  #draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      const wires = [...WIRES, .../** @type {[Place, Place, number][]} */ (this.places.map((place) => ["server", place, 0]))];
      this.#wires.replaceChildren(...wires.flatMap(([from, to, lane]) => this.#wire(from, to, lane)));
    });
  }

  /**
   * @param {Place} from
   * @param {Place} to
   * @param {number} lane
   */
  #wire(from, to, lane) {
    const ends = this.#ends(from, to, lane);
    if (!ends) return [];
    const [[x1, y1], [x2, y2]] = ends;
    const back = Math.atan2(y1 - y2, x1 - x2);
    const [left, right] = [0.5, -0.5].map((turn) => `${x2 + 8 * Math.cos(back + turn)} ${y2 + 8 * Math.sin(back + turn)}`);
    const wire = document.createElementNS(SVG, "g");
    wire.setAttribute("class", from === "subscriber" || to === "subscriber" ? "of-subscriber" : to === "queue" ? "of-queue" : "of-tabs");
    for (const d of [`M${x1} ${y1} L${x2} ${y2}`, `M${left} L${x2} ${y2} L${right}`]) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("d", d);
      wire.append(path);
    }
    return [wire];
  }
}

/**
 * @param {string} place
 * @param {string} name
 * @param {string} caption
 * @param {number} [hue]
 */
function tab(place, name, caption, hue) {
  const row = make("div", { class: "node tab", "data-place": place, "data-mood": "idle" }, make("b", {}, name), make("small", { class: "caption" }, caption));
  if (hue !== undefined) row.style.setProperty("--hue", `${hue}`);
  return row;
}

/** In the place of the other tabs while there are none. */
function ghost() {
  const link = make("a", { href: "/", target: "_blank", rel: "noopener" }, "Open a second tab");
  return make("div", { class: "node ghost", "data-mood": "idle" }, make("b", {}, "No other tab yet"), link);
}
