/** `events_per_second` holds whatever a client does between its events. */

import { Client, frame } from "../wire.mjs";

/**
 * The limit, and what may be answered in `seconds`: a burst of twice the limit and the rest of the
 * time, with room for a late clock.
 */
const PER_SECOND = 10;
const allowed = (seconds) => 2 * (2 * PER_SECOND + PER_SECOND * seconds);

const flags = { "--events-per-second": PER_SECOND };

/**
 * Emits in bursts and reconnects to the namespace between them. Gives the events that were answered
 * without an error.
 */
async function refill(port, { ms }) {
  const client = await Client.open(port);
  let [answered, connects] = [0, 0];
  client.onPacket = (packet) => (answered += /^43\d+\[/.test(packet) && !packet.includes("rate_limited"));
  const burst = Buffer.concat(Array.from({ length: 20 }, (_, id) => frame(`42${id}["echo","x"]`)));
  const end = performance.now() + ms;
  while (performance.now() < end && !client.isClosed) {
    const last = client.waitFor((packet) => packet.startsWith("4319["), 1_000).catch(() => {});
    client.write(burst);
    await last;
    client.send("41");
    await client.connect({}, 1_000).then(() => (connects += 1)).catch(() => {});
  }
  return { answered, connects };
}

/** The same with a session for each burst. */
async function manySessions(port, { ms }) {
  let [answered, sessions] = [0, 0];
  const end = performance.now() + ms;
  while (performance.now() < end) {
    try {
      const client = await Client.open(port, { ms: 1_000 });
      sessions += 1;
      for (let count = 0; count < 20; count++) {
        const answer = await client.ask("echo", "x");
        if (answer?.error) break;
        answered += 1;
      }
      client.end();
    } catch {
      // Refused.
    }
  }
  return { answered, sessions };
}

const judge = ({ findings, report, size }) => {
  const { answered = Infinity, ...others } = report ?? {};
  findings.check("limited", answered <= allowed(size.ms / 1_000), `${answered} events answered, ${JSON.stringify(others)}`);
};

export default [
  {
    name: "rate-by-reconnecting",
    line: 6,
    about: "20 echoes, DISCONNECT, CONNECT, again, at 10 events a second",
    flags,
    full: { ms: 3_000 },
    ci: { ms: 1_000 },
    attack: refill,
    judge,
  },
  {
    name: "rate-by-sessions",
    line: 6,
    about: "a session for each burst, all from one address",
    flags,
    full: { ms: 3_000 },
    ci: { ms: 1_000 },
    attack: manySessions,
    judge,
  },
];
