/**
 * The page: one connection and its state. It uses the client library beside it and nothing else.
 *
 * `?server=` selects another server, `?token=` sets `auth.token`, `?path=` the path of the
 * endpoint.
 */

import { io } from "../client/index.js";
import { Away } from "./away.js";
import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { byId } from "./element.js";
import { Emits } from "./emits.js";
import { log } from "./log.js";
import { Queue } from "./queue.js";
import { Rooms } from "./rooms.js";
import { Stage } from "./stage.js";

const parameters = new URLSearchParams(location.search);
const server = parameters.get("server") ?? undefined;
const options = {
  path: parameters.get("path") ?? "/socket.io",
  auth: parameters.has("token") ? { token: parameters.get("token") } : {},
};

const socket = io(server, options);
/** @type {Emits} */
let emits;
const connect = (/** @type {object} */ auth = {}) => io(server, { ...options, auth: { ...options.auth, ...auth }, forceNew: true });
const stage = new Stage();
const rooms = new Rooms(socket, () => emits.updateMembers());
emits = new Emits(socket, rooms, stage);
const away = new Away(socket, rooms, stage, () => connect());
const queue = new Queue(socket, rooms, stage, connect);

new Connection(socket, server ?? location.origin, {
  isOffline: () => away.offline,
  async onConnect(at) {
    await (socket.recovered ? rooms.resume() : rooms.rejoin());
    const missed = await away.settle(at);
    await rooms.queryMembers();
    queue.onConnect();
    return missed;
  },
});

new Composer({
  emit: (text) => emits.emit(text),
  publish: (text) => emits.publish(text),
  order: (text) => queue.order(text),
});

for (const event of ["connect", "disconnect"]) {
  socket.on(event, () => {
    away.update();
    emits.update();
  });
}
socket.on("disconnect", () => {
  rooms.clearMembers();
  queue.onDisconnect();
});

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
