/**
 * Behaviour over longer times: heartbeats keep a connection open, and clients reconnect after a
 * restart of the server.
 */

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { ask, client, closeClients, connect, connected, FACT_MS, next, startHub, TRANSPORTS, within } from "./harness.mjs";

const PINGS = 5;

describe("heartbeats", () => {
  let hub;
  before(async () => {
    hub = await startHub({ flags: ["--ping-interval", "300ms", "--ping-timeout", "300ms"] });
  });
  afterEach(() => {
    closeClients();
    hub.assertRunning();
  });
  after(() => hub?.stop());

  for (const { name, transports } of TRANSPORTS) {
    test(`an idle connection stays open for ${PINGS} pings over ${name}`, async () => {
      const socket = await connect(hub, { transports });
      const lost = new Promise((_, reject) => {
        socket.once("disconnect", (reason) => reject(new Error(`disconnected: ${reason}`)));
      });
      const pings = (async () => {
        for (let n = 0; n < PINGS; n += 1) await next(socket.io.engine, "ping");
      })();
      await Promise.race([pings, lost]);
      assert.deepEqual(await ask(socket, "echo", "alive"), ["alive"]);
    });
  }
});

describe("a server that restarts", () => {
  const hubs = [];
  afterEach(async () => {
    closeClients();
    for (const hub of hubs.splice(0)) await hub.stop();
  });

  for (const recovery of ["off", "memory"]) {
    for (const { name, transports } of TRANSPORTS) {
      test(`its clients reconnect: ${name}, recovery ${recovery}`, async () => {
        const first = await startHub({ recovery });
        hubs.push(first);
        const socket = client(first, { transports, reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 100 });
        const upgraded = transports.length > 1 ? next(socket.io.engine, "upgrade") : null;
        await connected(socket);
        await upgraded;
        const id = socket.id;

        const disconnect = next(socket, "disconnect");
        await first.stop();
        const [reason] = await disconnect;
        assert.match(reason, /^transport (close|error)$/, `"${reason}" would keep the client away`);

        const back = within("reconnect", new Promise((resolve) => socket.once("connect", resolve)), 2 * FACT_MS);
        hubs.push(await startHub({ recovery, port: first.port }));
        await back;
        assert.notEqual(socket.id, id);
        assert.ok(!socket.recovered);
        assert.deepEqual(await ask(socket, "echo", "back"), ["back"]);
      });
    }
  }
});
