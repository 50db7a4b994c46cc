/**
 * `static/client/durable.js` by itself, with a scripted socket. `durable-hub.test.mjs` and
 * `durable-restart.test.mjs` run it against the binary.
 */

import assert from "node:assert/strict";
import { EventEmitter, getEventListeners } from "node:events";
import { afterEach, beforeEach, describe, mock, test } from "node:test";
import { publishDurable, subscriber } from "../../static/client/durable.js";

/** Lets everything that is ready run. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A promise with its `resolve` and `reject`. */
function deferred() {
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
}

const EPOCH = "aEpochOf";
const offset = (number, epoch = EPOCH) => epoch + String(number).padStart(9, "-");

/** The part of a client's socket that the module uses. What it emits is in `sent`. */
class FakeSocket extends EventEmitter {
  nsp = "/";
  id = "first";
  connected = true;
  auth = undefined;
  calls = [];
  sent = [];
  /** Called with each publish; returns what the ack is called with, or nothing. */
  answer = () => undefined;

  /** Delivers an event; `acks` collects what its ack was called with. */
  deliver(event, number, ...args) {
    const acks = [];
    super.emit(event, ...args, { offset: offset(number), room: "orders" }, (...answer) => acks.push(answer));
    return acks;
  }

  receive(event, ...args) {
    super.emit(event, ...args);
  }

  lose() {
    this.connected = false;
    this.id = undefined;
    super.emit("disconnect", "transport close");
  }

  reconnect(id = "second") {
    this.connected = true;
    this.id = id;
    super.emit("connect");
  }

  get volatile() {
    return this;
  }

  timeout(ms) {
    this.calls.push(`timeout ${ms}`);
    return this;
  }

  emit(event, ...args) {
    const ack = typeof args.at(-1) === "function" ? args.pop() : null;
    this.sent.push([event, ...args]);
    const answer = this.answer(event, ...args);
    if (answer) queueMicrotask(() => ack(...answer));
    else this.pending = ack;
    return true;
  }

  connect() {
    this.calls.push("connect");
    return this;
  }

  disconnect() {
    this.calls.push("disconnect");
    return this;
  }
}

/** What a page's `localStorage` does. */
function pageStorage() {
  const items = new Map();
  return { items, getItem: (key) => items.get(key) ?? null, setItem: (key, value) => items.set(key, value) };
}

describe("a durable subscriber", () => {
  let socket;
  let storage;
  let errors;
  const subscribe = (options = {}) => subscriber(socket, "kitchen", { storage, onError: (...error) => errors.push(error), ...options });
  beforeEach(() => {
    socket = new FakeSocket();
    socket.auth = { subscriber: "kitchen" };
    storage = pageStorage();
    errors = [];
  });
  afterEach(() => mock.timers.reset());

  test("acknowledges when the handler has resolved", async () => {
    const { promise, resolve } = deferred();
    const calls = [];
    subscribe().on("order", (...args) => (calls.push(args), promise));
    const acks = socket.deliver("order", 1, { table: 4 }, "now");
    await settled();
    assert.deepEqual(calls, [[{ table: 4 }, "now", { offset: offset(1), room: "orders" }]]);
    assert.deepEqual(acks, []);
    resolve();
    await settled();
    assert.deepEqual(acks, [[]]);
  });

  test("handlers of all events run one at a time, in order", async () => {
    const first = deferred();
    const calls = [];
    subscribe()
      .on("order", (number) => (calls.push(number), first.promise))
      .on("bill", (number) => void calls.push(number));
    const acks = [socket.deliver("order", 1, 1), socket.deliver("bill", 2, 2)];
    await settled();
    assert.deepEqual(calls, [1]);
    first.resolve();
    await settled();
    assert.deepEqual(calls, [1, 2]);
    assert.deepEqual(acks, [[[]], [[]]]);
  });

  test("a handler that throws asks for the event again", async () => {
    const later = Object.assign(new Error("busy"), { delay: 250 });
    const thrown = [later, new Error("broken"), null];
    subscribe().on("order", async () => {
      throw thrown.shift();
    });
    assert.deepEqual(await answers(1, 2, 3), [[{ nak: true, delay: 250 }], [{ nak: true }], [{ nak: true }]]);
    assert.deepEqual(errors.map(([error, meta]) => [error?.message, meta.offset]), [["busy", offset(1)], ["broken", offset(2)], [undefined, offset(3)]]);
  });

  test("a handler that throws at the call, and no promise, is the same", async () => {
    subscribe().on("order", () => {
      throw new Error("broken");
    });
    assert.deepEqual(await answers(1), [[{ nak: true }]]);
  });

  test("an error with `term` gives the event up", async () => {
    subscribe().on("order", async () => {
      throw Object.assign(new Error("no such table"), { term: true });
    });
    assert.deepEqual(await answers(1), [[{ term: true, reason: "no such table" }]]);
  });

  test("an error handler that throws stops nothing", async () => {
    const onError = () => {
      throw new Error("in the error handler");
    };
    const thrown = [new Error("broken")];
    subscribe({ onError }).on("order", async () => {
      if (thrown.length) throw thrown.pop();
    });
    assert.deepEqual(await answers(1, 2), [[{ nak: true }], []]);
  });

  test("an event handled before is acknowledged and not handled", async () => {
    const calls = [];
    subscribe().on("order", (number) => void calls.push(number));
    assert.deepEqual(await answers(1, 2, 1), [[], [], []]);
    assert.deepEqual(calls, [1, 2]);
  });

  test("a reloaded page remembers, another name or namespace does not", async () => {
    const calls = [];
    subscribe().on("order", (number) => void calls.push(`first ${number}`));
    await answers(1);
    for (const [nsp, name] of [["/", "kitchen"], ["/", "bar"], ["/staff", "kitchen"]]) {
      socket = Object.assign(new FakeSocket(), { nsp });
      subscriber(socket, name, { storage }).on("order", (number) => void calls.push(`${nsp} ${name} ${number}`));
      assert.deepEqual(await answers(1), [[]]);
    }
    assert.deepEqual(calls, ["first 1", "/ bar 1", "/staff kitchen 1"]);
  });

  test("a number of another epoch of the queue is another event", async () => {
    const calls = [];
    subscribe().on("order", ({ offset }) => void calls.push(offset));
    for (const epoch of [EPOCH, "aEpochOg"]) {
      socket.receive("order", { offset: offset(1, epoch), room: "orders" }, () => {});
      await settled();
    }
    assert.deepEqual(calls, [offset(1), offset(1, "aEpochOg")]);
  });

  // A floor at the newest handled number would skip the first event for good.
  test("a failed event is handled again after later ones", async () => {
    const thrown = [new Error("busy")];
    const calls = [];
    subscribe().on("order", (number) => {
      if (number === 1 && thrown.length) throw thrown.pop();
      calls.push(number);
    });
    assert.deepEqual(await answers(1, 2, 3, 1), [[{ nak: true }], [], [], []]);
    assert.deepEqual(calls, [2, 3, 1]);
  });

  // A subscription may start in the past: `join(room, { durable: true, from })`.
  test("an older event that comes for the first time is handled", async () => {
    const calls = [];
    subscribe().on("order", (number) => void calls.push(number));
    await answers(100, 7);
    assert.deepEqual(calls, [100, 7]);
  });

  test("the newest 512 handled events are remembered", async () => {
    const calls = [];
    subscribe().on("order", (number) => void calls.push(number));
    const numbers = Array.from({ length: 513 }, (_, index) => index + 1);
    await answers(...numbers);
    assert.equal([...storage.items.values()].join("").length, 512 * 18);
    calls.length = 0;
    await answers(2, 513, 1);
    assert.deepEqual(calls, [1]);
  });

  test("without a storage that works the page itself remembers", async () => {
    const broken = () => {
      throw new Error("denied");
    };
    for (const storage of [undefined, { getItem: broken, setItem: broken }, { getItem: () => null, setItem: broken }]) {
      socket = new FakeSocket();
      const calls = [];
      subscriber(socket, "kitchen", { storage }).on("order", (number) => void calls.push(number));
      assert.deepEqual(await answers(1, 1), [[], []]);
      assert.deepEqual(calls, [1]);
    }
  });

  test("a page whose localStorage is denied works", async () => {
    Object.defineProperty(globalThis, "localStorage", {
      configurable: true,
      get() {
        throw new Error("denied");
      },
    });
    try {
      const calls = [];
      subscriber(socket, "kitchen").on("order", (number) => void calls.push(number));
      assert.deepEqual(await answers(1, 1), [[], []]);
      assert.deepEqual(calls, [1]);
    } finally {
      delete globalThis.localStorage;
    }
  });

  test("an asynchronous storage is awaited before the ack", async () => {
    const stored = deferred();
    const items = pageStorage();
    const storage = { getItem: async (key) => items.getItem(key), setItem: async (...item) => (await stored.promise, items.setItem(...item)) };
    subscribe({ storage }).on("order", () => {});
    const acks = socket.deliver("order", 1);
    await settled();
    assert.deepEqual(acks, []);
    stored.resolve();
    await settled();
    assert.deepEqual(acks, [[]]);
    const calls = [];
    socket = new FakeSocket();
    subscribe({ storage }).on("order", (number) => void calls.push(number));
    assert.deepEqual(await answers(1), [[]]);
    assert.deepEqual(calls, []);
  });

  test("plain events, and acks of others, are not its own", async () => {
    const calls = [];
    subscribe().on("order", (...args) => void calls.push(args));
    const acks = [];
    socket.receive("order", { table: 4 });
    socket.receive("order");
    socket.receive("order", { table: 4 }, "an offset of the journal");
    socket.receive("order", { table: 4 }, (...answer) => acks.push(answer));
    socket.receive("order", { offset: offset(1), room: "orders" });
    await settled();
    assert.deepEqual([calls, acks], [[], []]);
  });

  test("events that wait when the connection is lost are not handled", async () => {
    const first = deferred();
    const calls = [];
    subscribe().on("order", (number) => (calls.push(number), number === 1 && first.promise));
    socket.deliver("order", 1, 1);
    const lost = socket.deliver("order", 2, 2);
    await settled();
    socket.lose();
    first.resolve();
    await settled();
    assert.deepEqual([calls, lost], [[1], []]);
    socket.reconnect();
    // The first was handled, though its ack may be lost.
    assert.deepEqual(await answers(1, 2), [[], []]);
    assert.deepEqual(calls, [1, 2]);
  });

  test("events of the lost connection wait for their redelivery", async () => {
    const first = deferred();
    const calls = [];
    subscribe().on("order", (number) => (calls.push(number), number === 1 && first.promise));
    socket.deliver("order", 1, 1);
    const lost = socket.deliver("order", 2, 2);
    await settled();
    socket.lose();
    socket.reconnect();
    first.resolve();
    assert.deepEqual(await answers(3, 2), [[], []]);
    assert.deepEqual([calls, lost], [[1, 3, 2], []]);
  });

  test("a long handler reports progress of the oldest event", async () => {
    mock.timers.enable({ apis: ["setInterval"] });
    const handlers = [deferred(), deferred()];
    subscribe({ ackWait: 3_000 }).on("order", (index) => handlers[index].promise);
    socket.deliver("order", 9, 0);
    socket.deliver("order", 5, 1);
    await settled();
    mock.timers.tick(999);
    assert.deepEqual(socket.sent, []);
    mock.timers.tick(1);
    // The server waits for the event with the lowest number.
    assert.deepEqual(socket.sent, [["in_progress", offset(5)]]);
    socket.connected = false;
    mock.timers.tick(1_000);
    socket.connected = true;
    mock.timers.tick(1_000);
    assert.equal(socket.sent.length, 2);
    handlers.forEach(({ resolve }) => resolve());
    await settled();
    mock.timers.tick(9_000);
    assert.equal(socket.sent.length, 2);
    handlers.push(deferred());
    socket.deliver("order", 12, 2);
    await settled();
    mock.timers.tick(1_000);
    assert.deepEqual(socket.sent[2], ["in_progress", offset(12)]);
  });

  test("its name is in the credentials of the next CONNECT", () => {
    socket = Object.assign(new FakeSocket(), { connected: false, auth: { token: "t" } });
    subscribe({ signature: "s" });
    assert.deepEqual(socket.auth, { token: "t", subscriber: "kitchen", signature: "s" });
    assert.deepEqual(socket.calls, []);
    socket = Object.assign(new FakeSocket(), { connected: false });
    subscribe();
    assert.deepEqual(socket.auth, { subscriber: "kitchen" });
    socket = Object.assign(new FakeSocket(), { connected: false, auth: (give) => give({ token: "t" }) });
    subscribe();
    let given;
    socket.auth((auth) => (given = auth));
    assert.deepEqual(given, { token: "t", subscriber: "kitchen" });
  });

  test("a socket that is connected without its name connects again", () => {
    subscribe();
    assert.deepEqual(socket.calls, []);
    socket.auth = { subscriber: "bar" };
    subscribe();
    assert.deepEqual(socket.calls, ["disconnect", "connect"]);
  });

  /** Delivers orders one after the other; the first argument of each is its number. */
  async function answers(...numbers) {
    const all = numbers.map((number) => socket.deliver("order", number, number));
    while (all.some((acks) => !acks.length)) await settled();
    for (const acks of all) assert.equal(acks.length, 1, "an event is acknowledged once");
    return all.map(([answer]) => answer);
  }
});

describe("publishDurable", () => {
  const RECEIPT = { level: "stored", offset: offset(1), duplicate: false, pending_for: 2 };
  const refused = (code) => [null, { error: { code, message: `because ${code}` } }];
  let socket;
  let script;
  beforeEach(() => {
    socket = new FakeSocket();
    script = [];
    socket.answer = () => script.shift();
    mock.method(Math, "random", () => 1);
    mock.timers.enable({ apis: ["setTimeout"] });
  });
  afterEach(() => {
    mock.timers.reset();
    mock.restoreAll();
  });

  /** Ids of the attempts so far. */
  const ids = () => socket.sent.map(([, { dedup_id }]) => dedup_id);

  test("resolves with the receipt", async () => {
    script = [[null, RECEIPT]];
    assert.deepEqual(await publishDurable(socket, "orders", "order", { table: 4 }, 2), RECEIPT);
    const [[event, { dedup_id, ...target }, ...args]] = socket.sent;
    assert.deepEqual([event, target, args], ["publish", { room: "orders", durable: true }, ["order", { table: 4 }, 2]]);
    assert.match(dedup_id, /^[0-9a-z-]{4,128}$/);
    assert.deepEqual(socket.calls, ["timeout 10000"]);
  });

  test("each event has an id of its own", async () => {
    script = [[null, RECEIPT], [null, RECEIPT]];
    await publishDurable(socket, "orders", "order");
    await publishDurable(socket, "orders", "order");
    assert.equal(new Set(ids()).size, 2);
  });

  test("several rooms, and options, are passed on", async () => {
    script = [[null, RECEIPT], [null, RECEIPT]];
    await publishDurable(socket, ["orders", "audit"], "order");
    await publishDurable(socket, { room: "orders", dedup_id: "order-7", expires_in: 60_000, timeout: 1_000 }, "order");
    assert.deepEqual(socket.sent[0][1].rooms, ["orders", "audit"]);
    assert.deepEqual(socket.sent[1][1], { room: "orders", dedup_id: "order-7", expires_in: 60_000, durable: true });
    assert.deepEqual(socket.calls, ["timeout 10000", "timeout 1000"]);
  });

  test("repeats with one id until the event is stored", async () => {
    const lost = [new Error("operation has timed out")];
    const passing = ["rate_limited", "overloaded", "unavailable", "indeterminate", "disconnected"];
    script = [lost, ...passing.map(refused), [null, RECEIPT]];
    const stored = publishDurable(socket, "orders", "order");
    for (let attempt = 0; attempt < 6; attempt++) await pass(60_000);
    assert.deepEqual(await stored, RECEIPT);
    assert.equal(ids().length, 7);
    assert.equal(new Set(ids()).size, 1);
  });

  test("pauses grow up to 30 s and are up to half as long by chance", async () => {
    script = Array.from({ length: 10 }, () => refused("overloaded")).concat([[null, RECEIPT]]);
    const stored = publishDurable(socket, "orders", "order");
    await settled();
    const waits = [];
    for (let attempts = 1; attempts <= 10; attempts++) {
      // The tenth is by chance half as long.
      let wait = 0;
      if (attempts === 9) Math.random.mock.mockImplementation(() => 0);
      while (socket.sent.length === attempts) await pass(250), (wait += 250);
      waits.push(wait);
    }
    await stored;
    assert.deepEqual(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000, 15_000]);
  });

  test("gives up on an error that a repetition does not mend", async () => {
    for (const code of ["bad_request", "conflict", "too_large", "unknown_event"]) {
      script = [refused(code)];
      await assert.rejects(publishDurable(socket, "orders", "order"), { code, message: `because ${code}` });
    }
    assert.equal(ids().length, 4);
  });

  test("an answer that is no receipt is an error", async () => {
    script = [[null, { level: "accepted", offset: "o", duplicate: false }]];
    await assert.rejects(publishDurable(socket, "orders", "order"), /expected the receipt of a stored event, got .*accepted/);
  });

  test("what cannot be encoded is an error", async () => {
    socket.answer = () => {
      throw new TypeError("circular");
    };
    await assert.rejects(publishDurable(socket, "orders", "order"), /circular/);
  });

  test("nothing is sent before the connection is there", async () => {
    socket.lose();
    script = [[null, RECEIPT]];
    const stored = publishDurable(socket, "orders", "order");
    await settled();
    assert.deepEqual(socket.sent, []);
    socket.reconnect();
    assert.deepEqual(await stored, RECEIPT);
  });

  // The server ends the connection over an event that exceeds its `max_payload`.
  test("a connection that an attempt has lost is followed by a pause", async () => {
    const stored = publishDurable(socket, "orders", "order");
    await settled();
    socket.lose();
    socket.pending(new Error("socket has been disconnected"));
    await settled();
    socket.reconnect();
    await pass(499);
    assert.equal(ids().length, 1);
    script = [[null, RECEIPT]];
    await pass(1);
    assert.deepEqual(await stored, RECEIPT);
    assert.equal(new Set(ids()).size, 1);
  });

  test("a signal ends it before, during and between attempts", async () => {
    const reason = new Error("the user left");
    await assert.rejects(publishDurable(socket, { room: "orders", signal: AbortSignal.abort(reason) }, "order"), reason);
    assert.deepEqual(socket.sent, []);
    // Waiting for an answer, for the next attempt, for a connection.
    for (const prepare of [() => (script = []), () => (script = [refused("overloaded")]), () => socket.lose()]) {
      prepare();
      const abort = new AbortController();
      const stored = publishDurable(socket, { room: "orders", signal: abort.signal }, "order");
      await settled();
      const attempts = socket.sent.length;
      abort.abort(reason);
      await assert.rejects(stored, reason);
      socket.reconnect();
      await pass(60_000);
      assert.equal(socket.sent.length, attempts);
      assert.equal(socket.listenerCount("connect"), 0);
    }
  });

  test("a signal that outlives many events collects nothing", async () => {
    const { signal } = new AbortController();
    script = [[null, RECEIPT], refused("conflict")];
    await publishDurable(socket, { room: "orders", signal }, "order");
    await assert.rejects(publishDurable(socket, { room: "orders", signal }, "order"), { code: "conflict" });
    assert.deepEqual(getEventListeners(signal, "abort"), []);
  });

  async function pass(ms) {
    await settled();
    mock.timers.tick(ms);
    await settled();
  }
});
