/**
 * The part of the vocabulary of `stentor serve` that the torture uses, on Node's socket.io, with or
 * without its connection state recovery.
 */

import { Server } from "socket.io";

const [port, ping, recovery] = process.argv.slice(2);

const io = new Server({
  transports: ["polling", "websocket"],
  serveClient: false,
  pingInterval: Number(ping),
  pingTimeout: Number(ping),
  connectionStateRecovery: recovery === "recovery" ? { maxDisconnectionDuration: 120_000, skipMiddlewares: true } : undefined,
});

io.on("connection", (socket) => {
  socket.on("join", (room, ack) => {
    socket.join(room);
    ack({ room });
  });
  socket.on("leave", (room, ack) => {
    socket.leave(room);
    ack({ room });
  });
  socket.on("publish", (room, event, ...args) => {
    const ack = args.pop();
    io.to(room).emit(event, ...args);
    ack({ level: "accepted", offset: null });
  });
});

io.listen(Number(port));
io.httpServer.once("listening", () => console.log(`node listens on http://127.0.0.1:${port}`));
process.on("SIGTERM", () => io.close(() => process.exit(0)));
