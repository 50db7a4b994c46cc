/**
 * The page: one connection and its state. It uses the client library beside it and nothing else.
 *
 * `?server=` selects another server, `?token=` sets `auth.token`, `?path=` the path of the
 * endpoint.
 */

import { io } from "../client/index.js";
import { Away } from "./away.js";
import { Connection } from "./connection.js";
import { byId } from "./element.js";
import { Emits } from "./emits.js";
import { log } from "./log.js";
import { Rooms } from "./rooms.js";

const parameters = new URLSearchParams(location.search);
const server = parameters.get("server") ?? undefined;
const options = {
  path: parameters.get("path") ?? "/socket.io",
  auth: parameters.has("token") ? { token: parameters.get("token") } : {},
};

const socket = io(server, options);
/** @type {Emits} */
let emits;
const rooms = new Rooms(socket, () => emits.updateMembers());
emits = new Emits(socket, rooms);
const away = new Away(socket, rooms, () => io(server, { ...options, forceNew: true }));

new Connection(socket, server ?? location.origin, {
  isOffline: () => away.offline,
  async onConnect(at) {
    await (socket.recovered ? rooms.resume() : rooms.rejoin());
    const missed = await away.settle(at);
    await rooms.queryMembers();
    return missed;
  },
});

for (const event of ["connect", "disconnect"]) {
  socket.on(event, () => {
    away.update();
    emits.update();
  });
}
socket.on("disconnect", () => rooms.clearMembers());

const onMessage = (/** @type {import("./emits.js").Message} */ message) => {
  if (typeof message?.text === "string") emits.receive(message, away.receive(message));
};
socket.on("message", onMessage);
socket.on("stentor:error", ({ error }) => log(`The server refused a request: ${error.message}.`, "bad"));

byId("server-url").value = server ?? "";
byId("server-token").value = parameters.get("token") ?? "";
if (server !== undefined || parameters.has("token")) byId("elsewhere").open = true;
byId("server-form").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  const query = new URLSearchParams();
  for (const name of ["server", "token"]) {
    const value = byId(`server-${name === "server" ? "url" : name}`).value.trim();
    if (value) query.set(name, value);
  }
  location.search = `${query}`;
});
