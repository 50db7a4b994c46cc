/**
 * Options of stock clients for transports and CONNECT, on every transport, with recovery off and
 * on.
 */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ask, client, closeClients, connect, connected, eventually, RECOVERIES, startHub, TRANSPORTS } from "./harness.mjs";

for (const recovery of RECOVERIES) {
  describe(`recovery ${recovery}`, () => {
    let hub;
    before(async () => {
      hub = await startHub({ recovery, flags: ["--namespaces", "/chat"] });
    });
    after(async () => {
      closeClients();
      await hub.stop();
    });

    for (const { name, transports } of TRANSPORTS) {
      test(`${name}: connect, disconnect, connect in one turn leaves one socket`, async () => {
        const other = await connect(hub, { transports });
        const closed = [];
        other.io.on("close", (reason) => closed.push(reason));
        const chat = other.io.socket("/chat", {});
        const lost = [];
        chat.on("disconnect", (reason) => lost.push(reason));
        // React's StrictMode mounts, unmounts and mounts, which sends two CONNECTs and no
        // DISCONNECT.
        chat.connect();
        chat.disconnect();
        chat.connect();
        await eventually("connected socket", async () => chat.connected, Boolean);
        assert.deepEqual(await ask(chat, "echo", 1), [1]);
        assert.deepEqual(await ask(other, "echo", 2), [2]);
        assert.deepEqual({ lost, closed }, { lost: [], closed: [] });
      });

      test(`${name}: forceBase64 carries binary in both directions`, async () => {
        const socket = await connect(hub, { transports, forceBase64: true });
        for (const bytes of [Buffer.from([1, 2, 3, 255]), Buffer.alloc(0), Buffer.alloc(70_000, 0xa5)]) {
          const [answer] = await ask(socket, "echo", bytes);
          assert.deepEqual(Buffer.from(answer), bytes);
        }
      });

      test(`${name}: a client that offers subprotocols connects`, async () => {
        const socket = await connect(hub, { transports, protocols: ["first.v1", "second"] });
        assert.deepEqual(await ask(socket, "echo", "there"), ["there"]);
      });
    }

    test("polling: 12000 emits buffered offline are all answered", async () => {
      const socket = client(hub, { transports: ["polling"], autoConnect: false });
      const count = 12_000;
      let answered = 0;
      for (let number = 0; number < count; number += 1) {
        socket.emit("echo", number, (answer) => {
          assert.equal(answer, answered);
          answered += 1;
        });
      }
      const ready = connected(socket);
      socket.connect();
      await ready;
      await eventually("answers to all", async () => answered, (value) => value === count, 60_000);
    });

    test("a reserved name, deep JSON and eleven buffers leave the session open", async () => {
      const socket = await connect(hub, { transports: ["websocket"] });
      socket.io._packet({ type: 2, nsp: "/", data: ["connect"], options: {} });
      let deep = [];
      for (let level = 0; level < 300; level += 1) deep = [deep];
      socket.emit("echo", deep);
      socket.emit("echo", ...Array.from({ length: 11 }, () => Buffer.from("x")));
      assert.deepEqual(await ask(socket, "echo", "there"), ["there"]);
    });
  });
}
