/** Sessions in many rooms that are resumed repeatedly. */

import { Client, each } from "../wire.mjs";

const MIB = 1 << 20;

function* joins(count) {
  for (let index = 0; index < count; index++) yield `42["join","r${index}"]`;
}

async function resumeAgain(port, { sockets, rooms, ms }) {
  let resumed = 0;
  const clients = [];
  await each(sockets, sockets, async (index) => {
    const client = await Client.open(port);
    await client.pour(joins(rooms), 20_000);
    await client.ask("join", "own");
    clients[index] = client;
  });
  const end = performance.now() + ms;
  await each(sockets, sockets, async (index) => {
    let current = clients[index];
    while (performance.now() < end) {
      try {
        const { pid, offset } = current;
        const next = await Client.open(port, { auth: { pid, offset } });
        next.offset = offset;
        resumed += next.pid === pid;
        current.end();
        current = next;
      } catch {
        // Refused; the next attempt uses the same credentials.
      }
    }
  });
  return { resumed };
}

export default ["memory", "disk"].map((recovery) => ({
  name: `claims-${recovery}`,
  line: 4,
  about: `8 sockets in as many rooms as allowed resume their sessions repeatedly, recovery in ${recovery}`,
  flags: { "--recovery": recovery },
  full: { sockets: 8, rooms: 65_535, ms: 10_000, budget: 512 * MIB },
  life: recovery === "disk" && { sockets: 8, rooms: 65_535, ms: 8_000 },
  attack: resumeAgain,
}));
