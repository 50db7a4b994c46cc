/**
 * Defects of Node's connection state recovery, one per suite, with the stock client on every
 * transport where it matters. `RECOVERY_AGAINST=node` runs the tests against Node's socket.io,
 * where each must fail except for I, of which Node passes the first half as long as it runs in one
 * process.
 */

import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { WebSocket } from "ws";
import {
  ask,
  closeClients,
  connected,
  eventually,
  freshFolder,
  freshRoom,
  listen,
  next,
  within,
} from "./harness.mjs";
import { closeProxies } from "./proxy.mjs";
import {
  AGAINST_NODE,
  reconnected,
  connections,
  cut,
  members,
  serveNewsroom,
  NO_RECOVERIES,
  onEveryTransport,
  packets,
  PING_MS,
  publish,
  restore,
  serve,
  sharedServer,
  setUp,
  staleCopy,
  verdicts,
  connectPeer,
} from "./recovery-setup.mjs";

const EVENT = 2;

describe("A: middleware runs before any event is replayed", () => {
  const hub = sharedServer(serveNewsroom);
  onEveryTransport((transports) => {
    test("a client banned while disconnected is refused and receives nothing", async () => {
      const name = `banned over ${transports}`;
      const setup = await setUp(hub, { transports, auth: { name } });
      const { proxy, peer, socket, room } = setup;
      await cut(setup);
      await ask(peer, "ban", name);
      await publish(peer, room, "secret");

      const wire = packets(socket);
      const outcome = reconnected(socket);
      proxy.restore();
      await assert.rejects(outcome, /^Error: banned$/);
      assert.deepEqual(wire.filter(({ type }) => type === EVENT), []);
    });
  });
});

describe("B: a private id has one owner", () => {
  const hub = sharedServer(serveNewsroom);
  onEveryTransport((transports) => {
    test("a resumed session closes its stale connection and misses nothing", async () => {
      const setup = await setUp(hub, { transports });
      const { peer, socket, room, id } = setup;
      await cut(setup);
      await publish(peer, room, "missed");
      const [one, two] = [staleCopy(hub, socket, { transports }), staleCopy(hub, socket, { transports })];
      const [first, second] = [one, two].map((socket) => listen(socket, "news"));
      await connected(one.connect());
      await first.count(1);
      const closed = next(one, "disconnect");
      await connected(two.connect());
      assert.deepEqual([one.recovered, two.recovered, two.id], [true, true, id]);

      const [reason] = await closed;
      assert.match(reason, /^transport (close|error)$/);
      assert.deepEqual(await members(peer, room), [id]);
      await publish(peer, room, "after");
      assert.deepEqual(await second.count(2), [["missed"], ["after"]]);
      assert.deepEqual(first.received, [["missed"]]);
    });

    test("of many connections with one private id, one remains", async () => {
      const setup = await setUp(hub, { transports });
      const { peer, socket, room, id } = setup;
      await cut(setup);
      await publish(peer, room, "missed");
      const copies = Array.from({ length: 8 }, () => staleCopy(hub, socket, { transports }));
      const news = copies.map((socket) => listen(socket, "news"));
      const recovered = copies.map((socket) => next(socket, "connect").then(() => socket.recovered, () => "evicted before"));
      for (const socket of copies) socket.connect();
      assert.ok(!(await Promise.all(recovered)).includes(false));

      const remaining = () => copies.filter(({ connected }) => connected);
      await eventually("one connection left", async () => remaining().length, (count) => count === 1);
      const [last] = remaining();
      assert.equal(last.id, id);
      assert.deepEqual(await members(peer, room), [id]);
      await publish(peer, room, "after");
      assert.deepEqual(await news[copies.indexOf(last)].count(2), [["missed"], ["after"]]);
      assert.equal(news.filter(({ received }) => received.flat().includes("after")).length, 1);
    });
  });
});

describe("C: a volatile event has an offset too", () => {
  const hub = sharedServer(serveNewsroom);
  onEveryTransport((transports) => {
    test("a volatile event that ends in a string does not prevent recovery", async () => {
      const setup = await setUp(hub, { transports });
      const { peer, socket, room, news } = setup;
      // Over polling, an event between two polls is dropped.
      const hints = listen(socket, "hint");
      await eventually("hint", () => ask(peer, "hint", room, "a string at the end"), () => hints.received.length > 0);
      await cut(setup);
      await publish(peer, room, "missed");
      await restore(setup);
      assert.equal(socket.recovered, true);
      await publish(peer, room, "after");
      assert.deepEqual(await news.count(3), [["first"], ["missed"], ["after"]]);
    });
  });
});

describe("D: recovered is never true after a loss", () => {
  const hub = sharedServer(serveNewsroom);
  const binary = sharedServer(serve);
  onEveryTransport((transports) => {
    test("a session without any event yet recovers", async () => {
      const setup = await setUp(binary, { transports, received: [] });
      const { peer, socket, room, news, id } = setup;
      await cut(setup);
      await publish(peer, room, "missed");
      await restore(setup);
      assert.deepEqual([socket.recovered, socket.id], [true, id]);
      await publish(peer, room, "after");
      assert.deepEqual(await news.count(2), [["missed"], ["after"]]);
    });

    test("a missed event with ack is not lost silently", async () => {
      const setup = await setUp(hub, { transports });
      const { peer, socket, room, id } = setup;
      const questions = listen(socket, "question");
      await cut(setup);
      await ask(peer, "ask", room, "well?");
      await restore(setup);
      await resentOrNewSession(socket, questions, id);
    });

    test("an event with ack lost in transit is not lost silently", async () => {
      const setup = await setUp(hub, { transports });
      const { proxy, peer, socket, room, id } = setup;
      const questions = listen(socket, "question");
      proxy.dropClients();
      await ask(peer, "ask", room, "well?");
      await restore(setup);
      await resentOrNewSession(socket, questions, id);
    });

    test("an answered event with ack does not prevent recovery", async () => {
      const setup = await setUp(hub, { transports });
      const { peer, socket, room, news } = setup;
      socket.on("question", (_, answer) => answer("fine"));
      assert.equal((await ask(peer, "ask", room, "well?"))[0], 1);
      await publish(peer, room, "second");
      await news.count(2);
      await cut(setup);
      await publish(peer, room, "missed");
      await restore(setup);
      assert.equal(socket.recovered, true);
      assert.deepEqual(await news.count(3), [["first"], ["second"], ["missed"]]);
    });
  });

  /** The question is sent again with another ack id, or the client gets a new session. */
  async function resentOrNewSession(socket, questions, id) {
    if (socket.recovered) return questions.count(1);
    assert.notEqual(socket.id, id);
    if (!AGAINST_NODE) assert.ok((await verdicts(hub)).ack_missed > 0);
  }
});

describe("E: a client may reconnect before the server notices the loss", () => {
  const hub = sharedServer(serve);
  onEveryTransport((transports) => {
    test("it replaces its half-open connection and loses no event sent there", async () => {
      const setup = await setUp(hub, { transports });
      const { proxy, peer, socket, room, news, id } = setup;
      const before = AGAINST_NODE || (await connections(hub));
      proxy.dropClients();
      await publish(peer, room, "into", "the void");
      await restore(setup);
      assert.deepEqual([socket.recovered, socket.id], [true, id]);
      await publish(peer, room, "after");
      assert.deepEqual(await news.count(4), [["first"], ["into"], ["the void"], ["after"]]);
      assert.deepEqual(await members(peer, room), [id]);
      await eventually("end of the half-open connection", () => connections(hub), (count) => count <= before);
    });
  });
});

describe("F: replay follows the rooms at the time of each event", () => {
  const hub = sharedServer(serveNewsroom);
  onEveryTransport((transports) => {
    test("events before the client joined the room are not replayed", async () => {
      const setup = await setUp(hub, { transports });
      const { peer, socket, room, news } = setup;
      const later = freshRoom();
      await publish(peer, later, "before");
      await ask(socket, "join", later);
      await cut(setup);
      await publish(peer, later, "missed");
      await restore(setup);
      assert.equal(socket.recovered, true);
      await publish(peer, room, "after");
      assert.deepEqual(await news.count(3), [["first"], ["missed"], ["after"]]);
    });

    test("a room left while disconnected is replayed up to the leave", async () => {
      const setup = await setUp(hub, { transports });
      const { proxy, peer, socket, room, news, id } = setup;
      proxy.dropClients();
      await publish(peer, room, "within");
      await ask(peer, "expel", room);
      await publish(peer, room, "without");
      await restore(setup);
      assert.equal(socket.recovered, true);
      await publish(peer, id, "after");
      assert.deepEqual(await news.count(3), [["first"], ["within"], ["after"]]);
      assert.deepEqual(await members(peer, room), []);
    });
  });
});

describe("G: a ping is outstanding when an upgrade completes", () => {
  const hub = sharedServer(() => serve({ pingTimeout: 500 }));

  test("the session ends without its pong", async () => {
    const at = `${hub.url}/socket.io/?EIO=4`;
    const poll = async (sid) => (await fetch(`${at}&transport=polling${sid ? `&sid=${sid}` : ""}`)).text();
    const { sid } = JSON.parse((await poll()).slice(1));
    assert.equal(await within("ping", poll(sid)), "2");
    const socket = new WebSocket(`${at}&transport=websocket&sid=${sid}`.replace("http", "ws"));
    await next(socket, "open");
    const probed = next(socket, "message");
    socket.send("2probe");
    assert.equal(String((await probed)[0]), "3probe");
    const closed = next(socket, "close");
    socket.send("5");
    await closed;
  });
});

describe("H: live events and replay meet without a gap", () => {
  const hub = sharedServer(serveNewsroom);
  onEveryTransport((transports) => {
    test("events published while middleware runs are received", async () => {
      const name = `slow over ${transports}`;
      const setup = await setUp(hub, { transports, auth: { name } });
      const { proxy, peer, socket, room, news, id } = setup;
      await cut(setup);
      await ask(peer, "join", "door");
      await ask(peer, "slow", name, true);
      await publish(peer, room, "away");
      const [knock, returned] = [next(peer, "knock"), reconnected(socket)];
      proxy.restore();
      // Middleware can see which session is resumed.
      assert.deepEqual((await knock).slice(0, 3), [name, id, true]);
      await publish(peer, room, "at the door");
      await ask(peer, "slow", name, false);
      await returned;
      assert.equal(socket.recovered, true);
      await publish(peer, room, "inside");
      assert.deepEqual(await news.count(4), [["first"], ["away"], ["at the door"], ["inside"]]);
    });

    for (const loss of ["cut", "dropClients"]) {
      test(`a stream of events has no gap after ${loss} of the proxy`, async () => {
        const { proxy, peer, socket, room, news } = await setUp(hub, { transports, received: [] });
        const published = [];
        const publishSome = async (times) => {
          for (let n = 0; n < times; n += 1) {
            published.push([published.length]);
            await ask(peer, "publish", room, "news", published.length - 1);
          }
        };
        await publishSome(30);
        const returned = reconnected(socket);
        proxy[loss]();
        await publishSome(30);
        proxy.restore();
        let returning = true;
        returned.finally(() => (returning = false)).catch(() => {});
        while (returning) await publishSome(1);
        await returned;
        await publishSome(30);
        assert.equal(socket.recovered, true);
        assert.deepEqual(await news.count(published.length), published);
      });
    }
  });
});

describe("I: events to a room and to one socket keep their order", () => {
  const hub = sharedServer(serveNewsroom);
  const TIMES = 20;
  const TURNS = Array.from({ length: TIMES }, (_, n) => [[`room ${n}`], [`you ${n}`]]).flat();
  onEveryTransport((transports) => {
    test("when received live", async () => {
      const { peer, room, news, id } = await setUp(hub, { transports, received: [] });
      await ask(peer, "by turns", room, id, TIMES);
      assert.deepEqual(await news.count(TURNS.length), TURNS);
    });

    test("when replayed", async () => {
      const setup = await setUp(hub, { transports, received: [] });
      const { proxy, peer, socket, room, news, id } = setup;
      proxy.dropClients();
      await ask(peer, "by turns", room, id, TIMES);
      await restore(setup);
      assert.equal(socket.recovered, true);
      assert.deepEqual(await news.count(TURNS.length), TURNS);
    });
  });
});

describe("J: an idle client is recovered", () => {
  const WINDOW = 1_000;
  const hub = sharedServer(() => serve({ window: WINDOW }));
  onEveryTransport((transports) => {
    test("its last event may be older than the window", async () => {
      const setup = await setUp(hub, { transports });
      const { peer, socket, room, news } = setup;
      for (let ms = 0; ms <= WINDOW + PING_MS; ms += PING_MS) await next(socket.io.engine, "ping");
      await cut(setup);
      await publish(peer, room, "missed");
      await restore(setup);
      assert.equal(socket.recovered, true);
      assert.deepEqual(await news.count(2), [["first"], ["missed"]]);
    });
  });

  // One publisher may fill the whole ring here; by default its share of the journal is an eighth.
  const WHOLE_RING = ["--journal-sender-bytes-max", String(1 << 30)];
  const RINGS = {
    memory: ["--journal-records-max", "100", ...WHOLE_RING],
    disk: ["--journal-segments-max", "2", "--journal-segment-bytes", String(1 << 20), ...WHOLE_RING],
  };
  for (const [recovery, flags] of Object.entries(RINGS)) {
    describe(`a ring that was overwritten, ${recovery}`, () => {
      const small = sharedServer(() => serve({ recovery, flags }));
      const flood = async (peer, room) => {
        const word = "x".repeat(100_000);
        for (let n = 0; n < 10; n += 1) await Promise.all(Array.from({ length: 20 }, () => publish(peer, room, word)));
      };

      test("by events of others: the client is recovered", async () => {
        const setup = await setUp(small, { transports: ["websocket"] });
        const { peer, socket, room, news } = setup;
        await flood(peer, freshRoom());
        await cut(setup);
        await flood(peer, freshRoom());
        await publish(peer, room, "missed");
        await restore(setup);
        assert.equal(socket.recovered, true);
        assert.deepEqual(await news.count(2), [["first"], ["missed"]]);
      });

      test("by its own events: the client gets a new session", async () => {
        const setup = await setUp(small, { transports: ["websocket"] });
        const { peer, socket, room, news, id } = setup;
        await cut(setup);
        await publish(peer, room, "missed");
        // Events that no client can miss take no space in the ring.
        const other = freshRoom();
        await ask(peer, "join", other);
        await flood(peer, other);
        await restore(setup);
        assert.ok(!socket.recovered);
        assert.notEqual(socket.id, id);
        assert.deepEqual(await ask(socket, "echo", "fresh"), ["fresh"]);
        assert.deepEqual(news.received, [["first"]]);
        if (!AGAINST_NODE) assert.equal((await verdicts(small)).trimmed, 1);
      });
    });
  }
});

describe("K: the process may end in any way", () => {
  const servers = [];
  const started = async (server) => (servers.push(server), server);
  afterEach(async () => {
    closeClients();
    closeProxies();
    for (const server of servers.splice(0)) if (server.running()) await server.stop();
  });

  const ENDS = { "kill -9": (server) => server.kill(), "SIGTERM": (server) => server.stop() };
  onEveryTransport((transports) => {
    for (const [how, end] of Object.entries(ENDS)) {
      test(`${how}, with the journal on disk: no event is missing`, async () => {
        const folder = freshFolder();
        const first = await started(await serve({ folder }));
        const setup = await setUp(first, { transports });
        const { proxy, socket, room, news, id } = setup;
        proxy.dropClients();
        await publish(setup.peer, room, "into", "the void");
        await end(first);

        const second = await started(await serve({ folder, port: first.port }));
        const other = await connectPeer(second);
        await publish(other, room, "to nobody");
        await restore(setup);
        assert.deepEqual([socket.recovered, socket.id], [true, id]);
        assert.deepEqual(await members(other, room), [id]);
        await publish(other, room, "after");
        assert.deepEqual((await news.count(5)).flat(), ["first", "into", "the void", "to nobody", "after"]);
      });
    }

    test("repeated kill -9 while the client reconnects by itself", async () => {
      const folder = freshFolder();
      let server = await started(await serve({ folder }));
      const { peer: publisher, socket, room, news, id } = await setUp(server, { transports, received: [] });
      await publish(publisher, room, 0);
      for (let n = 1; n <= 3; n += 1) {
        const returned = reconnected(socket);
        await server.kill();
        server = await started(await serve({ folder, port: server.port }));
        await publish(await connectPeer(server), room, n);
        await returned;
        assert.deepEqual([socket.recovered, socket.id], [true, id]);
      }
      assert.deepEqual((await news.count(4)).flat(), [0, 1, 2, 3]);
    });

    test("kill -9, with the journal in memory: the client is not recovered", async () => {
      const first = await started(await serve({ recovery: "memory" }));
      const setup = await setUp(first, { transports });
      const { proxy, socket, room, news, id } = setup;
      proxy.dropClients();
      await publish(setup.peer, room, "into the void");
      await first.kill();
      const second = await started(await serve({ recovery: "memory", port: first.port }));
      const other = await connectPeer(second);
      await publish(other, room, "to nobody");
      await restore(setup);
      assert.ok(!socket.recovered);
      assert.notEqual(socket.id, id);
      if (!AGAINST_NODE) assert.deepEqual(await verdicts(second), { ...NO_RECOVERIES, foreign_epoch: 1 });
      await ask(socket, "join", room);
      await publish(other, room, "after");
      assert.deepEqual(await news.count(2), [["first"], ["after"]]);
    });

    test("rooms and data survive the process too", async () => {
      const folder = freshFolder();
      const first = await started(await serveNewsroom({ folder }));
      const setup = await setUp(first, { transports, auth: { name: "kim" } });
      const { socket } = setup;
      await ask(socket, "bookmark", { page: 17 });
      const [before] = await ask(socket, "me");
      const returned = reconnected(socket);
      await first.kill();
      await started(await serveNewsroom({ folder, port: first.port }));
      await returned;
      assert.deepEqual(await ask(socket, "me"), [{ ...before, recovered: true }]);
    });
  });
});
