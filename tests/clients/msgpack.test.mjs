/** `stentor serve --parser msgpack` and stock clients with socket.io-msgpack-parser, on every transport. */

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import msgpack from "socket.io-msgpack-parser";
import {
  ask,
  client,
  closeClients,
  connect,
  connected,
  freshRoom,
  listen,
  next,
  RECOVERIES,
  startHub,
  TRANSPORTS,
} from "./harness.mjs";

const FLAGS = ["--parser", "msgpack"];

/**
 * Values that return unchanged. Integers beyond 64 bits are missing: notepack.io encodes them
 * incorrectly.
 */
const ECHOED = [
  { what: "no argument", args: [] },
  { what: "scalars", args: ["text", true, false, null] },
  { what: "whole numbers", args: [0, 127, 128, 65_536, 2 ** 32, 2 ** 53, -1, -32, -33, -129, -32_769, -(2 ** 31) - 1] },
  { what: "other numbers", args: [0.1, -1.5e-300] },
  { what: "unicode", args: ["héraut 📯 стентор 声", "\u0000\u001e\u2028 \"quoted\" \\", "\u{10ffff}"] },
  { what: "nested values", args: [{ a: [{ b: { c: [[], {}, [null]] } }], "": 0 }, [[["deep"]]]] },
  { what: "long strings", args: ["x".repeat(31), "x".repeat(32), "x".repeat(256), "📯".repeat(50_000)] },
  { what: "long arrays", args: [Array(20).fill(1), Array(70_000).fill(7)] },
  { what: "a long object", args: [Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`k${n}`, n]))] },
  { what: "a buffer", args: [Buffer.from([0, 1, 2, 127, 128, 254, 255])] },
  { what: "an empty buffer", args: [Buffer.alloc(0)] },
  { what: "a buffer of 200 kB", args: [Buffer.alloc(200_000, 0xa5)] },
  { what: "buffers among values", args: ["a", { left: Buffer.from("left"), list: [1, Buffer.from("right")] }, 2] },
  { what: "fifty buffers", args: Array.from({ length: 50 }, (_, n) => Buffer.alloc(n, n)) },
];

/** Values that return as JSON and the parser represent them. */
const TRANSLATED = [
  { what: "undefined", args: [undefined, { a: undefined, b: [undefined] }], received: [null, { b: [null] }] },
  { what: "numbers that are none", args: [NaN, Infinity, -Infinity], received: [null, null, null] },
  { what: "a date", args: [new Date(1_709_210_096_123)], received: ["2024-02-29T12:34:56.123Z"] },
  { what: "an array buffer", args: [new Uint8Array([1, 2, 3]).buffer], received: [Buffer.from([1, 2, 3])] },
  { what: "a key that is a number", args: [{ 5: "five" }], received: [{ 5: "five" }] },
];

for (const recovery of RECOVERIES) {
  describe(`parser msgpack, recovery ${recovery}`, () => {
    let hub;
    before(async () => (hub = await startHub({ recovery, flags: FLAGS })));
    afterEach(() => {
      closeClients();
      hub.assertRunning();
    });
    after(() => hub.stop());

    for (const { name, transports } of TRANSPORTS) {
      describe(name, () => {
        const options = { transports, parser: msgpack };

        test("a client connects with credentials", async () => {
          const socket = await connect(hub, { ...options, auth: { token: "é" } });
          assert.match(socket.id, /^[\w-]{20}$/);
          assert.equal(typeof socket._pid, recovery === "off" ? "undefined" : "string");
          assert.equal(socket.io.engine.transport.name, transports.at(-1));
        });

        test("an unknown namespace is refused with a reason", async () => {
          const socket = client(hub, { ...options, namespace: "/nowhere" });
          const [error] = await next(socket, "connect_error");
          assert.equal(error.message, "Invalid namespace");
        });

        for (const { what, args } of ECHOED) {
          test(`echo answers with ${what}`, async () => {
            const socket = await connect(hub, options);
            assert.deepEqual(await ask(socket, "echo", ...args), args);
          });
        }

        for (const { what, args, received } of TRANSLATED) {
          test(`echo answers to ${what} with what JSON has for it`, async () => {
            const socket = await connect(hub, options);
            assert.deepEqual(await ask(socket, "echo", ...args), received);
          });
        }

        test("an event reaches every member on any transport, binary data included", async () => {
          const room = freshRoom();
          const others = TRANSPORTS.map(({ transports }) => connect(hub, { ...options, transports }));
          const members = [await connect(hub, options), ...(await Promise.all(others))];
          const news = members.map((member) => listen(member, "news"));
          for (const member of members) await ask(member, "join", room);
          await ask(members[0], "publish", room, "news", "first", { n: [1.5, Buffer.from("one")] });
          for (const { count } of news) assert.deepEqual(await count(1), [["first", { n: [1.5, Buffer.from("one")] }]]);
        });

        test("with recovery an event has the offset that its publisher receives", async () => {
          const room = freshRoom();
          const socket = await connect(hub, options);
          await ask(socket, "join", room);
          const event = next(socket, "news");
          const [{ offset }] = await ask(socket, "publish", room, "news", 1);
          const args = await event;
          if (recovery === "off") {
            assert.deepEqual(args, [1]);
          } else {
            assert.match(offset, /^[\w-]{21}$/);
            assert.deepEqual(args, [1, offset]);
          }
        });

        test("namespace and session are closed without error", async () => {
          const socket = await connect(hub, options);
          const left = next(socket, "disconnect");
          socket.disconnect();
          assert.equal((await left)[0], "io client disconnect");
        });
      });
    }
  });
}

describe("clients with another parser", () => {
  for (const [server, flags, options] of [
    ["msgpack", FLAGS, {}],
    ["json", ["--parser", "json"], { parser: msgpack }],
  ]) {
    describe(`on a server with ${server}`, () => {
      let hub;
      before(async () => (hub = await startHub({ flags })));
      afterEach(closeClients);
      after(() => hub.stop());

      for (const { name, transports } of TRANSPORTS) {
        test(`are closed before they connect, over ${name}`, async () => {
          const socket = client(hub, { ...options, transports });
          socket.on("connect", () => assert.fail("connected"));
          await next(socket.io, "close");
          assert.equal(socket.connected, false);
          // The hub continues to serve clients with its own parser.
          const other = client(hub, { transports, ...(server === "msgpack" && { parser: msgpack }) });
          await connected(other);
          assert.deepEqual(await ask(other, "echo", 1), [1]);
        });
      }
    });
  }
});
