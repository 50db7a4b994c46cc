/**
 * The torture: `node run.mjs --cycles 20 --seed 7`. Prints a line per cycle and a summary; exits
 * with 1 if a history had violations, which is then saved to a file. `--check FILE` checks such a
 * file again.
 */

import { readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { check } from "./checker.mjs";
import { Rig } from "./rig.mjs";
import { KINDS } from "./server.mjs";

const { values: options } = parseArgs({
  options: {
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    cycles: { type: "string", default: "20" },
    clients: { type: "string", default: "12" },
    seconds: { type: "string", default: "1" },
    /** Maximum duration of the run; the remaining cycles are skipped. */
    minutes: { type: "string", default: "600" },
    server: { type: "string", default: KINDS[0] },
    /** The run fails below this share of recovered reconnects, because it proves little. */
    "recovered-min": { type: "string", default: "0" },
    /** The server has a planted bug: the run succeeds and stops when it is found. */
    planted: { type: "boolean", default: false },
    check: { type: "string" },
  },
});

/** Maximum number of violations printed per cycle; the file has the whole history. */
const PRINTED_MAX = 10;

function print(violations) {
  for (const { rule, client, what } of violations.slice(0, PRINTED_MAX)) console.log(`  ${rule}: ${client ?? "all clients"} ${what}`);
  if (violations.length > PRINTED_MAX) console.log(`  and ${violations.length - PRINTED_MAX} more`);
}

async function torture() {
  const [seed, cycles, clients, seconds, minutes] = ["seed", "cycles", "clients", "seconds", "minutes"].map((name) => {
    const value = Number(options[name]);
    if (!(value >= 0)) throw new Error(`--${name} ${options[name]}: expected a number`);
    return value;
  });
  console.log(`torture: seed ${seed}, ${cycles} cycles of ${seconds} s, ${clients} clients, server "${options.server}"`);
  const rig = new Rig({ kind: options.server, seed, seconds, clients });
  const rules = {};
  const files = [];
  let done = 0;
  let counters = {};
  try {
    await rig.start();
    const end = performance.now() + minutes * 60_000;
    for (let cycle = 1; cycle <= cycles && performance.now() < end; cycle++) {
      const begin = performance.now();
      const violations = await rig.cycle(cycle);
      done = cycle;
      const { kills, stops, cuts, events, deliveries, reconnects, recovered } = rig.counts;
      const took = Math.round(performance.now() - begin);
      console.log(
        `cycle ${cycle}: ${took} ms; so far ${kills} kills, ${stops} stops, ${cuts} cuts, ${events} events, ${deliveries} deliveries, ` +
          `${recovered} of ${reconnects} reconnects recovered; ${violations.length} violations`,
      );
      if (violations.length > 0) {
        for (const { rule } of violations) rules[rule] = (rules[rule] ?? 0) + 1;
        const file = path.join(os.tmpdir(), `stentor-torture-seed-${seed}-cycle-${cycle}.json`);
        writeFileSync(file, JSON.stringify({ seed, cycle, violations, ...rig.history }, null, 1));
        files.push(file);
        print(violations);
        console.log(`  the history is in ${file}`);
        if (options.planted || violations.some(({ rule }) => rule === "quiet")) break;
      }
      rig.forget();
    }
    counters = await rig.counters();
  } finally {
    await rig.stop();
  }
  const { reconnects, recovered } = rig.counts;
  const share = reconnects > 0 ? recovered / reconnects : 0;
  const summary = { seed, server: options.server, cycles: done, ...rig.counts, recoveredShare: Number(share.toFixed(4)), counters };
  console.log(JSON.stringify({ ...summary, violations: rules, files }));
  return { wrong: files.length > 0, blind: share < Number(options["recovered-min"]), share };
}

if (options.check) {
  const violations = check(JSON.parse(readFileSync(options.check, "utf8")));
  print(violations);
  process.exit(violations.length > 0 ? 1 : 0);
}

const { wrong, blind, share } = await torture();
if (options.planted) {
  console.log(wrong ? "torture: passed, the planted bug was caught" : "torture: FAILED, the planted bug was not seen");
  process.exit(wrong ? 0 : 1);
}
if (blind) console.log(`torture: only ${share} of the reconnects were recovered, expected ${options["recovered-min"]} or more`);
console.log(wrong || blind ? "torture: FAILED" : "torture: passed");
process.exit(wrong || blind ? 1 : 0);
