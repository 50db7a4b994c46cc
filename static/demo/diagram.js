/**
 * Diagram of an event: this tab on the left, the server in the middle, the other tabs on the right.
 * A dot moves along each path; then the boxes show the tabs that received the event.
 */

const SVG = "http://www.w3.org/2000/svg";

/** Maximum number of other tabs in the diagram; the rest is a number. */
const OTHERS_MAX = 2;

/** Duration of a dot's movement, in milliseconds. */
const HOP_MS = 420;

/** Maximum number of queued movements; further ones are shown without movement. */
const WAITING_MAX = 6;

const HEIGHT = 48;

/**
 * @typedef {object} Layout
 * @property {string} viewBox
 * @property {{ x: number, y: number, width: number }} me
 * @property {{ x: number, y: number, width: number }} server
 * @property {(count: number) => { x: number, y: number, width: number }[]} others
 */

/** @type {Layout} from left to right */
const WIDE = {
  viewBox: "0 0 440 108",
  me: { x: 2, y: 30, width: 124 },
  server: { x: 170, y: 30, width: 92 },
  others: (count) => [[30], [1, 59]][count - 1].map((y) => ({ x: 306, y, width: 132 })),
};

/** @type {Layout} from top to bottom, for narrow screens */
const HIGH = {
  viewBox: "0 0 304 206",
  me: { x: 90, y: 1, width: 124 },
  server: { x: 106, y: 79, width: 92 },
  others: (count) => [[86], [16, 156]][count - 1].map((x) => ({ x, y: 157, width: 132 })),
};

/** Distance between the two paths of this tab and the server. */
const LANE = 7;

/**
 * @typedef {"me" | "server" | string} Place this tab, the server, or the socket id of another tab
 */
/** @typedef {"idle" | "received" | "silent" | "sent" | "waits" | "lost"} Mood */

const narrow = matchMedia("(max-width: 34rem)");
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Diagram {
  /** @type {Map<Place, { group: SVGElement, title: SVGElement, caption: SVGElement, x: number, y: number, width: number }>} */
  #nodes = new Map();
  /** @type {Promise<void>} */
  #last = Promise.resolve();
  #waiting = 0;
  #lines;
  #dots;
  /** @type {{ id: string, name: string, label?: string, note?: string }[]} */
  #people = [];
  #layout = WIDE;

  /**
   * @param {SVGElement} svg
   * @param {{ idle: string, connects: boolean }} options text under the other tabs before any
   * event, and
   *   whether lines lead to them
   */
  constructor(svg, options) {
    this.svg = svg;
    this.options = options;
    this.#lines = create("g", { class: "lines" });
    this.#dots = create("g", { class: "dots" });
    this.#draw();
    narrow.addEventListener("change", () => this.#draw());
  }

  /**
   * @param {{ id: string, name: string, label?: string, note?: string }[]} people the other tabs
   */
  others(people) {
    if (JSON.stringify(people) === JSON.stringify(this.#people)) return;
    this.#people = people;
    this.#draw();
  }

  /** Draws everything again; the results of tabs that remain are kept. */
  #draw() {
    /** @type {Map<Place, [caption: string, mood: any]>} */
    const results = new Map();
    for (const [id, { group, caption }] of this.#nodes) {
      if (group.dataset.mood !== "idle") results.set(id, [caption.textContent ?? "", group.dataset.mood]);
    }
    this.#nodes.clear();
    this.#lines.replaceChildren();
    this.#dots.replaceChildren();
    this.svg.replaceChildren(this.#lines, this.#dots);
    this.#layout = narrow.matches ? HIGH : WIDE;
    this.svg.setAttribute("viewBox", this.#layout.viewBox);

    this.#place("me", this.#layout.me, "This tab", "mine");
    this.#place("server", this.#layout.server, "Server", "hub");
    this.#line("me", "server");
    this.#line("server", "me");
    this.#drawBufferedDot();
    const people = this.#people;
    const shown = people.slice(0, people.length > OTHERS_MAX ? OTHERS_MAX - 1 : OTHERS_MAX);
    const boxes = shown.map(({ id, name, label, note }) => ({ id, name: label ?? name, caption: note ?? this.options.idle }));
    const rest = people.length - shown.length;
    if (rest > 0) boxes.push({ id: "rest", name: `${rest} more`, caption: this.options.idle });
    const ghost = !boxes.length;
    if (ghost) boxes.push({ id: "rest", name: "No other tab yet", caption: "open a second one" });
    const places = this.#layout.others(boxes.length);
    for (const [at, { id, name, caption }] of boxes.entries()) {
      this.#place(id, places[at], name, ghost ? "ghost" : "other");
      this.say(id, caption, "idle");
      if (this.options.connects && !ghost) this.#line("server", id);
    }
    for (const [id, result] of results) if (this.#nodes.has(id) && !(ghost && id === "rest")) this.say(id, ...result);
  }

  /** The other tabs in the diagram. */
  get places() {
    return [...this.#nodes].filter(([, { group }]) => group.classList.contains("other")).map(([id]) => id);
  }

  /**
   * @param {Place} place a tab that is not in the diagram belongs to the rest
   * @param {string} caption
   * @param {Mood} mood
   */
  say(place, caption, mood) {
    const node = this.#nodes.get(place) ?? this.#nodes.get("rest");
    if (!node) return;
    node.caption.textContent = caption;
    node.title.setAttribute("y", caption ? "20" : "29");
    node.group.dataset.mood = mood;
  }

  /** @param {boolean} yes whether this tab has no connection */
  setDisconnected(yes) {
    this.reset();
    this.svg.toggleAttribute("data-cut", yes);
    if (!yes) return;
    this.say("server", "unreachable", "lost");
    for (const place of this.places) this.say(place, "unknown", "silent");
  }

  /** Removes the results. */
  reset() {
    for (const place of ["me", "server"]) this.say(place, "", "idle");
    for (const place of this.places) this.say(place, this.options.idle, "idle");
  }

  /**
   * Moves dots along one or several paths, after the running movements; then calls `then`.
   * @param {[from: Place, to: Place][]} ways
   * @param {() => void} [then]
   */
  send(ways, then) {
    const drawn = this.#waiting < WAITING_MAX ? ways : [];
    this.#waiting += 1;
    this.#last = this.#last
      .then(() => Promise.all(drawn.map(([from, to]) => this.#moveDot(from, to))))
      .then(() => {
        this.#waiting -= 1;
        then?.();
      });
  }

  /**
   * @param {Place} from
   * @param {Place} to
   */
  async #moveDot(from, to) {
    const [start, end] = this.#ends(from, to);
    // A hidden tab draws nothing and would not end the movement.
    if (!start || !end || still.matches || document.hidden) return;
    const dot = create("circle", { r: 6, class: "dot" });
    this.#dots.append(dot);
    const frames = [start, end].map(([x, y]) => ({ transform: `translate(${x}px, ${y}px)` }));
    const { finished } = dot.animate(frames, { duration: HOP_MS, easing: "ease-in-out", fill: "both" });
    await Promise.race([finished, new Promise((resolve) => setTimeout(resolve, 2 * HOP_MS))]);
    dot.remove();
  }

  /**
   * @param {Place} id
   * @param {{ x: number, y: number, width: number }} place
   * @param {string} name
   * @param {string} kind
   */
  #place(id, { x, y, width }, name, kind) {
    const group = create("g", { class: `node ${kind}`, transform: `translate(${x} ${y})`, "data-mood": "idle" });
    const title = create("text", { x: width / 2, y: 29, class: "name" });
    const caption = create("text", { x: width / 2, y: 37, class: "caption" });
    title.textContent = name;
    group.append(create("rect", { width, height: HEIGHT, rx: 9 }), title, caption);
    this.svg.append(group);
    const node = { group, title, caption, x, y, width };
    this.#nodes.set(id, node);
    return node;
  }

  /** The dot that has not left this tab, visible while an emit is buffered. */
  #drawBufferedDot() {
    const { group, x, y } = /** @type {any} */ (this.#nodes.get("me"));
    const [[cx, cy]] = this.#ends("me", "server");
    group.append(create("circle", { cx: cx - x, cy: cy - y, r: 6, class: "dot buffered" }));
  }

  /**
   * Start and end of a path, at the edges of the boxes.
   * @param {Place} from
   * @param {Place} to
   * @returns {[number, number][]}
   */
  #ends(from, to) {
    const [a, b] = [from, to].map((id) => /** @type {any} */ (this.#nodes.get(id) ?? this.#nodes.get("rest")));
    if (!a || !b) return [];
    const high = this.#layout === HIGH;
    const lane = from === "me" ? -LANE : to === "me" ? LANE : 0;
    const along = (/** @type {any} */ node, /** @type {boolean} */ far) => (high ? node.y + (far ? HEIGHT : 0) : node.x + (far ? node.width : 0));
    const across = (/** @type {any} */ node) => (high ? node.x + node.width / 2 : node.y + HEIGHT / 2) + lane;
    const forward = high ? a.y < b.y : a.x < b.x;
    const ends = /** @type {[number, number][]} */ ([[along(a, forward), across(a)], [along(b, !forward), across(b)]]);
    return high ? ends.map(([main, cross]) => [cross, main]) : ends;
  }

  /**
   * @param {Place} from
   * @param {Place} to
   */
  #line(from, to) {
    const [[x1, y1], [x2, y2]] = this.#ends(from, to);
    this.#lines.append(create("line", { x1, y1, x2, y2 }));
    const back = Math.atan2(y1 - y2, x1 - x2);
    const [left, right] = [0.5, -0.5].map((turn) => `${x2 + 8 * Math.cos(back + turn)} ${y2 + 8 * Math.sin(back + turn)}`);
    this.#lines.append(create("path", { d: `M${left} L${x2} ${y2} L${right}` }));
  }
}

/**
 * @param {string} tag
 * @param {Record<string, any>} attributes
 */
function create(tag, attributes) {
  const element = /** @type {SVGElement} */ (document.createElementNS(SVG, tag));
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
