/**
 * The checker on histories written by hand: correct ones pass, and each kind of violation is found.
 */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { check, count } from "./checker.mjs";

/** Event `n` of publisher "p" to room "r", published at `invoke` and answered at `ok`. */
const published = (n, invoke, ok, more = {}) => ({ n, room: "r", publisher: "p", life: 1, invoke, ok, offset: null, ...more });

const connect = (at, recovered = false, sid = recovered ? "sid" : `sid ${at}`) => ({ at, kind: "connect", recovered, sid });
const disconnect = (at) => ({ at, kind: "disconnect", reason: "transport close" });
const join = (at, ok, room = "r") => ({ at, kind: "join", room, ok });
const leave = (at, ok, room = "r") => ({ at, kind: "leave", room, ok });
const received = (at, n, more = {}) => ({ at, kind: "event", n, room: "r", intact: true, offset: null, ...more });

/** A client in room "r" from the beginning. */
const member = (...entries) => [connect(1, false, "sid"), join(2, 3), ...entries];

const logged = (...clients) => clients.map((entries, number) => ({ name: `client ${number}`, entries }));

/** Rules that a history violates. */
const broken = (publishes, ...clients) => check({ publishes, logs: logged(...clients) }).map(({ rule }) => rule);

const token = (lsn, epoch = "epoch---") => `${epoch}${String(lsn).padStart(9, "0")}abcd`;

describe("no violation", () => {
  const fine = (name, publishes, ...clients) => test(name, () => assert.deepEqual(broken(publishes, ...clients), []));

  fine("when all clients received all events", [published(1, 4, 6)], member(received(5, 1)), member(received(7, 1)));
  fine(
    "when what was missed came after a recovered reconnect",
    [published(1, 5, 6), published(2, 10, 11)],
    member(disconnect(4), connect(8, true), received(9, 1), received(12, 2)),
  );
  fine("when missed events arrived before the connect", [published(1, 5, 6)], member(disconnect(4), received(8, 1), connect(9, true)));
  fine("when the client was not recovered", [published(1, 5, 6)], member(disconnect(4), connect(8), join(9, 10)));
  fine("when the client never came back", [published(1, 5, 6)], member(disconnect(4)));
  fine("when an event was neither answered nor received", [published(1, 5, null)], member());
  fine("when an event was published while the join or the leave was under way", [published(1, 2, 4), published(2, 6, 8)], member(leave(7, 9)));
  fine("when the answer to a join was lost, and nothing came", [published(1, 5, 6)], [connect(1), join(2, null), disconnect(4), connect(7)]);
  fine(
    "when two publishers' events overlap and come in either order",
    [published(1, 4, 9), published(2, 5, 8, { publisher: "q" })],
    member(received(6, 2), received(7, 1)),
  );
  fine(
    "when a publisher came back and what its older connection had sent arrives late",
    [published(1, 4, null), published(2, 5, 6, { life: 2 })],
    member(received(7, 2), received(8, 1)),
  );
  fine(
    "when offsets rise, and start again in another epoch",
    [published(1, 4, 6, { offset: token(7) }), published(2, 7, 9, { offset: token(3, "epoch--a") })],
    member(received(5, 1, { offset: token(7) }), received(8, 2, { offset: token(3, "epoch--a") })),
  );
});

describe("violations by rule", () => {
  const wrong = (rule, name, publishes, ...clients) => test(`${rule}: ${name}`, () => assert.deepEqual(broken(publishes, ...clients), [rule]));

  wrong("silent gap", "an event missed by a client that stayed connected", [published(1, 4, 5)], member());
  wrong("silent gap", "an event missed by a recovered client", [published(1, 5, 6)], member(disconnect(4), connect(8, true)));
  wrong("silent gap", "an unanswered event that others received", [published(1, 4, null)], member(received(6, 1)), member());
  wrong(
    "silent gap",
    "a gap before a received event, though the client was not recovered later",
    [published(1, 4, 5), published(2, 6, 8)],
    member(received(7, 2), disconnect(9), connect(10)),
  );
  wrong(
    "silent gap",
    "such a hole that only offsets show",
    [published(1, 4, 8, { offset: token(1) }), published(2, 5, 9, { publisher: "q", offset: token(2) })],
    member(received(7, 2, { offset: token(2) }), disconnect(10), connect(11)),
  );
  wrong("silent gap", "a room lost over a recovered reconnect", [published(1, 10, 11)], member(disconnect(4), connect(8, true)));
  wrong("silent gap", "an event published before the client asked to leave", [published(1, 4, 5)], member(leave(6, 7)));
  wrong("silent gap", "a room that the second attempt joined", [published(1, 9, 10)], [
    connect(1, false, "sid"),
    join(2, null),
    disconnect(4),
    connect(5, true),
    join(6, 7),
  ]);

  wrong("repeated", "an event received twice", [published(1, 4, 6)], member(received(5, 1), received(7, 1)));
  wrong(
    "repeated",
    "an event received again after a reconnect",
    [published(1, 4, 6)],
    member(received(5, 1), disconnect(7), connect(8, true), received(9, 1)),
  );
  wrong("unknown", "an event that was not published", [], member(received(5, 1)));
  wrong("altered", "an event with other contents", [published(1, 4, 6)], member(received(5, 1, { intact: false })));
  wrong(
    "offset",
    "one event under two offsets",
    [published(1, 4, 6, { offset: token(1) })],
    member(received(5, 1, { offset: token(2) })),
  );
  wrong(
    "offset",
    "offsets that fall",
    [published(1, 4, 8, { offset: token(2) }), published(2, 5, 9, { publisher: "q", offset: token(1) })],
    member(received(6, 1, { offset: token(2) }), received(7, 2, { offset: token(1) })),
  );

  wrong(
    "real time",
    "an event before one that had been accepted when it was published",
    [published(1, 4, 5, { publisher: "q" }), published(2, 6, 7)],
    member(received(8, 2), received(9, 1)),
  );
  wrong(
    "real time",
    "the same, where another client's hearing shows what came first",
    [published(1, 4, null), published(2, 8, 9, { life: 2 })],
    member(received(5, 1), leave(6, 7)),
    member(received(10, 2), received(11, 1)),
  );
  wrong("publisher", "events of one connection, reversed", [published(1, 4, 8), published(2, 5, 9)], member(received(6, 2), received(7, 1)));
  wrong(
    "agreement",
    "two events in different orders at two clients",
    [published(1, 4, 10), published(2, 5, 11, { publisher: "q" })],
    member(received(6, 1), received(7, 2)),
    member(received(8, 2), received(9, 1)),
  );

  wrong("not a member", "an event of a room that the client had left", [published(1, 6, 7)], member(leave(4, 5), received(8, 1)));
  wrong("not a member", "a replay from before the client joined", [published(1, 2, 3)], [
    connect(1, false, "sid"),
    disconnect(4),
    connect(5, true),
    join(6, 7),
    received(8, 1),
  ]);
  wrong("not a member", "an event of a room of the session before, though the client was not recovered", [published(1, 6, 8)], member(disconnect(4), connect(5), received(7, 1)));

  wrong("recovered", "at the first connect", [], [connect(1, true)]);
  wrong("recovered", "with another id than before", [], member(disconnect(4), connect(5, true, "another")));
  wrong("recovered", "not recovered, with the same id", [], member(disconnect(4), connect(5, false, "sid")));
});

test("a comparison counts silently missed and repeated events", () => {
  const publishes = [published(1, 4, 5), published(2, 6, 7)];
  assert.deepEqual(count({ publishes, logs: logged(member(received(8, 2), received(9, 2)), member()) }), { silent: 3, repeated: 1 });
});
