/**
 * A server process that can be killed and restarted on the same port with the same data. Two kinds:
 * the real binary, and Node's socket.io with the same vocabulary (`node-server.mjs`).
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { freePort } from "../free-port.mjs";

/** A busy machine may take long to read a long journal. */
const START_MS = 60_000;

/** Maximum number of output characters in an error. */
const OUTPUT_LENGTH = 4_000;

/**
 * Arguments to start each kind of server. `ping` is the interval before a ping and the time limit
 * of its pong.
 * @type {Record<string, (options: { port: number, data: string, ping: number }) => string[]>}
 */
const COMMANDS = {
  "stentor, disk": ({ port, data, ping }) => [...stentor(port, ping), ...disk(data)],
  "stentor, disk, small": ({ port, data, ping }) => [...stentor(port, ping), ...disk(data, 1 << 20), ...SMALL],
  "stentor, memory": ({ port, ping }) => [...stentor(port, ping), "--recovery", "memory"],
  "stentor, off": ({ port, ping }) => [...stentor(port, ping), "--recovery", "off"],
  "node, recovery": ({ port, ping }) => [...nodeServer(port, ping), "recovery"],
  "node, off": ({ port, ping }) => [...nodeServer(port, ping), "off"],
};

/**
 * A ring of 32 MiB instead of 256: each start reads it completely, and an unoptimised binary is
 * slow.
 */
const disk = (data, segment = 4 << 20) => ["--recovery", "disk", "--data-dir", data, "--journal-segment-bytes", `${segment}`];

/**
 * Limits that are reached within a run: memory holds less than a reconnect requests, files are
 * deleted while clients need them, and a client that stops reading for a moment lags.
 */
const SMALL = Object.entries({
  "--journal-records-max": 64,
  "--journal-segments-max": 2,
  "--recovery-left-rooms-max": 4,
  "--replay-bytes": 8_000,
  "--replay-records-per-turn": 16,
  "--outbox-bytes-max": 64_000,
  "--send-buffer-bytes": 8_000,
}).flatMap(([flag, value]) => [flag, String(value)]);

const stentor = (port, ping) => {
  const binary = path.resolve(import.meta.dirname, process.env.STENTOR_BIN ?? "../../target/debug/stentor");
  return [binary, "serve", "--port", `${port}`, "--ping-interval", `${ping}ms`, "--ping-timeout", `${ping}ms`, "--drain", "200ms"];
};

const nodeServer = (port, ping) => [process.execPath, path.join(import.meta.dirname, "node-server.mjs"), `${port}`, `${ping}`];

export const KINDS = Object.keys(COMMANDS);

/** A run that fails stops its servers and deletes their data. */
const servers = new Set();
process.on("exit", () => servers.forEach((server) => server.abandon()));

export class Server {
  #kind;
  #ping;
  #data;
  #process = null;
  #output = "";

  constructor(kind, { ping }) {
    if (!(kind in COMMANDS)) throw new Error(`server ${JSON.stringify(kind)}: expected one of ${KINDS.join(" | ")}`);
    this.#kind = kind;
    this.#ping = ping;
    this.#data = mkdtempSync(path.join(os.tmpdir(), "stentor-torture-"));
    servers.add(this);
  }

  /** Starts it on the port of its first start; resolves once it listens. */
  async start() {
    this.port ??= await freePort();
    const [program, ...args] = COMMANDS[this.#kind]({ port: this.port, data: this.#data, ping: this.#ping });
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.#process = child;
    this.#output = "";
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(this.#failure(`it does not listen after ${START_MS} ms`)), START_MS);
      const settle = (outcome) => (clearTimeout(timer), outcome instanceof Error ? reject(outcome) : resolve());
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding("utf8").on("data", (chunk) => {
          this.#output = (this.#output + chunk).slice(-OUTPUT_LENGTH);
          if (this.#output.includes("listens on")) settle();
        });
      }
      child.once("error", (error) => settle(this.#failure(error.message)));
      child.once("exit", (code, signal) => settle(this.#failure(`it ended with ${signal ?? code}`)));
    });
  }

  #failure(what) {
    return new Error(`${this.#kind}: ${what}; it had printed:\n${this.#output}`);
  }

  /** Kills it with `kill -9`. */
  async kill() {
    await this.#end("SIGKILL");
  }

  /** Stops it by SIGTERM, as for an update. */
  async stop() {
    await this.#end("SIGTERM");
  }

  /** Fails if the process has ended by itself. */
  assertRunning() {
    const { exitCode, signalCode } = this.#process;
    if (exitCode !== null || signalCode !== null) throw this.#failure(`it ended by itself with ${signalCode ?? exitCode}`);
  }

  /** Ends it and removes its data. */
  async remove() {
    if (this.#process) await this.#end("SIGKILL");
    this.abandon();
  }

  /** Ends it and removes its data, without waiting. */
  abandon() {
    this.#process?.kill("SIGKILL");
    rmSync(this.#data, { recursive: true, force: true, maxRetries: 3 });
    servers.delete(this);
  }

  async #end(signal) {
    const child = this.#process;
    this.#process = null;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, "exit");
    child.kill(signal);
    await exit;
  }

  /**
   * Counters of this process: outcomes of recoveries, and number of sockets that caught up from the
   * journal. Empty for Node.
   * @returns {Promise<[string, number][]>}
   */
  async counters() {
    if (!this.#kind.startsWith("stentor")) return [];
    const answer = await fetch(`http://127.0.0.1:${this.port}/metrics`);
    const lines = (await answer.text()).matchAll(/^stentor_(?:recoveries_total{verdict="(.*)"}|(lags)_total) (\d+)$/gm);
    return [...lines].map(([, verdict, lags, count]) => [verdict ?? lags, Number(count)]);
  }
}
