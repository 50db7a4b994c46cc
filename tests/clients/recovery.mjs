/** What the tests of recovery share: servers to be recovered by, and readers that lose their line and come back. */

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
  startReference,
  TRANSPORTS,
  within,
} from "./harness.mjs";
import { closeLines, openLine } from "./line.mjs";

/** `RECOVERY_AGAINST=node` runs the rows against Node's socket.io, by hand: each must fail there. */
export const AGAINST_NODE = process.env.RECOVERY_AGAINST === "node";

/** Short, so that idle connections have a clock to tell time by. */
export const PING_MS = 300;

/** The real binary, or Node, which over polling notices the end of a line by its ping timeout alone. */
export async function serve({ window = 120_000, pingTimeout = 20_000, recovery = "disk", flags = [], ...options } = {}) {
  if (AGAINST_NODE) return startReference({ window, ...options, pingTimeout: 1_000 });
  const times = { "--recovery-window": window, "--ping-interval": PING_MS, "--ping-timeout": pingTimeout };
  const set = Object.entries(times).flatMap(([flag, ms]) => [flag, `${ms}ms`]);
  return startHub({ recovery, flags: ["--namespaces", "/other", ...set, ...flags], ...options });
}

/** The example with middleware and handlers of its own. */
export async function newsroom(options) {
  return AGAINST_NODE ? startReference({ ...options, pingTimeout: 1_000 }) : startNewsroom(options);
}

/** A server for all tests of a block. */
export function shared(start) {
  const hub = {};
  before(async () => Object.assign(hub, await start()));
  afterEach(() => {
    closeClients();
    closeLines();
    hub.assertRunning();
  });
  after(() => hub.stop());
  return hub;
}

/** A block for each transport. */
export function onEveryTransport(rows) {
  for (const { name, transports } of TRANSPORTS) describe(name, () => rows(transports));
}

/** Comes back at once. */
const RETURNING = { reconnection: true, reconnectionDelay: 10, reconnectionDelayMax: 20, randomizationFactor: 0 };

/** A client that is never cut off, to act and to look. */
export function witness(hub, options) {
  return connect(hub, { transports: ["websocket"], auth: { name: "witness" }, ...options });
}

/** A reader on a line of its own, in a room of its own, who has heard of `heard`; and a witness. */
export async function stage(hub, { heard = ["first"], ...options }) {
  const [line, seen] = [await openLine(hub), await witness(hub, { parser: options.parser })];
  const socket = await connect(line, { ...RETURNING, ...options });
  const room = freshRoom();
  const news = listen(socket, "news");
  await ask(socket, "join", room);
  await publish(seen, room, ...heard);
  await news.count(heard.length);
  return { line, witness: seen, socket, transports: options.transports, id: socket.id, pid: socket._pid, room, news };
}

/** Publishes words as news to a room, one after the other. */
export async function publish(by, room, ...words) {
  for (const word of words) await ask(by, "publish", room, "news", word);
}

export async function members(by, room) {
  const [{ members }] = await ask(by, "members", room);
  return members;
}

/** The server has noticed that a socket has gone. */
export function gone(by, room, id) {
  return eventually(`end of ${id}`, () => members(by, room), (ids) => !ids.includes(id));
}

/** Cuts the line, and waits for the server to notice: there is nothing to be noticed between two polls, nor during an upgrade. */
export async function cut({ line, socket, transports, witness, room, id }) {
  const { engine } = socket.io;
  if (engine.transport.name !== transports.at(-1)) await next(engine, "upgrade");
  await ask(socket, "echo", "settled");
  if (transports.at(-1) === "polling" && !AGAINST_NODE) await line.polled();
  line.cut();
  await gone(witness, room, id);
}

/** Settles when a client that has lost its connection is back: rejects when it is refused. */
export function back(socket) {
  const settled = new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    // A client that does not get through goes on trying.
    socket.on("connect_error", (error) => socket.active || reject(error));
  });
  const fact = within("reconnect", settled, 2 * FACT_MS);
  fact.catch(() => {});
  return fact;
}

/** Opens the line again, and waits for the client to come back. A polling one would tell the server first that it has gone. */
export async function restore({ line, socket }) {
  const returned = back(socket);
  if (socket.connected) await next(socket, "disconnect");
  await line.knocked();
  line.restore();
  await returned;
}

/** What comes from the wire for a client from here on: packets as they are decoded, whatever becomes of them. */
export function packets(socket) {
  const seen = [];
  socket.io.on("packet", (packet) => seen.push(packet));
  return seen;
}

/** A client that does not connect yet, with the private id and the last offset of another. */
export function twin(hub, socket, options) {
  const other = client(hub, { transports: ["websocket"], auth: socket.auth, autoConnect: false, ...options });
  [other._pid, other._lastOffset] = [socket._pid, socket._lastOffset];
  return other;
}

/** A client whose CONNECT says what the test wants it to say. */
export async function claim(hub, auth, { transports = ["websocket"], ...options } = {}) {
  const socket = client(hub, { transports, auth, ...options });
  const news = listen(socket, "news");
  await connected(socket);
  return { socket, news };
}

/** A scrape before anybody has asked to be recovered. */
export const NONE = Object.fromEntries(
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

/** What a scrape tells of recoveries, by verdict. */
export async function verdicts(hub) {
  const text = await scrape(hub);
  const found = text.matchAll(/^stentor_recoveries_total\{verdict="(\w+)"\} (\d+)$/gm);
  return Object.fromEntries(Array.from(found, ([, verdict, count]) => [verdict, Number(count)]));
}

/** Sessions open now, by whatever transport. */
export async function connections(hub) {
  const text = await scrape(hub);
  const found = text.matchAll(/^stentor_connections\{transport="\w+"\} (\d+)$/gm);
  return Array.from(found, ([, count]) => Number(count)).reduce((sum, count) => sum + count, 0);
}

async function scrape(hub) {
  const response = await fetch(`${hub.url}/metrics`);
  return response.text();
}
