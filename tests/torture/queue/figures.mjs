/** Figures of a run as a table for `docs/benchmarks.md`, with all that repeats the run. */

import { spawnSync } from "node:child_process";
import os from "node:os";

/**
 * @param {{ seed: number, cycles: number, server: string, counts: object, figures: object }} run
 * @returns {string} a table in Markdown
 */
export function figuresOf({ seed, cycles, server, counts, figures }) {
  const { kills, stops, crashes, cuts, absences, reconnects, evictions } = counts;
  const { stored, deliveries, dead, lost, silent, gaps, left, repeated } = figures;
  const { stdout } = spawnSync("git", ["describe", "--always", "--dirty"], { cwd: import.meta.dirname, encoding: "utf8" });
  const [{ model }] = os.cpus();
  const planted = Object.entries(crashes).map(([point, times]) => `${times} ${point.replaceAll("_", " ")}`);
  const causes = Object.entries(repeated).sort(([, a], [, b]) => b - a);
  const rows = [
    ["command", `\`make torture-queue CYCLES=${cycles} SEED=${seed}${server === "stentor, queue" ? "" : ` QUEUE_SERVER="${server}"`}\``],
    ["commit", stdout?.trim() || "unknown"],
    ["machine", `${os.availableParallelism()} × ${model.trim()}, ${Math.round(os.totalmem() / 2 ** 30)} GiB`],
    ["ends of the server", [`${kills} SIGKILL`, `${stops} SIGTERM`, ...planted].join(", ")],
    ["faults of clients", `${cuts} cuts, ${absences} absences, ${reconnects} reconnects, ${evictions} evictions`],
    ["events stored", stored],
    ["**answered events lost**", `**${lost}**`],
    ["**events missed without notice**", `**${silent}**`],
    ["gaps, all of events that had expired", gaps],
    ["dead letters, all replayed", dead],
    ["events left in the store, all acknowledged", left ?? "unknown"],
    ["deliveries", deliveries],
    ...causes.map(([cause, times]) => [`repeated per million: ${cause}`, Math.round((times / deliveries) * 1e6)]),
  ];
  return ["| | |", "|---|---|", ...rows.map(([name, value]) => `| ${name} | ${value} |`)].join("\n");
}
