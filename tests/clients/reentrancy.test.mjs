/**
 * Actions of an application inside its listeners and callbacks that must not harm the state of
 * `static/client`: throw, close, connect, answer late or twice. The server is Node's socket.io, so
 * that only the library is tested.
 */

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, afterEach, before, describe, test } from "node:test";
import { Server } from "socket.io";
import { ask, client, CLIENTS, closeClients, connect, connected, eventually, listen, next, TRANSPORTS, within } from "./harness.mjs";

const io = CLIENTS["static/client"];
const RETURNS = { reconnection: true, reconnectionDelay: 10, reconnectionDelayMax: 20 };

let node;
let hub;
/** Auth of each CONNECT to `/auth`, in order. */
const auths = [];
before(async () => {
  node = new Server(0, { serveClient: false, connectionStateRecovery: { maxDisconnectionDuration: 60_000 } });
  await once(node.httpServer, "listening");
  hub = { url: `http://127.0.0.1:${node.httpServer.address().port}` };
  const serve = (socket) => {
    socket.on("echo", (...args) => args.pop()(...args));
    socket.on("ignored", () => {});
  };
  node.on("connection", serve);
  node.of("/other").on("connection", serve);
  node.of("/auth").on("connection", (socket) => auths.push(socket.handshake.auth));
  node.of("/refused").use((_, next) => next(new Error("refused")));
});
afterEach(() => {
  closeClients();
  auths.length = 0;
});
after(() => node.close());

const lose = async (socket) => {
  const gone = next(socket, "disconnect");
  socket.io.engine.close();
  await gone;
};

/** Runs `act`; resolves with the messages of the uncaught exceptions during it. */
async function uncaught(act) {
  const messages = [];
  process.setUncaughtExceptionCaptureCallback(({ message }) => messages.push(message));
  try {
    await act();
    await new Promise(setImmediate);
  } finally {
    process.setUncaughtExceptionCaptureCallback(null);
  }
  return messages;
}

describe("connect() inside a listener", () => {
  test("of disconnect keeps later reconnections", async () => {
    const socket = await connect(hub, { io, transports: ["websocket"], ...RETURNS });
    socket.on("disconnect", () => socket.connect());
    for (let loss = 1; loss <= 3; loss += 1) {
      const back = next(socket, "connect");
      await lose(socket);
      await back;
      assert.equal(socket.io._reconnecting, false, `after loss ${loss}`);
    }
    socket.off("disconnect");
    assert.deepEqual(await ask(socket, "echo", 1), [1]);
  });

  test("of connect_error, after disconnect(), keeps them too", async () => {
    let broken = true;
    class Fragile extends (await import("ws")).WebSocket {
      constructor(...args) {
        if (broken) throw new Error("no network");
        super(...args);
      }
    }
    const socket = client(hub, { io, transports: ["websocket"], WebSocket: Fragile, ...RETURNS });
    socket.once("connect_error", () => socket.disconnect().connect());
    await next(socket.io, "reconnect_error");
    broken = false;
    await connected(socket);
    const back = next(socket, "connect");
    await lose(socket);
    await back;
  });
});

describe("the wait for the next attempt", () => {
  /** A client that has lost its connection and waits `wait` milliseconds. */
  const waiting = async (wait) => {
    const socket = await connect(hub, { io, transports: ["websocket"], ...RETURNS });
    socket.io.reconnectionDelay(wait).reconnectionDelayMax(wait);
    await lose(socket);
    socket.io.reconnectionDelay(10).reconnectionDelayMax(20);
    return socket;
  };

  test("interrupted by open() leaves later losses their own wait", async () => {
    const socket = await waiting(60_000);
    const back = next(socket, "connect");
    const told = next(socket.io, "reconnect");
    socket.io.open();
    await back;
    await told;
    const again = next(socket, "connect");
    await lose(socket);
    await again;
  });

  test("interrupted by open() without success continues", async () => {
    const socket = await waiting(60_000);
    const { uri } = socket.io;
    socket.io.uri = "http://127.0.0.1:1";
    const failed = new Promise((resolve) => socket.io.open(resolve));
    assert.match((await within("failure", failed)).message, /127.0.0.1:1/);
    socket.io.uri = uri;
    await connected(socket);
  });

  test("ended by reconnection(false) does not prevent connect()", async () => {
    const socket = await waiting(10);
    socket.io.reconnection(false);
    await eventually("end of the wait", async () => socket.io._reconnecting, (reconnecting) => !reconnecting);
    socket.io.reconnection(true);
    socket.connect();
    await connected(socket);
  });

  test("continues when reconnection(false) is reverted", async () => {
    const socket = await connect(hub, { io, transports: ["websocket"], ...RETURNS });
    socket.io.reconnection(false).reconnection(true);
    const back = next(socket, "connect");
    await lose(socket);
    await back;
  });
});

describe("an exception in a listener is only reported as uncaught", () => {
  const boom = (name) => () => {
    throw new Error(name);
  };

  for (const event of ["connect", "disconnect", "news"]) {
    test(`in a listener of ${event}`, async () => {
      const socket = await connect(hub, { io, transports: ["websocket"], ...RETURNS });
      socket.once(event, boom(event));
      const news = listen(socket, "news");
      const messages = await uncaught(async () => {
        const back = next(socket, "connect");
        await lose(socket);
        await back;
        node.emit("news", 1);
        await news.count(1);
      });
      assert.deepEqual(messages, [event]);
      assert.deepEqual(await ask(socket, "echo", 1), [1]);
    });
  }

  for (const event of ["open", "packet", "close", "reconnect_attempt", "reconnect"]) {
    test(`in a manager's listener of ${event}`, async () => {
      const socket = await connect(hub, { io, transports: ["websocket"], ...RETURNS });
      const messages = await uncaught(async () => {
        const back = next(socket, "connect");
        const closed = next(socket, "disconnect");
        socket.io.once(event, boom(event));
        // Before the listeners of the library.
        socket.io.engine.close();
        await closed;
        await back;
      });
      assert.deepEqual(messages, [event]);
      assert.deepEqual(await ask(socket, "echo", 1), [1]);
    });
  }

  for (const event of ["handshake", "open", "packet", "data", "message", "flush", "drain", "packetCreate", "upgrading", "upgrade", "close"]) {
    test(`in an engine's listener of ${event}`, async () => {
      const socket = client(hub, { io, transports: ["polling", "websocket"], ...RETURNS });
      const messages = await uncaught(async () => {
        const upgraded = next(socket.io.engine, "upgrade");
        socket.io.engine.once(event, boom(event));
        await connected(socket);
        await upgraded;
        assert.deepEqual(await ask(socket, "echo", 1), [1]);
        const back = next(socket, "connect");
        await lose(socket);
        await back;
      });
      assert.deepEqual(messages, [event]);
    });
  }

  for (const [where, event] of [["socket", "connect_error"], ["io", "error"], ["io", "reconnect_error"], ["io", "reconnect_failed"]]) {
    test(`in a listener of ${event}`, async () => {
      const socket = await connect(hub, { io, transports: ["websocket"], ...RETURNS, reconnectionAttempts: 2 });
      const { uri } = socket.io;
      (where === "io" ? socket.io : socket).once(event, boom(event));
      const messages = await uncaught(async () => {
        socket.io.uri = "http://127.0.0.1:1";
        const failed = next(socket.io, "reconnect_failed");
        socket.io.engine.close();
        await failed;
      });
      assert.deepEqual(messages, [event]);
      socket.io.uri = uri;
      socket.connect();
      await connected(socket);
    });
  }

  test("in a listener of connect_error of a refused namespace", async () => {
    const socket = await connect(hub, { io, transports: ["websocket"] });
    const messages = await uncaught(async () => {
      const other = socket.io.socket("/refused");
      other.on("connect_error", boom("refused"));
      await next(other, "connect_error");
    });
    assert.deepEqual(messages, ["refused"]);
    assert.deepEqual(await ask(socket, "echo", 1), [1]);
  });

  test("in the acks of packets that a lost connection leaves unanswered", async () => {
    const socket = await connect(hub, { io, transports: ["websocket"], ...RETURNS });
    const answers = [];
    const messages = await uncaught(async () => {
      for (const n of [1, 2]) {
        socket.timeout(60_000).emit("ignored", (error) => {
          answers.push(error.message);
          throw new Error(`ack ${n}`);
        });
      }
      const back = next(socket, "connect");
      await lose(socket);
      await back;
    });
    assert.deepEqual(messages, ["ack 1", "ack 2"]);
    assert.equal(answers.length, 2);
  });

  test("in the ack of a retried packet; later ones are sent", async () => {
    const socket = await connect(hub, { io, transports: ["websocket"], retries: 1, ackTimeout: 2000 });
    const messages = await uncaught(async () => {
      socket.emit("echo", 1, boom("ack"));
      assert.equal(await within("ack", socket.emitWithAck("echo", 2)), 2);
    });
    assert.deepEqual(messages, ["ack"]);
  });

  test("in catch-all listeners; the event passes all the same", async () => {
    const socket = await connect(hub, { io, transports: ["websocket"] });
    socket.onAny(boom("incoming"));
    socket.onAnyOutgoing(boom("outgoing"));
    const news = listen(socket, "news");
    const messages = await uncaught(async () => {
      assert.deepEqual(await ask(socket, "echo", 1), [1]);
      node.emit("news", 1);
      await news.count(1);
    });
    assert.deepEqual(messages, ["outgoing", "incoming"]);
  });

  test("in the auth callback and in the callback of open()", async () => {
    const socket = await connect(hub, { io, transports: ["websocket"], reconnection: false });
    const { uri } = socket.io;
    await lose(socket);
    const messages = await uncaught(async () => {
      socket.io.uri = "http://127.0.0.1:1";
      const failed = next(socket.io, "error");
      socket.io.open(boom("open"));
      await failed;
      socket.io.uri = uri;
      socket.auth = boom("auth");
      socket.connect();
      await next(socket.io, "open");
    });
    assert.deepEqual(messages, ["open", "auth"]);
    socket.auth = {};
    socket.disconnect().connect();
    await connected(socket);
  });
});

describe("a connection closed inside a listener during a burst", () => {
  for (const { name, transports } of TRANSPORTS) {
    test(`the rest is received once after reconnection, over ${name}`, async () => {
      const socket = await connect(hub, { io, transports, ...RETURNS });
      const burst = [1, 2, 3, 4, 5];
      const news = listen(socket, "news");
      // The server has to notice the disconnect first.
      const left = new Promise((resolve) => node.sockets.sockets.get(socket.id).once("disconnect", resolve));
      socket.on("news", (n) => {
        if (n !== 2) return;
        socket.io.reconnection(false).engine.close();
      });
      const gone = next(socket, "disconnect");
      for (const n of burst) node.emit("news", n);
      await gone;
      await within("disconnect at the server", left);
      socket.io.reconnection(true);
      socket.connect();
      await connected(socket);
      assert.ok(socket.recovered);
      node.emit("news", "last");
      await news.count(burst.length + 1);
      assert.deepEqual(news.received, [...burst.map((n) => [n]), ["last"]]);
    });
  }

  test("closed while buffered events are delivered: no connect, no event twice", async () => {
    const socket = await connect(hub, { io, transports: ["websocket"], reconnection: false });
    const order = [];
    socket.on("early", (n) => {
      order.push(`early ${n}`);
      socket.io.engine.close();
    });
    socket.on("connect", () => order.push("connect"));
    await lose(socket);
    socket.emit("echo", "kept", () => order.push("answer"));
    // Simulates a server that sends events before its CONNECT reply.
    socket.io.once("open", () => {
      socket.receiveBuffer.push(["early", 1], ["early", 2]);
    });
    const gone = next(socket, "disconnect");
    socket.connect();
    await gone;
    assert.deepEqual(order, ["early 1"]);
    assert.deepEqual(socket.receiveBuffer, []);
    assert.equal(socket.sendBuffer.length, 1);
    socket.off("early");
    const back = next(socket, "connect");
    socket.connect();
    await back;
    await eventually("answer", async () => order.length, (length) => length === 3);
    assert.deepEqual(order, ["early 1", "connect", "answer"]);
  });
});

describe("a callback that the application calls late or twice", () => {
  /** A socket of `/auth` that shares its connection, and the callbacks that it received. */
  const asked = async () => {
    const main = await connect(hub, { io, transports: ["websocket"], ...RETURNS });
    const gives = [];
    const socket = main.io.socket("/auth", { auth: (give) => gives.push(give) });
    const count = (n) => eventually(`${n} questions for auth`, async () => gives.length, (length) => length >= n);
    return { main, socket, gives, count };
  };

  test("auth given after the connection was lost is not sent on the next", async () => {
    const { main, socket, gives, count } = await asked();
    await count(1);
    const back = next(main, "connect");
    await lose(main);
    await back;
    await count(2);
    gives[0]({ token: "old" });
    gives[1]({ token: "new" });
    await connected(socket);
    assert.deepEqual(await ask(main, "echo", 1), [1]);
    assert.deepEqual(auths, [{ token: "new" }]);
  });

  test("auth given twice is sent once", async () => {
    const { main, socket, gives, count } = await asked();
    await count(1);
    gives[0]({ token: 1 });
    gives[0]({ token: 2 });
    await connected(socket);
    gives[0]({ token: 3 });
    assert.deepEqual(await ask(main, "echo", 1), [1]);
    assert.ok(socket.connected);
    assert.deepEqual(auths, [{ token: 1 }]);
  });

  test("auth given after the socket has left is not sent", async () => {
    const { main, socket, gives, count } = await asked();
    await count(1);
    socket.disconnect();
    gives[0]({ token: "left" });
    assert.deepEqual(await ask(main, "echo", 1), [1]);
    assert.deepEqual(auths, []);
    socket.connect();
    await count(2);
    gives[0]({ token: "left" });
    gives[1]({ token: "back" });
    await connected(socket);
    assert.deepEqual(auths, [{ token: "back" }]);
  });

  test("connect() during a pending CONNECT sends no second one", async () => {
    const main = await connect(hub, { io, transports: ["websocket"] });
    const other = main.io.socket("/other");
    other.connect().connect();
    await connected(other);
    assert.deepEqual(await ask(main, "echo", 1), [1]);
    assert.deepEqual(await ask(other, "echo", 1), [1]);
  });

  test("an ack given after the connection was lost is dropped", async () => {
    const socket = await connect(hub, { io, transports: ["websocket"], ...RETURNS });
    const question = new Promise((resolve) => socket.once("question", (_, ack) => resolve(ack)));
    const peer = node.sockets.sockets.get(socket.id);
    peer.emit("question", "old", () => {});
    const late = await within("question", question);
    const back = next(socket, "connect");
    await lose(socket);
    late("while away");
    await back;
    const answers = [];
    node.sockets.sockets.get(socket.id).emit("question", "new", (answer) => answers.push(answer));
    late("too late");
    assert.deepEqual(await ask(socket, "echo", 1), [1]);
    assert.deepEqual(answers, []);
  });
});

describe("values that cannot be encoded", () => {
  const odd = { n: 1n };

  test("leave the buffer of a disconnected socket; later packets are sent", async () => {
    const socket = await connect(hub, { io, transports: ["websocket"], ...RETURNS });
    await lose(socket);
    const messages = await uncaught(async () => {
      socket.emit("echo", odd);
      assert.deepEqual(await ask(socket, "echo", "behind"), ["behind"]);
    });
    assert.equal(messages.length, 1);
    assert.match(messages[0], /BigInt/);
    assert.ok(socket.connected);
  });

  test("leave the queue of retried packets; later packets are sent", async () => {
    const socket = await connect(hub, { io, transports: ["websocket"], retries: 3 });
    assert.throws(() => socket.emit("echo", odd), /BigInt/);
    assert.equal(await within("ack", socket.emitWithAck("echo", "behind")), "behind");
  });

  for (const options of [{ transports: ["polling"] }, { transports: ["websocket"], forceBase64: true }]) {
    test(`an unreadable Blob ends the connection: ${JSON.stringify(options)}`, async () => {
      class Unreadable extends Blob {
        async arrayBuffer() {
          throw new Error("file has gone");
        }
      }
      const socket = await connect(hub, { io, ...options, ...RETURNS });
      const gone = next(socket, "disconnect");
      const back = next(socket, "connect");
      socket.emit("echo", new Unreadable(["x"]));
      const [reason, details] = await gone;
      assert.equal(reason, "transport error");
      assert.match(details.message, /file has gone/);
      await back;
      assert.deepEqual(await ask(socket, "echo", 1), [1]);
    });
  }
});
