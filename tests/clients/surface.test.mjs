/**
 * Documented behaviour of Socket.IO server and client, with the stock client and with ours: against
 * our server on its own port, against ours inside a host application, and against Node's socket.io
 * to validate the tests.
 */

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import {
  ask,
  client,
  CLIENTS,
  closeClients,
  connect,
  connected,
  eventually,
  freshRoom,
  listen,
  next,
  setsHeaders,
  startTour,
  TOURS,
  TRANSPORTS,
  within,
} from "./harness.mjs";

const PAIRS = Object.entries(CLIENTS).flatMap(([library, io]) => Object.keys(TOURS).map((server) => ({ library, io, server })));

for (const { library, io, server } of PAIRS) {
  describe(`${library} and ${server}`, () => {
    let hub;
    before(async () => (hub = await startTour(server)));
    afterEach(() => closeClients());
    after(() => hub.stop());

    for (const { name, transports } of TRANSPORTS) {
      describe(name, () => surface(transports));
    }

    function surface(transports) {
      const join = (options) => connect(hub, { io, transports, ...options });
      const named = async (name, ...rooms) => {
        const socket = await join({ auth: { name } });
        for (const room of rooms) await ask(socket, "join", room);
        return socket;
      };

      test("middleware refuses with message and data, and admits a better retry", async () => {
        const auth = { token: "bad" };
        const socket = client(hub, { io, transports, auth: (give) => give(auth) });
        const [error] = await next(socket, "connect_error");
        assert.equal(error.message, "not authorized");
        assert.deepEqual(error.data, { code: 17 });
        assert.equal(socket.active, false);
        auth.token = "good";
        socket.connect();
        await connected(socket);
      });

      test("an unknown namespace is refused while others stay connected", async () => {
        const socket = await join({ forceNew: true });
        const other = socket.io.socket("/nowhere");
        const [error] = await next(other, "connect_error");
        assert.equal(error.message, "Invalid namespace");
        assert.deepEqual(await ask(socket, "echo", 1), [1]);
      });

      test("namespaces share a connection and have their own sockets", async () => {
        const socket = await join({ forceNew: true });
        const quiet = socket.io.socket("/quiet");
        const tenant = socket.io.socket("/tenant-42");
        await Promise.all([connected(quiet), connected(tenant)]);
        assert.equal(new Set([socket.id, quiet.id, tenant.id]).size, 3);
        assert.deepEqual(await ask(tenant, "where"), ["/tenant-42"]);
        tenant.disconnect();
        assert.deepEqual(await ask(socket, "echo", "still here"), ["still here"]);
      });

      test("the handshake has query, headers and credentials", async () => {
        const socket = await join({
          query: { word: "a b&c=ü" },
          extraHeaders: { "x-test": "yes" },
          auth: { name: "kim", more: [1, { two: 2 }] },
        });
        const [told] = await ask(socket, "handshake");
        assert.deepEqual(told, {
          query: "a b&c=ü",
          header: setsHeaders(transports) ? "yes" : null,
          secure: false,
          auth: { name: "kim", more: [1, { two: 2 }] },
          id: socket.id,
        });
      });

      test("acks carry any values, also binary, in both directions", async () => {
        const socket = await join();
        const values = [1, "two", [3], { four: null }, Buffer.from([5, 0, 255]), { in: [Buffer.alloc(70_000, 7)] }];
        assert.deepEqual(await ask(socket, "echo", ...values), values);
        socket.on("question", (question, ack) => ack(question, Buffer.from("binary")));
        assert.deepEqual(await ask(socket, "ask me", 5000, { what: "?" }), [{ what: "?" }, Buffer.from("binary")]);
        assert.equal(await within("ack", socket.emitWithAck("echo", "promised")), "promised");
        assert.equal(await within("ack", socket.timeout(5000).emitWithAck("echo", "in time")), "in time");
      });

      test("a missing ack ends at its timeout on either side", async () => {
        const socket = await join();
        assert.deepEqual(await ask(socket, "ask me", 50, "nobody listens"), ["timed out"]);
        await assert.rejects(within("timeout", socket.timeout(50).emitWithAck("to", "nowhere", "no ack")), /timed out/);
      });

      test("binary is forwarded unchanged", async () => {
        const [one, two] = [await join(), await join()];
        const relayed = next(two, "relayed");
        const data = { list: [Buffer.from([1, 2]), "text"], typed: new Uint8Array([3, 4, 5]) };
        one.emit("relay", data, Buffer.alloc(0));
        assert.deepEqual(await relayed, [
          { list: [Buffer.from([1, 2]), "text"], typed: Buffer.from([3, 4, 5]) },
          Buffer.alloc(0),
        ]);
      });

      test("rooms can be joined, listed, addressed, excepted and left", async () => {
        const [room, other] = [freshRoom(), freshRoom()];
        const [one, two, three] = [await named("one", room), await named("two", room, other), await named("three", room)];
        assert.deepEqual(await ask(two, "rooms"), [[room, other].sort()]);
        const words = [one, two, three].map((socket) => listen(socket, "word"));
        one.emit("to", room, "to others");
        one.emit("all", room, "to all");
        one.emit("except", room, other, "but two");
        await ask(one, "leave", room);
        three.emit("all", room, "without one");
        await words[1].count(3);
        await words[2].count(4);
        assert.deepEqual(words[0].received, [["to all"], ["but two"]]);
        assert.deepEqual(words[1].received, [["to others"], ["to all"], ["without one"]]);
        assert.deepEqual(words[2].received, [["to others"], ["to all"], ["but two"], ["without one"]]);
      });

      test("a broadcast reaches all sockets but its sender", async () => {
        const [one, two] = [await join(), await join()];
        const [own, others] = [listen(one, "word"), next(two, "word")];
        one.emit("broadcast", { n: 1 });
        assert.deepEqual(await others, [{ n: 1 }]);
        await ask(one, "echo");
        assert.deepEqual(own.received, []);
      });

      test("acks of many sockets are collected and missing ones counted", async () => {
        const room = freshRoom();
        const [asker, one, two] = [await named("asker"), await named("one", room), await named("two", room)];
        one.on("question", (_, ack) => ack("1"));
        two.on("question", (_, ack) => ack("2"));
        assert.deepEqual(await ask(asker, "ask all", room, 5000), [["1", "2"], 0]);
        const silent = await named("silent", room);
        assert.deepEqual(await ask(asker, "ask all", room, 2000), [["1", "2"], 1]);
        silent.disconnect();
      });

      test("sockets are fetched with data, moved between rooms, disconnected", async () => {
        const [from, to] = [freshRoom(), freshRoom()];
        const [boss, one, two] = [await named("boss"), await named("one", from), await named("two", from)];
        assert.deepEqual(await ask(boss, "fetch", from), [["one", "two"]]);
        await ask(boss, "move", from, to);
        assert.deepEqual(await ask(boss, "fetch", from), [[]]);
        assert.deepEqual(await ask(boss, "fetch", to), [["one", "two"]]);
        const ends = [one, two].map((socket) => next(socket, "disconnect"));
        await ask(boss, "kick", to, false);
        for (const end of ends) assert.equal((await end)[0], "io server disconnect");
        await eventually("an empty room", () => ask(boss, "fetch", to), ([names]) => names.length === 0);
      });

      test("disconnect reasons are those of Socket.IO on both sides", async () => {
        const room = freshRoom();
        const watcher = await named("watcher", room);
        const left = listen(watcher, "left");
        const leaves = await named("leaves", room);
        const ended = next(leaves, "disconnect");
        leaves.disconnect();
        assert.equal((await ended)[0], "io client disconnect");
        await left.count(1);
        const kicked = await named("kicked", room);
        kicked.emit("bye", false);
        assert.equal((await next(kicked, "disconnect"))[0], "io server disconnect");
        assert.equal(kicked.active, false);
        await left.count(2);
        const closed = await named("closed", room);
        closed.emit("bye", true);
        assert.equal((await next(closed, "disconnect"))[0], "io server disconnect");
        await left.count(3);
        assert.deepEqual(
          left.received.map(([name, reason]) => [name, reason]),
          [
            ["leaves", "client namespace disconnect"],
            ["kicked", "server namespace disconnect"],
            ["closed", "server namespace disconnect"],
          ],
        );
      });

      test("a broken connection is reported and the client reconnects", async () => {
        const room = freshRoom();
        const watcher = await named("watcher", room);
        const left = listen(watcher, "left");
        const socket = await join({ auth: { name: "breaks" }, reconnection: true, reconnectionDelay: 10 });
        await ask(socket, "join", room);
        const before = socket.id;
        const again = next(socket, "connect");
        socket.io.engine.close();
        await again;
        assert.notEqual(socket.id, before);
        assert.ok(!socket.recovered);
        await left.count(1);
        assert.deepEqual(left.received, [["breaks", "transport close"]]);
        assert.deepEqual(await ask(socket, "rooms"), [[]]);
      });

      test("events emitted while disconnected are sent later, volatile ones not", async () => {
        const socket = await join({ reconnection: true, reconnectionDelay: 10 });
        // The stock client loses events emitted between the two, while its last request is in
        // flight.
        const gone = next(socket, "disconnect");
        socket.io.engine.close();
        await gone;
        const echoed = ask(socket, "echo", "kept");
        socket.volatile.emit("to", "nowhere", "dropped");
        assert.deepEqual(await echoed, ["kept"]);
      });

      test("handlers of one socket, once-handlers and middleware for events", async () => {
        const socket = await join();
        const once = listen(socket, "came once");
        assert.deepEqual(await ask(socket, "own"), ["own"]);
        assert.deepEqual(await ask(socket, "forbidden", 1, 2), [{ error: "forbidden" }]);
        socket.emit("once");
        socket.emit("once");
        await ask(socket, "echo");
        assert.equal(once.received.length, 1);
      });

      test("catch-all listeners of the client see both directions", async () => {
        const socket = await join();
        const [incoming, outgoing] = [[], []];
        socket.onAny((event, ...args) => incoming.push([event, ...args]));
        socket.onAnyOutgoing((event, ...args) => outgoing.push([event, args[0]]));
        socket.on("question", (_, ack) => ack("fine"));
        await ask(socket, "ask me", 5000, "how?");
        assert.equal(incoming[0][0], "question");
        assert.deepEqual(outgoing, [["ask me", 5000]]);
      });

      test("volatile events to a client that reads arrive in order", async () => {
        const socket = await join();
        const maybe = listen(socket, "maybe");
        await ask(socket, "volatile", 20);
        const numbers = maybe.received.map(([n]) => n);
        assert.deepEqual(numbers, [...numbers].sort((a, b) => a - b));
        // Our server accepts all that the websocket accepts; Node's is not ready for a second event
        // in the same turn. A polling client may be between two requests.
        const ours = server !== "Node's socket.io";
        if (ours && transports.at(-1) === "websocket") assert.equal(numbers.length, 20);
      });

      test("packets with acks are retried in order until acknowledged", async () => {
        const socket = await join({ retries: 3, ackTimeout: 2000 });
        const answers = await Promise.all([1, 2, 3].map((n) => within("ack", socket.emitWithAck("echo", n))));
        assert.deepEqual(answers, [1, 2, 3]);
      });
    }
  });
}
