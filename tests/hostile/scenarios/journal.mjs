/**
 * Clients that reconnect: a storm of them, and publishers that overwrite the events that they wait
 * for.
 */

import { Client, each, sleep } from "../wire.mjs";

const MIB = 1 << 20;
const ring = (segments, bytes) => ({ "--journal-segments-max": segments, "--journal-segment-bytes": bytes });

/** 99th percentile of the prober that any busy machine shows. */
const LIVE_MS = 10;

/**
 * Time during which a handshake is retried. Sessions of polling clients that disconnected without a
 * close packet count until their ping timeout, 45 seconds.
 */
const PLACE_MS = 50_000;

/** Maximum time that a client is disconnected. */
const AWAY_MS = 10_000;

async function publish(port, room, { events, bytes, joins = false }) {
  const publisher = await Client.open(port);
  if (joins) await publisher.ask("join", room);
  const payload = "x".repeat(bytes);
  let accepted = 0;
  for (let count = 0; count < events; count++) accepted += !(await publisher.ask("publish", room, "news", payload)).error;
  publisher.end();
  return accepted;
}

/**
 * A client that joined `room`, received its newest offset, and disconnected. Gives its credentials
 * for resuming.
 */
async function away(port, room) {
  const client = await Client.open(port);
  await client.ask("join", room);
  client.end();
  return { pid: client.pid, offset: client.offset };
}

/**
 * `clients` that missed `events` × `bytes` each send their CONNECT together and read all missed
 * events.
 */
async function returning(port, { clients, events, bytes }, begin) {
  const sessions = [];
  await each(clients, 32, async () => void sessions.push(await away(port, "hall")));
  await publish(port, "hall", { events, bytes });
  let refusals = 0;
  const end = performance.now() + PLACE_MS;
  await each(clients, 64, async (index) => {
    // Clients retry when the server has no session left.
    while (!sessions[index].client && performance.now() < end) {
      sessions[index].client = await Client.open(port, { connects: false }).catch(() => null);
      if (sessions[index].client) return;
      refusals += 1;
      await sleep(500);
    }
  });
  begin();
  let [resumed, whole] = [0, 0];
  /** The reasons why other clients received less, with their numbers. */
  const others = {};
  const count = (why) => (others[why] = (others[why] ?? 0) + 1);
  await each(clients, clients, async (index) => {
    const { client, pid, offset } = sessions[index];
    if (!client) return count("handshake refused");
    try {
      await client.connect({ pid, offset });
      const isResumed = client.pid === pid;
      resumed += isResumed;
      client.countOnly();
      while (isResumed && client.bytesRead < events * bytes && !client.isClosed) await sleep(20);
      const isWhole = client.bytesRead >= events * bytes;
      whole += isWhole;
      if (!isResumed) count("recovered: false");
      else if (!isWhole) count("closed before all was read");
    } catch (error) {
      count(error.message);
    }
    client.end();
  });
  return { resumed, whole, others, refusals };
}

/**
 * `idle` clients resume and read nothing; then `clients` resume that read all, for which they have
 * `ms`.
 */
async function besideNonReaders(port, { idle, clients, events, bytes, ms }, begin) {
  const sessions = [];
  await each(idle + clients, 32, async () => void sessions.push(await away(port, "hall")));
  await publish(port, "hall", { events, bytes });
  await each(idle, 32, async (index) => {
    const client = await Client.open(port, { auth: sessions[index] });
    client.stopReading();
  });
  begin();
  const started = performance.now();
  let whole = 0;
  await each(clients, clients, async (index) => {
    const client = await Client.open(port, { auth: sessions[idle + index] });
    client.countOnly();
    while (client.bytesRead < events * bytes && !client.isClosed && performance.now() < started + ms) await sleep(20);
    whole += client.bytesRead >= events * bytes;
  });
  return { whole, seconds: Math.round((performance.now() - started) / 1_000) };
}

/**
 * One publisher fills the ring while a client is disconnected and has missed one event, until all
 * is published or for `AWAY_MS`.
 */
async function overwrite(port, { room, joins, events, bytes }) {
  const auth = await away(port, "hall");
  await publish(port, "hall", { events: 1, bytes: 10 });
  const published = publish(port, room, { events, bytes, joins }).catch(() => 0);
  const accepted = await Promise.race([published, sleep(AWAY_MS).then(() => "not all")]);
  const client = await Client.open(port, { auth });
  return { isRecovered: client.pid === auth.pid, accepted };
}

const recovered = ({ findings, report }) => findings.check("recovered", report?.isRecovered, JSON.stringify(report));

export default [
  {
    name: "returning-storm",
    line: 9,
    about: "1 500 clients with 15 MB pending reconnect at the same time",
    full: { clients: 1_500, events: 16, bytes: 950_000, isLive: true, budget: 512 * MIB },
    ci: { clients: 40, events: 6, bytes: 500_000, budget: 256 * MIB },
    life: { clients: 600, events: 12, bytes: 500_000 },
    attack: returning,
    attackMs: 60_000 + PLACE_MS,
    judge({ findings, report, size, calm, attacked, after, log, before, metrics }) {
      const usual = Math.max(calm.p99, after.p99, LIVE_MS);
      if (size.isLive) findings.check("live", attacked.p99 <= 2 * usual, `p99 ${usual.toFixed(0)} → ${attacked.p99.toFixed(0)} ms`);
      findings.check("delivered", report?.whole === size.clients, `${JSON.stringify(report)} of ${size.clients}`);
      if (!report?.refusals) return;
      const name = 'stentor_requests_refused_total{code="4",reason="full"}';
      findings.check("metric", metrics.get(name) > (before.get(name) ?? 0), `${name} ${metrics.get(name)}`);
      const line = log.split("\n").find((line) => /refused reason="Too many sessions"/.test(line));
      findings.check("log", line, line?.slice(0, 160) ?? "no line says: Too many sessions");
    },
  },
  {
    name: "resumed-non-readers",
    line: 9,
    about: "200 clients resume and read nothing, 50 others resume after them",
    full: { idle: 200, clients: 50, events: 12, bytes: 500_000, ms: 20_000, budget: 256 * MIB, flags: { "--memory-max": 256 * MIB } },
    life: { idle: 200, clients: 50, events: 12, bytes: 500_000, ms: 20_000 },
    attack: besideNonReaders,
    attackMs: 60_000,
    judge({ findings, report, size }) {
      findings.check("delivered", report?.whole === size.clients, `${JSON.stringify(report)} of ${size.clients} within ${size.ms / 1_000} s`);
    },
  },
  {
    name: "publish-to-nobody",
    line: 10,
    about: "publishes beyond the ring's capacity to a room without members",
    full: { room: "empty", events: 300, bytes: 950_000, budget: 256 * MIB },
    ci: { room: "empty", events: 12, bytes: 500_000, flags: ring(2, 2 * MIB) },
    life: { room: "empty", events: 300, bytes: 950_000 },
    attack: overwrite,
    judge: recovered,
  },
  {
    name: "publish-to-itself",
    line: 10,
    about: "publishes beyond the ring's capacity to a room with the publisher only",
    full: { room: "own", joins: true, events: 300, bytes: 950_000, budget: 256 * MIB },
    ci: { room: "own", joins: true, events: 12, bytes: 500_000, flags: ring(2, 2 * MIB) },
    life: { room: "own", joins: true, events: 300, bytes: 950_000 },
    attack: overwrite,
    named: { log: /share of the journal is spent socket=/, metric: /stentor_journal_waits/ },
    judge: recovered,
  },
];
