/**
 * Starts the real binary on a free port and connects clients to it. `actions.mjs` has the
 * operations of clients.
 */

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { io as stock } from "socket.io-client";
import { WebSocket } from "ws";
import { io as ours } from "../../static/client/index.js";
import { accepts, freePort } from "../ports.mjs";
import * as actions from "./actions.mjs";

export * from "./actions.mjs";

const BINARY = path.resolve(import.meta.dirname, process.env.STENTOR_BIN ?? "../../target/debug/stentor");
const EXAMPLES = path.resolve(import.meta.dirname, process.env.STENTOR_EXAMPLES ?? "../../target/debug/examples");
const TOUR = path.join(EXAMPLES, "tour");

const START_MS = 10_000;
const STOP_MS = 10_000;

/** Maximum number of characters of a hub's output in an error. */
const OUTPUT_LENGTH = 4_000;

/** Client libraries under test. Node 20 has no WebSocket of its own, so ours is given one. */
export const CLIENTS = {
  "socket.io-client": stock,
  "static/client": (url, options) => ours(url, { WebSocket, ...options }),
};

export const RECOVERIES = ["off", "disk"];

const folders = [];
process.on("exit", () => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));

/** Path of a journal folder that does not exist yet; removed when this process ends. */
export function freshFolder() {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stentor-test-"));
  folders.push(folder);
  return path.join(folder, "data");
}

/**
 * Starts `stentor serve` and resolves once it accepts connections.
 * @param {{ recovery?: "off" | "memory" | "disk", folder?: string, port?: number, flags?: string[] }} [options]
 */
export async function startHub({ recovery = "off", folder, port, flags = [] } = {}) {
  port ??= await freePort();
  const kept = recovery === "disk" ? ["--data-dir", folder ?? freshFolder()] : [];
  return start(port, BINARY, ["serve", "--port", String(port), "--recovery", recovery, ...kept, ...flags]);
}

/** Starts `stentor serve` with a queue on disk whose events are soon sent again. */
export function startQueueHub() {
  return startHub({ recovery: "disk", flags: ["--ack-wait", `${actions.ACK_WAIT_MS}ms`, "--back-off", "50ms"] });
}

/** Starts `tests/servers/newsroom.rs`, which stores events in memory, or in `folder`. */
export async function startNewsroom({ folder, port } = {}) {
  port ??= await freePort();
  return start(port, path.join(EXAMPLES, "newsroom"), [String(port), ...(folder ? [folder] : [])]);
}

/** Starts a program of `examples` on a free port. Ctrl-C, which is SIGINT, ends it. */
export async function startExample(name, ...args) {
  const port = await freePort();
  return start(port, path.join(EXAMPLES, name), [String(port), ...args]);
}

/**
 * Starts Node's socket.io with its connection state recovery and the events of
 * `tests/servers/newsroom.rs`.
 */
export async function startNodeRecovery({ port, window = 120_000, pingTimeout = 20_000 } = {}) {
  port ??= await freePort();
  const script = path.join(import.meta.dirname, "recovery-node.mjs");
  return start(port, process.execPath, [script, port, window, pingTimeout].map(String));
}

/**
 * Servers with the events of `tests/servers/tour.rs`: ours, ours inside a host application, and
 * Node's.
 */
export const TOURS = {
  "its own port": (port) => [TOUR, [port]],
  "inside a host": (port) => [TOUR, [port, "hosted"]],
  "Node's socket.io": (port) => [process.execPath, [path.join(import.meta.dirname, "tour-node.mjs"), port]],
};

/** Starts one of `TOURS`. */
export async function startTour(name) {
  const port = await freePort();
  return start(port, ...TOURS[name](String(port)));
}

async function start(port, program, args) {
  const process = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [process.stdout, process.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
  // The end of the output, or the first panic: a backtrace may be longer than the end that is kept.
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

    /** Text that the process has printed. */
    output: () => output,

    /** Fails with the output of the process if it has ended by itself. */
    assertRunning() {
      if (ended && !stopping) throw new Error(`the hub ended by itself: ${JSON.stringify(ended)}; it had printed:\n${said()}`);
    },

    /** Ends the process by a signal; fails unless it exits in time with status 0. */
    async stop(signal = "SIGTERM") {
      hub.assertRunning();
      stopping = true;
      process.kill(signal);
      try {
        await actions.within(`exit after ${signal}`, exit, STOP_MS);
      } catch (error) {
        process.kill("SIGKILL");
        await exit;
        throw new Error(`${error.message}; it had printed:\n${said()}`);
      }
      if (ended.code !== 0) throw new Error(`the hub ended with ${JSON.stringify(ended)}; it had printed:\n${said()}`);
    },

    /** Kills the process (`kill -9`). */
    async kill() {
      hub.assertRunning();
      stopping = true;
      process.kill("SIGKILL");
      await actions.within("exit after SIGKILL", exit, STOP_MS);
    },
  };

  try {
    await actions.eventually(
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

/** `actions.client` with the stock client as default. */
export const client = (hub, options) => actions.client(hub, { io: stock, ...options });

/** `actions.connect` with the stock client as default. */
export const connect = (hub, options) => actions.connect(hub, { io: stock, ...options });

/**
 * True if a client that starts with the first of `transports` can set headers: always in Node; in
 * browsers not over websockets.
 */
export const setsHeaders = () => true;
