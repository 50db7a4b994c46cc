/**
 * Hooks of `stentor serve`: the example back ends in Python and Node, and clients whose back end
 * does not answer.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import path from "node:path";
import { after, afterEach, describe, test } from "node:test";
import { accepts, freePort } from "../ports.mjs";
import { ask, client, CLIENTS, closeClients, connect, eventually, listen, next, startHub, TRANSPORTS, within } from "./harness.mjs";

const EXAMPLES = path.resolve(import.meta.dirname, "../../examples/hooks");
const KEY = "key-of-the-hooks";
const START_MS = 15_000;

const running = new Set();
after(() => running.forEach((child) => child.kill("SIGKILL")));

/** Starts an example, and resolves when it accepts connections. */
async function startBackEnd([program, file], { port, key = KEY } = {}) {
  port ??= await freePort();
  const child = spawn(program, [path.join(EXAMPLES, file), String(port)], { env: { ...process.env, STENTOR_HOOKS_KEY: key }, stdio: "inherit" });
  running.add(child);
  await eventually(`listener of ${file}`, () => accepts(port), Boolean, START_MS);
  return { port, stop: () => child.kill("SIGKILL") };
}

const startAsking = (port, ...flags) => startHub({ flags: ["--hooks-url", `http://127.0.0.1:${port}/hooks`, "--hooks-key", KEY, ...flags] });

for (const example of [["python3", "back_end.py"], [process.execPath, "back_end.mjs"]]) {
  describe(example[1], () => {
    let hub;
    let backEnd;
    afterEach(async () => {
      closeClients();
      backEnd.stop();
      await hub.stop();
    });

    test("a client is identified, joins, publishes and asks", async () => {
      backEnd = await startBackEnd(example);
      hub = await startAsking(backEnd.port);
      const stranger = client(hub, { transports: ["websocket"] });
      const [error] = await next(stranger, "connect_error");
      assert.equal(error.message, "expected auth: {name}");
      assert.deepEqual(error.data, { code: "login" });
      const ada = await connect(hub, { transports: ["websocket"], auth: { name: "Ada" } });
      const [joined] = await ask(ada, "join", "chat:7");
      assert.deepEqual(joined.data, { welcome: "Ada" });
      const messages = listen(ada, "message");
      assert.equal((await ask(ada, "publish", "chat:7", "message", "héllo"))[0].level, "accepted");
      await messages.count(1);
      assert.deepEqual(messages.received, [[{ from: "Ada", text: "héllo" }]]);
      assert.equal((await ask(ada, "publish", "chat:7", "message"))[0].error.code, "bad_request");
      assert.deepEqual(await ask(ada, "order:create", { item: 7 }), ["order:create by Ada"]);
    });

    test("a request with a signature of another key is refused", async () => {
      backEnd = await startBackEnd(example, { key: "another-key-of-the-hooks" });
      hub = await startAsking(backEnd.port);
      const socket = client(hub, { transports: ["websocket"], auth: { name: "Ada" } });
      const [reason] = await next(socket, "disconnect");
      assert.equal(reason, "transport close");
      await eventually("reason in the log", async () => hub.output(), (output) => output.includes("status 401, expected 200"));
    });
  });
}

describe("without a back end", () => {
  afterEach(closeClients);

  // After a CONNECT_ERROR, the client would not come back.
  for (const [library, io] of Object.entries(CLIENTS)) {
    for (const { name, transports } of TRANSPORTS) {
      test(`${library} on ${name} tries again by itself until it is admitted`, async () => {
        const port = await freePort();
        const hub = await startAsking(port, "--hooks", "connect");
        const socket = client(hub, { io, transports, auth: { name: "Ada" }, reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 100 });
        const admitted = new Promise((resolve) => socket.once("connect", resolve));
        let attempts = 0;
        socket.io.on("reconnect_attempt", () => (attempts += 1));
        await eventually("attempts", async () => attempts, (count) => count >= 4);
        assert.equal(socket.connected, false);
        assert.equal(socket.active, true);
        const backEnd = await startBackEnd([process.execPath, "back_end.mjs"], { port });
        await within("connect", admitted, 10_000);
        backEnd.stop();
        closeClients();
        await hub.stop();
      });
    }
  }
});
