/** Total memory of many clients, each within its own limits. */

import { Client, dial, each, frameHead, request, sleep, ATTACKER } from "../wire.mjs";

const MIB = 1 << 20;

/**
 * Every connection requests echoes that it does not read. With `pongs` it answers pings as long as
 * it stays connected.
 */
async function unreadEchoes(port, { count, echoes, bytes, holdMs, pongs }) {
  const packet = `42["echo","${"x".repeat(bytes)}"]`;
  const clients = [];
  await each(count, 16, async () => {
    const client = await Client.open(port).catch(() => null);
    if (!client) return;
    client.stopReading();
    for (let id = 0; id < echoes; id++) client.send(packet.replace("42[", `42${id}[`));
    clients.push(client);
  });
  const end = performance.now() + holdMs;
  while (performance.now() < end) {
    await sleep(500);
    if (pongs) for (const client of clients) client.send("3");
  }
  return { opened: clients.length };
}

function* joins(count) {
  for (let index = 0; index < count; index++) yield `42["join","${String(index).padStart(6, "r")}"]`;
}

async function manyRooms(port, { count, rooms, holdMs }) {
  await each(count, count, async (index) => {
    const client = await Client.open(port);
    client.discard();
    await client.pour(joins(rooms), 20_000);
  });
  await sleep(holdMs);
}

/** Websocket messages without their last byte. */
async function partialMessages(port, { count, bytes, holdMs }) {
  const part = Buffer.concat([frameHead(bytes + 900), Buffer.alloc(bytes, "4")]);
  await each(count, 16, async () => {
    const client = await Client.open(port).catch(() => null);
    client?.write(part);
  });
  await sleep(holdMs);
}

/** Polling: one unfinished body for each of many sessions. */
async function partialBodies(port, { count, bytes, holdMs }) {
  await each(count, 16, async () => {
    const { status, body } = await request(port, "/socket.io/?EIO=4&transport=polling", { from: ATTACKER });
    if (status !== 200) return;
    const { sid } = JSON.parse(body.slice(1));
    const socket = await dial(port).catch(() => null);
    socket?.on("data", () => {}).write(
      `POST /socket.io/?EIO=4&transport=polling&sid=${sid} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n` +
        `Content-Type: text/plain;charset=UTF-8\r\nContent-Length: ${bytes + 900}\r\n\r\n${"4".repeat(bytes)}`,
    );
  });
  await sleep(holdMs);
}

/**
 * Senders that publish to a room whose members do not read, and disconnect while their publishes
 * are in flight.
 */
async function goneSenders(port, { members, senders, bytes, holdMs }) {
  await each(members, 64, async () => {
    const client = await Client.open(port).catch(() => null);
    await client?.ask("join", "hall").catch(() => {});
    client?.stopReading();
  });
  const packet = `42["publish","hall","x"]`;
  function* publishes() {
    for (let size = 0; size < bytes; size += packet.length) yield packet;
  }
  await each(senders, senders, async () => {
    const client = await Client.open(port).catch(() => null);
    await client?.pour(publishes(), 5_000);
    client?.end();
  });
  await sleep(holdMs);
}

export default [
  {
    name: "unread-echoes",
    line: 5,
    about: "170 connections request 4 echoes of 900 kB and never read; 1 GB of address space",
    full: { addressSpace: 1_000 * MIB, count: 170, echoes: 4, bytes: 900_000, holdMs: 3_000, budget: 512 * MIB },
    ci: { count: 30, echoes: 4, bytes: 900_000, holdMs: 1_000, growth: 64 * MIB, flags: { "--memory-max": 64 * MIB }, rateShare: 0 },
    life: { count: 170, echoes: 4, bytes: 900_000, holdMs: 2_000 },
    attack: unreadEchoes,
    named: { log: /WARN.* sid=/, metric: /outboxes_cut|incoming_refused/ },
  },
  {
    name: "ponging-non-readers",
    line: 5,
    about: "connections that read nothing and answer every ping",
    flags: { "--ping-interval": "1s", "--ping-timeout": "1s" },
    full: { count: 60, echoes: 4, bytes: 900_000, holdMs: 30_000, pongs: true, budget: 512 * MIB },
    attack: unreadEchoes,
    named: { log: /WARN.* client reads nothing sid=/, metric: /stalled_sessions|outboxes_cut/ },
    judge({ findings, server }) {
      const [now, peak] = [server.residentKib(), server.peakKib];
      findings.check("released", now < peak / 2, `${now >> 10} MiB held of ${peak >> 10}`);
    },
  },
  {
    name: "rooms-in-memory",
    line: 5,
    about: "20 connections join 65 535 rooms of 6 bytes",
    full: { count: 20, rooms: 65_535, holdMs: 2_000, budget: 128 * MIB },
    life: { count: 20, rooms: 65_535, holdMs: 1_000 },
    attack: manyRooms,
  },
  {
    name: "partial-messages",
    line: 5,
    about: "600 unfinished websocket messages of 1 MB",
    full: { count: 600, bytes: 998_000, holdMs: 3_000, budget: 400 * MIB },
    ci: { count: 100, bytes: 998_000, holdMs: 500, growth: 64 * MIB, flags: { "--memory-max": 64 * MIB } },
    life: { count: 600, bytes: 998_000, holdMs: 2_000 },
    attack: partialMessages,
    named: { log: /WARN.* sid=/, metric: /incoming_refused/ },
  },
  {
    name: "partial-bodies",
    line: 5,
    about: "400 unfinished polling requests of 1 MB",
    full: { count: 400, bytes: 998_000, holdMs: 3_000, budget: 400 * MIB },
    ci: { count: 100, bytes: 998_000, holdMs: 500, growth: 64 * MIB, flags: { "--memory-max": 64 * MIB } },
    life: { count: 400, bytes: 998_000, holdMs: 2_000 },
    attack: partialBodies,
    named: { log: /WARN.* refused/, metric: /incoming_refused/ },
  },
  {
    name: "gone-senders",
    line: 5,
    about: "704 kB of publishes by 20 senders that disconnect, to 5 000 members that do not read",
    full: { members: 5_000, senders: 20, bytes: 704_000 / 20, holdMs: 8_000, budget: 512 * MIB },
    life: { members: 600, senders: 20, bytes: 35_200, holdMs: 4_000 },
    attack: goneSenders,
    attackMs: 60_000,
  },
];
