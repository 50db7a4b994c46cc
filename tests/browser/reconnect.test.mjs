/**
 * The demo page while a connection is lost and restored: cut by the tab itself, or by the end of
 * its server.
 */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { CONCURRENCY, isCalm, launch, nameOf, picture, says, saysOnlyNetwork, scene } from "./browser.mjs";

describe("a tab that was disconnected", { concurrency: CONCURRENCY }, () => {
  let browser;
  before(async () => (browser = await launch()));
  after(() => browser?.close());

  /** A hub with this recovery, and as many tabs. */
  const open = async (test, recovery, count) => {
    const server = await scene(test, browser, { recovery });
    const tabs = [];
    for (let n = 0; n < count; n += 1) tabs.push(await server.open());
    return [...tabs, server];
  };
  const cut = async (tab) => {
    await tab.click("#offline");
    await says(tab, "#offline", /^Reconnect$/);
    await tab.waitForSelector("body:not([data-connected])");
  };
  const publish = async (tab, text) => {
    await tab.fill("#text", text);
    await tab.click("#publish");
    await says(tab, "#server-outcome", new RegExp(`received “${text}”`));
  };

  test("missed events are counted and marked on return, volatile ones lost", async (t) => {
    const [one, two] = await open(t, "memory", 2);
    const name = await nameOf(one);
    const other = await nameOf(two);
    await says(one, "#stage", new RegExp(other));
    await one.click("#emit");
    await says(one, "#client-outcome", new RegExp(`The server received “event 1” and sent its ack. ${other} received nothing.`));
    await publish(one, "hello, everybody");
    await cut(one);
    await says(two, "#rooms", new RegExp(`${name}’s second connection`));
    await publish(two, "for everybody");
    await one.click("#while-plain");
    await one.click("#while-volatile");
    await says(one, "#away-outcome", /Missed so far: 2 events stored by the server, 1 volatile event not stored\./);
    await says(one, "#stage .server .caption", /^keeps 2 for this tab$/);
    assert.equal(await one.locator("#stored [data-fate=missed]").count(), 2);
    assert.doesNotMatch(await one.locator("#server-outcome").textContent(), /for everybody/);
    await says(one, "#log", /“event 1” was published in lobby by this page’s second connection\. This tab missed it/);
    await picture(one, "away-missing");

    await one.click("#offline");
    await says(one, "#away-outcome", /Reconnected after \d+ s\. 2 of 2 missed events recovered\. 1 volatile event lost\./);
    assert.deepEqual(await one.locator("#stored [data-fate=recovered]").allTextContents(), [
      `for everybodyrecovered · from ${other}`,
      "event 1recovered · from this page’s second connection",
    ]);
    assert.deepEqual(await one.locator("#volatile [data-fate=lost]").allTextContents(), ["volatile 1lost · from this page’s second connection"]);
    await one.locator("#log .bad", { hasText: /1 volatile event lost/ }).waitFor();
    assert.doesNotMatch((await one.locator("#log .good").allTextContents()).join(), /lost/);
    await says(one, "#log", /Recovered: “event 1”, published in lobby by this page’s second connection/);
    await says(one, "#log", /Recovered: “for everybody”, published in lobby by .* while this tab was disconnected/);
    assert.equal(await nameOf(one), name);
    await picture(one, "away-returned");

    await publish(two, "now live");
    await says(one, "#server-outcome", /now live/);
    assert.equal(await one.locator("#stored li").count(), 2);
    await one.waitForFunction(() => !/second connection/.test(document.querySelector("#rooms").textContent));
    await isCalm(one, two);
  });

  test("its own disconnect is not reported as the server's", async (t) => {
    const [one] = await open(t, "memory", 1);
    const stage = (name) => one.locator(`[data-stage=${name}] span`).textContent();
    const untouched = async () => assert.deepEqual(await Promise.all(["gone", "retrying", "back"].map(stage)), ["–", "–", "–"]);
    await one.waitForSelector("[data-stage=connected][data-now]");
    await cut(one);
    await untouched();
    await one.click("#offline");
    await says(one, "#away-outcome", /Reconnected after \d+ s\. No event was published meanwhile\./);
    await untouched();
    await one.waitForSelector("[data-stage=connected][data-now]");
    assert.deepEqual(await one.locator("#survivors dd").allTextContents(), ["–", "–", "–", "–"]);
    await isCalm(one);
  });

  test("a reconnect without a server is reported as the server's fault", async (t) => {
    const [one, server] = await open(t, "disk", 1);
    await cut(one);
    await server.kill();
    await one.click("#offline");
    await says(one, "[data-stage=gone]", /\d\d:\d\d:\d\d/);
    await server.restart();
    await says(one, "[data-stage=back]", /after \d+ s/);
    await saysOnlyNetwork(one);
  });

  test("without a connection it shows no rooms, gaps or listeners", async (t) => {
    const [one, two, server] = await open(t, "disk", 2);
    await says(one, "#stage", new RegExp(await nameOf(two)));
    await publish(one, "before");
    await says(one, "#rooms-outcome", /receives its events/);
    await says(one, "#away-outcome", /No event missed so far/);
    await server.kill();
    await says(one, "#rooms-outcome", /Without a connection this tab receives no events/);
    await says(one, "#away-outcome", /No connection: missed events are shown after the reconnect/);
    assert.equal(await one.locator("#stored").getAttribute("data-empty"), "unknown while disconnected");
    await says(one, "#stage .server", /Server[^]*unreachable/);
    await says(one, "#others", /unknown/);
    assert.equal(await one.locator("#stage [data-mood=received]").count(), 0);
    assert.ok(await one.locator(".buffered").isHidden());
    for (const [n, button] of ["#emit", "#publish"].entries()) {
      await one.click(button);
      await says(one, ".me[data-mood=waits] .buffered", new RegExp(`^${n + 1} buffered$`));
    }
    await server.restart();
    await says(one, "#rooms-outcome", /This tab is still in its rooms and receives/);
    await says(one, "#away-outcome", /No stored event was missed|recovered/);
    assert.equal(await one.locator("#stored").getAttribute("data-empty"), "none missed");
    await says(one, "#log", /It was buffered for \d+ s; then the server received it and sent its ack after \d+ ms/);
    await one.locator(".buffered").waitFor({ state: "hidden" });
    await saysOnlyNetwork(one);
  });

  test("its own publishes while disconnected get their outcome", async (t) => {
    const [one, two] = await open(t, "memory", 2);
    await says(one, "#stage", new RegExp(await nameOf(two)));
    await publish(one, "before");
    await cut(one);
    await says(one, "#server-outcome", /unreachable/);
    assert.doesNotMatch(await one.locator("#client-outcome, #server-outcome").allTextContents().then(String), /received/);
    await one.fill("#text", "my own");
    await one.click("#publish");
    await says(one, "#server-outcome", /“my own” is buffered in this tab/);
    await one.click("#offline");
    await says(one, "#server-outcome", /“my own” was buffered for \d+ s; then the server published it|received “my own”, published by this tab/);
    await says(one, "#away-outcome", /No event was published meanwhile/);
    await says(one, "#log", /“my own” to the room lobby, published by this tab/);
    await says(two, "#server-outcome", new RegExp(`received “my own”, published by ${await nameOf(one)}`));
    assert.equal(await one.locator("#stored li").count(), 0);
    for (const tab of [one, two]) assert.doesNotMatch(await tab.locator("#log").textContent(), /a disconnected tab/);
    await isCalm(one, two);
  });

  test("a join lost in transit is repeated though the session is recovered", async (t) => {
    const [one] = await open(t, "memory", 1);
    await cut(one);
    await one.fill("#join-room", "attic");
    await one.click("#join-form button");
    await says(one, "#rooms-outcome", /Could not join attic/);
    await one.click("#offline");
    await says(one, "#away-outcome", /Reconnected after/);
    await says(one, "#rooms [data-room=attic]", /this tab/);
  });

  test("its button names its action and does nothing without a server", async (t) => {
    const [one, server] = await open(t, "disk", 1);
    const button = one.getByRole("button", { name: "Disconnect" });
    const beside = () => one.locator("#while-volatile").evaluate((next) => next.getBoundingClientRect().x);
    const before = await beside();
    assert.ok(await button.isEnabled());
    await server.kill();
    await says(one, "#detail", /No answer/);
    await says(one, "#offline", /^Disconnect$/);
    assert.ok(await button.isDisabled());
    await server.restart();
    await one.waitForSelector("#offline[aria-disabled=false]");
    await cut(one);
    assert.ok(await one.getByRole("button", { name: "Reconnect" }).isEnabled());
    assert.equal(await beside(), before, "its name does not move the next button");
    await saysOnlyNetwork(one);
  });

  test("a server without recovery is labelled as one", async (t) => {
    const [one] = await open(t, "off", 1);
    await cut(one);
    await one.click("#while-plain");
    await says(one, "#away-outcome", /1 event not stored: recovery is off/);
    await one.click("#offline");
    await says(one, "#away-outcome", /The server could not recover this session: 1 event lost\./);
    await says(one, "#rooms .members", /this tab/);
    await isCalm(one);
  });

  test("a killed server: gone, retried, back, and no event lost", async (t) => {
    const [one, two, server] = await open(t, "disk", 2);
    const name = await nameOf(one);
    await publish(one, "before");
    await server.kill();
    await says(one, "#state", /Connection lost|Not connected/);
    await one.fill("#text", "meanwhile");
    await one.click("#emit");
    await says(one, "#client-outcome", /“meanwhile” is buffered in this tab/);
    await says(one, "#detail", /No answer at .*: is the server running\?/);
    await says(one, "[data-stage=retrying]", /attempt \d+/);
    await picture(one, "server-gone");

    // Until the button is pressed every attempt fails: a successful one would disable it.
    await one.locator("#try-now").evaluate((button) => button.addEventListener("click", () => (globalThis.pressed = true)));
    await one.route("**/socket.io/**", async (route) => ((await one.evaluate(() => globalThis.pressed)) ? route.continue() : route.abort()));
    await server.restart();
    await one.click("#try-now");
    await says(one, "#log", /Retrying on request\./);
    await says(one, "[data-stage=back]", /after \d+ s/);
    await one.unrouteAll({ behavior: "ignoreErrors" });
    await says(one, "#client-outcome", /The server received “meanwhile”/);
    assert.equal(await nameOf(one), name);
    assert.deepEqual(
      await one.locator("#survivors dd").allTextContents(),
      ["the same", "recovered", "none", "1, sent now"],
    );
    await picture(one, "server-back");
    await says(two, "#state", /Connected/);
    await publish(two, "as before");
    await says(one, "#server-outcome", /as before/);
    await saysOnlyNetwork(one);
    await saysOnlyNetwork(two);
  });

  test("a server restarted without memory: reported, and rooms joined again", async (t) => {
    const [one, server] = await open(t, "memory", 1);
    const name = await nameOf(one);
    await server.kill();
    await says(one, "#detail", /No answer/);
    await server.restart();
    await says(one, "#survivor-id", /a new one/);
    await says(one, "#survivor-rooms", /joined again/);
    assert.notEqual(await nameOf(one), name);
    await says(one, "#rooms .members", /this tab/);
    await publish(one, "received again");
    await saysOnlyNetwork(one);
  });
});
