/**
 * The process of an attacker: `node attack.mjs <scenario> <port> <size>`. Ends with its connections
 * open, and so leaves without a word.
 */

import os from "node:os";
import { scenarios } from "./scenarios/index.mjs";

/**
 * Attackers yield the processor to the server and the prober: what is measured is the hub, not the
 * scheduler.
 */
const NICENESS = 5;

const [name, port, size] = process.argv.slice(2);
os.setPriority(NICENESS);
// The server may close a connection whenever it wants to.
process.on("unhandledRejection", () => {});
process.on("disconnect", () => process.exit(0));

let report = null;
try {
  report = await scenarios.find((scenario) => scenario.name === name).attack(Number(port), JSON.parse(size), () => process.send("begin"));
} catch (error) {
  report = { error: error.message };
}
process.send(report ?? {}, () => process.exit(0));
