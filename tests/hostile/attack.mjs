/**
 * The process of an attacker: `node attack.mjs <scenario> <port> <size>`. It exits with its
 * connections open and sends no close frames.
 */

import os from "node:os";
import { scenarios } from "./scenarios/index.mjs";

/**
 * Attackers have a lower priority than server and prober, so that the hub is measured and not the
 * scheduler.
 */
const NICENESS = 5;

const [name, port, size] = process.argv.slice(2);
os.setPriority(NICENESS);
// The server may close a connection at any time.
process.on("unhandledRejection", () => {});
process.on("disconnect", () => process.exit(0));

let report = null;
try {
  report = await scenarios.find((scenario) => scenario.name === name).attack(Number(port), JSON.parse(size), () => process.send("begin"));
} catch (error) {
  report = { error: error.message };
}
process.send(report ?? {}, () => process.exit(0));
