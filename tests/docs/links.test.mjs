/** Links of all Markdown files, and names of documents in other files. */

import assert from "node:assert/strict";
import { existsSync, statSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { anchors, files, links, markdownFiles, read, ROOT } from "./markdown.mjs";

/** Files whose text may name a document, by their endings. */
const TEXTS = /(\.(rs|toml|mjs|js|ts|html|py|sh|service|yml|md)|file)$/;

const isOutside = (target) => /^[a-z][a-z+.-]*:/i.test(target);

/** The reason why a link of a file does not resolve, or `null`. */
function problem(file, target) {
  const [relative, anchor] = target.split("#");
  const to = relative === "" ? file : path.normalize(path.join(path.dirname(file), decodeURI(relative)));
  if (to.startsWith("..")) return "is outside of the repository";
  if (!existsSync(path.join(ROOT, to))) return "does not exist";
  if (anchor === undefined) return null;
  if (!to.endsWith(".md")) return /^L\d+(-L\d+)?$/.test(anchor) ? null : "has an anchor in a file that is not Markdown";
  return anchors(read(to)).has(decodeURI(anchor)) ? null : "has no such heading";
}

test("relative links of Markdown files resolve", (t) => {
  const broken = [];
  const outside = new Set();
  let checked = 0;
  for (const file of markdownFiles()) {
    for (const { line, target } of links(read(file))) {
      if (isOutside(target)) {
        outside.add(target);
        continue;
      }
      checked += 1;
      const reason = problem(file, target);
      if (reason) broken.push(`${file}:${line}: ${target} ${reason}`);
    }
  }
  t.diagnostic(`${checked} links checked; not fetched: ${[...outside].sort().join(" ") || "none"}`);
  assert.ok(checked > 0, "no link was found");
  assert.deepEqual(broken, []);
});

test("documents that other files name exist", () => {
  const broken = [];
  const pattern = /\b((?:docs|tests|deploy|examples|benches|fuzz|static)\/[\w./-]+\.md|(?:README|ARCHITECTURE|CONTRIBUTING|CHANGELOG|SECURITY)\.md)(?:#([\w-]+))?/g;
  for (const file of files()) {
    if (!TEXTS.test(file) || file.startsWith("tests/docs/") || !existsSync(path.join(ROOT, file)) || statSync(path.join(ROOT, file)).size > 1_000_000) continue;
    for (const [name, document, anchor] of read(file).matchAll(pattern)) {
      // A name may be relative to its file, as in `include_str!`.
      const places = [document, path.join(path.dirname(file), document)];
      const place = places.find((candidate) => existsSync(path.join(ROOT, candidate)));
      if (!place || (anchor && !anchors(read(place)).has(anchor))) broken.push(`${file}: ${name}`);
    }
  }
  assert.deepEqual(broken, []);
});

test("slugs of headings follow GitHub's rule", () => {
  const text = "# A `b_c` & D\n## Coming from …\n## Coming from …\n```sh\n# no heading\n```\n### [Link](x.md) here\n<a id=\"own\"></a>";
  assert.deepEqual([...anchors(text)], ["a-b_c--d", "coming-from-", "coming-from--1", "link-here", "own"]);
  assert.equal(problem("README.md", "LICENSE-MIT"), null);
  assert.equal(problem("README.md", "LICENSE-NONE"), "does not exist");
  assert.equal(problem("docs/budgets.md", "errors.md#no-such-heading"), "has no such heading");
  assert.deepEqual(links("[a](b.md) `[c](d.md)` ![e](f.gif \"g\")"), [
    { line: 1, target: "b.md" },
    { line: 1, target: "f.gif" },
  ]);
});
