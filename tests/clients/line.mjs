/** A TCP line between clients and a server, in user space, that a test can cut. */

import { once } from "node:events";
import net from "node:net";
import { eventually } from "./harness.mjs";

const lines = new Set();

/**
 * Opens a line to `hub`. Clients are given it in place of the hub.
 * @param {{ port: number }} hub
 */
export async function openLine(hub) {
  /** Per connection, the client's end and the server's. */
  const pairs = new Set();
  let up = true;
  let refused = 0;
  const server = net.createServer((near) => {
    near.on("error", () => {});
    if (!up) {
      refused += 1;
      return near.destroy();
    }
    const far = net.connect(hub.port, "127.0.0.1");
    const pair = { near, far };
    pairs.add(pair);
    far.on("error", () => near.destroy());
    far.on("close", () => (near.destroy(), pairs.delete(pair)));
    near.on("close", () => pair.lost || far.destroy());
    near.on("data", (data) => (pair.polls = /^GET .*polling.*sid=/.test(data)));
    far.on("data", () => (pair.polls = false));
    near.pipe(far).pipe(near);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");

  const line = {
    url: `http://127.0.0.1:${server.address().port}`,

    /** Resolves once a poll waits: it was sent on to the server, and no answer to it has come. */
    polled() {
      const waits = ({ polls, lost, far }) => polls && !lost && !far.connecting && far.writableLength === 0;
      return eventually("poll", async () => [...pairs].some(waits), (polls) => polls);
    },

    /** Both sides see the end, and no client comes through until `restore`. */
    cut() {
      up = false;
      for (const { near, far } of pairs) near.destroy(), far.destroy();
    },

    /** Only the clients see the end: the server writes on into the void. No client comes through until `restore`. */
    lose() {
      up = false;
      for (const pair of pairs) {
        pair.lost = true;
        pair.far.unpipe();
        pair.far.resume();
        pair.near.destroy();
      }
    },

    /** Resolves once a client has tried to come through in vain. */
    knocked() {
      const before = refused;
      return eventually("client that tries", async () => refused > before, (knocked) => knocked);
    },

    restore() {
      up = true;
    },

    close() {
      line.cut();
      server.close();
      lines.delete(line);
    },
  };
  lines.add(line);
  return line;
}

/** Closes every line of this file; an after-hook. */
export function closeLines() {
  for (const line of lines) line.close();
}
