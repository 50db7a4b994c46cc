// A bare Bun websocket server with the parts of Socket.IO that are measured: no polling, no
// namespaces, no checks, no state per connection. Rooms are topics of the native publish. It shows
// the limit of µWebSockets and is no usable server.

import { commandLine } from "./vocabulary.mjs";

const { port, pingInterval, pingTimeout } = commandLine();
const EVERYBODY = "\0";
let sessions = 0;

const server = Bun.serve({
  port,
  hostname: "127.0.0.1",
  fetch(request, server) {
    if (server.upgrade(request)) return undefined;
    return new Response("websocket only", { status: 400 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: Math.ceil((pingInterval + pingTimeout) / 1000),
    open(socket) {
      const sid = `session${sessions++}`;
      socket.send(`0${JSON.stringify({ sid, upgrades: [], pingInterval, pingTimeout, maxPayload: 1_000_000 })}`);
      socket.subscribe(EVERYBODY);
    },
    message(socket, packet) {
      if (packet.startsWith("42")) onEvent(socket, packet);
      else if (packet === "40") socket.send(`40{"sid":"socket${sessions}"}`);
      else if (packet === "41") socket.close();
      // The rest are pongs, which the idle timeout notices by itself.
    },
  },
});

function onEvent(socket, packet) {
  const start = packet.indexOf("[");
  const id = packet.slice(2, start);
  const [name, room, event, argument] = JSON.parse(packet.slice(start));
  switch (name) {
    case "join":
      socket.subscribe(room);
      break;
    case "leave":
      socket.unsubscribe(room);
      break;
    case "publish":
      server.publish(room, `42${JSON.stringify([event, argument])}`);
      break;
    case "echo":
      socket.send(`43${id}${JSON.stringify([room])}`);
      return;
  }
  if (id) socket.send(`43${id}[{"room":${JSON.stringify(room)}}]`);
}

setInterval(() => server.publish(EVERYBODY, "2"), pingInterval);
console.log(`bun ${Bun.version}: a bare websocket server listening on ${port}`);
