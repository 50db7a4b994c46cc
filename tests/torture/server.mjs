/**
 * A server process that can be killed and restarted on the same port with the same data. Two kinds:
 * the real binary, and Node's socket.io with the same vocabulary (`node-server.mjs`).
 */

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { freePort } from "../ports.mjs";

/** A busy machine may take long to read a long journal. */
const START_MS = 60_000;

/** Maximum number of output characters in an error. */
const OUTPUT_LENGTH = 4_000;

/** Bugs of Node's server that the torture must find. */
export const NODE_BUGS =
  "forgets, lost, skipped, unmarked, reordered, nak lost, no conflict, stored twice, revealed early, ack forgotten".split(", ");

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
  "stentor, queue": ({ port, data, ping }) => [...stentor(port, ping), ...disk(data), ...QUEUE],
  "stentor, queue, small": ({ port, data, ping }) => [...stentor(port, ping), ...disk(data, 1 << 20), ...SMALL, ...QUEUE, ...SMALL_QUEUE],
  "stentor, queue, recovery off": ({ port, data, ping }) => [...stentor(port, ping), "--recovery", "off", "--data-dir", data, "--queue", "disk", ...QUEUE],
  // Forgets everything when it is killed.
  "stentor, queue in memory": ({ port, ping }) => [...stentor(port, ping), "--recovery", "off", "--queue", "memory", ...QUEUE],
  ...Object.fromEntries(["", ...NODE_BUGS].map((bug) => [bug ? `node, queue, ${bug}` : "node, queue", nodeQueue(bug)])),
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
const SMALL = flags({
  "--journal-records-max": 64,
  "--journal-segments-max": 2,
  "--recovery-left-rooms-max": 4,
  "--replay-bytes": 8_000,
  "--replay-records-per-turn": 16,
  "--outbox-bytes-max": 64_000,
  "--send-buffer-bytes": 8_000,
});

/** Key of the HTTP API. */
export const API_KEY = "key-of-the-torture";

/** Times that are short beside a cycle, so that unanswered events are sent again within it. */
const QUEUE = flags({ "--ack-wait": "500ms", "--back-off": "20ms,100ms,300ms", "--in-flight-max": 16, "--api-key": API_KEY });

/** Later flags replace earlier ones. */
const SMALL_QUEUE = flags({ "--in-flight-bytes-max": 4_000, "--queue-batch-max": 4 });

function flags(values) {
  return Object.entries(values).flatMap(([flag, value]) => [flag, String(value)]);
}

/** Kinds with a queue on disk. */
const HAS_QUEUE = ["stentor, queue", "stentor, queue, small", "stentor, queue, recovery off"];

const BINARY = path.resolve(import.meta.dirname, process.env.STENTOR_BIN ?? "../../target/debug/stentor");

const stentor = (port, ping) => [BINARY, "serve", "--port", `${port}`, "--ping-interval", `${ping}ms`, "--ping-timeout", `${ping}ms`, "--drain", "200ms"];

const nodeServer = (port, ping) => [process.execPath, path.join(import.meta.dirname, "node-server.mjs"), `${port}`, `${ping}`];

function nodeQueue(bug) {
  const program = path.join(import.meta.dirname, "queue/node-server.mjs");
  return ({ port, data, ping }) => [process.execPath, program, `${port}`, `${ping}`, path.join(data, "changes"), bug];
}

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

  /**
   * Starts it on the port of its first start; resolves once it listens. With `crash`, the point and
   * number of a commit, it ends by itself there, perhaps before it listens.
   * @param {{ crash?: string }} [options]
   */
  async start({ crash } = {}) {
    this.port ??= await freePort();
    const [program, ...args] = COMMANDS[this.#kind]({ port: this.port, data: this.#data, ping: this.#ping });
    const env = crash ? { ...process.env, STENTOR_QUEUE_CRASH: crash } : process.env;
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env });
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
      child.once("exit", (code, signal) => {
        if (crash && signal === "SIGABRT") settle();
        else settle(this.#failure(`it ended with ${signal ?? code}`));
      });
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

  /**
   * Waits at most `ms` for a planted crash, and kills the process otherwise. Resolves with true
   * after a crash.
   */
  async crashed(ms) {
    const child = this.#process;
    const timer = setTimeout(() => child.kill("SIGKILL"), ms);
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    clearTimeout(timer);
    this.#process = null;
    if (child.signalCode === "SIGABRT" || child.signalCode === "SIGKILL") return child.signalCode === "SIGABRT";
    throw this.#failure(`it ended with ${child.signalCode ?? child.exitCode}`);
  }

  /**
   * Checks the files of a queue on disk while no process has them. Resolves with the number of
   * stored events; null for a server without a queue on disk.
   */
  inspectQueue() {
    if (!HAS_QUEUE.includes(this.#kind)) return null;
    const run = (command) => {
      const { status, stdout, stderr } = spawnSync(BINARY, ["queue", command, "--data-dir", this.#data], { encoding: "utf8" });
      if (status !== 0) throw new Error(`queue ${command} ended with ${status}:\n${stdout}${stderr}`);
      return stdout;
    };
    run("check");
    return Number(run("stats").match(/^events +(\d+)$/m)[1]);
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
