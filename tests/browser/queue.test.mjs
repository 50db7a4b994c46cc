/** The queue on the demo page: an order waits until kitchen acknowledges it. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { CONCURRENCY, isCalm, launch, nameOf, picture, says, saysOnlyNetwork, scene } from "./browser.mjs";
import { STORY, tellStory } from "./story.mjs";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

describe("the queue on the demo page", { concurrency: CONCURRENCY }, () => {
  let browser;
  before(async () => (browser = await launch()));
  after(() => browser?.close());

  const start = (test, options) => scene(test, browser, { recovery: "memory", flags: ["--queue", "memory"] }, options);
  const isOpen = (tab) => tab.waitForSelector("#stage[data-queue=open]");
  const subscribe = async (tab) => {
    await tab.click("#subscribe");
    await isOpen(tab);
  };
  const order = async (tab, text) => {
    await tab.fill("#text", text);
    await tab.click("#order");
    await says(tab, "#durable-outcome", new RegExp(`Stored “${text}”`));
  };
  /** Events with a chip, the oldest first. */
  const chips = (tab) => tab.locator(".chip:not([data-fate=gone]) b").allTextContents();
  const deliveries = (tab) => tab.locator("#deliveries b").allTextContents();
  /** Waits until kitchen has as many rows. */
  const delivered = (tab, count) => tab.waitForFunction((count) => document.querySelectorAll("#deliveries li").length === count, count);
  const press = (tab, how, text) => tab.click(`#deliveries li:has-text("${text}") [data-how=${how}]`);

  test("orders wait while kitchen is closed, and arrive in order afterwards", async (t) => {
    const { open } = await start(t);
    const [one, two] = [await open(), await open()];
    assert.deepEqual(await one.locator(".primary").allTextContents(), ["Subscribe"], "one next step");
    await subscribe(one);
    assert.deepEqual(await one.locator(".primary").allTextContents(), ["Order"]);
    await says(two, "#subscriber-state", new RegExp(`^open in ${await nameOf(one)}$`));
    await order(two, "soup 1");
    await says(one, "#deliveries", /soup 1/);
    await says(one, "#log", new RegExp(`kitchen received “soup 1”, ordered by ${await nameOf(two)}`));
    await press(one, "ack", "soup 1");
    await says(one, "#pending", /^0 pending$/);
    await says(two, "#pending", /^0 pending$/);
    await isCalm(one);

    await one.close();
    await says(two, "#subscriber-state", /^away$/);
    for (const n of [2, 3, 4]) await order(two, `soup ${n}`);
    await says(two, "#durable-outcome", /It is pending for 1 subscriber/);
    await says(two, "#pending", /^3 pending$/);
    await two.waitForFunction(() => document.querySelectorAll(".chip").length === 3);
    assert.deepEqual(await chips(two), ["soup 2", "soup 3", "soup 4"]);
    await picture(two, "queue-away", { fullPage: true });

    const three = await open();
    await says(three, "#pending", /^3 pending$/);
    assert.deepEqual(await chips(three), ["soup 2", "soup 3", "soup 4"], "known from the other tab");
    await subscribe(three);
    await delivered(three, 3);
    assert.deepEqual(await deliveries(three), ["soup 2", "soup 3", "soup 4"]);
    await says(three, "#log", /kitchen is open in this tab: nothing is missing, 3 events pending/);
    await picture(three, "queue-open", { fullPage: true });
    await isCalm(two, three);
  });

  test("an ack frees an order, a nak brings it back, a dead letter is replayed", async (t) => {
    const { open } = await start(t);
    const [one, two] = [await open(), await open()];
    await subscribe(one);
    for (const text of ["soup", "bread", "coffee"]) await order(one, text);
    await delivered(one, 3);

    await press(one, "ack", "soup");
    await one.waitForFunction(() => document.querySelectorAll(".chip").length === 2);
    assert.deepEqual(await chips(one), ["bread", "coffee"]);
    await says(one, "#pending", /^2 pending$/);
    await says(two, "#pending", /^2 pending$/);

    await press(one, "nak", "bread");
    await one.locator(".chip[data-fate=later]", { hasText: "bread" }).waitFor();
    assert.deepEqual(await deliveries(one), ["coffee"]);
    await says(one, "#log", /kitchen received “bread” again/);
    await delivered(one, 2);
    assert.deepEqual(await chips(one), ["bread", "coffee"], "in its place");

    await press(one, "term", "bread");
    for (const tab of [one, two]) await says(tab, "#dead-count", /^1 dead letter: bread$/);
    assert.deepEqual(await chips(one), ["coffee"]);
    await picture(one, "queue-dead", { fullPage: true });
    await one.click("#replay");
    await says(one, "#dead-count", /^No dead letters$/);
    await delivered(one, 2);
    assert.deepEqual(await deliveries(one), ["coffee", "bread"]);
    await isCalm(one, two);
  });

  test("the focus stays beside the button of a handled order", async (t) => {
    const { open } = await start(t);
    const one = await open();
    await subscribe(one);
    for (const text of ["soup", "bread"]) await order(one, text);
    await delivered(one, 2);
    const focused = () => one.evaluate(() => document.activeElement.ariaLabel ?? document.activeElement.id);
    await one.focus("#deliveries [data-how=ack]");
    await one.keyboard.press("Enter");
    assert.equal(await focused(), "Ack bread");
    await one.keyboard.press("Enter");
    assert.equal(await focused(), "subscribe");
    await says(one, "#pending", /^0 pending$/);
  });

  test("a kitchen opened in a second tab closes the first one's", async (t) => {
    const { open } = await start(t);
    const [one, two] = [await open(), await open()];
    await subscribe(one);
    await order(one, "soup");
    await delivered(one, 1);
    await says(two, "#subscribe", /^Take over$/);
    await subscribe(two);
    await delivered(two, 1);
    await says(one, "#log", /kitchen was opened in another tab/);
    await says(one, "#subscriber-state", new RegExp(`^open in ${await nameOf(two)}$`));
    assert.deepEqual(await deliveries(one), []);
    await two.click("#subscribe");
    for (const tab of [one, two]) await says(tab, "#subscriber-state", /^away$/);
    await says(two, "#deliveries", /^$/);
    assert.equal(await two.locator("#log li", { hasText: "kitchen is closed" }).count(), 1);
    await isCalm(one, two);
  });

  test("other tabs show the count of orders that were sent quickly", async (t) => {
    const { open } = await start(t);
    const [one, two] = [await open(), await open()];
    await subscribe(one);
    await says(two, "#subscriber-state", /^open in/);
    for (let n = 0; n < 3; n += 1) await one.click("#order");
    await delivered(one, 3);
    const isRight = () => document.querySelectorAll(".chip[data-fate=delivered]").length === 3 && document.getElementById("pending").textContent === "3 pending";
    await two.waitForFunction(isRight, undefined, { timeout: 8_000 });
    // The stage of the other tab has no movement that would add an order again.
    await two.waitForFunction(() => document.querySelectorAll(".flight").length === 0);
    assert.ok(await two.evaluate(isRight));
    await isCalm(one, two);
  });

  test("an event that failed twice is sent alone, and the page says so", async (t) => {
    const { open } = await start(t);
    const one = await open();
    await subscribe(one);
    for (const text of ["soup", "bread"]) await order(one, text);
    await delivered(one, 2);
    await says(one, "#queue-state", /^Ack: handled\. Nak: again in 2 s/);
    for (let n = 0; n < 2; n += 1) {
      await one.click("#subscribe");
      await says(one, "#subscriber-state", /^away$/);
      await subscribe(one);
    }
    await says(one, "#queue-state", /^It failed twice, so it is sent alone/);
    await delivered(one, 1);
    assert.deepEqual(await deliveries(one), ["soup"]);
    await press(one, "ack", "soup");
    await delivered(one, 1);
    await says(one, "#queue-state", /^Ack: handled/);
    assert.deepEqual(await deliveries(one), ["bread"]);
    await isCalm(one);
  });

  test("a reloaded tab is kitchen again", async (t) => {
    const { open } = await start(t);
    const one = await open();
    await subscribe(one);
    await order(one, "soup");
    await delivered(one, 1);
    await one.reload();
    await isOpen(one);
    await delivered(one, 1);
    assert.deepEqual(await chips(one), ["soup"]);
  });

  test("without a subscriber nothing is kept, and the page says so", async (t) => {
    const { open } = await start(t);
    const one = await open();
    await order(one, "soup");
    await says(one, "#durable-outcome", /It is pending for no subscriber, so it is not kept/);
    await says(one, "#queue-state", /Nothing is kept before kitchen has subscribed/);
    assert.deepEqual(await chips(one), []);
    await isCalm(one);
  });

  test("an order replaces the results of an earlier event on the stage", async (t) => {
    const { open } = await start(t);
    const [one, two] = [await open(), await open()];
    const [first, second] = [await nameOf(one), await nameOf(two)];
    await says(one, "#others", new RegExp(second));
    await one.click("#emit");
    await says(one, "#others", /received nothing/);
    await subscribe(one);
    await order(two, "soup");
    await says(one, "#others", /orders it/);
    await says(one, ".me .caption", /^listening$/);
    await says(one, ".server .caption", /^stores it$/);
    await says(two, "#others", new RegExp(`${first}listening`));
    await isCalm(one, two);
  });

  test("an order travels to the queue and to kitchen, and its ack back", async (t) => {
    const { open } = await start(t);
    const one = await open();
    await subscribe(one);
    await one.evaluate(() => {
      globalThis.flights = [];
      const note = (list) => list.forEach(({ addedNodes }) => addedNodes.forEach((node) => globalThis.flights.push(node.textContent)));
      new MutationObserver(note).observe(document.querySelector(".flights"), { childList: true });
    });
    await order(one, "soup");
    await delivered(one, 1);
    await press(one, "ack", "soup");
    await says(one, "#pending", /^0 pending$/);
    await one.waitForFunction(() => document.querySelectorAll(".chip").length === 0);
    assert.deepEqual(await one.evaluate(() => globalThis.flights), ["soup", "soup", "soup", "ack"]);
  });

  test("many orders leave the page small", async (t) => {
    const { open } = await start(t, { reducedMotion: "reduce" });
    const one = await open();
    await subscribe(one);
    await one.evaluate(async () => {
      const { io } = await import("/client/index.js");
      const socket = io({ forceNew: true });
      for (let n = 0; n < 200; n += 1) {
        await socket.emitWithAck("publish", { room: "orders", durable: true }, "order", { id: `id ${n}`, from: socket.id, text: `soup ${n}` });
      }
    });
    await says(one, "#pending", /^200 pending$/);
    assert.equal(await one.locator(".chip").count(), 64);
    assert.equal(await one.locator("#deliveries li").count(), 64);
    assert.equal(await one.locator("#log li").count(), 200);
    assert.deepEqual(one.errors, []);
  });

  test("a server without a queue is labelled as one", async (t) => {
    const { open } = await scene(t, browser, {});
    const one = await open();
    await one.waitForSelector("#stage[data-queue=absent]");
    await says(one, "#queue-state", /^This server has no queue/);
    await says(one, "#subscriber-state", /needs a queue/);
    assert.deepEqual(await one.locator(".primary").allTextContents(), ["Publish"]);
    assert.ok(await one.getByRole("button", { name: "Subscribe" }).isDisabled());
    await one.click("#order");
    await says(one, "#durable-outcome", /This server has no queue\. “event 1” was not published/);
    await isCalm(one);
  });

  test("a killed server: what was not acknowledged is delivered again", async (t) => {
    const { open, kill, restart } = await scene(t, browser, { recovery: "disk" });
    const one = await open();
    await subscribe(one);
    for (const text of ["soup", "bread"]) await order(one, text);
    await delivered(one, 2);
    await press(one, "ack", "soup");
    await says(one, "#pending", /^1 pending$/);
    await kill();
    await says(one, "#subscriber-state", /^away, retrying$/);
    assert.deepEqual(await deliveries(one), []);
    await one.fill("#text", "coffee");
    await one.click("#order");
    await says(one, "#durable-outcome", /“coffee” waits in this tab for the reconnect/);
    await picture(one, "queue-killed", { fullPage: true });
    await restart();
    await isOpen(one);
    await delivered(one, 2);
    assert.deepEqual(await deliveries(one), ["bread", "coffee"]);
    await says(one, "#durable-outcome", /Stored “coffee”/);
    await says(one, "#log", /kitchen received “bread” again/);
    await says(one, "#pending", /^2 pending$/);
    await saysOnlyNetwork(one);
  });

  test("the pictures show orders that wait for a lost connection", async (t) => {
    const { open } = await start(t, { ...STORY, reducedMotion: "reduce" });
    const [one, two] = [await open(), await open()];
    const states = [];
    await tellStory(one, two, (state) => states.push(state));
    assert.ok(states.includes("2 pending"), `${states}`);
    await saysOnlyNetwork(one);
    await isCalm(two);
  });

  for (const width of [375, 768, 1280, 1920]) {
    test(`an order in the kitchen: ${width} pixels, light and dark`, async (t) => {
      const { open } = await start(t, { viewport: { width, height: 900 } });
      const one = await open();
      await subscribe(one);
      for (const text of ["soup", "a much longer order of bread", "coffee"]) await order(one, text);
      await delivered(one, 3);
      await press(one, "term", "coffee");
      await says(one, "#dead-count", /1 dead letter/);
      // A chip that leaves is on its way to transparent.
      await one.waitForFunction(() => !document.querySelector(".chip[data-fate=gone]"));
      await one.evaluate(AXE);
      for (const colorScheme of ["light", "dark"]) {
        await one.emulateMedia({ colorScheme });
        const small = await one.evaluate(() =>
          [...document.querySelectorAll("#stage :is(button, a)")]
            .map((target) => [target.outerHTML.slice(0, 80), target.getBoundingClientRect()])
            .filter(([, { width, height }]) => Math.min(width, height) < 44),
        );
        assert.deepEqual(small, [], colorScheme);
        const cut = await one.locator("#deliveries li").evaluateAll((rows) => rows.filter((row) => row.scrollWidth > row.clientWidth).length);
        assert.equal(cut, 0, `every row shows its buttons, ${colorScheme}`);
        assert.equal(await one.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0, colorScheme);
        const { violations } = await one.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
        assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html)}`), [], colorScheme);
        await isCalm(one);
        await picture(one, `queue-${width}-${colorScheme}`);
      }
    });
  }
});
