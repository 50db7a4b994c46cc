/** The JavaScript examples of `examples/queue` against `stentor serve`. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { io } from "socket.io-client";
import { eventually, startHub } from "./harness.mjs";

const ROOT = path.resolve(import.meta.dirname, "../..");

/** A program may start slowly on a busy machine. */
const PROGRAM_MS = 15_000;

describe("the examples of the queue", () => {
  let folder;
  let hub;
  const running = new Set();
  before(async () => {
    // Beside the examples is no socket.io-client.
    folder = mkdtempSync(path.join(os.tmpdir(), "stentor-examples-"));
    mkdirSync(path.join(folder, "examples"));
    cpSync(path.join(ROOT, "examples/queue"), path.join(folder, "examples/queue"), { recursive: true });
    symlinkSync(path.join(ROOT, "static"), path.join(folder, "static"));
    symlinkSync(path.join(import.meta.dirname, "node_modules"), path.join(folder, "node_modules"));
    hub = await startHub({ recovery: "disk" });
  });
  afterEach(() => Promise.all([...running].map((program) => program.stop())));
  after(async () => {
    await hub.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Runs an example; `says` waits for a text in its output. */
  function run(name, ...args) {
    const child = spawn(process.execPath, [path.join(folder, "examples/queue", name), hub.url, ...args]);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
    const ended = new Promise((resolve) => child.once("close", () => resolve(output)));
    const program = {
      ended,
      says: (pattern) => eventually(`${pattern} of ${name}`, async () => output, (text) => pattern.test(text), PROGRAM_MS),
      stop: () => (child.kill("SIGKILL"), running.delete(program), ended),
    };
    running.add(program);
    return program;
  }

  const publish = (table) => run("publisher.mjs", "orders", String(table)).ended;

  test("the subscriber receives what was published while it was away", async () => {
    const first = run("subscriber.mjs");
    await first.says(/reset: 0 pending/);
    await eventually("subscription", () => publish(1), (output) => /pending for 1$/m.test(output), PROGRAM_MS);
    await first.says(/cooking { table: 1 }/);
    await first.stop();
    assert.match(await publish(2), /^stored at .{17}, pending for 1$/m);
    const second = run("subscriber.mjs");
    await second.says(/resumed: \d+ pending[^]*cooking { table: 2 }/);
  });

  // It has no ack, and ended the program.
  test("a plain event of the same name does not end the subscriber", async () => {
    const subscriber = run("subscriber.mjs", "grill");
    const socket = io(hub.url);
    try {
      const members = () => socket.emitWithAck("members", "orders");
      await eventually("a member", members, ({ members }) => members.length === 1, PROGRAM_MS);
      await socket.emitWithAck("publish", "orders", "order", { table: "plain" });
      await subscriber.says(/cooking { table: 'plain' }/);
    } finally {
      socket.disconnect();
    }
    assert.match(await publish(3), /^stored at/m);
    await subscriber.says(/cooking { table: 3 }/);
  });
});
