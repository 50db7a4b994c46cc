/**
 * Runs test files of `tests/clients` in a page, with the stock client and with ours in a browser:
 * `surface.test.mjs` against our server, ours inside a host application, and Node's socket.io;
 * `durable-hub.test.mjs` against `stentor serve`.
 */

import { after, before, describe, test } from "node:test";
import { startQueueHub, startTour, TOURS } from "../clients/harness.mjs";
import { launch } from "./browser.mjs";
import { runInPage } from "./in-page.mjs";

describe("in Chromium", { concurrency: true }, () => {
  let browser;
  before(async () => (browser = await launch()));
  after(() => browser?.close());

  const run = (server, file, start) =>
    test(server, async (context) => {
      const hub = await start();
      try {
        await runInPage(context, browser, hub, { server, file });
      } finally {
        await hub.stop();
      }
    });

  for (const server of Object.keys(TOURS)) run(server, "surface.test.mjs", () => startTour(server));
  run("stentor serve", "durable-hub.test.mjs", startQueueHub);
});
