/**
 * Checks a history of durable events. A pure function of the history, independent of server and
 * network. Time is the one counter of the history.
 *
 * The store is read through the witness: a subscriber of all rooms that is away while events are
 * published and then receives everything over an undisturbed connection.
 *
 * @import { DurablePublish, Entry, Gap, Log, Repeat } from "./history.mjs"
 * @import { Violation } from "../checker.mjs"
 * @typedef {{ publishes: DurablePublish[], logs: import("../history.mjs").Log[], subscribers: Log[], repeats: Repeat[], settled: number }} Histories
 */

import { check as checkPlain, stays } from "../checker.mjs";
import { classify, Deliveries } from "./deliveries.mjs";

export const WITNESS = "witness";

/** The only reason of a gap in a run without purges and retention limits. */
const EXPIRED = "expired";

/**
 * All violations in a history.
 * @param {Histories} history
 * @returns {Violation[]}
 */
export function check(history) {
  const events = study(history);
  const witness = history.subscribers.find(({ name }) => name === WITNESS);
  const found = [...store(events, witness), ...receipts(history, events), ...offsetOrder(events), ...pendingFor(history, events)];
  const violations = found.map((violation) => ({ client: null, ...violation }));
  for (const log of history.subscribers) {
    const wrong = [...contents(log, events, history), ...marks(log, events), ...settled(log, events), ...forgotten(log), ...missed(log, events), ...vanished(log, events), ...deadLetters(log, events)];
    violations.push(...wrong.map((violation) => ({ client: log.name, ...violation })));
  }
  return [...violations, ...members(history, events)];
}

/**
 * Figures of a history: answered events that are lost, events missed silently, gaps, deliveries,
 * and repeated deliveries by cause.
 * @param {Histories} history
 */
export function count(history) {
  const events = study(history);
  const rules = check(history).map(({ rule }) => rule);
  const of = (name) => rules.filter((rule) => rule === name).length;
  const figures = { stored: [...events.values()].filter(({ offset }) => offset).length, deliveries: 0, dead: 0, lost: of("lost"), silent: of("silent gap"), gaps: 0, repeated: {} };
  for (const log of history.subscribers) {
    figures.gaps += gapsOf(log).length;
    figures.dead += log.dead?.length ?? 0;
    for (const { cause } of classify(log)) {
      figures.deliveries += 1;
      if (cause) figures.repeated[cause] = (figures.repeated[cause] ?? 0) + 1;
    }
  }
  return figures;
}

/**
 * Facts of each durable event: its `offset`, if it was stored, and `until`, before which it was
 * stored, if it was.
 * @returns {Map<number, DurablePublish & { offset: string | null, offsets: Set<string>, until: number }>}
 */
function study({ publishes, subscribers }) {
  const durable = publishes.filter(({ rooms }) => rooms);
  const events = new Map(durable.map((publish) => [publish.n, { ...publish, offsets: new Set(), until: publish.ok ?? Infinity }]));
  for (const { name, entries } of subscribers) {
    for (const { kind, n, offset, at } of entries) {
      const event = kind === "event" ? events.get(n) : undefined;
      if (!event) continue;
      event.until = Math.min(event.until, at);
      if (name === WITNESS) event.offsets.add(offset);
    }
  }
  for (const event of events.values()) event.offset = [...event.offsets][0] ?? event.receipt?.offset ?? null;
  return events;
}

const text = ({ n, room, publisher, offset }) => `${n} (of ${publisher} to ${room}, offset ${offset ?? "unknown"})`;

const isDead = (dead, offset) => dead?.some((letter) => letter.offset === offset) ?? false;

const covers = ({ from, to }, offset) => from <= offset && offset <= to;

/** @param {Log} log @returns {Gap[]} */
function gapsOf({ entries }) {
  return entries.flatMap(({ kind, gaps, gap }) => (kind === "attached" ? gaps : kind === "gap" ? [gap] : []));
}

/** Every event that was answered is in the store, none twice, and none that was refused. */
function* store(events, witness) {
  const gaps = witness ? gapsOf(witness) : [];
  const used = new Map();
  const ids = new Map();
  for (const event of events.values()) {
    const { ok, receipt, offsets, refused, expires, dedup } = event;
    const isExpired = expires && gaps.some((gap) => gap.reason === EXPIRED && receipt && covers(gap, receipt.offset));
    if (ok !== null && offsets.size === 0 && !isExpired) yield { rule: "lost", what: `${text(event)} was answered, and is not in the store` };
    if (offsets.size > 1) yield { rule: "stored twice", what: `${text(event)} has offsets ${[...offsets].join(" and ")}` };
    if (ok === null && refused && refused !== "indeterminate" && offsets.size > 0) {
      yield { rule: "refused", what: `${text(event)} was refused with ${refused}, and is in the store` };
    }
    for (const offset of offsets) {
      if (used.has(offset)) yield { rule: "stored twice", what: `${text(event)} has the offset of ${text(used.get(offset))}` };
      used.set(offset, event);
    }
    if (dedup && offsets.size > 0) {
      if (ids.has(dedup)) yield { rule: "conflict", what: `${text(event)} was stored under the dedup_id of ${text(ids.get(dedup))}` };
      ids.set(dedup, event);
    }
  }
  const epochs = new Set([...used.keys()].map((offset) => offset.slice(0, 8)));
  if (epochs.size > 1) yield { rule: "epoch", what: `the store has events of epochs ${[...epochs].join(" and ")}` };
}

/** A receipt has the offset of the stored event, also the receipt of a repeated publish. */
function* receipts({ repeats }, events) {
  for (const event of events.values()) {
    const { receipt, offsets } = event;
    if (receipt && offsets.size > 0 && !offsets.has(receipt.offset)) {
      yield { rule: "receipt", what: `${text(event)} was answered with offset ${receipt.offset}` };
    }
    if (receipt?.duplicate && event.attempts <= 1) yield { rule: "receipt", what: `${text(event)} was answered as a duplicate, and was published once` };
  }
  for (const { n, first, offset, duplicate } of repeats) {
    if (offset !== first || !duplicate) {
      yield { rule: "receipt", what: `${n} was published again: offset ${offset}, duplicate ${duplicate}, expected ${first} and a duplicate` };
    }
  }
}

/**
 * An event that was answered before another was published has a lower offset. So has, of two that
 * one connection sent, the earlier one, if none of them was repeated.
 */
function* offsetOrder(events) {
  const stored = [...events.values()].filter(({ offset }) => offset).sort((a, b) => (a.offset < b.offset ? -1 : 1));
  const sent = new Map();
  // Walks down from the newest: the earliest end of those with higher offsets must not precede.
  let earliest = null;
  for (const event of stored.reverse()) {
    if (earliest && (earliest.ok ?? Infinity) < event.invoke) {
      yield { rule: "real time", what: `${text(event)} was published after ${text(earliest)} was answered, and has a lower offset` };
    }
    if (event.ok !== null && (!earliest || event.ok < earliest.ok)) earliest = event;
    if (event.attempts > 1) continue;
    const life = `${event.publisher}/${event.life}`;
    const next = sent.get(life);
    if (next && next.n < event.n) yield { rule: "publisher", what: `${text(event)} was sent after ${text(next)} by one connection, and has a lower offset` };
    else sent.set(life, event);
  }
}

/** A receipt counts the subscribers of the event's rooms. */
function* pendingFor({ subscribers }, events) {
  const all = subscribers.map(({ entries }) => stays(entries));
  for (const event of events.values()) {
    const { receipt, invoke, ok } = event;
    if (!receipt) continue;
    const among = (holds) => all.filter((of) => intervals(event, of).some(holds)).length;
    const least = among(({ sure, leaving }) => sure !== null && sure < invoke && ok < leaving);
    const most = among(({ since, left }) => since < ok && invoke < left);
    if (receipt.pendingFor < least || receipt.pendingFor > most) {
      yield { rule: "pending_for", what: `${text(event)} was answered with ${receipt.pendingFor} subscribers, expected ${least} to ${most}` };
    }
  }
}

/** A subscriber receives only stored events of its rooms, whole, and through the queue alone. */
function* contents({ entries }, events, { settled: before }) {
  const rooms = stays(entries);
  const replayed = new Set();
  for (const entry of entries) {
    const { kind, n, room, offset, intact } = entry;
    if (kind === "replay") for (const one of entry.offsets) replayed.add(one);
    if (kind !== "event" && kind !== "plain") continue;
    const event = events.get(n);
    if (kind === "plain") {
      if (event) yield { rule: "both ways", what: `received ${text(event)} without an offset, as a member` };
      continue;
    }
    if (!event) {
      // A settled event is an event whose ack was confirmed.
      if (n <= before) yield { rule: "confirmed", what: `received ${n} of an earlier round, in which nothing was left pending` };
      else yield { rule: "unknown", what: `received ${n} at ${offset}, which was never published` };
      continue;
    }
    if (event.offsets.size === 0 && !event.expires) yield { rule: "unknown", what: `received ${text(event)}, which is not in the store` };
    else if (!event.offsets.has(offset) && offset !== event.offset && !replayed.has(event.offset)) yield { rule: "altered", what: `received ${text(event)} with offset ${offset}` };
    if (!intact || !event.rooms.includes(room)) yield { rule: "altered", what: `received ${text(event)} with other contents, for room ${room}` };
    const may = (rooms.get(room) ?? []).some(({ since, left }) => since < event.until && left > event.invoke);
    if (!may) yield { rule: "not subscribed", what: `received ${text(event)} for room ${room}, without a subscription` };
  }
}

/**
 * First deliveries of a connection come in order. A delivery is marked if the event was received
 * before, and unmarked if it cannot have been sent before.
 */
function* marks({ entries }, events) {
  const deliveries = new Deliveries();
  let newest = "";
  for (const entry of entries) {
    if (entry.kind === "attached") newest = "";
    const { isLate, isRepeated } = deliveries.next(entry);
    const event = entry.kind === "event" ? events.get(entry.n) : undefined;
    if (!event || isLate) continue;
    if (entry.redelivered) {
      if (!isRepeated && event.invoke > deliveries.attachedAt) yield { rule: "marked", what: `received ${text(event)} for the first time, marked as redelivered` };
      continue;
    }
    if (isRepeated) yield { rule: "unmarked", what: `received ${text(event)} again, not marked as redelivered` };
    else if (entry.offset < newest) yield { rule: "order", what: `received ${text(event)} after offset ${newest}` };
    if (entry.offset > newest) newest = entry.offset;
  }
}

/**
 * A subscriber does not receive an event again after the server has confirmed its ack. An ack up to
 * an offset leaves earlier events whose delivery has failed, which only the server knows: it
 * confirms that offset, and earlier acks of its connection.
 */
function* settled({ entries }, events) {
  const deliveries = new Deliveries();
  const confirmations = entries.filter(({ ok }) => ok).sort((a, b) => a.ok - b.ok);
  const confirmed = new Set();
  /** Offsets that an ack up to an offset confirms. */
  const through = new Map();
  /** Events that were received over the present connection, and acked. */
  const present = new Map();
  const acked = new Set();
  let life = 1;
  const received = new Map();
  for (const entry of entries) {
    if (entry.kind === "attached") {
      life = entry.life;
      [present, acked].forEach((each) => each.clear());
    }
    if (entry.kind === "event") present.set(entry.n, entry.offset);
    // An answer to a delivery of an earlier connection reaches nobody.
    if (entry.kind === "answer" && present.has(entry.n) && entry.life === life) acked[entry.what === "nak" ? "delete" : "add"](present.get(entry.n));
    if (entry.upTo) through.set(entry, [entry.upTo, ...[...acked].filter((offset) => offset < entry.upTo)]);
    while (confirmations[0]?.ok <= entry.at) {
      const done = confirmations.shift();
      for (const offset of done.offsets ?? through.get(done) ?? []) confirmed.add(offset);
      // Nothing was pending, so all that had been received then is settled.
      if (done.kind === "pending" && done.events === 0) for (const [offset, at] of received) if (at < done.at) confirmed.add(offset);
    }
    const { isLate } = deliveries.next(entry);
    const { kind, n, offset, at } = entry;
    if (kind !== "event" || isLate || !events.has(n)) continue;
    if (confirmed.has(offset)) yield { rule: "confirmed", what: `received ${text(events.get(n))} again, whose ack was confirmed` };
    if (!received.has(offset)) received.set(offset, at);
  }
}

/** A subscriber that has connected or subscribed is known from then on. */
function* forgotten({ entries }) {
  let isKnown = false;
  for (const { kind, status, ok } of entries) {
    if (kind === "attached" && status === "reset" && isKnown) yield { rule: "reset", what: "was notified that it is new, and was known before" };
    if (kind === "attached" || (kind === "join" && ok)) isKnown = true;
  }
}

/**
 * A subscriber receives every event of its subscriptions that did not end, or a notice of a gap over
 * it; and such a gap has a reason. A dead letter may never have arrived.
 */
function* missed({ entries, dead }, events) {
  const rooms = stays(entries);
  const gaps = gapsOf({ entries });
  const received = new Set(entries.filter(({ kind }) => kind === "event").map(({ n }) => n));
  for (const event of events.values()) {
    const { offset, n, expires, invoke } = event;
    const isSure = ({ sure, leaving }) => sure !== null && sure < invoke && leaving === Infinity;
    if (!offset || received.has(n) || isDead(dead, offset) || !intervals(event, rooms).some(isSure)) continue;
    const over = gaps.filter((gap) => covers(gap, offset));
    const reasons = over.map(({ reason }) => reason);
    if (over.length === 0) yield { rule: "silent gap", what: `missed ${text(event)}, without notice` };
    else if (!expires || !reasons.includes(EXPIRED)) yield { rule: "needless gap", what: `missed ${text(event)}, with notice of a gap (${reasons.join(", ")})` };
  }
}

/**
 * An event that a subscriber received leaves its queue only when the subscriber settles it, as a
 * dead letter, or with a gap. Checked if nothing is pending at the end.
 */
function* vanished({ entries, dead }, events) {
  const rooms = stays(entries);
  const gaps = gapsOf({ entries });
  const received = new Set();
  const answered = new Set();
  const settledOffsets = new Set(dead?.map(({ offset }) => offset));
  let upTo = "";
  let isDrained = false;
  for (const entry of entries) {
    if (entry.kind === "event") received.add(entry.n);
    if (entry.kind === "answer" && entry.what !== "nak") answered.add(entry.n);
    if (entry.kind === "settle" && entry.upTo > upTo) upTo = entry.upTo;
    for (const offset of entry.offsets ?? []) settledOffsets.add(offset);
    if (entry.kind === "pending") isDrained = entry.events === 0;
    if (entry.kind === "event") isDrained = false;
  }
  if (!isDrained) return;
  for (const n of received) {
    const event = events.get(n);
    if (!event?.offset || event.offset <= upTo || settledOffsets.has(event.offset) || answered.has(n)) continue;
    const hasEnded = intervals(event, rooms).some(({ leaving }) => leaving !== Infinity);
    const isGap = event.expires && gaps.some((gap) => covers(gap, event.offset));
    if (!hasEnded && !isGap) yield { rule: "vanished", what: `${text(event)} is not pending any more, and was not acknowledged` };
  }
}

/**
 * An event is a dead letter if it was given up and not acknowledged, or not acknowledged for long.
 * A dead letter that is replayed arrives once, under a new offset.
 */
function* deadLetters({ entries, dead }, events) {
  if (!dead) return;
  const rooms = stays(entries);
  const replay = entries.find(({ kind }) => kind === "replay");
  const givenUp = new Set();
  const handled = new Set();
  let upTo = "";
  for (const { kind, n, what, at, offsets, upTo: to } of entries) {
    if (replay && at >= replay.at) break;
    if (kind === "answer" && what === "term") givenUp.add(n);
    if (kind === "answer" && what === "ack") handled.add(events.get(n)?.offset);
    if (kind === "settle" && to > upTo) upTo = to;
    if (kind === "settle") for (const offset of offsets ?? []) handled.add(offset);
  }
  for (const n of givenUp) {
    const event = events.get(n);
    if (!event?.offset || event.expires || event.offset <= upTo || handled.has(event.offset) || isDead(dead, event.offset)) continue;
    const hasEnded = intervals(event, rooms).some(({ leaving }) => leaving !== Infinity);
    if (!hasEnded) yield { rule: "dead letter", what: `${text(event)} was given up, and is no dead letter` };
  }
  const byOffset = new Map([...events.values()].map((event) => [event.offset, event]));
  for (const { offset, reason } of dead) {
    const event = byOffset.get(offset);
    const isGivenUp = givenUp.has(event?.n) && reason === `gave up ${event.n}`;
    if (!isGivenUp && !reason.startsWith("not acknowledged after")) yield { rule: "dead letter", what: `${event ? text(event) : offset} is a dead letter: ${reason}` };
  }
  for (const offset of replay?.ok ? replay.offsets : []) {
    const event = byOffset.get(offset);
    const arrived = entries.filter((entry) => entry.kind === "event" && entry.n === event?.n && entry.offset !== offset && entry.at > replay.at);
    const offsets = new Set(arrived.map((entry) => entry.offset));
    if (offsets.size !== 1) yield { rule: "replay", what: `dead letter ${event ? text(event) : offset} was replayed, and arrived ${offsets.size} times` };
  }
}

const intervals = ({ rooms: names }, rooms) => names.flatMap((room) => rooms.get(room) ?? []);

/**
 * Members without subscription see no event that is not in the store, and the rules of plain events
 * hold for them.
 */
function members({ publishes, logs }, events) {
  const single = publishes.filter(({ rooms }) => !rooms || rooms.length === 1);
  // Events of a connection arrive in the order of sending, unless they were sent again, or are
  // durable and were not answered as stored: the guide promises no order of these.
  const isUnordered = ({ attempts, rooms, ok }) => attempts > 1 || (rooms && ok === null);
  const plain = single.map((publish) => (isUnordered(publish) ? { ...publish, life: `unordered ${publish.n}` } : publish));
  const isOfSeveral = new Set(publishes.filter(({ rooms }) => rooms?.length > 1).map(({ n }) => n));
  const violations = checkPlain({
    publishes: plain,
    logs: logs.map(({ name, entries }) => ({ name, entries: entries.filter(({ n }) => !isOfSeveral.has(n)) })),
  });
  for (const { name, entries } of logs) {
    for (const { kind, n } of entries) {
      const event = kind === "event" ? events.get(n) : undefined;
      if (event && event.offsets.size === 0 && !event.expires) {
        violations.push({ rule: "unknown", client: name, what: `received ${text(event)}, which is not in the store` });
      }
    }
  }
  return violations;
}
