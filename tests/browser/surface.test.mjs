/**
 * Runs `tests/clients/surface.test.mjs` in a page, with the stock client and with ours in a
 * browser: against our server, ours inside a host application, and Node's socket.io.
 */

import { after, before, describe, test } from "node:test";
import { startTour, TOURS } from "../clients/harness.mjs";
import { launch, newPage } from "./browser.mjs";

describe("in Chromium", { concurrency: true }, () => {
  let browser;
  before(async () => (browser = await launch()));
  after(() => browser?.close());

  for (const server of Object.keys(TOURS)) {
    test(server, async (context) => {
      const hub = await startTour(server);
      const page = await newPage(browser);
      try {
        await page.goto(`${hub.url}/repository/tests/browser/page/index.html?${new URLSearchParams({ server })}`);
        await report(context, await page.evaluate(() => globalThis.results));
      } finally {
        await page.close();
        await hub.stop();
      }
    });
  }
});

/** Reports each test of the page as a test. */
async function report(context, entries) {
  for (const { name, entries: inner, error } of entries) {
    await context.test(name, (context) => {
      if (inner) return report(context, inner);
      if (error) throw new Error(error);
    });
  }
}
