/** The faults of a cycle and their times, drawn from the seed alone. It causes no faults itself. */

import { Random } from "../random.mjs";

/** Kinds of faults of one connection, and their relative frequency. */
const FAULTS = { drop: 3, reset: 3, silence: 2, stall: 1, slow: 1, sliced: 1 };

/** What subscribers do, and the relative frequency. */
const ACTIONS = { die: 4, replace: 3, "switch transport": 3, "go away": 3, "come back": 3, join: 1, leave: 1 };

const drawn = (weights) => Object.entries(weights).flatMap(([name, weight]) => Array(weight).fill(name));

/** Points at which a debug build can end itself. */
export const POINTS = ["before_commit", "after_commit", "before_reveal"];

/** Latest commit after the start at which it does. */
const COMMITS_MAX = 40;

/** Share of cycles in which the server is ended, and of those in which it is stopped by SIGTERM. */
const ENDED = 0.9;
const STOPPED = 0.15;

/** Share of the others in which the next process ends itself. */
const CRASHES = 0.5;

/** Share of cuts after which the client cannot reconnect immediately. */
const KEPT_OFFLINE = 0.5;

/**
 * @typedef {{ at: number, what: string, who: number, ms?: number, offline?: number, events?: number, isPolite?: boolean, room?: string, crash?: string }} Step
 * At `at` milliseconds, `what` happens to link or subscriber number `who`, for `ms`; a killed
 * server is started so that it ends itself at `crash`
 *
 * @param {{ seed: number, cycle: number, subscribers: number, links: number, rooms: string[], seconds: number }} options
 * The first `subscribers` links are those of subscribers.
 * @returns {Step[]} in order of time
 */
export function schedule({ seed, cycle, subscribers, links, rooms, seconds }) {
  const random = new Random(`queue ${seed}/${cycle}`);
  const length = Math.round(seconds * 1000);
  const moment = () => random.between(0, length);
  const steps = [];
  for (let left = random.between(links >> 2, links >> 1); left > 0; left--) {
    const step = { at: moment(), what: random.pick(drawn(FAULTS)), who: random.between(0, links - 1), ms: random.between(20, length >> 1) };
    if (random.chance(KEPT_OFFLINE)) step.offline = random.between(20, length >> 1);
    steps.push(step);
  }
  for (let left = random.between(subscribers >> 1, subscribers); left > 0; left--) {
    const what = random.pick(drawn(ACTIONS));
    const who = random.between(0, subscribers - 1);
    steps.push({ at: moment(), what, who, events: random.between(1, 12), isPolite: random.chance(0.5), room: random.pick(rooms) });
  }
  if (random.chance(ENDED)) {
    const what = random.chance(STOPPED) ? "stop" : "kill";
    const end = { at: random.between(length >> 2, (length * 3) >> 2), what, who: -1, ms: random.between(0, 100) };
    if (what === "kill" && random.chance(CRASHES)) end.crash = `${random.pick(POINTS)}:${random.between(1, COMMITS_MAX)}`;
    steps.push(end);
  }
  return steps.sort((a, b) => a.at - b.at);
}
