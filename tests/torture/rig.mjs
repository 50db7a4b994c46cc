/**
 * Server, proxies, clients and publishers, and one cycle of them: traffic and faults by schedule,
 * then no faults until all is quiet, then the check. It waits for conditions with deadlines; only
 * the schedule follows the clock.
 */

import { setTimeout as pause } from "node:timers/promises";
import { check } from "./checker.mjs";
import { Client } from "./client.mjs";
import { History } from "./history.mjs";
import { Link } from "./proxy.mjs";
import { Publisher } from "./publisher.mjs";
import { Random } from "./random.mjs";
import { schedule } from "./schedule.mjs";
import { Server } from "./server.mjs";

const TRANSPORTS = [["websocket"], ["polling"], ["polling", "websocket"]];

const ROOMS = ["a", "b", "c", "d", "e"];

/** A silent connection is noticed after twice this time. */
const PING_MS = 1_000;

/** Time limit after the schedule for all to become quiet. */
const QUIET_MS = 60_000;

/** A marker may stay unanswered on a busy machine. */
const MARKER_ATTEMPTS = 5;

const PUBLISHERS = 3;

export class Rig {
  history = new History();
  counts = { kills: 0, stops: 0, cuts: 0, events: 0, deliveries: 0, reconnects: 0, recovered: 0, unanswered: 0 };

  #seed;
  #seconds;
  #clients;
  #server;
  #links = [];
  #publishers = [];
  /** Publishes the markers; only a kill disturbs it. */
  #herald;
  /** Counters of the server's earlier processes. */
  #counted = {};

  constructor({ kind, seed, seconds, clients }) {
    this.#seed = seed;
    this.#seconds = seconds;
    this.#clients = clients;
    this.#server = new Server(kind, { ping: PING_MS });
  }

  /** Connects all clients and puts each into some rooms. */
  async start() {
    await this.#server.start();
    const random = new Random(this.#seed);
    const connect = async (number, make) => {
      const link = await new Link(this.#server.port).listen();
      this.#links.push(link);
      return make(link.url, TRANSPORTS[number % TRANSPORTS.length]);
    };
    const clients = [];
    for (let number = 0; number < this.#clients; number++) {
      const make = (url, transports) => new Client(this.history, `client ${number} over ${transports.join("+")}`, url, { transports });
      const client = await connect(number, make);
      for (const room of ROOMS) if (random.chance(0.6)) client.join(room);
      clients.push(client);
    }
    this.#clients = clients;
    for (let number = 0; number < PUBLISHERS; number++) {
      const make = (url, transports) => new Publisher(this.history, `publisher ${number}`, url, { random, transports });
      this.#publishers.push(await connect(number, make));
    }
    this.#herald = new Publisher(this.history, "herald", `http://127.0.0.1:${this.#server.port}`, { random, transports: ["websocket"] });
    await this.#settled();
  }

  /** Runs one cycle; resolves with the violations. */
  async cycle(number) {
    const steps = schedule({
      seed: this.#seed,
      cycle: number,
      clients: this.#clients.length,
      links: this.#links.length,
      rooms: ROOMS,
      seconds: this.#seconds,
    });
    for (const publisher of this.#publishers) publisher.start(ROOMS);
    const begin = performance.now();
    const restarts = [];
    for (const step of steps) {
      const wait = begin + step.at - performance.now();
      if (wait > 0) await pause(wait);
      if (step.what === "kill" || step.what === "stop") restarts.push(this.#restart(step));
      else this.#apply(step);
    }
    const rest = begin + this.#seconds * 1000 - performance.now();
    if (rest > 0) await pause(rest);
    for (const publisher of this.#publishers) publisher.stop();
    for (const link of this.#links) link.clear();
    await Promise.all(restarts);
    this.#server.assertRunning();

    const violations = [];
    try {
      await this.#quiet();
    } catch (error) {
      violations.push({ rule: "quiet", client: null, what: error.message });
    }
    violations.push(...check(this.history));
    this.#count();
    return violations;
  }

  async #restart({ what, ms, again }) {
    // The counters end with the process.
    await this.#keepCounters();
    this.counts[`${what}s`] += 1;
    await this.#server[what]();
    await pause(ms);
    await this.#server.start();
    if (again === undefined) return;
    await pause(again);
    await this.#restart({ what: "kill", ms: 0 });
  }

  #apply({ what, who, room, ms, offline }) {
    const link = this.#links[who];
    if (what === "restart session") return this.#clients[who].restartSession();
    if (what === "join" || what === "leave") return this.#clients[who][what](room);
    if (what === "slow") return void (link.weather.latency = 1 + (ms % 60));
    if (what === "sliced") return void (link.weather.sliced = true);
    this.counts.cuts += what === "stall" ? 0 : 1;
    if (offline && what !== "stall") link.offline(offline);
    link[what](ms);
  }

  #settled() {
    const isSettled = () => [...this.#clients, ...this.#publishers, this.#herald].every((one) => one.isSettled());
    return this.history.until("connected clients and publishers, in the rooms they want", isSettled, QUIET_MS);
  }

  /** Waits until all clients are connected and have received a last event in each room. */
  async #quiet() {
    await this.#settled();
    const markers = [];
    for (const room of ROOMS) markers.push(await this.#marker(room));
    const noisy = () => this.#clients.filter((client) => !client.isQuiet(markers));
    await this.history.until("quiet", () => noisy().length === 0, QUIET_MS).catch((error) => {
      throw new Error(`${error.message}: ${noisy().map(({ name }) => name).join("; ")}`);
    });
  }

  async #marker(room) {
    for (let attempt = 0; attempt < MARKER_ATTEMPTS; attempt++) {
      const marker = await this.#herald.publish(room);
      if (marker.ok !== null) return marker;
    }
    throw new Error(`no marker of room ${room} was accepted, ${MARKER_ATTEMPTS} attempts`);
  }

  async #keepCounters() {
    for (const [name, count] of await this.#server.counters()) {
      if (count > 0) this.#counted[name] = (this.#counted[name] ?? 0) + count;
    }
  }

  /** Ends the run; gives the counters of all processes of the server. */
  async counters() {
    await this.#keepCounters();
    return this.#counted;
  }

  #count() {
    const sum = (of) => this.#clients.reduce((total, client) => total + client[of], 0);
    const fresh = this.history.publishes.filter(({ n }) => n > this.counts.events);
    this.counts.events += fresh.length;
    this.counts.unanswered += fresh.filter(({ ok }) => ok === null).length;
    Object.assign(this.counts, { deliveries: sum("received"), reconnects: sum("reconnects"), recovered: sum("recovered") });
  }

  /** Restarts the history, so that nothing is checked twice. */
  forget() {
    this.history.forget();
    for (const client of this.#clients) client.forget();
  }

  async stop() {
    for (const one of [...this.#clients, ...this.#publishers, this.#herald]) one?.close?.();
    for (const link of this.#links) link.close();
    await this.#server.remove();
  }
}
