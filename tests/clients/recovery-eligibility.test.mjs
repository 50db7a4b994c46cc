/**
 * State of a recovered client, and the conditions under which a client is recovered or gets a new
 * session.
 */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import msgpack from "socket.io-msgpack-parser";
import { ask, client, CLIENTS, connect, connected, freshRoom, listen, next } from "./harness.mjs";
import {
  reconnected,
  connectWith,
  cut,
  leftRoom,
  members,
  serveNewsroom,
  NO_RECOVERIES,
  onEveryTransport,
  PING_MS,
  publish,
  restore,
  serve,
  sharedServer,
  setUp,
  verdicts,
  connectPeer,
} from "./recovery-setup.mjs";

describe("recovered state", () => {
  const hub = sharedServer(serveNewsroom);
  for (const [library, io] of Object.entries(CLIENTS)) {
    describe(library, () => {
      onEveryTransport((transports) => {
        test("id, rooms, data and missed events", async () => {
          const setup = await setUp(hub, { io, transports, auth: { name: "kim" } });
          const { peer, socket, room, news } = setup;
          await ask(socket, "bookmark", { page: 17, marks: ["é", null] });
          await ask(socket, "join", freshRoom());
          const [before] = await ask(socket, "me");
          assert.deepEqual(before.data, { name: "kim", bookmark: { page: 17, marks: ["é", null] } });
          await cut(setup);
          await publish(peer, room, "missed");
          await restore(setup);
          assert.equal(socket.recovered, true);
          assert.deepEqual(await ask(socket, "me"), [{ ...before, recovered: true }]);
          await publish(peer, room, "after");
          assert.deepEqual(await news.count(3), [["first"], ["missed"], ["after"]]);
        });
      });
    });
  }

  onEveryTransport((transports) => {
    test("deleted data stays deleted", async () => {
      const setup = await setUp(hub, { transports, auth: { name: "kim" } });
      const { socket } = setup;
      await ask(socket, "forget me");
      await cut(setup);
      await restore(setup);
      assert.equal(socket.recovered, true);
      const [{ data }] = await ask(socket, "me");
      assert.equal(data, null);
    });

    test("repeated recoveries", async () => {
      const setup = await setUp(hub, { transports });
      const { peer, socket, room, news, id } = setup;
      for (const word of ["second", "third", "fourth"]) {
        await cut(setup);
        await publish(peer, room, word);
        await restore(setup);
        assert.deepEqual([socket.recovered, socket.id], [true, id]);
      }
      assert.deepEqual((await news.count(4)).flat(), ["first", "second", "third", "fourth"]);
    });

    test("binary events", async () => {
      const setup = await setUp(hub, { transports });
      await missedBinary(setup);
    });

    test("thousands of missed events, each once and in order", async () => {
      const setup = await setUp(hub, { transports, received: [] });
      const { peer, socket, room, news } = setup;
      await cut(setup);
      const words = Array.from({ length: 2_000 }, (_, n) => `${n}`.padEnd(1_000, "."));
      for (let n = 0; n < words.length; n += 50) {
        await Promise.all(words.slice(n, n + 50).map((word) => publish(peer, room, word)));
      }
      await restore(setup);
      assert.equal(socket.recovered, true);
      assert.deepEqual((await news.count(words.length)).flat(), words);
    });
  });
});

describe("recovered state with msgpack", () => {
  const hub = sharedServer(() => serve({ flags: ["--parser", "msgpack"] }));
  onEveryTransport((transports) => {
    test("binary events", async () => {
      const setup = await setUp(hub, { transports, parser: msgpack });
      await missedBinary(setup);
    });
  });
});

async function missedBinary(setup) {
  const { peer, socket, room, news } = setup;
  const args = ["text", { list: [Buffer.from([1, 0, 255])] }, Buffer.alloc(70_000, 7)];
  await cut(setup);
  await ask(peer, "publish", room, "news", ...args);
  await publish(peer, room, "after");
  await restore(setup);
  assert.equal(socket.recovered, true);
  assert.deepEqual(await news.count(3), [["first"], args, ["after"]]);
}

describe("invalid credentials", () => {
  const hub = sharedServer(serve);

  const DIGITS = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
  const FIELDS = { epoch: [0, 8], lsn: [8, 17], fingerprint: [17, 21] };

  /** `offset` with one changed field. */
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

  /** CONNECT data with a reader's private id and last offset, one of them changed. */
  const withOffset = (change) => ({ pid, offset }) => ({ pid, offset: change(offset) });
  const withId = (change) => ({ id, pid, offset }) => ({ pid: change(pid, id), offset });

  const CREDENTIALS = [
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

  for (const [what, verdict, auth, namespace] of CREDENTIALS) {
    test(`${what}: new session, no effect on the reader`, async () => {
      const setup = await setUp(hub, { transports: ["websocket"] });
      const { peer: publisher, socket, room, news, id, pid } = setup;
      const known = auth({ pid, id, offset: socket._lastOffset });

      const tryIt = async () => {
        const before = await verdicts(hub);
        const forger = await connectWith(hub, known, { namespace });
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
      await cut(setup);
      await publish(publisher, room, "secret too");
      forgers.push(await tryIt());

      await restore(setup);
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
    const setup = await setUp(hub, { transports: ["websocket"] });
    const { peer: publisher, socket, room, news, pid } = setup;
    const stale = socket._lastOffset;
    await publish(publisher, room, "second");
    await news.count(2);
    await cut(setup);
    await restore(setup);
    const before = await verdicts(hub);
    const { socket: forger } = await connectWith(hub, { pid, offset: stale });
    assert.notEqual(forger._pid, pid);
    assert.equal((await verdicts(hub)).old_offset, before.old_offset + 1);
    assert.equal(socket.connected, true);
  });

  // The stock client keeps the last offset of an earlier session until it receives an event.
  const EARLIER = {
    "an earlier session": (offset) => offset,
    "an earlier journal": (offset) => altered(offset, "epoch", (n) => n - 1),
  };
  for (const [which, change] of Object.entries(EARLIER)) {
    test(`an offset of ${which} is ignored: the replay starts with the session`, async () => {
      const early = await setUp(hub, { transports: ["websocket"] });
      const setup = await setUp(hub, { transports: ["websocket"], received: [] });
      const { peer: publisher, socket, room, news, id } = setup;
      socket._lastOffset = change(early.socket._lastOffset);
      await cut(setup);
      await publish(publisher, room, "missed");
      await restore(setup);
      assert.deepEqual([socket.recovered, socket.id], [true, id]);
      assert.deepEqual(await news.count(1), [["missed"]]);
    });
  }

  test("oversized credentials are refused with the whole CONNECT", async () => {
    const socket = client(hub, { transports: ["websocket"], auth: { pid: "A".repeat(20_000) } });
    const [error] = await next(socket, "connect_error");
    assert.equal(error.message, "Auth is too large");
  });
});

describe("clients without recovery", () => {
  const hub = sharedServer(serveNewsroom);
  const WAYS = { "in its credentials": { auth: { recovery: false } }, "in its query": { query: { recovery: 0 } } };

  onEveryTransport((transports) => {
    for (const [how, options] of Object.entries(WAYS)) {
      test(`${how}: events have no offset, while other clients get one`, async () => {
        const setup = await setUp(hub, { transports, received: [], ...options });
        const { peer: publisher, socket, room, id } = setup;
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
        // One of these events was for the first client only.
        assert.deepEqual(withToken, [2, 3, 2, 2]);
      });

      test(`${how}: not recovered`, async () => {
        const setup = await setUp(hub, { transports, received: ["one", "two"], ...options });
        const { peer: publisher, socket, room, news, id } = setup;
        await cut(setup);
        await publish(publisher, room, "missed");
        await restore(setup);
        assert.ok(!socket.recovered);
        assert.notEqual(socket.id, id);
        await ask(socket, "join", room);
        await publish(publisher, room, "after");
        assert.deepEqual((await news.count(3)).flat(), ["one", "two", "after"]);
      });
    }

    test("middleware prevents the recovery of another user", async () => {
      const auth = { name: "kim" };
      const setup = await setUp(hub, { transports, auth: (give) => give(auth) });
      const { peer: publisher, socket, room, news, id } = setup;
      await ask(socket, "bookmark", "kim's");
      await cut(setup);
      await publish(publisher, room, "missed");
      auth.name = "lou";
      await restore(setup);
      assert.ok(!socket.recovered);
      const [me] = await ask(socket, "me");
      assert.deepEqual(me, { id: socket.id, rooms: ["everybody"], data: { name: "lou", bookmark: null }, recovered: false });
      assert.notEqual(socket.id, id);
      await ask(socket, "join", room);
      await publish(publisher, room, "after");
      assert.deepEqual(await news.count(2), [["first"], ["after"]]);
    });
  });

  test("a client without recovery does not replace a session", async () => {
    const { peer: publisher, socket, room, news, id, pid } = await setUp(hub, { transports: ["websocket"] });
    const { socket: other } = await connectWith(hub, { pid, offset: socket._lastOffset, recovery: false });
    assert.notEqual(other.id, id);
    assert.equal(other._pid, undefined);
    await publish(publisher, room, "after");
    assert.deepEqual(await news.count(2), [["first"], ["after"]]);
  });
});

describe("disconnects that end the session", () => {
  const hub = sharedServer(serveNewsroom);
  const ENDS = {
    "the client leaves the namespace": ({ socket, peer, room, id }) => (socket.disconnect(), leftRoom(peer, room, id)),
    "the server disconnects it": ({ peer, room }) => ask(peer, "kick", room, false),
    "the server closes its connection": ({ peer, room }) => ask(peer, "kick", room, true),
    "it breaks the protocol": async ({ socket }) => socket.io.engine.send("nonsense"),
  };

  onEveryTransport((transports) => {
    for (const [how, end] of Object.entries(ENDS)) {
      test(`${how}: a later connect gets a new session`, async () => {
        const setup = await setUp(hub, { transports });
        const { proxy, peer: publisher, socket, room, news, id } = setup;
        const before = await verdicts(hub);
        const disconnected = next(socket, "disconnect");
        await end(setup);
        await disconnected;
        proxy.cut();
        await publish(publisher, room, "missed");
        const returned = reconnected(socket);
        proxy.restore();
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

describe("an expired recovery window", () => {
  const hub = sharedServer(() => serve({ window: PING_MS }));

  test("gives the client a new session", async () => {
    const setup = await setUp(hub, { transports: ["websocket"] });
    const { peer: publisher, socket, room, news, id } = setup;
    await cut(setup);
    await publish(publisher, room, "missed");
    for (let n = 0; n < 3; n += 1) await next(publisher.io.engine, "ping");
    await restore(setup);
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
  const hub = sharedServer(serve);

  onEveryTransport((transports) => {
    test("are recovered independently", async () => {
      const [setup, other] = await both(transports);
      await cut(setup);
      await missed(setup, other);
      const returned = reconnected(other.socket);
      await restore(setup);
      await returned;
      for (const { socket, id, news } of [setup, other]) {
        assert.deepEqual([socket.recovered, socket.id], [true, id]);
        assert.deepEqual((await news.count(2)).length, 2);
      }
      assert.deepEqual([setup.news.received, other.news.received], [[["first"], ["missed"]], [["other first"], ["other missed"]]]);
    });

    test("one ends without effect on the other", async () => {
      const [setup, other] = await both(transports);
      other.socket.disconnect();
      await leftRoom(other.peer, other.room, other.id);
      await cut(setup);
      await missed(setup, other);
      await restore(setup);
      assert.deepEqual([setup.socket.recovered, setup.socket.id], [true, setup.id]);
      other.socket.connect();
      await connected(other.socket);
      assert.ok(!other.socket.recovered);
      assert.deepEqual(await setup.news.count(2), [["first"], ["missed"]]);
      assert.deepEqual(await ask(other.socket, "echo", 1), [1]);
      assert.deepEqual(other.news.received, [["other first"]]);
    });
  });

  async function both(transports) {
    const setup = await setUp(hub, { transports });
    const socket = setup.socket.io.socket("/other");
    await connected(socket);
    const [publisher, news] = [await connectPeer(hub, { namespace: "/other" }), listen(socket, "news")];
    await ask(socket, "join", setup.room);
    await publish(publisher, setup.room, "other first");
    await news.count(1);
    return [setup, { peer: publisher, socket, news, room: setup.room, id: socket.id }];
  }

  async function missed(setup, other) {
    await publish(setup.peer, setup.room, "missed");
    await publish(other.peer, other.room, "other missed");
  }
});

describe("metrics", () => {
  const hub = sharedServer(serve);

  test("count requested recoveries only", async () => {
    const setup = await setUp(hub, { transports: ["websocket"] });
    assert.deepEqual(await verdicts(hub), NO_RECOVERIES);
    await cut(setup);
    await restore(setup);
    assert.deepEqual(await verdicts(hub), { ...NO_RECOVERIES, recovered: 1 });
  });
});
