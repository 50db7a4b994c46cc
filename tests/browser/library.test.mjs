/** `static/client` in Chromium: leaving and returning to a page, and import from another origin. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, afterEach, before, describe, test } from "node:test";
import { startHub } from "../clients/harness.mjs";
import { launch } from "./browser.mjs";

describe("the client library in a page", () => {
  let browser;
  let context;
  const closing = [];
  before(async () => (browser = await launch()));
  afterEach(async () => {
    await context?.close();
    for (const close of closing.splice(0)) await close();
  });
  after(() => browser?.close());

  /** A page with a link that imports the library from `hub` and connects to it. */
  const text = (hub, options = {}) => `<link rel="icon" href="data:,"><a href="/elsewhere">leave</a><script type="module">
    globalThis.library = import("${hub.url}/client/index.js").then((library) => {
      const socket = (globalThis.socket = library.io("${hub.url}", ${JSON.stringify({ reconnectionDelay: 10, ...options })}));
      globalThis.connects = 0;
      socket.on("connect", () => (globalThis.connects += 1));
      return "imported";
    }, String);</script>`;
  const newPage = async () => {
    context = await browser.newContext({ permissions: ["local-network-access"] });
    return context.newPage();
  };
  /** The page from a server of its own. */
  const openElsewhere = async (hub) => {
    const server = createServer((_, response) => response.setHeader("content-type", "text/html").end(text(hub))).listen(0, "127.0.0.1");
    await once(server, "listening");
    closing.push(() => (server.closeAllConnections(), server.close()));
    const page = await newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}`);
    return page;
  };
  /** The page from the hub's own origin. */
  const openHere = async (hub, options) => {
    const page = await newPage();
    await page.route(`${hub.url}/page`, (route) => route.fulfill({ contentType: "text/html", body: text(hub, options) }));
    await page.goto(`${hub.url}/page`);
    return page;
  };
  const start = async (flags) => {
    const hub = await startHub({ flags });
    closing.push(() => hub.stop());
    return hub;
  };

  test("a page of an origin that is not allowed cannot import it", async () => {
    const hub = await start(["--cors-origins", "https://other.example"]);
    const page = await openElsewhere(hub);
    assert.match(await page.evaluate(() => globalThis.library), /Failed to fetch/);
  });

  test("a page of an allowed origin imports it", async () => {
    const hub = await start(["--cors-origins", "*"]);
    const page = await openElsewhere(hub);
    assert.equal(await page.evaluate(() => globalThis.library), "imported");
    await page.waitForFunction(() => globalThis.connects === 1);
  });

  for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
    test(`closeOnBeforeunload: a page kept open reconnects, ${transports.join(" then ")}`, async () => {
      const hub = await start([]);
      const page = await openHere(hub, { closeOnBeforeunload: true, transports });
      assert.equal(await page.evaluate(() => globalThis.library), "imported");
      await page.waitForFunction(() => globalThis.connects === 1);
      await page.evaluate(() => addEventListener("beforeunload", (event) => event.preventDefault()));
      const asked = page.waitForEvent("dialog");
      const left = page.click("a").catch(() => {});
      const dialog = await asked;
      assert.equal(dialog.type(), "beforeunload");
      await dialog.dismiss();
      await left;
      // Emitted before the loss is noticed, so it is buffered and sent later.
      const answer = page.evaluate(() => globalThis.socket.emitWithAck("echo", "kept"));
      await page.waitForFunction(() => globalThis.connects === 2);
      assert.equal(await answer, "kept");
    });
  }
});
