/**
 * `static/client/durable.js` with the stock client and with ours against `stentor serve`; in
 * Chromium as well (`tests/browser/durable.test.mjs`). `durable.test.mjs` has its details.
 */

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { publishDurable, subscriber } from "../../static/client/durable.js";
import {
  ACK_WAIT_MS,
  ask,
  client,
  CLIENTS,
  closeClients,
  connect,
  connected,
  eventually,
  freshRoom,
  next,
  startQueueHub,
  TRANSPORTS,
  within,
} from "./harness.mjs";

for (const [library, io] of Object.entries(CLIENTS)) {
  describe(`${library} and stentor serve`, () => {
    let hub;
    before(async () => (hub = await startQueueHub()));
    afterEach(() => closeClients());
    after(() => hub.stop());

    for (const { name, transports } of TRANSPORTS) {
      describe(name, () => durable(transports));
    }

    function durable(transports) {
      /** A device: a subscriber's name, and what its storage keeps. */
      const device = () => {
        const items = new Map();
        const storage = { getItem: (key) => items.get(key) ?? null, setItem: (key, value) => items.set(key, value) };
        return { name: freshRoom(), storage };
      };

      /** Connects a device; its handler of "order" collects numbers and then calls `handle`. */
      const open = async ({ name, storage }, { handle = () => {}, ...options } = {}) => {
        const socket = client(hub, { io, transports, reconnection: true, reconnectionDelay: 10 });
        const orders = [];
        const redelivered = [];
        subscriber(socket, name, { storage, onError() {}, ...options }).on("order", async (number, meta) => {
          orders.push(number);
          if (meta.redelivered) redelivered.push(number);
          await handle(number, socket);
        });
        const attached = next(socket, "stentor:attached");
        await connected(socket);
        return { socket, orders, redelivered, attached: (await attached)[0] };
      };

      const join = async (socket, room) => {
        const [reply] = await ask(socket, "join", room, { durable: true });
        assert.equal(reply.error, undefined);
      };

      const has = (orders, ...numbers) => eventually(`orders ${numbers}`, () => orders.join(), (found) => found === numbers.join());
      const handledAll = (socket) => eventually("empty backlog", () => ask(socket, "pending"), ([{ events }]) => events === 0);

      test("events wait for a device that is away, in order", async () => {
        const [room, kitchen] = [freshRoom(), device()];
        const first = await open(kitchen);
        assert.equal(first.attached.status, "reset");
        await join(first.socket, room);
        const publisher = await connect(hub, { io, transports });
        const stored = await publishDurable(publisher, room, "order", 1);
        assert.deepEqual([stored.duplicate, stored.pending_for], [false, 1]);
        await has(first.orders, 1);
        await handledAll(first.socket);
        first.socket.disconnect();
        await publishDurable(publisher, room, "order", 2);
        await publishDurable(publisher, room, "order", 3);
        const second = await open(kitchen);
        assert.deepEqual([second.attached.status, second.attached.pending], ["resumed", 2]);
        await has(second.orders, 2, 3);
        await handledAll(second.socket);
      });

      test("a repeated dedup_id stores one event", async () => {
        const [room, kitchen] = [freshRoom(), device()];
        const { socket, orders } = await open(kitchen);
        await join(socket, room);
        const target = { room, dedup_id: freshRoom() };
        const first = await publishDurable(socket, target, "order", 1);
        const second = await publishDurable(socket, target, "order", 1);
        assert.deepEqual(second, { ...first, duplicate: true });
        await assert.rejects(publishDurable(socket, target, "order", 2), /dedup_id/);
        await publishDurable(socket, room, "order", 3);
        await has(orders, 1, 3);
      });

      test("a failed event comes again, after later ones", async () => {
        const [room, kitchen] = [freshRoom(), device()];
        let failures = 0;
        const handle = (number) => {
          if (number === 1 && failures++ === 0) throw Object.assign(new Error("busy"), { delay: 300 });
        };
        const { socket, orders, redelivered } = await open(kitchen, { handle });
        await join(socket, room);
        await publishDurable(socket, room, "order", 1);
        await publishDurable(socket, room, "order", 2);
        await has(orders, 1, 2, 1);
        assert.deepEqual(redelivered, [1]);
        await handledAll(socket);
      });

      test("an event that is given up is a dead letter", async () => {
        const [room, kitchen] = [freshRoom(), device()];
        const handle = (number) => {
          if (number === 1) throw Object.assign(new Error("no such table"), { term: true });
        };
        const { socket, orders } = await open(kitchen, { handle });
        await join(socket, room);
        await publishDurable(socket, room, "order", 1);
        await publishDurable(socket, room, "order", 2);
        await has(orders, 1, 2);
        const [pending] = await eventually("dead letter", () => ask(socket, "pending"), ([{ events }]) => events === 0);
        assert.equal(pending.dead_letters, 1);
      });

      test("an event whose ack is lost is not handled again", async () => {
        const [room, kitchen] = [freshRoom(), device()];
        const handle = (number, socket) => {
          if (number === 1) socket.io.engine.close();
        };
        const { socket, orders } = await open(kitchen, { handle });
        await join(socket, room);
        const again = next(socket, "stentor:attached");
        await publishDurable(await connect(hub, { io, transports }), room, "order", 1);
        assert.equal((await again)[0].pending, 1);
        await handledAll(socket);
        assert.deepEqual(orders, [1]);
      });

      test("a handler may take longer than ack_wait", async () => {
        const [room, kitchen] = [freshRoom(), device()];
        let reported;
        const handle = (number, socket) => {
          let reports = 0;
          reported = new Promise((resolve) => socket.onAnyOutgoing((event) => event === "in_progress" && ++reports === 5 && resolve()));
          return within("five reports", reported);
        };
        const { socket, orders } = await open(kitchen, { handle, ackWait: ACK_WAIT_MS });
        await join(socket, room);
        await publishDurable(socket, room, "order", 1);
        await has(orders, 1);
        await reported;
        await handledAll(socket);
        assert.deepEqual(orders, [1]);
      });

      test("a newer connection of the name takes over", async () => {
        const [room, kitchen] = [freshRoom(), device()];
        const first = await open(kitchen);
        await join(first.socket, room);
        const [evicted, gone] = [next(first.socket, "stentor:evicted"), next(first.socket, "disconnect")];
        const second = await open(kitchen);
        await evicted;
        assert.equal((await gone)[0], "io server disconnect");
        await publishDurable(second.socket, room, "order", 1);
        await has(second.orders, 1);
        assert.deepEqual(first.orders, []);
      });
    }
  });
}
