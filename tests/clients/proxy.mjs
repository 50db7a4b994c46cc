/** A TCP proxy between clients and a server that a test can interrupt. */

import { once } from "node:events";
import net from "node:net";
import { eventually } from "./harness.mjs";

const proxies = new Set();

/**
 * Opens a proxy to `hub`, to be used by clients as if it were the hub.
 * @param {{ port: number }} hub
 */
export async function openProxy(hub) {
  /** Pairs of the socket to the client and the socket to the server. */
  const pairs = new Set();
  let up = true;
  let refused = 0;
  const server = net.createServer((clientSide) => {
    clientSide.on("error", () => {});
    if (!up) {
      refused += 1;
      return clientSide.destroy();
    }
    const serverSide = net.connect(hub.port, "127.0.0.1");
    const pair = { clientSide, serverSide };
    pairs.add(pair);
    serverSide.on("error", () => clientSide.destroy());
    serverSide.on("close", () => (clientSide.destroy(), pairs.delete(pair)));
    clientSide.on("close", () => pair.lost || serverSide.destroy());
    clientSide.on("data", (data) => (pair.polls = /^GET .*polling.*sid=/.test(data)));
    serverSide.on("data", () => (pair.polls = false));
    clientSide.pipe(serverSide).pipe(clientSide);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");

  const proxy = {
    url: `http://127.0.0.1:${server.address().port}`,

    /**
     * Resolves once a poll waits: it was forwarded to the server, and its response has not arrived.
     */
    waitingPoll() {
      const waits = ({ polls, lost, serverSide }) => polls && !lost && !serverSide.connecting && serverSide.writableLength === 0;
      return eventually("poll", async () => [...pairs].some(waits), (polls) => polls);
    },

    /** Closes both sides of all connections and refuses new ones until `restore`. */
    cut() {
      up = false;
      for (const { clientSide, serverSide } of pairs) clientSide.destroy(), serverSide.destroy();
    },

    /**
     * Closes only the client sides: the server does not notice. Refuses new connections until
     * `restore`.
     */
    dropClients() {
      up = false;
      for (const pair of pairs) {
        pair.lost = true;
        pair.serverSide.unpipe();
        pair.serverSide.resume();
        pair.clientSide.destroy();
      }
    },

    /** Resolves when the next connection attempt was refused. */
    nextAttempt() {
      const before = refused;
      return eventually("client that tries", async () => refused > before, (attempted) => attempted);
    },

    restore() {
      up = true;
    },

    close() {
      proxy.cut();
      server.close();
      proxies.delete(proxy);
    },
  };
  proxies.add(proxy);
  return proxy;
}

/** Closes every proxy of this file; an after-hook. */
export function closeProxies() {
  for (const proxy of proxies) proxy.close();
}
