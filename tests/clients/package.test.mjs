/**
 * `static/client` as a package: contents of `npm pack`, size, and agreement of its types with its
 * JavaScript.
 */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const HERE = import.meta.dirname;
const STATIC = path.resolve(HERE, "../../static");
const TSC = path.join(HERE, "node_modules/.bin/tsc");

/** Maximum size. The stock client has about 14 KB, measured the same way. */
const SIZE_MAX = 10 * 1024;

/** Maximum size of `durable.js` as the server sends it: gzipped, and not minified. */
const DURABLE_SIZE_MAX = 2 * 1024;

const run = promisify(execFile);

describe("the package of the client library", () => {
  let folder;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "stentor-package-"));
    await run("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: path.join(STATIC, "client") });
    const [tarball] = await readdir(folder);
    const installed = path.join(folder, "node_modules/stentor-client");
    await mkdir(installed, { recursive: true });
    await run("tar", ["-xzf", path.join(folder, tarball), "--strip-components", "1", "-C", installed]);
    await symlink(path.join(HERE, "node_modules/socket.io-client"), path.join(folder, "node_modules/socket.io-client"));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  /** Runs `tsc` in the folder where the package is installed, with the common options and these. */
  const check = async (files, options = {}) => {
    const { compilerOptions } = JSON.parse(await readFile(path.join(HERE, "types/tsconfig.json"), "utf8"));
    const config = path.join(folder, "tsconfig.json");
    await writeFile(config, JSON.stringify({ compilerOptions: { ...compilerOptions, noEmit: true, ...options }, files }));
    await run(TSC, ["-p", config], { cwd: folder }).catch(({ stdout }) => assert.fail(stdout));
  };

  test("has modules, types and package files only", async () => {
    const installed = path.join(folder, "node_modules/stentor-client");
    const files = (await readdir(installed, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
    const names = files.map(({ parentPath, name }) => path.relative(installed, path.join(parentPath, name))).sort();
    const modules = (await readdir(path.join(STATIC, "client"), { recursive: true })).filter((name) => name.endsWith(".js"));
    assert.deepEqual(names, [...modules, "README.md", "durable.d.ts", "index.d.ts", "package.json"].sort());
  });

  test("can be imported by its name", async () => {
    const script = `import connect, { io, Manager, Socket, protocol } from "stentor-client";
      import { publishDurable, subscriber } from "stentor-client/durable";
      import { Decoder } from "stentor-client/parser";
      console.log([io === connect, protocol, ...[Manager, Socket, Decoder, publishDurable, subscriber].map((value) => typeof value)].join());`;
    await writeFile(path.join(folder, "try.mjs"), script);
    const { stdout } = await run(process.execPath, ["try.mjs"], { cwd: folder });
    assert.equal(stdout.trim(), "true,5,function,function,function,function,function");
  });

  for (const sample of ["sample.ts", "durable.ts"]) {
    test(`compiles in the TypeScript program ${sample}`, async () => {
      await cp(path.join(HERE, "types", sample), path.join(folder, sample));
      await check([sample]);
    });
  }

  // Its functions have the declared types by JSDoc, so its declarations stay beside it.
  test("durable.js has the types that it declares", async () => {
    await check([path.join(STATIC, "client/durable.js")]);
  });

  test("exports in JavaScript what its types declare", async () => {
    const sources = path.join(folder, "sources");
    await cp(path.join(STATIC, "client"), sources, { recursive: true, filter: (name) => !name.endsWith(".d.ts") });
    await check(["sources/index.js"], { noEmit: false, declaration: true, emitDeclarationOnly: true, outDir: "emitted", rootDir: "sources" });
    await cp(path.join(HERE, "types/javascript.ts"), path.join(folder, "javascript.ts"));
    await check(["javascript.ts"]);
  });

  test("is used by the demo page according to its types", async () => {
    await check([path.join(STATIC, "demo/main.js")]);
  });

  test(`has at most ${SIZE_MAX} bytes, minified and gzipped`, async (context) => {
    const options = { bundle: true, minify: true, format: "esm", write: false };
    const { outputFiles } = await build({ ...options, entryPoints: [path.join(STATIC, "client/index.js")] });
    const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
    context.diagnostic(`${bytes} bytes`);
    assert.ok(bytes <= SIZE_MAX, `${bytes} bytes`);
  });

  test(`durable.js has at most ${DURABLE_SIZE_MAX} bytes, gzipped, and no imports`, async (context) => {
    const source = await readFile(path.join(STATIC, "client/durable.js"), "utf8");
    const bytes = gzipSync(source, { level: 9 }).length;
    context.diagnostic(`${bytes} bytes`);
    assert.ok(bytes <= DURABLE_SIZE_MAX, `${bytes} bytes`);
    assert.doesNotMatch(source, /^import |import\((?!"[^"]*"\)\.)/m);
  });
});
