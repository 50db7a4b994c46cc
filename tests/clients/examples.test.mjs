/** The examples except `queue/` (queue-examples.test.mjs, test_queue_example.py), each with stock clients that do what its page does. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { ask, client, closeClients, connect, eventually, freshFolder, listen, next, startExample, startHub, within } from "./harness.mjs";
import { freePort } from "../ports.mjs";

const ROOT = path.resolve(import.meta.dirname, "../..");
const EXAMPLES = path.join(ROOT, "examples");
const LINES_MAX = 60;
const API_KEY = "a-key-of-the-tests";

const transports = ["websocket"];

/** Starts an example for the tests of a suite. */
function example(name, ...args) {
  const hub = {};
  before(async () => Object.assign(hub, await startExample(name, ...args)));
  afterEach(closeClients);
  after(() => hub.stop("SIGINT"));
  test("says where its page is, and serves it with the client", async () => {
    await eventually("address of the page", async () => hub.output(), (text) => text.includes(`open ${hub.url}/`));
    const page = await fetch(`${hub.url}/`);
    assert.equal(await page.text(), readFileSync(path.join(EXAMPLES, `${name}.html`), "utf8"));
    const library = await fetch(`${hub.url}/client/index.js`);
    assert.match(library.headers.get("content-type"), /^text\/javascript/);
    assert.equal((await fetch(`${hub.url}/client/..%2f..%2fCargo.toml`)).status, 404);
  });
  return hub;
}

/** The message with which the connection is refused. */
async function refusal(hub, auth) {
  const socket = client(hub, { transports, auth });
  const [error] = await next(socket, "connect_error");
  return error.message;
}

/** The error in the ack of an event. */
async function errorOf(socket, event, ...args) {
  const [reply] = await ask(socket, event, ...args);
  return reply.error;
}

describe("example chat", () => {
  const hub = example("chat");

  test("refuses bad names and connects the others", async () => {
    for (const auth of [undefined, {}, { name: 7 }, { name: "" }, { name: "a b" }, { name: "a".repeat(21) }]) {
      assert.equal(await refusal(hub, auth), "a name has 1 to 20 letters or digits", JSON.stringify(auth));
    }
    await connect(hub, { transports, auth: { name: "Ünal7" } });
  });

  test("messages and logins reach everyone", async () => {
    const ada = await connect(hub, { transports, auth: { name: "ada" } });
    const [joined, left] = [listen(ada, "joined"), listen(ada, "left")];
    const hears = (events, name) => eventually(name, async () => events.received.flat(), (names) => names.includes(name));
    const bob = await connect(hub, { transports, auth: { name: "bob" } });
    await hears(joined, "bob");
    const [seen, own] = [next(bob, "message"), next(ada, "message")];
    assert.deepEqual(await ask(ada, "message", "hello"), [{}]);
    assert.deepEqual([await seen, await own], [["ada", "hello"], ["ada", "hello"]]);
    bob.disconnect();
    await hears(left, "bob");
  });

  test("a message that is too long or no text gets an error", async () => {
    const ada = await connect(hub, { transports, auth: { name: "ada" } });
    for (const text of ["", "x".repeat(501)]) {
      assert.equal((await errorOf(ada, "message", text)).message, "a message has 1 to 500 characters");
    }
    for (const args of [[], [7], [{ text: "hello" }]]) assert.equal((await errorOf(ada, "message", ...args)).code, "bad_request");
    assert.deepEqual(await ask(ada, "message", "x".repeat(500)), [{}]);
  });
});

describe("example private_messages", () => {
  const hub = example("private_messages");
  const tab = (user) => connect(hub, { transports, auth: { user } });

  test("all tabs of both users receive a message once, and no other", async () => {
    const [ada, ada2, bob, bob2, eve] = await Promise.all(["ada", "ada", "bob", "bob", "eve"].map(tab));
    const heard = [ada, ada2, bob, bob2, eve].map((socket) => listen(socket, "private message"));
    assert.deepEqual(await ask(ada, "private message", "bob", "hello"), [{}]);
    assert.deepEqual(await ask(ada, "private message", "ada", "a note"), [{}]);
    assert.deepEqual(await ask(eve, "private message", "bob", "the end"), [{}]);
    const [toBob, note, end] = [["ada", "bob", "hello"], ["ada", "ada", "a note"], ["eve", "bob", "the end"]];
    const expected = [[toBob, note], [toBob, note], [toBob, end], [toBob, end], [end]];
    for (const [at, events] of expected.entries()) assert.deepEqual(await heard[at].count(events.length), events, `tab ${at}`);
  });

  test("a user who is away, a bad user and a bad message are errors", async () => {
    const ada = await tab("ada");
    for (const to of ["nobody", "", "n".repeat(300)]) {
      assert.equal((await errorOf(ada, "private message", to, "hello")).message, "this user is not connected");
    }
    assert.equal((await errorOf(ada, "private message", "ada", "")).message, "a message has 1 to 500 characters");
    assert.equal((await errorOf(ada, "private message", "ada", 7)).code, "bad_request");
    for (const auth of [{}, { user: "" }, { user: "u".repeat(21) }]) assert.match(await refusal(hub, auth), /expected 1 to 20 bytes/);
  });
});

describe("example rooms", () => {
  const hub = example("rooms");
  /** Waits for the members of a room as `socket` receives them. */
  const members = (socket, room, expected) => {
    const sorted = (sockets) => sockets.map((socket) => socket.id ?? socket).sort();
    const complete = new Promise((resolve) => {
      socket.on("members", (name, ids) => name === room && String(sorted(ids)) === String(sorted(expected)) && resolve());
    });
    return within(`members of ${room}`, complete);
  };

  test("members are announced when sockets join, leave and disconnect", async () => {
    const [one, two, three] = await Promise.all([1, 2, 3].map(() => connect(hub, { transports })));
    const all = members(one, "attic", [one, two, three]);
    for (const socket of [one, two, three]) assert.deepEqual(await ask(socket, "join", "attic"), [{}]);
    await all;
    const without = members(one, "attic", [one, three]);
    assert.deepEqual(await ask(two, "leave", "attic"), [{}]);
    await without;
    const alone = members(one, "attic", [one]);
    three.disconnect();
    await alone;
  });

  test("messages reach members, and typing the others among them", async () => {
    const [one, two, three] = await Promise.all([1, 2, 3].map(() => connect(hub, { transports })));
    for (const socket of [one, two]) await ask(socket, "join", "cellar");
    const [typing, message] = [next(two, "typing"), next(one, "message")];
    const [outside, own, typed] = [listen(three, "message"), listen(one, "typing"), listen(two, "typing")];
    // Not a member: neither is sent to the room.
    three.emit("typing", "cellar");
    assert.match((await errorOf(three, "message", "cellar", "hello")).message, /from a member of the room/);
    one.emit("typing", "cellar");
    assert.deepEqual(await typing, ["cellar", one.id]);
    assert.deepEqual(await ask(one, "message", "cellar", "hello"), [{}]);
    assert.deepEqual(await message, ["cellar", one.id, "hello"]);
    await ask(three, "leave", "cellar"); // a barrier: earlier events have arrived
    assert.deepEqual([outside.received, own.received, typed.received], [[], [], [["cellar", one.id]]]);
  });

  test("bad rooms and bad messages are errors", async () => {
    const one = await connect(hub, { transports });
    await ask(one, "join", "lobby");
    assert.equal((await errorOf(one, "join", "")).message, "room name is empty");
    assert.match((await errorOf(one, "join", "r".repeat(300))).message, /exceeds limit/);
    assert.equal((await errorOf(one, "join", 7)).code, "bad_request");
    for (const text of ["", "x".repeat(2001)]) assert.match((await errorOf(one, "message", "lobby", text)).message, /1 to 2000 bytes/);
  });
});

describe("example recovery", () => {
  const hub = example("recovery");

  test("numbers of the time without a connection arrive later", async () => {
    const socket = client(hub, { transports, reconnection: true, reconnectionDelay: 2_500, randomizationFactor: 0 });
    const [news, states] = [listen(socket, "news"), listen(socket, "state")];
    await news.count(1);
    socket.io.engine.close();
    await within("reconnection", new Promise((resolve) => socket.once("connect", resolve)), 10_000);
    assert.equal(socket.recovered, true);
    const numbers = (await news.count(4)).map(([number]) => number);
    assert.deepEqual(numbers, numbers.map((_, at) => numbers[0] + at));
    assert.equal(states.received.length, 1, "a recovered socket needs no state");
  });

  test("a new client receives the state", async () => {
    const [state] = await next(client(hub, { transports }), "state");
    assert.match(state, /from now on/);
  });
});

describe("example embedded", () => {
  const hub = example("embedded");
  const order = (body) =>
    fetch(`${hub.url}/orders`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

  test("a route of the application emits to sockets", async () => {
    const socket = await connect(hub, { transports });
    const arrived = next(socket, "order");
    assert.equal(await (await order({ dish: "soup" })).text(), "sent to the kitchen\n");
    assert.deepEqual(await arrived, [{ dish: "soup" }]);
  });

  test("bad orders get status 400", async () => {
    for (const body of [{}, { dish: 7 }, { dish: "" }, { dish: "x".repeat(101) }]) {
      assert.equal((await order(body)).status, 400, JSON.stringify(body));
    }
  });
});

describe("example beside_axum", () => {
  let hub;
  let hubPort;
  before(async () => {
    hubPort = await freePort();
    hub = await startExample("beside_axum", String(hubPort));
  });
  afterEach(closeClients);
  after(() => hub.stop("SIGINT"));
  const announce = (text) => fetch(`${hub.url}/announce`, { method: "POST", body: text });

  test("axum serves a page that names the hub", async () => {
    const page = await (await fetch(hub.url)).text();
    assert.ok(page.includes(`io("http://127.0.0.1:${hubPort}")`), page);
    const library = await fetch(`http://127.0.0.1:${hubPort}/client/index.js`, { headers: { origin: hub.url } });
    assert.equal(library.headers.get("access-control-allow-origin"), hub.url);
  });

  test("a handler of axum emits to sockets of the hub", async () => {
    const socket = await connect({ url: `http://127.0.0.1:${hubPort}` }, { transports });
    const arrived = next(socket, "announcement");
    assert.equal(await (await announce("closing at six")).text(), "announced");
    assert.deepEqual(await arrived, ["closing at six"]);
  });

  test("bad announcements get status 400", async () => {
    for (const text of ["", "x".repeat(501)]) assert.equal((await announce(text)).status, 400);
  });

  test("a port of the hub that is taken ends the program with its reason", async () => {
    await assert.rejects(startExample("beside_axum", String(hubPort)), /cannot listen on 127\.0\.0\.1/);
  });
});

describe("example durable", () => {
  const hub = example("durable", freshFolder());

  test("an order waits for its display, and leaves when it is done", async () => {
    const grill = () => client(hub, { transports, auth: { kitchen: "grill" } });
    const first = grill();
    await ask(first, "order"); // a barrier: its ack follows the attach
    first.disconnect();
    const till = await connect(hub, { transports });
    const [stored] = await ask(till, "order", "order-1", "soup");
    assert.equal(stored.pending_for, 2, "the display and the printer");
    assert.deepEqual(await ask(till, "order", "order-1", "soup"), [stored], "the same id is stored once");
    await eventually("print", async () => hub.output(), (text) => text.includes('printed "soup"'));

    const display = grill();
    const [dish, , done] = await next(display, "order");
    assert.equal(dish, "soup");
    done();
    display.disconnect();
    const pending = async () => {
      const socket = grill();
      const [{ pending }] = await next(socket, "stentor:attached");
      socket.disconnect();
      return pending;
    };
    await eventually("done order", pending, (count) => count === 0);
  });

  test("a kitchen with a bad name is refused, and so is an order without text", async () => {
    const display = client(hub, { transports, auth: { kitchen: "k".repeat(300) } });
    assert.match((await next(display, "refused"))[0], /exceeds limit/);
    const till = await connect(hub, { transports });
    assert.equal((await errorOf(till, "order", "order-2", 7)).code, "bad_request");
    assert.match((await errorOf(till, "order", "", "soup")).message, /dedup_id/);
  });
});

describe("example publish_from_outside", () => {
  let hub;
  before(async () => (hub = await startHub({ flags: ["--api-key", API_KEY, "--cors-origins", "http://127.0.0.1:8000"] })));
  afterEach(closeClients);
  after(() => hub.stop());

  /** Runs a script; resolves with its exit code and its output. */
  async function run(program, script, key, ...args) {
    const env = { ...process.env, STENTOR_API_KEY: key };
    const child = spawn(program, [path.join(EXAMPLES, "publish_from_outside", script), hub.url, ...args], { env });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
    const code = await within(`end of ${script}`, new Promise((resolve) => child.once("close", resolve)), 15_000);
    return { code, output };
  }

  const SCRIPTS = [
    ["sh", "publish.sh", "hello from curl", ['"closed"'], "closed"],
    ["python3", "publish.py", "hello from Python", ["closed"], "closed"],
  ];
  for (const [program, script, text, more, second] of SCRIPTS) {
    test(`${script} publishes to the members of a room`, async () => {
      const socket = await connect(hub, { transports });
      await ask(socket, "join", "lobby");
      const news = listen(socket, "news");
      const { code, output } = await run(program, script, API_KEY);
      assert.equal(code, 0, output);
      assert.match(output, /level/);
      assert.equal((await run(program, script, API_KEY, "lobby", ...more)).code, 0);
      assert.deepEqual(await news.count(2), [[text], [second]]);
    });

    test(`${script} prints the error of a wrong key`, async () => {
      const { code, output } = await run(program, script, "a wrong key");
      assert.notEqual(code, 0);
      assert.match(output, /the API key is wrong/);
    });
  }

  test("a page of another port may import the client", async () => {
    const library = await fetch(`${hub.url}/client/index.js`, { headers: { origin: "http://127.0.0.1:8000" } });
    assert.equal(library.headers.get("access-control-allow-origin"), "http://127.0.0.1:8000");
  });
});

describe("the files of the examples", () => {
  const files = readdirSync(EXAMPLES, { recursive: true }).filter((file) => /\.(rs|html)$/.test(file));

  test(`programs and pages have at most ${LINES_MAX} lines`, () => {
    assert.ok(files.length > 10, String(files));
    const lines = files.map((file) => [file, readFileSync(path.join(EXAMPLES, file), "utf8").trimEnd().split("\n").length]);
    assert.deepEqual(lines.filter(([, count]) => count > LINES_MAX), []);
  });

  test("each has a row in the table of README.md", () => {
    const readme = readFileSync(path.join(EXAMPLES, "README.md"), "utf8");
    const entries = readdirSync(EXAMPLES).filter((name) => !["README.md", "page"].includes(name) && !name.endsWith(".html"));
    const rows = readme.split("\n").filter((line) => line.startsWith("| ["));
    const missing = entries.filter((name) => !rows.some((row) => row.includes(`(${name}`)));
    assert.deepEqual(missing, []);
  });
});
