/**
 * The fenced blocks of README.md, docs/ and two more pages. A page has a folder and a server, and its
 * blocks run in order, as for a reader who follows it:
 *
 * - `sh` runs with `bash -eu`, `js` as a module of Node with watched clients, `python` with the
 *   client of tests/clients/python, `html` in Chromium. Ports 3000 and 8000 are replaced. With
 *   `service` behind the language, the block runs until the page ends; with `stopped`, the server
 *   does not run meanwhile. A service that starts `stentor serve` takes the place of the page's own
 *   server.
 * - `toml` is checked by `stentor config check` or, with dependencies, against Cargo.toml; `json` is
 *   parsed; `rust` is compiled by `cargo test --doc`.
 * - `<!-- snippet: … -->` above a block holds code that the block leaves out.
 */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { launch, newPage } from "../browser/browser.mjs";
import { files, markdownFiles, parse, read, ROOT } from "./markdown.mjs";
import { BINARY, checkNames, checkUnrun, NOT_RUN } from "./not-run.mjs";
import { asModule, implied, startsServer, Terminal } from "./terminal.mjs";

const STOCK_BUNDLE = path.join(import.meta.dirname, "../clients/node_modules/socket.io-client/dist");

const PAGES = markdownFiles().filter((file) => ["README.md", "examples/README.md", "static/client/README.md"].includes(file) || file.startsWith("docs/"));

const RUN = ["sh", "js", "python", "html"];
/** Output, drawings, and the configuration of other programs. */
const UNCHECKED = ["text", "nginx", "caddy", "ini", "yaml"];
const WORDS = { sh: ["service", "stopped"], js: ["service"], python: ["service"], rust: ["no_run"] };

const firstLine = (block) => block.text.split("\n").find((line) => line.trim() !== "")?.trim() ?? "";
const notRun = (page, block) => NOT_RUN.find((entry) => entry.page === page && entry.first === firstLine(block));

function checkToml(block) {
  const file = path.join(os.tmpdir(), `stentor-docs-${process.pid}.toml`);
  writeFileSync(file, block.text);
  try {
    if (/^\[(\w+-)?dependencies/m.test(block.text)) {
      const script = "import json, sys, tomllib; print(json.dumps(tomllib.load(open(sys.argv[1], 'rb'))))";
      const { dependencies = {} } = JSON.parse(execFileSync("python3", ["-c", script, file], { encoding: "utf8" }));
      for (const feature of dependencies.stentor?.features ?? []) assert.match(read("Cargo.toml"), new RegExp(`^${feature} = \\[`, "m"));
    } else {
      const checked = spawnSync(BINARY, ["config", "check", "--config", file], { encoding: "utf8" });
      assert.equal(checked.status, 0, checked.stderr);
    }
  } finally {
    rmSync(file);
  }
}

let browser;

/** Loads a page of the block's text from the server, and fails on any error that it reports. */
async function load(block, terminal) {
  browser ??= await launch();
  const page = await newPage(browser);
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("websocket", (socket) => {
    socket.on("framereceived", ({ payload }) => /"error":\{"code"|"stentor:error"/.test(String(payload)) && errors.push(String(payload)));
  });
  await page.route(/^https:.*\/socket\.io(\.esm)?(\.min)?\.js$/, (route) => route.fulfill({ path: path.join(STOCK_BUNDLE, path.basename(new URL(route.request().url()).pathname)) }));
  const address = `http://127.0.0.1:${terminal.port}/page-of-a-document`;
  await page.route(address, (route) => route.fulfill({ contentType: "text/html", body: terminal.local(block.text) }));
  const connection = /socket\.io|\/client\//.test(block.text) ? page.waitForEvent("websocket", { timeout: 20_000 }) : undefined;
  await page.goto(address, { waitUntil: "load" });
  await connection;
  await page.waitForTimeout(300);
  await page.close();
  assert.deepEqual(errors, []);
}

after(() => browser?.close());

const isLive = (page, block) => RUN.includes(block.language) && !notRun(page, block);

for (const page of PAGES) {
  test(page, async (t) => {
    const { blocks } = parse(read(page));
    let terminal;
    if (blocks.some((block) => isLive(page, block))) terminal = await Terminal.open(blocks.some((block) => startsServer(block) && !notRun(page, block)));
    try {
      for (const block of blocks) {
        await t.test(`${page}:${block.line}: ${block.language || "no language"}`, async () => {
          const { language, words } = block;
          assert.ok([...RUN, ...UNCHECKED, "rust", "toml", "json"].includes(language), `the language "${language}" of the block is not known to this test`);
          const entry = notRun(page, block);
          if (entry) {
            if (language === "sh") checkUnrun(block.text);
            return;
          }
          for (const word of words) assert.ok(WORDS[language]?.includes(word), `"${word}" behind ${language} is not known to this test`);
          if (language === "sh") assert.ok(words.includes("service") || !/^\s*stentor serve(?!.*--help)/m.test(block.text), "`stentor serve` does not end: write `sh service`");
          if (language === "toml") checkToml(block);
          else if (language === "json") JSON.parse(block.text);
          else if (language === "html") {
            terminal.save(block);
            await load(block, terminal);
          } else if (RUN.includes(language)) await terminal.run(block);
        });
      }
    } finally {
      await terminal?.close();
    }
  });
}

test("every entry of the table of blocks that are not run has a block", () => {
  const unused = NOT_RUN.filter(({ page, first }) => !PAGES.includes(page) || !parse(read(page)).blocks.some((block) => firstLine(block) === first));
  assert.deepEqual(unused, []);
  for (const { first, reason } of NOT_RUN) assert.ok(reason, `${first} has no reason`);
});

test("settings and targets that documents name exist", () => {
  for (const page of markdownFiles()) {
    try {
      checkNames(read(page));
    } catch (error) {
      error.message = `${page}: ${error.message}`;
      throw error;
    }
  }
});

test("pages with Rust blocks are doc tests of the crate", () => {
  const sources = files().filter((file) => file.startsWith("src/") && file.endsWith(".rs"));
  const included = sources.flatMap((file) =>
    [...read(file).matchAll(/#\[doc = include_str!\("([^"]+)"\)\]/g)].map(([, target]) => path.normalize(path.join(path.dirname(file), target))),
  );
  const missing = PAGES.filter((page) => parse(read(page)).blocks.some(({ language }) => language === "rust") && !included.includes(page));
  assert.deepEqual(missing, []);
});

test("what a JavaScript block leaves out is added", () => {
  assert.deepEqual(implied('import { io } from "socket.io-client";\nconst socket = io(address);'), []);
  assert.equal(implied('await socket.emitWithAck("join", "lobby");').length, 1);
  assert.deepEqual(implied('server.on("connection", (socket) => socket.join("a"));'), []);
  const module = asModule({ prelude: "", text: 'import { io } from "/client/index.js";\nio();' });
  assert.match(module, /^\nimport \{ own as library1 \} from ".*watched\.mjs"; const \{ io \} = library1/);
});

test("unrun shell blocks are checked as far as they can be", () => {
  checkUnrun("make run # builds\nsudo cp deploy/nginx.conf /etc/nginx/conf.d/\nstentor serve --port 80 && make lint PORT=1");
  for (const wrong of ["make no-such-target", "cp deploy/none.conf /etc", "stentor serve --no-such-option", "if true", "cargo run --example none", "podman run -e STENTOR_NONE=1 stentor"]) {
    assert.throws(() => checkUnrun(wrong), wrong);
  }
});

test("blocks that fail are found", async (t) => {
  const failing = {
    "a request that is refused": ["sh", "curl http://127.0.0.1:3000/api/v1/rooms"],
    "a variable that is not set": ["sh", "echo $NOT_SET"],
    "a program that changes the machine": ["sh", "pip install socketio"],
    "an event that is answered by an error": ["js", 'socket.emit("no such event", () => {});'],
    "an event without ack that fails": ["js", 'socket.emit("publish");'],
    "a handler that throws": ["js", 'socket.on("connect", () => { throw new Error("planted"); });'],
    "an address without a server": ["js", 'import { io } from "socket.io-client"; io("http://127.0.0.1:1");'],
    "a handler in Python that raises": ["python", 'import socketio\nclient = socketio.Client()\n@client.event\ndef connect():\n    raise ValueError\nclient.connect("http://127.0.0.1:3000")\nclient.wait()'],
  };
  const terminal = await Terminal.open(false);
  try {
    for (const [name, [language, text]] of Object.entries(failing)) {
      await t.test(name, () => assert.rejects(terminal.run({ language, text, words: [], prelude: "" }), /ended with/));
    }
    await terminal.run({ language: "sh", text: "export A=1", words: [], prelude: "" });
    await terminal.run({ language: "sh", text: "[ $A = 1 ]", words: ["stopped"], prelude: "" });
    await terminal.run({ language: "js", text: 'await socket.emitWithAck("join", "lobby");', words: [], prelude: "" });
  } finally {
    await terminal.close();
  }
});
