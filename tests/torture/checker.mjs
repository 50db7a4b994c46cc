/**
 * Checks a history for events that were lost silently, invented, repeated, altered, or received in
 * another order than published. A pure function of the history, independent of server and network.
 *
 * Numbers in comments refer to the rules of the delivery specification. Time is the one counter of
 * the history.
 *
 * @import { Entry, Log, Publish } from "./history.mjs"
 * @typedef {{ rule: string, client: string | null, what: string }} Violation
 */

/**
 * All violations in a history.
 * @param {{ publishes: Publish[], logs: Log[] }} history
 * @returns {Violation[]}
 */
export function check({ publishes, logs }) {
  const { events, violations } = study(publishes, logs);
  for (const log of logs) {
    const found = [
      ...checkRecovered(log),
      ...order(log, events),
      ...tenures(log.entries).flatMap((tenure) => [...strangers(tenure, events), ...gaps(tenure, events)]),
    ];
    violations.push(...found.map((violation) => ({ ...violation, client: log.name })));
  }
  return [...violations, ...agreement(logs, events)];
}

/**
 * Events missed silently, by all clients together, and events received more than once.
 * @param {{ publishes: Publish[], logs: Log[] }} history
 */
export function count({ publishes, logs }) {
  const { events, violations } = study(publishes, logs);
  const silent = logs.flatMap(({ entries }) => tenures(entries).flatMap((tenure) => [...gaps(tenure, events)]));
  return { silent: silent.length, repeated: violations.filter(({ rule }) => rule === "repeated").length };
}

/**
 * Facts of each event: it took place before `until`, when it was answered or first received. Checks
 * single deliveries: (2) none twice, (7) none that was not published.
 */
function study(publishes, logs) {
  const events = new Map(publishes.map((publish) => [publish.n, { ...publish, until: publish.ok ?? Infinity }]));
  const violations = [];
  for (const { name, entries } of logs) {
    const received = new Set();
    const wrong = (rule, what) => violations.push({ rule, client: name, what });
    for (const entry of entries) {
      if (entry.kind !== "event") continue;
      const { n, at, room, offset, intact } = entry;
      const event = events.get(n);
      if (!event) {
        wrong("unknown", `received ${n}, which was never published, or settled long ago`);
        continue;
      }
      if (received.has(n)) wrong("repeated", `received ${text(event)} again`);
      received.add(n);
      if (!intact || room !== event.room) wrong("altered", `received ${text(event)} with other contents, for room ${room}`);
      if (at < event.invoke) wrong("unknown", `received ${text(event)} before it was published`);
      event.until = Math.min(event.until, at);
      event.offset ??= offset;
      if (offset !== null && offset !== event.offset) wrong("offset", `received ${text(event)} with offset ${offset}, others with ${event.offset}`);
    }
  }
  return { events, violations };
}

const text = ({ n, room, publisher }) => `${n} (of ${publisher} to ${room})`;

/**
 * Checks the reports to a client about itself: a recovered client was connected before and keeps
 * its id; any other gets a new id.
 */
function* checkRecovered({ entries }) {
  let before = null;
  for (const { kind, recovered, sid, at } of entries) {
    if (kind !== "connect") continue;
    if (recovered && before === null) yield { rule: "recovered", what: `at ${at} it was recovered, and had never been connected` };
    else if (before !== null && recovered !== (sid === before)) {
      yield { rule: "recovered", what: `at ${at} recovered was ${recovered}, its id was ${before} and is ${sid}` };
    }
    before = sid;
  }
}

/**
 * (3) An event answered before another was published comes first. (5) Offsets rise. Events of one
 * publisher connection come in the order of sending. Only first deliveries count.
 */
function* order({ entries }, events) {
  const seen = new Set();
  const newest = new Map();
  let published = null;
  let positioned = null;
  for (const { kind, n } of entries) {
    const event = kind === "event" ? events.get(n) : undefined;
    if (!event || seen.has(n)) continue;
    seen.add(n);
    if (published && event.until < published.invoke) {
      yield { rule: "real time", what: `received ${text(event)} after ${text(published)}, which was published only after that was accepted` };
    }
    if (!published || event.invoke > published.invoke) published = event;
    if (positioned && isBehind(event, positioned)) {
      yield { rule: "offset", what: `received ${text(event)} at ${event.offset} after ${text(positioned)} at ${positioned.offset}` };
    }
    if (isPosition(event.offset)) positioned = event;
    const life = `${event.publisher}/${event.life}`;
    const last = newest.get(life);
    if (last && last.n > n) yield { rule: "publisher", what: `received ${text(event)} after ${text(last)}, which the same connection sent later` };
    else newest.set(life, event);
  }
}

/**
 * Offsets of Stentor have fixed width; the first eight characters name the epoch, within which they
 * sort.
 */
const isPosition = (offset) => offset?.length === 21;
const isBehind = (event, other) =>
  isPosition(event.offset) &&
  isPosition(other.offset) &&
  event.offset.slice(0, 8) === other.offset.slice(0, 8) &&
  event.offset < other.offset;

/** True if `event` certainly took place before `other`. */
const precedes = (event, other) => event.until < other.invoke || isBehind(event, other);

/**
 * Spans of a client: each lasts as long as every connect reported that nothing is missing. Only
 * the last one can be open: that of a client that is connected at the end.
 * @param {Entry[]} entries
 */
function tenures(entries) {
  const all = [];
  let connected = false;
  // Some servers send missed events before the CONNECT reply; they belong to the new connection.
  let early = [];
  for (const entry of entries) {
    if (entry.kind === "connect") {
      if (!entry.recovered || all.length === 0) all.push({ entries: [], open: false });
      connected = true;
      all.at(-1).entries.push(entry, ...early);
      early = [];
    } else if (entry.kind === "disconnect") {
      connected = false;
    } else {
      (connected ? all.at(-1).entries : early).push(entry);
    }
  }
  if (connected) all.at(-1).open = true;
  return all;
}

/**
 * Time of a client in each room: possibly from `since` to `left`, certainly from `sure` to
 * `leaving`.
 * @param {Entry[]} entries of one tenure
 */
export function stays(entries) {
  const rooms = new Map();
  for (const { kind, room, at, ok } of entries) {
    if (kind !== "join" && kind !== "leave") continue;
    const of = rooms.get(room) ?? [];
    rooms.set(room, of);
    const last = of.at(-1);
    if (kind === "join") {
      if (last && last.leaving === Infinity) last.sure ??= ok;
      else of.push({ since: at, sure: ok, leaving: Infinity, left: Infinity });
    } else if (last) {
      last.leaving = Math.min(last.leaving, at);
      last.left = Math.min(last.left, ok ?? Infinity);
    }
  }
  return rooms;
}

/** Checks that no client receives an event published when it cannot have been in the room. */
function* strangers({ entries }, events) {
  const rooms = stays(entries);
  for (const { kind, n } of entries) {
    const event = kind === "event" ? events.get(n) : undefined;
    if (!event) continue;
    const may = (rooms.get(event.room) ?? []).some(({ since, left }) => since < event.until && left > event.invoke);
    if (!may) yield { rule: "not a member", what: `received ${text(event)}, without being in the room` };
  }
}

/**
 * (8) Checks that within a span no event is missing that was published while the client was
 * certainly in the room. Of a closed span, only events before a received one count: the client was
 * informed that later ones may be missing.
 */
function* gaps({ entries, open }, events) {
  const received = new Set();
  let published = null;
  let positioned = null;
  for (const { kind, n } of entries) {
    const event = kind === "event" ? events.get(n) : undefined;
    if (!event) continue;
    received.add(n);
    if (!published || event.invoke > published.invoke) published = event;
    if (!positioned || isBehind(positioned, event)) positioned = event;
  }
  const isPassed = (event) => open || (published && (precedes(event, published) || precedes(event, positioned)));
  const rooms = stays(entries);
  for (const event of events.values()) {
    const of = rooms.get(event.room);
    if (!of || received.has(event.n)) continue;
    const was = of.some(({ sure, leaving }) => sure !== null && sure < event.invoke && event.until < leaving);
    if (was && isPassed(event)) {
      const how = event.ok === null ? "which others received" : "which was accepted";
      yield { rule: "silent gap", what: `missed ${text(event)}, ${how}, without notice` };
    }
  }
}

/**
 * Checks that all clients receive their events in one order: the order of reception has no cycle.
 */
function agreement(logs, events) {
  const next = new Map();
  const before = new Map();
  for (const { entries } of logs) {
    const seen = new Set();
    let last = null;
    for (const { kind, n } of entries) {
      if (kind !== "event" || !events.has(n) || seen.has(n)) continue;
      seen.add(n);
      if (!before.has(n)) before.set(n, 0);
      if (last !== null && !next.get(last)?.has(n)) {
        if (!next.has(last)) next.set(last, new Set());
        next.get(last).add(n);
        before.set(n, before.get(n) + 1);
      }
      last = n;
    }
  }
  const free = [...before.keys()].filter((n) => before.get(n) === 0);
  for (const n of free) {
    before.delete(n);
    for (const follower of next.get(n) ?? []) {
      before.set(follower, before.get(follower) - 1);
      if (before.get(follower) === 0) free.push(follower);
    }
  }
  if (before.size === 0) return [];
  const among = [...before.keys()].slice(0, 8).map((n) => text(events.get(n)));
  return [{ rule: "agreement", client: null, what: `clients received different orders: among ${among.join(", ")}` }];
}
