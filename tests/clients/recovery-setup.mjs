/** Set-up of the recovery tests: servers, and readers that lose their connection and reconnect. */

import { after, afterEach, before, describe } from "node:test";
import {
  ask,
  client,
  closeClients,
  connect,
  connected,
  eventually,
  FACT_MS,
  freshRoom,
  listen,
  next,
  startHub,
  startNewsroom,
  startNodeRecovery,
  TRANSPORTS,
  within,
} from "./harness.mjs";
import { closeProxies, openProxy } from "./proxy.mjs";

/**
 * `RECOVERY_AGAINST=node` runs the tests against Node's socket.io, by hand: each must fail there.
 */
export const AGAINST_NODE = process.env.RECOVERY_AGAINST === "node";

/** Short, so that tests can count pings to measure time. */
export const PING_MS = 300;

/** The real binary, or Node, which notices a lost polling connection only by its ping timeout. */
export async function serve({ window = 120_000, pingTimeout = 20_000, recovery = "disk", flags = [], ...options } = {}) {
  if (AGAINST_NODE) return startNodeRecovery({ window, ...options, pingTimeout: 1_000 });
  const times = { "--recovery-window": window, "--ping-interval": PING_MS, "--ping-timeout": pingTimeout };
  const set = Object.entries(times).flatMap(([flag, ms]) => [flag, `${ms}ms`]);
  return startHub({ recovery, flags: ["--namespaces", "/other", ...set, ...flags], ...options });
}

/** The server with middleware and handlers of its own. */
export async function serveNewsroom(options) {
  return AGAINST_NODE ? startNodeRecovery({ ...options, pingTimeout: 1_000 }) : startNewsroom(options);
}

/** One server for all tests of a suite. */
export function sharedServer(start) {
  const hub = {};
  before(async () => Object.assign(hub, await start()));
  afterEach(() => {
    closeClients();
    closeProxies();
    hub.assertRunning();
  });
  after(() => hub.stop());
  return hub;
}

/** Declares a suite for each transport. */
export function onEveryTransport(rows) {
  for (const { name, transports } of TRANSPORTS) describe(name, () => rows(transports));
}

/** Options of a client that reconnects immediately. */
const RECONNECTING = { reconnection: true, reconnectionDelay: 10, reconnectionDelayMax: 20, randomizationFactor: 0 };

/** A client that never disconnects; it publishes and queries. */
export function connectPeer(hub, options) {
  return connect(hub, { transports: ["websocket"], auth: { name: "peer" }, ...options });
}

/** A reader behind its own proxy and in its own room, which has received `received`, and a peer. */
export async function setUp(hub, { received = ["first"], ...options }) {
  const [proxy, peer] = [await openProxy(hub), await connectPeer(hub, { parser: options.parser })];
  const socket = await connect(proxy, { ...RECONNECTING, ...options });
  const room = freshRoom();
  const news = listen(socket, "news");
  await ask(socket, "join", room);
  await publish(peer, room, ...received);
  await news.count(received.length);
  return { proxy, peer, socket, transports: options.transports, id: socket.id, pid: socket._pid, room, news };
}

/** Publishes words as news to a room, one after the other. */
export async function publish(by, room, ...words) {
  for (const word of words) await ask(by, "publish", room, "news", word);
}

export async function members(by, room) {
  const [{ members }] = await ask(by, "members", room);
  return members;
}

/** Resolves once the server has noticed that a socket has disconnected. */
export function leftRoom(by, room, id) {
  return eventually(`end of ${id}`, () => members(by, room), (ids) => !ids.includes(id));
}

/**
 * Cuts the connection and waits for the server to notice. Between two polls or during an upgrade
 * there would be nothing to notice.
 */
export async function cut({ proxy, socket, transports, peer, room, id }) {
  const { engine } = socket.io;
  if (engine.transport.name !== transports.at(-1)) await next(engine, "upgrade");
  await ask(socket, "echo", "settled");
  if (transports.at(-1) === "polling" && !AGAINST_NODE) await proxy.waitingPoll();
  proxy.cut();
  await leftRoom(peer, room, id);
}

/** Resolves when a client has reconnected; rejects when it is refused. */
export function reconnected(socket) {
  const settled = new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    // A client that cannot connect tries again.
    socket.on("connect_error", (error) => socket.active || reject(error));
  });
  const fact = within("reconnect", settled, 2 * FACT_MS);
  fact.catch(() => {});
  return fact;
}

/**
 * Restores the connection and waits for the client to reconnect. A polling client must notice the
 * loss first, or it would send a close packet.
 */
export async function restore({ proxy, socket }) {
  const returned = reconnected(socket);
  if (socket.connected) await next(socket, "disconnect");
  await proxy.nextAttempt();
  proxy.restore();
  await returned;
}

/** Packets that a client decodes from now on. */
export function packets(socket) {
  const seen = [];
  socket.io.on("packet", (packet) => seen.push(packet));
  return seen;
}

/** A client, not yet connected, with the private id and the last offset of another. */
export function staleCopy(hub, socket, options) {
  const other = client(hub, { transports: ["websocket"], auth: socket.auth, autoConnect: false, ...options });
  [other._pid, other._lastOffset] = [socket._pid, socket._lastOffset];
  return other;
}

/** Connects a client with this CONNECT data. */
export async function connectWith(hub, auth, { transports = ["websocket"], ...options } = {}) {
  const socket = client(hub, { transports, auth, ...options });
  const news = listen(socket, "news");
  await connected(socket);
  return { socket, news };
}

/** Recovery metrics before any recovery was requested. */
export const NO_RECOVERIES = Object.fromEntries(
  [
    "recovered",
    "malformed",
    "foreign_epoch",
    "unknown_pid",
    "other_namespace",
    "too_many_rooms",
    "given_up",
    "expired",
    "future_offset",
    "unknown_offset",
    "old_offset",
    "ack_missed",
    "trimmed",
    "nothing_to_recover",
  ].map((verdict) => [verdict, 0]),
);

/** Recovery metrics by verdict. */
export async function verdicts(hub) {
  const text = await scrape(hub);
  const found = text.matchAll(/^stentor_recoveries_total\{verdict="(\w+)"\} (\d+)$/gm);
  return Object.fromEntries(Array.from(found, ([, verdict, count]) => [verdict, Number(count)]));
}

/** Number of open sessions on any transport. */
export async function connections(hub) {
  const text = await scrape(hub);
  const found = text.matchAll(/^stentor_connections\{transport="\w+"\} (\d+)$/gm);
  return Array.from(found, ([, count]) => Number(count)).reduce((sum, count) => sum + count, 0);
}

async function scrape(hub) {
  const response = await fetch(`${hub.url}/metrics`);
  return response.text();
}
