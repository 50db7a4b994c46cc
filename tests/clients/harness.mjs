/**
 * Starts the real binary on a free port and connects clients to it. Nothing here sleeps for a fixed time: everything
 * waits for a fact, with a deadline that says in its error which fact did not come.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { io as stock } from "socket.io-client";
import { WebSocket } from "ws";
import { io as ours } from "../../static/client/index.js";

const BINARY = path.resolve(import.meta.dirname, process.env.STENTOR_BIN ?? "../../target/debug/stentor");
const TOUR = path.resolve(import.meta.dirname, process.env.STENTOR_TOUR ?? "../../target/debug/examples/tour");

const START_MS = 10_000;
const STOP_MS = 10_000;
export const FACT_MS = 5_000;

/** How many characters of what a hub printed a failure repeats. */
const OUTPUT_LENGTH = 4_000;

/** How often a fact that announces itself by no event is looked at again. */
const POLL_MS = 20;

/** What holds on every transport holds for each of these rows. */
export const TRANSPORTS = [
  { name: "websocket", transports: ["websocket"] },
  { name: "polling", transports: ["polling"] },
  { name: "upgraded", transports: ["polling", "websocket"] },
];

/** What holds for one client holds for the other. Node 20 has no WebSocket of its own: ours is given one. */
export const CLIENTS = {
  "socket.io-client": stock,
  "static/client": (url, options) => ours(url, { WebSocket, ...options }),
};

export const RECOVERIES = ["off", "memory"];

/**
 * Settles as `promise` does, or rejects once `ms` have passed without `what`.
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
 * Asks `probe` again and again until what it returns is `ok`.
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
    await pause(POLL_MS);
  }
}

async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

async function accepts(port) {
  const socket = net.connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/**
 * Starts `stentor serve` and resolves once it accepts connections.
 * @param {{ recovery?: "off" | "memory", port?: number, flags?: string[] }} [options]
 */
export async function startHub({ recovery = "off", port, flags = [] } = {}) {
  port ??= await freePort();
  return start(port, BINARY, ["serve", "--port", String(port), "--recovery", recovery, ...flags]);
}

/** The servers that do what `examples/tour.rs` says: ours, ours inside a host's application, and Node's. */
export const TOURS = {
  "its own port": (port) => [TOUR, [port]],
  "inside a host": (port) => [TOUR, [port, "hosted"]],
  "Node's socket.io": (port) => [process.execPath, [path.join(import.meta.dirname, "reference.mjs"), port]],
};

/** Starts one of those. */
export async function startTour(name) {
  const port = await freePort();
  return start(port, ...TOURS[name](String(port)));
}

async function start(port, program, args) {
  const process = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [process.stdout, process.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
  // What a failure repeats of it. A backtrace is longer than what says why it was printed.
  const said = () => {
    const panic = output.indexOf("panicked at");
    return panic < 0 ? output.slice(-OUTPUT_LENGTH) : output.slice(output.lastIndexOf("\n", panic) + 1).slice(0, OUTPUT_LENGTH);
  };
  let stopping = false;
  let ended = null;
  const exit = new Promise((resolve) => {
    process.on("exit", (code, signal) => resolve((ended = { code, signal })));
    process.on("error", (error) => resolve((ended = { error: error.message })));
  });

  const hub = {
    port,
    url: `http://127.0.0.1:${port}`,

    running: () => ended === null,

    /** Fails with what the process printed when it has ended without being asked to. */
    assertRunning() {
      if (ended && !stopping) throw new Error(`the hub ended by itself: ${JSON.stringify(ended)}; it had printed:\n${said()}`);
    },

    /** Asks the process to end; fails unless it does so in time and calls it a success. */
    async stop() {
      hub.assertRunning();
      stopping = true;
      process.kill("SIGTERM");
      try {
        await within("exit after SIGTERM", exit, STOP_MS);
      } catch (error) {
        process.kill("SIGKILL");
        await exit;
        throw new Error(`${error.message}; it had printed:\n${said()}`);
      }
      if (ended.code !== 0) throw new Error(`the hub ended with ${JSON.stringify(ended)}; it had printed:\n${said()}`);
    },
  };

  try {
    await eventually(
      `listener on port ${port}`,
      async () => ended ?? (await accepts(port)),
      (value) => {
        if (value === true || value === false) return value;
        throw new Error(`${program} ended before it listened: ${JSON.stringify(value)}`);
      },
      START_MS,
    );
  } catch (error) {
    process.kill("SIGKILL");
    throw new Error(`${error.message}; it had printed:\n${said()}`);
  }
  return hub;
}

const clients = new Set();

/**
 * A client of `hub` that is not connected yet, as far as anyone has waited for it: the stock one unless `io` says otherwise.
 * Closed by `closeClients`.
 */
export function client(hub, { io = stock, transports, namespace = "/", ...options }) {
  const socket = io(hub.url + namespace, { transports, forceNew: true, reconnection: false, ...options });
  clients.add(socket);
  return socket;
}

/** A connected client of `hub`; with two transports, one that has finished its upgrade. */
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

/** Closes every client of this file; an after-hook. */
export function closeClients() {
  for (const socket of clients) socket.disconnect();
  clients.clear();
}

/** The arguments of the next `event` on a socket, an engine or a manager. */
export function next(emitter, event) {
  return later(`"${event}"`, new Promise((resolve) => emitter.once(event, (...args) => resolve(args))));
}

/** Emits and resolves with the arguments of the ack. */
export function ask(socket, event, ...args) {
  const answer = new Promise((resolve) => socket.emit(event, ...args, (...answer) => resolve(answer)));
  return later(`ack of "${event}"`, answer);
}

/** A fact that a test may start to wait for only later: a test that has failed by then is not told a second time. */
function later(what, promise) {
  const fact = within(what, promise);
  fact.catch(() => {});
  return fact;
}

/** Collects every `event` that a socket hears, without the offset token that recovery appends. */
export function listen(socket, event) {
  const heard = [];
  const waiting = [];
  socket.on(event, (...args) => {
    heard.push(socket._pid ? args.slice(0, -1) : args);
    for (const check of waiting) check();
  });
  return {
    heard,
    /** Resolves once `count` events have come. */
    async count(count) {
      const enough = new Promise((resolve) => {
        const check = () => heard.length >= count && resolve();
        waiting.push(check);
        check();
      });
      const said = `${count} × "${event}"`;
      await within(said, enough).catch((error) => {
        throw new Error(`${error.message}, heard ${heard.length}: ${JSON.stringify(heard).slice(0, 400)}`);
      });
      return heard;
    },
  };
}

let rooms = 0;

/** A room that no other test of this process uses. */
export function freshRoom() {
  rooms += 1;
  return `room-${rooms}`;
}
