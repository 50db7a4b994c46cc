/**
 * Writes the results of the last runs of `surface.test.mjs` in Node and in Chromium into the
 * README, between two marks. With `--check` it writes nothing, and fails if the README differs.
 */

import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";

const ROOT = path.resolve(import.meta.dirname, "../..");
const README = path.join(ROOT, "README.md");
const [BEGIN, END] = ["<!-- interop: written by `make interop` -->", "<!-- /interop -->"];

const PLACES = { Node: "interop-node.json", Chromium: "interop-chromium.json" };
const CLIENTS = ["socket.io-client", "static/client"];
const SERVERS = ["its own port", "inside a host", "Node's socket.io"];
const TRANSPORTS = ["websocket", "polling", "upgraded"];

const NAMES = {
  "socket.io-client": "socket.io-client 4.8.4",
  "static/client": "`static/client`",
  "its own port": "stentor, a port of its own",
  "inside a host": "stentor, inside an application",
  "Node's socket.io": "socket.io 4.8.4 on Node",
};

const rows = [];
for (const [place, file] of Object.entries(PLACES)) {
  const cells = JSON.parse(await readFile(path.join(ROOT, "target", file), "utf8"));
  for (const client of CLIENTS) {
    for (const server of SERVERS) {
      const found = TRANSPORTS.map((transport) => {
        const cell = cells[`${client} and ${server}/${transport}`];
        if (!cell) return "not run";
        const total = cell.passed + cell.failed;
        return cell.failed ? `**${cell.failed} of ${total} failed**` : `${total} ✓`;
      });
      rows.push(`| ${NAMES[client]} in ${place} | ${NAMES[server]} | ${found.join(" | ")} |`);
    }
  }
}
const table = [BEGIN, "Tests of `tests/clients/surface.test.mjs` that pass:", "", "| client | server | websocket | polling | polling → websocket |", "|---|---|---|---|---|", ...rows, END].join("\n");

const readme = await readFile(README, "utf8");
const [begin, end] = [readme.indexOf(BEGIN), readme.indexOf(END)];
if (begin < 0 || end < begin) throw new Error(`no ${BEGIN} … ${END} in README.md`);
const written = readme.slice(0, begin) + table + readme.slice(end + END.length);
if (written === readme) {
  console.log("interop: README.md says what the tests found");
} else if (process.argv.includes("--check")) {
  console.error(`interop: README.md says something else than the tests found; \`make interop\` writes it:\n${table}`);
  process.exitCode = 1;
} else {
  await writeFile(README, written);
  console.log("interop: written into README.md");
}
