/**
 * The terminals of a reader who follows a page: a temporary folder, a server, and the blocks, one
 * after the other.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { accepts, freePort } from "../ports.mjs";
import { ROOT } from "./markdown.mjs";
import { BINARY } from "./not-run.mjs";

const HERE = import.meta.dirname;
const CLIENTS = path.join(HERE, "../clients");
const PYTHON = path.join(CLIENTS, "python/.venv/bin");

const BLOCK_MS = 30_000;
const POLL_MS = 20;

/** Programs that change the machine, or fetch from elsewhere. A block that needs one is not run. */
const FORBIDDEN = "apt apt-get brew cargo docker git journalctl kill killall make npm npx pgrep pidof pip pip3 podman rustup sudo systemctl yarn";

/** Names that a JavaScript block may use without declaring them, and what declares them then. */
const IMPLIED = [
  ["io", /\bio\(/, 'import { io } from "socket.io-client";'],
  ["io", /\bio\.(use|on|of|to|emit)\(/, 'import { Server } from "socket.io"; const io = new Server();'],
  ["socket", /\bsocket\b[.,)]/, 'import { io as connect } from "socket.io-client"; const socket = connect("http://127.0.0.1:3000");'],
  ["publishDurable", /\bpublishDurable\(/, 'import { publishDurable } from "/client/durable.js";'],
  ["subscriber", /\bsubscriber\(/, 'import { subscriber } from "/client/durable.js";'],
];

function declares(source, name) {
  const forms = [`import [^;]*\\b${name}\\b[^;]* from`, `\\b(const|let|var) ${name}\\b`, `\\{[^}]*\\b${name}\\b[^}]*\\} =`, `[(,]\\s*${name}\\b[^()]*\\)\\s*(=>|\\{)`];
  return forms.some((form) => new RegExp(form).test(source));
}

const SERVE = /^(\s*(?:\S+=\S* )*)(stentor serve\b)/m;

export const startsServer = (block) => block.words.includes("service") && block.language === "sh" && SERVE.test(block.text);

/** Declarations that a JavaScript block leaves out. */
export function implied(source) {
  const code = source.replace(/(^|\s)\/\/.*$/gm, "");
  return IMPLIED.filter(([name, use]) => use.test(code) && !declares(code, name)).map(([, , text]) => text);
}

/** A JavaScript block as a module of Node. */
export function asModule(block) {
  const source = [...implied(`${block.prelude}\n${block.text}`), block.prelude, block.text].join("\n");
  const watched = path.join(HERE, "watched.mjs");
  let imported = 0;
  return source
    .replace(/^(\s*)import\s+(\{[^}]*\}|\w+)\s+from\s+"(socket\.io-client|\/client\/index\.js|stentor-client)"/gm, (_, indent, names, from) => {
      imported += 1;
      const bound = names.startsWith("{") ? names.replace(/\bas\b/g, ":") : `{ io: ${names} }`;
      const name = from === "socket.io-client" ? "stock" : "own";
      return `${indent}import { ${name} as library${imported} } from ${JSON.stringify(watched)}; const ${bound} = library${imported}`;
    })
    .replace(/"(?:\/client|stentor-client)\/durable(?:\.js)?"/g, JSON.stringify(path.join(ROOT, "static/client/durable.js")))
    .replace(/"\/client\//g, `"${path.join(ROOT, "static/client")}/`);
}

async function eventually(subject, condition, milliseconds = BLOCK_MS) {
  const deadline = Date.now() + milliseconds;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`no ${subject} within ${milliseconds} ms`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

export class Terminal {
  #processes = [];
  #server = null;
  #started = 0;

  /** @param {boolean} ownServer true if a block of the page starts the server */
  static async open(ownServer) {
    const terminal = new Terminal();
    terminal.folder = mkdtempSync(path.join(os.tmpdir(), "stentor-docs-"));
    terminal.home = path.join(terminal.folder, "home");
    terminal.port = await freePort();
    terminal.pagesPort = await freePort();
    const bin = path.join(terminal.folder, "bin");
    const state = path.join(terminal.folder, "state");
    for (const folder of [bin, terminal.home, state]) mkdirSync(folder);
    terminal.state = state;
    symlinkSync(BINARY, path.join(bin, "stentor"));
    for (const name of ["deploy", "examples", "static"]) symlinkSync(path.join(ROOT, name), path.join(terminal.home, name));
    symlinkSync(path.join(CLIENTS, "node_modules"), path.join(terminal.home, "node_modules"));
    const program = (name, text) => {
      writeFileSync(path.join(bin, name), `#!/bin/sh\n${text}\n`);
      chmodSync(path.join(bin, name), 0o755);
    };
    for (const name of FORBIDDEN.split(" ")) program(name, `echo "${name} is not run by tests of documents" >&2; exit 97`);
    program("pkill", `[ "$*" = "-9 stentor" ] && kill -9 -- "-$(cat ${state}/server)"`);
    // A refused request is a failure of its block.
    writeFileSync(path.join(state, ".curlrc"), "fail-with-body\nsilent\nshow-error\nmax-time = 20\n");
    terminal.cwd = terminal.home;
    terminal.env = {
      HOME: terminal.home,
      LANG: "C.UTF-8",
      PATH: `${bin}:${PYTHON}:${process.env.PATH}`,
      CURL_HOME: state,
      STENTOR_PORT: String(terminal.port),
      STENTOR_WORKERS: "1",
      STENTOR_DRAIN: "0s",
      STENTOR_PULL_WAIT_MAX: "1s",
      STENTOR_SUBSCRIBER_KEY: "subscriber-key-of-the-documents",
    };
    if (!ownServer) {
      terminal.env.STENTOR_API_KEY = "key-of-the-documents";
      await terminal.#serve({ language: "sh", words: ["service"], prelude: "", text: "stentor serve" });
    }
    return terminal;
  }

  /** A text with free ports in the place of the server's, and of that of a reader's own pages. */
  local(text) {
    return text.replace(/\b3000\b/g, String(this.port)).replace(/\b8000\b/g, String(this.pagesPort));
  }

  /** Starts a block, and returns its process and a function that reads its output. */
  #spawn(block) {
    this.#started += 1;
    const file = path.join(this.home, `block-${this.#started}.${{ sh: "sh", js: "mjs", python: "py" }[block.language]}`);
    const mode = block.words.includes("service") ? "service" : "once";
    let command;
    if (block.language === "sh") {
      // The server takes the place of the shell, so that its end is the end of the process.
      const text = mode === "service" ? block.text.replace(SERVE, "$1exec $2") : block.text;
      const keep = `trap 'env -0 > ${this.state}/env; pwd > ${this.state}/cwd' EXIT`;
      writeFileSync(file, this.local([mode === "once" ? keep : "", block.prelude, text, ""].join("\n")));
      command = ["bash", "-eu", file];
    } else if (block.language === "js") {
      writeFileSync(file, this.local(asModule(block)));
      command = [process.execPath, path.join(HERE, "run-js.mjs"), file, `http://127.0.0.1:${this.port}/`, mode];
    } else {
      writeFileSync(file, this.local(`${block.prelude}\n${block.text}`));
      command = [path.join(PYTHON, "python"), path.join(HERE, "run_py.py"), file, mode];
    }
    const log = path.join(this.state, `output-${this.#started}`);
    const output = openSync(log, "w");
    // With a key the server would demand signatures.
    const { STENTOR_SUBSCRIBER_KEY, ...ofServer } = this.env;
    const env = startsServer(block) ? ofServer : this.env;
    // A process group, so that what a block leaves behind is found.
    const child = spawn(command[0], command.slice(1), { cwd: this.cwd, env, detached: true, stdio: ["ignore", output, output] });
    child.said = () => readFileSync(log, "utf8").slice(-4_000);
    child.isService = mode === "service";
    child.ended = once(child, "exit").then(([code, signal]) => (child.end = { code, signal }));
    this.#processes.push(child);
    return child;
  }

  async #serve(block) {
    await this.#stop();
    const child = this.#spawn(block);
    this.#server = { child, block };
    writeFileSync(path.join(this.state, "server"), String(child.pid));
    await eventually("server", () => {
      if (child.end) throw new Error(`the server ended: ${child.said()}`);
      return accepts(this.port);
    });
  }

  async #stop() {
    if (!this.#server) return;
    const { child } = this.#server;
    if (!child.end) process.kill(-child.pid, "SIGTERM");
    await child.ended;
    this.#processes = this.#processes.filter((other) => other !== child);
    this.#server = null;
  }

  /** Stores the text under the name in the comment of its first line, as a reader would. */
  save(block) {
    const name = /^(?:\/\/|#|<!--)\s*([\w./-]+\.(?:mjs|js|py|html|toml))\b/.exec(block.text)?.[1];
    if (name) writeFileSync(path.join(this.home, path.basename(name)), this.local(block.text));
  }

  async run(block) {
    if (block.language !== "sh") this.save(block);
    if (startsServer(block)) return this.#serve(block);
    if (block.words.includes("service")) {
      const child = this.#spawn(block);
      if (block.language !== "sh") {
        await eventually("connection", () => {
          if (child.end) throw new Error(`it ended: ${child.said()}`);
          return /^settled$/m.test(child.said());
        });
      }
      return undefined;
    }
    const server = block.words.includes("stopped") ? this.#server?.block : undefined;
    if (server) await this.#stop();
    const child = this.#spawn(block);
    const timer = setTimeout(() => process.kill(-child.pid, "SIGKILL"), BLOCK_MS);
    await child.ended;
    clearTimeout(timer);
    if (child.end.code !== 0) throw new Error(`ended with ${JSON.stringify(child.end)}:\n${child.said()}`);
    if (block.language === "sh") this.#remember();
    if (server) await this.#serve(server);
    return child.said();
  }

  /** Variables and the working directory of a shell block hold for the next. */
  #remember() {
    const entries = readFileSync(path.join(this.state, "env"), "utf8").split("\0").filter(Boolean);
    this.env = Object.fromEntries(entries.map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]));
    const cwd = readFileSync(path.join(this.state, "cwd"), "utf8").trim();
    if (existsSync(cwd)) this.cwd = cwd;
  }

  /** Ends everything, and fails if a service has failed. */
  async close() {
    const dead = this.#processes.filter((child) => child.isService && child.end && child.end.code !== 0 && child.end.signal !== "SIGKILL").map((child) => child.said());
    for (const child of this.#processes) {
      try {
        process.kill(-child.pid, "SIGKILL");
      } catch {
        // The group has ended.
      }
    }
    await Promise.all(this.#processes.map((child) => child.ended));
    rmSync(this.folder, { recursive: true, force: true });
    if (dead.length > 0) throw new Error(`a service failed: ${dead.join("\n")}`);
  }
}
