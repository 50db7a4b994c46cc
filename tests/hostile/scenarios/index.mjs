/** All scenarios, in the order of issue 12. */

import claims from "./claims.mjs";
import descriptors from "./descriptors.mjs";
import faults from "./faults.mjs";
import journal from "./journal.mjs";
import logging from "./logging.mjs";
import memory from "./memory.mjs";
import rate from "./rate.mjs";
import rooms from "./rooms.mjs";
import silence from "./silence.mjs";
import strangers from "./strangers.mjs";

/**
 * A scenario. `full`, `ci` and `life` are its sizes, absent where it does not run so; `budget` of a
 * size bounds the resident bytes, `rateShare` is what the prober must keep of its rate if it
 * differs from the usual. `attack` runs in a process of its own; the prober is measured from its
 * start, or from `begin`. `judge` sees what was measured, `verify` has the server to itself. `open`
 * says why a scenario is known to fail.
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
  ...silence,
  ...claims,
  ...memory,
  ...rate,
  ...strangers,
  ...logging,
  ...journal,
  ...faults,
];
