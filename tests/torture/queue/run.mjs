/**
 * The torture of the queue: `node queue/run.mjs --cycles 20 --seed 7`. Prints a line per round, a
 * summary and a table of figures; exits with 1 if a history had violations, which is then saved to a
 * file. `--check FILE` checks such a file again. `--bugs` runs Node's server with each of its bugs,
 * which must be found.
 */

import { readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { NODE_BUGS } from "../server.mjs";
import { check } from "./checker.mjs";
import { figuresOf } from "./figures.mjs";
import { Rig } from "./rig.mjs";
import { POINTS } from "./schedule.mjs";

const { values: options } = parseArgs({
  options: {
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    cycles: { type: "string", default: "20" },
    /** Cycles until everything is received and checked. */
    round: { type: "string", default: "5" },
    subscribers: { type: "string", default: "8" },
    seconds: { type: "string", default: "1" },
    /** Maximum duration of the run; the remaining rounds are skipped. */
    minutes: { type: "string", default: "600" },
    server: { type: "string", default: "stentor, queue" },
    /** The server has a planted bug or forgets: the run succeeds and stops when that is found. */
    planted: { type: "boolean", default: false },
    bugs: { type: "boolean", default: false },
    check: { type: "string" },
  },
});

/** Maximum number of violations printed per round; the file has the whole history. */
const PRINTED_MAX = 10;

/** Cycles in which every planted point is met with near certainty. */
const BLIND_CYCLES = 100;

function print(violations) {
  for (const { rule, client, what } of violations.slice(0, PRINTED_MAX)) console.log(`  ${rule}: ${client ?? "all clients"} ${what}`);
  if (violations.length > PRINTED_MAX) console.log(`  and ${violations.length - PRINTED_MAX} more`);
}

/** Runs all cycles against a server of this kind; with a planted bug, until it is found. */
async function torture(kind, isPlanted) {
  const [seed, cycles, round, subscribers, seconds, minutes] = ["seed", "cycles", "round", "subscribers", "seconds", "minutes"].map((name) => {
    const value = Number(options[name]);
    if (!(value >= 0)) throw new Error(`--${name} ${options[name]}: expected a number`);
    return value;
  });
  console.log(`queue torture: seed ${seed}, ${cycles} cycles of ${seconds} s, ${subscribers} subscribers, server "${kind}"`);
  const rig = new Rig({ kind, seed, seconds, subscribers });
  const rules = {};
  const files = [];
  let done = 0;
  let left = null;
  try {
    await rig.start();
    const end = performance.now() + minutes * 60_000;
    while (done < cycles && performance.now() < end) {
      const begin = performance.now();
      for (let left = Math.min(round, cycles - done); left > 0; left--) await rig.cycle((done += 1));
      const violations = await rig.settle();
      const { kills, stops, crashes, cuts } = rig.counts;
      const { stored, deliveries } = rig.figures;
      console.log(
        `cycle ${done}: ${Math.round(performance.now() - begin)} ms; so far ${kills} kills, ${stops} stops, ${sum(crashes)} planted crashes, ` +
          `${cuts} cuts, ${stored} events, ${deliveries} deliveries; ${violations.length} violations`,
      );
      if (violations.length > 0) {
        for (const { rule } of violations) rules[rule] = (rules[rule] ?? 0) + 1;
        const file = path.join(os.tmpdir(), `stentor-torture-queue-seed-${seed}-cycle-${done}.json`);
        writeFileSync(file, JSON.stringify({ seed, cycle: done, violations, ...rig.history.toJSON() }, null, 1));
        files.push(file);
        print(violations);
        console.log(`  the history is in ${file}`);
        if (isPlanted || rules.quiet) break;
      }
      rig.forget();
    }
    if (!isPlanted && !rules.quiet) left = await rig.inspect();
  } finally {
    await rig.stop();
  }
  const { counts, figures } = rig;
  console.log(JSON.stringify({ seed, server: kind, cycles: done, ...counts, ...figures, left, violations: rules, files }));
  if (!isPlanted) console.log(figuresOf({ seed, cycles: done, server: kind, counts, figures: { ...figures, left } }));
  const unmet = POINTS.filter((point) => !rig.counts.crashes[point]);
  return { wrong: files.length > 0, unmet: done >= BLIND_CYCLES ? unmet : [] };
}

const sum = (counts) => Object.values(counts).reduce((total, one) => total + one, 0);

if (options.check) {
  const violations = check(JSON.parse(readFileSync(options.check, "utf8")));
  print(violations);
  process.exit(violations.length > 0 ? 1 : 0);
}

async function isCaught(kind) {
  const { wrong } = await torture(kind, true);
  console.log(wrong ? "queue torture: passed, the planted bug was caught" : "queue torture: FAILED, the planted bug was not seen");
  return wrong;
}

if (options.planted || options.bugs) {
  const kinds = options.bugs ? NODE_BUGS.map((bug) => `node, queue, ${bug}`) : [options.server];
  let areCaught = true;
  for (const kind of kinds) areCaught = (await isCaught(kind)) && areCaught;
  process.exit(areCaught ? 0 : 1);
}
const { wrong, unmet } = await torture(options.server, false);
if (unmet.length > 0) console.log(`queue torture: the server never ended itself at ${unmet.join(", ")}; a debug build does`);
console.log(wrong || unmet.length > 0 ? "queue torture: FAILED" : "queue torture: passed");
process.exit(wrong || unmet.length > 0 ? 1 : 0);
