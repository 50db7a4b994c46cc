/**
 * Faults of the machine and its operator: a slow disk, a wrong clock, a flipped bit, a port or a
 * folder in use.
 */

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { Server } from "../server.mjs";
import { Client, request, sleep } from "../wire.mjs";

const MIB = 1 << 20;

/** Position of the format version in the header and in each segment, after eight magic bytes. */
const FORMAT_AT = 8;

let shim = null;

/** Path of `fault.c`, compiled once. */
function preload() {
  if (!shim) {
    const folder = mkdtempSync(path.join(os.tmpdir(), "stentor-fault-"));
    process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
    shim = path.join(folder, "fault.so");
    execFileSync("cc", ["-shared", "-fPIC", "-O1", "-o", shim, path.join(import.meta.dirname, "../fault.c"), "-ldl"]);
  }
  return { LD_PRELOAD: shim };
}

const needsCompiler = () => {
  if (process.platform !== "linux") return "it needs Linux";
  return spawnSync("cc", ["--version"]).status === 0 ? null : "there is no C compiler";
};

const state = (binary, data) => /^state\s+(\w+)/m.exec(execFileSync(binary, ["journal", "stats", data], { encoding: "utf8" }))?.[1];

/** Starts the server; gives its exit or its response. */
async function starts(server, options) {
  try {
    await server.start(options);
    return "serves";
  } catch (error) {
    return `${error.message}: ${server.log().trim().split("\n").at(-1)?.slice(0, 160)}`;
  }
}

/** Publishes to a room with a member, so that the event is written to the journal. */
async function fillJournal(port, megabytes) {
  const client = await Client.open(port);
  await client.ask("join", "own");
  for (let count = 0; count < megabytes * 2; count++) await client.ask("publish", "own", "news", "x".repeat(500_000));
  client.end();
}

const bitFlip = (name, file) => ({
  name: `bit-flip-${name}`,
  line: 12,
  about: `a flipped bit in the format field of the ${name}`,
  full: {},
  ci: {},
  async verify({ server, findings }) {
    await server.start();
    await fillJournal(server.port, 1);
    await server.end("SIGTERM");
    const journal = path.join(server.data, "journal");
    const found = path.join(journal, readdirSync(journal).find((entry) => entry.startsWith(file)));
    const bytes = readFileSync(found);
    bytes[FORMAT_AT] ^= 0x40;
    writeFileSync(found, bytes);
    const outcome = await starts(server);
    findings.check("starts", outcome === "serves", outcome);
  },
});

/** Threads that run actors, in order of their start. */
function actorThreads(pid) {
  const threads = readdirSync(`/proc/${pid}/task`).map(Number).sort((a, b) => a - b);
  return threads.filter((thread) => readFileSync(`/proc/${pid}/task/${thread}/comm`, "utf8").startsWith("actix-rt"));
}

/** Time for a worker to accept a connection and to die. */
const DEATH_MS = 5_000;

export default [
  {
    name: "slow-disk-stop",
    line: 11,
    about: "SIGTERM on a disk that takes 300 ms for each fsync leaves the journal closed",
    obstacle: needsCompiler,
    full: { megabytes: 7, fsyncMs: 300 },
    ci: { megabytes: 3, fsyncMs: 300 },
    async verify({ server, size, findings }) {
      const flags = { "--journal-sender-bytes-max": 1_024 * MIB, "--journal-segment-bytes": MIB, "--journal-segments-max": 8 };
      await server.start({ flags, env: { ...preload(), HOSTILE_FSYNC_MS: String(size.fsyncMs) } });
      await fillJournal(server.port, size.megabytes);
      const ms = await server.end("SIGTERM", 30_000);
      const left = state(server.binary, server.data);
      findings.check("closed", left === "closed", `journal is ${left}, ${ms.toFixed(0)} ms after SIGTERM`);
    },
  },
  bitFlip("header", "journal.header"),
  bitFlip("segment", "segment-"),
  {
    name: "port-in-use",
    line: 12,
    about: "a start that fails since the port is in use keeps a closed journal closed",
    full: {},
    ci: {},
    async verify({ server, findings }) {
      await server.start();
      await server.end("SIGTERM");
      const before = state(server.binary, server.data);
      const occupied = net.createServer((socket) => socket.destroy()).listen(server.port, "127.0.0.1");
      await new Promise((resolve) => occupied.once("listening", resolve));
      const outcome = await starts(server);
      occupied.close();
      const after = state(server.binary, server.data);
      findings.check("refused", outcome !== "serves", outcome);
      findings.check("closed", before === "closed" && after === "closed", `journal was ${before}, is ${after}`);
    },
  },
  {
    name: "lock-removed",
    line: 12,
    about: "a second server on the folder of a running one, with journal.lock removed",
    full: {},
    ci: {},
    async verify({ server, findings }) {
      await server.start();
      rmSync(path.join(server.data, "journal", "journal.lock"));
      const second = new Server(server.binary);
      try {
        const outcome = await starts(second, { flags: { "--data-dir": server.data } });
        findings.check("refused", outcome !== "serves", outcome);
      } finally {
        await second.remove();
      }
    },
  },
  {
    name: "clock-set-back",
    line: 12,
    about: "a clock that is set back by an hour does not keep a session beyond its window",
    obstacle: needsCompiler,
    full: {},
    ci: {},
    async verify({ server, findings }) {
      const flags = { "--recovery-window": "2s" };
      await server.start({ flags });
      const client = await Client.open(server.port);
      await client.ask("join", "hall");
      const auth = { pid: client.pid, offset: client.offset };
      client.end();
      await server.end("SIGTERM");
      await server.start({ flags, env: { ...preload(), HOSTILE_CLOCK_S: "-3600" } });
      await sleep(3_500);
      const returned = await Client.open(server.port, { auth });
      findings.check("expired", returned.pid !== auth.pid, returned.pid === auth.pid ? "resumed after its window" : "a new session");
    },
  },
  {
    name: "dead-worker",
    line: 12,
    about: "one of two workers dies: the other serves new connections",
    obstacle: needsCompiler,
    full: {},
    ci: {},
    async verify({ server, findings }) {
      const file = path.join(server.folder, "thread");
      await server.start({ flags: { "--workers": 2 }, env: { ...preload(), HOSTILE_THREAD: file } });
      // The hub's thread is the first actor thread; the thread that accepts follows.
      writeFileSync(file, String(actorThreads(server.pid).at(-1)));
      let [reset, begin] = [0, performance.now()];
      while (!server.log().includes("worker ended") && performance.now() - begin < DEATH_MS) {
        reset += (await request(server.port, "/healthz", { ms: 2_000 })).status !== 200;
      }
      findings.check("died", server.log().includes("worker ended"), `${reset} connections lost with it`);
      let served = 0;
      for (let count = 0; count < 20; count++) {
        const client = await Client.open(server.port, { ms: 2_000 }).catch(() => null);
        served += (await client?.ask("echo", count).catch(() => null)) === count;
        client?.end();
      }
      findings.check("served", served === 20, `${served} of 20 newcomers`);
      findings.check("lost", reset <= 2, `${reset} connections`);
    },
  },
  {
    name: "forged-error",
    line: 12,
    about: "a client publishes the reserved event `stentor:error`",
    full: {},
    ci: {},
    async verify({ server, findings }) {
      await server.start();
      const [victim, forger] = [await Client.open(server.port), await Client.open(server.port)];
      await victim.ask("join", "hall");
      const packets = [];
      victim.onPacket = (packet) => packets.push(packet);
      const answer = await forger.ask("publish", "hall", "stentor:error", { error: { code: "forged", message: "x" } });
      await forger.ask("publish", "hall", "last", 1);
      while (!packets.some((packet) => packet.includes('"last"'))) await sleep(10);
      const forged = packets.find((packet) => packet.includes("stentor:error"));
      findings.check("refused", !forged && answer.error, forged ?? JSON.stringify(answer));
    },
  },
];
