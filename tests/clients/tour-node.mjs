/** `tests/servers/tour.rs` in JavaScript on Node's socket.io: the tests expect the same of both. */

import { Server } from "socket.io";

const io = new Server(Number(process.argv[2]), { transports: ["polling", "websocket"], serveClient: false });

io.of("/quiet");
io.of((name, _auth, next) => next(null, name.startsWith("/tenant-"))).on("connection", (socket) => {
  socket.on("where", (ack) => ack(socket.nsp.name));
});

io.use((socket, next) => {
  const { name = null, token } = socket.handshake.auth;
  if (token === "bad") {
    const error = new Error("not authorized");
    error.data = { code: 17 };
    return next(error);
  }
  socket.data.name = name;
  next();
});

const asked = (emitter, ms) => emitter.timeout(ms);

io.on("connection", (socket) => {
  socket.use(([event, ...args], next) => {
    if (event === "forbidden") return args.at(-1)({ error: "forbidden" });
    next();
  });
  socket.on("own", (ack) => ack("own"));
  socket.once("once", () => socket.emit("came once"));
  socket.on("disconnecting", (reason) => {
    for (const room of socket.rooms) if (room !== socket.id) socket.to(room).emit("left", socket.data.name, reason);
  });

  socket.on("echo", (...args) => args.pop()(...args));
  socket.on("handshake", (ack) => {
    const { query, headers, secure, auth } = socket.handshake;
    ack({ query: query.word ?? null, header: headers["x-test"] ?? null, secure, auth, id: socket.id });
  });
  socket.on("bye", (close) => socket.disconnect(close));

  socket.on("join", (room, ack) => (socket.join(room), ack()));
  socket.on("leave", (room, ack) => (socket.leave(room), ack()));
  socket.on("rooms", (ack) => ack([...socket.rooms].filter((room) => room !== socket.id).sort()));
  socket.on("fetch", async (room, ack) => {
    const sockets = await io.in(room).fetchSockets();
    ack(sockets.map(({ data }) => data.name).sort());
  });
  socket.on("move", (from, to, ack) => {
    io.in(from).socketsJoin(to);
    io.in(to).socketsLeave(from);
    ack();
  });
  socket.on("kick", (room, close, ack) => {
    io.in(room).disconnectSockets(close);
    ack();
  });

  socket.on("to", (room, word) => socket.to(room).emit("word", word));
  socket.on("all", (room, word) => io.to(room).emit("word", word));
  socket.on("except", (room, but, word) => io.to(room).except(but).emit("word", word));
  socket.on("broadcast", (word) => socket.broadcast.emit("word", word));
  socket.on("relay", (...args) => socket.broadcast.emit("relayed", ...args));
  socket.on("volatile", (count, ack) => {
    for (let n = 0; n < count; n++) socket.volatile.emit("maybe", n);
    ack();
  });
  socket.on("ask me", (ms, question, ack) => {
    asked(socket, ms).emit("question", question, (error, ...answer) => (error ? ack("timed out") : ack(...answer)));
  });
  socket.on("ask all", (room, ms, ack) => {
    asked(io.to(room), ms).emit("question", "?", async (error, answers) => {
      const reached = await io.in(room).fetchSockets();
      ack(answers.sort(), reached.length - answers.length);
    });
  });
});

process.on("SIGTERM", () => io.close(() => process.exit(0)));
