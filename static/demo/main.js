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
import { tell } from "./log.js";
import { Rooms } from "./rooms.js";

const asked = new URLSearchParams(location.search);
const server = asked.get("server") ?? undefined;
const options = {
  path: asked.get("path") ?? "/socket.io",
  auth: asked.has("token") ? { token: asked.get("token") } : {},
};

const socket = io(server, options);
/** @type {Emits} */
let emits;
const rooms = new Rooms(socket, () => emits.members());
emits = new Emits(socket, rooms);
const away = new Away(socket, rooms, () => io(server, { ...options, forceNew: true }));

new Connection(socket, server ?? location.origin, {
  isOffline: () => away.offline,
  async back(at) {
    await (socket.recovered ? rooms.resume() : rooms.rejoin());
    const missed = await away.settle(at);
    await rooms.ask();
    return missed;
  },
});

for (const event of ["connect", "disconnect"]) {
  socket.on(event, () => {
    away.turn();
    emits.turn();
  });
}
socket.on("disconnect", () => rooms.forget());

const hear = (/** @type {import("./emits.js").Message} */ message) => {
  if (typeof message?.text === "string") emits.hear(message, away.hear(message));
};
socket.on("message", hear);
socket.on("stentor:error", ({ error }) => tell(`The server refused something: ${error.message}.`, "bad"));

byId("server-url").value = server ?? "";
byId("server-token").value = asked.get("token") ?? "";
if (server !== undefined || asked.has("token")) byId("elsewhere").open = true;
byId("server-form").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  const query = new URLSearchParams();
  for (const name of ["server", "token"]) {
    const value = byId(`server-${name === "server" ? "url" : name}`).value.trim();
    if (value) query.set(name, value);
  }
  location.search = `${query}`;
});
