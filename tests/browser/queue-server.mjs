/**
 * A stand-in for a server with a queue: Node's socket.io with the events of the queue, in memory.
 * It has what the demo page needs and nothing else.
 */

import { Server } from "../clients/node_modules/socket.io/wrapper.mjs";

export function startQueueServer() {
  const io = new Server(0, { cors: { origin: "*" }, serveClient: false });
  /** @type {Map<string, any>} subscribers by name */
  const subscribers = new Map();
  let stored = 0;

  const members = (room) => [...(io.sockets.adapter.rooms.get(room) ?? [])];

  function deliver(subscriber) {
    const { socket } = subscriber;
    for (const event of socket ? subscriber.events : []) {
      if (event.state !== "waits") continue;
      const meta = { offset: event.offset, room: event.room, ...(event.isTried ? { redelivered: true } : {}) };
      Object.assign(event, { state: "delivered", isTried: true });
      socket.emit(event.name, ...event.args, meta, (answer) => subscriber.socket === socket && handle(subscriber, event, answer));
    }
  }

  function handle(subscriber, event, answer) {
    const again = () => {
      event.state = "waits";
      deliver(subscriber);
    };
    if (answer?.nak) return setTimeout(again, answer.delay);
    subscriber.events.splice(subscriber.events.indexOf(event), 1);
    if (answer?.term) subscriber.dead.push(event);
  }

  function attach(socket, name) {
    const isNew = !subscribers.has(name);
    if (isNew) subscribers.set(name, { events: [], dead: [], rooms: new Set() });
    const subscriber = subscribers.get(name);
    const former = subscriber.socket;
    for (const event of subscriber.events) event.state = "waits";
    subscriber.socket = socket;
    former?.emit("stentor:evicted");
    former?.disconnect();
    for (const room of subscriber.rooms) socket.join(room);
    socket.emit("stentor:attached", { status: isNew ? "reset" : "resumed", ...(isNew ? { reason: "new" } : {}), pending: subscriber.events.length, gaps: [] });
    deliver(subscriber);
    socket.on("disconnect", () => subscriber.socket === socket && (subscriber.socket = undefined));
    return subscriber;
  }

  function publish({ room, durable }, name, args) {
    if (!durable) return io.to(room).emit(name, ...args) && { level: "accepted", offset: null, duplicate: false };
    const own = [...subscribers.values()].filter(({ rooms }) => rooms.has(room));
    const offset = `offset-${(stored += 1)}`;
    for (const { events } of own) events.push({ offset, room, name, args, state: "waits" });
    io.to(room).except(own.flatMap(({ socket }) => (socket ? [socket.id] : []))).emit(name, ...args);
    own.forEach(deliver);
    return { level: "stored", offset, duplicate: false, pending_for: own.length };
  }

  io.on("connection", (socket) => {
    const name = socket.handshake.auth.subscriber;
    const subscriber = name && attach(socket, name);
    const answers = {
      join(room, options) {
        if (options?.durable) subscriber.rooms.add(room);
        socket.join(room);
        return { room, members: members(room).length, offset: "offset" };
      },
      leave(room) {
        socket.leave(room);
        return { room };
      },
      members: (room) => ({ members: members(room) }),
      echo: (value) => value,
      publish: (to, event, ...args) => publish(typeof to === "string" ? { room: to } : to, event, args),
    };
    const ofSubscriber = {
      pending: () => ({ events: subscriber.events.length, in_flight: 0, dead_letters: subscriber.dead.length, rooms: [...subscriber.rooms] }),
      in_progress: (offset) => ({ offset }),
      dead: () => ({ events: subscriber.dead.map(({ offset, room, name, args }) => ({ offset, room, event: name, args })) }),
      replay_dead() {
        const again = subscriber.dead.splice(0);
        for (const event of again) event.state = "waits";
        subscriber.events.push(...again);
        setImmediate(() => deliver(subscriber));
        return { replayed: again.length };
      },
    };
    socket.onAny((event, ...args) => {
      const answer = typeof args.at(-1) === "function" ? args.pop() : () => {};
      const error = (code, message) => ({ error: { code, message } });
      if (event in answers) answer(answers[event](...args));
      else if (!(event in ofSubscriber)) answer(error("unknown_event", event));
      else answer(subscriber ? ofSubscriber[event](...args) : error("bad_request", `${event}: this socket is no subscriber`));
    });
  });
  return { url: `http://127.0.0.1:${io.httpServer.address().port}`, stop: () => new Promise((resolve) => io.close(resolve)) };
}
