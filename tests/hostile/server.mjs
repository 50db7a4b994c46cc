/** A server process under system limits, with its memory, log and metrics. */

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { freePort } from "../ports.mjs";
import { request, sleep } from "./wire.mjs";

/** Time limit of a start, in milliseconds; far above its verdict. */
const START_MS = 15_000;

const servers = new Set();
process.on("exit", () => servers.forEach((server) => server.abandon()));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

export class Server {
  /** Maximum resident KiB since `restartPeak`. */
  peakKib = 0;

  binary;
  #options;
  #known;
  #process = null;
  #sampler = null;

  /**
   * @param {{ flags?: object, nofile?: number, addressSpace?: number, procs?: string, env?: object,
   *   unreadStderr?: boolean }} options
   * `addressSpace` in bytes; `procs` is the file of a cgroup. Flags that the binary does not know
   * are left out, so that older binaries can be tested.
   */
  constructor(binary, options = {}) {
    this.binary = path.resolve(binary);
    this.#options = options;
    this.folder = mkdtempSync(path.join(os.tmpdir(), "stentor-hostile-"));
    this.data = path.join(this.folder, "data");
    this.#known = new Set(execFileSync(this.binary, ["serve", "--help"], { encoding: "utf8" }).match(/--[a-z-]+/g));
    servers.add(this);
  }

  get pid() {
    return this.#process?.pid;
  }

  get isRunning() {
    return this.#process !== null && this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /**
   * Starts it on the port of its first start. Gives the milliseconds until `/healthz` answers;
   * fails if it never does.
   */
  async start(changes = {}) {
    const { flags, nofile, addressSpace, procs, env, unreadStderr } = { ...this.#options, ...changes };
    this.port ??= await freePort();
    const all = { "--port": this.port, "--data-dir": this.data, "--log-level": "info", ...flags, ...changes.flags };
    const args = Object.entries(all).filter(([name, value]) => this.#known.has(name) && value !== undefined);
    const limits = [
      nofile && `ulimit -n ${nofile};`,
      addressSpace && `ulimit -v ${addressSpace >> 10};`,
      procs && `echo $$ > ${procs};`,
    ];
    const log = openSync(this.#logPath, "a");
    const begin = performance.now();
    this.#process = spawn("sh", ["-c", `${limits.filter(Boolean).join(" ")} exec "$0" "$@"`, this.binary, "serve", ...args.flat().map(String)], {
      stdio: ["ignore", log, unreadStderr ? "pipe" : log],
      env: { ...process.env, ...env },
    });
    if (unreadStderr) this.#process.stderr.pause();
    closeSync(log);
    this.#sampler ??= setInterval(() => this.#sample(), 50);
    while (performance.now() - begin < START_MS) {
      if (!this.isRunning) throw new Error(`server exited with ${this.#process.exitCode ?? this.#process.signalCode}`);
      const { status } = await request(this.port, "/healthz", { ms: 2_000 });
      if (status === 200) return performance.now() - begin;
      await sleep(10);
    }
    throw new Error(`server does not answer after ${START_MS} ms`);
  }

  get #logPath() {
    return path.join(this.folder, "log");
  }

  /** The log after `from` bytes. */
  log(from = 0) {
    return readFileSync(this.#logPath).subarray(from).toString();
  }

  get logBytes() {
    return this.log().length;
  }

  #sample() {
    this.peakKib = Math.max(this.peakKib, this.residentKib());
  }

  /** Resident KiB; 0 if the process has ended. */
  residentKib() {
    try {
      return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))?.[1] ?? 0);
    } catch {
      return 0;
    }
  }

  restartPeak() {
    this.peakKib = this.residentKib();
  }

  /** Counters and gauges by name and labels; empty if the server does not answer. */
  async metrics() {
    const { body } = await request(this.port, "/metrics", { ms: 5_000 });
    return new Map([...body.matchAll(/^([a-z_]+(?:\{[^}]*\})?) ([0-9.]+)$/gm)].map(([, name, value]) => [name, Number(value)]));
  }

  /**
   * Sends the signal and waits for the end, for `ms` at most. Gives the elapsed milliseconds,
   * Infinity if the process had to be killed.
   */
  async end(signal = "SIGKILL", ms = 60_000) {
    if (!this.isRunning) return 0;
    const begin = performance.now();
    const exit = once(this.#process, "exit");
    this.#process.kill(signal);
    const timer = new Promise((resolve) => setTimeout(resolve, ms, "late").unref());
    if ((await Promise.race([exit, timer])) === "late") {
      this.#process.kill("SIGKILL");
      await exit;
      return Infinity;
    }
    return performance.now() - begin;
  }

  get exitCode() {
    return this.#process?.exitCode;
  }

  /** Ends it and removes its data. */
  async remove() {
    await this.end();
    this.abandon();
  }

  abandon() {
    clearInterval(this.#sampler);
    this.#process?.kill("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
    servers.delete(this);
  }
}
