/** The demo page of `stentor serve` in two tabs, as a visitor sees it. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, afterEach, before, describe, test } from "node:test";
import { startHub } from "../clients/harness.mjs";
import { isCalm, launch, nameOf, openTab, picture, says, WIDE } from "./browser.mjs";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const SMALL = { width: 320, height: 700 };

describe("the demo page", () => {
  let browser;
  let hub;
  let context;
  before(async () => {
    browser = await launch();
    hub = await startHub({ recovery: "memory" });
  });
  afterEach(() => context?.close());
  after(async () => {
    await browser?.close();
    await hub?.stop();
  });

  const open = async (count, options) => {
    context = await browser.newContext({ viewport: WIDE, ...options });
    const tabs = [];
    for (let n = 0; n < count; n += 1) tabs.push(await openTab(context, hub.url));
    return tabs;
  };

  test("an event of a client reaches the server and no other tab", async () => {
    const [one, two] = await open(2);
    const other = await nameOf(two);
    await says(one, "#client-diagram", new RegExp(other));
    await one.fill("#emit-text", "a secret");
    await one.click("#emit-form button");
    await says(one, "#client-outcome", new RegExp(`The server received “a secret” and sent its ack. ${other} received nothing.`));
    assert.match(await one.locator("#client-diagram").textContent(), /This tabreceived the ackServerreceived it.*received nothing/);
    await says(one, "#log", /This tab emitted “a secret”\. The server received it/);
    assert.doesNotMatch(await two.locator("body").textContent(), /a secret/);
    await isCalm(one, two);
  });

  test("an event of the server reaches every member including this tab", async () => {
    const [one, two] = await open(2);
    const [first, second] = [await nameOf(one), await nameOf(two)];
    await says(one, "#server-diagram", new RegExp(second));
    await says(two, "#server-diagram", new RegExp(first));
    await one.fill("#publish-text", "news");
    await one.click("#publish-form button");
    await says(one, "#server-outcome", new RegExp(`This tab and ${second} received “news”, published by this tab.`));
    await says(two, "#server-outcome", new RegExp(`This tab and ${first} received “news”, published by ${first}.`));
    for (const tab of [one, two]) assert.equal(await tab.locator("#server-diagram [data-mood=received]").count(), 2);
    await one.click("#emit-form button");
    await says(one, "#client-outcome", /The server received/);
    await picture(one, "wide-two-emits");
    await isCalm(one, two);
  });

  test("rooms are joined and left, and their members are updated", async () => {
    const [one, two] = await open(2);
    const second = await nameOf(two);
    await two.fill("#join-room", "attic");
    await two.click("#join-form button");
    await one.fill("#join-room", "attic");
    await one.click("#join-form button");
    await says(one, "#rooms [data-room=attic]", new RegExp(second));
    await says(two, "#rooms [data-room=attic]", new RegExp(await nameOf(one)));
    await two.click("[aria-label='Leave attic']");
    await one.waitForFunction((name) => !document.querySelector("[data-room=attic]").textContent.includes(name), second);
    await one.selectOption("#publish-room", "attic");
    await one.fill("#publish-text", "for the attic");
    await one.click("#publish-form button");
    await says(one, "#server-outcome", /only one in the room, received “for the attic”/);
    assert.doesNotMatch(await two.locator("body").textContent(), /for the attic/);
    await two.close();
    await one.waitForFunction((name) => !document.querySelector("[data-room=lobby]").textContent.includes(name), second);
    await isCalm(one);
  });

  test("nothing shifts when members join", async () => {
    const [one] = await open(1);
    const height = () => one.locator("#rooms li").evaluate((row) => row.offsetHeight);
    await says(one, "#rooms", /this tab/);
    const alone = await height();
    await one.locator("#rooms .members").evaluate((members) => {
      for (let n = 0; n < 5; n += 1) members.append(members.firstChild.cloneNode(true));
    });
    assert.equal(await height(), alone);
  });

  test("all files are compressed", async () => {
    const [one] = await open(1);
    const sizes = await one.evaluate(() =>
      performance.getEntriesByType("resource").map(({ name, encodedBodySize, decodedBodySize }) => ({ name, encodedBodySize, decodedBodySize })),
    );
    const files = sizes.filter(({ name }) => /\.(js|css)$/.test(name));
    assert.ok(files.length >= 20, JSON.stringify(sizes));
    for (const { name, encodedBodySize, decodedBodySize } of files) assert.ok(encodedBodySize < decodedBodySize, name);
  });

  test("the transport in use and the moment of the upgrade are shown", async () => {
    const [one] = await open(1);
    await says(one, "#upgraded", /^upgraded after \d+ ms, at \d\d:\d\d:\d\d$/);
    assert.ok(await one.locator("#websocket[data-on]").isVisible());
    assert.equal(await one.locator("#polling[data-on]").count(), 0);
    await says(one, "#log", /^\S+Connected to .*The connection was upgraded from polling to websocket/);
    await isCalm(one);
  });

  for (const [name, options] of Object.entries({
    light: {},
    dark: { colorScheme: "dark" },
    small: { viewport: SMALL },
  })) {
    test(`axe finds nothing wrong: ${name}`, async () => {
      const [one] = await open(1, options);
      await one.click("#emit-form button");
      await says(one, "#client-outcome", /The server received/);
      await one.click("#elsewhere summary");
      await one.evaluate(AXE);
      const { violations } = await one.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
      assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html)}`), []);
      const overflow = await one.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(overflow, 0, "nothing reaches beyond the side of the screen");
      await isCalm(one);
      await picture(one, name, { fullPage: true });
    });
  }

  test("every action works by keyboard", async () => {
    const [one] = await open(1);
    const focused = () => one.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.tagName);
    const seen = [];
    for (let n = 0; n < 24; n += 1) {
      await one.keyboard.press("Tab");
      seen.push(await focused());
    }
    for (const control of ["skip", "emit-text", "publish-text", "publish-room", "offline", "join-room", "log"]) {
      assert.ok(seen.includes(control), `${control} in ${seen}`);
    }
    await one.focus("#emit-text");
    await one.keyboard.press("Enter");
    await says(one, "#client-outcome", /The server received/);
    await one.focus("#offline");
    await one.keyboard.press("Space");
    await says(one, "#offline", /^Reconnect$/);
    await one.keyboard.press("Space");
    await says(one, "#offline", /^Disconnect$/);
    await one.waitForSelector("body[data-connected]");
    await isCalm(one);
  });

  test("a diagram turns in a narrow window and keeps received events", async () => {
    const [one, two] = await open(2);
    const other = await nameOf(two);
    await says(one, "#client-diagram", new RegExp(other));
    await one.click("#emit-form button");
    await says(one, "#client-outcome", /received nothing/);
    await one.setViewportSize({ width: 390, height: 800 });
    await one.waitForSelector("#client-diagram[viewBox='0 0 304 206']");
    assert.match(await one.locator("#client-diagram").textContent(), new RegExp(`received the ackServerreceived it${other}received nothing`));
    assert.deepEqual(one.errors, []);
  });

  test("with reduced motion nothing moves and all is reported", async () => {
    const [one] = await open(1, { reducedMotion: "reduce" });
    await one.evaluate(() => {
      globalThis.animated = 0;
      const { animate } = Element.prototype;
      Element.prototype.animate = function (...args) {
        globalThis.animated += 1;
        return animate.apply(this, args);
      };
    });
    await one.click("#emit-form button");
    await says(one, "#client-outcome", /The server received/);
    assert.equal(await one.evaluate(() => globalThis.animated), 0);
    await isCalm(one);
  });

  test("the server answers a publish as its code on the page says", async () => {
    const [one] = await open(1);
    const code = (await one.locator("pre[data-language=server]").allTextContents()).join("\n");
    const shown = [...code.matchAll(/"(\w+)":/g)].map(([, key]) => key);
    const answer = await one.evaluate(async () => {
      const { io } = await import("/client/index.js");
      return io({ forceNew: true }).emitWithAck("publish", "lobby", "code", 1);
    });
    assert.deepEqual(Object.keys(answer), shown);
  });

  for (const width of [360, 1180, 1366]) {
    test(`texts fit: ${width} pixels wide`, async () => {
      const [one, two] = await open(2, { viewport: { width, height: 740 } });
      const field = one.locator("#publish-text");
      assert.ok(await field.evaluate(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth), "the publish field shows its default");
      await one.click("#offline");
      await says(one, "#offline", /^Reconnect$/);
      const words = "four and twenty letters…";
      await two.fill("#publish-text", words);
      await two.click("#publish-form button");
      const text = one.locator("#stored q");
      await text.waitFor();
      const lines = await text.evaluate((q) => q.getClientRects().length && q.offsetHeight / parseFloat(getComputedStyle(q).lineHeight));
      assert.equal(Math.round(lines), 1, "24 letters of a missed event fit into a line");
    });
  }

  test("on a phone state and log are visible and every target is large enough", async () => {
    const [one] = await open(1, { viewport: { width: 360, height: 740 } });
    const small = await one.evaluate(() =>
      [...document.querySelectorAll("a:not(.skip), button, input, select, summary")]
        .map((target) => [target.outerHTML.slice(0, 60), target.getBoundingClientRect().height])
        .filter(([, height]) => height && height < 40),
    );
    assert.deepEqual(small, []);
    assert.equal(await one.locator("pre:visible").count(), 0, "no code between the actions");
    await one.evaluate(() => scrollTo(0, document.body.scrollHeight));
    await one.waitForFunction(() => document.querySelector(".state").getBoundingClientRect().top === 0);
    await one.click(".to-log");
    await one.waitForFunction(() => document.getElementById("log-title").getBoundingClientRect().top < innerHeight / 2);
    await one.click(".code summary >> nth=0");
    assert.equal(await one.locator("pre:visible").count(), 2);
    await isCalm(one);
  });

  test("the code beside an action is the code of the page", async () => {
    const [one] = await open(1);
    const shown = await one.locator("pre[data-language=client]").allTextContents();
    const sources = await one.evaluate(async () => {
      const scripts = performance.getEntriesByType("resource").map(({ name }) => name).filter((name) => name.includes("/demo/"));
      return Promise.all(scripts.map(async (script) => (await fetch(script)).text()));
    });
    // Except for types and deadlines, which the page leaves out.
    const plain = sources.join("\n").replaceAll(/\/\*\*.*?\*\/ |\.timeout\(\w+\)|this\.#?|\s/g, "");
    assert.ok(shown.length >= 5);
    for (const statement of shown.join("\n").replaceAll(/\/\/.*|\s/g, "").split(";").filter(Boolean)) {
      const [call] = /socket\b.*\)/.exec(statement);
      assert.ok(plain.includes(call), call);
    }
  });
});
