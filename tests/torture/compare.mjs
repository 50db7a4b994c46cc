/**
 * The comparison: many stock clients whose connections break repeatedly for two seconds, against
 * Stentor and against Node's socket.io, each with and without recovery, one after another with one
 * schedule. It prints a table in Markdown.
 *
 * The server sees half of the breaks (FIN) and not the other half: it keeps a dead connection, as
 * when a phone changes networks. Clients that were not recovered rejoin their room, as applications
 * do.
 */

import { execFileSync } from "node:child_process";
import os from "node:os";
import { parseArgs } from "node:util";
import { count } from "./checker.mjs";
import { Client } from "./client.mjs";
import { History } from "./history.mjs";
import { Link } from "./proxy.mjs";
import { Publisher } from "./publisher.mjs";
import { Random } from "./random.mjs";
import { Server } from "./server.mjs";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    clients: { type: "string", default: "1000" },
    rounds: { type: "string", default: "3" },
    servers: { type: "string", default: "stentor, disk;stentor, off;node, recovery;node, off" },
  },
});

const TRANSPORTS = [["websocket"], ["polling"], ["polling", "websocket"]];

const ROOM_SIZE = 100;
const PUBLISHERS = 4;
const BREAK_MS = 2_000;

/** Duration of one round; each client breaks once in it, at its own time. */
const ROUND_MS = 15_000;

/** Pause between the bursts of a publisher. */
const PAUSE_MS = [500, 1_000];

/** Defaults of the client. */
const RECONNECTION = { reconnectionDelay: 1_000, reconnectionDelayMax: 5_000, timeout: 20_000 };

/**
 * Short, so that dead connections are noticed within the run. Socket.IO's defaults are 25 s and 20
 * s.
 */
const PING_MS = 5_000;

const SETTLE_MS = 60_000;

/** Time after which an event that a client has not received counts as lost. */
const LAST_MS = 15_000;

/** Number of clients that connect together at the start. */
const CONNECTING = 50;

async function measure(kind, { seed, clients: size, rounds }) {
  const random = new Random(`${seed} ${size}`);
  const history = new History();
  const server = new Server(kind, { ping: PING_MS });
  await server.start();
  const rooms = Array.from({ length: Math.ceil(size / ROOM_SIZE) }, (_, number) => `room ${number}`);
  const links = [];
  const clients = [];
  const publishers = [];
  const settled = (all) => history.until("clients in their rooms", () => all.every((one) => one.isSettled()), SETTLE_MS);
  try {
    for (let number = 0; number < size; number++) {
      const link = await new Link(server.port).listen();
      const options = { ...RECONNECTION, transports: TRANSPORTS[number % TRANSPORTS.length] };
      const client = new Client(history, `client ${number}`, link.url, options);
      client.join(rooms[number % rooms.length]);
      links.push(link);
      clients.push(client);
      if (clients.length % CONNECTING === 0) await settled(clients.slice(-CONNECTING));
    }
    for (let number = 0; number < PUBLISHERS; number++) {
      const options = { random: new Random(`${seed} publisher ${number}`), transports: ["websocket"] };
      publishers.push(new Publisher(history, `publisher ${number}`, `http://127.0.0.1:${server.port}`, options));
    }
    await settled([...clients, ...publishers]);
    for (const publisher of publishers) publisher.start(rooms, PAUSE_MS);
    const breaks = links.flatMap((link) =>
      Array.from({ length: rounds }, (_, round) => {
        const at = round * ROUND_MS + random.between(0, ROUND_MS - 2 * BREAK_MS);
        return broken(link, at, random.chance(0.5));
      }),
    );
    await Promise.all(breaks);
    for (const publisher of publishers) publisher.stop();
    await settled([...clients, ...publishers]);
    const markers = await Promise.all(rooms.map((room) => publishers[0].publish(room)));
    const stalled = () => clients.filter((client) => !client.isQuiet(markers)).length;
    await history.until("last event at each client", () => stalled() === 0, LAST_MS).catch(() => {});
    return { ...result(history, clients), stalled: stalled() };
  } finally {
    for (const one of [...clients, ...publishers]) one.close();
    for (const link of links) link.close();
    await server.remove();
  }
}

/** Makes the connection dead for a while after `at` milliseconds. */
function broken(link, at, isSeen) {
  return new Promise((done) => {
    setTimeout(() => {
      if (isSeen) link.drop();
      else link.silence(0);
      link.offline(BREAK_MS);
      setTimeout(done, BREAK_MS);
    }, at);
  });
}

/**
 * Events that a client must receive: those accepted for its room since its first confirmed join.
 */
function result(history, clients) {
  let expected = 0;
  let delivered = 0;
  for (const { entries } of history.logs) {
    const first = entries.find(({ kind, ok }) => kind === "join" && ok !== null);
    const received = new Set(entries.filter(({ kind }) => kind === "event").map(({ n }) => n));
    for (const { n, room, invoke, ok } of history.publishes) {
      if (ok === null || room !== first.room || invoke < first.ok) continue;
      expected += 1;
      if (received.has(n)) delivered += 1;
    }
  }
  const sum = (of) => clients.reduce((total, client) => total + client[of], 0);
  return { expected, delivered, reconnects: sum("reconnects"), recovered: sum("recovered"), ...count(history) };
}

const percent = (part, whole) => `${((100 * part) / whole).toFixed(part === whole ? 0 : 2)} %`;

const [seed, clients, rounds] = [values.seed, Number(values.clients), Number(values.rounds)];
const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
console.log(
  `${clients} stock clients (socket.io-client 4.8.4; websocket, polling and upgrade in equal parts) in rooms of ${ROOM_SIZE}, ` +
    `${rounds} breaks of ${BREAK_MS / 1000} s each, half of them unseen by the server; pings after ${PING_MS / 1000} s, ` +
    `pongs within ${PING_MS / 1000} s; seed ${seed}, commit ${commit}, ` +
    `Node ${process.version}, ${os.cpus().length} cores shared by all\n`,
);
console.log("| server | expected | delivered | reconnects | said `recovered` | silently lost | received twice | connected but receiving nothing |");
console.log("|---|---|---|---|---|---|---|---|");
for (const kind of values.servers.split(";")) {
  const { expected, delivered, reconnects, recovered, silent, repeated, stalled } = await measure(kind, { seed, clients, rounds });
  const cells = [kind, expected, percent(delivered, expected), reconnects, percent(recovered, reconnects), silent, repeated, stalled];
  console.log(`| ${cells.join(" | ")} |`);
}
process.exit(0);
