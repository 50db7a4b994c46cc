/**
 * The story of the pictures in docs/pictures: two orders wait while the connection of kitchen is cut,
 * and arrive in order once it is back.
 */

import assert from "node:assert/strict";
import { nameOf, says } from "./browser.mjs";

/** Ends below the stage, where no text is cut. */
export const STORY = { viewport: { width: 960, height: 600 } };

/** Packet of Engine.IO with which a client ends its upgrade to websocket. */
const UPGRADE = "5";

const POLLING = /transport=polling/;

/**
 * @param {import("playwright-core").Page} tab subscribes as kitchen
 * @param {import("playwright-core").Page} other publishes the orders
 * @param {(state: string) => unknown} frame called in each state, once the page shows it
 */
export async function tellStory(tab, other, frame) {
  const shows = async (state) => {
    // A button is not drawn as if pointed at.
    await tab.mouse.move(0, 0);
    await tab.waitForFunction(isStill);
    await frame(state);
  };
  await says(tab, "#upgraded", /^upgraded/);
  await says(tab, "#others", new RegExp(await nameOf(other)));
  await says(tab, "#queue-state", /^Empty\. Nothing is kept before kitchen has subscribed/);
  await shows("not subscribed");

  const { connection } = await nextConnection(tab);
  await tab.click("#subscribe");
  await says(tab, "#subscriber-state", /^open in this tab$/);
  await says(tab, "#pending", /^0 pending$/);
  await shows("subscribed");

  const { cut, restore } = await connection;
  await cut();
  await says(tab, "#subscriber-state", /^away, retrying$/);
  await shows("cut");

  for (const [count, text] of [[1, "soup"], [2, "bread"]]) {
    await other.fill("#text", text);
    await other.click("#order");
    await says(tab, "#pending", new RegExp(`^${count} pending$`));
    await shows(`${count} pending`);
  }

  await restore();
  await says(tab, "#subscriber-state", /^open in this tab$/);
  await says(tab, "#deliveries", /bread/);
  assert.deepEqual(await tab.locator("#deliveries b").allTextContents(), ["soup", "bread"]);
  await shows("delivered");

  for (const [count, text] of [[1, "soup"], [0, "bread"]]) {
    await tab.click(`[aria-label="Ack ${text}"]`);
    await says(tab, "#pending", new RegExp(`^${count} pending$`));
    await shows(`acknowledged ${text}`);
  }
}

/** Runs in the page: true if nothing moves and each event of the count has its chip. */
export const isStill = () =>
  document.getAnimations().length === 0 &&
  document.querySelectorAll(".chip").length === Number.parseInt(document.getElementById("pending").textContent || "0");

/**
 * Prepares to cut the next connection of the page, which cannot reconnect before `restore`.
 * @param {import("playwright-core").Page} tab whose other connections are over websocket
 * @returns `connection`, which resolves once that connection is over websocket too
 */
async function nextConnection(tab) {
  let upgraded;
  const connection = new Promise((resolve) => (upgraded = resolve));
  await tab.routeWebSocket(/./, (client) => {
    const server = client.connectToServer();
    const cut = async () => {
      // Messages that the page still sends are lost.
      client.onMessage(() => {});
      await tab.route(POLLING, (route) => route.abort());
      await Promise.all([client.close(), server.close()]);
    };
    client.onMessage((message) => {
      server.send(message);
      if (message === UPGRADE) upgraded({ cut, restore: () => tab.unroute(POLLING) });
    });
  });
  return { connection };
}
