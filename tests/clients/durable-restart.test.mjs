/** `static/client/durable.js` with both clients over a kill of `stentor serve`. */

import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { publishDurable, subscriber } from "../../static/client/durable.js";
import { ask, client, CLIENTS, closeClients, connected, eventually, freshFolder, next, startHub, TRANSPORTS } from "./harness.mjs";

describe("durable events over a kill of the server", () => {
  let hub;
  afterEach(async () => {
    closeClients();
    await hub?.stop();
  });

  for (const [library, io] of Object.entries(CLIENTS)) {
    for (const { name, transports } of TRANSPORTS) {
      test(`${library}, ${name}: each event is stored and handled once`, async () => {
        const folder = freshFolder();
        hub = await startHub({ recovery: "disk", folder });
        const options = { io, transports, reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 };
        const kitchen = client(hub, options);
        const orders = [];
        subscriber(kitchen, "kitchen").on("order", (number) => void orders.push(number));
        const publisher = client(hub, options);
        await Promise.all([connected(kitchen), connected(publisher)]);
        const [reply] = await ask(kitchen, "join", "orders", { durable: true });
        assert.equal(reply.error, undefined);

        await publishDurable(publisher, "orders", "order", 0);
        const lost = [next(kitchen, "disconnect"), next(publisher, "disconnect")];
        // Some of these are stored before the kill, some of them answered.
        const under = [1, 2, 3, 4].map((number) => publishDurable(publisher, "orders", "order", number));
        await hub.kill();
        await Promise.all(lost);
        under.push(publishDurable(publisher, "orders", "order", 5));
        hub = await startHub({ recovery: "disk", folder, port: hub.port });
        const receipts = await Promise.all(under);
        assert.equal(new Set(receipts.map(({ offset }) => offset)).size, 5);
        await eventually("all orders", async () => orders.length, (count) => count >= 6);
        assert.deepEqual(orders.toSorted(), [0, 1, 2, 3, 4, 5]);
      });
    }
  }
});
