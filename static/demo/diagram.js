/**
 * Draws who says what to whom: this tab on the left, the server in the middle, the other tabs on the right. A dot travels
 * each way; what stays is what everybody heard.
 */

const SVG = "http://www.w3.org/2000/svg";

/** How many of the others are drawn; the rest is a number. */
const OTHERS_MAX = 3;

/** How long a dot travels, in milliseconds. */
const HOP_MS = 420;

/** Dots that may wait for their turn; what comes beyond is drawn at its end, without the way. */
const WAITING_MAX = 6;

const NODE = { width: 124, height: 48 };
const PLACES = { me: { x: 2, y: 57 }, server: { x: 174, y: 57 }, other: { x: 314, ys: [[57], [25, 89], [1, 57, 113]] } };
/** The two ways between this tab and the server do not lie on each other. */
const LANE = 7;

/** @typedef {"me" | "server" | string} Place this tab, the server, or another's socket id */
/** @typedef {"idle" | "heard" | "silent" | "sent" | "lost"} Mood */

const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Diagram {
  /** @type {Map<Place, { group: SVGElement, caption: SVGElement, x: number, y: number }>} */
  #nodes = new Map();
  /** @type {Promise<void>} */
  #last = Promise.resolve();
  #waiting = 0;
  #lines;
  #dots;
  /** @type {string} what is drawn of the others, so that it is drawn anew only when it has changed */
  #drawn = "";

  /**
   * @param {SVGElement} svg
   * @param {{ idle: string, connects: boolean }} options what is written under the others before anything happened, and
   *   whether lines lead to them
   */
  constructor(svg, options) {
    this.svg = svg;
    this.options = options;
    this.#lines = create("g", { class: "lines" });
    this.#dots = create("g", { class: "dots" });
    svg.append(this.#lines, this.#dots);
    this.#place("me", PLACES.me.x, PLACES.me.y, "This tab", "mine");
    this.#place("server", PLACES.server.x, PLACES.server.y, "Server", "hub", 92);
    this.#line("me", "server");
    this.#line("server", "me");
    this.others([]);
  }

  /** @param {{ id: string, name: string, hue: number, label?: string, note?: string }[]} people who else is there */
  others(people) {
    const drawn = JSON.stringify(people);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    /** @type {Map<Place, [caption: string, mood: any]>} what those have heard who stay */
    const heard = new Map();
    for (const [id, { group, caption }] of this.#nodes) {
      if (id === "me" || id === "server") continue;
      if (group.dataset.mood !== "idle") heard.set(id, [caption.textContent ?? "", group.dataset.mood]);
      group.remove();
      this.#nodes.delete(id);
    }
    for (const line of this.svg.querySelectorAll(".out")) line.remove();
    const shown = people.slice(0, people.length > OTHERS_MAX ? OTHERS_MAX - 1 : OTHERS_MAX);
    const boxes = shown.map(({ id, name, hue, label, note }) => ({ id, name: label ?? name, hue, caption: note ?? this.options.idle }));
    const rest = people.length - shown.length;
    if (rest > 0) boxes.push({ id: "rest", name: `${rest} more`, hue: 0, caption: this.options.idle });
    const ghost = !boxes.length;
    if (ghost) boxes.push({ id: "rest", name: "No other tab yet", hue: 0, caption: "open a second one" });
    const ys = PLACES.other.ys[boxes.length - 1];
    for (const [at, { id, name, hue, caption }] of boxes.entries()) {
      const { group } = this.#place(id, PLACES.other.x, ys[at], name, ghost ? "ghost" : "other");
      group.style.setProperty("--hue", `${hue}`);
      this.say(id, .../** @type {[string, any]} */ (heard.get(id) ?? [caption, "idle"]));
      if (this.options.connects && !ghost) this.#line("server", id, "out");
    }
  }

  /** The others, as they are drawn. */
  get places() {
    return [...this.#nodes].filter(([, { group }]) => group.classList.contains("other")).map(([id]) => id);
  }

  /**
   * @param {Place} place one that is not drawn is among the rest
   * @param {string} caption
   * @param {Mood} mood
   */
  say(place, caption, mood) {
    const node = this.#nodes.get(place) ?? this.#nodes.get("rest");
    if (!node) return;
    node.caption.textContent = caption;
    node.group.dataset.mood = mood;
  }

  /** Forgets what was heard. */
  calm() {
    for (const place of ["me", "server"]) this.say(place, "", "idle");
    for (const place of this.places) this.say(place, this.options.idle, "idle");
  }

  /**
   * Lets dots travel, one way or several at once, after those that are under way; then what it led to is drawn.
   * @param {[from: Place, to: Place][]} ways
   * @param {() => void} [then]
   */
  send(ways, then) {
    const drawn = this.#waiting < WAITING_MAX ? ways : [];
    this.#waiting += 1;
    this.#last = this.#last
      .then(() => Promise.all(drawn.map(([from, to]) => this.#travel(from, to))))
      .then(() => {
        this.#waiting -= 1;
        then?.();
      });
  }

  /**
   * @param {Place} from
   * @param {Place} to
   */
  async #travel(from, to) {
    const [start, end] = this.#ends(from, to);
    // A hidden tab draws nothing, and would end nothing.
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
   * @param {number} x
   * @param {number} y
   * @param {string} name
   * @param {string} kind
   */
  #place(id, x, y, name, kind, width = NODE.width) {
    const group = create("g", { class: `node ${kind}`, transform: `translate(${x} ${y})` });
    const title = create("text", { x: width / 2, y: 20, class: "name" });
    const caption = create("text", { x: width / 2, y: 37, class: "caption" });
    title.textContent = name;
    group.append(create("rect", { width, height: NODE.height, rx: 9 }), title, caption);
    this.svg.append(group);
    const node = { group, caption, x, y, width };
    this.#nodes.set(id, node);
    return node;
  }

  /**
   * Where a way begins and ends, at the edges of the boxes.
   * @param {Place} from
   * @param {Place} to
   * @returns {[number, number][]}
   */
  #ends(from, to) {
    const [a, b] = [from, to].map((id) => /** @type {any} */ (this.#nodes.get(id) ?? this.#nodes.get("rest")));
    if (!a || !b) return [];
    const rightwards = a.x < b.x;
    const lane = from === "me" ? -LANE : to === "me" ? LANE : 0;
    const middle = (/** @type {any} */ node) => node.y + NODE.height / 2 + lane;
    return [
      [rightwards ? a.x + a.width : a.x, middle(a)],
      [rightwards ? b.x : b.x + b.width, middle(b)],
    ];
  }

  /**
   * @param {Place} from
   * @param {Place} to
   * @param {string} [kind]
   */
  #line(from, to, kind = "own") {
    const [[x1, y1], [x2, y2]] = this.#ends(from, to);
    this.#lines.append(create("line", { x1, y1, x2, y2, class: kind }));
    const back = Math.atan2(y1 - y2, x1 - x2);
    const [left, right] = [0.5, -0.5].map((turn) => `${x2 + 8 * Math.cos(back + turn)} ${y2 + 8 * Math.sin(back + turn)}`);
    this.#lines.append(create("path", { d: `M${left} L${x2} ${y2} L${right}`, class: kind }));
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
