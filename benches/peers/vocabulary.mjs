// Events of the load generator for every server that runs socket.io. The last argument is the ack,
// if requested.

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

/** Command line of every peer: `<port> <ping interval in ms>`. */
export function commandLine() {
  const [port, pingInterval] = process.argv.slice(2).map(Number);
  if (!(port > 0 && pingInterval > 0)) {
    console.error("expected <port> <ping interval in ms>");
    process.exit(2);
  }
  return { port, pingInterval, pingTimeout: 20_000 };
}
