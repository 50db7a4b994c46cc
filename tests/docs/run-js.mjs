/**
 * Runs a JavaScript block as a module: `run-js.mjs <file> <address> once|service`. It prints
 * `settled` on a line of its own when the module has run and its sockets are connected.
 */

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { settled } from "./watched.mjs";

const [file, address, mode] = process.argv.slice(2);

// As in a page that the server serves. Node 20 has no WebSocket of its own.
globalThis.location = new URL(address);
globalThis.WebSocket = createRequire(new URL("../clients/package.json", import.meta.url))("ws").WebSocket;

await import(pathToFileURL(file));
await settled();
console.log("settled");
if (mode === "once") process.exit(0);
