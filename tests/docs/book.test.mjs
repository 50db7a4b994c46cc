/** The documents as a book of mdBook. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { links, markdownFiles, read, ROOT } from "./markdown.mjs";

let folder;
let built;
before(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), "stentor-book-"));
  built = spawnSync("mdbook", ["build", "--dest-dir", folder], { cwd: ROOT, encoding: "utf8" });
});
after(() => rmSync(folder, { recursive: true, force: true }));

test("every page of docs/ is listed in SUMMARY.md", () => {
  const listed = links(read("docs/SUMMARY.md")).map(({ target }) => path.join("docs", target));
  const pages = markdownFiles().filter((file) => file.startsWith("docs/") && file !== "docs/SUMMARY.md");
  assert.deepEqual([...new Set(listed)].sort(), pages.sort());
});

test("the book builds without warnings", () => {
  assert.equal(built.error, undefined, "mdbook is missing: `make mdbook` installs it");
  assert.equal(built.status, 0, built.stderr);
  assert.doesNotMatch(`${built.stdout}${built.stderr}`, /\b(WARN|ERROR)\b/);
});

test("links between pages of the book resolve", () => {
  const pages = readdirSync(folder, { recursive: true }).filter((file) => file.endsWith(".html") && !/^(print|toc|404)\.html$/.test(file));
  const text = new Map(pages.map((page) => [page, readFileSync(path.join(folder, page), "utf8")]));
  const broken = [];
  let outside = 0;
  for (const [page, html] of text) {
    for (const [, target, anchor] of html.matchAll(/<a\b[^>]*\bhref="([^"#]*)(?:#([^"]*))?"/g)) {
      if (/^[a-z]+:/.test(target)) {
        outside += Number(target.includes("/blob/main/"));
        continue;
      }
      const file = target === "" ? page : path.normalize(path.join(path.dirname(page), decodeURI(target)));
      const isThere = text.has(file) ? !anchor || text.get(file).includes(`id="${decodeURI(anchor)}"`) : existsSync(path.join(folder, file)) && !anchor;
      if (!isThere) broken.push(`${page}: ${target}#${anchor ?? ""}`);
    }
  }
  assert.deepEqual(broken, []);
  assert.ok(outside > 0, "no link to the repository was rewritten");
});
