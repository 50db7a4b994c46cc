/**
 * Server, proxies, durable subscribers, members and publishers. A round is some cycles of traffic
 * and faults by schedule, then no faults until nothing is pending, then the check. Subscribers may
 * be absent for whole cycles; the witness is for all of them.
 */

import { setTimeout as pause } from "node:timers/promises";
import { Client } from "../client.mjs";
import { Link } from "../proxy.mjs";
import { Random } from "../random.mjs";
import { API_KEY, Server } from "../server.mjs";
import { check, count, WITNESS } from "./checker.mjs";
import { DurableHistory } from "./history.mjs";
import { DurablePublisher } from "./publisher.mjs";
import { schedule } from "./schedule.mjs";
import { Subscriber } from "./subscriber.mjs";
import { Worker } from "./worker.mjs";

const TRANSPORTS = [["websocket"], ["polling"], ["polling", "websocket"]];

const ROOMS = ["a", "b", "c", "d"];

/** A silent connection is noticed after twice this time. */
const PING_MS = 1_000;

/** Time limit after the cycles of a round for each step to quiet, and for all of them. */
const QUIET_MS = 60_000;
const SETTLE_MS = 120_000;

/** Time limit for notices of gaps, and the pause until they are looked for again. */
const NOTICE_MS = 5_000;
const PAUSE_MS = 100;

/** Time limit of a planted crash; then the server is killed. */
const CRASH_MS = 3_000;

/** Events that are stored after the last restart of a cycle, and the time limit for them. */
const AFTER = 30;
const AFTER_MS = 3_000;

const PUBLISHERS = 3;
const MEMBERS = 2;

export class Rig {
  history = new DurableHistory();
  counts = { kills: 0, stops: 0, crashes: {}, cuts: 0, absences: 0, reconnects: 0, evictions: 0, refused: {} };
  figures = { stored: 0, deliveries: 0, dead: 0, lost: 0, silent: 0, gaps: 0, repeated: {} };

  #seed;
  #seconds;
  #server;
  #links = [];
  /** The last one is the worker, which has no link. */
  #subscribers = [];
  #members = [];
  #publishers = [];
  /** Publishes the markers; only the end of the server disturbs it. */
  #herald;
  #witness;

  constructor({ kind, seed, seconds, subscribers }) {
    this.#seed = seed;
    this.#seconds = seconds;
    this.#subscribers = Array(subscribers).fill(null);
    this.#server = new Server(kind, { ping: PING_MS });
  }

  /** Connects everybody, and subscribes each subscriber to some rooms. */
  async start() {
    await this.#server.start();
    const direct = `http://127.0.0.1:${this.#server.port}`;
    const random = new Random(`queue ${this.#seed}`);
    const connect = async () => {
      const link = await new Link(this.#server.port).listen();
      this.#links.push(link);
      return link;
    };
    for (const number of this.#subscribers.keys()) {
      const link = await connect();
      const subscriber = new Subscriber(this.history, `subscriber ${number}`, random, { url: link.url, breakLink: () => link.reset() });
      subscriber.connect();
      subscriber.join(ROOMS[number % ROOMS.length]);
      for (const room of ROOMS) if (random.chance(0.4)) subscriber.join(room);
      this.#subscribers[number] = subscriber;
    }
    this.#subscribers.push(new Worker(this.history, "worker", random, { url: direct, key: API_KEY, rooms: ROOMS.slice(0, 2) }));
    for (let number = 0; number < MEMBERS; number++) {
      const member = new Client(this.history, `member ${number}`, (await connect()).url, { transports: TRANSPORTS[number] });
      for (const room of ROOMS) member.join(room);
      this.#members.push(member);
    }
    for (let number = 0; number < PUBLISHERS; number++) {
      const { url } = await connect();
      this.#publishers.push(new DurablePublisher(this.history, `publisher ${number}`, url, { random, transports: TRANSPORTS[number] }));
    }
    this.#herald = new DurablePublisher(this.history, "herald", direct, { random, transports: ["websocket"] });
    this.#witness = new Subscriber(this.history, WITNESS, random, { url: direct });
    this.#witness.connect(["websocket"]);
    this.#witness.calm();
    for (const room of ROOMS) this.#witness.join(room);
    await this.#until("connected clients, with the rooms they want", () => [...this.#everybody(), this.#witness].every((one) => one.isSettled()));
    this.#witness.goAway(true);
  }

  #everybody() {
    return [...this.#subscribers, ...this.#members, ...this.#publishers, this.#herald];
  }

  #until(what, holds) {
    return this.history.until(what, holds, QUIET_MS).catch((error) => {
      const names = [...this.#everybody(), this.#witness].filter((one) => !one.isSettled()).map(({ name }) => name);
      throw new Error(`${error.message}; not settled: ${names.join("; ") || "none"}`);
    });
  }

  /** Runs one cycle of traffic and faults. */
  async cycle(number) {
    const steps = schedule({
      seed: this.#seed,
      cycle: number,
      subscribers: this.#subscribers.length - 1,
      links: this.#links.length,
      rooms: ROOMS,
      seconds: this.#seconds,
    });
    for (const publisher of this.#publishers) publisher.start(ROOMS);
    const begin = performance.now();
    const end = begin + this.#seconds * 1000;
    const restarts = [];
    for (const step of steps) {
      const wait = begin + step.at - performance.now();
      if (wait > 0) await pause(wait);
      if (step.what === "kill" || step.what === "stop") restarts.push(this.#restart(step));
      else this.#apply(step);
    }
    if (end > performance.now()) await pause(end - performance.now());
    await Promise.all(restarts);
    if (restarts.length > 0) await this.#traffic();
    for (const publisher of this.#publishers) publisher.stop();
    for (const link of this.#links) link.clear();
    this.#server.assertRunning();
  }

  /** Waits for some traffic, which a slow machine may not have. */
  #traffic() {
    const stored = () => this.history.publishes.reduce((sum, { rooms, ok }) => sum + (rooms && ok !== null ? 1 : 0), 0);
    const enough = stored() + AFTER;
    return this.history.until("traffic", () => stored() >= enough, AFTER_MS).catch(() => {});
  }

  async #restart({ what, ms, crash }) {
    this.counts[`${what}s`] += 1;
    this.#suffer(what);
    await this.#server[what]();
    await pause(ms);
    if (crash) {
      const [point] = crash.split(":");
      await this.#server.start({ crash });
      const hasCrashed = await this.#server.crashed(CRASH_MS);
      const name = hasCrashed ? point : `${point}, killed before it`;
      this.counts.crashes[name] = (this.counts.crashes[name] ?? 0) + 1;
      this.#suffer(hasCrashed ? point : "kill");
    }
    await this.#server.start();
  }

  /** Records a fault that everybody suffers. */
  #suffer(what) {
    for (const subscriber of this.#subscribers) subscriber.fault(what);
  }

  #apply({ what, who, ms, offline, events, isPolite, room }) {
    const link = this.#links[who];
    const subscriber = this.#subscribers[who];
    if (what === "join" || what === "leave") return subscriber[what](room);
    if (what === "come back") return subscriber.comeBack();
    subscriber?.fault(what);
    if (what === "die") return subscriber.die(events);
    if (what === "replace") return subscriber.replace();
    if (what === "switch transport") return subscriber.switchTransport();
    if (what === "go away") {
      this.counts.absences += subscriber.isAway() ? 0 : 1;
      return subscriber.goAway(isPolite);
    }
    if (what === "slow") return void (link.weather.latency = 1 + (ms % 60));
    if (what === "sliced") return void (link.weather.sliced = true);
    this.counts.cuts += what === "stall" ? 0 : 1;
    if (offline && what !== "stall") link.offline(offline);
    link[what](ms);
  }

  /** Ends a round: waits until nothing is pending. Resolves with the violations. */
  async settle() {
    let deadline;
    const tooLate = new Promise((_, reject) => {
      deadline = setTimeout(() => reject(new Error(`events are still pending after ${SETTLE_MS} ms`)), SETTLE_MS);
    });
    try {
      await Promise.race([this.#quiet(), tooLate]);
    } catch (error) {
      // The witness has not received what is stored, so nothing else can be checked.
      return [...this.#refusals(), { rule: "quiet", client: null, what: error.message }];
    } finally {
      clearTimeout(deadline);
    }
    this.#count();
    return [...this.#refusals(), ...check(this.history)];
  }

  /** Requests of subscribers that the server refused; none is expected. */
  #refusals() {
    return this.history.subscribers.filter(({ refusal }) => refusal).map(({ name, refusal }) => ({ rule: "refusal", client: name, what: refusal }));
  }

  async #quiet() {
    for (const subscriber of this.#subscribers) subscriber.calm();
    const areConnected = () => this.#everybody().every((one) => one.isSettled());
    await this.#until("connected clients", areConnected);
    // Two connections of a name, both alive: the newer evicts the older.
    for (const [number, subscriber] of this.#subscribers.entries()) if (number % 2 === 0) subscriber.replace?.();
    await this.#until("connected clients after evictions", areConnected);
    const markers = [];
    for (const room of ROOMS) markers.push(await this.#herald.publish([room]));
    await this.#until("quiet members", () => this.#members.every((member) => member.isQuiet(markers)));
    const drain = async (subscriber) => {
      await this.#until(`markers at ${subscriber.name}`, () => subscriber.isForgotten || subscriber.hasHeard(markers));
      if (subscriber.isForgotten) throw new Error(`${subscriber.name} is not known to the server any more`);
      await subscriber.drained();
      if (await subscriber.replayDead()) await subscriber.drained();
    };
    await Promise.all(this.#subscribers.map(drain));
    this.#witness.connect(["websocket"]);
    await drain(this.#witness);
    // An event that has expired is removed later, and then its subscribers receive a gap.
    const isMissed = ({ rule }) => rule === "lost" || rule === "silent gap";
    for (let left = NOTICE_MS; left > 0 && check(this.history).some(isMissed); left -= PAUSE_MS) await pause(PAUSE_MS);
    this.#witness.goAway(true);
  }

  #count() {
    const { repeated, ...figures } = count(this.history);
    for (const [name, value] of Object.entries(figures)) this.figures[name] += value;
    for (const [cause, value] of Object.entries(repeated)) this.figures.repeated[cause] = (this.figures.repeated[cause] ?? 0) + value;
    const sum = (of) => this.#subscribers.reduce((total, one) => total + one[of], 0);
    Object.assign(this.counts, { reconnects: sum("reconnects"), evictions: sum("evictions") });
    for (const publisher of this.#publishers) {
      for (const [code, times] of publisher.refused) this.counts.refused[code] = (this.counts.refused[code] ?? 0) + times;
      publisher.refused.clear();
    }
  }

  /** Begins another round, so that nothing is checked twice. */
  forget() {
    this.history.forget();
    for (const one of [...this.#subscribers, ...this.#members, this.#witness]) one.forget();
    for (const subscriber of this.#subscribers) subscriber.calm(false);
  }

  /** Stops the server and checks its files; gives the number of their events, null if unknown. */
  async inspect() {
    await this.#server.stop();
    return this.#server.inspectQueue();
  }

  async stop() {
    for (const one of [...this.#subscribers, ...this.#members, ...this.#publishers, this.#herald, this.#witness]) one?.close?.();
    for (const link of this.#links) link.close();
    await this.#server.remove();
  }
}
