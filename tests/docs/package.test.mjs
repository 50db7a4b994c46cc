/** The crate as `cargo package` packs it, and the texts that name its version. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import path from "node:path";
import { test } from "node:test";
import { files, read, ROOT } from "./markdown.mjs";

const packed = execFileSync("cargo", ["package", "--list", "--allow-dirty", "--offline"], { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim().split("\n");

test("the package has what its sources include, and licences", () => {
  const needed = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "deploy/stentor.service"];
  for (const file of files().filter((file) => file.startsWith("src/") && file.endsWith(".rs"))) {
    const included = read(file).matchAll(/include_(?:str|bytes)!\(\s*"([^"]+)"/g);
    needed.push(...[...included].map(([, target]) => path.normalize(path.join(path.dirname(file), target))));
  }
  needed.push(...files().filter((file) => file.startsWith("static/")));
  assert.deepEqual(needed.filter((file) => !packed.includes(file)), []);
});

test("the package has no workflows, pictures or JavaScript tests", () => {
  const folders = [".ci", ".github", "docs/pictures", "fuzz", "benches/peers", "tests/browser", "tests/clients", "tests/docs", "tests/torture"];
  assert.deepEqual(packed.filter((file) => folders.some((folder) => file.startsWith(`${folder}/`)) || file.includes("node_modules")), []);
});

test("the crate, the npm package and the toolchain agree on versions", () => {
  const [, version] = /^version = "(.*)"/m.exec(read("Cargo.toml"));
  const [, rust] = /^rust-version = "(.*)"/m.exec(read("Cargo.toml"));
  assert.equal(JSON.parse(read("static/client/package.json")).version, version);
  assert.match(read("deploy/Containerfile"), new RegExp(`rust:${rust}-`));
  assert.match(read(".github/workflows/test.yml"), new RegExp(`RUSTUP_TOOLCHAIN: ${rust}\\.`));
});
