/**
 * `tests/servers/newsroom.rs` in JavaScript on Node's socket.io with its connection state recovery.
 * The recovery tests run against it by hand (`RECOVERY_AGAINST=node`) to show that each finds the
 * defect it is about.
 */

import { Server } from "socket.io";

const [port, window, pingTimeout] = process.argv.slice(2).map(Number);

// Node's adapter deletes expired sessions once a minute, which is too slow for tests.
const { setInterval } = globalThis;
globalThis.setInterval = (run, ms, ...args) => setInterval(run, ms === 60_000 ? 100 : ms, ...args);

const io = new Server(port, {
  transports: ["polling", "websocket"],
  serveClient: false,
  pingInterval: 300,
  pingTimeout,
  connectionStateRecovery: { maxDisconnectionDuration: window, skipMiddlewares: false },
});

const banned = new Set();
const slow = new Set();
let changed = () => {};
const change = () => new Promise((resolve) => (changed = resolve));

io.use(async (socket, next) => {
  const { name = "" } = socket.handshake.auth;
  io.to("door").emit("knock", name, socket.id, socket.recovered);
  while (slow.has(name)) await change();
  if (banned.has(name)) return next(new Error("banned"));
  if (!socket.recovered) socket.data = { name, bookmark: null };
  next();
});

for (const namespace of ["/", "/other"]) {
  io.of(namespace).on("connection", (socket) => {
    const { nsp } = socket;
    socket.on("join", (room, ack) => (socket.join(room), ack?.({ room })));
    socket.on("leave", (room, ack) => (socket.leave(room), ack?.({ room })));
    socket.on("publish", (room, event, ...args) => {
      const ack = typeof args.at(-1) === "function" ? args.pop() : () => {};
      nsp.to(room).emit(event, ...args);
      ack({});
    });
    socket.on("members", async (room, ack) => ack({ members: (await nsp.in(room).fetchSockets()).map(({ id }) => id) }));
    socket.on("echo", (...args) => args.pop()(...args));

    socket.on("me", (ack) => {
      const rooms = [...socket.rooms].filter((room) => room !== socket.id).sort();
      ack({ id: socket.id, rooms, data: socket.data, recovered: socket.recovered });
    });
    socket.on("bookmark", (bookmark, ack) => ((socket.data.bookmark = bookmark), ack()));
    socket.on("forget me", (ack) => ((socket.data = null), ack()));
    socket.on("hint", (room, hint, ack) => (nsp.to(room).volatile.emit("hint", hint), ack()));
    socket.on("ask", (room, question, ack) => {
      nsp.to(room).timeout(200).emit("question", question, (error, answers) => ack(answers.length));
    });
    socket.on("by turns", async (room, id, times, ack) => {
      for (let n = 0; n < times; n++) {
        nsp.to(room).emit("news", `room ${n}`);
        nsp.sockets.get(id)?.emit("news", `you ${n}`);
      }
      ack();
    });

    socket.on("ban", (name, ack) => (banned.add(name), ack()));
    socket.on("slow", (name, isSlow, ack) => (isSlow ? slow.add(name) : slow.delete(name), changed(), ack()));
    socket.on("expel", (room, ack) => (nsp.in(room).socketsLeave(room), ack()));
    socket.on("kick", (room, close, ack) => (nsp.in(room).disconnectSockets(close), ack()));
  });
}

process.on("SIGTERM", () => io.close(() => process.exit(0)));
