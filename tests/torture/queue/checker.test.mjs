/**
 * The checker on histories of durable events written by hand: correct ones pass, and each kind of
 * violation is found.
 */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { check, count, WITNESS } from "./checker.mjs";

const offset = (number, epoch = "epoch---") => `${epoch}${String(number).padStart(9, "0")}`;

/** An offset of another epoch. */
const AGAIN = offset(1, "epoch--b");

/** Event `n` of publisher "p" to room "r", published at `invoke`, stored at `ok` as number `n`. */
const stored = (n, invoke, ok, more = {}) => ({
  ...{ n, room: "r", rooms: ["r"], publisher: "p", life: 1, invoke, ok, offset: null, dedup: null, expires: null, attempts: 1, refused: null },
  receipt: ok === null ? null : { offset: offset(n), duplicate: false, pendingFor: 2 },
  ...more,
});
const receipt = (number, more = {}) => ({ receipt: { offset: offset(number), duplicate: false, pendingFor: 2, ...more } });

const attached = (at, life, more = {}) => ({ at, kind: "attached", life, status: "resumed", gaps: [], ...more });
const disconnect = (at, life = 1) => ({ at, kind: "disconnect", life, reason: "transport close" });
const join = (at, ok, room = "r") => ({ at, kind: "join", room, ok });
const leave = (at, ok, room = "r") => ({ at, kind: "leave", room, ok });
const got = (at, n, more = {}) => ({ at, kind: "event", life: 1, n, room: "r", offset: offset(n), redelivered: false, intact: true, ...more });
const again = (at, n, more = {}) => got(at, n, { redelivered: true, ...more });
const answer = (at, n, what = "ack", more = {}) => ({ at, kind: "answer", life: 1, n, what, ...more });
const settle = (at, ok, more) => ({ at, kind: "settle", ok, ...more });
const drained = (at, ok = at + 1) => ({ at, kind: "pending", events: 0, ok });
const replay = (at, ...numbers) => ({ at, kind: "replay", offsets: numbers.map((number) => offset(number)), ok: at });
const dead = (number, reason = `gave up ${number}`) => ({ offset: offset(number), reason });
const fault = (at, what) => ({ at, kind: "fault", what });
const gap = (from, to, reason) => ({ from: offset(from), to: offset(to), reason });

/** A subscriber of room "r" from the beginning. */
const subscriber = (...entries) => [attached(1, 1, { status: "reset" }), join(2, 3), ...entries];

/** A subscriber that received these events and acknowledged them. */
const done = (...numbers) => subscriber(...numbers.flatMap((n, i) => [got(40 + 2 * i, n), answer(41 + 2 * i, n)]), drained(80));

/** The witness, which receives these events: `n`, or `[n, number]`, or `[n, offset]`. */
const witness = (...numbers) => [
  ...[attached(1, 1, { status: "reset" }), join(2, 3), disconnect(4), attached(90, 2)],
  ...numbers.map((n) => (Array.isArray(n) ? n : [n, n])).flatMap(([n, number], i) => [got(91 + i, n, { life: 2, offset: typeof number === "string" ? number : offset(number) }), answer(91 + i, n)]),
  drained(200),
];

/** History with the events in the store, and the entries of subscribers. */
const history = ({ publishes = [], store = publishes.map(({ n }) => n), subscribers = [done(...store)], dead: letters = null, ...more }) => ({
  publishes,
  logs: [],
  repeats: [],
  settled: 0,
  subscribers: [
    { name: WITNESS, entries: witness(...store), dead: null },
    ...subscribers.map((entries, number) => ({ name: `subscriber ${number}`, entries, dead: letters })),
  ],
  ...more,
});

/** Different rules that a history violates, in order of their names. */
const broken = (parts) => [...new Set(check(history(parts)).map(({ rule }) => rule))].sort();

/** An event at 10 and the subscriber's entries. */
const one = (...entries) => ({ publishes: [stored(1, 10, 11)], subscribers: [subscriber(...entries)] });

describe("no violation", () => {
  const fine = (name, parts) => test(name, () => assert.deepEqual(broken(parts), []));

  fine("when all events were received and acknowledged", { publishes: [stored(1, 10, 11), stored(2, 12, 13)] });
  fine("when an unacknowledged event came again after a reconnect, marked", one(got(12, 1), disconnect(13), attached(14, 2), again(15, 1, { life: 2 }), answer(16, 1), drained(17)));
  fine("when a lost delivery came later, marked", one(disconnect(9), attached(14, 2), again(15, 1, { life: 2 }), answer(16, 1), drained(17)));
  fine("when a nak brought the event again", one(got(12, 1), answer(13, 1, "nak"), again(14, 1), answer(15, 1), drained(16)));
  fine("when a late ack of an earlier connection did not count for `received` of a later event", {
    publishes: [stored(1, 10, 11), stored(2, 10, 11, { publisher: "q" })],
    subscribers: [subscriber(got(12, 1), disconnect(13), attached(14, 2), again(15, 1, { life: 2 }), answer(16, 1, "nak", { life: 2 }), answer(17, 1), got(18, 2, { life: 2 }), settle(19, 20, { upTo: offset(2) }), again(21, 1, { life: 2 }), answer(22, 1, "ack", { life: 2 }), drained(23))],
  });
  fine("when an event that waited for its retry came again after `received` of a later one", {
    publishes: [stored(1, 10, 11), stored(2, 10, 11, { publisher: "q" })],
    subscribers: [subscriber(got(12, 1), answer(13, 1, "nak"), got(14, 2), settle(15, 16, { upTo: offset(2) }), again(17, 1), answer(18, 1), drained(19))],
  });
  fine("when an acknowledged event came again, since the ack was not confirmed", one(got(12, 1), answer(13, 1), disconnect(14), attached(15, 2), again(16, 1, { life: 2 }), answer(17, 1), drained(18)));
  fine("when a replaced connection delivers late what its successor has received", {
    publishes: [stored(1, 10, 11), stored(2, 10, 11, { publisher: "q" })],
    subscribers: [subscriber(attached(12, 2), again(13, 1, { life: 2 }), again(14, 2, { life: 2 }), settle(15, 16, { upTo: offset(2) }), got(17, 1), got(18, 2), drained(19))],
  });
  fine("when an unanswered event was not stored, and another one was", {
    publishes: [stored(1, 10, null), stored(2, 11, null)],
    store: [2],
  });
  fine("when an event was repeated under its id until it was answered", { publishes: [stored(1, 10, 30, { dedup: "d", attempts: 2, ...receipt(1, { duplicate: true }) })] });
  fine("when an event that was answered is published again", { publishes: [stored(1, 10, 11, { dedup: "d" })], repeats: [{ n: 1, first: offset(1), offset: offset(1), duplicate: true }] });
  fine("when events of two publishers overlap", {
    publishes: [stored(1, 10, 20, receipt(2)), stored(2, 11, 19, { publisher: "q", ...receipt(1) })],
    store: [
      [2, 1],
      [1, 2],
    ],
    subscribers: [subscriber(got(40, 2, { offset: offset(1) }), answer(41, 2), got(42, 1, { offset: offset(2) }), answer(43, 1), drained(44))],
  });
  fine("when an event of two rooms arrives through one of them", {
    publishes: [stored(1, 10, 11, { room: "r+s", rooms: ["r", "s"] })],
    subscribers: [subscriber(join(4, 5, "s"), got(12, 1, { room: "s" }), answer(13, 1), drained(14))],
  });
  fine("when an event was published while a subscription began or ended", {
    publishes: [stored(1, 2, 4, receipt(1, { pendingFor: 1 })), stored(2, 6, 8, receipt(2, { pendingFor: 1 }))],
    subscribers: [subscriber(leave(7, 9))],
  });
  fine("when an event of a subscription that ended was not acknowledged", one(got(12, 1), leave(13, 14), drained(15)));
  fine("when an event was given up, and is a dead letter", { ...one(got(12, 1), answer(13, 1, "term"), drained(14)), dead: [dead(1)] });
  fine("when an event became a dead letter that was never received", { ...one(drained(14)), dead: [dead(1, "not acknowledged after 20 deliveries")] });
  fine("when a dead letter was replayed, and arrived", { ...one(got(12, 1), answer(13, 1, "term"), drained(14), replay(16, 1), got(17, 1, { offset: offset(2) }), answer(18, 1), drained(19)), dead: [dead(1)] });
  fine("when an event was given up, came again, and was acknowledged", { ...one(got(12, 1), answer(13, 1, "term"), again(14, 1), answer(15, 1), drained(16)), dead: [] });
  fine("when an event expired, with notice", {
    publishes: [stored(1, 10, 11, { expires: 100 })],
    subscribers: [subscriber(disconnect(9), attached(20, 2, { status: "partial", gaps: [gap(1, 1, "expired")] }), drained(21))],
  });
  fine("when the answer to a durable publish and the plain delivery of it overlap", {
    publishes: [stored(1, 10, 30)],
    logs: [{ name: "member", entries: [{ at: 1, kind: "connect", recovered: false, sid: "m" }, join(2, 3), { at: 20, kind: "event", n: 1, room: "r", intact: true, offset: null }] }],
  });
});

/** A member that receives a plain event before the durable one that was sent before it. */
const overtaken = (answered) => ({
  publishes: [stored(1, 10, answered), { n: 2, room: "r", publisher: "p", life: 1, invoke: 11, ok: null, offset: null }],
  store: [1],
  logs: [{ name: "member", entries: [{ at: 1, kind: "connect", recovered: false, sid: "m" }, join(2, 3), ...[2, 1].map((n) => ({ at: 20, kind: "event", n, room: "r", intact: true, offset: null }))] }],
});

describe("violations by rule", () => {
  const wrong = (rule, name, parts) => test(`${rule}: ${name}`, () => assert.deepEqual(broken(parts), [rule].flat()));

  wrong(["lost", "silent gap"], "an answered event of a subscription that the store does not have", { publishes: [stored(1, 10, 11)], store: [] });
  wrong("stored twice", "a repeated event with two offsets", {
    publishes: [stored(1, 10, 30, { dedup: "d", attempts: 2 })],
    store: [1, [1, 2]],
    subscribers: [done(1)],
  });
  wrong("stored twice", "two events with one offset", {
    publishes: [stored(1, 10, 30), stored(2, 10, 30, { publisher: "q", ...receipt(1) })],
    store: [1, [2, 1]],
    subscribers: [subscriber(got(40, 1), answer(41, 1), got(42, 2, { offset: offset(1) }), answer(43, 2), drained(44))],
  });
  wrong("conflict", "another event under the same dedup_id", { publishes: [stored(1, 10, 11, { dedup: "d" }), stored(2, 12, 13, { dedup: "d" })] });
  wrong("refused", "an event that was refused", { publishes: [stored(1, 10, null, { refused: "unavailable" })] });
  wrong("epoch", "a queue that began again", {
    publishes: [stored(1, 10, 11), stored(2, 12, 13, { receipt: { offset: AGAIN, duplicate: false, pendingFor: 2 } })],
    store: [1, [2, AGAIN]],
    subscribers: [subscriber(got(40, 1), answer(41, 1), got(42, 2, { offset: AGAIN }), answer(43, 2), drained(44))],
  });

  wrong("publisher", "a plain event before an answered durable one that was sent before it", overtaken(30));
  test("no violation: a plain event before a durable one that was not answered", () => assert.deepEqual(broken(overtaken(null)), []));
  wrong("receipt", "another offset than that of the store", { publishes: [stored(1, 10, 11, receipt(7))], subscribers: [done(1)] });
  wrong("receipt", "another offset for the same dedup_id", { publishes: [stored(1, 10, 11, { dedup: "d" })], repeats: [{ n: 1, first: offset(1), offset: offset(2), duplicate: true }] });
  wrong("receipt", "no notice of the duplicate", { publishes: [stored(1, 10, 11, { dedup: "d" })], repeats: [{ n: 1, first: offset(1), offset: offset(1), duplicate: false }] });
  wrong("receipt", "a duplicate that was published once", { publishes: [stored(1, 10, 11, receipt(1, { duplicate: true }))] });
  wrong("pending_for", "fewer subscribers than there are", { publishes: [stored(1, 10, 11, receipt(1, { pendingFor: 1 }))] });
  wrong("pending_for", "more subscribers than there are", { publishes: [stored(1, 10, 11, receipt(1, { pendingFor: 3 }))] });

  wrong("real time", "an event with a lower offset than one that was answered before", {
    publishes: [stored(1, 10, 11, receipt(2)), stored(2, 12, 13, { publisher: "q", ...receipt(1) })],
    store: [
      [2, 1],
      [1, 2],
    ],
    subscribers: [subscriber(got(40, 2, { offset: offset(1) }), answer(41, 2), got(42, 1, { offset: offset(2) }), answer(43, 1), drained(44))],
  });
  wrong("publisher", "two events of one connection, reversed", {
    publishes: [stored(1, 10, 30, receipt(2)), stored(2, 11, 29, receipt(1))],
    store: [
      [2, 1],
      [1, 2],
    ],
    subscribers: [subscriber(got(40, 2, { offset: offset(1) }), answer(41, 2), got(42, 1, { offset: offset(2) }), answer(43, 1), drained(44))],
  });

  wrong("silent gap", "an event that did not come", one(drained(12)));
  wrong("silent gap", "an event published while the subscriber was away", one(disconnect(9), attached(20, 2), drained(21)));
  wrong("silent gap", "an event of a second room", {
    publishes: [stored(1, 10, 11, { room: "q+r", rooms: ["q", "r"] })],
    subscribers: [subscriber(drained(20))],
  });
  wrong("silent gap", "an unanswered event that the store has", { publishes: [stored(1, 10, null)], subscribers: [subscriber(drained(12))] });
  wrong("needless gap", "a gap over an event that does not expire", one(attached(20, 2, { status: "partial", gaps: [gap(1, 4, "trimmed")] }), drained(21)));
  wrong("needless gap", "a later gap for another reason", {
    publishes: [stored(1, 10, 11, { expires: 100 })],
    subscribers: [subscriber({ at: 20, kind: "gap", life: 1, gap: gap(1, 1, "damaged") }, drained(21))],
  });
  wrong("vanished", "a received event without any answer", one(got(12, 1), drained(13)));
  wrong("vanished", "an event that a nak did not bring again", one(got(12, 1), answer(13, 1, "nak"), drained(14)));
  wrong("dead letter", "an event that was given up and is no dead letter", { ...one(got(12, 1), answer(13, 1, "term"), drained(14)), dead: [] });
  wrong("dead letter", "an event that nobody gave up", { ...one(got(12, 1), answer(13, 1), drained(14)), dead: [dead(1)] });
  wrong("replay", "a dead letter that does not arrive after its replay", { ...one(got(12, 1), answer(13, 1, "term"), drained(14), replay(16, 1), drained(19)), dead: [dead(1)] });
  wrong("replay", "a dead letter that arrives twice after its replay", {
    ...one(got(12, 1), answer(13, 1, "term"), drained(14), replay(16, 1), got(17, 1, { offset: offset(2) }), got(18, 1, { offset: offset(3) }), drained(19)),
    dead: [dead(1)],
  });
  wrong(["confirmed", "replay"], "a replayed dead letter that arrives under its old offset", {
    ...one(got(12, 1), answer(13, 1, "term"), drained(14), replay(16, 1), again(17, 1), answer(18, 1), drained(19)),
    dead: [dead(1)],
  });
  wrong("reset", "a subscriber that the server forgot", one(got(12, 1), answer(13, 1), disconnect(14), attached(15, 2, { status: "reset" }), drained(16)));

  wrong("order", "a first delivery behind a later event", {
    publishes: [stored(1, 10, 11), stored(2, 12, 13)],
    subscribers: [subscriber(got(20, 2), answer(21, 2), got(22, 1), answer(23, 1), drained(24))],
  });
  wrong("unmarked", "an event received again over one connection", one(got(12, 1), answer(13, 1, "nak"), got(14, 1), answer(15, 1), drained(16)));
  wrong("unmarked", "an event received again after a reconnect", one(got(12, 1), disconnect(13), attached(14, 2), got(15, 1, { life: 2 }), answer(16, 1), drained(17)));
  wrong("marked", "an event published after the subscriber was attached", one(again(12, 1), answer(13, 1), drained(14)));

  wrong("confirmed", "an event after `received` of it was answered", one(got(12, 1), settle(13, 14, { upTo: offset(1) }), again(15, 1), drained(16)));
  wrong("confirmed", "an event after `received` of a later one was answered, over a new connection", {
    publishes: [stored(1, 10, 11), stored(2, 10, 11, { publisher: "q" })],
    subscribers: [subscriber(got(12, 1), answer(13, 1), got(14, 2), settle(15, 16, { upTo: offset(2) }), disconnect(17), attached(18, 2), again(19, 1, { life: 2 }), drained(20))],
  });
  wrong("confirmed", "an event after the ack of its offset was answered", one(got(12, 1), settle(13, 14, { offsets: [offset(1)] }), again(15, 1), drained(16)));
  wrong("confirmed", "an event after nothing was pending", one(got(12, 1), answer(13, 1), drained(14), again(16, 1), answer(17, 1), drained(18)));
  wrong("confirmed", "an event of an earlier round", { ...one(got(12, 1), answer(13, 1), again(14, 0), drained(16)), settled: 0, publishes: [stored(1, 10, 11)] });

  wrong("unknown", "an event that was not published", one(got(12, 1), answer(13, 1), got(14, 9), answer(15, 9), drained(16)));
  wrong("unknown", "an event that is not in the store", { publishes: [stored(1, 10, null)], store: [], subscribers: [subscriber(got(12, 1), answer(13, 1), drained(14))] });
  wrong("unknown", "an event that a member saw and the store does not have", {
    publishes: [stored(1, 10, null)],
    store: [],
    logs: [{ name: "member", entries: [{ at: 1, kind: "connect", recovered: false, sid: "m" }, join(2, 3), { at: 20, kind: "event", n: 1, room: "r", intact: true, offset: null }] }],
  });
  wrong("silent gap", "a durable event that a connected member missed", {
    publishes: [stored(1, 10, 11)],
    logs: [{ name: "member", entries: [{ at: 1, kind: "connect", recovered: false, sid: "m" }, join(2, 3)] }],
  });
  wrong("altered", "an event with other contents", one(got(12, 1, { intact: false }), answer(13, 1), drained(14)));
  wrong("altered", "an event with another offset than in the store", one(got(12, 1, { offset: offset(5) }), answer(13, 1), drained(14)));
  wrong("not subscribed", "an event published after the subscription ended", {
    publishes: [stored(1, 10, 11, receipt(1, { pendingFor: 1 }))],
    subscribers: [subscriber(leave(5, 6), got(12, 1), answer(13, 1), drained(14))],
  });
  wrong("both ways", "a durable event as to a member, beside its delivery", one(got(12, 1), answer(13, 1), { at: 14, kind: "plain", life: 1, n: 1 }, drained(15)));
});

test("figures count repeated deliveries by their causes", () => {
  const entries = subscriber(
    ...[got(20, 1), answer(21, 1, "nak"), again(22, 1), answer(23, 1)],
    ...[got(24, 2), fault(25, "kill"), disconnect(26), attached(27, 2), again(28, 2, { life: 2 }), again(29, 2, { life: 2 }), answer(30, 2)],
    ...[got(31, 3, { life: 2 }), answer(32, 3), again(33, 3, { life: 2 }), answer(34, 3), drained(35)],
  );
  const publishes = [1, 2, 3].map((n) => stored(n, 10, 11, { publisher: `p${n}` }));
  const { deliveries, repeated, stored: events, lost, silent } = count(history({ publishes, subscribers: [entries] }));
  assert.deepEqual({ deliveries, repeated, events, lost, silent }, {
    deliveries: 10,
    repeated: { nak: 1, kill: 1, "no answer": 1, none: 1 },
    ...{ events: 3, lost: 0, silent: 0 },
  });
});
