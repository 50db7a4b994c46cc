/** Debian's Chromium without a window, and pages in it. */

import path from "node:path";
import { chromium } from "playwright-core";

const EXECUTABLE = process.env.CHROMIUM ?? "/usr/bin/chromium";

export const REPOSITORY = path.resolve(import.meta.dirname, "../..");

/** The path under which a page finds the files of this repository, whichever server it comes from. */
const PREFIX = "/repository/";

export async function launch() {
  // Containers run as root and without the privileges that the sandbox needs; pages come from this repository alone.
  return chromium.launch({ executablePath: EXECUTABLE, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

/**
 * A page that finds the files of this repository beside what its server serves, so that they share an origin.
 * @param {import("playwright-core").Browser} browser
 */
export async function newPage(browser) {
  // A page that was put there instead of fetched may otherwise not reach this machine.
  const page = await browser.newPage({ permissions: ["local-network-access"] });
  await page.route(
    (url) => url.pathname.startsWith(PREFIX),
    (route) => route.fulfill({ path: path.join(REPOSITORY, new URL(route.request().url()).pathname.slice(PREFIX.length)) }),
  );
  return page;
}
