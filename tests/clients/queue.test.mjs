/**
 * The stock client, unmodified and without `durable.js`, as a subscriber of `stentor serve`.
 */

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { io } from "socket.io-client";
import { ask, client, closeClients, connect, connected, eventually, freshRoom, next, startQueueHub, TRANSPORTS } from "./harness.mjs";

describe("stock socket.io-client as a subscriber", () => {
  let hub;
  before(async () => (hub = await startQueueHub()));
  afterEach(() => closeClients());
  after(() => hub.stop());

  for (const { name, transports } of TRANSPORTS) {
    describe(name, () => subscriber(transports));
  }

  function subscriber(transports) {
    const open = async (subscriber, onOrder) => {
      const socket = client(hub, { io, transports, auth: { subscriber } });
      if (onOrder) socket.on("order", onOrder);
      const attached = next(socket, "stentor:attached");
      await connected(socket);
      return { socket, attached: (await attached)[0] };
    };

    const publisher = async (room) => {
      const till = await connect(hub, { io, transports });
      return async (number) => (await ask(till, "publish", { room, durable: true }, "order", number))[0];
    };

    const nothingPending = (socket) =>
      eventually("nothing pending", async () => (await ask(socket, "pending"))[0], ({ events }) => events === 0);

    test("receives what was published while it was away, in order, until it acknowledges", async () => {
      const [name, room] = [freshRoom(), freshRoom()];
      const { socket, attached } = await open(name);
      assert.deepEqual(attached, { status: "reset", reason: "new", pending: 0, gaps: [] });
      await ask(socket, "join", room, { durable: true });
      socket.disconnect();
      const publish = await publisher(room);
      for (const number of [1, 2, 3]) assert.equal((await publish(number)).pending_for, 1);

      const ignored = [];
      const first = await open(name, (number, meta) => ignored.push([number, meta.room, meta.redelivered]));
      assert.deepEqual(first.attached, { status: "resumed", pending: 3, gaps: [] });
      await eventually("three orders", async () => ignored, ({ length }) => length === 3);
      assert.deepEqual(ignored, [1, 2, 3].map((number) => [number, room, undefined]));
      first.socket.disconnect();

      const handled = [];
      const second = await open(name, (number, meta, ack) => (handled.push([number, meta.redelivered]), ack()));
      await nothingPending(second.socket);
      assert.deepEqual(handled.slice().sort(), [1, 2, 3].map((number) => [number, true]));
    });

    test("refuses an event, which comes again, or gives it up", async () => {
      const [name, room] = [freshRoom(), freshRoom()];
      const seen = [];
      const answers = [{ nak: true, delay: 10 }, { nak: true }, { term: true, reason: "no such dish" }];
      const { socket } = await open(name, (number, meta, ack) => {
        seen.push(meta.redelivered ?? false);
        ack(answers[seen.length - 1]);
      });
      await ask(socket, "join", room, { durable: true });
      await (await publisher(room))(7);
      const [dead] = await eventually("a dead letter", async () => (await ask(socket, "dead"))[0].events, ({ length }) => length === 1);
      assert.deepEqual(seen, [false, true, true]);
      assert.deepEqual([dead.event, dead.args, dead.reason], ["order", [7], "no such dish"]);
    });

    test("is evicted by a newer connection of its name", async () => {
      const name = freshRoom();
      const older = await open(name);
      const evicted = next(older.socket, "stentor:evicted");
      const gone = next(older.socket, "disconnect");
      await open(name);
      assert.deepEqual((await evicted)[0], { reason: "replaced" });
      assert.equal((await gone)[0], "io server disconnect");
    });
  }

  test("a name that is no name is refused at CONNECT", async () => {
    for (const subscriber of ["", "n".repeat(257), "a\nb", 7]) {
      const socket = client(hub, { io, transports: ["websocket"], auth: { subscriber } });
      const [error] = await next(socket, "connect_error");
      assert.match(error.message, /subscriber/);
      assert.equal(error.data.code, "bad_request");
    }
  });
});
