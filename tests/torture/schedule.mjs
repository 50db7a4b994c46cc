/** The faults of a cycle and their times, drawn from the seed alone. It causes no faults itself. */

import { Random } from "./random.mjs";

/** Kinds of faults, and their relative frequency. */
const FAULTS = { drop: 3, reset: 3, silence: 3, stall: 1, slow: 1, sliced: 1 };
const DRAWN = Object.entries(FAULTS).flatMap(([fault, weight]) => Array(weight).fill(fault));

/** Share of cycles in which the server is killed. */
const KILLED = 0.85;

/**
 * Share of those in which it is stopped by SIGTERM instead, and of those in which it is killed
 * again while its clients reconnect.
 */
const STOPPED = 0.2;
const KILLED_AGAIN = 0.2;

/** Share of clients that are disconnected meanwhile. */
const AWAY_AT_KILL = 0.4;

/** Share of cuts after which the client cannot reconnect immediately. */
const KEPT_OFFLINE = 0.6;

/**
 * @typedef {{ at: number, what: string, who: number, room?: string, ms?: number, offline?: number, again?: number }} Step
 * At `at` milliseconds, `what` happens to proxy or client number `who`, for `ms`; a server is
 * killed `again` milliseconds after its restart
 *
 * @param {{ seed: number, cycle: number, clients: number, links: number, rooms: string[], seconds: number }} options
 * The first `clients` proxies are those of clients, the others those of publishers.
 * @returns {Step[]} in order of time
 */
export function schedule({ seed, cycle, clients, links, rooms, seconds }) {
  const random = new Random(`${seed}/${cycle}`);
  const length = Math.round(seconds * 1000);
  const moment = () => random.between(0, length);
  const steps = [];
  for (let left = random.between(clients >> 1, clients); left > 0; left--) {
    const step = { at: moment(), what: random.pick(DRAWN), who: random.between(0, links - 1), ms: random.between(20, length >> 1) };
    if (random.chance(KEPT_OFFLINE)) step.offline = random.between(20, length >> 1);
    steps.push(step);
  }
  for (let left = random.between(0, clients); left > 0; left--) {
    steps.push({ at: moment(), what: random.chance(0.6) ? "join" : "leave", who: random.between(0, clients - 1), room: random.pick(rooms) });
  }
  if (random.chance(0.5)) steps.push({ at: moment(), what: "restart session", who: random.between(0, clients - 1) });
  if (random.chance(KILLED)) {
    const what = random.chance(STOPPED) ? "stop" : "kill";
    const kill = { at: random.between(length >> 2, length), what, who: -1, ms: random.between(0, 200) };
    if (random.chance(KILLED_AGAIN)) kill.again = random.between(0, 250);
    steps.push(kill);
    // Disconnected at the kill and reconnected after it: only the disk has their events.
    for (let who = 0; who < links; who++) {
      if (!random.chance(AWAY_AT_KILL)) continue;
      const before = random.between(0, kill.at);
      steps.push({ at: kill.at - before, what: random.pick(["drop", "reset", "silence"]), who, ms: 0, offline: before + random.between(0, 300) });
    }
  }
  return steps.sort((a, b) => a.at - b.at);
}
