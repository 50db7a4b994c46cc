/**
 * `static/client` by itself: its pure parts, and its errors for invalid addresses and servers.
 * `surface.test.mjs` covers what it has in common with the stock client.
 */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, afterEach, before, describe, mock, test } from "node:test";
import { Server } from "socket.io";
import { Backoff } from "../../static/client/backoff.js";
import { Emitter } from "../../static/client/emitter.js";
import { Heartbeat, TICK_MS } from "../../static/client/heartbeat.js";
import { io as bare } from "../../static/client/index.js";
import { decodePacket, decodePayload, encodeFrame, encodePayload } from "../../static/client/parsers/engineio.js";
import { Decoder, Encoder, PacketType } from "../../static/client/parsers/socketio.js";
import { parseUrl } from "../../static/client/url.js";
import { ask, client, CLIENTS, closeClients, connect, connected, listen, next, TRANSPORTS, within } from "./harness.mjs";

const io = CLIENTS["static/client"];

describe("emitter", () => {
  test("listeners run in order, once-listeners once, removed ones never", () => {
    const emitter = new Emitter();
    const calls = [];
    const [a, b, c] = ["a", "b", "c"].map((name) => (value) => calls.push(name + value));
    emitter.on("event", a).once("event", b).on("event", c).once("event", c);
    emitter.off("event", c);
    emitter.emit("event", 1).emit("event", 2);
    assert.deepEqual(calls, ["a1", "b1", "c1", "a2"]);
  });

  test("a running emit uses the listeners present at its start", () => {
    const emitter = new Emitter();
    const calls = [];
    emitter.on("event", () => emitter.off().on("event", () => calls.push("new")));
    emitter.on("event", () => calls.push("old"));
    emitter.emit("event");
    assert.deepEqual(calls, ["old"]);
    assert.equal(emitter.listeners("event").length, 1);
    assert.ok(!emitter.off("event").hasListeners("event"));
  });
});

describe("back-off", () => {
  test("delays double up to the maximum and start over after a reset", () => {
    const backoff = new Backoff({ min: 100, max: 500 });
    assert.deepEqual([1, 2, 3, 4].map(() => backoff.duration()), [100, 200, 400, 500]);
    assert.equal(backoff.attempts, 4);
    backoff.reset();
    assert.equal(backoff.duration(), 100);
  });

  test("jitter adds or subtracts at most its share", () => {
    const least = new Backoff({ min: 100, max: 1000, jitter: 0.5, random: () => 0 });
    const most = new Backoff({ min: 100, max: 1000, jitter: 0.5, random: () => 0.999999 });
    assert.deepEqual([least.duration(), least.duration()], [50, 100]);
    assert.deepEqual([most.duration(), most.duration()], [149, 299]);
  });

  test("the delay stays at the maximum after ten thousand attempts", () => {
    const backoff = new Backoff({ max: 5000, jitter: 0.5 });
    backoff.attempts = 10_000;
    assert.equal(backoff.duration(), 5000);
  });
});

describe("heartbeat", () => {
  const clocks = { wall: 0, steady: 0 };
  let silences;
  let heartbeat;

  const begin = () => {
    mock.timers.enable({ apis: ["setTimeout"] });
    silences = 0;
    heartbeat = new Heartbeat(() => silences++, { wall: () => clocks.wall, steady: () => clocks.steady });
    heartbeat.extend(20_000);
  };
  afterEach(() => mock.timers.reset());
  const pass = async ({ wall = 0, steady = 0, timers = TICK_MS }) => {
    clocks.wall += wall;
    clocks.steady += steady;
    mock.timers.tick(timers);
    await Promise.resolve();
  };

  test("silence is reported once, when both clocks have passed the deadline", async () => {
    begin();
    for (let n = 0; n < 4; n++) await pass({ wall: 5000, steady: 5000 });
    assert.equal(silences, 0);
    await pass({ wall: 5000, steady: 5000 });
    await pass({ wall: 5000, steady: 5000 });
    assert.equal(silences, 1);
  });

  test("a suspended machine notices at the next tick or check", async () => {
    begin();
    // Timers and the steady clock stopped meanwhile.
    clocks.wall += 3_600_000;
    assert.ok(heartbeat.check());
    await Promise.resolve();
    assert.equal(silences, 1);
    mock.timers.reset();
    begin();
    await pass({ wall: 3_600_000 });
    assert.equal(silences, 1);
  });

  test("a wall clock that is set back does not hide silence", async () => {
    begin();
    await pass({ wall: -3_600_000, steady: 20_001 });
    assert.equal(silences, 1);
  });

  test("a stopped heartbeat reports nothing", async () => {
    begin();
    heartbeat.stop();
    await pass({ wall: 3_600_000, steady: 3_600_000 });
    assert.equal(silences, 0);
    assert.ok(!heartbeat.check());
  });
});

describe("addresses", () => {
  const page = { protocol: "https:", host: "page.example:8443" };

  for (const [given, here, host, namespace, secure] of [
    ["http://a.example", undefined, "a.example", "/", false],
    ["https://a.example:8000/chat?x=1", undefined, "a.example:8000", "/chat", true],
    ["ws://user:secret@[::1]:80/", undefined, "[::1]", "/", false],
    ["https://a.example:80", undefined, "a.example:80", "/", true],
    ["a.example/chat", undefined, "a.example", "/chat", true],
    ["//b.example", page, "b.example", "/", true],
    ["/tenant ü", page, "page.example:8443", "/tenant ü", true],
    [undefined, page, "page.example:8443", "/", true],
  ]) {
    test(`${given} ${here ? "on a page" : "anywhere"} is ${host} ${namespace}`, () => {
      const address = parseUrl(given, here);
      assert.deepEqual([address.host, address.namespace, address.secure], [host, namespace, secure]);
    });
  }

  test("a server has one id with and without its default port", () => {
    assert.equal(parseUrl("http://a.example:80/x").id, parseUrl("http://a.example/y").id);
    assert.notEqual(parseUrl("http://a.example").id, parseUrl("https://a.example").id);
    assert.equal(parseUrl("http://a.example/?a=b&c#d").query, "a=b&c");
  });

  for (const bad of [undefined, "", "/chat", "http://", "http://[::x", "ftp://a.example", "http://a b"]) {
    test(`${JSON.stringify(bad)} is refused without a page`, () => {
      assert.throws(() => parseUrl(bad, undefined), /^Error: invalid URL .*: expected one such as/);
    });
  }
});

describe("Engine.IO packets", () => {
  test("text and bytes as frames and as a payload", async () => {
    const bytes = new Uint8Array([9, 0, 1, 255, 9]).subarray(1, 4);
    const packets = [{ type: "message", data: "ü€" }, { type: "message", data: bytes }, { type: "pong" }];
    assert.deepEqual(packets.map(encodeFrame), ["4ü€", bytes, "3"]);
    assert.equal(await encodePayload(packets), "4ü€\x1ebAAH/\x1e3");
    assert.equal(await encodePayload([{ type: "message", data: new Blob(["hey"]) }]), "baGV5");
    assert.deepEqual(decodePayload("4ü€\x1ebAAH/\x1e3"), [
      { type: "message", data: "ü€" },
      { type: "message", data: Buffer.from([0, 1, 255]) },
      { type: "pong", data: undefined },
    ]);
  });

  for (const bad of ["", "7", "<html>", "b***"]) {
    test(`${JSON.stringify(bad)} is an error, and ends its payload`, () => {
      assert.deepEqual(decodePacket(bad), { type: "error", data: bad });
      assert.deepEqual(decodePayload(`3\x1e${bad}\x1e3`).map(({ type }) => type), ["pong", "error"]);
    });
  }
});

describe("Socket.IO packets", () => {
  const { EVENT, ACK, CONNECT, BINARY_EVENT } = PacketType;
  const bytes = Buffer.from([1, 2]);

  const decode = (...parts) => {
    const packets = [];
    const decoder = new Decoder();
    decoder.on("decoded", (packet) => packets.push(packet));
    for (const part of parts) decoder.add(part);
    return packets;
  };

  for (const [packet, ...wire] of [
    [{ type: CONNECT, nsp: "/" }, "0"],
    [{ type: CONNECT, nsp: "/chat", data: { token: 1 } }, '0/chat,{"token":1}'],
    [{ type: EVENT, nsp: "/", data: ["a", 1], id: 12 }, '212["a",1]'],
    [{ type: EVENT, nsp: "/a-1", data: ["b", bytes, { in: [bytes] }] },
      '52-/a-1,["b",{"_placeholder":true,"num":0},{"in":[{"_placeholder":true,"num":1}]}]', bytes, bytes],
    [{ type: ACK, nsp: "/", data: [bytes], id: 0 }, '61-0[{"_placeholder":true,"num":0}]', bytes],
  ]) {
    test(`${wire[0]} both ways`, () => {
      assert.deepEqual(new Encoder().encode(packet), wire);
      assert.deepEqual(decode(...wire), [packet]);
    });
  }

  test("encoding leaves a value unchanged and respects toJSON", () => {
    const data = ["a", { toJSON: () => ({ bytes }) }, { ["__proto__"]: 1 }];
    const [text, attachment] = new Encoder().encode({ type: EVENT, nsp: "/", data });
    assert.equal(text, '51-["a",{"bytes":{"_placeholder":true,"num":0}},{"__proto__":1}]');
    assert.equal(attachment, bytes);
    assert.equal(typeof data[1].toJSON, "function");
  });

  for (const [why, ...wire] of [
    ["no type", ""],
    ["an unknown type", "7"],
    ["no number of attachments", `${BINARY_EVENT}["a"]`],
    ["too many attachments", '511-["a"]'],
    ["no attachments", '50-["a"]'],
    ["text for an attachment", '51-["a",{"_placeholder":true,"num":0}]', "2[]"],
    ["an attachment unannounced", bytes],
    ["a placeholder without attachment", '51-["a",{"_placeholder":true,"num":1}]', bytes],
    ["a placeholder with a name", '51-["a",{"_placeholder":true,"num":"length"}]', bytes],
    ["broken JSON", '2["a"'],
    ["no event", "2[]"],
    ["a reserved event", '2["connect"]'],
    ["an object for an event", '2{"a":1}'],
    ["a list for a connect", "0[]"],
    ["something to say at the end", '1"bye"'],
  ]) {
    test(`${why} is refused`, () => assert.throws(() => decode(...wire), Error));
  }
});

describe("failed connections", () => {
  let server;
  let url;
  let answer;
  before(async () => {
    server = createServer((request, response) => answer(request, response)).listen(0, "127.0.0.1");
    await once(server, "listening");
    url = `http://127.0.0.1:${server.address().port}`;
  });
  afterEach(() => closeClients());
  after(() => server.close());

  const refusal = async (address, options) => {
    const socket = client({ url: address }, { io, namespace: "", ...options });
    const [error] = await next(socket, "connect_error");
    assert.ok(!socket.connected);
    return error;
  };

  test("an invalid URL is reported as a connect_error", async () => {
    assert.match((await refusal("http://[::x")).message, /^invalid URL "http:\/\/\[::x": expected one such as/);
  });

  test("unknown transports are reported", async () => {
    assert.match((await refusal(url, { transports: ["pigeon"] })).message, /^no transport in \["pigeon"\]: expected/);
  });

  for (const transports of [["polling"], ["websocket"]]) {
    test(`a refused connection is reported with its address, over ${transports}`, async () => {
      const closed = createServer().listen(0, "127.0.0.1");
      await once(closed, "listening");
      const { port } = closed.address();
      closed.close();
      const error = await refusal(`http://127.0.0.1:${port}`, { transports });
      assert.match(error.message, new RegExp(`127.0.0.1:${port}/socket.io/.*ECONNREFUSED`));
      assert.equal(error.type, "TransportError");
    });

    test(`a server without Socket.IO is reported by its status, over ${transports}`, async () => {
      answer = (_, response) => response.writeHead(404).end("nothing here");
      server.once("upgrade", (_, socket) => socket.end("HTTP/1.1 404 Not Found\r\n\r\n"));
      assert.match((await refusal(url, { transports })).message, /404/);
      server.removeAllListeners("upgrade");
    });
  }

  for (const page of ["<html>", "", "ok", "0{}", "0{", '0{"sid":1,"pingInterval":1,"pingTimeout":1}']) {
    test(`a server that answers ${JSON.stringify(page)} is no Socket.IO server`, async () => {
      answer = (_, response) => response.end(page);
      assert.match((await refusal(url, { transports: ["polling"] })).message, /^not a Socket.IO server: it answered/);
    });
  }

  test("a silent server is given up after the timeout and retried", async () => {
    answer = () => {};
    const socket = client({ url }, { io, timeout: 20, reconnection: true, reconnectionDelay: 10, reconnectionAttempts: 1 });
    const failed = next(socket.io, "reconnect_failed");
    const [error] = await next(socket, "connect_error");
    assert.equal(error.message, "timeout");
    await failed;
  });

  test("a server that stops sending is noticed", async () => {
    const payloads = ['0{"sid":"s","pingInterval":500,"pingTimeout":500}', '40{"sid":"s"}'];
    answer = ({ method }, response) => {
      if (method === "POST") response.end("ok");
      else if (payloads.length) response.end(payloads.shift());
    };
    const socket = client({ url }, { io, transports: ["polling"] });
    await connected(socket);
    assert.equal((await next(socket, "disconnect"))[0], "ping timeout");
  });

  test("without a WebSocket the error names the option", { skip: !!globalThis.WebSocket }, async () => {
    const socket = bare(url, { transports: ["websocket"], forceNew: true, reconnection: false });
    const [error] = await next(socket, "connect_error");
    assert.match(error.message, /give a constructor as option `WebSocket`/);
  });
});

describe("a connection to Node's socket.io", () => {
  let node;
  let hub;
  before(async () => {
    node = new Server(0, {
      serveClient: false,
      connectionStateRecovery: { maxDisconnectionDuration: 60_000 },
    });
    await once(node.httpServer, "listening");
    hub = { url: `http://127.0.0.1:${node.httpServer.address().port}` };
    node.on("connection", (socket) => {
      socket.on("echo", (...args) => args.pop()(...args));
      // Acks every second attempt.
      let asked = 0;
      socket.on("unsure", (n, ack) => asked++ % 2 && ack(n));
    });
  });
  afterEach(() => closeClients());
  after(() => node.close());

  for (const { name, transports } of TRANSPORTS) {
    describe(name, () => {
      const join = (options) => connect(hub, { io, transports, ...options });

      test("missed events arrive on reconnection and recovered is true", async () => {
        const socket = await join({ reconnection: true, reconnectionDelay: 10 });
        const news = listen(socket, "news");
        node.emit("news", 1);
        await news.count(1);
        const { id } = socket;
        const [gone, back] = [next(socket, "disconnect"), next(socket, "connect")];
        const left = new Promise((resolve) => node.sockets.sockets.get(id).once("disconnect", resolve));
        socket.io.engine.close();
        await gone;
        await within("disconnect at the server", left);
        node.emit("news", 2);
        await back;
        await news.count(2);
        assert.ok(socket.recovered);
        assert.equal(socket.id, id);
        assert.deepEqual(news.received, [[1], [2]]);
      });

      test("packets emitted while the connection closes are sent on reconnection", async () => {
        const socket = await join({ reconnection: true, reconnectionDelay: 10 });
        // A pending packet delays the close.
        socket.emit("echo", () => {});
        socket.io.engine.close();
        assert.deepEqual(await ask(socket, "echo", "kept"), ["kept"]);
      });

      test("a lost ack makes the packet repeat while later ones wait", async () => {
        const socket = await join({ retries: 3, ackTimeout: 50 });
        const answers = await Promise.all([1, 2, 3].map((n) => within("ack", socket.emitWithAck("unsure", n))));
        assert.deepEqual(answers, [1, 2, 3]);
      });

      test("a Blob and a large payload arrive as bytes", async () => {
        const socket = await join();
        const large = new Uint8Array(300_000).fill(7);
        const [blob, array, text] = await ask(socket, "echo", new Blob(["blob"]), large, "x".repeat(300_000));
        assert.deepEqual([blob, array.length, text.length], [Buffer.from("blob"), 300_000, 300_000]);
      });

      test("packets of one turn arrive in order during the upgrade too", async () => {
        const socket = client(hub, { io, transports });
        const answers = Array.from({ length: 200 }, (_, n) => ask(socket, "echo", n, Buffer.from([n])));
        await connected(socket);
        for (const [n, answer] of answers.entries()) assert.deepEqual(await answer, [n, Buffer.from([n])]);
      });
    });
  }

  test("a transport that cannot connect is skipped with tryAllTransports", async () => {
    class Broken {
      constructor() {
        throw new Error("blocked");
      }
    }
    const socket = client(hub, { io, transports: ["websocket", "polling"], tryAllTransports: true, WebSocket: Broken });
    await connected(socket);
    assert.equal(socket.io.engine.transport.name, "polling");
    // Its upgrade fails as well, and the session continues over polling.
    assert.deepEqual(await ask(socket, "echo", 1), [1]);
  });

  test("sockets of one server share a manager by default", async () => {
    const one = io(`${hub.url}/`, {});
    const other = io(`${hub.url}/other`, {});
    const forced = io(`${hub.url}/other`, { forceNew: true });
    const same = io(`${hub.url}/other`, {});
    try {
      assert.equal(one.io, other.io);
      assert.notEqual(other.io, forced.io);
      assert.notEqual(other.io, same.io);
    } finally {
      for (const socket of [one, other, forced, same]) socket.disconnect();
    }
  });

  test("an exception in a listener does not end the connection", async () => {
    const socket = await connect(hub, { io, transports: ["websocket"] });
    const thrown = new Promise((resolve) => process.setUncaughtExceptionCaptureCallback(resolve));
    socket.once("boom", () => {
      throw new Error("of the application");
    });
    node.emit("boom");
    try {
      assert.equal((await within("exception", thrown)).message, "of the application");
    } finally {
      process.setUncaughtExceptionCaptureCallback(null);
    }
    assert.deepEqual(await ask(socket, "echo", 1), [1]);
  });
});
