/** What comes back with a recovered client, who is recovered and who is not, and that one who is not is told so. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import msgpack from "socket.io-msgpack-parser";
import { ask, client, CLIENTS, connect, connected, freshRoom, listen, next } from "./harness.mjs";
import {
  back,
  claim,
  cut,
  gone,
  members,
  newsroom,
  NONE,
  onEveryTransport,
  PING_MS,
  publish,
  restore,
  serve,
  shared,
  stage,
  verdicts,
  witness,
} from "./recovery.mjs";

describe("what comes back", () => {
  const hub = shared(newsroom);
  for (const [library, io] of Object.entries(CLIENTS)) {
    describe(library, () => {
      onEveryTransport((transports) => {
        test("id, rooms, data and what was missed", async () => {
          const scene = await stage(hub, { io, transports, auth: { name: "kim" } });
          const { witness, socket, room, news } = scene;
          await ask(socket, "bookmark", { page: 17, marks: ["é", null] });
          await ask(socket, "join", freshRoom());
          const [before] = await ask(socket, "me");
          assert.deepEqual(before.data, { name: "kim", bookmark: { page: 17, marks: ["é", null] } });
          await cut(scene);
          await publish(witness, room, "missed");
          await restore(scene);
          assert.equal(socket.recovered, true);
          assert.deepEqual(await ask(socket, "me"), [{ ...before, recovered: true }]);
          await publish(witness, room, "after");
          assert.deepEqual(await news.count(3), [["first"], ["missed"], ["after"]]);
        });
      });
    });
  }

  onEveryTransport((transports) => {
    test("data that was removed stays removed", async () => {
      const scene = await stage(hub, { transports, auth: { name: "kim" } });
      const { socket } = scene;
      await ask(socket, "forget me");
      await cut(scene);
      await restore(scene);
      assert.equal(socket.recovered, true);
      const [{ data }] = await ask(socket, "me");
      assert.equal(data, null);
    });

    test("again and again", async () => {
      const scene = await stage(hub, { transports });
      const { witness, socket, room, news, id } = scene;
      for (const word of ["second", "third", "fourth"]) {
        await cut(scene);
        await publish(witness, room, word);
        await restore(scene);
        assert.deepEqual([socket.recovered, socket.id], [true, id]);
      }
      assert.deepEqual((await news.count(4)).flat(), ["first", "second", "third", "fourth"]);
    });

    test("binary news", async () => {
      const scene = await stage(hub, { transports });
      await missedBinary(scene);
    });

    test("much news, all of it once and in order", async () => {
      const scene = await stage(hub, { transports, heard: [] });
      const { witness, socket, room, news } = scene;
      await cut(scene);
      const words = Array.from({ length: 2_000 }, (_, n) => `${n}`.padEnd(1_000, "."));
      for (let n = 0; n < words.length; n += 50) {
        await Promise.all(words.slice(n, n + 50).map((word) => publish(witness, room, word)));
      }
      await restore(scene);
      assert.equal(socket.recovered, true);
      assert.deepEqual((await news.count(words.length)).flat(), words);
    });
  });
});

describe("what comes back over msgpack", () => {
  const hub = shared(() => serve({ flags: ["--parser", "msgpack"] }));
  onEveryTransport((transports) => {
    test("binary news", async () => {
      const scene = await stage(hub, { transports, parser: msgpack });
      await missedBinary(scene);
    });
  });
});

async function missedBinary(scene) {
  const { witness, socket, room, news } = scene;
  const args = ["text", { list: [Buffer.from([1, 0, 255])] }, Buffer.alloc(70_000, 7)];
  await cut(scene);
  await ask(witness, "publish", room, "news", ...args);
  await publish(witness, room, "after");
  await restore(scene);
  assert.equal(socket.recovered, true);
  assert.deepEqual(await news.count(3), [["first"], args, ["after"]]);
}

describe("what is claimed wrongly", () => {
  const hub = shared(serve);

  const DIGITS = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
  const FIELDS = { epoch: [0, 8], lsn: [8, 17], fingerprint: [17, 21] };

  /** A token like `offset`, one field of which is another. */
  function altered(offset, field, change) {
    const [from, to] = FIELDS[field];
    let value = change([...offset.slice(from, to)].reduce((value, digit) => value * 64 + DIGITS.indexOf(digit), 0));
    let digits = "";
    for (let at = from; at < to; at += 1) {
      digits = DIGITS[value % 64] + digits;
      value = Math.floor(value / 64);
    }
    return offset.slice(0, from) + digits + offset.slice(to);
  }

  const NO_PID = "A".repeat(20);

  /** What somebody says in a CONNECT who knows a reader's private id and last offset, but for one of them. */
  const withOffset = (change) => ({ pid, offset }) => ({ pid, offset: change(offset) });
  const withId = (change) => ({ id, pid, offset }) => ({ pid: change(pid, id), offset });

  const CLAIMS = [
    ["an offset in the future", "future_offset", withOffset((offset) => altered(offset, "lsn", (n) => n + 1_000_000))],
    ["the farthest offset there can be", "future_offset", withOffset((offset) => altered(offset, "lsn", () => 2 ** 51 - 1))],
    ["an offset beyond that", "malformed", withOffset((offset) => altered(offset, "lsn", () => 2 ** 51))],
    ["a guessed offset", "unknown_offset", withOffset((offset) => altered(offset, "fingerprint", (n) => n ^ 1))],
    ["an offset of Node's", "malformed", withOffset(() => "Q87QPC5")],
    ["a truncated offset", "malformed", withOffset((offset) => offset.slice(0, -1))],
    ["an offset and more", "malformed", withOffset((offset) => `${offset}-`)],
    ["an absurdly long offset", "malformed", withOffset(() => "A".repeat(10_000))],
    ["an offset of other characters", "malformed", withOffset(() => "\u0000".repeat(21))],
    ["an offset of 21 bytes that are fewer characters", "malformed", withOffset(() => `${"é".repeat(10)}A`)],
    ["an empty offset", "malformed", withOffset(() => "")],
    ["a number for an offset", "malformed", withOffset(() => 42)],
    ["a list for an offset", "malformed", withOffset((offset) => [offset])],
    ["an object for an offset", "malformed", withOffset((offset) => ({ offset }))],
    ["a guessed id", "unknown_pid", withId(() => NO_PID)],
    ["the public id", "unknown_pid", withId((_, id) => id)],
    ["a truncated id", "malformed", withId((pid) => pid.slice(0, -1))],
    ["an id and more", "malformed", withId((pid) => `${pid}A`)],
    ["an absurdly long id", "malformed", withId(() => "A".repeat(10_000))],
    ["an id that objects have", "malformed", withId(() => "__proto__")],
    ["a number for an id", "malformed", withId(() => 42)],
    ["an object for an id", "malformed", withId((pid) => ({ pid }))],
    [
      "a session of another journal",
      "foreign_epoch",
      ({ offset }) => ({ pid: NO_PID, offset: altered(offset, "epoch", (n) => n - 1) }),
    ],
    ["the session in another namespace", "other_namespace", ({ pid, offset }) => ({ pid, offset }), "/other"],
    ["an offset alone", null, ({ offset }) => ({ offset })],
    ["nothing", null, () => ({})],
  ];

  for (const [what, verdict, auth, namespace] of CLAIMS) {
    test(`${what} gives a fresh session, and takes nothing from the reader`, async () => {
      const scene = await stage(hub, { transports: ["websocket"] });
      const { witness: publisher, socket, room, news, id, pid } = scene;
      const known = auth({ pid, id, offset: socket._lastOffset });

      const tryIt = async () => {
        const before = await verdicts(hub);
        const forger = await claim(hub, known, { namespace });
        assert.notEqual(forger.socket.id, id);
        assert.notEqual(forger.socket._pid, pid);
        assert.deepEqual(await verdicts(hub), { ...before, ...(verdict && { [verdict]: before[verdict] + 1 }) });
        return forger;
      };
      const forgers = [await tryIt()];
      assert.deepEqual(await members(publisher, room), [id]);
      assert.equal(socket.connected, true);
      await publish(publisher, room, "secret");
      await news.count(2);
      await cut(scene);
      await publish(publisher, room, "secret too");
      forgers.push(await tryIt());

      await restore(scene);
      assert.deepEqual([socket.recovered, socket.id], [true, id]);
      assert.deepEqual((await news.count(3)).flat(), ["first", "secret", "secret too"]);
      for (const forger of forgers) {
        const own = freshRoom();
        await ask(forger.socket, "join", own);
        await publish(forger.socket, own, "own");
        assert.deepEqual(await forger.news.count(1), [["own"]]);
      }
    });
  }

  test("an offset from before the last recovery is refused", async () => {
    const scene = await stage(hub, { transports: ["websocket"] });
    const { witness: publisher, socket, room, news, pid } = scene;
    const stale = socket._lastOffset;
    await publish(publisher, room, "second");
    await news.count(2);
    await cut(scene);
    await restore(scene);
    const before = await verdicts(hub);
    const { socket: forger } = await claim(hub, { pid, offset: stale });
    assert.notEqual(forger._pid, pid);
    assert.equal((await verdicts(hub)).old_offset, before.old_offset + 1);
    assert.equal(socket.connected, true);
  });

  // The stock client keeps the last offset of the session before until it hears of something.
  const EARLIER = {
    "an earlier session": (offset) => offset,
    "an earlier journal": (offset) => altered(offset, "epoch", (n) => n - 1),
  };
  for (const [which, change] of Object.entries(EARLIER)) {
    test(`an offset of ${which} is ignored: the session starts at its beginning`, async () => {
      const early = await stage(hub, { transports: ["websocket"] });
      const scene = await stage(hub, { transports: ["websocket"], heard: [] });
      const { witness: publisher, socket, room, news, id } = scene;
      socket._lastOffset = change(early.socket._lastOffset);
      await cut(scene);
      await publish(publisher, room, "missed");
      await restore(scene);
      assert.deepEqual([socket.recovered, socket.id], [true, id]);
      assert.deepEqual(await news.count(1), [["missed"]]);
    });
  }

  test("credentials beyond their bound are refused, with what else is in them", async () => {
    const socket = client(hub, { transports: ["websocket"], auth: { pid: "A".repeat(20_000) } });
    const [error] = await next(socket, "connect_error");
    assert.equal(error.message, "Auth is too large");
  });
});

describe("who declines", () => {
  const hub = shared(newsroom);
  const WAYS = { "in its credentials": { auth: { recovery: false } }, "in its query": { query: { recovery: 0 } } };

  onEveryTransport((transports) => {
    for (const [how, options] of Object.entries(WAYS)) {
      test(`${how}: gets events as they were emitted, beside those who get a token`, async () => {
        const scene = await stage(hub, { transports, heard: [], ...options });
        const { witness: publisher, socket, room, id } = scene;
        const member = await connect(hub, { transports });
        await ask(member, "join", room);
        const args = (socket) => {
          const counts = [];
          socket.on("news", (...args) => counts.push(args.length));
          return counts;
        };
        const [without, withToken] = [args(socket), args(member)];
        const { count } = listen(socket, "news");
        await publish(publisher, room, "to all");
        await ask(publisher, "publish", room, "news", "binary", Buffer.from("too"));
        await ask(publisher, "by turns", room, id, 1);
        await publish(member, room, "end");
        await count(5);
        assert.equal(socket._pid, undefined);
        assert.deepEqual(without, [1, 2, 1, 1, 1]);
        // One of these was for the other alone.
        assert.deepEqual(withToken, [2, 3, 2, 2]);
      });

      test(`${how}: is not recovered`, async () => {
        const scene = await stage(hub, { transports, heard: ["one", "two"], ...options });
        const { witness: publisher, socket, room, news, id } = scene;
        await cut(scene);
        await publish(publisher, room, "missed");
        await restore(scene);
        assert.ok(!socket.recovered);
        assert.notEqual(socket.id, id);
        await ask(socket, "join", room);
        await publish(publisher, room, "after");
        assert.deepEqual((await news.count(3)).flat(), ["one", "two", "after"]);
      });
    }

    test("middleware, for a client that is another user by now", async () => {
      const auth = { name: "kim" };
      const scene = await stage(hub, { transports, auth: (give) => give(auth) });
      const { witness: publisher, socket, room, news, id } = scene;
      await ask(socket, "bookmark", "kim's");
      await cut(scene);
      await publish(publisher, room, "missed");
      auth.name = "lou";
      await restore(scene);
      assert.ok(!socket.recovered);
      const [me] = await ask(socket, "me");
      assert.deepEqual(me, { id: socket.id, rooms: ["everybody"], data: { name: "lou", bookmark: null }, recovered: false });
      assert.notEqual(socket.id, id);
      await ask(socket, "join", room);
      await publish(publisher, room, "after");
      assert.deepEqual(await news.count(2), [["first"], ["after"]]);
    });
  });

  test("a client that declines takes nobody's place", async () => {
    const { witness: publisher, socket, room, news, id, pid } = await stage(hub, { transports: ["websocket"] });
    const { socket: other } = await claim(hub, { pid, offset: socket._lastOffset, recovery: false });
    assert.notEqual(other.id, id);
    assert.equal(other._pid, undefined);
    await publish(publisher, room, "after");
    assert.deepEqual(await news.count(2), [["first"], ["after"]]);
  });
});

describe("what ends for good", () => {
  const hub = shared(newsroom);
  const ENDS = {
    "the client leaves the namespace": ({ socket, witness, room, id }) => (socket.disconnect(), gone(witness, room, id)),
    "the server puts it out": ({ witness, room }) => ask(witness, "kick", room, false),
    "the server closes its connection": ({ witness, room }) => ask(witness, "kick", room, true),
    "it breaks the protocol": async ({ socket }) => socket.io.engine.send("nonsense"),
  };

  onEveryTransport((transports) => {
    for (const [how, end] of Object.entries(ENDS)) {
      test(`${how}: when it is back it starts afresh`, async () => {
        const scene = await stage(hub, { transports });
        const { line, witness: publisher, socket, room, news, id } = scene;
        const before = await verdicts(hub);
        const disconnected = next(socket, "disconnect");
        await end(scene);
        await disconnected;
        line.cut();
        await publish(publisher, room, "missed");
        const returned = back(socket);
        line.restore();
        socket.connect();
        await returned;
        assert.ok(!socket.recovered);
        assert.notEqual(socket.id, id);
        assert.deepEqual(await verdicts(hub), { ...before, unknown_pid: before.unknown_pid + 1 });
        await ask(socket, "join", room);
        await publish(publisher, room, "after");
        assert.deepEqual(await news.count(2), [["first"], ["after"]]);
      });
    }
  });
});

describe("a window that has passed", () => {
  const hub = shared(() => serve({ window: PING_MS }));

  test("is over, and the client is notified", async () => {
    const scene = await stage(hub, { transports: ["websocket"] });
    const { witness: publisher, socket, room, news, id } = scene;
    await cut(scene);
    await publish(publisher, room, "missed");
    for (let n = 0; n < 3; n += 1) await next(publisher.io.engine, "ping");
    await restore(scene);
    assert.ok(!socket.recovered);
    assert.notEqual(socket.id, id);
    const { expired, unknown_pid: forgotten } = await verdicts(hub);
    assert.equal(expired + forgotten, 1);
    await ask(socket, "join", room);
    await publish(publisher, room, "after");
    assert.deepEqual(await news.count(2), [["first"], ["after"]]);
  });
});

describe("two namespaces on one connection", () => {
  const hub = shared(serve);

  onEveryTransport((transports) => {
    test("are recovered each by itself", async () => {
      const [scene, other] = await both(transports);
      await cut(scene);
      await missed(scene, other);
      const returned = back(other.socket);
      await restore(scene);
      await returned;
      for (const { socket, id, news } of [scene, other]) {
        assert.deepEqual([socket.recovered, socket.id], [true, id]);
        assert.deepEqual((await news.count(2)).length, 2);
      }
      assert.deepEqual([scene.news.heard, other.news.heard], [[["first"], ["missed"]], [["other first"], ["other missed"]]]);
    });

    test("the end of one is not the other's", async () => {
      const [scene, other] = await both(transports);
      other.socket.disconnect();
      await gone(other.witness, other.room, other.id);
      await cut(scene);
      await missed(scene, other);
      await restore(scene);
      assert.deepEqual([scene.socket.recovered, scene.socket.id], [true, scene.id]);
      other.socket.connect();
      await connected(other.socket);
      assert.ok(!other.socket.recovered);
      assert.deepEqual(await scene.news.count(2), [["first"], ["missed"]]);
      assert.deepEqual(await ask(other.socket, "echo", 1), [1]);
      assert.deepEqual(other.news.heard, [["other first"]]);
    });
  });

  async function both(transports) {
    const scene = await stage(hub, { transports });
    const socket = scene.socket.io.socket("/other");
    await connected(socket);
    const [publisher, news] = [await witness(hub, { namespace: "/other" }), listen(socket, "news")];
    await ask(socket, "join", scene.room);
    await publish(publisher, scene.room, "other first");
    await news.count(1);
    return [scene, { witness: publisher, socket, news, room: scene.room, id: socket.id }];
  }

  async function missed(scene, other) {
    await publish(scene.witness, scene.room, "missed");
    await publish(other.witness, other.room, "other missed");
  }
});

describe("the scrape", () => {
  const hub = shared(serve);

  test("counts who was recovered, and nobody who did not ask", async () => {
    const scene = await stage(hub, { transports: ["websocket"] });
    assert.deepEqual(await verdicts(hub), NONE);
    await cut(scene);
    await restore(scene);
    assert.deepEqual(await verdicts(hub), { ...NONE, recovered: 1 });
  });
});
