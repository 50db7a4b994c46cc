/**
 * Behaviour of `stentor serve` towards a stock JavaScript client, on every transport, with recovery
 * off and on.
 */

import assert from "node:assert/strict";
import { after, afterEach, beforeEach, describe, test } from "node:test";
import {
  ask,
  client,
  closeClients,
  connect,
  connected,
  eventually,
  freshRoom,
  listen,
  next,
  RECOVERIES,
  startHub,
  TRANSPORTS,
} from "./harness.mjs";

const ECHOED = [
  { what: "no argument", args: [] },
  { what: "scalars", args: ["text", 1, -2.5, true, false, null] },
  { what: "unicode", args: ["héraut 📯 стентор 声", "\u0000\u001e\u2028 \"quoted\" \\", "\u{10ffff}"] },
  { what: "nested values", args: [{ a: [{ b: { c: [[], {}, [null]] } }], "": 0 }, [[["deep"]]]] },
  { what: "a string of 200 kB", args: ["x".repeat(200_000)] },
  { what: "a string of 200 kB of unicode", args: ["📯".repeat(50_000)] },
  { what: "a buffer", args: [Buffer.from([0, 1, 2, 127, 128, 254, 255])] },
  { what: "an empty buffer", args: [Buffer.alloc(0)] },
  { what: "a buffer of 200 kB", args: [Buffer.alloc(200_000, 0xa5)] },
  { what: "buffers among values", args: ["a", { left: Buffer.from("left"), list: [1, Buffer.from("right")] }, 2] },
];

const REFUSED = [
  { event: "join", args: [] },
  { event: "join", args: [42] },
  { event: "join", args: [null] },
  { event: "join", args: [{ room: "a" }] },
  { event: "leave", args: [] },
  { event: "leave", args: [["a"]] },
  { event: "members", args: [] },
  { event: "members", args: [true] },
  { event: "publish", args: [] },
  { event: "publish", args: ["a"] },
  { event: "publish", args: ["a", { not: "a name" }] },
  { event: "publish", args: ["a", "disconnect", "a reserved name"] },
  { event: "publish", args: [1, "news"] },
];

for (const recovery of RECOVERIES) {
  describe(`recovery ${recovery}`, () => {
    // One hub for all tests. If it crashes, later tests get a new one, and the suite fails with its
    // output.
    const hubs = [];
    let hub;
    beforeEach(async () => {
      if (hub?.running()) return;
      hub = await startHub({ recovery });
      hubs.push(hub);
    });
    afterEach(() => {
      closeClients();
      hub.assertRunning();
    });
    after(async () => {
      const ends = await Promise.allSettled(hubs.map((hub) => hub.stop()));
      const crashes = ends.filter(({ status }) => status === "rejected").map(({ reason }) => reason);
      if (crashes.length > 0) throw new AggregateError(crashes, `${crashes.length} of ${hubs.length}: ${crashes[0].message}`);
    });

    for (const { name, transports } of TRANSPORTS) {
      describe(name, () => {
        test("socket id and session id differ", async () => {
          const socket = await connect(hub, { transports });
          assert.match(socket.id, /^[\w-]{20}$/);
          assert.notEqual(socket.id, socket.io.engine.id);
          assert.equal(socket.io.engine.transport.name, transports.at(-1));
        });

        for (const { what, args } of ECHOED) {
          test(`echo answers with ${what}`, async () => {
            const socket = await connect(hub, { transports });
            assert.deepEqual(await ask(socket, "echo", ...args), args);
          });
        }

        test("an event reaches all members, its sender too, and no former member", async () => {
          const [room, other] = [freshRoom(), freshRoom()];
          const a = await connect(hub, { transports });
          const b = await connect(hub, { transports });
          const news = [listen(a, "news"), listen(b, "news")];
          const markers = [listen(a, "marker"), listen(b, "marker")];

          const [joined] = await ask(a, "join", room);
          assert.deepEqual({ ...joined, offset: undefined }, { room, members: 1, offset: undefined });
          assert.equal(joined.offset === null, recovery === "off", `offset: ${joined.offset}`);
          const [joinedToo] = await ask(b, "join", room);
          assert.equal(joinedToo.members, 2);

          const [published] = await ask(a, "publish", room, "news", "first", { n: 1 }, Buffer.from("one"));
          assert.deepEqual({ ...published, offset: undefined }, { level: "accepted", duplicate: false, offset: undefined });
          assert.equal(published.offset === null, recovery === "off", `offset: ${published.offset}`);
          for (const { count } of news) assert.deepEqual(await count(1), [["first", { n: 1 }, Buffer.from("one")]]);

          for (const socket of [a, b]) assert.deepEqual(await ask(socket, "leave", room), [{ room }]);
          for (const socket of [a, b]) await ask(socket, "join", other);
          // The hub has one order: a client that received the marker has received all events before
          // it.
          await ask(a, "publish", room, "news", "second");
          await ask(a, "publish", other, "marker");
          for (const { count: receive } of markers) await receive(1);
          for (const { received } of news) assert.equal(received.length, 1, `received after leaving: ${JSON.stringify(received)}`);
        });

        test("an event without arguments arrives without arguments", async () => {
          const room = freshRoom();
          const socket = await connect(hub, { transports });
          const { count } = listen(socket, "bare");
          await ask(socket, "join", room);
          socket.emit("publish", room, "bare");
          assert.deepEqual(await count(1), [[]]);
        });

        test("joining twice counts once", async () => {
          const room = freshRoom();
          const socket = await connect(hub, { transports });
          await ask(socket, "join", room);
          const [{ members }] = await ask(socket, "join", room);
          assert.equal(members, 1);
        });

        test("members lists connected sockets only", async () => {
          const room = freshRoom();
          const a = await connect(hub, { transports });
          const b = await connect(hub, { transports });
          for (const socket of [a, b]) await ask(socket, "join", room);
          const [both] = await ask(a, "members", room);
          assert.deepEqual(both.members.toSorted(), [a.id, b.id].toSorted());

          const gone = b.id;
          b.disconnect();
          const members = async () => (await ask(a, "members", room))[0].members;
          const left = await eventually("members without the one that left", members, (ids) => !ids.includes(gone));
          assert.deepEqual(left, [a.id]);
        });

        test("an unknown event is refused in its ack", async () => {
          const socket = await connect(hub, { transports });
          const [{ error }] = await ask(socket, "no-such-event", 1);
          assert.equal(error.code, "unknown_event");
          assert.equal(typeof error.message, "string");
        });

        test("an unknown event without ack is answered by stentor:error", async () => {
          const socket = await connect(hub, { transports });
          const answer = next(socket, "stentor:error");
          socket.emit("no-such-event", 1);
          const [error] = await answer;
          assert.match(JSON.stringify(error), /"unknown_event"/);
        });

        test("malformed requests are refused in their ack on an open connection", async () => {
          const socket = await connect(hub, { transports });
          for (const { event, args } of REFUSED) {
            const [answer] = await ask(socket, event, ...args);
            assert.equal(typeof answer?.error?.code, "string", `${event} ${JSON.stringify(args)}: ${JSON.stringify(answer)}`);
          }
          assert.deepEqual(await ask(socket, "echo", "still here"), ["still here"]);
          assert.ok(socket.connected);
        });

        test("an unknown namespace is refused while the main one stays connected", async () => {
          const main = await connect(hub, { transports });
          const nope = main.io.socket("/nope");
          nope.connect();
          const [error] = await next(nope, "connect_error");
          assert.equal(error.message, "Invalid namespace");
          assert.ok(main.connected);
          assert.deepEqual(await ask(main, "echo", "still here"), ["still here"]);
        });

        test("a first connection is not recovered, offsets travel with recovery only", async () => {
          const room = freshRoom();
          const socket = await connect(hub, { transports });
          assert.ok(!socket.recovered, `recovered: ${socket.recovered}`);
          await ask(socket, "join", room);
          const event = next(socket, "news");
          socket.emit("publish", room, "news", 1);
          const [value, ...rest] = await event;
          assert.equal(value, 1);
          if (recovery === "off") {
            assert.equal(socket._pid, undefined);
            assert.deepEqual(rest, []);
          } else {
            assert.equal(typeof socket._pid, "string");
            assert.equal(rest.length, 1);
            assert.equal(typeof rest[0], "string");
          }
        });
      });
    }

    test("an upgrade during events loses, repeats and reorders none", async () => {
      const room = freshRoom();
      const count = 200;
      const peer = await connect(hub, { transports: ["websocket"] });
      // The test starts the upgrade, so that events come before, during and after it.
      const socket = client(hub, { transports: ["polling", "websocket"], upgrade: false });
      await connected(socket);
      const own = listen(socket, "own");
      const peers = listen(socket, "peers");
      const ownAtPeer = listen(peer, "own");
      for (const member of [peer, socket]) await ask(member, "join", room);
      assert.equal(socket.io.engine.transport.name, "polling");

      const echoes = [];
      let upgrade;
      for (let n = 0; n < count; n += 1) {
        if (n === 50) {
          upgrade = next(socket.io.engine, "upgrade");
          socket.io.engine._probe("websocket");
        }
        if (n === 150) await upgrade;
        socket.emit("publish", room, "own", n);
        peer.emit("publish", room, "peers", n);
        echoes.push(ask(socket, "echo", n));
        await new Promise(setImmediate);
      }

      const numbers = Array.from({ length: count }, (_, n) => [n]);
      assert.deepEqual(await Promise.all(echoes), numbers);
      for (const { count: receive } of [own, peers, ownAtPeer]) assert.deepEqual(await receive(count), numbers);
      // The last packet: a repeated event would arrive before it.
      const markers = [listen(socket, "marker"), listen(peer, "marker")];
      socket.emit("publish", room, "marker");
      for (const { count: receive } of markers) await receive(1);
      assert.deepEqual([own.received.length, peers.received.length, ownAtPeer.received.length], [count, count, count]);
      assert.equal(socket.io.engine.transport.name, "websocket");
    });
  });
}
