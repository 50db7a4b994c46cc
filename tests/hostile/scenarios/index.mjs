/** All scenarios, in order of their numbers. */

import descriptors from "./descriptors.mjs";
import faults from "./faults.mjs";
import foreignOrigins from "./foreign-origins.mjs";
import heldConnections from "./held-connections.mjs";
import journal from "./journal.mjs";
import logging from "./logging.mjs";
import memory from "./memory.mjs";
import rate from "./rate.mjs";
import resumes from "./resumes.mjs";
import rooms from "./rooms.mjs";

/**
 * A scenario. `full`, `ci` and `life` are its sizes, absent where it does not run; `budget` of a
 * size limits the resident bytes, `growth` those that the attack adds (an unoptimised binary alone
 * takes tens of MiB), `rateShare` is the share of its rate that the prober must keep if
 * it differs from the default. `attack` runs in its own process; the prober is measured from its
 * start, or from `begin`. `judge` gets the measured values, `verify` runs on the idle server.
 * `open` states a known defect.
 *
 * @typedef {{
 *   name: string, line: number, about: string, open?: string,
 *   flags?: object, full?: object, ci?: object, life?: object, start?: object,
 *   attack?: (port: number, size: object, begin: () => void) => Promise<object | void>,
 *   attackMs?: number, pauseMs?: number,
 *   watchesHealth?: boolean, restarts?: boolean, named?: { log?: RegExp, metric?: RegExp },
 *   judge?: (state: object) => Promise<void> | void, verify?: (state: object) => Promise<void>,
 *   obstacle?: () => string | null,
 * }} Scenario
 * @type {Scenario[]}
 */
export const scenarios = [
  ...rooms,
  ...descriptors,
  ...heldConnections,
  ...resumes,
  ...memory,
  ...rate,
  ...foreignOrigins,
  ...logging,
  ...journal,
  ...faults,
];
