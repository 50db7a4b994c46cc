/**
 * Runs one scenario: a server, a prober, and the attack in its own process. Verdicts are ratios
 * within the run, the memory budget, the time of a restart, and whether log and metrics name the
 * cause.
 */

import { fork } from "node:child_process";
import path from "node:path";
import { makeCgroup } from "./cgroup.mjs";
import { Prober } from "./prober.mjs";
import { Server } from "./server.mjs";
import { request, sleep } from "./wire.mjs";

/** Duration of the prober's measurement before the attack, in milliseconds. */
const CALM_MS = { full: 2_000, life: 2_000, ci: 1_000 };

/** Duration of the prober's measurement after the attack, in milliseconds. */
const AFTER_MS = { full: 3_000, life: 3_000, ci: 1_000 };

/** Maximum duration of an attack; its process is then killed, which is no failure. */
const ATTACK_MS = 40_000;

/**
 * Share of its undisturbed rate that the prober must keep. The small versions only check that it is
 * served: an unoptimised binary needs most of the machine for the attack's bytes.
 */
const RATE_SHARE = { full: 0.5, life: 0.5, ci: 0.02 };

/** Share of health checks that must be answered within a second. */
const HEALTH_SHARE = 0.5;
const HEALTH_EVERY_MS = 200;
const HEALTH_MS = 1_000;

/** Maximum time of a restart after `kill -9`, in milliseconds; longer for an unoptimised binary. */
const RESTART_MS = { full: 2_000, life: 2_000, ci: 10_000 };

const MIB = 1 << 20;

/** Measured values and verdicts of a scenario. */
export class Findings {
  /** @type {{ name: string, isGood: boolean, figure: string }[]} */
  list = [];

  check(name, isGood, figure) {
    this.list.push({ name, isGood: Boolean(isGood), figure: String(figure) });
  }

  get isGood() {
    return this.list.every(({ isGood }) => isGood);
  }
}

/** Runs `scenario` on a server of its own. */
export async function run(binary, scenario, kind) {
  const size = scenario[kind];
  const findings = new Findings();
  const server = new Server(binary, { flags: { ...scenario.flags, ...size.flags }, nofile: size.nofile, addressSpace: size.addressSpace });
  try {
    if (scenario.prepare) await scenario.prepare({ server, size });
    if (scenario.attack) {
      await server.start(scenario.start);
      await attackAndProbe(server, scenario, size, kind, findings);
      if (scenario.restarts) await restart(server, kind, findings);
    }
    if (scenario.verify) await scenario.verify({ server, size, findings, kind });
  } catch (error) {
    findings.check("ran", false, error.message);
  } finally {
    await server.remove();
  }
  return findings;
}

/**
 * Runs all scenarios that have a `life` size one after the other on one server with `budget` bytes
 * and `nofile` descriptors: in a cgroup, or by a setting where cgroups are not permitted.
 */
export async function runLife(binary, scenarios, { nofile, budget }, print) {
  const cgroup = makeCgroup(budget);
  // Half of the machine, which is the server's own default.
  const flags = cgroup ? {} : { "--memory-max": budget / 2 };
  console.log(`one life: ${mib(budget)} MiB (${cgroup ? "a cgroup" : "by setting"}), ${nofile} descriptors`);
  const server = new Server(binary, { flags, nofile, procs: cgroup?.procs });
  try {
    await server.start();
    for (const scenario of scenarios.filter(({ life, attack }) => life && attack)) {
      const findings = new Findings();
      server.restartPeak();
      try {
        await attackAndProbe(server, scenario, { budget, ...scenario.life }, "life", findings);
      } catch (error) {
        findings.check("ran", false, error.message);
      }
      print(scenario, findings);
      if (!server.isRunning) return;
    }
    const findings = new Findings();
    await restart(server, "life", findings);
    print({ name: "restart" }, findings);
  } finally {
    await server.remove();
    cgroup?.remove();
  }
}

async function attackAndProbe(server, scenario, size, kind, findings) {
  const prober = new Prober(server.port, scenario.pauseMs);
  await prober.start();
  try {
    const calm = await during(prober, CALM_MS[kind]);
    const [metrics, logBytes] = [await server.metrics(), server.logBytes];
    server.restartPeak();
    const before = server.peakKib * 1024;
    const health = scenario.watchesHealth ? new HealthCheck(server.port) : null;
    let measured = prober.measure();
    const report = await attack(server, scenario, size, () => {
      measured = prober.measure();
      health?.restart();
    });
    const attacked = measured();
    if (health) {
      const share = await health.stop();
      findings.check("health", share >= HEALTH_SHARE, `${Math.round(share * 100)} % of the checks answered`);
    }
    const after = await during(prober, AFTER_MS[kind]);
    findings.check("alive", server.isRunning, server.isRunning ? "running" : "the server has ended");
    const share = size.rateShare ?? RATE_SHARE[kind];
    rate(findings, "during", calm, attacked, share);
    rate(findings, "after", calm, after, share);
    findings.check("connected", prober.cuts === 0, `prober lost ${prober.cuts} connections`);
    const peak = server.peakKib * 1024;
    if (size.budget) findings.check("memory", peak <= size.budget, `${mib(peak)} of ${mib(size.budget)} MiB`);
    const growth = peak - before;
    if (size.growth) findings.check("memory", growth <= size.growth, `${mib(growth)} of ${mib(size.growth)} MiB more`);
    const seen = { log: server.log(logBytes), before: metrics, metrics: await server.metrics() };
    if (scenario.named) named(findings, seen, scenario.named);
    await scenario.judge?.({ ...seen, server, size, findings, report, calm, attacked, after });
  } finally {
    await prober.stop();
  }
}

async function during(prober, ms) {
  const measured = prober.measure();
  await sleep(ms);
  return measured();
}

function rate(findings, when, calm, { rate, p99, max }, share) {
  const [before, now] = [calm, { rate, p99, max }].map(({ rate, p99 }) => `${rate.toFixed(0)} acks/s (p99 ${p99.toFixed(0)} ms)`);
  findings.check(when, rate >= share * calm.rate, `${before} → ${now}, max ${max.toFixed(0)} ms`);
}

/** Checks that a log line names the client and that one of the counters has grown. */
function named(findings, { log, before, metrics }, { log: pattern, metric }) {
  if (pattern) {
    const line = log.split("\n").find((line) => pattern.test(line));
    findings.check("log", line, line ? line.slice(0, 160) : `no line matches ${pattern}`);
  }
  if (metric) {
    const grown = [...metrics].filter(([name, value]) => metric.test(name) && value > (before.get(name) ?? 0));
    const figure = grown.map(([name, value]) => `${name} +${value - (before.get(name) ?? 0)}`).join(", ");
    findings.check("metric", grown.length > 0, figure || `none of ${metric} has grown`);
  }
}

/**
 * Runs the attack in its own process, for a bounded time. Gives its report; null if it had to be
 * killed. `begin` is called when the attack has finished its preparations.
 */
async function attack(server, scenario, size, begin) {
  const child = fork(path.join(import.meta.dirname, "attack.mjs"), [scenario.name, String(server.port), JSON.stringify(size)], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  let report = null;
  child.on("message", (message) => (message === "begin" ? begin() : (report = message)));
  await new Promise((resolve) => {
    const timer = setTimeout(() => child.kill("SIGKILL"), scenario.attackMs ?? ATTACK_MS);
    child.once("exit", () => (clearTimeout(timer), resolve()));
  });
  return report;
}

/** Requests `/healthz` repeatedly. */
class HealthCheck {
  #asked = 0;
  #answered = 0;
  #isRunning = true;
  #done;

  constructor(port) {
    this.#done = this.#run(port);
  }

  async #run(port) {
    while (this.#isRunning) {
      const { status } = await request(port, "/healthz", { ms: HEALTH_MS });
      this.#asked += 1;
      this.#answered += status === 200;
      await sleep(HEALTH_EVERY_MS);
    }
  }

  /** Resets the count of requests. */
  restart() {
    [this.#asked, this.#answered] = [0, 0];
  }

  /** Gives the share of requests answered in time. */
  async stop() {
    this.#isRunning = false;
    await this.#done;
    return this.#answered / this.#asked;
  }
}

/** Kills the server (`kill -9`) and measures its next start. */
export async function restart(server, kind, findings) {
  await server.end("SIGKILL");
  try {
    const ms = await server.start();
    findings.check("restart", ms <= RESTART_MS[kind], `${ms.toFixed(0)} ms`);
  } catch (error) {
    findings.check("restart", false, error.message);
  }
}

const mib = (bytes) => Math.round(bytes / MIB);
