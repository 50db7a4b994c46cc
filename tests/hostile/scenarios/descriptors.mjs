/** No free descriptors while the journal needs new segments. */

import { Client, dial, each, sleep } from "../wire.mjs";

const MIB = 1 << 20;

/**
 * Publishes to a room with a member until the journal needs new segments, with all descriptors in
 * use.
 */
async function exhaust(port, { idle, events, bytes }) {
  const publisher = await Client.open(port);
  await publisher.ask("join", "own");
  // A reset is an acceptable refusal: the server had no descriptor left.
  await each(idle, idle, async () => void (await dial(port).catch(() => {})));
  await sleep(500);
  const payload = "x".repeat(bytes);
  let accepted = 0;
  for (let count = 0; count < events; count++) {
    const answer = await publisher.ask("publish", "own", "news", payload).catch(() => null);
    accepted += answer !== null && !answer.error;
  }
  await sleep(1_000);
  return { accepted };
}

export default [
  {
    name: "descriptors",
    line: 2,
    about: "80 idle connections at 64 descriptors, and publishes over segment boundaries",
    flags: { "--journal-segment-bytes": MIB },
    full: { nofile: 64, idle: 80, events: 60, bytes: 100_000, budget: 256 * MIB },
    ci: { nofile: 64, idle: 80, events: 30, bytes: 100_000, budget: 256 * MIB },
    life: { idle: 1_100, events: 80, bytes: 900_000 },
    attack: exhaust,
    restarts: true,
    judge({ findings, log }) {
      const failed = log.split("\n").find((line) => line.includes("journal failed"));
      findings.check("journal", !failed, failed ?? "written all the time");
    },
  },
];
