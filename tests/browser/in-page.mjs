/** Runs a test file of `tests/clients` in a page. */

import { newPage } from "./browser.mjs";

/**
 * Runs the tests of `file` in a page of `hub` and reports each of them as a test.
 * @param {import("node:test").TestContext} context
 * @param {import("playwright-core").Browser} browser
 * @param {{ url: string }} hub
 * @param {{ file: string, server: string }} parameters of the page
 */
export async function runInPage(context, browser, hub, parameters) {
  const page = await newPage(browser);
  try {
    await page.goto(`${hub.url}/repository/tests/browser/page/index.html?${new URLSearchParams(parameters)}`);
    await report(context, await page.evaluate(() => globalThis.results));
  } finally {
    await page.close();
  }
}

async function report(context, entries) {
  for (const { name, entries: inner, error } of entries) {
    await context.test(name, (context) => {
      if (inner) return report(context, inner);
      if (error) throw new Error(error);
    });
  }
}
