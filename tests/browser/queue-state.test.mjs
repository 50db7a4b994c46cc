/** The queue as the demo page knows it, without a page. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { QueueState } from "../../static/demo/queue-state.js";

const texts = (state) => state.waiting.map(({ text, fate }) => `${text} ${fate}`);

describe("the state of a queue", () => {
  test("events wait in order, are delivered, and leave with their ack", () => {
    const state = new QueueState();
    for (const n of [1, 2, 3]) assert.ok(state.add(`id ${n}`, `soup ${n}`));
    assert.ok(!state.add("id 1", "soup 1"), "known");
    assert.equal(state.pending, 3);
    state.attach("tab", "socket", 3);
    state.deliver("id 1", "soup 1");
    assert.deepEqual(texts(state), ["soup 1 delivered", "soup 2 waits", "soup 3 waits"]);
    state.acknowledge("id 1");
    assert.deepEqual(texts(state), ["soup 2 waits", "soup 3 waits"]);
    assert.equal(state.pending, 2);
  });

  test("a late copy does not bring an acknowledged event back", () => {
    const state = new QueueState();
    state.add("id", "soup");
    state.acknowledge("id");
    assert.ok(!state.add("id", "soup"));
    assert.deepEqual([state.pending, texts(state)], [0, []]);
  });

  test("an event that was sent back is delivered again in its place", () => {
    const state = new QueueState();
    state.add("id 1", "soup");
    state.deliver("id 1", "soup");
    state.add("id 2", "bread");
    state.postpone("id 1");
    assert.deepEqual(texts(state), ["soup later", "bread waits"]);
    state.deliver("id 1", "soup");
    assert.deepEqual(texts(state), ["soup delivered", "bread waits"]);
    assert.equal(state.pending, 2);
  });

  test("a dead letter is seen and comes back", () => {
    const state = new QueueState();
    state.add("id", "soup");
    state.bury("id");
    assert.deepEqual([state.pending, state.dead, state.deadTexts], [0, 1, ["soup"]]);
    state.replay();
    state.deliver("id", "soup");
    assert.deepEqual([state.pending, state.dead, state.deadTexts, texts(state)], [1, 0, [], ["soup delivered"]]);
  });

  test("what a lost subscriber did not acknowledge waits", () => {
    const state = new QueueState();
    state.attach("tab", "socket", 0);
    state.deliver("id", "soup");
    state.detach();
    assert.deepEqual([state.owner, state.exists, texts(state)], ["", true, ["soup waits"]]);
  });

  test("events that were handled elsewhere are forgotten on attach", () => {
    const state = new QueueState();
    for (const n of [1, 2, 3]) state.add(`id ${n}`, `soup ${n}`);
    state.attach("tab", "socket", 1);
    assert.deepEqual(texts(state), ["soup 3 waits"]);
  });

  test("a snapshot carries it to another tab, an older one is not used", () => {
    const [state, other] = [new QueueState(), new QueueState()];
    state.attach("tab", "socket", 0);
    state.deliver("id", "soup");
    const old = state.snapshot();
    assert.ok(other.restore(JSON.parse(JSON.stringify(old)), false));
    assert.deepEqual([other.owner, other.pending, texts(other)], ["tab", 1, ["soup delivered"]]);
    state.acknowledge("id");
    assert.ok(other.restore(state.snapshot(), false));
    assert.ok(!other.restore(old, false));
    assert.ok(other.restore(old, true), "the owner is right, whatever its clock");
  });

  test("bad snapshots are refused", () => {
    const state = new QueueState();
    const good = state.snapshot();
    for (const bad of [undefined, null, 1, "text", [], { ...good, pending: -1 }, { ...good, at: 1e300 }, { ...good, items: {} }, { ...good, deadTexts: undefined }]) {
      assert.ok(!state.restore(bad, true), JSON.stringify(bad));
    }
    assert.ok(state.restore({ ...good, items: [null, { id: "x".repeat(1_000), text: 5, fate: "eaten" }] }, true));
    assert.deepEqual(texts(state), ["5 waits"]);
    assert.equal(state.waiting[0].id.length, 64);
  });

  test("an event without a place is counted once", () => {
    const state = new QueueState();
    for (let n = 0; n < 64; n += 1) state.add(`id ${n}`, "soup");
    assert.ok(state.add("one more", "bread"));
    assert.ok(!state.add("one more", "bread"));
    state.deliver("one more", "bread");
    assert.equal(state.pending, 65);
    state.acknowledge("id 0");
    state.deliver("one more", "bread");
    assert.deepEqual([state.pending, texts(state).at(-1)], [64, "bread delivered"]);
  });

  test("it does not grow", () => {
    const state = new QueueState();
    for (let n = 0; n < 10_000; n += 1) state.add(`id ${n}`, "soup");
    assert.deepEqual([state.pending, state.waiting.length], [10_000, 64]);
    for (let n = 0; n < 10_000; n += 1) state.bury(`id ${n}`);
    assert.deepEqual([state.pending, state.dead, state.deadTexts.length, state.waiting.length], [0, 10_000, 5, 0]);
  });
});
