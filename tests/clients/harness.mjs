/** Starts the real binary on a free port and connects clients to it. What they say and wait for is in `talk.mjs`. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { io as stock } from "socket.io-client";
import { WebSocket } from "ws";
import { io as ours } from "../../static/client/index.js";
import { freePort } from "../free-port.mjs";
import * as talk from "./talk.mjs";

export * from "./talk.mjs";

const BINARY = path.resolve(import.meta.dirname, process.env.STENTOR_BIN ?? "../../target/debug/stentor");
const TOUR = path.resolve(import.meta.dirname, process.env.STENTOR_TOUR ?? "../../target/debug/examples/tour");

const NEWSROOM = path.resolve(import.meta.dirname, process.env.STENTOR_NEWSROOM ?? "../../target/debug/examples/recovery");

const START_MS = 10_000;
const STOP_MS = 10_000;

/** How many characters of what a hub printed a failure repeats. */
const OUTPUT_LENGTH = 4_000;

/** What holds for one client holds for the other. Node 20 has no WebSocket of its own: ours is given one. */
export const CLIENTS = {
  "socket.io-client": stock,
  "static/client": (url, options) => ours(url, { WebSocket, ...options }),
};

export const RECOVERIES = ["off", "disk"];

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

const folders = [];
process.on("exit", () => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));

/** A folder for a journal, not there yet; removed when this process ends. */
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

/** Starts `examples/recovery.rs`, which keeps what is said in memory, or in `folder`. */
export async function startNewsroom({ folder, port } = {}) {
  port ??= await freePort();
  return start(port, NEWSROOM, [String(port), ...(folder ? [folder] : [])]);
}

/** Node's own socket.io with its connection state recovery, which says what `examples/recovery.rs` does. */
export async function startReference({ port, window = 120_000, pingTimeout = 20_000 } = {}) {
  port ??= await freePort();
  const script = path.join(import.meta.dirname, "recovery-reference.mjs");
  return start(port, process.execPath, [script, port, window, pingTimeout].map(String));
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
        await talk.within("exit after SIGTERM", exit, STOP_MS);
      } catch (error) {
        process.kill("SIGKILL");
        await exit;
        throw new Error(`${error.message}; it had printed:\n${said()}`);
      }
      if (ended.code !== 0) throw new Error(`the hub ended with ${JSON.stringify(ended)}; it had printed:\n${said()}`);
    },

    /** Ends the process where it stands (`kill -9`). */
    async kill() {
      hub.assertRunning();
      stopping = true;
      process.kill("SIGKILL");
      await talk.within("exit after SIGKILL", exit, STOP_MS);
    },
  };

  try {
    await talk.eventually(
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

/** `talk.client`, the stock one unless `io` says otherwise. */
export const client = (hub, options) => talk.client(hub, { io: stock, ...options });

/** `talk.connect`, the same. */
export const connect = (hub, options) => talk.connect(hub, { io: stock, ...options });

/** Whether a client that begins with the first of `transports` can set headers. Here always; in browsers websockets cannot. */
export const setsHeaders = () => true;
