/** `events_per_second` with other packets between the events. */

import { Client, frame } from "../wire.mjs";

/** Events per second of one session; one address has ten times that. */
const PER_SECOND = 10;

/**
 * Maximum number of answers in `ms`: a burst of twice the limit and the rest of the time. Doubled,
 * because the clock starts late.
 */
const allowed = (ms, perSecond) => 2 * (2 * perSecond + perSecond * (ms / 1_000));

const common = {
  line: 6,
  flags: { "--events-per-second": PER_SECOND },
  full: { ms: 3_000 },
  ci: { ms: 1_000 },
  // The prober stays below the limit.
  pauseMs: 250,
  named: { metric: /rate_limited/ },
};

/**
 * Emits in bursts and reconnects to the namespace between them. Gives the number of events answered
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

/** Emits bursts, each in a session of its own. */
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

const judge = (perSecond) => ({ findings, report, size }) => {
  const { answered = Infinity, ...others } = report ?? {};
  const most = allowed(size.ms, perSecond);
  findings.check("limited", answered <= most, `${answered} events answered, at most ${most}; ${JSON.stringify(others)}`);
};

export default [
  {
    ...common,
    name: "rate-by-reconnecting",
    about: "20 echoes, DISCONNECT, CONNECT, repeated, at 10 events per second",
    attack: refill,
    judge: judge(PER_SECOND),
  },
  {
    ...common,
    name: "rate-by-sessions",
    about: "a session for each burst, all from one address",
    attack: manySessions,
    judge: judge(10 * PER_SECOND),
  },
];
