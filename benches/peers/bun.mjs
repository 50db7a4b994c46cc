// socket.io on Bun, with socket.io's own engine for it.

import { Server as Engine } from "@socket.io/bun-engine";
import { Server } from "socket.io";
import { commandLine, install } from "./vocabulary.mjs";

const { port, pingInterval, pingTimeout } = commandLine();
const engine = new Engine({ path: "/socket.io/", pingInterval, pingTimeout });
const io = new Server({ serveClient: false });
io.bind(engine);
install(io);
Bun.serve({ ...engine.handler(), port, hostname: "127.0.0.1" });
console.log(`bun ${Bun.version}: socket.io listening on ${port}`);
