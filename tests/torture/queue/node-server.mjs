/**
 * The part of the queue's vocabulary that the torture uses, on Node's socket.io, with a file to
 * which every change is appended. It survives a killed process, not a power cut. Its purpose is
 * planted bugs: the torture must find each of them.
 */

import { EventEmitter, once } from "node:events";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import http from "node:http";
import { json } from "node:stream/consumers";
import { Server } from "socket.io";

const [port, ping, file, bug] = process.argv.slice(2);

const IN_FLIGHT_MAX = 16;
const ACK_WAIT_MS = 500;
const BACK_OFF_MS = 50;

/** A bug strikes once in so many events. */
const RARE = 60;

const [point, crash] = (process.env.STENTOR_QUEUE_CRASH ?? "none:0").split(":");
let commits = 0;

const server = http.createServer((request, response) => void answer(request, response));
const io = new Server(server, { transports: ["polling", "websocket"], serveClient: false, pingInterval: Number(ping), pingTimeout: Number(ping) });

/** Emits the name of a subscriber that may have something to pull. */
const pulls = new EventEmitter();

const events = new Map();
const ids = new Map();
const subscribers = new Map();
let head = 0;

const tokenOf = (number) => `epoch---${String(number).padStart(9, "0")}`;
const numberOf = (token) => Number(token.slice(8));
const isStruck = (name, number) => bug === name && number % RARE === 0;

/** Appends a change and applies it; the only way to change the state. */
function change(...parts) {
  commits += 1;
  if (point === "before_commit" && commits === Number(crash)) process.abort();
  if (bug !== "forgets") appendFileSync(file, `${JSON.stringify(parts)}\n`);
  if (point === "after_commit" && commits === Number(crash)) process.abort();
  return CHANGES[parts[0]](...parts.slice(1));
}

const CHANGES = {
  publish(rooms, args, dedup, pendingFor) {
    const number = (head += 1);
    events.set(number, { rooms, args });
    if (dedup) ids.set(dedup, { number, content: JSON.stringify(args), pendingFor });
    for (const [name, subscriber] of subscribers) {
      const through = rooms.filter((room) => subscriber.rooms.has(room));
      if (through.length > 0 && !(isStruck("skipped", number) && name !== "witness")) subscriber.pending.set(number, { through, due: 0 });
    }
    return number;
  },
  subscriber(name) {
    subscribers.set(name, { name, rooms: new Set(), pending: new Map(), sent: new Set(), inFlight: new Map(), dead: new Map(), socket: null });
  },
  join: (name, room) => subscribers.get(name).rooms.add(room),
  leave(name, room) {
    const { rooms, pending } = subscribers.get(name);
    rooms.delete(room);
    for (const [number, event] of pending) {
      event.through = event.through.filter((other) => other !== room);
      if (event.through.length === 0) pending.delete(number);
    }
  },
  settle: (name, number) => subscribers.get(name).pending.delete(number),
  bury(name, number, reason) {
    const { pending, dead } = subscribers.get(name);
    dead.set(number, { reason, through: pending.get(number).through });
    pending.delete(number);
  },
  replay(name) {
    const { pending, dead } = subscribers.get(name);
    for (const [number, { through }] of dead) {
      events.set((head += 1), events.get(number));
      pending.set(head, { through, due: 0 });
    }
    dead.clear();
  },
  settleUpTo(name, upTo) {
    const { pending } = subscribers.get(name);
    for (const number of pending.keys()) if (number <= upTo) pending.delete(number);
  },
};

if (existsSync(file)) for (const line of readFileSync(file, "utf8").trimEnd().split("\n")) CHANGES[JSON.parse(line)[0]](...JSON.parse(line).slice(1));
const headAtStart = head;

/** Sends what may be sent to a subscriber. */
function pump(subscriber) {
  const { name, socket } = subscriber;
  if (socket) take(subscriber, IN_FLIGHT_MAX, (number, args, meta) => socket.emit(...args, meta, (reply) => respond(subscriber, number, reply)));
  else pulls.emit(name);
}

/** Takes events that may be sent, in order, until so many are in flight. */
function take(subscriber, limit, send) {
  const { pending, sent, inFlight } = subscriber;
  const ready = [...pending.keys()].sort((a, b) => (isStruck("reordered", Math.max(a, b)) ? b - a : a - b));
  for (const number of ready) {
    if (inFlight.size >= limit) return;
    if (inFlight.has(number) || pending.get(number).due > Date.now()) continue;
    const meta = { offset: tokenOf(number), room: pending.get(number).through[0] };
    if ((sent.has(number) || number <= headAtStart) && bug !== "unmarked") meta.redelivered = true;
    sent.add(number);
    inFlight.set(number, setTimeout(() => again(subscriber, number, 0), ACK_WAIT_MS));
    send(number, events.get(number).args, meta);
  }
}

function release({ inFlight }, number) {
  clearTimeout(inFlight.get(number));
  inFlight.delete(number);
}

function again(subscriber, number, delay) {
  release(subscriber, number);
  const event = subscriber.pending.get(number);
  if (event) event.due = Date.now() + delay;
  setTimeout(() => pump(subscriber), delay + 1);
}

function respond(subscriber, number, answer) {
  if (answer?.nak) {
    if (isStruck("nak lost", number)) change("settle", subscriber.name, number);
    return again(subscriber, number, answer.delay ?? BACK_OFF_MS);
  }
  release(subscriber, number);
  if (subscriber.pending.has(number)) change(answer?.term ? "bury" : "settle", subscriber.name, number, answer?.reason);
  pump(subscriber);
}

const lettersOf = ({ dead }) => ({ events: [...dead].map(([number, { reason }]) => ({ offset: tokenOf(number), reason })) });

function replay(subscriber) {
  const replayed = subscriber.dead.size;
  change("replay", subscriber.name);
  pump(subscriber);
  return { replayed };
}

function detach(subscriber, socket) {
  if (subscriber.socket !== socket) return;
  subscriber.socket = null;
  for (const number of [...subscriber.inFlight.keys()]) release(subscriber, number);
}

function attach(name, socket) {
  const isNew = !subscribers.has(name);
  if (isNew) change("subscriber", name);
  const subscriber = subscribers.get(name);
  const old = subscriber.socket;
  if (old) {
    detach(subscriber, old);
    old.emit("stentor:evicted");
    old.disconnect();
  }
  subscriber.socket = socket;
  for (const room of subscriber.rooms) socket.join(room), socket.join(`${room} durable`);
  socket.emit("stentor:attached", { status: isNew ? "reset" : "resumed", pending: subscriber.pending.size, gaps: [] });
  socket.on("disconnect", () => detach(subscriber, socket));
  pump(subscriber);
  return subscriber;
}

function publishDurable({ room, rooms = [room], dedup_id: dedup }, args, ack) {
  const known = dedup && ids.get(dedup);
  if (known && known.content !== JSON.stringify(args) && bug !== "no conflict") return ack({ error: { code: "conflict" } });
  if (known && bug !== "stored twice") return ack({ offset: tokenOf(known.number), duplicate: true, pending_for: known.pendingFor });
  const reveal = () => io.to(rooms).except(rooms.map((room) => `${room} durable`)).emit(...args);
  if (bug !== "revealed early") return commit();
  reveal();
  setTimeout(commit, 20);

  function commit() {
    const pendingFor = [...subscribers.values()].filter((one) => rooms.some((room) => one.rooms.has(room))).length;
    if (isStruck("lost", commits)) return ack({ offset: tokenOf(head), duplicate: false, pending_for: pendingFor });
    const number = change("publish", rooms, args, dedup ?? null, pendingFor);
    if (point === "before_reveal" && commits >= Number(crash)) process.abort();
    if (bug !== "revealed early") reveal();
    ack({ offset: tokenOf(number), duplicate: false, pending_for: pendingFor });
    for (const subscriber of subscribers.values()) pump(subscriber);
  }
}

io.on("connection", (socket) => {
  const { subscriber: name } = socket.handshake.auth;
  const subscriber = name ? attach(name, socket) : null;
  socket.on("join", (room, options, ack = options) => {
    if (options?.durable) {
      change("join", name, room);
      socket.join(`${room} durable`);
    }
    socket.join(room);
    ack({ room });
  });
  socket.on("leave", (room, ack) => {
    if (subscriber?.rooms.has(room)) change("leave", name, room);
    socket.leave(room), socket.leave(`${room} durable`);
    ack({ room });
  });
  socket.on("publish", (to, ...args) => {
    const ack = args.pop();
    if (to.durable) return publishDurable(to, args, ack);
    io.to(to).emit(...args);
    ack({ level: "accepted", offset: null });
  });
  socket.on("received", (offset, ack) => {
    if (bug !== "ack forgotten") change("settleUpTo", name, numberOf(offset));
    ack({ up_to: offset });
    for (const number of [...subscriber.inFlight.keys()]) if (number <= numberOf(offset)) release(subscriber, number);
    pump(subscriber);
  });
  socket.on("pending", (ack) => ack({ events: subscriber.pending.size, in_flight: subscriber.inFlight.size, dead_letters: subscriber.dead.size }));
  socket.on("dead", (_, ack) => ack(lettersOf(subscriber)));
  socket.on("replay_dead", (...args) => args.pop()(replay(subscriber)));
});

const REQUESTS = {
  PUT(name, { rooms }) {
    if (!subscribers.has(name)) change("subscriber", name);
    for (const room of rooms) change("join", name, room);
  },
  GET: (name) => ({ events: subscribers.get(name).pending.size }),
  async pull(name, { limit, wait_ms: wait }) {
    const pulled = [];
    const pull = () => take(subscribers.get(name), limit, (_, [event, ...args], meta) => pulled.push({ ...meta, event, args }));
    pull();
    if (pulled.length === 0) await once(pulls, name, { signal: AbortSignal.timeout(wait) }).then(pull, () => {});
    return { events: pulled };
  },
  ack: (name, { offsets }) => offsets.forEach((offset) => respond(subscribers.get(name), numberOf(offset))),
  nak: (name, { offset, delay }) => respond(subscribers.get(name), numberOf(offset), { nak: true, delay }),
  term: (name, { offset, reason }) => respond(subscribers.get(name), numberOf(offset), { term: true, reason }),
  dead: (name) => lettersOf(subscribers.get(name)),
  "dead/replay": (name) => replay(subscribers.get(name)),
};

async function answer(request, response) {
  const [name, ...path] = request.url.split("?")[0].split("/").slice(4);
  const action = path.join("/") || request.method;
  const body = request.method === "GET" ? {} : await json(request);
  const isKnown = request.method === "PUT" || subscribers.has(name);
  const reply = isKnown ? await REQUESTS[action](name, body) : { error: { code: "not_found" } };
  response.writeHead(isKnown ? 200 : 404, { "content-type": "application/json" }).end(JSON.stringify(reply ?? {}));
}

server.listen(Number(port), () => console.log(`node listens on http://127.0.0.1:${port}`));
process.on("SIGTERM", () => process.exit(0));
