/**
 * Writes the results of the last runs of `surface.test.mjs` and `durable-hub.test.mjs` in Node and
 * in Chromium into the page of clients, between two marks. With `--check` it writes nothing, and
 * fails if the page differs.
 */

import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";

const ROOT = path.resolve(import.meta.dirname, "../..");
const PAGE = "docs/clients.md";
const [BEGIN, END] = ["<!-- interop: written by `make interop` -->", "<!-- /interop -->"];

const PLACES = { Node: "interop-node.json", Chromium: "interop-chromium.json" };
const CLIENTS = ["socket.io-client", "static/client"];
const FILES = {
  "surface.test.mjs": ["its own port", "inside a host", "Node's socket.io"],
  "durable-hub.test.mjs": ["stentor serve"],
};
const TRANSPORTS = ["websocket", "polling", "upgraded"];

const NAMES = {
  "socket.io-client": "socket.io-client 4.8.4",
  "static/client": "`static/client`",
  "its own port": "stentor, a port of its own",
  "inside a host": "stentor, inside an application",
  "Node's socket.io": "socket.io 4.8.4 on Node",
  "stentor serve": "`stentor serve`, durable events",
};

const places = await Promise.all(
  Object.entries(PLACES).map(async ([place, file]) => ({ place, cells: JSON.parse(await readFile(path.join(ROOT, "target", file), "utf8")) })),
);
const tables = Object.entries(FILES).map(([file, servers]) => {
  const rows = [];
  for (const { place, cells } of places) {
    for (const client of CLIENTS) {
      for (const server of servers) {
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
  return [`Tests of \`tests/clients/${file}\` that pass:`, "", "| client | server | websocket | polling | polling → websocket |", "|---|---|---|---|---|", ...rows].join("\n");
});
const table = [BEGIN, tables.join("\n\n"), END].join("\n");

const page = await readFile(path.join(ROOT, PAGE), "utf8");
const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
if (begin < 0 || end < begin) throw new Error(`no ${BEGIN} … ${END} in ${PAGE}`);
const written = page.slice(0, begin) + table + page.slice(end + END.length);
if (written === page) {
  console.log(`interop: ${PAGE} says what the tests found`);
} else if (process.argv.includes("--check")) {
  console.error(`interop: ${PAGE} says something else than the tests found; \`make interop\` writes it:\n${table}`);
  process.exitCode = 1;
} else {
  await writeFile(path.join(ROOT, PAGE), written);
  console.log(`interop: written into ${PAGE}`);
}
