/**
 * Operations of clients and waits for their results, in Node and in pages; it has no imports.
 * Nothing sleeps for a fixed time: every wait has a deadline, and its error names the missing
 * result.
 */

export const FACT_MS = 5_000;

/** `ack_wait` of the hubs that `startQueueHub` starts. */
export const ACK_WAIT_MS = 1_000;

/** Interval between two checks of a condition without an event. */
const POLL_MS = 20;

/** Transports; a test that applies to all runs for each row. */
export const TRANSPORTS = [
  { name: "websocket", transports: ["websocket"] },
  { name: "polling", transports: ["polling"] },
  { name: "upgraded", transports: ["polling", "websocket"] },
];

/**
 * Settles like `promise`; rejects with the name `what` after `ms`.
 * @template T
 * @param {string} what
 * @param {Promise<T>} promise
 * @returns {Promise<T>}
 */
export async function within(what, promise, ms = FACT_MS) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Calls `probe` repeatedly until its result is `ok`.
 * @template T
 * @param {string} what
 * @param {() => Promise<T>} probe
 * @param {(value: T) => boolean} ok
 */
export async function eventually(what, probe, ok, ms = FACT_MS) {
  const deadline = Date.now() + ms;
  for (;;) {
    const value = await probe();
    if (ok(value)) return value;
    if (Date.now() > deadline) throw new Error(`no ${what} within ${ms} ms, last seen: ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

const clients = new Set();

/** A client of `hub` made by `io`, which may not be connected yet. Closed by `closeClients`. */
export function client(hub, { io, transports, namespace = "/", ...options }) {
  const socket = io(hub.url + namespace, { transports, forceNew: true, reconnection: false, ...options });
  clients.add(socket);
  return socket;
}

/** A connected client of `hub`; with two transports its upgrade has finished. */
export async function connect(hub, { transports, ...options }) {
  const socket = client(hub, { transports, ...options });
  const upgraded = transports.length > 1 ? next(socket.io.engine, "upgrade") : null;
  await connected(socket);
  await upgraded;
  return socket;
}

export async function connected(socket) {
  const refused = new Promise((_, reject) => {
    socket.once("connect_error", (error) => reject(new Error(`connect_error: ${error.message}`, { cause: error })));
  });
  await within("connect", Promise.race([new Promise((resolve) => socket.once("connect", resolve)), refused]));
}

/** Closes every client of this file, with the other sockets of its connection; an after-hook. */
export function closeClients() {
  for (const { io } of clients) for (const socket of Object.values(io.nsps)) socket.disconnect();
  clients.clear();
}

/** Arguments of the next `event` on a socket, an engine or a manager. */
export function next(emitter, event) {
  return later(`"${event}"`, new Promise((resolve) => emitter.once(event, (...args) => resolve(args))));
}

/** Emits; resolves with the arguments of the ack. */
export function ask(socket, event, ...args) {
  const answer = new Promise((resolve) => socket.emit(event, ...args, (...answer) => resolve(answer)));
  return later(`ack of "${event}"`, answer);
}

/** A result that a test may await later: a rejection before that is not reported as unhandled. */
function later(what, promise) {
  const fact = within(what, promise);
  fact.catch(() => {});
  return fact;
}

/** Collects every `event` of a socket, without the offset that recovery appends. */
export function listen(socket, event) {
  const received = [];
  const waiting = [];
  socket.on(event, (...args) => {
    received.push(socket._pid ? args.slice(0, -1) : args);
    for (const check of waiting) check();
  });
  return {
    received,
    /** Resolves once `count` events have arrived. */
    async count(count) {
      const enough = new Promise((resolve) => {
        const check = () => received.length >= count && resolve();
        waiting.push(check);
        check();
      });
      const said = `${count} × "${event}"`;
      await within(said, enough).catch((error) => {
        throw new Error(`${error.message}, received ${received.length}: ${JSON.stringify(received).slice(0, 400)}`);
      });
      return received;
    },
  };
}

let rooms = 0;

/** A room that no other test of this process uses. */
export function freshRoom() {
  rooms += 1;
  return `room-${rooms}`;
}
