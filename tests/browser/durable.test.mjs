/** `static/client/durable.js` in pages of a hub, with the `localStorage` of Chromium. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startQueueHub } from "../clients/harness.mjs";
import { launch } from "./browser.mjs";

/** A page that handles orders. The first loses its connection in the handler, so its ack as well. */
const PAGE = `<link rel="icon" href="data:,"><script type="module">
  import { io } from "/client/index.js";
  import { publishDurable, subscriber } from "/client/durable.js";
  const loses = new URLSearchParams(location.search).has("loses");
  const socket = io({ reconnection: false });
  globalThis.attached = new Promise((resolve) => socket.on("stentor:attached", resolve));
  globalThis.joined = new Promise((resolve) => socket.on("connect", () => socket.emit("join", "orders", { durable: true }, resolve)));
  globalThis.publish = (number) => publishDurable(socket, "orders", "order", number);
  globalThis.pending = () => socket.emitWithAck("pending");
  globalThis.orders = [];
  globalThis.handled = new Promise((resolve) =>
    subscriber(socket, "kitchen").on("order", (number) => {
      orders.push(number);
      if (loses) socket.io.engine.close(), setTimeout(resolve);
    }));
</script>`;

describe("durable events in a page", () => {
  let browser;
  let hub;
  before(async () => {
    browser = await launch();
    hub = await startQueueHub();
  });
  after(async () => {
    await browser?.close();
    await hub?.stop();
  });

  test("a page that is opened again skips what it has handled", async () => {
    const page = await browser.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(error));
    await page.route(`${hub.url}/page**`, (route) => route.fulfill({ contentType: "text/html", body: PAGE }));
    await page.goto(`${hub.url}/page?loses`);
    assert.equal((await page.evaluate(() => joined)).error, undefined);
    await page.evaluate(() => void publish(1).catch(() => {}));
    await page.evaluate(() => handled);
    await page.goto("about:blank");
    await page.goto(`${hub.url}/page`);
    assert.equal((await page.evaluate(() => attached)).pending, 1);
    await page.waitForFunction(async () => (await pending()).events === 0);
    await page.evaluate(() => publish(2));
    await page.waitForFunction(() => orders.length > 0);
    assert.deepEqual(await page.evaluate(() => orders), [2]);
    assert.deepEqual(errors, []);
  });
});
