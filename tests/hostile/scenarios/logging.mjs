/** Log lines that clients cause, and an unread log. */

import { dial, each, sleep } from "../wire.mjs";

const MIB = 1 << 20;

/** Malformed requests, each on its own connection. */
async function malformed(port, { count, ms }) {
  const end = performance.now() + ms;
  let sent = 0;
  await each(count, 32, async () => {
    if (performance.now() > end) return;
    try {
      const socket = await dial(port);
      const closed = new Promise((resolve) => socket.once("close", resolve));
      socket.on("data", () => {}).end("G\r\n\r\n");
      await Promise.race([closed, sleep(500)]);
      socket.destroy();
      sent += 1;
    } catch {
      // Refused.
    }
  });
  return { sent };
}

/** Maximum number of lines that a flood may write. */
const LINES_MAX = 100;

/** Maximum time from SIGTERM to the exit; the drain takes one second of it. */
const STOP_MS = 10_000;

export default [
  {
    name: "malformed-requests",
    line: 8,
    about: "malformed requests at full speed",
    full: { count: 20_000, ms: 10_000, budget: 128 * MIB },
    ci: { count: 1_000, ms: 3_000, budget: 128 * MIB },
    life: { count: 20_000, ms: 5_000 },
    attack: malformed,
    named: { log: /WARN.* malformed address=127\.0\.0\.2/, metric: /http_connections_closed_total\{reason="malformed"/ },
    judge({ findings, log, report }) {
      const lines = log.split("\n").length - 1;
      findings.check("lines", lines <= LINES_MAX, `${lines} lines logged of ${report?.sent} requests`);
    },
  },
  {
    name: "unread-log",
    line: 8,
    about: "malformed requests with unread stderr; then SIGTERM",
    full: { count: 4_000, ms: 8_000, budget: 128 * MIB },
    ci: { count: 1_500, ms: 4_000, budget: 128 * MIB },
    // Causes log lines, rate-limited or not.
    flags: { "--log-level": "trace" },
    start: { unreadStderr: true },
    attack: malformed,
    async verify({ server, findings }) {
      const ms = await server.end("SIGTERM", STOP_MS);
      findings.check("stops", ms < STOP_MS, `${ms.toFixed(0)} ms after SIGTERM`);
    },
  },
];
