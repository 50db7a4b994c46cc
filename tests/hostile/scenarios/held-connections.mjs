/**
 * Connections that occupy the connection limit without being served: silent ones, slow ones, and
 * ones that do not read.
 */

import { dial, sleep } from "../wire.mjs";

const MIB = 1 << 20;

/** Pause between two bytes of a slow connection, and before a closed one reconnects. */
const DRIP_MS = 250;

/** Number of requests written together: their responses exceed what the kernel buffers. */
const PIPELINED = 100;

const head = (port, line) => `${line} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n`;
const chunked = (port, path) => `${head(port, `POST ${path}`)}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`;

/** First bytes of a connection and the bytes that it repeats. */
const KINDS = {
  "silent after a request": { begins: (port) => `${head(port, "GET /healthz")}\r\nG` },
  "slow head": { begins: (port) => `${head(port, "GET /healthz")}X-`, adds: "a" },
  "slow second head": { begins: (port) => `${head(port, "GET /healthz")}\r\n${head(port, "GET /healthz")}X-`, adds: "a" },
  "slow body to /": { begins: (port) => chunked(port, "/"), adds: "1\r\na\r\n" },
  "slow body to /healthz": { begins: (port) => chunked(port, "/healthz"), adds: "1\r\na\r\n" },
  "slow body to the API": { begins: (port) => chunked(port, "/api/v1/publish"), adds: "1\r\na\r\n" },
  "slow handshake body": { begins: (port) => chunked(port, "/socket.io/?EIO=4&transport=polling"), adds: "1\r\na\r\n" },
  "unread answers": { begins: (port) => `${head(port, "GET /client/engine.js")}\r\n`.repeat(PIPELINED), isUnread: true },
};

/** Time from the first connection until the limit can be reached. */
const ARRIVAL_MS = 1_000;

/**
 * Holds `count` connections of these kinds for `ms`; a connection that the server closes is
 * reopened.
 */
async function hold(port, { count, kinds, ms }, begin) {
  const end = performance.now() + ARRIVAL_MS + ms;
  setTimeout(begin, ARRIVAL_MS);
  let ended = 0;
  const occupy = async (kind) => {
    while (performance.now() < end) {
      try {
        const socket = await dial(port);
        if (kind.isUnread) socket.pause();
        else socket.on("data", () => {});
        socket.write(kind.begins(port));
        while (!socket.destroyed && performance.now() < end) {
          await sleep(DRIP_MS);
          if (kind.adds) socket.write(kind.adds);
        }
        ended += 1;
      } catch {
        await sleep(DRIP_MS);
      }
    }
  };
  await Promise.all(Array.from({ length: count }, (_, index) => occupy(KINDS[kinds[index % kinds.length]])));
  return { ended };
}

const slow = Object.keys(KINDS).filter((kind) => kind !== "silent after a request" && kind !== "unread answers");

const common = { attack: hold, watchesHealth: true, line: 3 };
const at20 = { "--http-connections-max": 20, "--request-head-timeout": "2s" };

export default [
  {
    ...common,
    name: "silent-connections",
    about: "one complete request, one byte, then nothing: 24 connections at a limit of 20",
    flags: at20,
    full: { count: 24, kinds: ["silent after a request"], ms: 15_000, budget: 128 * MIB },
    ci: { count: 24, kinds: ["silent after a request"], ms: 4_000, budget: 128 * MIB },
    named: { log: /WARN.* connection closed, .* address=127\.0\.0\.2/, metric: /http_connections_closed_total\{reason="(evicted|head)"/ },
  },
  {
    ...common,
    name: "silent-at-1024",
    about: "one complete request, one byte, then nothing: 1 020 connections at 1 024 descriptors",
    full: { nofile: 1_024, count: 1_020, kinds: ["silent after a request"], ms: 15_000, budget: 256 * MIB },
    life: { count: 1_020, kinds: ["silent after a request"], ms: 10_000 },
  },
  {
    ...common,
    name: "slow-requests",
    about: "headers and bodies byte by byte, also bodies that no handler reads",
    flags: at20,
    full: { count: 30, kinds: slow, ms: 15_000, budget: 128 * MIB },
    ci: { count: 30, kinds: slow, ms: 4_000, budget: 128 * MIB },
    life: { count: 900, kinds: slow, ms: 10_000 },
  },
  {
    ...common,
    name: "unread-answers",
    about: "100 pipelined requests per connection with unread responses",
    flags: at20,
    full: { count: 24, kinds: ["unread answers"], ms: 15_000, budget: 128 * MIB },
    life: { count: 400, kinds: ["unread answers"], ms: 10_000 },
  },
];
