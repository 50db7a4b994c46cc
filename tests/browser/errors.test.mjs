/**
 * Errors of the demo page: missing or refusing servers and unusual browsers. Each gives one
 * sentence, and nothing throws.
 */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { Server } from "../clients/node_modules/socket.io/wrapper.mjs";
import { startHub } from "../clients/harness.mjs";
import { freePort } from "../ports.mjs";
import { CONCURRENCY, isCalm, launch, openTab, picture, says, saysOnlyNetwork, shiftsLineByLine, watchedPage, WIDE } from "./browser.mjs";

describe("errors on the demo page", { concurrency: CONCURRENCY }, () => {
  let browser;
  let hub;
  before(async () => {
    browser = await launch();
    hub = await startHub({ recovery: "memory" });
  });
  after(async () => {
    await browser?.close();
    await hub?.stop();
  });

  const newContext = async (test, options) => {
    const context = await browser.newContext(options);
    test.after(() => context.close());
    return context;
  };
  /** The hub's own page, set to use another server. */
  const open = async (test, query) => {
    const page = await watchedPage(await newContext(test, { viewport: WIDE, permissions: ["local-network-access"] }));
    await page.goto(`${hub.url}/?${new URLSearchParams(query)}`);
    return page;
  };
  /** A server of another origin with this response. */
  const stranger = async (test, answer) => {
    const server = createServer(answer).listen(0, "127.0.0.1");
    await once(server, "listening");
    test.after(() => {
      server.closeAllConnections();
      server.close();
    });
    return `http://127.0.0.1:${server.address().port}`;
  };
  const ANYBODY = { "access-control-allow-origin": "*" };

  test("an invalid address", async (t) => {
    const page = await open(t, { server: "http://" });
    await says(page, "#state", /Not connected/);
    await says(page, "#detail", /Invalid address: invalid URL "http:\/\/"/);
    await isCalm(page);
  });

  test("no server at the address", async (t) => {
    const page = await open(t, { server: `http://127.0.0.1:${await freePort()}` });
    await says(page, "#detail", /No answer at http:.*: is the server running\?/);
    await says(page, "[data-stage=retrying]", /attempt \d+\swithin \d s/);
    await says(page, "#log", /No answer/);
    await saysOnlyNetwork(page);
  });

  test("a server that does not allow this page's origin", async (t) => {
    const other = await startHub({ flags: ["--cors-origins", "https://other.example"] });
    t.after(() => other.stop());
    const page = await open(t, { server: other.url });
    await says(page, "#detail", /The server at .* does not allow this page’s origin .*--cors-origins/);
    await picture(page, "trouble-origin");
    await saysOnlyNetwork(page);
  });

  test("a server that allows this page's origin", async (t) => {
    const other = await startHub({ flags: ["--cors-origins", hub.url] });
    t.after(() => other.stop());
    const page = await open(t, { server: other.url });
    await says(page, "#detail", new RegExp(`to ${other.url}`));
    await page.click("#emit");
    await says(page, "#client-outcome", /The server received/);
    await isCalm(page);
  });

  for (const width of [WIDE.width, 900, 640, 320]) {
    test(`a page that loads line by line: ${width} pixels wide`, async () => {
      assert.deepEqual(await shiftsLineByLine(browser, hub.url, width), [], "layout shifts");
    });
  }

  test("a server that speaks no Socket.IO", async (t) => {
    const server = await stranger(t, (_, response) => response.writeHead(200, ANYBODY).end("<html>Hello</html>"));
    const page = await open(t, { server });
    await says(page, "#detail", /The server at .* is no Socket.IO server: it answered "<html>Hello/);
    await isCalm(page);
  });

  test("a path without Socket.IO", async (t) => {
    const page = await open(t, { path: "/nowhere" });
    await says(page, "#detail", /The server at .* has no Socket.IO endpoint at this path: .*HTTP 404/);
    await saysOnlyNetwork(page);
  });

  test("a server that refuses until it gets a better token", async (t) => {
    const node = new Server(0, { cors: { origin: "*" }, serveClient: false });
    t.after(() => new Promise((resolve) => node.close(resolve)));
    node.use((socket, next) => next(socket.handshake.auth.token === "good" ? undefined : new Error("not authorized")));
    node.on("connection", (socket) => {
      socket.onAny((...args) => typeof args.at(-1) === "function" && args.at(-1)({ room: "lobby", members: [socket.id] }));
    });
    const page = await open(t, { server: `http://127.0.0.1:${node.httpServer.address().port}`, token: "bad" });
    await says(page, "#state", /Refused/);
    await says(page, "#detail", /The server refuses this tab: not authorized\. There is no automatic retry/);
    await says(page, "[data-stage=retrying]", /not automatic/);
    await picture(page, "trouble-refused");
    await page.fill("#server-token", "good");
    await page.click("#server-form button");
    await says(page, "#state", /Connected/);
    await saysOnlyNetwork(page);
  });

  test("a browser without storage", async (t) => {
    const context = await newContext(t);
    await context.addInitScript(() => {
      for (const name of ["sessionStorage", "localStorage"]) {
        Object.defineProperty(globalThis, name, {
          get() {
            throw new DOMException("The operation is insecure.", "SecurityError");
          },
        });
      }
    });
    const page = await openTab(context, hub.url);
    await says(page, "#log", /This browser stores nothing for this page, .* All else works\./);
    await page.click("#publish");
    await says(page, "#server-outcome", /received “event 1”/);
    await isCalm(page);
  });

  test("a clock that jumps", async (t) => {
    const context = await newContext(t);
    const page = await openTab(context, hub.url);
    await page.evaluate(() => {
      const { now } = Date;
      globalThis.jump = (hours) => (Date.now = () => now() + hours * 3_600_000);
      globalThis.jump(-5);
    });
    await page.click("#emit");
    await says(page, "#client-outcome", /The server received/);
    await page.evaluate(() => globalThis.jump(5));
    await says(page, "#log", /Connection lost: no ping for longer than the server announced: .* its clock was changed/);
    await says(page, "[data-stage=back]", /after \d+ s/);
    await says(page, "#state", /Connected/);
    assert.deepEqual(page.errors, []);
  });
});
