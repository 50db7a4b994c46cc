/** The demo page of `stentor serve` in two tabs, as a visitor sees it. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { CONCURRENCY, isCalm, launch, nameOf, picture, says, scene, WIDE } from "./browser.mjs";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const SMALL = { width: 320, height: 700 };

describe("the demo page", { concurrency: CONCURRENCY }, () => {
  let browser;
  before(async () => (browser = await launch()));
  after(() => browser?.close());

  const open = async (test, count, options) => {
    const { open } = await scene(test, browser, { recovery: "memory" }, options);
    const tabs = [];
    for (let n = 0; n < count; n += 1) tabs.push(await open());
    return tabs;
  };

  test("an event of a client reaches the server and no other tab", async (t) => {
    const [one, two] = await open(t, 2);
    const other = await nameOf(two);
    await says(one, "#stage", new RegExp(other));
    await one.fill("#text", "a secret");
    await one.click("#emit");
    await says(one, "#client-outcome", new RegExp(`The server received “a secret” and sent its ack. ${other} received nothing.`));
    assert.match(await one.locator("#stage").textContent(), /This tab.*got its ack.*Server.*received it.*received nothing/s);
    await says(one, "#log", /This tab emitted “a secret”\. The server received it/);
    assert.doesNotMatch(await two.locator("body").textContent(), /a secret/);
    await isCalm(one, two);
  });

  test("an event of the server reaches every member including this tab", async (t) => {
    const [one, two] = await open(t, 2);
    const [first, second] = [await nameOf(one), await nameOf(two)];
    await says(one, "#stage", new RegExp(second));
    await says(two, "#stage", new RegExp(first));
    await one.fill("#text", "news");
    await one.click("#publish");
    await says(one, "#server-outcome", new RegExp(`This tab and ${second} received “news”, published by this tab.`));
    await says(two, "#server-outcome", new RegExp(`This tab and ${first} received “news”, published by ${first}.`));
    for (const tab of [one, two]) assert.equal(await tab.locator("#stage [data-mood=received]").count(), 2);
    await one.click("#emit");
    await says(one, "#client-outcome", /The server received/);
    await picture(one, "wide-two-emits");
    await isCalm(one, two);
  });

  test("rooms are joined and left, and their members are updated", async (t) => {
    const [one, two] = await open(t, 2);
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
    await one.fill("#text", "for the attic");
    await one.click("#publish");
    await says(one, "#server-outcome", /only one in the room, received “for the attic”/);
    assert.doesNotMatch(await two.locator("body").textContent(), /for the attic/);
    await two.close();
    await one.waitForFunction((name) => !document.querySelector("[data-room=lobby]").textContent.includes(name), second);
    await isCalm(one);
  });

  test("nothing shifts when members join", async (t) => {
    const [one] = await open(t, 1);
    const height = () => one.locator("#rooms li").evaluate((row) => row.offsetHeight);
    await says(one, "#rooms", /this tab/);
    const alone = await height();
    await one.locator("#rooms .members").evaluate((members) => {
      for (let n = 0; n < 5; n += 1) members.append(members.firstChild.cloneNode(true));
    });
    assert.equal(await height(), alone);
  });

  test("all files are compressed", async (t) => {
    const [one] = await open(t, 1);
    const sizes = await one.evaluate(() =>
      performance.getEntriesByType("resource").map(({ name, encodedBodySize, decodedBodySize }) => ({ name, encodedBodySize, decodedBodySize })),
    );
    const files = sizes.filter(({ name }) => /\.(js|css)$/.test(name));
    assert.ok(files.length >= 20, JSON.stringify(sizes));
    for (const { name, encodedBodySize, decodedBodySize } of files) assert.ok(encodedBodySize < decodedBodySize, name);
  });

  test("the transport in use and the moment of the upgrade are shown", async (t) => {
    const [one] = await open(t, 1);
    await says(one, "#upgraded", /^upgraded after \d+ ms, at \d\d:\d\d:\d\d$/);
    assert.ok(await one.locator("#websocket[data-on]").isVisible());
    assert.equal(await one.locator("#polling[data-on]").count(), 0);
    await says(one, "#log", /^\S+Connected to .*The connection was upgraded from polling to websocket/);
    await isCalm(one);
  });

  for (const [name, viewport, schemes] of [["wide", WIDE, ["light", "dark"]], ["small", SMALL, ["light"]]]) {
    test(`axe finds nothing wrong: ${name}, ${schemes.join(" and ")}`, async (t) => {
      const [one] = await open(t, 1, { viewport });
      await one.click("#emit");
      await says(one, "#client-outcome", /The server received/);
      await one.click("#elsewhere summary");
      await one.evaluate(AXE);
      for (const colorScheme of schemes) {
        await one.emulateMedia({ colorScheme });
        const { violations } = await one.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
        assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html)}`), [], colorScheme);
        const overflow = await one.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.equal(overflow, 0, `nothing reaches beyond the side of the screen, ${colorScheme}`);
        await isCalm(one);
        await picture(one, `${name}-${colorScheme}`, { fullPage: true });
      }
    });
  }

  test("every action works by keyboard", async (t) => {
    const [one] = await open(t, 1);
    const focused = () => one.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.tagName);
    const seen = [];
    for (let n = 0; n < 30; n += 1) {
      await one.keyboard.press("Tab");
      seen.push(await focused());
    }
    for (const control of ["skip", "text", "emit", "publish-room", "publish", "order", "offline", "join-room", "log"]) {
      assert.ok(seen.includes(control), `${control} in ${seen}`);
    }
    await one.focus("#text");
    await one.keyboard.press("Enter");
    await says(one, "#server-outcome", /received “event 1”, published by this tab/);
    await one.focus("#emit");
    await one.keyboard.press("Enter");
    await says(one, "#client-outcome", /The server received “event 2”/);
    await one.focus("#offline");
    await one.keyboard.press("Space");
    await says(one, "#offline", /^Reconnect$/);
    await one.keyboard.press("Space");
    await says(one, "#offline", /^Disconnect$/);
    await one.waitForSelector("body[data-connected]");
    await isCalm(one);
  });

  test("the stage turns in a narrow window and keeps received events", async (t) => {
    const [one, two] = await open(t, 2);
    const other = await nameOf(two);
    await says(one, "#stage", new RegExp(other));
    await one.click("#emit");
    await says(one, "#client-outcome", /received nothing/);
    const isBelow = () => {
      const [me, server, queue] = ["me", "server", "queue"].map((place) => document.querySelector(`[data-place=${place}]`).getBoundingClientRect());
      return me.bottom < server.top && server.bottom < queue.top;
    };
    assert.ok(!(await one.evaluate(isBelow)));
    await one.setViewportSize({ width: 390, height: 800 });
    await one.waitForFunction(isBelow);
    assert.match(await one.locator("#stage").textContent(), new RegExp(`got its ack.*received it.*${other}received nothing`, "s"));
    // Each wire is drawn again between its places, straight.
    await one.waitForFunction(() => {
      const [wire] = document.querySelectorAll(".wires path");
      const [, x1, , x2] = /M(\S+) (\S+) L(\S+) (\S+)/.exec(wire.getAttribute("d"));
      return x1 === x2;
    });
    assert.deepEqual(one.errors, []);
  });

  test("an event travels from place to place on the stage", async (t) => {
    const [one, two] = await open(t, 2);
    await says(one, "#stage", new RegExp(await nameOf(two)));
    await one.evaluate(() => {
      globalThis.flights = [];
      const stage = document.getElementById("stage");
      const edges = () => Object.fromEntries([...stage.querySelectorAll(".tabs [data-place]")].map((node) => [node.classList[1], node.getBoundingClientRect()]));
      // The place whose edge is at this point of the stage.
      const placeAt = (transform) => {
        const [x, y] = transform.match(/-?[\d.]+px/g).slice(0, 2).map(parseFloat);
        const { left, top } = stage.getBoundingClientRect();
        const near = ([, box]) => Math.min(Math.abs(box.left - left - x), Math.abs(box.right - left - x)) < 2 && box.top - top <= y && y <= box.bottom - top;
        return Object.entries(edges()).find(near)?.[0];
      };
      const { animate } = Element.prototype;
      Element.prototype.animate = function (frames, options) {
        if (this.className === "flight") globalThis.flights.push([this.textContent, placeAt(frames[0].transform), placeAt(frames.at(-1).transform)].join(" "));
        return animate.call(this, frames, options);
      };
    });
    await one.click("#publish");
    await says(one, "#server-outcome", /received “event 1”/);
    await one.click("#emit");
    await says(one, "#client-outcome", /The server received “event 2”/);
    assert.deepEqual(await one.evaluate(() => globalThis.flights), [
      "event 1 me server", "event 1 server me", "event 1 server tab",
      "event 2 me server", "ack server me",
    ]);
    assert.equal(await one.locator(".flight").count(), 0, "nothing that moved remains");
    await isCalm(one, two);
  });

  test("a page that is open for days does not grow", async (t) => {
    const [one] = await open(t, 1);
    const nodes = () => one.evaluate(() => document.querySelectorAll("*").length);
    await one.evaluate(() => Promise.all(Array.from({ length: 300 }, (_, n) => {
      document.getElementById("text").value = `many ${n}`;
      document.getElementById("publish").click();
    })));
    await says(one, "#server-outcome", /received “many 299”/);
    assert.equal(await one.locator("#log li").count(), 200);
    const before = await nodes();
    await one.click("#publish");
    await says(one, "#server-outcome", /received “many 300”/);
    assert.equal(await nodes(), before);
  });

  test("with reduced motion nothing moves and all is reported", async (t) => {
    const [one] = await open(t, 1, { reducedMotion: "reduce" });
    await one.evaluate(() => {
      globalThis.animated = 0;
      const { animate } = Element.prototype;
      Element.prototype.animate = function (...args) {
        globalThis.animated += 1;
        return animate.apply(this, args);
      };
    });
    await one.click("#emit");
    await says(one, "#client-outcome", /The server received/);
    assert.equal(await one.evaluate(() => globalThis.animated), 0);
    await isCalm(one);
  });

  test("the server answers a publish as its code on the page says", async (t) => {
    const [one] = await open(t, 1);
    const code = (await one.locator("pre[data-language=server]").allTextContents()).join("\n");
    const shown = [...code.matchAll(/"(\w+)":/g)].map(([, key]) => key);
    const answer = await one.evaluate(async () => {
      const { io } = await import("/client/index.js");
      return io({ forceNew: true }).emitWithAck("publish", "lobby", "code", 1);
    });
    assert.deepEqual(Object.keys(answer), shown);
  });

  for (const width of [375, 768, 1280, 1920]) {
    test(`nothing is wider than the screen: ${width} pixels, small and large letters`, async (t) => {
      const [one] = await open(t, 1, { viewport: { width, height: 900 } });
      const devtools = await one.context().newCDPSession(one);
      await devtools.send("Page.enable");
      for (const [n, size] of [16, 28].entries()) {
        await devtools.send("Page.setFontSizes", { fontSizes: { standard: size } });
        await one.waitForFunction((size) => parseFloat(getComputedStyle(document.documentElement).fontSize) === size, size);
        await one.click("#publish");
        await says(one, "#server-outcome", new RegExp(`received “event ${n + 1}”`));
        const beyond = await one.evaluate(() =>
          [...document.querySelectorAll("body *")].filter((element) => {
            const { left, right, width } = element.getBoundingClientRect();
            return width > 1 && !element.matches(".skip, .badge *") && (left < 0 || right > innerWidth + 0.5);
          }).map((element) => element.outerHTML.slice(0, 80)),
        );
        assert.deepEqual(beyond, [], `letters of ${size} px`);
        const [scrolled, seen] = await one.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
        assert.equal(scrolled, seen, `letters of ${size} px`);
        for (const button of ["#emit", "#publish", "#order", "#subscribe", "#offline"]) {
          const fits = await one.locator(button).evaluate(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth);
          assert.ok(fits, `the text of ${button} fits, letters of ${size} px`);
        }
        await picture(one, `letters-${width}-${size}`);
      }
    });
  }

  for (const width of [360, 1180, 1366]) {
    test(`texts fit: ${width} pixels wide`, async (t) => {
      const [one, two] = await open(t, 2, { viewport: { width, height: 740 } });
      const field = one.locator("#text");
      assert.ok(await field.evaluate(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth), "the publish field shows its default");
      await one.click("#offline");
      await says(one, "#offline", /^Reconnect$/);
      const words = "four and twenty letters…";
      await two.fill("#text", words);
      await two.click("#publish");
      const text = one.locator("#stored q");
      await text.waitFor();
      const lines = await text.evaluate((q) => q.getClientRects().length && q.offsetHeight / parseFloat(getComputedStyle(q).lineHeight));
      assert.equal(Math.round(lines), 1, "24 letters of a missed event fit into a line");
    });
  }

  test("on a phone state and log are visible and every target is large enough", async (t) => {
    const [one] = await open(t, 1, { viewport: { width: 375, height: 740 } });
    const small = await one.evaluate(() =>
      [...document.querySelectorAll("a:not(.skip), button, input, select, summary")]
        .map((target) => [target.outerHTML.slice(0, 60), target.getBoundingClientRect()])
        .filter(([, { width, height }]) => height && Math.min(width, height) < 44),
    );
    assert.deepEqual(small, []);
    assert.equal(await one.locator("pre:visible").count(), 0, "no code between the actions");
    await one.evaluate(() => scrollTo(0, document.body.scrollHeight));
    await one.waitForFunction(() => document.querySelector(".bar").getBoundingClientRect().top === 0);
    await one.click(".to-log");
    await one.waitForFunction(() => document.getElementById("log-title").getBoundingClientRect().top < innerHeight / 2);
    await one.click(".code summary >> nth=0");
    assert.equal(await one.locator("pre:visible").count(), 2);
    await isCalm(one);
  });

  test("the code beside an action is the code of the page", async (t) => {
    const [one] = await open(t, 1);
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
