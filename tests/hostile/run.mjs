/**
 * The hostile suite: `node run.mjs --server <binary>`. Prints a row for each scenario; the exit is
 * 1 when a verdict failed.
 *
 * `--ci` runs small versions, `--one-life` all scenarios against one server of 512 MB and 1 024
 * descriptors, `--only <names>` those whose name contains one of the words, joined by commas;
 * `--list` prints them.
 */

import { parseArgs } from "node:util";
import { run, runLife } from "./rig.mjs";
import { scenarios } from "./scenarios/index.mjs";

const { values: options } = parseArgs({
  options: {
    server: { type: "string", default: "../../target/release/stentor" },
    only: { type: "string", default: "" },
    ci: { type: "boolean", default: false },
    "one-life": { type: "boolean", default: false },
    /** A failed scenario is not repeated. */
    once: { type: "boolean", default: false },
    list: { type: "boolean", default: false },
  },
});

/** Memory and descriptors of `--one-life`. */
const LIFE = { nofile: 1_024, budget: 512 << 20 };

const words = options.only.split(",");
const chosen = scenarios.filter(({ name }) => words.some((word) => name.includes(word)));
const results = { passed: 0, failed: 0, skipped: 0, open: 0 };

if (options.list) {
  for (const { name, line, about } of chosen) console.log(`${String(line).padStart(2)}  ${name.padEnd(24)} ${about}`);
} else if (options["one-life"]) {
  await runLife(options.server, chosen, LIFE, count);
  finish();
} else {
  for (const scenario of chosen) await judge(scenario, options.ci ? "ci" : "full");
  finish();
}

/** Runs a scenario, and once more if it failed, because the machine may have been busy. */
async function judge(scenario, kind) {
  if (!scenario[kind]) return;
  const obstacle = scenario.obstacle?.();
  if (obstacle) {
    results.skipped += 1;
    return console.log(`${scenario.name}: skipped, ${obstacle}`);
  }
  const findings = await run(options.server, scenario, kind);
  if (findings.isGood || options.once || scenario.open) return count(scenario, findings);
  print(scenario.name, findings, "failed, runs again");
  count(scenario, await run(options.server, scenario, kind));
}

/** A scenario with a known defect states it in `open` and does not count as failed. */
function count({ name, open }, findings) {
  const result = findings.isGood ? "passed" : open ? "open" : "failed";
  results[result] += 1;
  print(name, findings, result === "open" ? `open: ${open}` : result === "failed" ? "FAILED" : result);
}

function print(name, findings, verdict) {
  console.log(`${name}: ${verdict}`);
  for (const { name, isGood, figure } of findings.list) console.log(`  ${isGood ? "ok    " : "FAILED"} ${name.padEnd(10)} ${figure}`);
}

function finish() {
  const { passed, failed, skipped, open } = results;
  console.log(`hostile: ${open} open`);
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  process.exit(failed > 0 ? 1 : 0);
}
