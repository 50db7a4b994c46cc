// socket.io on Node, with the settings that its documentation recommends under load: no
// compression, and the first request of each connection released
// (https://socket.io/docs/v4/memory-usage/). The rest are defaults.

import { createServer } from "node:http";
import { Server } from "socket.io";
import { commandLine, install } from "./vocabulary.mjs";

const { port, pingInterval, pingTimeout } = commandLine();
const http = createServer();
const io = new Server(http, { pingInterval, pingTimeout, perMessageDeflate: false, httpCompression: false, serveClient: false });
io.engine.on("connection", (connection) => {
  connection.request = null;
});
install(io);
http.listen(port, "127.0.0.1", 4096, () => console.log(`node ${process.version}: listening on ${port}`));
