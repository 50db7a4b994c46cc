/** The pages of the examples, as a visitor uses them. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { startExample, startHub } from "../clients/harness.mjs";
import { accepts, freePort } from "../ports.mjs";
import { CONCURRENCY, launch, REPOSITORY, says, watchedPage } from "./browser.mjs";

describe("the pages of the examples", { concurrency: CONCURRENCY }, () => {
  let browser;
  before(async () => (browser = await launch()));
  after(() => browser?.close());

  /** Starts an example; the result opens its page with a query. */
  async function example(test, name, ...args) {
    const hub = await startExample(name, ...args);
    const context = await browser.newContext({ permissions: ["local-network-access"] });
    test.after(async () => {
      await context.close();
      await hub.stop("SIGINT");
    });
    return async (query = "") => {
      const page = await watchedPage(context);
      await page.goto(`${hub.url}/${query}`);
      return page;
    };
  }

  /** Checks that the console has no errors. Text that arrives may move what is below it. */
  const isQuiet = (...pages) => {
    for (const page of pages) assert.deepEqual(page.errors, [], "errors in the console");
  };

  const send = async (page, form, field, text) => {
    await page.fill(`#${form} [name=${field}]`, text);
    await page.click(`#${form} button:not([type=button])`);
  };

  test("chat", async (t) => {
    const page = await (await example(t, "chat"))();
    await send(page, "login", "name", "no name");
    await says(page, "#state", /Not connected: a name has 1 to 20 letters or digits\./);
    await send(page, "login", "name", "ada");
    await says(page, "#state", /Logged in as ada/);
    await send(page, "message", "text", "");
    await says(page, "#state", /Not sent: a message has 1 to 500 characters/);
    await send(page, "message", "text", "hello");
    await says(page, "#log", /ada: hello/);
    isQuiet(page);
  });

  test("private_messages", async (t) => {
    const open = await example(t, "private_messages");
    const [ada, other, bob] = [await open("?user=ada"), await open("?user=ada"), await open("?user=bob")];
    for (const page of [ada, other, bob]) await says(page, "#state", /Connected as/);
    await send(ada, "message", "text", "hello");
    for (const page of [ada, other, bob]) await says(page, "#log", /^ada to bob: hello$/);
    isQuiet(ada, other, bob);
  });

  test("rooms", async (t) => {
    const open = await example(t, "rooms");
    const [one, two] = [await open(), await open()];
    await says(one, "#members", /^(this tab, [^,]+|[^,]+, this tab)$/);
    await one.type("[name=text]", "hi");
    await says(two, "#typing", /is typing in lobby/);
    await one.click("#form button:not([type])");
    await says(two, "#log", /lobby, .+: hi/);
    await two.click("[name=leave]");
    await says(one, "#members", /^this tab$/);
    isQuiet(one, two);
  });

  test("recovery", async (t) => {
    const page = await (await example(t, "recovery"))();
    await says(page, "#log", /\d/);
    await page.click("#cut");
    await says(page, "#state", /Not connected/);
    await says(page, "#state", /Connected again, recovered/);
    await says(page, "#log", /… \d+ \d+ \d+/);
    await says(page, "#missing", /^0$/);
    isQuiet(page);
  });

  test("embedded", async (t) => {
    const page = await (await example(t, "embedded"))();
    await says(page, "#state", /Connected/);
    await send(page, "order", "dish", "stew");
    await says(page, "#log", /stew/);
    isQuiet(page);
  });

  test("beside_axum", async (t) => {
    const page = await (await example(t, "beside_axum", String(await freePort())))();
    await says(page, "#state", /Connected to the hub/);
    await send(page, "announcement", "text", "closing at six");
    await says(page, "#log", /closing at six/);
    isQuiet(page);
  });

  test("durable", async (t) => {
    const open = await example(t, "durable");
    const first = await open("?kitchen=grill");
    await says(first, "#state", /0 orders pending/);
    await first.close();
    const till = await open();
    await says(till, "#state", /Connected/);
    await send(till, "till", "dish", "soup");
    await says(till, "#state", /Stored, pending for 2 subscribers/);
    const display = await open("?kitchen=grill");
    await says(display, "#log", /soup/);
    await display.click("#log button");
    await says(display, "#log", /^$/);
    isQuiet(till, display);
  });

  test("publish_from_outside", async (t) => {
    const port = await freePort();
    const key = "a-key-of-the-tests";
    const hub = await startHub({ flags: ["--api-key", key, "--cors-origins", `http://127.0.0.1:${port}`] });
    const folder = path.join(REPOSITORY, "examples/publish_from_outside");
    const files = spawn("python3", ["-u", "-m", "http.server", String(port), "--bind", "127.0.0.1", "--directory", folder]);
    const context = await browser.newContext({ permissions: ["local-network-access"] });
    t.after(async () => {
      await context.close();
      files.kill();
      await hub.stop();
    });
    await once(files.stdout, "data");
    const page = await watchedPage(context);
    await page.goto(`http://127.0.0.1:${port}/?port=${hub.port}`);
    await says(page, "#state", /In the room lobby/);
    await once(spawn("sh", [path.join(folder, "publish.sh"), hub.url], { env: { ...process.env, STENTOR_API_KEY: key } }), "close");
    await says(page, "#log", /hello from curl/);
    isQuiet(page);
  });

  test("login", async (t) => {
    const port = await freePort();
    const keys = { STENTOR_TOKEN_HMAC_KEY: "token-key-of-the-tests-0123456789", STENTOR_HOOKS_KEY: "hooks-key-of-the-tests" };
    const backEnd = `http://127.0.0.1:${port}`;
    const flags = ["--token-hmac-key", keys.STENTOR_TOKEN_HMAC_KEY, "--hooks-key", keys.STENTOR_HOOKS_KEY, "--hooks", "publish"];
    const hub = await startHub({ flags: [...flags, "--hooks-url", `${backEnd}/hooks`, "--cors-origins", backEnd] });
    const script = path.join(REPOSITORY, "examples/login/back_end.py");
    const program = spawn("python3", [script, String(port)], { env: { ...process.env, ...keys }, stdio: "ignore" });
    const contexts = [];
    t.after(async () => {
      for (const context of contexts) await context.close();
      program.kill();
      await hub.stop();
    });
    while (!(await accepts(port))) assert.equal(program.exitCode, null, "the back end ended");
    const open = async (name, password) => {
      const context = await browser.newContext({ permissions: ["local-network-access"] });
      contexts.push(context);
      const page = await watchedPage(context);
      await page.goto(`${backEnd}/?port=${hub.port}`);
      await page.fill("#login [name=name]", name);
      await send(page, "login", "password", password);
      await says(page, "#state", /^Connected\.$/);
      return page;
    };
    const [ada, bob] = [await open("ada", "analytical"), await open("bob", "builder")];
    await send(ada, "message", "text", "hello");
    for (const page of [ada, bob]) await says(page, "#log", /ada: hello/);
    await bob.fill("#message [name=room]", "chat:staff");
    await send(bob, "message", "text", "me too");
    await says(bob, "#state", /^Not sent: /);
    await send(ada, "message", "text", "");
    await says(ada, "#state", /^Not sent: a message has 1 to 500 characters/);
    isQuiet(ada, bob);
  });
});
