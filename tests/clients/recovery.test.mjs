/**
 * What Node's connection state recovery gets wrong, row by row, with the stock client on every transport where it makes a
 * difference. `RECOVERY_AGAINST=node` runs the same against Node's socket.io, where each row must fail; but for I, of which Node
 * keeps the first half as long as it is one process.
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
import { closeLines } from "./line.mjs";
import {
  AGAINST_NODE,
  back,
  connections,
  cut,
  members,
  newsroom,
  NONE,
  onEveryTransport,
  packets,
  PING_MS,
  publish,
  restore,
  serve,
  shared,
  stage,
  twin,
  verdicts,
  witness,
} from "./recovery.mjs";

const EVENT = 2;

describe("A: middleware is asked before anything is replayed", () => {
  const hub = shared(newsroom);
  onEveryTransport((transports) => {
    test("who was banned meanwhile is refused, and is sent nothing", async () => {
      const name = `banned over ${transports}`;
      const scene = await stage(hub, { transports, auth: { name } });
      const { line, witness, socket, room } = scene;
      await cut(scene);
      await ask(witness, "ban", name);
      await publish(witness, room, "secret");

      const wire = packets(socket);
      const outcome = back(socket);
      line.restore();
      await assert.rejects(outcome, /^Error: banned$/);
      assert.deepEqual(wire.filter(({ type }) => type === EVENT), []);
    });
  });
});

describe("B: a private id has one owner", () => {
  const hub = shared(newsroom);
  onEveryTransport((transports) => {
    test("a resumed session closes its stale connection and misses nothing", async () => {
      const scene = await stage(hub, { transports });
      const { witness, socket, room, id } = scene;
      await cut(scene);
      await publish(witness, room, "missed");
      const [one, two] = [twin(hub, socket, { transports }), twin(hub, socket, { transports })];
      const [first, second] = [one, two].map((socket) => listen(socket, "news"));
      await connected(one.connect());
      await first.count(1);
      const closed = next(one, "disconnect");
      await connected(two.connect());
      assert.deepEqual([one.recovered, two.recovered, two.id], [true, true, id]);

      const [reason] = await closed;
      assert.match(reason, /^transport (close|error)$/);
      assert.deepEqual(await members(witness, room), [id]);
      await publish(witness, room, "after");
      assert.deepEqual(await second.count(2), [["missed"], ["after"]]);
      assert.deepEqual(first.heard, [["missed"]]);
    });

    test("of many twins at once one remains", async () => {
      const scene = await stage(hub, { transports });
      const { witness, socket, room, id } = scene;
      await cut(scene);
      await publish(witness, room, "missed");
      const twins = Array.from({ length: 8 }, () => twin(hub, socket, { transports }));
      const news = twins.map((socket) => listen(socket, "news"));
      const recovered = twins.map((socket) => next(socket, "connect").then(() => socket.recovered, () => "evicted before"));
      for (const socket of twins) socket.connect();
      assert.ok(!(await Promise.all(recovered)).includes(false));

      const remaining = () => twins.filter(({ connected }) => connected);
      await eventually("one twin alone", async () => remaining().length, (count) => count === 1);
      const [last] = remaining();
      assert.equal(last.id, id);
      assert.deepEqual(await members(witness, room), [id]);
      await publish(witness, room, "after");
      assert.deepEqual(await news[twins.indexOf(last)].count(2), [["missed"], ["after"]]);
      assert.equal(news.filter(({ heard }) => heard.flat().includes("after")).length, 1);
    });
  });
});

describe("C: a volatile event bears a token too", () => {
  const hub = shared(newsroom);
  onEveryTransport((transports) => {
    test("one that ends in a string does not cost the client its place", async () => {
      const scene = await stage(hub, { transports });
      const { witness, socket, room, news } = scene;
      // Over polling, one that comes between two polls is dropped.
      const hints = listen(socket, "hint");
      await eventually("hint", () => ask(witness, "hint", room, "a string at the end"), () => hints.heard.length > 0);
      await cut(scene);
      await publish(witness, room, "missed");
      await restore(scene);
      assert.equal(socket.recovered, true);
      await publish(witness, room, "after");
      assert.deepEqual(await news.count(3), [["first"], ["missed"], ["after"]]);
    });
  });
});

describe("D: nobody says that he is recovered who is not", () => {
  const hub = shared(newsroom);
  const binary = shared(serve);
  onEveryTransport((transports) => {
    test("a session that has heard of nothing yet recovers", async () => {
      const scene = await stage(binary, { transports, heard: [] });
      const { witness, socket, room, news, id } = scene;
      await cut(scene);
      await publish(witness, room, "missed");
      await restore(scene);
      assert.deepEqual([socket.recovered, socket.id], [true, id]);
      await publish(witness, room, "after");
      assert.deepEqual(await news.count(2), [["missed"], ["after"]]);
    });

    test("an event with ack that was missed is not kept quiet", async () => {
      const scene = await stage(hub, { transports });
      const { witness, socket, room, id } = scene;
      const questions = listen(socket, "question");
      await cut(scene);
      await ask(witness, "ask", room, "well?");
      await restore(scene);
      await toldOrFresh(socket, questions, id);
    });

    test("nor is one that was lost on its way", async () => {
      const scene = await stage(hub, { transports });
      const { line, witness, socket, room, id } = scene;
      const questions = listen(socket, "question");
      line.lose();
      await ask(witness, "ask", room, "well?");
      await restore(scene);
      await toldOrFresh(socket, questions, id);
    });

    test("one that was answered is no hindrance", async () => {
      const scene = await stage(hub, { transports });
      const { witness, socket, room, news } = scene;
      socket.on("question", (_, answer) => answer("fine"));
      assert.equal((await ask(witness, "ask", room, "well?"))[0], 1);
      await publish(witness, room, "second");
      await news.count(2);
      await cut(scene);
      await publish(witness, room, "missed");
      await restore(scene);
      assert.equal(socket.recovered, true);
      assert.deepEqual(await news.count(3), [["first"], ["second"], ["missed"]]);
    });
  });

  /** What was asked comes again with another ack id, or the client is told that it has missed something. */
  async function toldOrFresh(socket, questions, id) {
    if (socket.recovered) return questions.count(1);
    assert.notEqual(socket.id, id);
    if (!AGAINST_NODE) assert.ok((await verdicts(hub)).ack_missed > 0);
  }
});

describe("E: a client may be back before the server has noticed", () => {
  const hub = shared(serve);
  onEveryTransport((transports) => {
    test("it replaces its half-open connection, and nothing sent there is lost", async () => {
      const scene = await stage(hub, { transports });
      const { line, witness, socket, room, news, id } = scene;
      const before = AGAINST_NODE || (await connections(hub));
      line.lose();
      await publish(witness, room, "into", "the void");
      await restore(scene);
      assert.deepEqual([socket.recovered, socket.id], [true, id]);
      await publish(witness, room, "after");
      assert.deepEqual(await news.count(4), [["first"], ["into"], ["the void"], ["after"]]);
      assert.deepEqual(await members(witness, room), [id]);
      await eventually("end of the half-open connection", () => connections(hub), (count) => count <= before);
    });
  });
});

describe("F: a room is what it was when the event was emitted", () => {
  const hub = shared(newsroom);
  onEveryTransport((transports) => {
    test("what was said in a room before the client joined is not replayed", async () => {
      const scene = await stage(hub, { transports });
      const { witness, socket, room, news } = scene;
      const later = freshRoom();
      await publish(witness, later, "before");
      await ask(socket, "join", later);
      await cut(scene);
      await publish(witness, later, "missed");
      await restore(scene);
      assert.equal(socket.recovered, true);
      await publish(witness, room, "after");
      assert.deepEqual(await news.count(3), [["first"], ["missed"], ["after"]]);
    });

    test("a room left while away is replayed up to the leave, and no further", async () => {
      const scene = await stage(hub, { transports });
      const { line, witness, socket, room, news, id } = scene;
      line.lose();
      await publish(witness, room, "within");
      await ask(witness, "expel", room);
      await publish(witness, room, "without");
      await restore(scene);
      assert.equal(socket.recovered, true);
      await publish(witness, id, "after");
      assert.deepEqual(await news.count(3), [["first"], ["within"], ["after"]]);
      assert.deepEqual(await members(witness, room), []);
    });
  });
});

describe("G: a ping is outstanding when an upgrade completes", () => {
  const hub = shared(() => serve({ pingTimeout: 500 }));

  test("its pong is still waited for, and not for ever", async () => {
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
  const hub = shared(newsroom);
  onEveryTransport((transports) => {
    test("what is said while middleware thinks is heard", async () => {
      const name = `slow over ${transports}`;
      const scene = await stage(hub, { transports, auth: { name } });
      const { line, witness, socket, room, news, id } = scene;
      await cut(scene);
      await ask(witness, "join", "door");
      await ask(witness, "slow", name, true);
      await publish(witness, room, "away");
      const [knock, returned] = [next(witness, "knock"), back(socket)];
      line.restore();
      // Middleware can know who it is that comes back.
      assert.deepEqual((await knock).slice(0, 3), [name, id, true]);
      await publish(witness, room, "at the door");
      await ask(witness, "slow", name, false);
      await returned;
      assert.equal(socket.recovered, true);
      await publish(witness, room, "inside");
      assert.deepEqual(await news.count(4), [["first"], ["away"], ["at the door"], ["inside"]]);
    });

    for (const loss of ["cut", "lose"]) {
      test(`a stream of news has no gap where the line was ${loss === "cut" ? "cut" : "lost"}`, async () => {
        const { line, witness, socket, room, news } = await stage(hub, { transports, heard: [] });
        const said = [];
        const say = async (times) => {
          for (let n = 0; n < times; n += 1) {
            said.push([said.length]);
            await ask(witness, "publish", room, "news", said.length - 1);
          }
        };
        await say(30);
        const returned = back(socket);
        line[loss]();
        await say(30);
        line.restore();
        let returning = true;
        returned.finally(() => (returning = false)).catch(() => {});
        while (returning) await say(1);
        await returned;
        await say(30);
        assert.equal(socket.recovered, true);
        assert.deepEqual(await news.count(said.length), said);
      });
    }
  });
});

describe("I: to a room and to one, in the order in which it was said", () => {
  const hub = shared(newsroom);
  const TIMES = 20;
  const TURNS = Array.from({ length: TIMES }, (_, n) => [[`room ${n}`], [`you ${n}`]]).flat();
  onEveryTransport((transports) => {
    test("heard at once", async () => {
      const { witness, room, news, id } = await stage(hub, { transports, heard: [] });
      await ask(witness, "by turns", room, id, TIMES);
      assert.deepEqual(await news.count(TURNS.length), TURNS);
    });

    test("replayed", async () => {
      const scene = await stage(hub, { transports, heard: [] });
      const { line, witness, socket, room, news, id } = scene;
      line.lose();
      await ask(witness, "by turns", room, id, TIMES);
      await restore(scene);
      assert.equal(socket.recovered, true);
      assert.deepEqual(await news.count(TURNS.length), TURNS);
    });
  });
});

describe("J: who was quiet for long is recovered", () => {
  const WINDOW = 1_000;
  const hub = shared(() => serve({ window: WINDOW }));
  onEveryTransport((transports) => {
    test("its last event may be older than the window", async () => {
      const scene = await stage(hub, { transports });
      const { witness, socket, room, news } = scene;
      for (let ms = 0; ms <= WINDOW + PING_MS; ms += PING_MS) await next(socket.io.engine, "ping");
      await cut(scene);
      await publish(witness, room, "missed");
      await restore(scene);
      assert.equal(socket.recovered, true);
      assert.deepEqual(await news.count(2), [["first"], ["missed"]]);
    });
  });

  // One publisher may turn the whole ring here; by default its share of the journal is an eighth.
  const WHOLE_RING = ["--journal-sender-bytes-max", String(1 << 30)];
  const RINGS = {
    memory: ["--journal-records-max", "100", ...WHOLE_RING],
    disk: ["--journal-segments-max", "2", "--journal-segment-bytes", String(1 << 20), ...WHOLE_RING],
  };
  for (const [recovery, flags] of Object.entries(RINGS)) {
    describe(`a ring that has turned, ${recovery}`, () => {
      const small = shared(() => serve({ recovery, flags }));
      const flood = async (witness, room) => {
        const word = "x".repeat(100_000);
        for (let n = 0; n < 10; n += 1) await Promise.all(Array.from({ length: 20 }, () => publish(witness, room, word)));
      };

      test("others' news do not push it out", async () => {
        const scene = await stage(small, { transports: ["websocket"] });
        const { witness, socket, room, news } = scene;
        await flood(witness, freshRoom());
        await cut(scene);
        await flood(witness, freshRoom());
        await publish(witness, room, "missed");
        await restore(scene);
        assert.equal(socket.recovered, true);
        assert.deepEqual(await news.count(2), [["first"], ["missed"]]);
      });

      test("its own do, and it is notified", async () => {
        const scene = await stage(small, { transports: ["websocket"] });
        const { witness, socket, room, news, id } = scene;
        await cut(scene);
        await publish(witness, room, "missed");
        // What no client can miss takes nothing of the ring.
        const other = freshRoom();
        await ask(witness, "join", other);
        await flood(witness, other);
        await restore(scene);
        assert.ok(!socket.recovered);
        assert.notEqual(socket.id, id);
        assert.deepEqual(await ask(socket, "echo", "fresh"), ["fresh"]);
        assert.deepEqual(news.heard, [["first"]]);
        if (!AGAINST_NODE) assert.equal((await verdicts(small)).trimmed, 1);
      });
    });
  }
});

describe("K: the process may end, and how does not matter", () => {
  const servers = [];
  const started = async (server) => (servers.push(server), server);
  afterEach(async () => {
    closeClients();
    closeLines();
    for (const server of servers.splice(0)) if (server.running()) await server.stop();
  });

  const ENDS = { "kill -9": (server) => server.kill(), "SIGTERM": (server) => server.stop() };
  onEveryTransport((transports) => {
    for (const [how, end] of Object.entries(ENDS)) {
      test(`${how}, with the journal on disk: nothing is missing`, async () => {
        const folder = freshFolder();
        const first = await started(await serve({ folder }));
        const scene = await stage(first, { transports });
        const { line, socket, room, news, id } = scene;
        line.lose();
        await publish(scene.witness, room, "into", "the void");
        await end(first);

        const second = await started(await serve({ folder, port: first.port }));
        const other = await witness(second);
        await publish(other, room, "to nobody");
        await restore(scene);
        assert.deepEqual([socket.recovered, socket.id], [true, id]);
        assert.deepEqual(await members(other, room), [id]);
        await publish(other, room, "after");
        assert.deepEqual((await news.count(5)).flat(), ["first", "into", "the void", "to nobody", "after"]);
      });
    }

    test("kill -9 again and again while the client finds its way back by itself", async () => {
      const folder = freshFolder();
      let server = await started(await serve({ folder }));
      const { witness: publisher, socket, room, news, id } = await stage(server, { transports, heard: [] });
      await publish(publisher, room, 0);
      for (let n = 1; n <= 3; n += 1) {
        const returned = back(socket);
        await server.kill();
        server = await started(await serve({ folder, port: server.port }));
        await publish(await witness(server), room, n);
        await returned;
        assert.deepEqual([socket.recovered, socket.id], [true, id]);
      }
      assert.deepEqual((await news.count(4)).flat(), [0, 1, 2, 3]);
    });

    test("kill -9, with the journal in memory: the client is not recovered", async () => {
      const first = await started(await serve({ recovery: "memory" }));
      const scene = await stage(first, { transports });
      const { line, socket, room, news, id } = scene;
      line.lose();
      await publish(scene.witness, room, "into the void");
      await first.kill();
      const second = await started(await serve({ recovery: "memory", port: first.port }));
      const other = await witness(second);
      await publish(other, room, "to nobody");
      await restore(scene);
      assert.ok(!socket.recovered);
      assert.notEqual(socket.id, id);
      if (!AGAINST_NODE) assert.deepEqual(await verdicts(second), { ...NONE, foreign_epoch: 1 });
      await ask(socket, "join", room);
      await publish(other, room, "after");
      assert.deepEqual(await news.count(2), [["first"], ["after"]]);
    });

    test("rooms and data outlive the process too", async () => {
      const folder = freshFolder();
      const first = await started(await newsroom({ folder }));
      const scene = await stage(first, { transports, auth: { name: "kim" } });
      const { socket } = scene;
      await ask(socket, "bookmark", { page: 17 });
      const [before] = await ask(socket, "me");
      const returned = back(socket);
      await first.kill();
      await started(await newsroom({ folder, port: first.port }));
      await returned;
      assert.deepEqual(await ask(socket, "me"), [{ ...before, recovered: true }]);
    });
  });
});
