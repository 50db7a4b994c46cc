/** Headless Chromium of Debian, and pages in it. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { chromium } from "playwright-core";
import { freshFolder, startHub } from "../clients/harness.mjs";

const EXECUTABLE = process.env.CHROMIUM ?? "/usr/bin/chromium";

/**
 * Features of Chromium that are off: the pages of its address bar, which take as long as the tested
 * page, and those of Playwright's own list, which this one replaces.
 */
const DISABLED = [
  "WebUIOmniboxPopup",
  "WebUIOmniboxAimPopup",
  "AimEnabled",
  "AvoidCorsURLLoaderRestartOnRedirect",
  "AvoidUnnecessaryBeforeUnloadCheckSync",
  "DestroyProfileOnBrowserClose",
  "HttpsFirstBalancedModeAutoEnable",
  "HttpsUpgrades",
  "LensOverlay",
  "MediaRouter",
  "NetworkTimeServiceQuerying",
  "OptimizationHints",
  "PaintHolding",
  "PreconnectToSearch",
  "ThirdPartyStoragePartitioning",
];

/** Deadline of a condition, which may need a reconnection; that may wait up to seven seconds. */
const FACT_MS = 12_000;

export const REPOSITORY = path.resolve(import.meta.dirname, "../..");

/** Path under which a page finds the files of this repository, on any server. */
const PREFIX = "/repository/";

/** @param {string} [fonts] the only folder whose fonts the browser finds; without it those of this machine */
export async function launch(fonts) {
  // Containers run as root without the privileges of the sandbox; all pages come from this
  // repository.
  const options = { executablePath: EXECUTABLE, args: ["--no-sandbox", "--disable-dev-shm-usage", `--disable-features=${DISABLED}`] };
  if (!fonts) return chromium.launch(options);
  const folder = mkdtempSync(path.join(tmpdir(), "stentor-fonts-"));
  const file = path.join(folder, "fonts.conf");
  writeFileSync(file, `<fontconfig><dir>${fonts}</dir><cachedir>${folder}</cachedir></fontconfig>`);
  const browser = await chromium.launch({ ...options, env: { ...process.env, FONTCONFIG_FILE: file } });
  browser.once("disconnected", () => rmSync(folder, { recursive: true, force: true }));
  return browser;
}

/**
 * A page that also finds the files of this repository, under the origin of its server.
 * @param {import("playwright-core").Browser} browser
 */
export async function newPage(browser) {
  // Otherwise a page set by content instead of loading may not reach this machine.
  const page = await browser.newPage({ permissions: ["local-network-access"] });
  await page.route(
    (url) => url.pathname.startsWith(PREFIX),
    (route) => route.fulfill({ path: path.join(REPOSITORY, new URL(route.request().url()).pathname.slice(PREFIX.length)) }),
  );
  return page;
}

/**
 * Number of tests of a file that run at the same time. They wait for movements and reconnections
 * most of the time.
 */
export const CONCURRENCY = 3;

/**
 * Starts a hub for one test, and a browser context with its pages. Both end after the test.
 * @param {import("node:test").TestContext} test
 * @param {import("playwright-core").Browser} browser
 * @param {Parameters<typeof startHub>[0]} server
 * @param {import("playwright-core").BrowserContextOptions} [options]
 */
export async function scene(test, browser, server, options) {
  const folder = freshFolder();
  const start = (port) => startHub({ ...server, folder, port });
  let hub = await start();
  let context;
  test.after(async () => {
    await context?.close();
    hub.assertRunning();
    if (hub.running()) await hub.stop();
  });
  context = await browser.newContext({ viewport: WIDE, ...options });
  return {
    url: hub.url,
    open: () => openTab(context, hub.url),
    kill: () => hub.kill(),
    /** Starts a killed hub again, with its port and its folder. */
    restart: async () => (hub = await start(hub.port)),
  };
}

/** Messages that browsers log by themselves when a server does not answer or refuses. */
const NETWORK = /^(Failed to load resource|WebSocket connection to|Access to fetch)/;

// Chromium writes this when the client itself gives up a websocket that is still connecting, such as
// the client library does when a connection ends during its upgrade. No server can cause it.
const GIVEN_UP = /^WebSocket connection to .* failed: WebSocket is closed before the connection is established\.$/;

/**
 * A tab with the demo page of `url`, once it is connected.
 * @param {import("playwright-core").BrowserContext} context
 * @param {string} url
 */
export async function openTab(context, url) {
  const page = await watchedPage(context);
  await page.goto(url);
  await page.waitForSelector("body[data-connected]");
  // The room is joined.
  await page.waitForSelector("#rooms .badge");
  return page;
}

/**
 * A page in a window of its own: a tab behind another one draws a frame a second, and clicks wait
 * for frames.
 * @param {import("playwright-core").BrowserContext} context
 */
async function newWindow(context) {
  const [first] = context.pages();
  if (!first) return context.newPage();
  const ofPage = await context.newCDPSession(first);
  const { targetInfo } = await ofPage.send("Target.getTargetInfo");
  const devtools = await context.browser().newBrowserCDPSession();
  const { browserContextId } = targetInfo;
  const [page] = await Promise.all([
    context.waitForEvent("page"),
    devtools.send("Target.createTarget", { url: "about:blank", newWindow: true, browserContextId }),
  ]);
  await Promise.all([ofPage.detach(), devtools.detach()]);
  return page;
}

/**
 * A page that records console errors, exceptions, and layout shifts.
 * @param {import("playwright-core").BrowserContext} context
 */
export async function watchedPage(context) {
  const page = await newWindow(context);
  /** @type {string[]} */
  const errors = [];
  page.on("console", (message) => {
    const isError = ["error", "warning"].includes(message.type());
    if (isError && !GIVEN_UP.test(message.text())) errors.push(message.text());
  });
  page.on("pageerror", (error) => errors.push(`thrown: ${error.stack}`));
  await page.addInitScript(() => {
    globalThis.shifts = [];
    // Layout shifts right after a click or key are expected.
    const note = (/** @type {any} */ { value, sources, hadRecentInput }) =>
      hadRecentInput || globalThis.shifts.push(`${value}: ${sources.map(moved)}`);
    const moved = (/** @type {any} */ { node, previousRect: from, currentRect: to }) =>
      `${node?.outerHTML?.slice(0, 80)} from ${from.x},${from.y} ${from.width}×${from.height} to ${to.x},${to.y} ${to.width}×${to.height}`;
    new PerformanceObserver((list) => list.getEntries().forEach(note)).observe({ type: "layout-shift", buffered: true });
  });
  return Object.assign(page, { errors });
}

/**
 * Loads the demo page at `url` line by line, and paints after each line.
 * @param {import("playwright-core").Browser} browser
 * @param {string} url of a hub
 * @param {number} width in pixels
 * @returns {Promise<string[]>} its layout shifts
 */
export async function shiftsLineByLine(browser, url, width) {
  let answered;
  const asked = new Promise((resolve) => (answered = resolve));
  const slow = createServer(async (request, response) => {
    // A poll may outlast the page or the hub.
    const answer = await fetch(url + request.url).catch(() => null);
    if (!answer) return response.destroy();
    const body = Buffer.from(await answer.arrayBuffer().catch(() => []));
    response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") });
    if (request.url === "/") answered({ response, lines: body.toString().split(/(?<=\n)/) });
    else response.end(body);
  }).listen(0, "127.0.0.1");
  await once(slow, "listening");
  const context = await browser.newContext({ viewport: { ...WIDE, width }, permissions: ["local-network-access"] });
  try {
    const page = await watchedPage(context);
    const loaded = page.goto(`http://127.0.0.1:${slow.address().port}`);
    // Its failure is reported where it is awaited.
    loaded.catch(() => {});
    const { response, lines } = await Promise.race([asked, loaded]);
    const head = lines.findIndex((line) => line.includes("<body"));
    response.write(lines.splice(0, head + 1).join(""));
    await page.locator("body").waitFor({ state: "attached" });
    for (const line of lines) {
      response.write(line);
      await page.evaluate(() => new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted))));
    }
    response.end();
    await loaded;
    return await page.evaluate(() => globalThis.shifts);
  } finally {
    await context.close();
    slow.closeAllConnections();
    slow.close();
  }
}

/**
 * Higher than the page: a screenshot larger than the window would resize it and shift the layout.
 */
export const WIDE = { width: 1440, height: 2480 };

/**
 * Takes a screenshot for manual inspection; git ignores the folder.
 * @param {import("playwright-core").Page} page
 * @param {string} name
 * @param {object} [options]
 */
export async function picture(page, name, options) {
  await page.screenshot({ path: path.join(REPOSITORY, "screenshots", `${name}.png`), ...options });
}

/** @param {import("playwright-core").Page} tab */
export const nameOf = (tab) => tab.locator("#me .badge").evaluate((badge) => badge.firstChild.textContent);

/**
 * Waits until the text of an element matches.
 * @param {import("playwright-core").Page} tab
 * @param {string} selector
 * @param {RegExp} pattern
 */
export async function says(tab, selector, pattern) {
  const matches = ([selector, source]) => new RegExp(source).test(document.querySelector(selector)?.textContent ?? "");
  try {
    await tab.waitForFunction(matches, [selector, pattern.source], { timeout: FACT_MS });
  } catch {
    assert.match((await tab.locator(selector).allTextContents()).join("\n"), pattern, selector);
  }
}

/** Checks that the console has no errors and that nothing shifted without input. */
export async function isCalm(...tabs) {
  for (const tab of tabs) {
    assert.deepEqual(tab.errors, [], "errors in the console");
    assert.deepEqual(await tab.evaluate(() => globalThis.shifts), [], "layout shifts");
  }
}

/** Checks that the console has no errors but those of a server that was unreachable. */
export async function saysOnlyNetwork(tab) {
  assert.deepEqual(tab.errors.filter((error) => !NETWORK.test(error)), [], "errors in the console");
  assert.deepEqual(await tab.evaluate(() => globalThis.shifts), [], "layout shifts");
}
