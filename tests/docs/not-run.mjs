/** Blocks that a test cannot run, and what is checked of them. */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { read, ROOT } from "./markdown.mjs";

export const BINARY = path.resolve(import.meta.dirname, process.env.STENTOR_BIN ?? "../../target/debug/stentor");

/** Blocks that are not run, by page and first line, with the reason. */
export const NOT_RUN = [
  { page: "README.md", first: "make run                 # builds and serves the hub; open http://127.0.0.1:3000 in several tabs", reason: "builds for minutes, and runs the tests of which this is one" },
  { page: "README.md", first: "podman build -f deploy/Containerfile -t stentor .", reason: "needs podman, and images from a registry" },
  { page: "docs/introduction.md", first: "cargo install --path .", reason: "builds for minutes" },
  { page: "docs/deployment.md", first: "cargo build --release --locked --bin stentor", reason: "installs as root" },
  { page: "docs/deployment.md", first: "podman build -f deploy/Containerfile -t stentor .", reason: "needs podman, and images from a registry" },
  { page: "docs/deployment.md", first: "env $(cat /etc/stentor/stentor.env) stentor config check --config /etc/stentor/stentor.toml", reason: "needs the files of an installed unit" },
  { page: "docs/deployment.md", first: "cat > /etc/cron.hourly/stentor-backup <<'EOF'", reason: "installs as root" },
  { page: "docs/server-api.md", first: "cargo new chat", reason: "needs a registry, and builds for minutes" },
];

const options = (command) => new Set(execFileSync(command[0], [...command.slice(1), "--help"], { encoding: "utf8" }).match(/--[a-z][\w-]*|(?<=^\s+)-\w\b/gm));

/** Commands of a shell block as lists of words, without comments and assignments. */
function commands(text) {
  const lines = text.replace(/\\\n/g, " ").replace(/(^|\s)#.*$/gm, "").split(/\n|&&|\|\|?|;/);
  return lines.map((line) => line.trim().replace(/^(?:sudo\s+)?(?:\w+=\S*\s+)*/, "").split(/\s+/).filter(Boolean)).filter((words) => words.length > 0);
}

let settings;

/**
 * Fails if a text names a variable that is no setting of the server and none of the benches, or, in
 * code, a target of make that does not exist.
 */
export function checkNames(text) {
  settings ??= new Set(execFileSync(BINARY, ["config", "default"], { encoding: "utf8" }).match(/(?<=^(?:# )?)[a-z_]+(?= =)/gm));
  for (const [variable, name] of text.matchAll(/\bSTENTOR_((?!BENCH_)[A-Z_]+)\b/g)) {
    assert.ok(name === "CONFIG" || settings.has(name.toLowerCase()), `${variable} is no setting`);
  }
  const targets = new Set([...read("Makefile").matchAll(/^([a-z][\w-]*):/gm)].map(([, target]) => target));
  for (const [, target] of text.matchAll(/(?:^|`|&& )make ([a-z][\w-]*)/gm)) assert.ok(targets.has(target), `make ${target}: no such target`);
}

/** The facts in a shell block that can be checked without running it. */
export function checkUnrun(text) {
  const checked = spawnSync("bash", ["-n"], { input: text, encoding: "utf8" });
  assert.equal(checked.status, 0, checked.stderr);
  const manifest = read("Cargo.toml");
  checkNames(text);
  for (const [program, ...words] of commands(text)) {
    if (path.basename(program) === "stentor") {
      const subcommand = words.slice(0, words[0] === "serve" ? 1 : 2).filter((word) => !word.startsWith("-"));
      const known = options([BINARY, ...subcommand]);
      for (const word of words.filter((each) => each.startsWith("--"))) {
        assert.ok(known.has(word.split("=")[0]), `stentor ${subcommand.join(" ")} has no option ${word}`);
      }
    }
    const example = words[words.indexOf("--example") + 1];
    if (words.includes("--example")) assert.ok(existsSync(path.join(ROOT, `examples/${example}.rs`)) || manifest.includes(`name = "${example}"`), `no example ${example}`);
    const features = words[words.indexOf("--features") + 1];
    if (words.includes("--features") && words.includes("stentor")) assert.match(manifest, new RegExp(`^${features} = \\[`, "m"));
    for (const word of words) {
      const file = /^\.?\/?((?:deploy|examples|static|src|docs|tests|benches|fuzz)\/[\w./-]+)$/.exec(word)?.[1];
      if (file) assert.ok(existsSync(path.join(ROOT, file)), `${file} does not exist`);
    }
  }
}
