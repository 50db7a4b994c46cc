// The events that the load generator emits, for whatever runs socket.io. An ack, where one is wanted, is the last argument.

export function install(io) {
  io.on("connection", (socket) => {
    socket.on("join", (room, ack) => {
      socket.join(room);
      ack?.({ room });
    });
    socket.on("leave", (room, ack) => {
      socket.leave(room);
      ack?.({ room });
    });
    socket.on("publish", (room, event, argument, ack) => {
      io.to(room).emit(event, argument);
      ack?.({ room });
    });
    socket.on("echo", (argument, ack) => ack(argument));
  });
}

/** `<port> <ping interval in ms>`, the command line of every peer. */
export function commandLine() {
  const [port, pingInterval] = process.argv.slice(2).map(Number);
  if (!(port > 0 && pingInterval > 0)) {
    console.error("expected <port> <ping interval in ms>");
    process.exit(2);
  }
  return { port, pingInterval, pingTimeout: 20_000 };
}
