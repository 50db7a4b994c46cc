/** Sessions in many rooms: their journal records must not exceed the capacity of the ring. */

import { Client, each, sleep } from "../wire.mjs";

const MIB = 1 << 20;

function* joins(count, bytes, prefix = "") {
  for (let index = 0; index < count; index++) yield `42["join","${(prefix + index).padEnd(bytes, "x")}"]`;
}

/** `sockets` connections that all join the same `rooms` and stay for `holdMs`. */
async function fill(port, { sockets, rooms, bytes, holdMs }) {
  let written = 0;
  await each(sockets, sockets, async () => {
    const client = await Client.open(port);
    client.discard();
    written += await client.pour(joins(rooms, bytes), 20_000);
  });
  await sleep(holdMs);
  return { written };
}

/**
 * `count` connections one after the other, `width` at a time; each joins its own `rooms` rooms and
 * disconnects without a close frame.
 */
async function visit(port, { count, width, rooms, bytes, ms }) {
  const end = performance.now() + ms;
  let visits = 0;
  await each(count, width, async (index) => {
    if (performance.now() > end) return;
    try {
      const client = await Client.open(port);
      await client.pour(joins(rooms - 1, bytes, `${index}-`));
      await client.ask("join", `${index}-last`.padEnd(bytes, "x"));
      client.end();
      visits += 1;
    } catch {
      // Refused, which is one way to bound them.
    }
  });
  return { visits };
}

const ring = (segments, bytes) => ({ "--journal-segments-max": segments, "--journal-segment-bytes": bytes });

export default [
  {
    name: "rooms-fill-the-ring",
    line: 1,
    about: "12 sockets join 65 535 rooms of 256 bytes",
    full: { sockets: 12, rooms: 65_535, bytes: 256, holdMs: 5_000, budget: 512 * MIB },
    ci: { sockets: 4, rooms: 6_000, bytes: 256, holdMs: 1_000, budget: 256 * MIB, flags: ring(2, MIB) },
    life: { sockets: 12, rooms: 65_535, bytes: 256, holdMs: 2_000 },
    attack: fill,
    restarts: true,
    named: { log: /WARN.* join refused sid=.* reason=/, metric: /joins_refused/ },
  },
  {
    name: "short-connections",
    line: 1,
    about: "8 770 connections join 100 rooms of 256 bytes each and disconnect",
    full: { count: 8_770, width: 32, rooms: 100, bytes: 256, ms: 30_000, budget: 512 * MIB },
    ci: { count: 120, width: 16, rooms: 100, bytes: 256, ms: 8_000, budget: 256 * MIB, flags: ring(2, MIB) },
    life: { count: 8_770, width: 32, rooms: 100, bytes: 256, ms: 20_000 },
    attack: visit,
    restarts: true,
  },
  {
    name: "population",
    line: 1,
    about: "ordinary clients in 20 rooms, more than the ring carries",
    full: { count: 20_000, width: 32, rooms: 20, bytes: 30, ms: 30_000, budget: 512 * MIB, flags: ring(8, MIB) },
    attack: visit,
    restarts: true,
  },
];
